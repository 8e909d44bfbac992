"""Chaos: runs that are killed at random moments, or damaged, end where undisturbed ones do, or say why not."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rlkit.experiments.benchmarks import damage, kills
from rlkit.experiments.benchmarks._survival import CASES, begin, ended, runs_in, until

CHAOS = replace(
    CASES["double-q-learning, env"],
    fields={
        **CASES["double-q-learning, env"].fields,
        "steps": 12_000,
        "eval_interval": 4000,
        "checkpoint_interval": 400,
        "log_interval": 200,
    },
)
"""A run of a second or two."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> kills.Reference:
    return kills.refer(CHAOS, tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("moment", kills.MOMENTS[1:])
def test_a_killed_run_ends_to_the_bit_where_the_whole_one_does(
    moment: str, reference: kills.Reference, tmp_path: Path
) -> None:
    assert len(reference.results[0].values) > 10
    assert kills.trial(CHAOS, reference, tmp_path, moment, random.Random(moment))[1] == "exact"


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> damage.Half:
    (run,) = damage.halfway(CHAOS, tmp_path_factory.mktemp("half"))
    return run


DAMAGES = [
    ("config.toml", "a bit", ("exact, and told", "exact, and told")),
    ("metrics.csv", "a line", ("exact", "goes on, and told")),
    ("newest digests", "empty", ("exact", "exact, and told")),
    ("newest index", "a bit", ("exact", "exact, and told")),
    ("best data", "another step's", ("refused in a sentence", "exact, and told")),
    ("run.json", "empty", ("refused in a sentence", "refused in a sentence")),
]


@pytest.mark.parametrize(("what", "way", "expected"), DAMAGES)
def test_damage_is_told_or_makes_no_difference(
    what: str, way: str, expected: tuple[str, str], half: damage.Half, reference: kills.Reference, tmp_path: Path
) -> None:
    ends = {"digests": ("digests-", ".json"), "index": ("ckpt-", ".index"), "data": ("ckpt-", "-00001")}
    which, _, end = what.partition(" ")
    file = what
    if end:
        folder = half.run / "checkpoints" / ("best" if which == "best" else "")
        first, last = ends[end]
        names = [path.name for path in folder.iterdir() if path.name.startswith(first) and path.name.endswith(last)]
        newest = max(names, key=lambda name: int(name.split("-")[1].split(".")[0]))
        file = str((folder / newest).relative_to(half.run))
    found = damage.trial(half, file, way, reference.results[0], tmp_path, random.Random(what))
    assert tuple(found.values()) == expected


@pytest.mark.parametrize("what", ["deleted", "renamed", "read-only"])
def test_a_folder_that_vanishes_ends_a_run_in_a_sentence(what: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    process = begin(replace(CHAOS, fields={**CHAOS.fields, "steps": 10_000_000}), tmp_path / "runs", said)
    assert until(lambda: bool(list(tmp_path.glob("runs/*/*/*/checkpoints/digests-8??.json"))), process)
    (run,) = runs_in(tmp_path / "runs")
    moved = run.with_name("moved")
    if what == "renamed":
        run.rename(moved)
    elif what == "deleted":
        while run.exists():
            shutil.rmtree(run, ignore_errors=True)
    elif subprocess.run(["chattr", "-R", "+i", run], check=False).returncode:
        process.kill()
        pytest.skip("no folder can be made read-only for root here")
    try:
        assert ended(process) == 2, said.read_text()
    finally:
        if what == "read-only":
            subprocess.run(["chattr", "-R", "-i", run], check=False)
    *_, before, last = said.read_text().splitlines()
    assert last.startswith(f"UserError: {run}")
    if what == "deleted":
        assert last.endswith(f"; {run} is gone, and what was learned with it")
        assert not run.exists()
        return
    place = moved if what == "renamed" else run
    assert re.search(rf"; the last good checkpoint is of step \d+; .* go on with: rlkit train --resume {place}$", last)
    status = json.loads((place / "run.json").read_text())["status"]
    assert (before, status) == (
        (f"the run's folder {run} was renamed to {moved}", "failed")
        if what == "renamed"
        else (
            f"how the run ended cannot be written to {run / 'run.json'} (Operation not permitted): it will look like a "
            "killed one",
            "running",
        )
    )


@pytest.mark.usefixtures("terminal")
def test_a_terminal_that_is_closed_ends_a_run_as_ctrl_c_does(tmp_path: Path) -> None:
    words = ["train", "q-learning", "--env", "FrozenLake-v1", "--simulate", "env", "--steps", "2000000"]
    words += ["--checkpoint-interval", "500000", "--log-interval", "500", "--run-dir", str(tmp_path)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "rlkit", *words])
    ends, run = time.monotonic() + 120, tmp_path
    while time.monotonic() < ends:
        os.read(terminal, 4096)
        (run,) = runs_in(tmp_path) or [tmp_path]
        if (run / "timing.csv").is_file() and (run / "timing.csv").stat().st_size > 100:
            break
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "interrupted", status
    assert info["step"] > 0
    assert (run / f"checkpoints/digests-{info['step']}.json").exists()
