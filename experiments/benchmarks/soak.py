"""An hour of all at once: train, evaluate, export, serve and swap the model, kill and resume; and nothing grows.

    python -m rlkit.experiments.benchmarks.soak [--minutes 60] [--seed 0]

One short run after the other is trained, evaluated and exported as the next version of a model, each in a process of
its own, as the commands are. A server, the command itself, serves the versions as they come and answers requests all
the while. A third process trains a run that is killed at a random moment of each round, and resumed; whenever it has
come to its end, it is compared to the bit with one that nothing befell, and has the same files. Memory, open files and
threads of the server and of this process, which keeps a client and reads what the others leave, are measured after each
round: the last quarter may not hold more than the second did.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rlkit.experiments.benchmarks._measuring import print_machine, table
from rlkit.experiments.benchmarks._survival import CASES, LOADED, Result, begin, ended, result, resume, runs_in, until
from rlkit.experiments.benchmarks.serving import NAME, serving
from rlkit.files import PARTS

VICTIM = "dqn, host"
"""Case that is killed."""

QUICK: dict[str, Any] = {
    "loop": "host", "jit": False, "hidden": [16], "steps": 400, "learning_starts": 100, "batch_size": 16,
    "buffer_size": 400, "eval_interval": 200, "eval_episodes": 2, "checkpoint_interval": 200, "preset": "none",
    "target_return": "none",
}  # fmt: skip
"""Fields of the runs that are trained one after the other."""

KEPT = 3
"""Versions of the model that stay."""

MEGABYTES = 24.0
"""Memory by which the last quarter may be above the second, for allocators that do not give back."""


EVENTS = "tfevents"
"""Part of the name of a file of TensorBoard's."""

MOST_EVENTS = 2
"""Such files of a run that was resumed: from before the last checkpoint, and since."""


@dataclass
class Counts:
    """Counts of what befell, and was answered."""

    rounds: int = 0
    kills: int = 0
    exact: int = 0
    requests: int = 0
    failed: list[str] = field(default_factory=list)


class Client(threading.Thread):
    """Asks a server for actions, one request after the other."""

    def __init__(self, port: int, counts: Counts) -> None:
        super().__init__(daemon=True)
        self.port, self.counts, self.stopped = port, counts, threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = json.dumps({"instances": [[0.0, 0.1, 0.0, -0.1]]})
        while not self.stopped.wait(0.01):
            connection.request("POST", f"/v1/models/{NAME}:predict", body)
            answer = connection.getresponse()
            said = answer.read()
            self.counts.requests += 1
            if answer.status != 200:
                self.counts.failed.append(f"{answer.status} {said[:200]!r}")


class Victim:
    """A run that is killed again and again, and compared with one that was not."""

    def __init__(self, folder: Path, rng: random.Random, counts: Counts) -> None:
        self.folder, self.rng, self.counts = folder, rng, counts
        self.said, self.root = folder / "said", folder / "runs"
        whole = begin(CASES[VICTIM], folder / "whole", self.said)
        if ended(whole) != 0:
            sys.exit(self.said.read_text()[-2000:])
        run = runs_in(folder / "whole")[0]
        self.expected: Result = result(run)
        self.files = files_of(run)

    def round(self) -> None:
        """Let it go on for a moment, then kill it."""
        runs = runs_in(self.root)
        process = resume(runs[0], self.said) if runs else begin(CASES[VICTIM], self.root, self.said)
        before = len(self.said.read_text())
        until(lambda: bool(runs_in(self.root)) and (not runs or "resumed" in self.said.read_text()[before:]), process)
        due = time.monotonic() + self.rng.uniform(0.0, 5.0)
        until(lambda: time.monotonic() > due, process)
        if process.is_alive():
            process.kill()
            process.join()
            self.counts.kills += 1
            return
        if process.exitcode:
            sys.exit(f"the killed run has failed:\n{self.said.read_text()[-2000:]}")
        run = runs_in(self.root)[0]
        if wrong := self.expected.differing(result(run)):
            sys.exit(f"the killed run has ended otherwise: {wrong}")
        if (files := files_of(run)) != self.files:
            sys.exit(f"the killed run has other files: {sorted(files ^ self.files)}")
        if (events := len(list(run.glob(f"*{EVENTS}*")))) > MOST_EVENTS:
            sys.exit(f"the killed run has {events} event files, expected {MOST_EVENTS} at most")
        self.counts.exact += 1
        shutil.rmtree(self.root)


