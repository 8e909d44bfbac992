"""Clients of other kinds, slow ones, large ones and such as mean harm: what they may take, and what others notice."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import select
import shutil
import socket
import subprocess
import threading
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import psutil
import pytest
import tensorflow as tf
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import classification_pb2, predict_pb2

from rlkit.experiments.benchmarks import _hostile
from rlkit.experiments.benchmarks.serving import GOOD, NAME, PREDICT
from rlkit.serving import connection, examples, json_reader, json_tensors
from rlkit.serving.errors import ServingError
from rlkit.serving.hosts import Hosts, is_loopback
from rlkit.serving.json_answers import answer, long_answer, parts_of
from rlkit.serving.json_reader import Long, Reader, shown
from rlkit.serving.server import Addresses, Options, Stop, serve
from rlkit.serving.signature import Outputs, Spec

Said = Any
BODY = json.dumps(GOOD).encode()


# ---- servers


@dataclass
class Running:
    """A server in a thread of this process."""

    at: Addresses
    stop: Stop
    said: list[str] = field(default_factory=list)

    def open(self) -> socket.socket:
        return socket.create_connection((self.at.host, self.at.port), timeout=20)

    def raw(self, *parts: bytes, wait: float = 0.0, end: bool = True) -> bytes:
        """All that comes back until the server ends the connection."""
        with self.open() as client:
            for part in parts:
                client.sendall(part)
                time.sleep(wait)
            if end:
                client.shutdown(socket.SHUT_WR)
            return until_end(client)

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        client = http.client.HTTPConnection(self.at.host, self.at.port, timeout=60)
        try:
            client.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
            response = client.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            client.close()

    def predict(self, body: bytes, **headers: str) -> tuple[int, Any]:
        status, _, found = self.send("POST", PREDICT, body, **headers)
        return status, json.loads(found)

    def health(self) -> float:
        """Seconds of an answer of /health."""
        begun = time.perf_counter()
        assert self.send("GET", "/health")[0] == 200
        return time.perf_counter() - begun


def until_end(client: socket.socket) -> bytes:
    found = []
    while more := client.recv(65536):
        found.append(more)
    return b"".join(found)


def head(*fields: str, method: str = "POST", path: str = PREDICT, version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", *(fields or ("Host: x",)), "", ""]).encode()


GET = head(method="GET", path="/health")
GOOD_REQUEST = head("Host: x", f"Content-Length: {len(BODY)}") + BODY


@contextmanager
def running(path: Path, **options: Any) -> Iterator[Running]:
    """A server on free ports."""
    chosen = Options(path, **{"name": NAME, "port": 0, "grpc_port": 0, "poll": 0.05, **options})
    ready, said, found = threading.Event(), list[str](), list[Running]()

    def started(at: Addresses, stop: Stop) -> None:
        found.append(Running(at, stop, said))
        ready.set()

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lambda: uvloop.run(serve(chosen, said.append, started)))
        ended.add_done_callback(lambda _: ready.set())
        assert ready.wait(60)
        if not found:
            ended.result()
        try:
            yield found[0]
        finally:
            found[0].stop()
            ended.result(60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    _hostile.write_model(folder / "1")
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Running]:
    with running(model, limit=4_000_000) as found:
        yield found


# ---- JSON in pieces


def expanded(value: Any) -> Any:
    """With lists in the place of long ones."""
    if isinstance(value, Long):
        return [expanded(item) for group in value for item in group]
    if isinstance(value, dict):
        return {key: expanded(item) for key, item in value.items()}
    return value


texts = st.text('ab"\\,[{:é\n', max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(texts, inner, max_size=6),
    max_leaves=60,
)


@given(st.dictionaries(texts, values, min_size=1, max_size=4), st.sampled_from([None, 0, 2]), st.data())
@settings(max_examples=100)
def test_pieces_are_what_orjson_reads_whole(value: dict[str, Any], indent: int | None, data: st.DataObject) -> None:
    """Also of a text that is no JSON: what one refuses, the other does."""
    text = json.dumps(value, indent=indent, ensure_ascii=data.draw(st.booleans())).encode()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        text = (
            text[:at]
            + data.draw(st.sampled_from([b"", b",", b"]", b"}", b"[", b'"', b"\\", b" ", b"1"]))
            + text[at + 1 :]
        )
    try:
        expected = orjson.loads(text)
    except orjson.JSONDecodeError:
        expected = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "PIECE", 40)
        patch.setattr(json_reader, "BLOCK", data.draw(st.sampled_from([1, 7, 64])))
        try:
            reader = Reader(text, nan=False)
            found = expanded(reader.request())
            reader.finish()
        except ServingError:
            found = None
    assert found == (expected if isinstance(expected, dict) else None)


def test_long_lists_in_each_other_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reader, "PIECE", 100)
    inner = ",".join("1" * 100)
    for depth in (15, 17):
        reader = Reader(b'{"a":%b%b%b}' % (b"[" * depth, inner.encode(), b"]" * depth), nan=False)
        refused = pytest.raises(ServingError, match="long lists in each other") if depth == 17 else nullcontext()
        with refused:
            expanded(reader.request())


SPECS = {
    name: {
        "observation": Spec(
            tf.dtypes.as_dtype(dtype),
            None if shape is None else tuple(shape),
            np.dtype(object if dtype == "string" else dtype),
        )
    }
    for name, (dtype, shape) in _hostile.SIGNATURES.items()
}


def test_a_request_takes_at_most_twenty_times_its_body() -> None:
    """Each body of the corpus, read to arrays or examples, as far as it is taken; the constant is for what a piece
    takes. `benchmarks.serving_hostile --only memory` measures a whole server."""
    taken = []
    for case in _hostile.corpus(150_000):
        if case.name.endswith((" for wide", " for any")):
            continue  # as for numbers
        gone = case.body
        tracemalloc.start()
        try:
            reader = Reader(gone, nan=True)
            request = reader.request()
            if case.verb == "predict":
                json_tensors.inputs_of(request, SPECS.get(request.get("signature_name", ""), SPECS["numbers"]))
            else:
                examples.serialized(request, 4_000_000)
            reader.finish()
        except ServingError:
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        taken.append(((peak - 8e6) / len(gone), case.name))
    assert max(taken)[0] < 20, sorted(taken)[-5:]
    assert len(taken) > 60


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_strings_among_numbers_become_no_array(dtype: str) -> None:
    """NumPy's array of them would have the longest's width, four bytes a letter: 40 GB here."""
    spec = Spec(tf.dtypes.as_dtype(dtype), None, np.dtype(dtype))
    row = ["a" * 1_000_000, *[1] * 10_000]
    tracemalloc.start()
    with pytest.raises(ServingError, match=f"is not of expected type: {dtype}"):
        json_tensors.array_of([row], spec, "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


def test_what_an_error_shows_costs_what_it_shows() -> None:
    value = {"instances": [["é" * 10_000_000], [1] * 1000]}
    tracemalloc.start()
    text = shown(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert text == '{"instances": [["' + "\\u00e9" * 30 + "\\u0..."
    assert peak < 100_000
    assert shown([1, None, True, {"a": "b"}, 1.5]) == '[1, null, true, {"a": "b"}, 1.5]'


@pytest.mark.parametrize("by_row", [True, False])
def test_a_long_answer_is_the_short_one(by_row: bool) -> None:
    rng = np.random.default_rng(0)
    for rows in (1, 3, 5000):
        numbers = rng.normal(size=(rows, 3)).astype(np.float32)
        given: list[dict[str, np.ndarray]] = [
            {"y": numbers},
            {"y": numbers, "n": np.arange(rows), "t_bytes": np.array([b"a\xff"] * rows, object)},
            {"y": rng.normal(size=(rows, 2, 5000 if rows < 9 else 2)), "n": np.arange(rows)},
        ]
        for arrays in given:
            whole = Outputs(arrays, True)
            cut = [(0, Outputs({k: v[i : i + 2] for k, v in arrays.items()}, True)) for i in range(0, rows, 2)]
            assert long_answer([(rows, whole)], by_row) == answer(whole, by_row)
            assert long_answer(cut, by_row) == answer(whole, by_row)
    hollow = Outputs({"y": np.zeros((3000, *[1] * 20, 0))}, True)
    assert long_answer([(3000, hollow)], by_row) == answer(hollow, by_row)
    assert parts_of(hollow.arrays["y"]) == 3000 * 21
    gone = Outputs({"y": np.array([1.5, np.nan, np.inf], np.float32), "n": np.arange(3)}, False)
    assert str(json.loads(long_answer([(3, gone)], by_row))) == str(json.loads(answer(gone, by_row)))


def test_a_million_rows_are_answered_by_rows_of_theirs(server: Running) -> None:
    """Cut into pieces, computed in slices, written in pieces: row i comes back as row i."""
    rows = [[i, 0.5, -1, 2] for i in range(100_000)]
    status, found = server.predict(json.dumps({"instances": rows}).encode())
    assert (status, found) == (200, {"predictions": rows})
    status, found = server.predict(json.dumps({"inputs": rows}).encode())
    assert (status, found) == (200, {"outputs": rows})
    status, found = server.predict(json.dumps({"instances": [*rows, [1, 2, 3]]}).encode())
    assert (status, "not of one size" in found["error"]) == (400, True)
    words = ["é,]", {"b64": "YQ"}] * 20_000
    status, found = server.predict(json.dumps({"signature_name": "text", "instances": words}).encode())
    assert (status, found) == (200, {"predictions": ["é,]", "a"] * 20_000})
    asked = {"signature_name": "regress", "examples": [{"x": float(i)} for i in range(20_000)]}
    status, _, body = server.send("POST", f"/v1/models/{NAME}:regress", json.dumps(asked).encode())
    assert (status, json.loads(body)) == (200, {"results": [float(i) for i in range(20_000)]})


# ---- clients of other kinds


def test_an_offer_of_http2_is_ignored(server: Running) -> None:
    """JDK's HttpClient sends it by default, and curl --http2; what follows on the connection is read, too."""
    offer = ("Host: x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
    asked = head(*offer, f"Content-Length: {len(BODY)}") + BODY
    chunked = head(*offer, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    found = server.raw(asked + chunked + head(*offer, method="GET", path="/health") * 200 + GOOD_REQUEST)
    assert found.count(b"HTTP/1.1 200 OK") == 203
    assert found.count(b'"predictions"') == 3
    assert server.raw(*[asked[i : i + 9] for i in range(0, len(asked), 9)], wait=0.001).startswith(b"HTTP/1.1 200 OK")
    assert server.raw(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl(server: Running) -> None:
    """--http2 offers an upgrade; -x sends the absolute form."""
    address = f"http://127.0.0.1:{server.at.port}"
    for words in (
        ["--http2", address + PREDICT],
        ["--http1.0", address + PREDICT],
        ["-x", address, f"http://example.test{PREDICT}"],
        ["-H", "Expect: 100-continue", address + PREDICT],
    ):
        said = subprocess.run(["curl", "-s", "-d", BODY, *words], capture_output=True, check=True)
        assert said.stdout.startswith(b'{"predictions":[[0.01'), words


def test_the_absolute_form(server: Running) -> None:
    for target in (f"http://example.test{PREDICT}", f"HTTPS://x:80{PREDICT}?a=b"):
        found = server.raw(head("Host: y", f"Content-Length: {len(BODY)}", path=target) + BODY)
        assert found.startswith(b"HTTP/1.1 200 OK"), target
    assert server.raw(head("Host: y", method="GET", path="http://x")).startswith(b"HTTP/1.1 404")


def test_an_old_client_is_told_that_its_connection_stays(server: Running) -> None:
    """ApacheBench's -k: without the header it waits for the end of the connection."""
    asked = head("Connection: Keep-Alive", method="GET", path="/health", version="1.0")
    found = server.raw(asked + asked)
    assert found.count(b"Connection: keep-alive\r\n") == 2
    alone = server.raw(head("X: y", method="GET", path="/health", version="1.0"), end=False)
    assert b"Connection: close\r\n" in alone


def test_compressed_bodies(server: Running) -> None:
    for coding, data in {
        "gzip": gzip.compress(BODY),
        "x-gzip": gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]),
        "GZIP": gzip.compress(BODY, 0),
        "deflate": zlib.compress(BODY),
        "identity": BODY,
    }.items():
        status, found = server.predict(data, Content_Encoding=coding)
        assert (status, found["predictions"]) == (200, pytest.approx(np.array(GOOD["instances"]))), coding
    for coding in ("br", "zstd", "gzip, gzip", ""):
        status, _ = server.predict(BODY, Content_Encoding=coding)
        assert status == 415, coding
    whole = gzip.compress(BODY)
    for data in (b"", BODY, whole[:-9], whole[:12], whole + b"x", gzip.compress(b"") * 1000):
        status, found = server.predict(data, Content_Encoding="gzip")
        assert (status, "compressed" in found["error"] or "members" in found["error"]) == (400, True), data[:20]


def test_a_bomb_is_not_inflated(server: Running) -> None:
    """4 GB of blanks in 4 MB; and in the first 4 kB of it what is over the limit."""
    bomb = gzip.compress(b" " * 5_000_000)
    assert len(bomb) < 6_000
    status, found = server.predict(bomb, Content_Encoding="gzip")
    assert (status, found) == (413, {"error": "The request's body has more than 4000000 bytes"})
    before = psutil.Process().memory_info().rss
    status, _ = server.predict(gzip.compress(b" " * 400_000_000, 9), Content_Encoding="gzip")
    assert status == 413
    assert psutil.Process().memory_info().rss - before < 200_000_000


def test_base64_of_other_kinds(server: Running) -> None:
    """TensorFlow Serving's absl::Base64Unescape skips blanks and needs no padding."""
    raw = bytes(range(250, 256)) + b"x" * 90
    plain = base64.b64encode(raw).decode()
    for coded in (
        plain.rstrip("="),
        base64.urlsafe_b64encode(raw).decode(),
        base64.encodebytes(raw).decode(),
        f" {plain}\t\r\n",
    ):
        asked = {"signature_name": "text", "instances": [{"b64": coded}, {"b64": "YQ"}, {"b64": "YWI"}, {"b64": ""}]}
        status, found = server.predict(json.dumps(asked).encode())
        assert status == 200, (coded, found)
        assert found["predictions"][1:] == ["a", "ab", ""]
    for wrong in ("Y", "YQ=", "YQ===", "Y=Q=", "YQ==YQ==", "?", "é"):
        asked = {"signature_name": "text", "instances": [{"b64": wrong}]}
        assert server.predict(json.dumps(asked).encode())[0] == 400, wrong


@pytest.mark.parametrize("how", ["length", "chunks", "expect"])
def test_a_body_over_the_limit_is_answered(server: Running, how: str) -> None:
    """The client sends all of it, and reads the answer then; nothing resets its connection before."""
    size, part = 20_000_000, b" " * 100_000
    fields = {
        "length": [f"Content-Length: {size}"],
        "expect": [f"Content-Length: {size}", "Expect: 100-continue"],
        "chunks": ["Transfer-Encoding: chunked"],
    }[how]
    with server.open() as client:
        client.sendall(head("Host: x", *fields))
        for _ in range(size // len(part)):
            client.sendall(b"%x\r\n%b\r\n" % (len(part), part) if how == "chunks" else part)
        found = until_end(client)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert found.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in found
    assert b"more than 4000000 bytes" in found


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8501", 200), ("localhost", 200), ("LOCALHOST.:1", 200), ("a.localhost", 200), ("[::1]:8501", 200),
        ("192.168.0.7", 200), ("rlkit", 200), ("served.example:8501", 200), ("Served.Example.", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example:8501", 421),
        ("not.served.example", 421), ("", 400), ("a, b", 400), ("a b", 400), ("user@localhost", 400),
        ("http://localhost", 400),
    ],
)  # fmt: skip
def test_a_name_that_is_not_served_is_refused(model: Path, named: Running, host: str, status: int) -> None:
    """A stranger's page whose own name leads to 127.0.0.1 comes with that name."""
    found = named.raw(head(f"Host: {host}", method="GET", path="/health"))
    assert found.startswith(f"HTTP/1.1 {status} ".encode()), found
    if status == 421:
        assert b"--allow-host" in found


@pytest.fixture(scope="module")
def named(model: Path) -> Iterator[Running]:
    with running(model, hosts=["served.example"], cors=True) as found:
        yield found


def test_a_host_is_needed_and_there_is_one(named: Running) -> None:
    assert named.raw(b"GET /health HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert named.raw(b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert named.raw(head("Host: x", "Host: x", method="GET", path="/health")).startswith(b"HTTP/1.1 400")


def test_where_a_server_can_be_reached_from() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("::")
    assert b"x" * 70_000 in Hosts([])  # and kept once only so far
    hosts = Hosts([])
    for i in range(3000):
        assert b"host%d" % i in hosts


def test_cors_is_a_flag(named: Running, server: Running) -> None:
    """A browser asks this before it posts JSON, and looks for these in the answer."""
    asked = {
        "Origin": "http://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    status, headers, _ = named.send("OPTIONS", PREDICT, b"", **asked)
    assert (status, headers["access-control-allow-origin"]) == (200, "*")
    assert "POST" in headers["access-control-allow-methods"]
    assert headers["access-control-allow-headers"] == "*"
    for body, expected in ((BODY, 200), (b"?", 400)):
        status, headers, _ = named.send("POST", PREDICT, body, Origin="http://page.example")
        assert (status, headers["access-control-allow-origin"]) == (expected, "*")
    status, headers, _ = server.send("OPTIONS", PREDICT, b"", **asked)
    assert (status, "access-control-allow-origin" in headers) == (400, False)


# ---- heads, trailers, chunks and time


@pytest.mark.parametrize(
    ("kind", "status"),
    [("trailer", 400), ("trailers", 400), ("extension", 400), ("head", 431), ("line", 431), ("blank", 431)],
)
def test_what_is_no_body_has_an_end(server: Running, kind: str, status: int) -> None:
    """40 MB of a trailer stalled the server for 3 s, 80 MB for a minute."""
    chunked = head("Host: x", "Transfer-Encoding: chunked")
    begin, part = {
        "trailer": (chunked + b"%x\r\n%b\r\n0\r\nX: " % (len(BODY), BODY), b"a" * 100_000),
        "trailers": (chunked + b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY), b"X: y\r\n" * 20_000),
        "extension": (chunked + b"%x;" % len(BODY), b"a" * 100_000),
        "head": (head("Host: x")[:-2] + b"X: ", b"a" * 100_000),
        "line": (b"GET /", b"a" * 100_000),
        "blank": (b"", b"\r\n" * 50_000),
    }[kind]
    with server.open() as client:
        client.sendall(begin)
        sent, found = 0, b""
        while not found and sent < 100_000_000:
            client.sendall(part)
            sent += len(part)
            found = client.recv(65536) if select.select([client], [], [], 0.001)[0] else b""
    assert found.startswith(f"HTTP/1.1 {status} ".encode())
    assert sent < 2_000_000
    assert server.health() < 1


def test_a_chunk_for_each_byte_is_taken_and_its_extensions_are_not(server: Running) -> None:
    body = b'{"instances":[%b]}' % b",".join([b"[1,2,3,4]"] * 2000)
    chunked = head("Host: x", "Transfer-Encoding: chunked")
    whole = chunked + b"".join(b"1\r\n%c\r\n" % code for code in body) + b"0\r\nX: y\r\n\r\n"
    assert server.raw(whole).startswith(b"HTTP/1.1 200 OK")
    found = server.raw(chunked + b"".join(b"1;%b\r\n%c\r\n" % (b"x" * 100, code) for code in body), end=False)
    assert found.startswith(b"HTTP/1.1 400")


def test_what_takes_too_long_is_ended(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"HEAD_TIME": 0.5, "TIME": 1.5, "IDLE": 2.5, "LINGER": 0.5}.items():
        monkeypatch.setattr(connection, name, seconds)
    with running(model) as server:
        ends = {
            "head": (GET[:20], b"HTTP/1.1 408"),
            "drip": (head("Host: x", "Content-Length: 9"), b"HTTP/1.1 408"),
            "idle": (GET, b"HTTP/1.1 200"),
            "silent": (b"", b""),
        }
        clients = {name: server.open() for name in ends}
        took = {}
        for name, (data, _) in ends.items():
            clients[name].sendall(data)
        begun = time.monotonic()
        for name, (_, expected) in ends.items():
            if name == "drip":
                for _ in range(5):
                    clients[name].sendall(b" ")
                    time.sleep(0.1)
            assert until_end(clients[name]).startswith(expected), name
            took[name] = time.monotonic() - begun
            clients[name].close()
    assert 0.5 < took["head"] < 2.5 < took["idle"] < 6, took


def test_a_client_that_reads_no_answers_is_ended(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIME", 1.0)
    with running(model) as server, server.open() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        body = json.dumps({"signature_name": "text", "instances": ["x" * 15_000]}).encode()  # it is given back
        asked = head("Host: x", f"Content-Length: {len(body)}") + body
        begun = time.monotonic()
        with suppress(ConnectionError, TimeoutError):
            while time.monotonic() - begun < 15:
                client.sendall(asked)
        assert time.monotonic() - begun < 15
        ends = time.monotonic() + 10
        mine = client.getsockname()[1]
        while any(
            c.raddr and c.raddr.port == mine
            for c in psutil.Process().net_connections()
            if c.laddr.port == server.at.port
        ):
            assert time.monotonic() < ends
            time.sleep(0.05)


def test_a_slow_and_a_large_client_cost_the_others_little(server: Running) -> None:
    """300 connections, 3 MB; the benchmark has more."""
    body = b'{"instances":[%b]}' % b",".join([b"[0,0,0,0]"] * 300_000)
    slow = [server.open() for _ in range(300)]
    try:
        for client in slow:
            client.sendall(head("Host: x", "Content-Length: 1000") + b'{"inst')
        with ThreadPoolExecutor(1) as pool:
            large = pool.submit(server.predict, body)
            taken = []
            while not large.done():
                taken.append(server.health())
                for client in slow[:20]:
                    client.sendall(b" ")
            status, found = large.result()
        assert (status, len(found["predictions"])) == (200, 300_000)
        assert len(taken) > 10
        assert np.quantile(taken, 0.9) < 0.1  # 0.05 on a machine that does nothing else
    finally:
        for client in slow:
            client.close()


def test_bodies_that_wait_have_room_for_so_many(server: Running, model: Path) -> None:
    """The one that is read for the longest gives way; small requests are not asked."""
    with running(model, limit=1_000_000) as small:
        slow = [small.open() for _ in range(20)]
        for client in slow:
            client.sendall(head("Host: x", "Content-Length: 1000000") + b" " * 900_000)
        body = b'{"instances":[%b]}' % b",".join([b"[0,0,0,0]"] * 99_000)
        for _ in range(3):
            assert small.predict(body)[0] == 200
        assert small.predict(BODY)[0] == 200
        assert slow[0].recv(100).startswith(b"HTTP/1.1 503")
        for client in slow:
            client.close()


def test_many_requests_in_one_packet_leave_others_their_turn(server: Running) -> None:
    with server.open() as client:
        client.sendall(head(method="GET", path="/monitoring/prometheus/metrics") * 500)
        assert max(server.health() for _ in range(5)) < 0.5
        client.shutdown(socket.SHUT_WR)
        assert until_end(client).count(b"HTTP/1.1 200") == 500


# ---- gRPC


def rpc(server: Running, method: str, data: bytes) -> tuple[str, str]:
    """The answer of a method to some bytes: the code's name and the message."""
    with grpc.insecure_channel(f"{server.at.host}:{server.at.grpc_port}") as channel:
        call = channel.unary_unary(f"/tensorflow.serving.{method}", lambda b: b, lambda b: b)
        try:
            call(data, timeout=20)
        except grpc.RpcError as error:
            found: Any = error
            return found.code().name, found.details()
        return "OK", ""


def predict_request(signature: str, dtype: int, dims: list[int], **fields: Any) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = NAME, signature
    tensor = request.inputs["observation"]
    tensor.dtype = dtype
    for size in dims:
        tensor.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        getattr(tensor, name).extend(value)
    data: bytes = request.SerializeToString()
    return data


DT_FLOAT, DT_INT64, DT_STRING, DT_UINT8 = 1, 9, 7, 4


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x0a\xff", "INVALID_ARGUMENT"),
        (b"\xff" * 50_000, "INVALID_ARGUMENT"),
        (predict_request("numbers", DT_FLOAT, [1, 4], float_val=[1, 2, 3, 4]), "OK"),
        (predict_request("numbers", DT_FLOAT, [100, 4], float_val=[1]), "OK"),
        (predict_request("numbers", DT_FLOAT, [1, 4], float_val=[1] * 5), "INVALID_ARGUMENT"),
        (predict_request("numbers", DT_UINT8, [1, 4], int_val=[256] * 4), "INVALID_ARGUMENT"),
        (predict_request("numbers", 99, [1, 4]), "INVALID_ARGUMENT"),
        (predict_request("numbers", DT_FLOAT, [1] * 60_000), "INVALID_ARGUMENT"),
        (predict_request("any", DT_FLOAT, [10**12], float_val=[1]), "RESOURCE_EXHAUSTED"),
        (predict_request("any", DT_FLOAT, [2**62, 2**62, 2**62], float_val=[1]), "RESOURCE_EXHAUSTED"),
        (predict_request("text", DT_STRING, [2], string_val=[b"\xff"]), "OK"),
        (predict_request("x" * 100_000, DT_FLOAT, [1, 4]), "FAILED_PRECONDITION"),
        (predict_request("\U0001f600" * 50_000, DT_FLOAT, [1, 4]), "FAILED_PRECONDITION"),
    ],
    ids=[f"{number}" for number in range(13)],
)
def test_a_mistake_over_grpc_is_the_clients(server: Running, data: bytes, code: str) -> None:
    assert rpc(server, "PredictionService/Predict", data)[0] == code


def test_an_error_of_the_model_that_is_no_text_is_told(server: Running) -> None:
    """An example that the model cannot read, with a byte that is no UTF-8: TensorFlow's message repeats it."""
    features = b"\x0a\x0d\x0a\x01x\xf9\x08\x12\x06\x0a\x04\x00\x00\x00?"
    asked = b"\x0a\x10\x0a\x05agent\x1a\x07regress\x12\x17\x12\x15\x0a\x00\x12\x11\x0a\x0f" + features
    code, told = rpc(server, "PredictionService/Regress", asked)
    assert (code, "parse" in told) == ("INVALID_ARGUMENT", True), told


@pytest.mark.parametrize("value", [256, -1, 2**31 - 1])
def test_a_value_out_of_its_dtype_is_the_clients_mistake(tmp_path: Path, value: int) -> None:
    """In the field of another dtype there is room for numbers that a uint8 has not."""

    class Bytes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.uint8, "observation")])
        def same(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": observation}

    module = Bytes()
    tf.saved_model.save(module, str(tmp_path / "1"), {"numbers": module.same})
    with running(tmp_path) as found:
        asked = predict_request("numbers", DT_UINT8, [1], int_val=[value])
        code, told = rpc(found, "PredictionService/Predict", asked)
        assert (code, f"integer {value} out of bounds for uint8" in told) == ("INVALID_ARGUMENT", True)


def test_a_context_before_many_examples_is_bounded(server: Running) -> None:
    asked = classification_pb2.ClassificationRequest()
    asked.model_spec.name, asked.model_spec.signature_name = NAME, "classify"
    listed = asked.input.example_list_with_context
    listed.context.features.feature["y"].bytes_list.value.append(b"x" * 100_000)
    for _ in range(100):
        listed.examples.add()
    assert rpc(server, "PredictionService/Classify", asked.SerializeToString())[0] == "RESOURCE_EXHAUSTED"
    body = {"signature_name": "classify", "context": {"y": "x" * 100_000}, "examples": [{}] * 100}
    assert server.send("POST", f"/v1/models/{NAME}:classify", json.dumps(body).encode())[0] == 429


def test_long_messages_come_back(server: Running) -> None:
    rows = np.arange(200_000, dtype=np.float32).reshape(-1, 4)
    with grpc.insecure_channel(f"{server.at.host}:{server.at.grpc_port}") as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict", lambda b: b, predict_pb2.PredictResponse.FromString
        )
        asked = predict_request("numbers", DT_FLOAT, [*rows.shape], float_val=rows.ravel().tolist())
        np.testing.assert_array_equal(tf.make_ndarray(call(asked, timeout=60).outputs["y"]), rows)


