"""A run that is killed at any moment, again and again, ends bit for bit where the uninterrupted one does."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlkit.cli import main
from rlkit.errors import UserError
from rlkit.runs.segments import unpack

FRESH, LOADED = multiprocessing.get_context("spawn"), multiprocessing.get_context("forkserver")
"""How a process begins: with nothing, or with all modules loaded, in half of the time and no less killed."""

LOADED.set_forkserver_preload(["rlkit.cli.train", "rlkit.api.training"])  # imports start no threads

KILLS = {"one env": 10, "native vector env": 10, "frames, by priority": 3}
"""Of each kind of run, 5 of the others."""

COMMON = [
    "--hidden", "16", "--steps", "20000", "--learning-starts", "200", "--buffer-size", "3000", "--batch-size", "32",
    "--n-step", "2", "--dueling", "--epsilon-duration", "4000", "--log-interval", "100", "--eval-interval", "1500",
    "--eval-episodes", "4", "--checkpoint-interval", "400", "--preset", "none",
]  # fmt: skip
TABLE = ["--env", "FrozenLake-v1", "--epsilon-unit", "episode", "--epsilon-duration", "3000", "--eval-episodes", "4"]
KINDS = {
    "one env": [
        "dqn", *COMMON, "--loop", "host", "--env", "CartPole-v1", "--train-interval", "8", "--epsilon-unit", "step",
    ],
    "native vector env": [
        "dqn", *COMMON, "--env", "CartPole-v1", "--loop", "host", "--num-envs", "4", "--train-interval", "8",
        "--gradient-steps", "2", "--target", "polyak", "--epsilon-unit", "episode", "--epsilon-duration", "200",
    ],
    "recurrent": [
        "dqn", *COMMON, "--env", "rlkit/MaskedCartPole-v0", "--network", "lstm", "--lstm-units", "8", "--n-step", "1",
        "--num-envs", "4", "--train-interval", "16", "--sequence-length", "5", "--burn-in", "3", "--steps", "12000",
    ],
    "frames, by priority": [
        "rainbow", "--preset", "none", "--env", "ALE/Pong-v5", "--preprocessing", "mnih2015", "--screen-size", "36",
        "--max-num-frames-per-episode", "400", "--network", "nature-cnn", "--hidden", "16", "--atoms", "5", "--no-jit",
        "--num-envs", "2", "--steps", "4000", "--learning-starts", "200", "--buffer-size", "600", "--batch-size", "8",
        "--train-interval", "8", "--clip-reward", "--overlap", "--log-interval", "100", "--eval-interval", "1500",
        "--eval-episodes", "2", "--checkpoint-interval", "300",
    ],
    "compiled": [
        "dqn", *COMMON, "--env", "CartPole-v1", "--loop", "compiled", "--num-envs", "4", "--train-interval", "8",
        "--steps", "120000", "--checkpoint-interval", "2000", "--epsilon-unit", "episode", "--epsilon-duration", "200",
    ],
    "table, in the env": [
        "sarsa", *TABLE, "--simulate", "env", "--trace-decay", "0.8", "--steps", "50000", "--log-interval", "1000",
        "--eval-interval", "13000", "--checkpoint-interval", "3000",
    ],
    "table, in the model": [
        "sarsa", *TABLE, "--simulate", "model", "--n-step", "3", "--steps", "40000000", "--log-interval", "400000",
        "--eval-interval", "13000000", "--checkpoint-interval", "3000000",
    ],
    "table, in the model, fast": [
        "q-learning", *TABLE, "--simulate", "model", "--step-size-schedule", "visits", "--steps", "300000000",
        "--log-interval", "3000000", "--eval-interval", "90000000", "--checkpoint-interval", "20000000",
    ],
}  # fmt: skip


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "rlkit", *map(str, words)]


def rlkit(words: list[str], said: Path) -> None:
    """A command in a process of its own, which writes what it says into a file."""
    for path, descriptor in ((os.devnull, 1), (said, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    main(words)


def start(*words: object, said: Path, fresh: bool = False) -> BaseProcess:
    """A command in the background; `fresh`: in a process that has loaded nothing yet."""
    process = (FRESH if fresh else LOADED).Process(target=rlkit, args=([*map(str, words)], said))
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """A command's exit code; it may take ten minutes."""
    process.join(timeout=600)
    return process.exitcode


