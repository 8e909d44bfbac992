"""Time that `rlkit serve` takes for a request, and requests that it answers a second, alone and in batches.

    python -m rlkit.experiments.benchmarks.serving [--requests 100000] [--only latency|load|http]

The model is a DQN's network on CartPole, two layers of 64, with weights that are drawn. The server is the command
itself in a process of its own. `load` drives it with wrk (Debian: apt install wrk) from 64 connections; "alone" is the
same server with --batch-size 1, which calls the model for each request. `http` asks other servers for an answer that
needs no model, to tell what HTTP itself costs. wrk and the server share the machine's cores.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from rlkit.experiments.benchmarks._measuring import print_machine, table

NAME = "agent"
"""The model's name."""

GOOD = {"instances": [[0.01, -0.02, 0.03, 0.04]]}

PREDICT = f"/v1/models/{NAME}:predict"

BODY = str(GOOD).replace("'", '"')

LUA = f"""
wrk.method = "POST"
wrk.body = '{BODY}'
wrk.headers["Content-Type"] = "application/json"
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function init() wrong = 0 end
function response(status) if status ~= 200 then wrong = wrong + 1 end end
function done(summary, latency)
  local wrong = 0
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
  local e = summary.errors
  print(string.format("result %d %d %d %d %d", summary.requests, summary.duration,
    wrong + e.connect + e.read + e.write + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""

ECHO = {
    "httptools": """
import asyncio, httptools, uvloop
class Connection(asyncio.Protocol):
    def connection_made(self, transport): self.transport, self.parser = transport, httptools.HttpRequestParser(self)
    def data_received(self, data): self.parser.feed_data(data)
    def on_message_begin(self): self.body = b""
    def on_body(self, part): self.body += part
    def on_message_complete(self):
        out = answer(self.body)
        head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(out)
        self.transport.write(head + out)
async def main():
    await (await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", PORT)).serve_forever()
uvloop.run(main())
""",
    "granian, RSGI": """
import uvloop
from granian.server.embed import Server
async def app(scope, protocol):
    protocol.response_bytes(200, [("content-type", "application/json")], answer(await protocol()))
uvloop.run(Server(app, address="127.0.0.1", port=PORT, interface="rsgi", log_enabled=False).serve())
""",
    "uvicorn, httptools": """
import uvicorn
async def app(scope, receive, send):
    out = answer((await receive())["body"])
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(out))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": out})
uvicorn.run(app, host="127.0.0.1", port=PORT, http="httptools", loop="uvloop", access_log=False, log_level="error",
            lifespan="off", server_header=False, date_header=False)
""",
    "aiohttp": """
import asyncio, uvloop
from aiohttp import web
async def handle(request):
    return web.Response(body=answer(await request.read()), content_type="application/json")
async def main():
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    await asyncio.Event().wait()
uvloop.run(main())
""",
}
"""Servers that read a JSON request and write an answer as an agent's, without a model."""

ANSWER = """
import orjson
def answer(body):
    orjson.loads(body)
    return orjson.dumps({"predictions": [{"action": 1, "q_values": [0.1, 0.2]}]})
"""


@dataclass(frozen=True)
class Load:
    """Requests as wrk saw them; the server's processor time in seconds, and its memory before and after, in MB."""

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float
    cpu: float
    memory: tuple[float, float]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def row(self, name: str) -> list[str]:
        """For a table."""
        return [
            name, f"{self.rate:,.0f}", f"{self.p50:.2f}", f"{self.p99:.2f}", f"{self.cpu / self.requests * 1e6:.0f}",
            f"{self.requests:,}", f"{self.failed}", " to ".join(f"{size:.0f}" for size in self.memory),
        ]  # fmt: skip


HEADS = ("64 connections", "requests/s", "p50 ms", "p99 ms", "CPU us", "requests", "failed", "memory, MB")


def write_agent(folder: Path) -> None:
    """A SavedModel as `rlkit export` writes one of CartPole's DQN, with drawn weights."""
    import tensorflow as tf

    drawn = [tf.random.stateless_normal(shape, (0, i)) * 0.2 for i, shape in enumerate([(4, 64), (64, 64), (64, 2)])]
    module = tf.Module()
    module.kernels = [tf.Variable(kernel) for kernel in drawn]
    module.biases = [tf.Variable(tf.zeros(kernel.shape[1])) for kernel in drawn]

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "observation")])
    def serving_default(observation: tf.Tensor) -> dict[str, tf.Tensor]:
        x = observation
        for i, (kernel, bias) in enumerate(zip(module.kernels, module.biases, strict=True)):
            x = x @ kernel + bias
            x = tf.nn.relu(x) if i < 2 else x
        return {"action": tf.argmax(x, -1), "q_values": x}

    tf.saved_model.save(module, str(folder), {"serving_default": serving_default})


