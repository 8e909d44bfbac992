"""The repository's rooms, who imports whom, and what an import costs."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agents", "envs", "experiments")
FOLDERS = {".ci", "agents", "docs", "envs", "experiments", "rlkit", "tests"}
FILES = {".gitignore", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml", "setup.cfg"}

BELOW = {
    *("networks", "exact", "learning", "interaction", "export", "data", "serving", "web", "runs", "replay"),
    *("pictures", "loops", "supervised", "distributed", "agents", "envs"),
}
"""The rooms below the api."""

MAY_IMPORT: dict[str, set[str]] = {
    "ground": set(),
    **{room: set() for room in ("networks", "exact", "learning", "interaction", "export")},
    **{room: set() for room in ("data", "serving", "web", "runs")},
    "replay": {"interaction", "learning"},
    "pictures": {"exact", "interaction", "runs"},
    "loops": {"replay", "runs", "interaction", "learning", "networks.layers", "exact.sampling"},
    "supervised": {"loops.base", "runs", "networks", "learning.optimizers", "export", "data"},
    "distributed": {"loops", "replay", "runs", "interaction", "learning"},
    "agents": {"learning", "networks", "exact"},
    "envs": {"interaction", "exact", "pictures"},
    "api": BELOW,
    **{room: BELOW | {"api"} for room in ("cli", "experiments", "testing")},
}
"""A room, and the rooms or modules that it may import beside itself and the ground."""

NOT_YET = {
    "rlkit.api.agent_run": ["DQNConfig", "Tabular", "TabularConfig"],
    "rlkit.api.export_reference": ["DRQN", "Tabular"],
    "rlkit.api.policy_models": ["Tabular"],
    "rlkit.api.session": ["Chains", "DQNConfig", "PQNConfig", "Tabular", "TabularConfig"],
    "rlkit.api.training": ["DQNConfig"],
}
"""Classes of agents/ that a module of the api imports still, where an agent is asked of what class it is.

The list may only get shorter: whoever starts, evaluates or exports a run is to know an agent by what all agents have.
"""


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
    """The room that a module of the package is in; rlkit itself is the api's front door."""
    first = module.split(".")[1] if "." in module else "api"
    if first == "__main__":
        return "cli"
    return first if first in MAY_IMPORT else "ground"


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
                func=ast.Attribute(attr="import_module" | "files") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


@cache
def known() -> frozenset[str]:
    """The dotted names of all modules."""
    return frozenset(modules())


def owner(name: str) -> str:
    """The module that a dotted name is, or that it is defined in."""
    while name not in known() and "." in name:
        name = name.rpartition(".")[0]
    return name


def allowed(module: str, name: str) -> bool:
    """Whether a module may import a name of rlkit."""
    here, target = room(module), owner(name)
    there, part = room(target), target.removeprefix("rlkit.")
    return there in ("ground", here) or there in MAY_IMPORT[here] or part in MAY_IMPORT[here]


def forbidden(module: str, source: str, *, package: bool = False) -> list[str]:
    """The imports of a module that its room may not make."""
    here = room(module)
    wrong = []
    for line, name in imports(module, source, package=package):
        top = name.split(".")[0]
        if top in ROOMS:
            wrong.append(f"{module}:{line} imports {name}, which is rlkit.{name}")
        elif top == "rlkit" and not allowed(module, name):
            wrong.append(f"{module}:{line} ({here}) imports {name} ({room(owner(name))})")
    return wrong


