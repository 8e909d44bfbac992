"""Every command of the README works as it stands there, from a bare clone on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line.partition(" #")[0].strip() for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
QUOTED = re.findall(r"`((?:rlkit|python -m|make) [^`\n]*)`", TEXT)
SERVING = ("rlkit serve", "rlkit web")
SHORT = " --steps 600 --learning-starts 200"
"""Makes a training that stands in a sentence, with its many seeds, quick: its words are what is tested there."""


PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def serve(command: str, folder: Path) -> None:
    """A command that serves until Ctrl-C."""
    environment = {**os.environ, "PATH": PATH}
    with subprocess.Popen(
        shlex.split(command), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        try:
            assert "http://127.0.0.1:" in server.stdout.readline()
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={**os.environ, "PATH": PATH},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


def test_every_command_in_the_blocks_works_in_their_order(tmp_path: Path) -> None:
    assert COMMANDS[:2] == ["make train", "make test"]  # their own tests: below, and this very run
    (tmp_path / "README.md").write_text(TEXT)
    for command in COMMANDS[2:]:
        (serve if command.startswith(SERVING) else run)(command, tmp_path)
    assert (tmp_path / "phone" / "export.json").exists()
    assert (tmp_path / "cartpole.gif").stat().st_size > 10_000
    assert (tmp_path / "learning-curve.png").stat().st_size > 5_000
    assert (tmp_path / "curves.png").exists()


def test_the_python_block_works(tmp_path: Path) -> None:
    (block,) = (block for kind, block in BLOCKS if kind == "python")
    (tmp_path / "snippet.py").write_text(block)
    learned, solved = run("python snippet.py", tmp_path).stdout.splitlines()
    assert float(learned) >= 475
    value, bound = map(float, solved.split())
    assert abs(value - 0.542025932) <= bound <= 1e-6  # the optimum as other libraries have it


@pytest.mark.parametrize("command", sorted(set(QUOTED)))
def test_commands_in_sentences_work(command: str, tmp_path: Path) -> None:
    command = command.replace("--env ENV", "--env CartPole-v1")
    if command.startswith("rlkit train"):
        run(re.sub(r"--seeds 0-\d+", "--seeds 0-1", command) + SHORT, tmp_path)
    elif command.startswith("python -m"):
        run(command + " --help", tmp_path)
    elif command.startswith("rlkit solve"):
        (tmp_path / "FILE").write_text("1\n1 2\n1 2 1\n")
        run(command, tmp_path)
    else:
        run("rlkit train dqn --env CartPole-v1 --seeds 0-1 --eval-interval 300" + SHORT, tmp_path)
        run(command, tmp_path)


def test_pictures_are_there() -> None:
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT):
        assert (ROOT / picture).stat().st_size > 5_000


def test_links_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{name}: {target}"


def test_make_train_works_in_a_bare_clone(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), "clone"], cwd=tmp_path, check=True, timeout=60)
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    result = subprocess.run(
        ["make", "train"],
        cwd=tmp_path / "clone",
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"mean return \d+\.\d+ over 100 episodes", result.stdout)
    (video,) = (tmp_path / "clone").rglob("*.mp4")
    assert video.stat().st_size > 10_000
