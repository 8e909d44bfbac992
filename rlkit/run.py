"""The run directory: the unit that commands hand to each other."""

from __future__ import annotations

import datetime
import errno
import fcntl
import itertools
import json
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w

from rlkit import __version__
from rlkit.config import path_argument, read_toml
from rlkit.errors import UserError, WriteError
from rlkit.files import home, steps_in, write_whole

NOUNS = {"train": ("agent", "env"), "fit": ("model", "data")}
"""For each verb that makes runs, what learns and what from, as run.json calls them."""

FORMAT = 1
"""Version of the run directory's layout; a run of a later one is refused."""


class RunDirectory:
    """A run's folder: config.toml, run.json, metrics and checkpoints.

    Args:
        path: the folder.
        info: run.json of a run that is being prepared, whose folder does not have one yet.

    Raises:
        UserError: the folder is missing, is no run, or was made by a newer version.
    """

    def __init__(self, path: Path, info: dict[str, Any] | None = None) -> None:
        self.path, self.prepared = path, info is not None
        if not path.exists():
            raise UserError(f"run {path} does not exist")
        if info is None and not ((path / "run.json").is_file() and (path / "config.toml").is_file()):
            raise UserError(f"{path} is not a run: it has no run.json and config.toml")
        try:
            self.info: dict[str, Any] = info or json.loads((path / "run.json").read_text(encoding="utf-8"))
            made_by, maker = int(self.info["format"]), dict(self.info.get("versions") or {}).get("rlkit")
            self.verb: str = self.info.get("verb", "train")
            who, what = NOUNS[self.verb]
            self.agent: str = self.info[who]
            self.env = str(self.info.get(what))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{path / 'run.json'} cannot be read: {error}") from None
        if made_by > FORMAT:
            raise UserError(
                f"run {path} was made by rlkit {maker}, "
                f"with a layout newer than this version {__version__} reads: update rlkit"
            )

    def require(self, verb: str) -> None:
        """UserError if another verb made the run."""
        if self.verb != verb:
            who, what = NOUNS[self.verb]
            raise UserError(
                f"run {self.path} is of the {who} {self.agent} on the {what} {self.env}: this needs one that rlkit "
                f"{verb} made"
            )

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    def config(self) -> dict[str, Any]:
        """The resolved config, without the name of what learns."""
        values = read_toml(self.path / "config.toml")
        values.pop(NOUNS[self.verb][0], None)
        return values

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.toml."""
        replace_text(self.path / "config.toml", tomli_w.dumps({NOUNS[self.verb][0]: self.agent, **config}))

    def update(self, **values: object) -> None:
        """Change entries of run.json."""
        self.info |= values
        if not self.prepared:
            replace_text(self.path / "run.json", json.dumps(self.info, indent=2) + "\n")

    def end(self, say: Callable[[str], None], **values: object) -> None:
        """Say in run.json how the run ended; `say` is told if that cannot be written."""
        try:
            self.update(**values)
        except OSError as error:
            say(f"{self.path / 'run.json'} cannot be written ({error.strerror}): the run will look like a killed one")

    def settle(self, config: Mapping[str, Any]) -> None:
        """Put a prepared run at its place, where others find it, with this config.

        Raises:
            UserError: the disk is full, or the place cannot be written to.
        """
        place = self.path.with_name(self.path.name.removeprefix(".").removesuffix(PART))
        try:
            self.write_config(config)
            replace_text(self.path / "run.json", json.dumps(self.info, indent=2) + "\n")
            self.path.rename(place)
        except OSError as error:
            raise UserError(f"a run cannot be made in {place.parent}: {error.strerror}") from None
        self.path, self.prepared = place, False

    @property
    def step(self) -> int:
        """The newest step that was saved, also of a run that was killed and could not say so."""
        return max([int(self.info["step"]), *steps_in(self.checkpoints)])

    @property
    def best_step(self) -> int | None:
        """The step of the best agent or model, None where none was kept."""
        return next(iter(steps_in(self.checkpoints / "best")), None)

    def running(self, *, threads: int, onednn: bool | None) -> None:
        """Write that the run trains in this process, and the versions and settings that `changed` compares later."""
        self.update(status="running", versions=versions(), threads=threads, onednn=onednn)

    def changed(self, *, threads: int, onednn: bool | None) -> str:
        """Sentence on what decides a run's numbers and is not as it was; empty where all is.

        Args:
            threads: of one operation, now; runs of old that TensorFlow chose for say 0.
            onednn: as `rlkit.devices.onednn`, now.
        """
        before, now = self.info.get("versions", {}), versions()
        changed = [f"{k} {before[k]} is now {v}" for k, v in now.items() if before.get(k, v) != v]
        if self.info.get("threads") not in (None, 0, threads):
            changed.append(f"threads {self.info['threads']} is now {threads}")
        if self.info.get("onednn") not in (None, onednn):
            changed.append(f"oneDNN {self.info['onednn']} is now {onednn}")
        return ", ".join(changed)

    @property
    def resuming(self) -> str:
        """The command that goes on with the run."""
        return shlex.join(["rlkit", self.verb, "--resume", str(self.path)])

    @property
    def evaluating(self) -> str:
        """The command that evaluates the run."""
        return shlex.join(["rlkit", "evaluate", str(self.path)])

    @property
    def status(self) -> str:
        """How training ended: finished, solved, interrupted, failed, killed; or running."""
        told = str(self.info["status"])
        if told != "running":
            return told
        try:
            with self.lock():
                return "killed"
        except UserError:
            return told

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            UserError: another process holds it, or it cannot be written to.
        """
        try:
            file = (self.path / "lock").open("w")
        except OSError as error:
            raise UserError(f"run {self.path} cannot be written to: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"run {self.path} is in use by another process") from None
            yield


@contextmanager
def resumable(directories: Sequence[RunDirectory]) -> Iterator[None]:
    """Say how the runs that failed go on, where a file could not be written.

    Raises:
        UserError: a file could not be written, as the disk is full.
    """
    try:
        yield
    except (WriteError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        text = f"a file of the run cannot be written: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise unwritten(text, directories) from error


def unwritten(text: str, directories: Sequence[RunDirectory]) -> UserError:
    """The error for a file that could not be written, with the commands that go on with the runs that it has ended."""
    failed = [d for d in directories if not d.prepared and d.info["status"] in ("failed", "running")]
    ways = " and ".join(shlex.join(["rlkit", d.verb, "--resume", str(d.path)]) for d in failed)
    return UserError(f"{text}; make room and go on with: {ways}" if ways else text)


@dataclass(frozen=True)
class AnyRun:
    """A run on disk."""

    directory: RunDirectory

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.directory.path

    @property
    def status(self) -> str:
        """How training ended: finished, solved, stopped, interrupted, failed, killed; or running."""
        return self.directory.status

    def counts(self) -> dict[str, int]:
        """How far training came in other units than steps."""
        return {}


def create(root: Path, agent: str, env: str, seed: int, config: Mapping[str, Any], verb: str = "train") -> RunDirectory:
    """Make a new run's folder, as `preparing` names it.

    Raises:
        UserError: the folder cannot be made.
    """
    with preparing(root, agent, env, seed, verb) as made:
        made.settle(config)
    return made


@contextmanager
def preparing(root: Path, agent: str, env: str, seed: int, verb: str = "train") -> Iterator[RunDirectory]:
    """A new run in a hidden folder beside its place, root/ENV/AGENT/TIME-seedN, or root/DATA/MODEL/TIME-seedN of fit.

    `RunDirectory.settle` puts it there once it has its first checkpoint. A run that never came so far leaves nothing:
    its folder is removed at the end or, if the process was killed, as the next run is made.

    Raises:
        UserError: the folder cannot be made.
    """
    root = home(root)
    now = datetime.datetime.now(datetime.UTC)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    parent = root / env.replace("/", "-").replace(":", "-") / agent
    fresh = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    who, what = NOUNS[verb]
    info = {
        "format": FORMAT,
        "verb": verb,
        who: agent,
        what: env,
        "seed": seed,
        "created": now.isoformat(timespec="microseconds"),
        "status": "created",
        "step": 0,
        "seconds": 0.0,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
    }
    path = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(parent)
        path = _hidden(parent, f"{stamp}-seed{seed}")
        made = RunDirectory(path, info)
        yield made
    except OSError as error:
        if path is not None:
            raise
        raise UserError(f"a run cannot be made in {root}: {error.strerror}") from None
    finally:
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)  # it is gone if the run was settled
        for folder in fresh:
            with suppress(OSError):
                folder.rmdir()  # which only an empty one lets be done to it


ENDED = ("finished", "solved", "stopped")
"""Statuses of runs that have come to their end."""

PART = ".part"
"""Ending of a hidden folder in which a run is prepared."""

LEFT = 60.0
"""Seconds after which such a folder that no process holds is nobody's."""


def _hidden(parent: Path, name: str) -> Path:
    """A new hidden folder for a run of that name, or of the first that is free with a number behind it."""
    for number in itertools.count(1):
        place = parent / (name if number == 1 else f"{name}-{number}")
        hidden = place.with_name(f".{place.name}{PART}")
        try:
            hidden.mkdir()
        except FileExistsError:
            continue
        if not place.exists():
            return hidden
        hidden.rmdir()
    raise AssertionError


def _remove_leftovers(parent: Path) -> None:
    """Remove what killed processes were preparing."""
    for folder in parent.glob(f".*{PART}"):
        with suppress(OSError, UserError):
            if time.time() - folder.stat().st_mtime > LEFT:
                with RunDirectory(folder, {"format": FORMAT, "agent": "", "env": ""}).lock():
                    shutil.rmtree(folder, ignore_errors=True)


def anything(run: RunDirectory) -> None:
    """No reason to pass a run over."""


def untrained(run: RunDirectory) -> str | None:
    """Why an agent or a model cannot be loaded from a run; None if it can."""
    saved = steps_in(run.checkpoints) or steps_in(run.checkpoints / "best")
    return None if saved else "it has no checkpoint"


def unmeasured(run: RunDirectory) -> str | None:
    """Why a run has nothing to plot; None if it has."""
    files = [run.path / name for name in ("metrics.csv", "evaluations.csv")]
    rows = any(file.read_bytes().count(b"\n") > 1 for file in files if file.is_file())
    return None if rows else "it has no row of metrics yet"


def find(
    path: str | Path,
    unfit: Callable[[RunDirectory], str | None] = anything,
    *,
    verb: str | None = None,
    say: Callable[[str], None] | None = None,
) -> RunDirectory:
    """The run at a path, or below it the newest one that serves.

    Args:
        path: a run's folder, or one that holds runs.
        unfit: why a run below the folder does not serve, or None: `untrained` where a checkpoint is needed.
        verb: that made the run; None for any.
        say: told which newer runs were passed over, and why.

    Raises:
        UserError: there is no such run.
    """
    path = path_argument("run", path)
    if not path.exists():
        siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = f": there is {', '.join(siblings[:6])}" if siblings else ""
        raise UserError(f"run {path} does not exist{hint}")
    if path.is_dir() and not (path / "run.json").exists():
        below = runs_below(path)[::-1]
        if below:
            return _newest(path, below, unfit, verb, say)
    return RunDirectory(path)


def _newest(
    path: Path,
    below: Sequence[RunDirectory],
    unfit: Callable[[RunDirectory], str | None],
    verb: str | None,
    say: Callable[[str], None] | None,
) -> RunDirectory:
    """The first of the runs below a folder that serves."""
    passed: list[str] = []
    for run in below:
        other = f"it is of the {NOUNS[run.verb][0]} {run.agent}" if verb not in (None, run.verb) else None
        why = other or unfit(run)
        if why is None:
            if len(passed) > SAID:
                passed[SAID:] = [f"{len(passed) - SAID} more newer runs are passed over"]
            if say:
                for text in passed:
                    say(text)
            return run
        passed.append(f"the newer run {run.path} is passed over: {why}")
    if verb is not None:
        below[0].require(verb)
    raise UserError(f"no run below {path} serves: of the newest, {below[0].path}, {unfit(below[0])}")


SAID = 3
"""Most runs passed over that are named."""


def runs_below(root: Path) -> list[RunDirectory]:
    """Every run under a folder, the oldest first."""
    found = []
    for file in root.rglob("run.json"):
        if file.parent.name.startswith(".") and file.parent.name.endswith(PART):
            continue  # not a run yet
        try:
            found.append(RunDirectory(file.parent))
        except UserError:
            continue
    return sorted(found, key=lambda run: (str(run.info.get("created")), len(run.path.name), str(run.path)))


def replace_text(path: Path, text: str) -> None:
    """Write a text file beside its place, then rename it there."""
    write_whole(path, text.encode())


def versions() -> dict[str, str]:
    """Versions of Python and of what decides a run's numbers."""
    found = {"rlkit": __version__, "python": platform.python_version()}
    for name in ("tensorflow", "keras", "gymnasium", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """The git commit of this code, with a plus where it was changed; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    inside = (folder.parent / ".git").exists()
    return result.stdout.strip() or None if inside and result.returncode == 0 else None