def files_of(run: Path) -> set[str]:
    """Names of a run's files, without event files, and parts of files, which stay for a minute where it was killed."""
    names = [file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file()]
    return {name for name in names if EVENTS not in name and not PARTS.fullmatch(Path(name).name)}


def publish(number: int, folder: Path, models: Path, seed: int) -> None:
    """Train, evaluate and export a run as a version of the model; drop the oldest."""
    from rlkit.api import training
    from rlkit.api.exporting import export_run

    run = training.train("dqn", "CartPole-v1", run_dir=folder / "runs", seed=seed, **QUICK)
    run.evaluate(4)
    exported = export_run(run.path, "savedmodel", out=folder / "export")
    (version,) = exported.path.iterdir()
    beside = models / f".{number}.part"
    shutil.copytree(version, beside)
    beside.rename(models / str(number))
    for old in sorted(int(path.name) for path in models.iterdir() if path.name.isdigit())[:-KEPT]:
        shutil.rmtree(models / str(old))
    shutil.rmtree(folder / "export")
    shutil.rmtree(folder / "runs")


def published(number: int, folder: Path, models: Path, seed: int) -> None:
    """Run `publish` in a process of its own; exit if it fails."""
    process = LOADED.Process(target=publish, args=(number, folder, models, seed))
    process.start()
    if ended(process) != 0:
        sys.exit(f"version {number} could not be made")


def served(port: int, number: int) -> None:
    """Wait until a version is served; exit if it is not within a minute."""
    ends, said = time.monotonic() + 60, b""
    while time.monotonic() < ends:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", f"/v1/models/{NAME}/versions/{number}")
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status == 200 and b"AVAILABLE" in said:
            return
        time.sleep(0.1)
    sys.exit(f"version {number} is not served: {said!r}")


def measured(name: str, process: psutil.Process) -> dict[str, float]:
    """Memory, descriptors and threads of a process."""
    with process.oneshot():
        return {
            f"{name}: memory, MB": process.memory_info().rss / 2**20,
            f"{name}: descriptors": process.num_fds(),
            f"{name}: threads": process.num_threads(),
        }


def flat(rows: list[dict[str, float]]) -> list[str]:
    """Print what was held in the second and the last quarter; sentences on what has grown."""
    quarter = max(1, len(rows) // 4)
    shown, grown = [], []
    for name in rows[0]:
        early, late = (max(row[name] for row in part) for part in (rows[quarter : 2 * quarter], rows[-quarter:]))
        allowed = early + MEGABYTES if "memory" in name else early
        shown.append([name, f"{early:,.0f}", f"{late:,.0f}"])
        if late > allowed:
            grown.append(f"{name} was {early:,.0f} at most in the second quarter, and {late:,.0f} in the last")
    table("Held at most", ("", "second quarter", "last quarter"), shown)
    return grown


def main() -> None:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print_machine()
    rng, counts, rows = random.Random(arguments.seed), Counts(), list[dict[str, float]]()
    with tempfile.TemporaryDirectory() as name:
        folder, models = Path(name), Path(name) / "models"
        models.mkdir()
        victim = Victim(folder, rng, counts)
        published(1, folder / "own", models, arguments.seed)
        with serving(models, "--poll", "0.2") as (port, _, server):
            client = Client(port, counts)
            client.start()
            ends = time.monotonic() + 60 * arguments.minutes
            for number in itertools.count(2):
                published(number, folder / "own", models, arguments.seed + number)
                served(port, number)
                victim.round()
                counts.rounds += 1
                rows.append({**measured("this process", psutil.Process()), **measured("server", server)})
                if counts.rounds % 10 == 0:
                    print(f"{counts}; {rows[-1]}", flush=True)
                if time.monotonic() > ends or counts.failed:
                    break
            client.stopped.set()
            client.join(30)
    print(
        f"{counts.rounds} rounds: {counts.kills} kills, {counts.exact} runs ended, all exact; {counts.requests:,} "
        f"requests, {len(counts.failed)} failed"
    )
    if wrong := [*counts.failed, *flat(rows)]:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
