"""Every command and block of docs/your-env.md works as it stands there, in their order, by the installed command."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "your-env.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:`(\w+\.py)`[^`]*)?^```(python|sh)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMAND = "import sys; from rlkit.cli import main; sys.path.remove(''); sys.argv[0] = 'rlkit'; main()"
"""The command `rlkit`, which does not look into the current folder as ``python -m rlkit`` does."""


def call(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_block_works_in_their_order(tmp_path: Path) -> None:
    said = []
    for name, kind, block in BLOCKS:
        if kind == "sh":
            for line in block.splitlines():
                program, *words = shlex.split(line)
                assert program == "rlkit"
                said.append(call([sys.executable, "-c", COMMAND, *words], tmp_path))
        else:
            (tmp_path / (name or "block.py")).write_text(block)
            said.append("" if name else call([sys.executable, "block.py"], tmp_path))
    assert [name for name, *_ in BLOCKS if name] == ["rooms.py", "wrapped.py"]
    checked, evaluated, python = said[1], said[3], said[6]
    assert checked == "", "check_env finds nothing"
    # from the middle of 7 cells, one to the left or right: 2 to 4 steps to the end, each -0.01
    assert 0.96 <= float(re.findall(r"mean return ([\d.]+)", evaluated)[0]) <= 1.0
    assert 0.96 <= float(python) <= 0.98
    assert (tmp_path / "hall.gif").stat().st_size > 500


def test_the_module_of_an_id_is_found_in_the_current_folder_only_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "rooms.py").write_text(next(block for name, _, block in BLOCKS if name == "rooms.py"))
    code = "import os, sys; sys.path.remove(''); from rlkit import envs; spec = envs.find('{}'); found = {} in sys.path"
    for env, here in (("CartPole-v1", False), ("rooms:Hall-v0", True)):
        call([sys.executable, "-c", code.format(env, "os.getcwd()") + f"; assert found is {here}"], tmp_path)
    with pytest.raises(AssertionError, match=r"the module 'halls' cannot be imported \(No module named 'halls'\)"):
        call([sys.executable, "-c", code.format("halls:Hall-v0", 0)], tmp_path)
