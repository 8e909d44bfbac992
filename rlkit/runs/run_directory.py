"""The run directory: the unit that commands hand to each other."""

from __future__ import annotations

import datetime
import fcntl
import itertools
import json
import os
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

from rlkit import trust
from rlkit.config import parse_toml, path_argument, read_toml
from rlkit.errors import UserError, WriteError, short
from rlkit.files import (
    LEFT,
    MOST_DATA,
    PART,
    check_folder,
    home,
    opener,
    read_bytes,
    read_json,
    remove_parts,
    steps_in,
    write_whole,
)
from rlkit.runs import digests
from rlkit.runs.disk import FULL
from rlkit.signals import interrupt, stopping
from rlkit.version import __version__

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
        self.path, self.prepared = path, info is not None or _is_hidden(path)
        self._folder: int | None = None
        if not path.exists():
            raise UserError(f"run {path} does not exist")
        name = BEGUN if self.prepared else "run.json"
        if info is None and not ((path / name).is_file() and (path / "config.toml").is_file()):
            raise UserError(f"{path} is not a run: it has no {name} and config.toml")
        try:
            self.info: dict[str, Any] = _read_info(path / name) if info is None else info
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UserError(f"{path / name} cannot be read: {reason}") from None
        self.verb: str = self.info.get("verb", "train")
        who, what = NOUNS[self.verb]
        self.agent: str = self.info[who]
        self.env = str(self.info.get(what))

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

    def config(self, say: Callable[[str], None] | None = None) -> dict[str, Any]:
        """The resolved config, without the name of what learns.

        Args:
            say: told where the file is not as the run wrote it, and the newest checkpoint's copy is taken.
        """
        kept = self.kept("config.toml", say)
        file = self.path / "config.toml"
        values = read_toml(file) if kept is None else parse_toml(kept, file)
        values.pop(NOUNS[self.verb][0], None)
        return values

    def kept(self, name: str, say: Callable[[str], None] | None = None) -> str | None:
        """The newest checkpoint's copy of a file of the run; None where there is none, as of versions of old.

        Args:
            name: one of `digests.TEXTS`.
            say: told where the file is another.
        """
        manifest = digests.newest(self.checkpoints)
        kept = manifest.texts.get(name) if manifest else None
        if kept is not None and say is not None:
            with suppress(OSError, UserError):
                if read_bytes(self.path / name) == kept.encode():
                    return kept
            say(f"{self.path / name} is damaged or was edited: the copy in its newest checkpoint is taken")
        return kept

    def config_text(self, config: Mapping[str, Any]) -> str:
        """A config as config.toml has it."""
        return tomli_w.dumps({NOUNS[self.verb][0]: self.agent, **config})

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.toml, and seal what code it names."""
        replace_text(self.path / "config.toml", self.config_text(config))
        if named := trust.naming(config):
            self.update(seal=trust.seal("run", named))

    def check_trust(self, config: Mapping[str, Any], trusted: bool) -> None:
        """Refuse a config that names code where no seal says that this user made the run, or trusts it.

        Args:
            config: of the run.
            trusted: take it all the same, and put a seal on it.

        Raises:
            UserError: the run has no seal of this user's, and is not to be trusted.
        """
        named = trust.naming(config)
        if named is None or trust.sealed(self.info.get("seal"), "run", named):
            return
        if not trusted:
            raise UserError(
                f"run {self.path} was not made here, and its config names code to import, env = {short(named[0])}: "
                "give --trust (in Python trust=True) where you trust the run and that code"
            )
        with suppress(OSError):
            self.update(seal=trust.seal("run", named))

    def update(self, **values: object) -> None:
        """Change entries of run.json."""
        self.info |= values
        if not self.prepared:
            replace_text(self.path / "run.json", self._text())

    def _text(self) -> str:
        """The content of run.json."""
        return json.dumps(self.info, indent=2) + "\n"

    def end(self, say: Callable[[str], None], **values: object) -> None:
        """Say in run.json how the run ended; `say` is told if that cannot be written."""
        try:
            if not self.path.exists() and (moved := self._moved()):
                say(f"the run's folder {self.path} was renamed to {moved}")
                self.path = moved
            self.update(**values)
        except OSError as error:
            gone = "it has no folder any more" if not self.path.exists() else "it will look like a killed one"
            say(f"how the run ended cannot be written to {self.path / 'run.json'} ({error.strerror}): {gone}")

    def _moved(self) -> Path | None:
        """Where the folder is that this process holds, if it was renamed and the system tells."""
        with suppress(OSError, TypeError):
            found = Path(f"/proc/self/fd/{self._folder}").readlink()
            return found if found.is_dir() else None
        return None

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write a prepared run's config, and `BEGUN`, by which it can be begun again if it is killed here.

        Raises:
            UserError: the disk is full, or the place cannot be written to.
        """
        try:
            self.write_config(config)
            replace_text(self.path / BEGUN, self._text())
        except OSError as error:
            raise UserError(f"a run cannot be made in {self.path.parent}: {error.strerror}") from None

    def settle(self, config: Mapping[str, Any]) -> None:
        """Put a prepared run at its place, where others find it, with this config.

        Raises:
            UserError: the disk is full, or the place cannot be written to.
        """
        place = self.path.with_name(self.path.name.removeprefix(".").removesuffix(PART))
        try:
            self.write_config(config)
            replace_text(self.path / "run.json", self._text())
            (self.path / BEGUN).unlink(missing_ok=True)
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
        return next(iter(digests.best_steps(self.checkpoints)), None)

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
        """How training ended: finished, solved, interrupted, failed, killed; or running. Only reads."""
        told = str(self.info["status"])
        return "killed" if told == "running" and not self._held() else told

    def _held(self) -> bool:
        """Whether a process holds the run."""
        try:
            file = os.open(self.path / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # which a file that is open to read can be given anywhere
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process, and remove what killed ones have left of files.

        Raises:
            UserError: another process holds it, it cannot be written to, or something in it is neither a file nor a
                folder.
        """
        try:
            self.check_files()
            file = open(self.path / "lock", "a", opener=opener)  # noqa: SIM115 - its errors alone are told so
        except OSError as error:
            raise UserError(f"run {self.path} cannot be written to: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"run {self.path} is in use by another process") from None
            for folder in (self.path, self.checkpoints, self.checkpoints / "best"):
                remove_parts(folder, seconds=YOUNG)
            self._folder = os.open(self.path, os.O_RDONLY)
            try:
                yield
            finally:
                os.close(self._folder)
                self._folder = None

    def check_files(self) -> None:
        """UserError where something in the run is neither a file nor a folder: no link in it is followed."""
        check_folder(self.path)


INFO: dict[str, type] = {
    "status": str,
    "created": str,
    "step": int,
    "seed": int,
    "seconds": float,
    "versions": dict,
    "threads": int,
    "onednn": bool,
}
"""Types of what is read of run.json."""

MISSING = {"step": 0, "seed": 0, "seconds": 0.0}
"""Entries of a run.json that has none of them, as one that was written by hand."""


def _read_info(file: Path) -> dict[str, Any]:
    """The entries of a run's run.json, checked.

    Raises:
        ValueError: they are not those of a run.
        UserError: they are of a later layout.
        OSError: the file cannot be opened.
    """
    try:
        info = read_json(file)
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"{file} ")) from None
    if not isinstance(info, dict):
        raise ValueError(f"it is {short(info)}, expected a table")
    versions = info.get("versions")
    if isinstance(made_by := info.get("format"), int) and made_by > FORMAT:
        maker = versions.get("rlkit") if isinstance(versions, dict) else None
        raise UserError(
            f"run {file.parent} was made by rlkit {maker}, "
            f"with a layout newer than this version {__version__} reads: update rlkit"
        )
    info = {**MISSING, **info}
    verb = info.get("verb", "train")
    if not isinstance(verb, str) or verb not in NOUNS:
        raise ValueError(f"verb is {short(verb)}, expected {' or '.join(NOUNS)}")
    who, what = NOUNS[verb]
    for name, kind in {"format": int, who: str, what: str, **INFO}.items():
        value = info.get(name)
        if value is None and name not in ("format", who, "status", *MISSING):
            continue
        right = isinstance(value, int | float if kind is float else kind) and (kind is bool or value is not True)
        if not (right and (not isinstance(value, str) or value.isprintable()) and _is_sound(value)):
            raise ValueError(f"{name} is {short(value)}, expected {WORDS[kind]}")
    return info


WORDS = {str: "a line of text", int: "a whole number", float: "a number", dict: "a table", bool: "true or false"}


def _is_sound(value: object) -> bool:
    """Whether a number is none below 0, infinite or beyond 64 bits; and a table one of texts."""
    if isinstance(value, dict):
        return all(isinstance(item, str) and item.isprintable() for item in value.values())
    return not isinstance(value, int | float) or 0 <= value < 2**63


@contextmanager
def resumable(directories: Sequence[RunDirectory]) -> Iterator[None]:
    """Say how the runs that failed go on, where a file could not be written.

    Raises:
        UserError: a file could not be written, as the disk is full.
    """
    try:
        yield
    except (WriteError, OSError) as error:
        if isinstance(error, OSError) and error.strerror not in FULL and not _inside(error.filename, directories):
            raise
        name = getattr(error, "filename", None) or "a file of the run"
        text = f"{name} cannot be written: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise unwritten(text, directories) from error


def _inside(name: object, directories: Sequence[RunDirectory]) -> bool:
    """Whether a file's name is one in the folder of one of some runs."""
    return isinstance(name, str | bytes) and any(Path(os.fsdecode(name)).is_relative_to(d.path) for d in directories)


def unwritten(text: str, directories: Sequence[RunDirectory]) -> UserError:
    """The error for a file that could not be written, with the commands that go on with the runs that it has ended."""
    failed = [d for d in directories if not d.prepared and d.info["status"] in ("failed", "running")]
    if gone := [str(d.path) for d in failed if not d.path.exists()]:
        text += f"; {' and '.join(gone)} is gone, and what was learned with it"
    left = [d for d in failed if d.path.exists()]
    kept = [step for d in left for step in digests.whole_steps(d.checkpoints)[:1]]
    if kept and "checkpoint" not in text:
        text += f"; the last good checkpoint is of step {' and '.join(map(str, kept))}"
    ways = " and ".join(shlex.join(["rlkit", d.verb, "--resume", str(d.path)]) for d in left)
    first = "make room" if any(words in text for words in FULL) else "make it writable"
    return UserError(f"{text}; {first} and go on with: {ways}" if ways else text)


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
    its folder is removed at the end, also by Ctrl-C, SIGTERM and SIGHUP. After SIGKILL it stays until the next run is
    made, and the run can be begun again from there.

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
        with stopping(interrupt):
            parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(parent)
            path = _hidden(parent, f"{stamp}-seed{seed}")
            made = RunDirectory(path, info)
            yield made
    except KeyboardInterrupt:
        if path is None or not path.exists():
            raise
        raise KeyboardInterrupt("before the first checkpoint: nothing is kept") from None
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

YOUNG = 1.0
"""Seconds after which a file's part in a run that this process holds is nobody's; one of an evaluation may be."""


def _is_hidden(path: Path) -> bool:
    """Whether a folder is one in which a run is prepared."""
    return path.name.startswith(".") and path.name.endswith(PART)


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
        if folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(OSError, UserError):
            if time.time() - folder.stat().st_mtime > LEFT:
                with RunDirectory(folder, {"format": FORMAT, "agent": "", "env": ""}).lock():
                    shutil.rmtree(folder, ignore_errors=True)


BEGUN = "begun.json"
"""The run.json of a run that has no place yet."""


def anything(run: RunDirectory) -> None:
    """No reason to pass a run over."""


def untrained(run: RunDirectory) -> str | None:
    """Why an agent or a model cannot be loaded from a run; None if it can."""
    saved = steps_in(run.checkpoints) or steps_in(run.checkpoints / "best")
    return None if saved else "it has no checkpoint"


def unmeasured(run: RunDirectory) -> str | None:
    """Why a run has nothing to plot; None if it has."""
    files = [run.path / name for name in ("metrics.csv", "evaluations.csv")]
    rows = any(read_bytes(file, MOST_DATA).count(b"\n") > 1 for file in files if file.is_file())
    return None if rows else "it has no row of metrics yet"


def find(
    path: str | Path,
    unfit: Callable[[RunDirectory], str | None] = anything,
    *,
    verb: str | None = None,
    say: Callable[[str], None] | None = None,
    begun: bool = False,
) -> RunDirectory:
    """The run at a path, or below it the newest one that serves.

    Args:
        path: a run's folder, or one that holds runs.
        unfit: why a run below the folder does not serve, or None: `untrained` where a checkpoint is needed.
        verb: that made the run; None for any.
        say: told which newer runs were passed over, and why.
        begun: take one too that was killed before its first checkpoint.

    Raises:
        UserError: there is no such run.
    """
    path = path_argument("run", path)
    if not path.exists():
        siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = f": there is {', '.join(siblings[:6])}" if siblings else ""
        raise UserError(f"run {path} does not exist{hint}")
    if path.is_dir() and not (path / "run.json").exists():
        below = runs_below(path, begun=begun)[::-1]
        if below:
            return _newest(path, below, unfit, verb, say)
    found = RunDirectory(path)
    found.check_files()
    return found


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
        why = other or (None if run.prepared else unfit(run))
        if why is None:
            if len(passed) > SAID:
                passed[SAID:] = [f"{len(passed) - SAID} more newer runs are passed over"]
            if say:
                for text in passed:
                    say(text)
            run.check_files()
            return run
        passed.append(f"the newer run {run.path} is passed over: {why}")
    if verb is not None:
        below[0].require(verb)
    raise UserError(f"no run below {path} serves: of the newest, {below[0].path}, {unfit(below[0])}")


SAID = 3
"""Most runs passed over that are named."""


def runs_below(
    root: Path, broken: Callable[[Path, str], None] | None = None, *, begun: bool = False
) -> list[RunDirectory]:
    """Every run under a folder, the oldest first.

    Args:
        root: the folder.
        broken: told of each folder with a run.json that is no run, and why.
        begun: those too that were killed before their first checkpoint.
    """
    found = []
    for place in sorted(Path(folder) for folder, _, files in os.walk(root) if {"run.json", BEGUN} & {*files}):
        if _is_hidden(place) and not begun:
            continue  # not a run yet
        try:
            run = RunDirectory(place)
            if not run.prepared or run.status == "killed":
                found.append(run)
        except UserError as error:
            if broken:
                broken(place, str(error))
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
    folder = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    inside = (folder.parent / ".git").exists()
    return result.stdout.strip() or None if inside and result.returncode == 0 else None