# ---- a stop


def test_a_stop_under_load_loses_no_request(model: Path) -> None:
    """16 clients that never wait: each has the answer to what it sent, or is refused before it sends."""
    ends: Counter[str] = Counter()

    def client(server: Running) -> None:
        connected = http.client.HTTPConnection(server.at.host, server.at.port, timeout=20)
        while True:
            try:
                connected.connect()
            except ConnectionRefusedError:
                ends["refused"] += 1
                return
            try:
                while True:
                    connected.request("POST", PREDICT, BODY)
                    response = connected.getresponse()
                    response.read()
                    ends[str(response.status)] += 1
                    if response.getheader("Connection") == "close":
                        break
            except (OSError, http.client.HTTPException) as error:
                ends[type(error).__name__] += 1
                return
            finally:
                connected.close()

    with ThreadPoolExecutor(16) as pool:
        with running(model) as server:
            half = [server.open() for _ in range(20)]
            for waiting in half:
                waiting.sendall(head("Host: x", "Content-Length: 100"))
            clients = [pool.submit(client, server) for _ in range(16)]
            time.sleep(1.0)
            begun = time.monotonic()
        took = time.monotonic() - begun
        for running_client in clients:
            running_client.result()
        for waiting in half:
            assert waiting.recv(100).startswith(b"HTTP/1.1 503")
            waiting.close()
    assert ends.keys() == {"200", "refused"}, ends
    assert ends["refused"] == 16
    assert ends["200"] > 100
    assert took < 8


def test_a_stop_waits_for_no_half_call(model: Path) -> None:
    """A connection to the port for gRPC that says nothing, and one that says half of something."""
    with running(model) as server:
        silent = [socket.create_connection((server.at.host, server.at.grpc_port)) for _ in range(2)]
        silent[1].sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        time.sleep(0.2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 6
    for client in silent:
        client.close()
