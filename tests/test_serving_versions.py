"""Versions that come, go and break while the server runs, and the command."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

from rlkit.api import exporting
from rlkit.cli.serve import exported, run_at
from rlkit.runs.run_directory import RunDirectory
from rlkit.serving import models
from rlkit.serving.errors import ServingError
from rlkit.serving.folders import listing, versions_in
from rlkit.serving.models import Model

Said = Any


class Number(tf.Module):
    """Its output is its version's number, for each row."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = tf.Variable(float(number))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "observation")])
    def serving_default(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"number": observation[:, 0] + self.number}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, int], None]:
    """Makes a version: saved once, and copied from then on."""
    kept = tmp_path_factory.mktemp("kept")

    def make(base: Path, number: int) -> None:
        if not (kept / str(number)).exists():
            module = Number(number)
            tf.saved_model.save(module, str(kept / str(number)), {"serving_default": module.serving_default})
        part = base / f".{number}.part"
        shutil.copytree(kept / str(number), part)
        part.rename(base / str(number))

    return make


def model(path: Path, keep: int = 1, **labels: int) -> Model:
    return Model("m", path, keep, labels, lambda _: None)


def answered(served: Model, number: int | None = None) -> float:
    outputs = served.find("m", number).signatures["serving_default"]({"observation": np.zeros((1, 4), np.float32)})
    return float(outputs.arrays["number"][0])


# ---- versions


