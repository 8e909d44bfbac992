"""The repository's rooms, who imports whom, and what an import costs."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlkit

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agents", "envs", "experiments")
FOLDERS = {".ci", "agents", "docs", "envs", "experiments", "rlkit", "tests"}
FILES = {".gitignore", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml", "setup.cfg"}

MAY_IMPORT = {
    "core": {"core"},
    "agents": {"agents", "core"},
    "envs": {"envs", "core"},
    "experiments": {"experiments", "agents", "envs", "core"},
    "cli": {"cli", "experiments", "agents", "envs", "core"},
}
LAZY = set(rlkit.__all__) - {"__version__"}
"""Names of rlkit that stand for something in rlkit.experiments."""


def tracked(*options: str) -> list[str]:
    """What git lists of the repository, as paths relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *options], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [path for path in listed.split("\0") if path and os.path.lexists(ROOT / path)]


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, each under the folder that really holds it."""
    found = {}
    for folder, package in {"rlkit": "rlkit", **{room: f"rlkit.{room}" for room in ROOMS}}.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "rlkit" and parts[0] in ROOMS:
                continue  # a link, or what followed it
            name = ".".join((package, *parts)).removesuffix(".__init__")
            assert name not in found, f"{name} is on disk twice"
            found[name] = path
    return found


def room(module: str) -> str:
    """The room that a module of the package is in; rlkit.train and the like are experiments."""
    first = module.split(".")[1] if "." in module else ""
    if first in LAZY:
        return "experiments"
    if first in ("cli", "__main__"):
        return "cli"
    return first if first in ROOMS else "core"


def imports(module: str, source: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """Every import in a module, wherever it stands in it, as (line, absolute dotted name)."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                parts = module.split(".") if package else module.split(".")[:-1]
                parents = parts[: len(parts) - (level - 1)] if level else []
                origin = ".".join([*parents, *([base] if base else [])])
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def forbidden(module: str, source: str, *, package: bool = False) -> list[str]:
    """The imports of a module that its room may not make."""
    here = room(module)
    wrong = []
    for line, name in imports(module, source, package=package):
        top = name.split(".")[0]
        if top in ROOMS:
            wrong.append(f"{module}:{line} imports {name}, which is rlkit.{name}")
        elif top == "rlkit" and room(name) not in MAY_IMPORT[here]:
            wrong.append(f"{module}:{line} ({here}) imports {name} ({room(name)})")
    return wrong


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds this checkout's rlkit."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_top_level_is_the_five_folders_and_what_serves_them() -> None:
    paths = [path.split("/") for path in tracked()]
    assert {path[0] for path in paths if len(path) > 1} == FOLDERS
    assert {path[0] for path in paths if len(path) == 1} >= FILES


@pytest.mark.parametrize("name", ROOMS)
def test_links_in_the_core_point_to_the_rooms(name: str) -> None:
    link = ROOT / "rlkit" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


def test_setup_lists_every_package_and_no_other() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    on_disk = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert len(listed) == len(set(listed))
    assert set(listed) == on_disk
    for name, path in modules().items():
        assert path.parent / "__init__.py" in modules().values(), f"{name} is in a folder without __init__.py"


def test_modules_import_only_what_their_room_may() -> None:
    wrong = [
        arrow
        for name, path in modules().items()
        for arrow in forbidden(name, path.read_text(encoding="utf-8"), package=path.name == "__init__.py")
        if name
        != "rlkit"  # the front door names what the rooms have, for type checkers: test_api has that it loads none
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rlkit.td", "import rlkit.agents"),
        ("rlkit.td", "from rlkit import agents"),
        ("rlkit.td", "from . import envs"),
        ("rlkit.td", "from .experiments import presets"),
        ("rlkit.td", "import rlkit.cli.train"),
        ("rlkit.td", "from rlkit import train"),
        ("rlkit.td", "def f():\n    from rlkit.agents.dqn import DQN"),
        ("rlkit.td", "if TYPE_CHECKING:\n    from rlkit.envs import names"),
        ("rlkit.td", "import importlib\nimportlib.import_module('rlkit.agents')"),
        ("rlkit.agents.dqn", "import rlkit.envs.finite as finite"),
        ("rlkit.agents.dqn", "from .. import envs"),
        ("rlkit.agents.dqn", "from ..experiments.training import train"),
        ("rlkit.agents.dqn", "import envs"),
        ("rlkit.envs.finite", "class A:\n    def f(self):\n        from rlkit import agents"),
        ("rlkit.envs.finite", "from rlkit.experiments import presets"),
        ("rlkit.experiments.training", "from rlkit.cli import main"),
        ("rlkit.experiments.studies.seeds", "from ...cli import main"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(forbidden(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source", "package"),
    [
        ("rlkit", "NAMES = {'train': 'rlkit.experiments.training'}", True),
        ("rlkit.td", "import numpy\nfrom rlkit import __version__, config\nfrom . import errors", False),
        ("rlkit.agents", "from . import dqn\nfrom .dqn_config import DQNConfig\nfrom .. import td", True),
        ("rlkit.agents.dqn", "from rlkit import td\nfrom rlkit.agents.dqn_config import DQNConfig", False),
        ("rlkit.experiments.training", "from rlkit import agents, envs, run\nfrom . import presets", False),
        ("rlkit.cli.train", "from rlkit import train\nfrom rlkit.errors import UserError", False),
        ("rlkit.__main__", "from rlkit.cli import main", False),
    ],
)
def test_an_allowed_import_is_not_reported(module: str, source: str, package: bool) -> None:
    assert forbidden(module, source, package=package) == []


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_refuses_its_bare_name(name: str) -> None:
    outcome = python(f"import {name}")
    assert outcome.returncode == 1
    assert outcome.stderr.strip().endswith(f"ImportError: import rlkit.{name}, not {name}")


HEAVY = {"tensorflow", "keras", "gymnasium", "matplotlib"}


def test_importing_rlkit_loads_nothing_heavy() -> None:
    outcome = python("import sys, rlkit; rlkit.__version__, dir(rlkit); print(*sys.modules, sep='\\n')")
    assert outcome.returncode == 0, outcome.stderr
    assert not HEAVY & set(outcome.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY),
        (["--version"], HEAVY),
        (["train", "--help"], HEAVY - {"gymnasium"}),
        (["train", "dqn", "--help"], HEAVY - {"gymnasium"}),
        (["list", "agents"], HEAVY - {"gymnasium"}),
    ],
)
def test_a_command_that_computes_nothing_loads_nothing_heavy(arguments: list[str], heavy: set[str]) -> None:
    outcome = python(
        "import atexit, sys\n"
        "from rlkit.cli import main\n"
        "atexit.register(lambda: print('loaded', *sys.modules, file=sys.stderr))\n"
        f"sys.argv = ['rlkit', *{arguments!r}]\n"
        "main()"
    )
    printed, _, loaded = outcome.stderr.rpartition("loaded ")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout
    assert not printed
    assert "rlkit.cli" in loaded.split()
    assert not heavy & set(loaded.split())


def test_no_file_names_a_path_of_one_machine() -> None:
    path_of_one_machine = re.compile(r"(?<![\w.~/-])/(?:work|root)/|/tmp/" + "bash_jobs")
    assert path_of_one_machine.search("in /" + "work/main")
    found = [
        path
        for path in tracked("--cached", "--others", "--exclude-standard")
        if (ROOT / path).is_file()
        and path_of_one_machine.search((ROOT / path).read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
