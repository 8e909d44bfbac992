"""Strangers' files: mutated runs, models and data given to the commands that read them.

    python -m rlkit.experiments.benchmarks.strangers [--count 1000] [--seed 0] [--kinds mdp,csv] [--folder FOLDER]

Case i of a seed is always the same: a copy of good files, of which one is changed, and one command on them in a child
process with a time limit. It must end by itself, in one sentence (exit code 2) where the file is wrong, and without a
traceback; and files beside the case, to which links in it lead, must stay as they were. Printed are the number of
cases that ended each way, and each that did not end well. The exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from rlkit.experiments.benchmarks._measuring import print_machine

LIMIT = 240
"""Seconds that a command may take; on an idle machine those that end take less than ten."""

MEMORY = 8 * 2**30
"""Bytes of address space that it may take beyond its parent's."""

TRACEBACK = 77
"""Exit code of a child that an exception ended."""

Change = Callable[[random.Random, bytes], bytes]


class Kind(NamedTuple):
    """Files of strangers, and what is done with them; X is the case's own copy of them."""

    files: tuple[str, ...]
    """Patterns of those that are changed."""
    commands: tuple[str, ...]
    needs_tensorflow: bool = False


RUN = ("list runs --run-dir X", "list --run-dir X --json", "compare X", "compare X --all --json", "plot X --to X/p.png")
IMAGES = "fit linear --data images --data-dir X/photos --steps 1 --eval-interval 0 --no-jit --run-dir X/runs"
CSV = "fit linear --data csv --data-file X/t.csv --steps 1 --eval-interval 0 --no-jit --run-dir X/runs"
TEXT = "fit lstm --data text --data-file X/t.txt --length 8 --steps 1 --eval-interval 0 --no-jit --run-dir X/runs"

KINDS: dict[str, Kind] = {
    "run": Kind(("run/run.json", "run/config.toml", "run/*.csv", "run/evaluation.json"), RUN),
    "mdp": Kind(("mdp.npz",), ("solve auto --mdp X/mdp.npz", "solve value-iteration --gamma 0.9 --mdp X/mdp.npz")),
    "triangle": Kind(("triangle.txt",), ("solve backward-induction --triangle X/triangle.txt",)),
    "config": Kind(("c.toml",), ("train q-learning --config X/c.toml --steps 20 --run-dir X/runs",), True),
    "tflite": Kind(("model.tflite",), ("play X/model.tflite --env CartPole-v1 --episodes 1",)),
    "agent": Kind(
        ("run/*.json", "run/config.toml", "run/checkpoints/*", "run/checkpoints/best/*"),
        ("evaluate X --episodes 1", "train --resume X/run --steps 460"),
        True,
    ),
    "model": Kind(
        ("fitted/*.json", "fitted/config.toml", "fitted/checkpoints/*", "fitted/checkpoints/best/*"),
        ("evaluate X/fitted", "fit --resume X/fitted --steps 6"),
        True,
    ),
    "served": Kind(("savedmodel/saved_model.pb", "savedmodel/variables/*"), ("serve X/savedmodel",), True),
    "arrays": Kind(("a.npz",), ("tfrecord write X/a.npz X/out.tfrecord",), True),
    "records": Kind(
        ("r*.tfrecord", "r*.json"), ("tfrecord read X/r.tfrecord --to X/out", "tfrecord read X/r2.tfrecord"), True
    ),
    "images": Kind(("photos/*/*", "labels.csv"), (IMAGES, IMAGES + " --labels X/labels.csv"), True),
    "csv": Kind(("t.csv",), (CSV,), True),
    "text": Kind(("t.txt",), (TEXT,), True),
}

FAST, OFTEN = ("run", "mdp", "triangle", "tflite"), 6
"""Kinds that need no TensorFlow, and how many times as often as each of the others they come by default."""

