"""The run directory: made once, found again, held by one process, and never half-written."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlkit import __version__
from rlkit.errors import UserError, WriteError
from rlkit.runs.digests import Manifest
from rlkit.runs.run_directory import (
    FORMAT,
    RunDirectory,
    create,
    find,
    preparing,
    replace_text,
    resumable,
    runs_below,
    unmeasured,
    untrained,
)

CONFIG = {"env": "CartPole-v1", "seed": 3, "gamma": 0.98, "hidden": [64, 64], "env_args": {"a": True}}


def new(root: Path, seed: int = 3, env: str = "CartPole-v1") -> RunDirectory:
    return create(root, "dqn", env, seed, CONFIG)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the time at which runs are made, seconds after 2030-01-02 03:04:05 UTC."""

    def set_time(seconds: int) -> None:
        moment = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)

        class Fixed(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Fixed:
                assert tz is datetime.UTC
                return cls.fromtimestamp(moment.timestamp(), tz)

        monkeypatch.setattr("rlkit.runs.run_directory.datetime", SimpleNamespace(datetime=Fixed, UTC=datetime.UTC))

    set_time(0)
    return set_time


# ---- made


@pytest.mark.usefixtures("at")
def test_a_new_run_is_named_for_its_env_agent_time_and_seed(tmp_path: Path) -> None:
    made = new(tmp_path / "runs")
    assert made.path == tmp_path / "runs" / "CartPole-v1" / "dqn" / "20300102T030405Z-seed3"
    assert made.checkpoints == made.path / "checkpoints"
    assert new(tmp_path, env="ALE/Pong-v5").path.parent == tmp_path / "ALE-Pong-v5" / "dqn"
    assert new(tmp_path, env="package:Env-v0").path.parent == tmp_path / "package-Env-v0" / "dqn"


def test_a_new_run_holds_its_config_and_how_it_came_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/rlkit", "train", "dqn", "--env", "Cart Pole"])
    made = new(tmp_path)
    assert tomllib.loads((made.path / "config.toml").read_text()) == {"agent": "dqn", **CONFIG}
    info = json.loads((made.path / "run.json").read_text())
    assert info == made.info
    assert info["command"] == "rlkit train dqn --env 'Cart Pole'"
    known = {
        "format": FORMAT,
        "agent": "dqn",
        "env": "CartPole-v1",
        "seed": 3,
        "status": "created",
        "step": 0,
    }
    assert {k: info[k] for k in known} == known
    assert info["versions"]["rlkit"] == __version__
    assert info["versions"]["python"].startswith("3.")
    assert {"tensorflow", "keras", "gymnasium", "numpy"} < set(info["versions"])
    assert sorted(f.name for f in made.path.iterdir()) == ["config.toml", "run.json"]


@pytest.mark.usefixtures("at")
def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    made = [new(tmp_path) for _ in range(12)]
    assert len({r.path for r in made}) == 12
    assert [r.path.name.partition("seed")[2] for r in made[:3]] == ["3", "3-2", "3-3"]
    assert [r.path for r in runs_below(tmp_path)] == [r.path for r in made], "the oldest first"
    assert find(tmp_path).path == made[-1].path


def test_a_root_that_cannot_hold_a_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a run cannot be made in .*file: Not a directory"):
        new(tmp_path / "file")
    with pytest.raises(UserError, match=r"a run cannot be made in .*file/deeper: Not a directory"):
        new(tmp_path / "file" / "deeper")
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold for root")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    made = new(tmp_path)
    made.path.chmod(0o500)
    made.path.parent.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"a run cannot be made in .*: Permission denied"):
            new(tmp_path)
        with pytest.raises(UserError, match="cannot be written to: Permission denied"), made.lock():
            pass
    finally:
        made.path.parent.chmod(0o700)
        made.path.chmod(0o700)


# ---- found


def test_a_run_is_found_by_its_path_or_a_folder_above(tmp_path: Path, at: Any) -> None:
    first = new(tmp_path)
    at(60)
    second = new(tmp_path, env="Acrobot-v1")
    at(30)
    third = new(tmp_path, seed=0)
    assert find(first.path).path == first.path
    assert find(tmp_path).path == second.path, "the newest, whichever its env"
    assert find(tmp_path / "CartPole-v1").path == third.path
    assert [r.path for r in runs_below(tmp_path)] == [first.path, third.path, second.path]
    assert find(second.path).info == second.info


