"""Hostile clients of `rlkit serve`: memory, malformed requests, slow and large clients.

    python -m rlkit.experiments.benchmarks.serving_hostile [--only memory|rest|grpc|fuzz|slow] [--count 100000]

The server is the command itself in a process of its own, with a model that gives back what it is given. `memory` sends
each body of a corpus and looks at how far the server's memory rises (Linux); `rest` and `grpc` send requests altered by
chance, `fuzz` a tenth as many that are wrong by construction; `slow` measures /health while 500 connections send a byte
now and then and one sends a million rows.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil

from rlkit.experiments.benchmarks._altered import altered, grpc_messages, raw_request
from rlkit.experiments.benchmarks._hostile import Case, corpus, write_model
from rlkit.experiments.benchmarks._measuring import print_machine, table
from rlkit.experiments.benchmarks.serving import BODY, PREDICT, serving

TIMES = 20
"""Most memory of a request over its body's size, beside `CONSTANT`."""

CONSTANT = 50e6
"""Bytes."""

GET_HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, verb: str = "predict") -> bytes:
    """A request, as it goes over the wire."""
    path = PREDICT.replace(":predict", f":{verb}").encode()
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


def memory(base: Path, size: int) -> None:
    """How far the server's memory rises for each body of the corpus, and what stays of all.

    A body that finds memory which an allocator has kept of earlier ones rises by less.
    """
    rows, over = [], []
    with serving(base, "--max-body", str(size // 500_000), "--allow-nan") as (port, _, process):
        ask(port, Case("", "predict", b'{"instances":[%b[1,2,3,4]]}' % (b"[1,2,3,4]," * 10_000)))  # threads are made
        start = process.memory_info().rss
        for case in corpus(size):
            (Path("/proc") / str(process.pid) / "clear_refs").write_text("5")  # the highest begins anew
            before, begun = process.memory_info().rss, time.perf_counter()
            status, answer = ask(port, case)
            taken = time.perf_counter() - begun
            highest = highest_memory(process)
            if highest - before > TIMES * len(case.body) + CONSTANT:
                over.append(case.name)
            rows.append((
                (highest - before) / len(case.body), case.name, status, f"{len(case.body) / 1e6:.1f}",
                f"{answer / 1e6:.1f}", f"{taken:.1f}",
            ))  # fmt: skip
        left = (process.memory_info().rss - start) / 1e6
    rows.sort(reverse=True)
    heads = ("memory over the body", "", "status", "body, MB", "answer, MB", "seconds")
    table(f"{len(rows)} bodies, the dearest first", heads, [[f"{row[0]:.1f}", *map(str, row[1:])] for row in rows[:15]])
    print(f"{left:.0f} MB stay")
    if over:
        sys.exit(f"more than {TIMES} times the body and {CONSTANT / 1e6:.0f} MB: {', '.join(over)}")


def highest_memory(process: psutil.Process) -> int:
    """The most resident memory that a process has had, in bytes."""
    lines = (Path("/proc") / str(process.pid) / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def ask(port: int, case: Case) -> tuple[int, int]:
    """The status, and how many bytes the answer has."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        client.request("POST", PREDICT.replace(":predict", f":{case.verb}"), case.body)
        response = client.getresponse()
        return response.status, len(response.read())
    finally:
        client.close()


def rest(base: Path, count: int) -> None:
    """Altered requests over raw connections: each is answered or ended by its client, none by a fault of the server."""
    by, statuses, lost = random.Random(0), Counter[int](), 0
    with serving(base) as (port, _, process):
        before = process.memory_info().rss / 2**20
        for number in range(count):
            data = raw_request(by)
            found = exchange(port, data)
            if not found.startswith(b"HTTP/1.1 "):
                lost += bool(found)
                statuses[0] += 1
                continue
            status = int(found[9:12])
            statuses[status] += 1
            if status >= 500:
                print(status, data[:300], found[:300])
            if number % (count // 4) == count // 4 - 1:
                print(
                    f"{number + 1:,}: memory {process.memory_info().rss / 2**20:.0f} MB, at first {before:.0f}",
                    flush=True,
                )
        assert exchange(port, post(BODY.encode())).startswith(b"HTTP/1.1 200 ")
    told = ", ".join(f"{status or 'none, half a request'}: {number:,}" for status, number in sorted(statuses.items()))
    print(f"REST, {count:,} altered requests: {told}; answers that are none: {lost}; the server is there")


def exchange(port: int, data: bytes) -> bytes:
    """The bytes that come back until the connection ends, or for a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        found = b""
        try:
            while more := client.recv(65536):
                found += more
        except ConnectionError:
            pass
        return found


def grpc(base: Path, count: int) -> None:
    """Altered messages of each method."""
    import grpc

    by, codes, odd = random.Random(0), Counter[str](), list[str]()
    messages = grpc_messages()
    methods = list(messages)
    with serving(base) as (_, port, process), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        before = process.memory_info().rss / 2**20
        calls = {name: channel.unary_unary(name, lambda data: data, lambda data: data) for name in methods}
        for _ in range(count):
            name = by.choice((methods[0], *methods))
            data = altered(by.choice(messages[name]), by)
            try:
                calls[name](data, timeout=30)
                codes["OK"] += 1
            except grpc.RpcError as error:
                code = error.code().name
                codes[code] += 1
                if code in ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    odd.append(f"{code} {name} {error.details()[:200]} {data[:80]!r}")
        after = process.memory_info().rss / 2**20
    print(f"gRPC, {count:,} altered messages: {dict(codes)}; memory {before:.0f} -> {after:.0f} MB")
    print("\n".join(odd[:10]))


def slow(base: Path) -> None:
    """Seconds of /health while others are slow or large."""
    body = b'{"instances":[%b]}' % b",".join([b"[0,0,0,0]"] * 1_000_000)
    with serving(base) as (port, _, process):
        alone = healths(port, lambda: False, 100)
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(500)]
        for client in clients:
            client.sendall(post(b" " * 100)[:60])
        idle = healths(port, lambda: False, 100, clients)
        taken: list[float] = []
        begun = time.perf_counter()
        answers: list[tuple[int, int]] = []
        thread = threading.Thread(target=lambda: answers.append(ask(port, Case("", "predict", body))))
        thread.start()
        taken = healths(port, lambda: not thread.is_alive(), 1_000_000, clients)
        thread.join()
        took = time.perf_counter() - begun
        highest = highest_memory(process) // 2**20
        for client in clients:
            client.close()
    rows = [["nothing else", *cuts(alone)], ["500 slow connections", *cuts(idle)], ["and a million rows", *cuts(taken)]]
    table("/health, milliseconds", ("while there is", "p50", "p99", "most", "count"), rows)
    status, size = answers[0]
    print(f"{len(body) / 1e6:.1f} MB of rows: {status}, {size / 1e6:.1f} MB after {took:.1f} s; RSS {highest} MB")


def cuts(taken: list[float]) -> list[str]:
    """p50, p99 and the longest in milliseconds, and how many."""
    return [*(f"{np.quantile(taken, q) * 1e3:.1f}" for q in (0.5, 0.99, 1.0)), str(len(taken))]


def healths(
    port: int, done: Callable[[], bool], most: int, clients: Sequence[socket.socket | None] = ()
) -> list[float]:
    """How long /health takes, each on a connection of its own, while slow clients send a byte each now and then."""
    taken: list[float] = []
    turn = itertools.cycle(clients or [None])
    while len(taken) < most and not done():
        begun = time.perf_counter()
        assert exchange(port, GET_HEALTH).startswith(b"HTTP/1.1 200 ")
        taken.append(time.perf_counter() - begun)
        for client in itertools.islice(turn, 5):
            if client is not None:
                client.sendall(b"X")
        time.sleep(0.005)
    return taken


def fuzz(base: Path, count: int) -> None:
    """Malformed requests: each is answered with 4xx, and the server's memory stays."""
    with serving(base) as (port, _, process), sender(port) as send:
        statuses: dict[int, int] = {}
        sizes = []
        done = 0
        for size in (count // 10, count // 10, count - 2 * (count // 10)):
            for status, number in attack(send, size).items():
                statuses[status] = statuses.get(status, 0) + number
            done += size
            sizes.append(process.memory_info().rss / 2**20)
            print(f"{done:,} malformed requests, resident memory {sizes[-1]:.1f} MB", flush=True)
        status, body = send("POST", PREDICT, BODY.encode())
        assert status == 200, body
    print("answers: " + ", ".join(f"{status}: {number:,}" for status, number in sorted(statuses.items())))
    print(f"a good request is still answered; memory grew by {sizes[-1] - sizes[1]:.1f} MB over the last {size:,}")


Send = Callable[[str, str, bytes], tuple[int, bytes]]


@contextlib.contextmanager
def sender(port: int) -> Iterator[Send]:
    """Sends requests on one connection, which is made anew when the server closes it."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:

        def send(method: str, path: str, body: bytes) -> tuple[int, bytes]:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()

        yield send


def attack(send: Send, count: int) -> dict[int, int]:
    """Send malformed requests; how many were answered with each status, all from 400 to 499.

    Raises:
        AssertionError: another answer.
    """
    from hypothesis import HealthCheck, Phase, given, settings

    from rlkit.experiments.benchmarks._malformed import Request, requests

    statuses: dict[int, int] = {}

    @settings(max_examples=count, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(requests)
    def answered(request: Request) -> None:
        status, body = send(*request)
        assert 400 <= status < 500, (status, body, request)
        assert body.startswith(b'{"error":'), (body, request)
        statuses[status] = statuses.get(status, 0) + 1

    answered()
    return statuses


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="Requests of rest and grpc.")
    parser.add_argument("--size", type=int, default=4_000_000, help="Bytes of a body of memory's corpus.")
    parser.add_argument("--only", choices=("memory", "rest", "grpc", "fuzz", "slow"))
    chosen = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_model(base / "1")
        parts: dict[str, Callable[[], None]] = {
            "memory": lambda: memory(base, chosen.size),
            "rest": lambda: rest(base, chosen.count),
            "grpc": lambda: grpc(base, chosen.count),
            "fuzz": lambda: fuzz(base, chosen.count // 10),
            "slow": lambda: slow(base),
        }
        for name, part in parts.items():
            if chosen.only in (None, name):
                part()


if __name__ == "__main__":
    main()