WORDS = (
    b"nan", b"1e400", b"-1", b"9" * 5000, b"[" * 100_000, b"\x00", b"\xff\xfe", b"../../victim", b"/dev/zero", b"{}",
    b"\x1b[31m", b"[]", b"null", b"true", b'"', b"\n", b",", b"=", b"\x7f\xff\xff\xff", b"\xff" * 8, b"0", b"9" * 11,
)  # fmt: skip
"""Pieces of text and bytes that readers stumble over."""

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**63, 10**30, float("inf"), float("nan"), "", "x", "\x1b[31m", "\ud800", "9" * 5000, [],
    {}, [1], [[]], ["x"], {"a": 1}, "../../victim", "/dev/zero", "human", "victim:CartPole-v1", [10**6, 10**6],
    [-1, 2**31],
)  # fmt: skip
"""Values in place of others."""


def flip(rng: random.Random, content: bytes) -> bytes:
    """A few bytes changed, most often near the beginning, where sizes are."""
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        at = rng.randrange(min(len(changed), rng.choice([64, 512, len(changed)])))
        changed[at] = rng.choice([changed[at] ^ (1 << rng.randrange(8)), 0, 255, rng.randrange(256)])
    return bytes(changed)


def cut(rng: random.Random, content: bytes) -> bytes:
    """The beginning, the end, or all but a piece."""
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice([content[:first], content[last:], content[:first] + content[last:]])


def insert(rng: random.Random, content: bytes) -> bytes:
    """A piece put in, or over what was there."""
    at, word = rng.randrange(len(content) + 1), rng.choice(WORDS)
    return content[:at] + word + content[at + rng.choice([0, len(word)]) :]