def sources() -> Iterator[tuple[str, str, bool]]:
    """Each module's name, its text, and whether it is a package."""
    for name, path in modules().items():
        yield name, path.read_text(encoding="utf-8"), path.name == "__init__.py"


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """Modules of which each imports the one before it, the first and the last the same; empty if there are none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def classes_of_agents(module: str, source: str, *, package: bool = False) -> set[str]:
    """The classes of agents/ that a module imports, by name or through a module of theirs."""
    inside = {name for _, name in imports(module, source, package=package) if name.startswith("rlkit.agents")}
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id=known_as), attr=name):
                inside |= {f"{other}.{name}" for other in list(inside) if other.rpartition(".")[2] == known_as}
    found = set()
    for name in inside:
        module, _, leaf = name.rpartition(".")
        if owner(name) == module and any(
            isinstance(node, ast.ClassDef) and node.name == leaf
            for node in ast.parse(modules()[module].read_text(encoding="utf-8")).body
        ):
            found.add(leaf)
    return found


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
    wrong = [arrow for name, source, package in sources() for arrow in forbidden(name, source, package=package)]
    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_table() -> None:
    folders = {name.split(".")[1] for name, path in modules().items() if path.name == "__init__.py" and "." in name}
    assert folders <= set(MAY_IMPORT)


def test_no_module_imports_itself_by_way_of_others() -> None:
    arrows = {
        name: {owner(other) for _, other in imports(name, source, package=package) if other.split(".")[0] == "rlkit"}
        for name, source, package in sources()
    }
    found = circle({name: others - {name} for name, others in arrows.items()})
    assert not found, " imports ".join(reversed(found))


def test_the_api_and_the_loops_know_no_agents_class() -> None:
    found = {
        name: sorted(classes)
        for name, source, package in sources()
        if room(name) in ("api", "loops") and (classes := classes_of_agents(name, source, package=package))
    }
    assert found == NOT_YET, "NOT_YET may only get shorter"


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("source", "classes"),
    [
        ("from rlkit.agents.dqn.dqn import DQN", {"DQN"}),
        ("def f():\n    from rlkit.agents.tabular.tabular import Tabular", {"Tabular"}),
        ("from rlkit.agents.dqn import dqn\nmake = dqn.DQN", {"DQN"}),
        ("from rlkit.agents.planning.planners import PLANNERS, solve", set()),
        ("from rlkit.agents.planning import planners\nplanners.solve(0)", set()),
        ("from rlkit import agents\nagents.agent_class('dqn')", set()),
    ],
)
def test_a_class_of_agents_is_found(source: str, classes: set[str]) -> None:
    assert classes_of_agents("rlkit.api.training", source) == classes


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rlkit.config", "import rlkit.agents"),
        ("rlkit.learning.td", "import rlkit.agents"),
        ("rlkit.learning.td", "from rlkit import agents"),
        ("rlkit.learning.td", "from .. import envs"),
        ("rlkit.learning.td", "from ..experiments import presets"),
        ("rlkit.learning.td", "import rlkit.cli.train"),
        ("rlkit.learning.td", "from rlkit import train"),
        ("rlkit.learning.td", "def f():\n    from rlkit.agents.dqn.dqn import DQN"),
        ("rlkit.learning.td", "if TYPE_CHECKING:\n    from rlkit.envs.lookup import names"),
        ("rlkit.learning.td", "import importlib\nimportlib.import_module('rlkit.agents')"),
        ("rlkit.agents.dqn.dqn", "import rlkit.envs.finite as finite"),
        ("rlkit.agents.dqn.dqn", "from ... import envs"),
        ("rlkit.agents.dqn.dqn", "from ...api.training import train"),
        ("rlkit.agents.dqn.dqn", "from rlkit.loops.base import Loop"),
        ("rlkit.agents.dqn.dqn", "import envs"),
        ("rlkit.envs.finite", "class A:\n    def f(self):\n        from rlkit import agents"),
        ("rlkit.envs.finite", "from rlkit.experiments import presets"),
        ("rlkit.loops.base", "from rlkit.networks.q_networks import q_network"),
        ("rlkit.supervised.training", "from rlkit.loops.off_policy import HostLoop"),
        ("rlkit.api.training", "from rlkit.cli import main"),
        ("rlkit.experiments.studies.seeds", "from ...cli import main"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(forbidden(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source", "package"),
    [
        ("rlkit", "NAMES = {'train': 'rlkit.api.training'}", True),
        ("rlkit.learning.td", "import numpy\nfrom rlkit.version import __version__\nfrom .. import errors", False),
        ("rlkit.agents", "from .dqn import dqn\nfrom .dqn.config import DQNConfig\nfrom ..learning import td", True),
        ("rlkit.agents.dqn.dqn", "from rlkit.learning import td\nfrom rlkit.agents.dqn.config import DQNConfig", False),
        ("rlkit.loops.acting", "from rlkit.networks.layers import Dueling", False),
        ("rlkit.supervised.training", "from rlkit.loops.base import Loop", False),
        (
            "rlkit.api.training",
            "from rlkit import agents, envs\nfrom . import presets\nfrom rlkit.runs import run_directory",
            False,
        ),
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