def test_runs_below_passes_over_what_is_no_run(tmp_path: Path) -> None:
    made = new(tmp_path)
    for name, text in (
        ("broken", "{"),
        ("list", "[]"),
        ("later", json.dumps({**made.info, "format": FORMAT + 1})),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
        (tmp_path / name / "config.toml").write_text("")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text(json.dumps(made.info))
    assert [r.path for r in runs_below(tmp_path)] == [made.path]
    assert runs_below(tmp_path / "none") == []


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("")
    with pytest.raises(UserError, match=r"^run .*/emty does not exist: there is empty, text$"):
        find(tmp_path / "emty")
    with pytest.raises(UserError, match=r"^run .*/no/where does not exist$"):
        find(tmp_path / "no" / "where")
    with pytest.raises(UserError, match=r"empty is not a run: it has no run.json and config.toml"):
        find(tmp_path / "empty")
    with pytest.raises(UserError, match="text is not a run"):
        find(tmp_path / "text")
    with pytest.raises(UserError, match="gone does not exist"):
        RunDirectory(tmp_path / "gone")


@pytest.mark.parametrize("missing", ["run.json", "config.toml"])
def test_half_a_run_is_no_run(tmp_path: Path, missing: str) -> None:
    path = new(tmp_path).path
    (path / missing).unlink()
    with pytest.raises(UserError, match=r"is not a run: it has no run.json and config.toml"):
        find(path)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"3", b"null", b"{}", b"\xff\xfe", b'{"format": 1}',
        b'{"format": null, "agent": "dqn"}', b'{"format": "x", "agent": "dqn"}',
    ],
)  # fmt: skip
def test_an_unreadable_run_json_is_told(tmp_path: Path, content: bytes) -> None:
    path = new(tmp_path).path
    (path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json cannot be read: .+"):
        find(path)


def test_a_run_of_a_newer_layout_is_told(tmp_path: Path) -> None:
    made = new(tmp_path)
    made.update(format=FORMAT + 1, versions={"rlkit": "9.8.7"})
    with pytest.raises(UserError, match=rf"made by rlkit 9\.8\.7, .*{__version__}.*: update rlkit"):
        find(made.path)
    made.update(versions=None)
    with pytest.raises(UserError, match=r"made by rlkit .*: update rlkit"):
        find(made.path)


# ---- prepared


def test_a_run_has_no_folder_that_others_see_before_it_is_settled(tmp_path: Path) -> None:
    done = new(tmp_path)
    with preparing(tmp_path, "dqn", "CartPole-v1", 4) as made:
        made.update(status="running")
        (made.path / "checkpoints").mkdir()
        assert [r.path for r in runs_below(tmp_path)] == [done.path]
        assert find(tmp_path).path == done.path
        assert list(tmp_path.rglob("run.json")) == [done.path / "run.json"]
        with made.lock():
            made.settle(CONFIG)
            with pytest.raises(UserError, match="in use"), find(made.path).lock():
                pass
        assert made.path.name.endswith("seed4")
        assert (made.path / "checkpoints").is_dir()
        assert (find(made.path).info["status"], find(made.path).config()) == ("running", CONFIG)
    assert [r.path for r in runs_below(tmp_path)] == [done.path, made.path]


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_asks_to_stop_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def prepare() -> None:
        with preparing(tmp_path / "runs", "dqn", "CartPole-v1", 4) as made:
            made.begin(CONFIG)
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        prepare()
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


def test_a_run_that_was_killed_before_its_first_checkpoint_can_be_begun_again(tmp_path: Path, at: Any) -> None:
    older = saved(new(tmp_path))
    at(60)
    with preparing(tmp_path, "dqn", "CartPole-v1", 4) as made:
        made.update(status="running")
        made.begin(CONFIG)
        with made.lock():
            assert find(tmp_path, untrained, begun=True).path == older.path, "it is under way"
        left = find(tmp_path, untrained, begun=True)
        assert (left.path, left.prepared, left.config()) == (made.path, True, CONFIG)
        assert find(tmp_path, untrained).path == older.path, "there is nothing yet to evaluate"
        left.settle(CONFIG)
    assert find(tmp_path).path == made.path.with_name(made.path.name[1:].removesuffix(".part"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError, OSError])
def test_a_run_that_is_never_settled_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def prepare(root: Path) -> None:
        with preparing(root, "dqn", "CartPole-v1", 4) as made:
            (made.path / "checkpoints").mkdir()
            raise error

    with pytest.raises(error):
        prepare(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == [], "nor the folders that were made for it"
    done = new(tmp_path)
    with pytest.raises(error):
        prepare(tmp_path)
    assert list(done.path.parent.iterdir()) == [done.path]


def test_what_a_killed_process_was_preparing_is_removed_later(tmp_path: Path) -> None:
    parent = new(tmp_path).path.parent
    held, left, young = (parent / f".{name}.part" for name in ("held", "left", "young"))
    for folder in (held, left, young):
        folder.mkdir()
        (folder / "lock").touch()
        os.utime(folder, (0, 0) if folder != young else None)
    with (held / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        new(tmp_path)
    assert (held.exists(), left.exists(), young.exists()) == (True, False, True)


def saved(run: RunDirectory, step: int = 10) -> RunDirectory:
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / f"ckpt-{step}.index").touch()
    return run


def test_the_newest_run_is_the_newest_that_serves_and_the_others_are_told(tmp_path: Path, at: Any) -> None:
    good = saved(new(tmp_path))
    at(60)
    fitted = saved(create(tmp_path, "mlp", "digits", 0, CONFIG, verb="fit"))
    at(120)
    broken = new(tmp_path)
    said: list[str] = []
    assert find(tmp_path, untrained, say=said.append).path == fitted.path
    assert said == [f"the newer run {broken.path} is passed over: it has no checkpoint"]
    said.clear()
    assert find(tmp_path, untrained, verb="train", say=said.append).path == good.path
    assert said[1] == f"the newer run {fitted.path} is passed over: it is of the model mlp"
    assert find(broken.path, untrained).path == broken.path, "what is named is taken"
    with pytest.raises(UserError, match=f"no run below .* serves: of the newest, {broken.path}, it has no row of"):
        find(tmp_path, unmeasured)
    (good.path / "metrics.csv").write_text("step,loss\n")
    (fitted.path / "metrics.csv").write_text("step,loss\n1,0.5\n")
    said.clear()
    assert find(tmp_path, unmeasured, say=said.append).path == fitted.path
    for seed in range(9):
        at(200 + seed)
        new(tmp_path)
    said.clear()
    assert find(tmp_path, untrained, say=said.append).path == fitted.path
    assert len(said) == 4
    assert said[-1] == "7 more newer runs are passed over"


def test_a_killed_run_is_as_far_as_its_newest_checkpoint(tmp_path: Path) -> None:
    made = new(tmp_path)
    assert made.step == 0
    assert saved(made, 40).step == 40
    made.update(step=50)
    assert made.step == 50


# ---- changed


def test_updates_and_configs_come_back(tmp_path: Path) -> None:
    made = new(tmp_path)
    made.update(status="running", step=500)
    made.update(status="finished")
    again = find(made.path)
    assert again.info == made.info
    assert (again.info["status"], again.info["step"], again.info["env"]) == ("finished", 500, "CartPole-v1")
    assert again.config() == CONFIG
    again.write_config({**CONFIG, "steps": 7})
    assert find(made.path).config() == {**CONFIG, "steps": 7}
    assert tomllib.loads((made.path / "config.toml").read_text())["agent"] == "dqn"


def test_a_damaged_config_is_told(tmp_path: Path) -> None:
    made = new(tmp_path)
    (made.path / "config.toml").write_text("gamma = ")
    with pytest.raises(UserError, match=r"config\.toml is not valid TOML"):
        made.config()


def test_a_config_that_is_not_as_it_was_is_taken_from_the_checkpoint(tmp_path: Path) -> None:
    made = new(tmp_path)
    made.checkpoints.mkdir()
    Manifest(10, {}, texts={"config.toml": made.config_text(CONFIG)}).write(made.checkpoints)
    said: list[str] = []
    assert made.config(said.append) == CONFIG
    assert said == []
    path = made.path / "config.toml"
    for damage in (lambda text: text.replace("0.98", "0.99"), lambda text: text[:5], lambda text: ""):
        path.write_text(damage(made.config_text(CONFIG)))
        assert made.config(said.append) == CONFIG
        assert said.pop() == f"{path} is damaged or was edited: the copy in its newest checkpoint is taken"
    (made.checkpoints / "digests-10.json").write_text("damaged")
    assert made.config(said.append) == {}, "there is no copy that holds"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Every write beyond a file's first bytes fails, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("when", ["writing", "renaming"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    made = new(tmp_path)
    before = {name: (made.path / name).read_bytes() for name in ("run.json", "config.toml")}

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    if when == "renaming":
        monkeypatch.setattr(Path, "replace", refuse)
        monkeypatch.setattr(os, "replace", refuse)
    writes: list[Callable[[], None]] = [
        lambda: made.update(step=9),
        lambda: made.write_config({"gamma": 0.5}),
    ]
    for write in writes:
        with (
            largest_file(4 if when == "writing" else 2**20),
            pytest.raises(OSError, match=r"too large|Input/output"),
        ):
            write()
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in made.path.iterdir()} == before


def test_a_run_that_cannot_be_written_is_told_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a run cannot be made in .*: File too large"), largest_file(200):
        new(tmp_path)  # config.toml is smaller than that, run.json larger
    assert list(tmp_path.iterdir()) == []


def test_a_text_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("old")
    old = path.open()
    replace_text(path, "new €")
    assert path.read_text(encoding="utf-8") == "new €"
    assert old.read() == "old", "a reader of the old file is not disturbed"
    old.close()
    assert [file.name for file in tmp_path.iterdir()] == ["text"]


# ---- held

HOLDER = """
import sys, time
from pathlib import Path
from rlkit.runs.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
print("released", flush=True)
"""


@pytest.mark.parametrize("end", ["exit", "kill -9"])
def test_a_run_is_held_by_one_process_until_it_ends(tmp_path: Path, end: str) -> None:
    made = new(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(made.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"run .*-seed3 is in use by another process"), made.lock():
            pass
        assert find(made.path).info["step"] == 0, "reading needs no lock"
        if end == "exit":
            holder.stdin.close()
            assert holder.stdout.readline() == "released\n"
        else:
            holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=30)
    with made.lock():
        pass


def test_a_lock_ends_with_its_block_also_by_an_error(tmp_path: Path) -> None:
    made = new(tmp_path)
    with pytest.raises(KeyError), made.lock():
        raise KeyError
    with made.lock(), pytest.raises(UserError, match="in use"), find(made.path).lock():
        pass
    with made.lock():
        pass


def test_how_a_run_ended_is_written_where_its_folder_was_renamed_to(tmp_path: Path) -> None:
    made, said = new(tmp_path), list[str]()
    before, moved = made.path, made.path.with_name("moved")
    with made.lock():
        made.path.rename(moved)
        made.end(said.append, status="failed", step=30)
    assert said == [f"the run's folder {before} was renamed to {moved}"]
    assert find(moved).info["status"] == "failed"
    assert made.path == moved


def test_a_run_whose_folder_is_gone_says_so(tmp_path: Path) -> None:
    made, said = new(tmp_path), list[str]()
    path = made.path

    def train() -> None:
        with resumable([made]), made.lock():
            shutil.rmtree(path)
            made.end(said.append, status="failed", step=30)
            raise WriteError("rows cannot be written")

    with pytest.raises(UserError, match=f"rows cannot be written; {path} is gone, and what was learned with it$"):
        train()
    assert said == [
        f"how the run ended cannot be written to {path / 'run.json'} (No such file or directory): it has no folder any "
        "more"
    ]
    assert not path.exists()


def test_a_lock_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    made = new(tmp_path)
    (made.path / "lock").mkdir()
    with pytest.raises(UserError, match=r"run .*-seed3 cannot be written to: Is a directory"), made.lock():
        pass