def only_run(folder: Path) -> Path:
    (run,) = (f.parent for f in folder.glob("*/*/[!.]*/run.json"))
    return run


def wait_for_progress(running: Callable[[], bool], folder: Path) -> None:
    """Until the run has written a row since, or has ended."""

    def rows() -> int:
        return sum(f.stat().st_size for f in folder.glob("*/*/*/timing.csv"))

    before = rows()
    while running() and rows() <= before:
        time.sleep(0.01)


def final(run: Path) -> dict[str, object]:
    """Everything that must not depend on the kills: files to the byte, weights and replay to the bit."""
    import tensorflow as tf

    found: dict[str, object] = {
        name: (run / name).read_bytes() for name in ("metrics.csv", "evaluations.csv", "config.toml")
    }
    for name in ("checkpoints", "checkpoints/best"):
        reader = tf.train.load_checkpoint(str(run / name))  # the latest there
        for variable, shape in reader.get_variable_to_shape_map().items():
            if shape:
                found[f"{name}:{variable}"] = reader.get_tensor(variable).tobytes()
            elif variable.startswith("state/"):
                state = unpack(io.BytesIO(reader.get_tensor(variable)))
                mine = {
                    key: array
                    for key, array in state.items()
                    if key.startswith(("tables.", "memory.", "learner.", "replay."))
                }
                found |= {f"{name}:{variable}:{key}": array.tobytes() for key, array in mine.items()}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, object]]:
    """How the uninterrupted run of a kind ends."""

    @functools.cache
    def run(kind: str) -> dict[str, object]:
        folder = tmp_path_factory.mktemp("whole")
        process = start("train", *KINDS[kind], "--run-dir", folder / "runs", said=folder / "said")
        assert ended(process) == 0, (folder / "said").read_text()
        return final(only_run(folder / "runs"))

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_killed_runs_end_where_the_uninterrupted_one_does(
    kind: str, whole: Callable[[str], dict[str, object]], tmp_path: Path
) -> None:
    expected = whole(kind)
    moments = np.random.default_rng(len(kind))
    kills, folder, said = 0, tmp_path / "killed", tmp_path / "said"
    process = start("train", *KINDS[kind], "--run-dir", folder, said=said)
    while process.is_alive() and not any(folder.glob("*/*/[!.]*/checkpoints/ckpt-*.index")):  # nothing to resume
        time.sleep(0.01)
    while kills < KILLS.get(kind, 5):
        if kills % 5 == 4:  # somewhere in loading and restoring
            time.sleep(moments.uniform(0.5, 5.0))
        else:
            wait_for_progress(process.is_alive, folder)
            time.sleep(moments.uniform(0.0, 0.5))
        process.kill()
        assert ended(process) == -signal.SIGKILL, said.read_text()
        kills += 1
        process = start("train", "--resume", only_run(folder), said=said, fresh=kills % 5 == 4)
    assert ended(process) == 0, said.read_text()
    found = final(only_run(folder))
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    assert len(expected) > (20 if KINDS[kind][0] in ("dqn", "rainbow") else 12)
    assert json.loads((only_run(folder) / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("kind", ["one env", "compiled"])
def test_ctrl_c_saves_and_says_how_to_resume_and_the_resumed_run_is_the_same(
    kind: str, whole: Callable[[str], dict[str, object]], tmp_path: Path
) -> None:
    folder, said = tmp_path / "stopped", tmp_path / "said"
    with said.open("wb") as stderr:
        words = command("train", *KINDS[kind], "--run-dir", folder)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=stderr)
    wait_for_progress(lambda: process.poll() is None, folder)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    run = only_run(folder)
    assert f"interrupted; go on with: rlkit train --resume {run}" in said.read_text()
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "interrupted"
    assert (run / f"checkpoints/ckpt-{info['step']}.index").exists()
    again = subprocess.run(
        command("train", "--resume", run, "--json"), capture_output=True, text=True, timeout=600, check=False
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["status"] == "finished"
    expected, found = whole(kind), final(run)
    assert [name for name in expected if expected[name] != found.get(name)] == []


def runs_in(folder: Path) -> list[Path]:
    return [file.parent for file in folder.rglob("run.json")]


@pytest.mark.parametrize("kind", ["one env", "fit"])
def test_ctrl_c_before_the_first_checkpoint_leaves_nothing(kind: str, tmp_path: Path) -> None:
    words = command("fit", "mlp", "--data", "digits") if kind == "fit" else command("train", *KINDS[kind])
    folder = tmp_path / "runs"
    with subprocess.Popen([*words, "--run-dir", folder], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not any(folder.rglob("*.part")):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    if not folder.exists():
        assert said.endswith(("interrupted\n", "interrupted before the first checkpoint: nothing is kept\n"))
    for run in runs_in(folder):  # it was that fast
        assert any(run.glob("checkpoints/ckpt-*.index"))


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is root's to mount")
def test_a_full_disk_is_told_with_the_way_to_go_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        words = "q-learning --env FrozenLake-v1 --simulate env --steps 3000 --log-interval 1 --checkpoint-interval 500"
        said = tmp_path / "said"
        process = start("train", *words.split(), "--run-dir", disk, said=said)
        wait_for_progress(process.is_alive, disk)
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:  # another's
            while True:
                filler.write(bytes(4096))
        assert ended(process) == 2
        (run,) = runs_in(disk)
        last = said.read_text().splitlines()[-1]
        room = r"No space left on device: .*B needed, .*B free"
        told = re.fullmatch(
            rf"rlkit: .*{room}.*; the last good checkpoint is of step (\d+); make room and go on with: rlkit train "
            rf"--resume {run}",
            last,
        )
        assert told, said.read_text()
        assert (run / "checkpoints" / f"digests-{told[1]}.json").stat().st_size > 0
        (disk / "filler").unlink()
        again = subprocess.run(
            command("train", "--resume", run), capture_output=True, text=True, check=False, timeout=300
        )
        assert again.returncode == 0, again.stderr
        assert len((run / "metrics.csv").read_text().splitlines()) == 3001
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_too_small_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlkit.api import fitting, training

    monkeypatch.setattr("rlkit.runs.disk.shutil.disk_usage", lambda path: SimpleNamespace(free=1_000))
    told = r"^No space left on device: checkpoints take up to .*B, and 1 kB are free in .*: make room, take another"
    with pytest.raises(UserError, match=told):
        training.train("dqn", "CartPole-v1", preset="none", run_dir=tmp_path / "runs", loop="host")
    with pytest.raises(UserError, match=told):
        fitting.fit("mlp", "digits", threads=1, run_dir=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_goes_on_when_given_more_steps(tmp_path: Path) -> None:
    words, said = ["train", *KINDS["one env"]], tmp_path / "said"
    for name, steps in (("long", 3000), ("short", 1000)):
        assert ended(start(*words, "--steps", steps, "--run-dir", tmp_path / name, said=said)) == 0, said.read_text()
    short = only_run(tmp_path / "short")
    assert ended(start("train", "--resume", short, said=said)) == 2
    assert "is finished at step 1000: --steps is the total, give more than 1000 to go on" in said.read_text()
    assert ended(start("train", "--resume", short, "--steps", 3000, said=said)) == 0, said.read_text()
    long = only_run(tmp_path / "long")
    assert (short / "metrics.csv").read_bytes() == (long / "metrics.csv").read_bytes()
    rows = [line for line in (short / "evaluations.csv").read_text().splitlines() if not line.startswith("1000,")]
    assert rows == (long / "evaluations.csv").read_text().splitlines(), "but where the first part ended"
