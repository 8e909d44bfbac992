"""Kill runs at random moments, again and again, and compare what they end with to the bit with runs that were not.

    python -m rlkit.experiments.benchmarks.kills [--kills 100] [--seed 0] [--only WORD,WORD]

Every loop and every agent has its case. Some kills come at a random moment, some as soon as a file is seen that is
being written, some before the first checkpoint, and some while a killed run is being resumed. The seed decides all but
how far the operating system lets a process come.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from rlkit.experiments.benchmarks._measuring import print_machine, table
from rlkit.experiments.benchmarks._survival import Case, Result, begin, chosen, ended, result, resume, runs_in, until

MOMENTS = ("random", "while a file is written", "while resuming", "before the first checkpoint")


@dataclass
class Reference:
    """The end of a case that nothing befalls."""

    results: list[Result]
    seconds: float
    """From its first checkpoint to its end."""


def refer(case: Case, folder: Path) -> Reference:
    """Train a case undisturbed."""
    said, root = folder / "said", folder / "runs"
    process = begin(case, root, said)
    until(lambda: bool(runs_in(root)), process)
    begun = time.monotonic()
    if ended(process) != 0:
        sys.exit(f"a run that nothing befell has failed:\n{said.read_text()[-2000:]}")
    return Reference([result(run) for run in runs_in(root)], time.monotonic() - begun)


def kill(process: BaseProcess, root: Path, moment: str, seconds: float, rng: random.Random) -> bool:
    """Kill a process at some moment; False if it ended before."""
    if moment == "before the first checkpoint":
        until(lambda: any(root.rglob(".*.part")), process)
        time.sleep(rng.random() * 0.5)
    elif moment == "while resuming":
        time.sleep(rng.random() * 2.0)
    else:
        until(lambda: bool(runs_in(root)), process)
        due = time.monotonic() + rng.random() * seconds
        until(lambda: time.monotonic() > due, process)
        if moment == "while a file is written":
            until(lambda: _writing(root), process, seconds)
    if not process.is_alive():
        return False
    process.kill()
    process.join()
    return process.exitcode != 0


def _writing(root: Path) -> bool:
    """Whether a file is seen that is not at its place yet."""
    return any("temp" in file.name or file.name.endswith(".part") for file in root.rglob("checkpoints/*"))


def trial(case: Case, reference: Reference, folder: Path, moment: str, rng: random.Random) -> tuple[int, str]:
    """Kill a run once or twice, and let it end; how often it was killed, and how it ended."""
    said, root = folder / "said", folder / "runs"
    process, kills = begin(case, root, said), 0
    for number in range(rng.choice((1, 1, 2)) + (moment == "while resuming")):
        at = "random" if number == 0 and moment == "while resuming" else moment
        if not kill(process, root, at, reference.seconds * 0.8, rng):
            break
        kills += 1
        if not (runs := runs_in(root)):  # nothing is left, and nothing was learned
            process = begin(case, root, said)
        for run in runs[:-1]:
            ended(resume(run, said))
        if runs:
            process = resume(runs[-1], said)
        moment = "while resuming" if moment == "before the first checkpoint" else moment
    code = ended(process)
    if code != 0:
        last = said.read_text().strip().splitlines()[-1:]
        if "is finished at step" not in str(last):
            return kills, "hung" if code is None else f"ended with {code}: {last}"
    found = [result(run) for run in runs_in(root)]
    wrong = [
        name for a, b in itertools.zip_longest(reference.results, found, fillvalue=Result()) for name in a.differing(b)
    ]
    return kills, f"differs in {', '.join(wrong[:4])}" if wrong else "exact"


def main() -> None:
    """Try and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="At least.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="Cases whose names hold one of these words.")
    arguments = parser.parse_args()
    print_machine()
    cases = chosen(arguments.only)
    tally = {name: [0, 0, 0] for name in cases}
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        references: dict[str, Reference] = {}
        for number in itertools.count():
            if sum(kills for _, kills, _ in tally.values()) >= arguments.kills:
                break
            name = list(cases)[number % len(cases)]
            rng = random.Random(f"{arguments.seed} {number}")
            place = Path(folder) / str(number)
            place.mkdir()
            if name not in references:
                (place / "reference").mkdir()
                references[name] = refer(cases[name], place / "reference")
            moment = MOMENTS[(number + number // len(cases)) % len(MOMENTS)]
            (place / "killed").mkdir()
            kills, how = trial(cases[name], references[name], place / "killed", moment, rng)
            tally[name] = [a + b for a, b in zip(tally[name], (1, kills, how == "exact"), strict=True)]
            print(f"{name}, {moment}: {kills} kills, {how}", flush=True)
            wrong += [] if how == "exact" else [f"{name}, {moment}: {how}"]
    rows = [[name, *map(str, counts)] for name, counts in tally.items()]
    total = [sum(column) for column in zip(*tally.values(), strict=True)]
    table("Runs killed and resumed", ("case", "runs", "kills", "exact"), [*rows, ["all", *map(str, total)]])
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