def test_folders_are_read_as_versions(tmp_path: Path) -> None:
    for name in ("1", "00000123", "abc", "-1", "1.5", ".2.part", "٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("no folder")
    assert sorted(versions_in(tmp_path)) == [1, 123]


def test_one_version_may_be_served_by_itself(tmp_path: Path, made: Callable[[Path, int], None]) -> None:
    made(tmp_path, 5)
    served = model(tmp_path / "5")
    served.poll(False)
    assert list(served.loaded) == [5]
    (tmp_path / "5").rename(tmp_path / "policy")
    assert list(versions_in(tmp_path / "policy")) == [1]


def test_a_new_version_takes_the_place_of_the_old_one(tmp_path: Path, made: Callable[[Path, int], None]) -> None:
    made(tmp_path, 1)
    served = model(tmp_path)
    served.poll(False)
    assert answered(served) == 1
    made(tmp_path, 2)
    served.poll()
    assert list(served.loaded) == [1]  # it is seen for the first time: it may still grow
    served.poll()
    assert list(served.loaded) == [2]
    assert answered(served) == 2
    assert {n: s.state for n, s in served.states("m").items()} == {2: "AVAILABLE", 1: "END"}
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(m, 1\)"):
        served.find("m", 1)


def test_a_version_is_unloaded_after_its_last_answer(tmp_path: Path, made: Callable[[Path, int], None]) -> None:
    made(tmp_path, 1)
    served = model(tmp_path)
    served.poll(False)
    old = served.find("m")
    old.active = 1  # as while a request waits
    made(tmp_path, 2)
    served.poll()
    polling = threading.Thread(target=served.poll)
    polling.start()
    ends = time.monotonic() + 20
    while served.status[1].state != "UNLOADING" and time.monotonic() < ends:
        time.sleep(0.01)
    assert answered(served) == 2  # new requests are served meanwhile
    time.sleep(0.05)
    assert polling.is_alive()
    old.active = 0
    polling.join(10)
    assert served.status[1].state == "END"


@pytest.mark.parametrize(
    "part", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
@pytest.mark.parametrize("how", ["missing", "half"])
def test_a_version_that_is_not_whole_waits(
    tmp_path: Path, made: Callable[[Path, int], None], part: str, how: str
) -> None:
    for number in (1, 2):
        made(tmp_path, number)
    file = tmp_path / "2" / part
    whole = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[: len(whole) // 2])
    served = model(tmp_path)
    served.poll(False)
    served.poll()
    served.poll()
    assert answered(served) == 1
    assert (listing(tmp_path / "2") is None) == (how == "missing")
    if how == "half":
        assert served.status[2].state == "END"
        assert served.status[2].code.name != "OK"
    file.write_bytes(whole)
    served.poll()
    served.poll()
    assert answered(served) == 2


def test_versions_that_are_kept(tmp_path: Path, made: Callable[[Path, int], None]) -> None:
    for number in (1, 2, 3):
        made(tmp_path, number)
    served = model(tmp_path, 2, stable=1)
    served.poll(False)
    assert sorted(served.loaded) == [1, 2, 3]  # the newest two, and the one with a label
    made(tmp_path, 4)
    served.poll()
    served.poll()
    assert sorted(served.loaded) == [1, 3, 4]
    assert served.find("m", label="stable").number == 1


def test_a_folder_that_is_removed_takes_its_version_along(tmp_path: Path, made: Callable[[Path, int], None]) -> None:
    """So that the newest can be taken back; but what serves last stays."""
    made(tmp_path, 1)
    made(tmp_path, 2)
    served = model(tmp_path)
    served.poll(False)
    assert list(served.loaded) == [2]
    shutil.rmtree(tmp_path / "2")
    served.poll()
    assert list(served.loaded) == [2]  # until 1 is loaded again
    served.poll()
    assert list(served.loaded) == [1]
    shutil.rmtree(tmp_path / "1")
    served.poll()
    served.poll()
    assert answered(served) == 1


def test_a_copying_tools_temporary_file_is_no_shard(tmp_path: Path, made: Callable[[Path, int], None]) -> None:
    """Names that aws s3 cp and gsutil give to what they have in part; it ended the thread that looks for versions."""
    made(tmp_path, 1)
    folder = tmp_path / "1" / "variables"
    whole = (folder / "variables.data-00000-of-00001").read_bytes()
    for name in (
        "variables.data-00000-of-00001.6eF2bA1c",
        "variables.data-.part",
        "variables.data-0-of-1",
        "variables.data-",
    ):
        (folder / name).write_bytes(b"x" * 1000)
    assert listing(tmp_path / "1") is not None
    (folder / "variables.data-00000-of-00001").unlink()
    assert listing(tmp_path / "1") is None
    for name in ("variables.data-00001-of-00002", "variables.data-00000-of-00000"):
        (folder / name).write_bytes(whole)
        assert listing(tmp_path / "1") is None
    (folder / "variables.data-00000-of-00002").write_bytes(whole)
    for name in ("variables.data-00000-of-00000",):
        (folder / name).unlink()
    assert listing(tmp_path / "1") is not None


def test_the_watcher_outlives_whatever_happens(
    tmp_path: Path, made: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, counted each time, shown while it lasts, and over when it is over."""
    made(tmp_path, 1)
    said: list[str] = []
    served = Model("m", tmp_path, 1, {}, said.append)
    served.poll(False)
    told = len(said)

    def broken(path: Path) -> dict[int, Path]:
        raise RuntimeError("a kind that nobody thought of")

    monkeypatch.setattr(models, "versions_in", broken)
    stop = threading.Event()
    watcher = threading.Thread(target=served.watch, args=(stop, 0.01))
    watcher.start()
    try:
        ends = time.monotonic() + 20
        while served.failures < 3 and time.monotonic() < ends:
            time.sleep(0.01)
        assert served.failures >= 3
        assert "RuntimeError: a kind that nobody thought of" in served.trouble
        assert len(said) == told + 1
        assert "a kind that nobody thought of" in caplog.text
        monkeypatch.setattr(models, "versions_in", versions_in)
        made(tmp_path, 2)
        while list(served.loaded) != [2] and time.monotonic() < ends:
            time.sleep(0.01)
        assert list(served.loaded) == [2]
        assert watcher.is_alive()
    finally:
        stop.set()
        watcher.join(20)
    assert served.trouble == ""


# ---- the command


class Server:
    """`rlkit serve` in a process of its own."""

    def __init__(self, *words: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlkit", "serve", *map(str, words), "--port", "0", "--grpc-port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        told = self.process.stdout.readline() + self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1/models/\w+\ngRPC 127\.0\.0\.1:(\d+)\n", told)
        if found is None:
            self.process.kill()
            raise AssertionError(told + self.process.communicate()[1])
        self.port, self.grpc_port = int(found[1]), int(found[2])

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, made: Callable[[Path, int], None]) -> Path:
    folder = tmp_path_factory.mktemp("base")
    made(folder, 1)
    return folder


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[Server]:
    started = Server(base, "--versions", 1, "--poll", 0.05, "--batch-timeout", 300)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def numbers(server: Server, stop: threading.Event, into: list[int]) -> None:
    """Ask one request after the other on one connection; versions go into the list, 0 for a request that failed."""
    connection = server.connection()
    while not stop.is_set():
        connection.request("POST", "/v1/models/default:predict", '{"instances": [[0, 0, 0, 0]]}')
        response = connection.getresponse()
        answer = json.load(response)
        into.append(int(answer["predictions"][0]) if response.status == 200 else 0)
    connection.close()


def test_versions_change_under_load_without_a_failed_request(
    server: Server, base: Path, made: Callable[[Path, int], None]
) -> None:
    stop = threading.Event()
    lists: list[list[int]] = [[] for _ in range(4)]
    clients = [threading.Thread(target=numbers, args=(server, stop, into)) for into in lists]
    for client in clients:
        client.start()
    try:
        for number in (2, 3):
            made(base, number)
            ends = time.monotonic() + 30
            while lists[0][-1:] != [number] and time.monotonic() < ends:
                time.sleep(0.02)
    finally:
        stop.set()
        for client in clients:
            client.join(30)
    for found in lists:
        assert found == sorted(found)  # and so no 0 after the first
        assert set(found) >= {1, 3}
        assert 0 not in found


def test_sigterm_answers_what_was_taken_and_ends(server: Server) -> None:
    """A request waits 300 ms for others; the signal comes meanwhile."""
    listening = [c.laddr.ip for c in psutil.Process(server.process.pid).net_connections() if c.status == "LISTEN"]
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    idle = socket.create_connection(("127.0.0.1", server.port))
    connection = server.connection()
    connection.request("POST", "/v1/models/default:predict", '{"instances": [[0, 0, 0, 0]]}')
    time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("Connection") == "close"
    assert server.process.wait(20) == 0
    assert idle.recv(1) == b""
    idle.close()
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    assert server.process.stderr
    said = server.process.stderr.read()
    assert "version 3 of default is loaded" in said
    assert "version 1 of default is unloaded" in said
    assert "Traceback" not in said


def test_arguments_are_checked_before_tensorflow_is_loaded(tmp_path: Path) -> None:
    code = f"""
import sys
from rlkit.cli import main
try:
    main(["serve", {str(tmp_path)!r}])
except SystemExit as ended:
    print(ended.code, "tensorflow" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "2 False\n"
    assert "has no SavedModel version" in said.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["missing"], "missing is no folder: rlkit serve takes a run, a folder of versions or a SavedModel"),
        (["bare"], "bare has no SavedModel version"),
        (["half"], "none of its versions 1 is a whole SavedModel"),
        (["bare", "--label", "stable"], "--label is 'stable': expected a name and a version's number"),
        (["bare", "--label", "a/b=1"], "--label is 'a/b=1'"),
        (["bare", "--name", "a/b"], "--name is 'a/b': expected a name without / and :"),
        (["bare", "--port", "70000"], "70000"),
        (["bare", "--batch-size", "0"], "--batch-size is 0"),
        (["bare", "--batch-timeout", "-1"], "-1"),
    ],
)
def test_mistakes_are_told_in_one_sentence(rl: Callable[..., Said], words: list[str], why: str) -> None:
    Path("bare").mkdir()
    Path("half/1").mkdir(parents=True)
    said = rl("serve", *words)
    assert said.code == 2
    assert why in said.err
    assert said.err.count("\n") == 1


def test_a_port_that_is_taken_and_a_version_that_is_broken(
    rl: Callable[..., Said], tmp_path: Path, made: Callable[[Path, int], None]
) -> None:
    made(tmp_path, 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for flags in (("--port", port, "--grpc-port", 0), ("--port", 0, "--grpc-port", port)):
            said = rl("serve", tmp_path, *flags)
            assert (said.code, f"{port} cannot be listened on at 127.0.0.1" in said.err) == (2, True)
    said = rl("serve", tmp_path, "--host", "no.such.host.invalid", "--port", 0)
    assert (said.code, "--host no.such.host.invalid cannot be listened on" in said.err) == (2, True)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff")
    said = rl("serve", tmp_path, "--port", 0, "--grpc-port", 0)
    assert (said.code, "no version in" in said.err) == (2, True)


def finished_run(folder: Path) -> Path:
    """A run with a best agent of step 20, as far as its files' names say so."""
    run = folder / "CartPole-v1" / "dqn" / "one"
    (run / "checkpoints" / "best").mkdir(parents=True)
    info = {"format": 1, "agent": "dqn", "env": "CartPole-v1", "status": "finished", "verb": "train"}
    (run / "run.json").write_text(json.dumps(info))
    (run / "config.toml").write_text('agent = "dqn"\n')
    (run / "checkpoints" / "best" / "ckpt-20.index").touch()
    return run


@pytest.mark.parametrize("which", ["--port", "--grpc-port"])
def test_the_ports_are_tried_before_there_is_work(
    rl: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    run = finished_run(tmp_path)
    monkeypatch.setattr(exporting, "export_run", lambda *_, **__: pytest.fail("it was exported"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = "--grpc-port" if which == "--port" else "--port"
        said = rl("serve", run, which, port, other, 0)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"{which} {port} cannot be listened on at 127.0.0.1" in said.err


def test_an_address_that_others_reach_is_warned_of(
    rl: Callable[..., Said], tmp_path: Path, made: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, 1)
    monkeypatch.setattr("rlkit.serving.server.run", lambda *_: None)
    for host, warned in (("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)):
        said = rl("serve", tmp_path, "--host", host, "--port", 0, "--grpc-port", 0)
        assert (said.code, f"{host} can be reached from other machines" in said.err) == (0, warned)


def test_a_run_is_exported_unless_its_best_is(
    tmp_path: Path, made: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(tmp_path)
    folder = run / "exports" / "savedmodel"
    found = run_at(tmp_path)
    assert isinstance(found, RunDirectory)
    assert found.path == run
    asked: list[tuple[Path, str]] = []

    def export(path: Path, to: str, **_: object) -> exporting.Exported:
        asked.append((path, to))
        folder.mkdir(parents=True, exist_ok=True)
        made(folder, 20)
        return exporting.Exported(folder, {})

    monkeypatch.setattr(exporting, "export_run", export)
    assert exported(found) == folder
    assert exported(found) == folder  # now it is there
    assert asked == [(run, "savedmodel")]
    assert run_at(folder) is None  # a folder of versions, though a run is above it
    (run / "checkpoints" / "best" / "ckpt-40.index").touch()  # a better one since
    monkeypatch.setattr(exporting, "export_run", lambda *_, **__: exporting.Exported(tmp_path, {}))
    assert exported(found) == tmp_path


def test_the_extra_is_named_where_it_is_missing(rl: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["rlkit.cli.serve"], "NEEDS", ("rlkit", "no_such_module"))
    said = rl("serve", ".")
    assert (said.code, "rlkit serve needs no_such_module: pip install -e '.[serve]' in " in said.err) == (2, True)