def repeat(rng: random.Random, content: bytes) -> bytes:
    """A piece many times."""
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    times = min(rng.choice([2, 1000]), 2**24 // max(last - first, 1))
    return content[:last] + content[first:last] * times + content[last:]


def revalue(rng: random.Random, content: bytes) -> bytes:
    """A value of JSON or TOML left out, or another in its place; other content as `flip`."""
    for load, dump in ((json.loads, json.dumps), (tomllib.loads, tomli_w.dumps)):
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            value = load(content.decode())
            place: Any = value
            while True:
                key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
                if not (isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7):
                    break
                place = place[key]
            if rng.random() < 0.15:
                del place[key]
            else:
                place[key] = rng.choice(VALUES)
            return dump(value).encode()
    return flip(rng, content)


CHANGES: tuple[Change, ...] = (flip, cut, insert, repeat, revalue, revalue)


def replace(rng: random.Random, path: Path, victims: Path) -> None:
    """Something else than a file in its place; or a link where a part of it, or a run's lock, would be."""
    kind = rng.choice(["link", "folder link", "pipe", "device", "folder", "hole", "lock", "part", "parent"])
    if kind in ("lock", "part"):
        beside = path.with_name("lock" if kind == "lock" else f".{path.name}.part")
        beside.unlink(missing_ok=True)
        beside.symlink_to(victims / "file")
        return
    if kind == "parent" and path.parent.name != "case":
        shutil.rmtree(path.parent)
        path.parent.symlink_to(victims / "folder")
        return
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "hole":
        with path.open("wb") as file:
            file.truncate(2**35)
    else:
        path.symlink_to({"folder link": victims / "folder", "device": Path("/dev/zero")}.get(kind, victims / "file"))


def make_plain(folder: Path) -> None:
    """Good files of the kinds that nothing must be trained for."""
    import numpy as np

    from rlkit.exact.mdp import FiniteMDP

    dense = [[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]
    FiniteMDP.from_dense(dense, [[-1.0, -2.0], [0.0, 0.0]], terminal=[False, True]).save(folder / "mdp.npz")
    (folder / "triangle.txt").write_text("7\n3 8\n8 1 0\n2 7 4 4\n4 5 2 6 5\n")
    (folder / "c.toml").write_text('env = "FrozenLake-v1"\nseed = 3\nnum_envs = 1\n[env_args]\nis_slippery = false\n')
    (folder / "t.csv").write_text("a,b,c\n" + "".join(f"{i},{i * i % 7},{i % 3 + 0.5}\n" for i in range(40)))
    (folder / "t.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 20)
    np.savez(folder / "a.npz", x=np.arange(60.0).reshape(20, 3), label=np.arange(20) % 2)
    _make_images(folder)


def make_trained(folder: Path) -> None:
    """Good runs and exports, made in processes of their own."""
    call(f"train q-learning --env FrozenLake-v1 --steps 400 --checkpoint-interval 200 --run-dir {folder}/made")
    shutil.copytree(next((folder / "made").rglob("run.json")).parent, folder / "run")
    call(f"evaluate {folder}/run --episodes 2")
    call(f"fit linear --data csv --data-file {folder}/t.csv --steps 4 --no-jit --run-dir {folder}/made2")
    shutil.copytree(next((folder / "made2").rglob("run.json")).parent, folder / "fitted")
    call(f"export {folder}/run --to savedmodel --out {folder}/versions")
    shutil.copytree(next((folder / "versions").iterdir()), folder / "savedmodel")
    call(f"tfrecord write {folder}/photos {folder}/r.tfrecord")
    call(f"tfrecord write {folder}/a.npz {folder}/r2.tfrecord --compression gzip")
    call(f"train dqn --env CartPole-v1 --steps 300 --learning-starts 50 --hidden 8 --run-dir {folder}/made3")
    call(f"export {folder}/made3 --to tflite --out {folder}/lite")
    shutil.copy(folder / "lite" / "model.tflite", folder / "model.tflite")
    for made in ("made", "made2", "made3", "versions", "lite"):
        shutil.rmtree(folder / made, ignore_errors=True)


def _make_images(folder: Path) -> None:
    from PIL import Image

    rows = []
    for i, ending in enumerate(("png", "jpg", "gif", "bmp", "webp", "tif") * 2):
        path = folder / "photos" / "ab"[i // 6] / f"{i}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + i, 9), (20 * i, 90, 200)).save(path)
        rows.append(f"{path.relative_to(folder / 'photos')},{'ab'[i // 6]}\n")
    (folder / "labels.csv").write_text("".join(rows))


def call(words: str) -> None:
    """Run a command of rlkit in a process of its own; RuntimeError where it fails."""
    done = subprocess.run([sys.executable, "-m", "rlkit", *words.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"rlkit {words}: {done.stderr[-500:]}")


class Case(NamedTuple):
    """One case: the kind, the command, and how its child ended."""

    number: int
    kind: str
    command: str
    end: str
    detail: str

    @property
    def well(self) -> bool:
        """Whether it ended as it should."""
        return self.end in ("done", "refused")


def try_case(number: int, seed: int, kinds: list[str], base: Path, folder: Path) -> Case:
    """Make one case, run its command, and look at what came of it."""
    rng = random.Random(f"{seed}/{number}")
    name = kinds[number % len(kinds)]
    kind, case, victims = KINDS[name], folder / "case", folder / "victims"
    for place in (case, victims):
        shutil.rmtree(place, ignore_errors=True)
    (victims / "folder").mkdir(parents=True)
    (victims / "file").write_bytes(b"precious\n" * 100)
    (victims / "victim.py").write_text(f"open({str(victims / 'ran')!r}, 'w')\n")
    files = sorted(file for pattern in kind.files for file in base.glob(pattern) if file.is_file())
    chosen = rng.choice(files).relative_to(base)
    case.mkdir()
    for needed in {top for pattern in kind.files for top in base.glob(Path(pattern).parts[0])}:
        (shutil.copytree if needed.is_dir() else shutil.copy)(needed, case / needed.name)
    target = case / chosen
    if rng.random() < 0.15:
        replace(rng, target, victims)
    else:
        target.write_bytes(rng.choice(CHANGES)(rng, target.read_bytes()))
    command = rng.choice(kind.commands)
    before = seen(folder)
    end, detail = run_child(command.replace("X", str(case)).split(), folder / "said", victims)
    if seen(folder) != before:
        end, detail = "wrote outside", ", ".join(sorted({*seen(folder)} ^ {*before}) or ["a file has changed"])
    return Case(number, name, f"{chosen}: {command}", end, detail)


def seen(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file beside the case, and what is in it."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(place, name) not in (folder / "case", folder / "home")]
        for path in (Path(place, name) for name in files if name != "said"):
            found[str(path)] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


def run_child(words: list[str], said: Path, cwd: Path) -> tuple[str, str]:
    """How a command ends in a child: done, refused, traceback, hang, killed; and the last line that it wrote."""
    child = os.fork()
    if child == 0:
        _work(words, said, cwd)
    begun = time.monotonic()
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - begun > LIMIT:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", f"more than {LIMIT} s"
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(ended[1])
    lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:300] if lines else ""
    if code < 0:
        return "killed", signal.Signals(-code).name
    if code == TRACEBACK or any(line.startswith("Traceback (most") for line in lines):
        places = [line.strip() for line in lines if "/rlkit/" in line and line.strip().startswith("File")]
        return "traceback", f"{last} {places[-1] if places else ''}"
    return ("done" if code == 0 else "refused" if code == 2 else "exit 1", last)


def _work(words: list[str], said: Path, cwd: Path) -> None:
    """The child: the command with its output in a file, and not more memory than is allowed; never returns."""
    code = 0
    try:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(file, number)
        os.chdir(cwd)
        sys.path.insert(0, "")
        size = next(
            int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line
        )
        resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if words[0] == "serve":
            _load(Path(words[1]))
        sys.argv = ["rlkit", *words]
        runpy.run_module("rlkit", run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = TRACEBACK
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _load(folder: Path) -> None:
    """Load a version as the server does, which says of a faulty one why it is not served and goes on."""
    from rlkit.serving.models import Model

    model = Model("default", folder, 1, {}, print)
    model.poll(settled=False)
    sys.exit(0 if model.loaded else 2)


def main() -> None:
    """Print how the cases ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join([*FAST * (OFTEN - 1), *KINDS]))
    parser.add_argument("--folder", type=Path, help="Where the case is left that was tried last.  [nowhere]")
    parser.add_argument("--only", type=int, help="The number of one case to try.")
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    with tempfile.TemporaryDirectory(prefix="rlkit-strangers-") as made:
        folder = (given.folder or Path(made)).resolve()
        os.environ.update(HOME=str(folder / "home"), XDG_DATA_HOME=str(folder / "home"), TF_CPP_MIN_LOG_LEVEL="3")
        cases = try_all(folder, given.seed, kinds, range(given.count) if given.only is None else [given.only])
    print_machine()
    ends = Counter(case.end for case in cases)
    print(f"{len(cases):,} files: " + ", ".join(f"{count:,} {end}" for end, count in ends.most_common()))
    sys.exit(0 if all(case.well for case in cases) else 1)


def try_all(folder: Path, seed: int, kinds: list[str], numbers: Any) -> list[Case]:  # noqa: ANN401 - a range or a list
    """Every case, those told that do not end well."""
    base = folder / "base"
    if not base.exists():
        base.mkdir(parents=True)
        make_plain(base)
        make_trained(base)
    if any(KINDS[kind].needs_tensorflow for kind in kinds):  # once, for all children; nothing is computed with it here
        import rlkit.api.exporting
        import rlkit.data.tfrecord.unpacking  # noqa: F401
    cases = []
    for number in numbers:
        cases.append(case := try_case(number, seed, kinds, base, folder))
        if len(cases) % 100 == 0:
            print(f"{len(cases):,} tried", flush=True)
        if not case.well:
            print(f"case {case.number}, {case.kind}, {case.end}: {case.command}: {case.detail}", flush=True)
    return cases


if __name__ == "__main__":
    main()
