"""What the wheel and the source archive hold, and that rlkit works however it is installed.

Nothing is downloaded: packages are built with the environment's own setuptools, and installed without their
dependencies into a new virtual environment that sees the dependencies of the one that runs the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agents", "envs", "experiments")


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed; its stdout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COVERAGE_PROCESS_START")}
    outcome = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def checkout(destination: Path, *, links: bool = True) -> Path:
    """Copy what git has or would add; without links, as a clone is where none can be made (they are text)."""
    listed = call("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink() and not links:
            target.write_text(str(source.readlink()), encoding="utf-8")
        elif source.exists():
            shutil.copy2(source, target, follow_symlinks=False)
    return destination


def expected() -> Counter[str]:
    """Each file that an installed rlkit has, by its path, once."""
    paths = ["rlkit/py.typed"]
    paths += [f"{path.relative_to(ROOT)}" for path in (ROOT / "rlkit").glob("*.py")]
    for package in sorted({path.parent for path in (ROOT / "rlkit").glob("*/__init__.py")}):
        if package.name not in ROOMS:
            paths += [f"{path.relative_to(ROOT)}" for path in package.rglob("*.py")]
    paths += [f"{path.relative_to(ROOT)}" for path in (ROOT / "rlkit" / "export").glob("*.mjs")]
    for room in ROOMS:
        paths += [f"rlkit/{path.relative_to(ROOT)}" for path in (ROOT / room).rglob("*.py")]
    for folder, kind in (("experiments/studies", "*.mjs"), ("rlkit/web/page", "**/*")):
        files = [path.relative_to(ROOT) for path in (ROOT / folder).glob(kind) if path.is_file()]
        assert files
        paths += [f"{file}" if file.parts[0] == "rlkit" else f"rlkit/{file}" for file in files]
    presets = [f"{path.relative_to(ROOT)}" for path in (ROOT / "rlkit/api/presets").rglob("*.toml")]
    assert presets
    return Counter(paths + presets)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    source = checkout(folder / "source")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=folder)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A new virtual environment that sees this one's packages, but not its rlkit."""
    folder = tmp_path / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=tmp_path)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def install(environment: Path, *what: str | Path) -> None:
    """Install without dependencies, downloads or what is installed outside the environment."""
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    interpreter = environment / "bin" / "python"
    call(
        sys.executable,
        "-m",
        "pip",
        "--python",
        interpreter,
        "install",
        *options,
        *what,
        cwd=environment.parent,
    )


def assert_works(environment: Path, home: Path) -> None:
    """The command and every room answer, from a directory that has nothing to do with rlkit, from `home`."""
    elsewhere = environment.parent / "elsewhere"
    elsewhere.mkdir()
    command = environment / "bin" / "rlkit"
    assert "0.1.0" in call(command, "--version", cwd=elsewhere)
    assert "dqn" in call(command, "list", "agents", cwd=elsewhere)
    assert "CartPole-v1" in call(command, "list", "presets", cwd=elsewhere)
    rooms = "rlkit.envs, rlkit.agents, rlkit.experiments.studies, rlkit.experiments.benchmarks"
    names = f"rlkit.cli, rlkit.export, rlkit.serving, {rooms}"
    files = call(
        environment / "bin" / "python",
        "-c",
        f"import {names}\nfor module in {names}, rlkit: print(module.__file__)",
        cwd=elsewhere,
    )
    assert all(Path(file).resolve().is_relative_to(home.resolve()) for file in files.split())


def test_wheel_holds_each_module_and_preset_once(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    metadata = {name for name in names if name.startswith("rlkit_keras-0.1.0.dist-info/")}
    assert Counter(name for name in names if name not in metadata) == expected()
    assert "rlkit_keras-0.1.0.dist-info/licenses/LICENSE" in metadata
    assert "rlkit_keras-0.1.0.dist-info/entry_points.txt" in metadata


def test_source_archive_holds_each_file_once_where_the_repository_has_it(distributions: Path) -> None:
    (source,) = distributions.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        members = [member.name.partition("/")[2] for member in archive if member.isfile()]
        assert not [member.name for member in archive if member.issym() or member.islnk()]
    folders = ("rlkit", *ROOMS)
    shipped = Counter(name for name in members if name.split("/")[0] in folders)
    assert shipped == Counter(
        name.removeprefix("rlkit/") if name.split("/")[1] in ROOMS else name for name in expected()
    )
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "docs/description.md"} <= set(members)


def test_what_an_index_page_shows_needs_no_file_beside_it(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        shown = archive.read(name).decode().partition("\n\n")[2]
    assert shown.strip() == (ROOT / "docs" / "description.md").read_text(encoding="utf-8").strip()
    assert "](" not in shown
    assert "<img" not in shown
    (python,) = re.findall(r"```python\n(.*?)```", shown, re.DOTALL)
    assert python in (ROOT / "README.md").read_text(encoding="utf-8"), "where a test runs it"


def test_wheel_works(distributions: Path, environment: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    install(environment, wheel)
    assert_works(environment, home=environment)


def test_install_from_the_folder_works(environment: Path, tmp_path: Path) -> None:
    install(environment, checkout(tmp_path / "source"))
    assert_works(environment, home=environment)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no-links"])
def test_editable_install_works(environment: Path, tmp_path: Path, links: bool) -> None:
    source = checkout(tmp_path / "source", links=links)
    install(environment, "--editable", source)
    assert_works(environment, home=source)
