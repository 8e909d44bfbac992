"""The run directory: the unit that commands hand to each other."""

from __future__ import annotations

import datetime
import fcntl
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w

from rlkit import __version__
from rlkit.config import read_toml
from rlkit.errors import UserError
from rlkit.files import home, write_whole

NOUNS = {"train": ("agent", "env"), "fit": ("model", "data")}
"""For each verb that makes runs, what learns and what from, as run.json calls them."""

FORMAT = 1
"""Version of the run directory's layout; a run of a later one is refused."""


class RunDirectory:
    """An existing run's folder: config.toml, run.json, metrics and checkpoints.

    Raises:
        UserError: the folder is missing, is no run, or was made by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise UserError(f"run {path} does not exist")
        if not (path / "run.json").is_file() or not (path / "config.toml").is_file():
            raise UserError(f"{path} is not a run: it has no run.json and config.toml")
        try:
            self.info: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
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
        replace_text(self.path / "run.json", json.dumps(self.info, indent=2) + "\n")

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
    """Make a new run's folder, root/ENV/AGENT/TIME-seedN, or root/DATA/MODEL/TIME-seedN for the verb fit.

    Raises:
        UserError: the folder cannot be made.
    """
    root = home(root)
    now = datetime.datetime.now(datetime.UTC)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    parent = root / env.replace("/", "-").replace(":", "-") / agent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        path, count = parent / f"{stamp}-seed{seed}", 1
        while not _mkdir(path):
            count += 1
            path = parent / f"{stamp}-seed{seed}-{count}"
    except OSError as error:
        raise UserError(f"a run cannot be made in {root}: {error.strerror}") from None
    who, what = NOUNS[verb]
    try:
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
        replace_text(path / "config.toml", tomli_w.dumps({who: agent, **config}))
        replace_text(path / "run.json", json.dumps(info, indent=2) + "\n")
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise UserError(f"a run cannot be made in {root}: {error.strerror}") from None
    return RunDirectory(path)


def _mkdir(path: Path) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def find(path: Path) -> RunDirectory:
    """The run at a path, or the newest run below it; UserError where there is neither."""
    path = home(path)
    if not path.exists():
        siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = f": there is {', '.join(siblings[:6])}" if siblings else ""
        raise UserError(f"run {path} does not exist{hint}")
    if path.is_dir() and not (path / "run.json").exists():
        below = runs_below(path)
        if below:
            return below[-1]
    return RunDirectory(path)


def runs_below(root: Path) -> list[RunDirectory]:
    """Every run under a folder, the oldest first."""
    found = []
    for file in root.rglob("run.json"):
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