@contextlib.contextmanager
def serving(base: Path, *flags: str) -> Iterator[tuple[int, int, psutil.Process]]:
    """The command in a process of its own: its ports, and the process."""
    command = [
        sys.executable,
        "-m",
        "rlkit",
        "serve",
        str(base),
        "--name",
        NAME,
        "--port",
        "0",
        "--grpc-port",
        "0",
        *flags,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        try:
            told = server.stdout.readline() + server.stdout.readline()
            found = re.findall(r":(\d+)(?:/|$)", told, re.MULTILINE)
            assert len(found) == 2, f"the server did not start: {told}"
            yield int(found[0]), int(found[1]), psutil.Process(server.pid)
        finally:
            server.terminate()


def wrk(port: int, process: psutil.Process, requests: int, connections: int = 64) -> Load:
    """Load a server until so many requests are answered, after a short warm-up."""
    program = shutil.which("wrk")
    if program is None:
        sys.exit("wrk is not installed: on Debian, apt install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA)
        script.flush()

        def run(seconds: float) -> list[int]:
            command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
            command += ["-s", script.name, f"http://127.0.0.1:{port}{PREDICT}"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = re.search(r"^result (.*)$", said, re.MULTILINE)
            assert found, said
            return [int(word) for word in found[1].split()]

        warm = run(2)
        total = [0, 0, 0]
        p50 = p99 = 0.0
        before, memory = process.cpu_times(), process.memory_info().rss / 2**20
        while total[0] < requests:
            rate = warm[0] / warm[1] * 1e6
            *more, half, most = run(min(60, (requests - total[0]) / rate * 1.05))
            total = [a + b for a, b in zip(total, more, strict=True)]
            p50, p99 = max(p50, half / 1e3), max(p99, most / 1e3)
        after = process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    return Load(total[0], total[1] / 1e6, total[2], p50, p99, cpu, (memory, process.memory_info().rss / 2**20))


def load(base: Path, requests: int) -> None:
    """The batching server beside one that calls the model for each request."""
    rows, rates = [], []
    for name, flags, count in (("batches", (), requests), ("alone", ("--batch-size", "1"), requests // 10)):
        with serving(base, *flags) as (port, _, process):
            found = wrk(port, process, count)
            size = mean_batch(port)
        if (size > 1) != (name == "batches"):
            sys.exit(f"the model was called with {size:.2f} rows on average, which is not {name}")
        rates.append(found)
        rows.append(found.row(name))
    table("rlkit serve, a network of 64-64", HEADS, rows)
    batches, alone = rates
    cpu = alone.cpu / alone.requests / (batches.cpu / batches.requests)
    print(f"batches: {batches.rate / alone.rate:.1f} times the requests, {cpu:.1f} times by the processor's time")


def mean_batch(port: int) -> float:
    """Rows of a call of the model, on average, as the server counts them."""
    from rlkit.serving.rest import METRICS

    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", METRICS)
        page = connection.getresponse().read().decode()
    rows, calls = (
        float(re.search(rf"^rlkit:serving:batch_size_{end}{{.*}} (.*)$", page, re.MULTILINE)[1])  # type: ignore[index]
        for end in ("sum", "count")
    )
    return rows / calls


def others(requests: int) -> None:
    """What HTTP costs without a model, by several servers."""
    rows = []
    for name, code in ECHO.items():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = ANSWER + code.replace("PORT", str(port))
        with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as server:
            try:
                _until(lambda port=port: socket.create_connection(("127.0.0.1", port), 1).close())  # type: ignore[misc]
                rows.append(wrk(port, psutil.Process(server.pid), requests).row(name))
            finally:
                server.kill()
    table("HTTP and JSON alone, no model", HEADS, rows)


def _until(attempt: Callable[[], object], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while True:
        try:
            attempt()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


def latency(base: Path, count: int = 3_000) -> None:
    """Milliseconds of a request by one client that keeps its connection."""
    with serving(base) as (port, grpc_port, _):
        rows = [["REST", *_percentiles(_rest(port), count)], ["gRPC", *_percentiles(_grpc(grpc_port), count)]]
    table("One client, batch 1, milliseconds", ("", "p50", "p90", "p99"), rows)


def _percentiles(request: Callable[[], object], count: int) -> list[str]:
    for _ in range(200):
        request()
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        request()
        taken.append(time.perf_counter() - begun)
    cuts = statistics.quantiles(taken, n=100)
    return [f"{cuts[p - 1] * 1e3:.2f}" for p in (50, 90, 99)]


def _rest(port: int) -> Callable[[], object]:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def request() -> bytes:
        connection.request("POST", PREDICT, BODY)
        return connection.getresponse().read()

    return request


def _grpc(port: int) -> Callable[[], object]:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    message = predict_pb2.PredictRequest()
    message.model_spec.name = NAME
    message.inputs["observation"].CopyFrom(tf.make_tensor_proto(GOOD["instances"], tf.float32))
    return lambda: stub.Predict(message)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000, help="Of the load; a tenth of it without batches.")
    parser.add_argument("--only", choices=("latency", "load", "http"))
    chosen = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_agent(base / "1")
        parts: dict[str, Callable[[], None]] = {
            "latency": lambda: latency(base),
            "load": lambda: load(base, chosen.requests),
            "http": lambda: others(chosen.requests // 5),
        }
        for name, part in parts.items():
            if chosen.only in (None, name):
                part()


if __name__ == "__main__":
    main()
