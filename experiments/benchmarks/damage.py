"""Damage the files of killed runs, each in its own way, and see what comes of it when they are resumed or loaded.

    python -m rlkit.experiments.benchmarks.damage [--count 500] [--seed 0] [--only WORD,WORD]

A run is killed on its way. Then, for each trial, a copy of it has one file damaged: a bit is flipped, it is cut,
emptied, removed, overwritten in part, made longer, or another step's put in its place. It is to end to the bit as the
run that nothing befell, or a sentence is to say what is lost or why it is refused. Nothing may end in a traceback or
hang, and nothing may go on in silence with what is not as it was.
"""

from __future__ import annotations

import argparse
import collections
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rlkit.experiments.benchmarks._measuring import print_machine, table
from rlkit.experiments.benchmarks._survival import (
    Case,
    Result,
    begin,
    chosen,
    ended,
    load,
    result,
    resume,
    runs_in,
    until,
)  # fmt: skip
from rlkit.runs import digests

SHARES = {
    "dqn, host": 8, "dqn, one env, n-step": 8, "dqn, compiled": 2, "dqn, compiled, two seeds": 2, "dqn, lstm": 3,
    "pqn, host": 6, "rainbow, Catch": 3, "q-learning, model": 10, "sarsa, env": 10, "mlp": 8, "lstm, text": 5,
}  # fmt: skip
"""Cases, and the shares of the trials that they get: those that take a moment more than those that are compiled."""

GOOD = ("exact", "exact, and told", "goes on, and told", "refused in a sentence")
"""Outcomes that keep the promise."""

TELLING = ("damaged", "no longer bit for bit")
"""Words of the sentences on damage."""


def _flip(content: bytearray, rng: random.Random, times: int = 1) -> bytearray:
    for _ in range(times if content else 0):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _overwrite(content: bytearray, rng: random.Random, byte: int) -> bytearray:
    if content:
        first = rng.randrange(len(content))
        part = content[first : first + 4096]
        content[first : first + 4096] = bytes([byte]) * len(part)
    return content


def _without_line(content: bytearray, rng: random.Random) -> bytearray:
    lines = content.splitlines(keepends=True)
    if lines:
        lines.pop(rng.randrange(len(lines)))
    return bytearray(b"".join(lines))


WAYS: dict[str, Callable[[bytearray, random.Random], bytearray]] = {
    "a bit": _flip,
    "twenty bits": lambda content, rng: _flip(content, rng, 20),
    "cut": lambda content, rng: content[: rng.randrange(len(content) + 1)],
    "zeros": lambda content, rng: _overwrite(content, rng, 0),
    "ones": lambda content, rng: _overwrite(content, rng, 255),
    "longer": lambda content, rng: content + rng.randbytes(1 + rng.randrange(100)),
    "a line": _without_line,
}
"""Ways to damage a file's content; it can also be empty, missing, a folder, or that of another step."""


def damage(file: Path, way: str, rng: random.Random) -> None:
    """Damage a file in a way, in place."""
    if way == "missing":
        file.unlink()
    elif way == "empty":
        file.write_bytes(b"")
    elif way == "a folder":
        file.unlink()
        file.mkdir()
    elif way == "another step's":
        stem, *_ = file.name.split("-")
        others = [other for other in file.parent.glob(f"{stem}-*{file.suffix}") if other != file]
        file.write_bytes(rng.choice(sorted(others)).read_bytes() if others else b"")
    else:
        file.write_bytes(WAYS[way](bytearray(file.read_bytes()), rng))


@dataclass(frozen=True)
class Half:
    """A run that was killed on its way."""

    run: Path
    best: tuple[int | None, str]
    """How its best agent is loaded."""
    said: frozenset[str]
    """Lines that are said when it goes on undamaged."""


def halfway(case: Case, folder: Path) -> list[Half]:
    """Runs of a case that were killed behind two thirds of their steps."""
    process = begin(case, folder / "half", folder / "half.txt")
    goal = case.fields["steps"] * 0.7

    def there() -> bool:
        runs = runs_in(folder / "half")
        return bool(runs) and all(max(digests.steps(run / "checkpoints"), default=0) >= goal for run in runs)

    if not until(there, process):
        sys.exit(f"a run ended before it could be killed: {(folder / 'half.txt').read_text()[-500:]}")
    process.kill()
    process.join()
    halves = []
    for number, run in enumerate(runs_in(folder / "half")):
        copy, said = shutil.copytree(run, folder / "copy" / str(number)), folder / f"copy{number}.txt"
        best = load(copy, said)
        ended(resume(copy, said))
        halves.append(Half(run, best, frozenset(said.read_text().splitlines())))
    return halves


def outcome(code: int | None, said: str, same: bool) -> str:
    """How a process ended, by its exit code, what it said, and whether its result is the undisturbed run's."""
    told = any(word in said for word in TELLING)
    if code is None:
        return "HANGS"
    if code == 2:
        return "refused in a sentence"
    if code:
        return "TRACEBACK"
    if same:
        return "exact, and told" if told else "exact"
    return "goes on, and told" if told else "SILENT"


def trial(half: Half, file: str, way: str, expected: Result, folder: Path, rng: random.Random) -> dict[str, str]:
    """Damage a file of a copy of a run; what comes of it when the best agent is loaded, and when it goes on."""
    run, said, found = folder / "run", folder / "said", {}
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(half.run, run)
    damage(run / file, way, rng)
    for what in ("load", "resume"):
        said.unlink(missing_ok=True)
        if what == "load":
            after = load(run, said)
            code, same = after[0], after == half.best
        else:
            code = ended(resume(run, said))
            same = code == 0 and not expected.differing(result(run))
        text = "\n".join(line for line in said.read_text().splitlines() if line not in half.said)
        found[what] = outcome(code, text, same)
        if found[what] not in GOOD:
            print(text[-1500:], flush=True)
    return found


def main() -> None:
    """Try and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="Files damaged; each is loaded and resumed.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="Cases whose names hold one of these words.")
    arguments = parser.parse_args()
    print_machine()
    cases = {name: case for name, case in chosen(arguments.only).items() if name in SHARES}
    tally = {what: collections.Counter[str]() for what in ("load", "resume")}
    wrong = []
    ways = [*WAYS, "empty", "missing", "a folder", "another step's"]
    with tempfile.TemporaryDirectory() as folder:
        for at, (name, case) in enumerate(cases.items()):
            rng, place = random.Random(f"{arguments.seed} {name}"), Path(folder) / str(at)
            place.mkdir()
            process = begin(case, place / "whole", place / "whole.txt")
            if ended(process) != 0:
                sys.exit((place / "whole.txt").read_text()[-2000:])
            expected = [result(run) for run in runs_in(place / "whole")]
            halves = halfway(case, place)
            share = arguments.count * SHARES[name] / sum(SHARES[other] for other in cases)
            for number in range(round(share)):
                half, whole = halves[number % len(halves)], expected[number % len(halves)]
                files = sorted(str(file.relative_to(half.run)) for file in half.run.rglob("*") if file.is_file())
                file, way = files[number // len(halves) % len(files)], rng.choice(ways)
                found = trial(half, file, way, whole, place, rng)
                for what, how in found.items():
                    tally[what][how] += 1
                    wrong += [] if how in GOOD else [f"{name}, {what}: {file}, {way}: {how}"]
                print(f"{name}: {file}, {way}: {', '.join(f'{what} {how}' for what, how in found.items())}", flush=True)
    names = [*GOOD, *sorted({how for counts in tally.values() for how in counts} - set(GOOD))]
    rows = [[what, *(str(counts[how]) for how in names), str(counts.total())] for what, counts in tally.items()]
    table("Damaged files", ("", *names, "all"), rows)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
