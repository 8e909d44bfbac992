"""The whole server: an event loop for HTTP, gRPC and small models, and a thread that looks for new versions."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import tensorflow as tf
import uvloop

from rlkit.errors import UserError
from rlkit.quiet import quiet
from rlkit.serving.batching import Batcher
from rlkit.serving.connection import HALF, Connection
from rlkit.serving.grpc_service import Services
from rlkit.serving.hosts import Hosts
from rlkit.serving.http import Server
from rlkit.serving.lane import Lane
from rlkit.serving.metrics import Metrics
from rlkit.serving.models import Model, Say
from rlkit.serving.ports import BACKLOG, listen
from rlkit.serving.rest import Rest

SWITCH = 0.001
"""Seconds after which a thread that computes lets one run that waits, such as the event loop's."""

GRACE = 30.0
"""Seconds that a stop waits for requests that were taken."""


@dataclass(frozen=True)
class Options:
    """How to serve.

    Args:
        path: a folder of versions, or one version's folder.
        name: the model's in requests.
        host: address to listen on.
        port: for REST; 0 takes a free one.
        grpc_port: for gRPC; 0 takes a free one.
        batch_size: rows after which a batch takes no more; 1 computes each request alone.
        batch_timeout: seconds that a request may wait for others.
        versions: how many of the newest are served.
        labels: names of versions.
        poll: seconds between looks for new versions.
        limit: bytes that a request may have.
        nan: take NaN and Infinity in JSON.
        operations: TensorFlow operations that graphs may have besides `rlkit.serving.ops.ALLOWED`.
        cors: let browsers show answers to pages of any origin.
        hosts: names that requests may be for, beside those that `Hosts` takes.
    """

    path: Path
    name: str = "default"
    host: str = "127.0.0.1"
    port: int = 8501
    grpc_port: int = 8500
    batch_size: int = 64
    batch_timeout: float = 0.0
    versions: int = 2
    labels: Mapping[str, int] = field(default_factory=dict)
    poll: float = 1.0
    limit: int = 16_000_000
    nan: bool = False
    operations: Collection[str] = ()
    cors: bool = False
    hosts: Sequence[str] = ()


@dataclass(frozen=True)
class Addresses:
    """Where a server listens."""

    host: str
    port: int
    grpc_port: int


def _bind_remote(remote: grpc.aio.Server, options: Options) -> int:
    """The port for gRPC that a server got; UserError where it got none."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    try:
        with quiet(always=True):  # it writes to stderr what the exception does not tell
            port: int = remote.add_insecure_port(f"{host}:{options.grpc_port}")
    except RuntimeError:
        raise UserError(f"--grpc-port {options.grpc_port} cannot be listened on at {options.host}") from None
    return port


class Stop:
    """Ends a server from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.asked = loop, asyncio.Event()

    def __call__(self) -> None:
        """Take no new requests, answer those that were taken, end."""
        self.loop.call_soon_threadsafe(self.asked.set)


async def serve(options: Options, say: Say, started: Callable[[Addresses, Stop], None]) -> None:
    """Serve until told to stop.

    Args:
        options: what and where.
        say: told of versions that come and go.
        started: told where the server listens once it answers, and what stops it.

    Raises:
        UserError: a port is taken, or no version can be loaded.
    """
    loop = asyncio.get_running_loop()
    remote = grpc.aio.server(options=[("grpc.max_receive_message_length", options.limit), ("grpc.so_reuseport", 0)])
    listener = listen("--port", options.host, options.port)
    try:
        grpc_port = _bind_remote(remote, options)
        model = Model(options.name, options.path, options.versions, options.labels, say, options.operations)
        await loop.run_in_executor(None, model.poll, False)
        if not model.loaded:
            raise UserError(f"no version in {options.path} can be loaded: {_reasons(model)}")
    except BaseException:
        listener.close()
        await remote.stop(None)
        raise
    metrics = Metrics(options.name, lambda: model.failures)
    batcher = Batcher(loop, options.batch_size, options.batch_timeout, metrics)
    lane = Lane(loop, options.batch_size == 1, metrics)
    rest = Rest(model, batcher, lane, metrics, nan=options.nan, limit=options.limit)
    http = Server(rest, options.limit, Hosts([options.host, *options.hosts]), options.cors)
    services = Services(model, batcher, lane, metrics, options.limit)
    services.add_to(remote)
    await remote.start()
    queue = listener.dup()  # of which what is in it can be taken when the server does not listen any more
    listening = await loop.create_server(lambda: Connection(http), sock=listener, backlog=BACKLOG)
    stop = Stop(loop)
    ended = threading.Event()
    watcher = threading.Thread(target=model.watch, args=(ended, options.poll), name="versions", daemon=True)
    watcher.start()
    checks = loop.create_task(_check(http))
    started(Addresses(options.host, listener.getsockname()[1], grpc_port), stop)
    try:
        await stop.asked.wait()
    finally:
        checks.cancel()
        ended.set()
        http.stopping = time.monotonic()
        listening.close()
        await _take_queue(queue, http)
        await asyncio.gather(_stop_remote(remote, services), _drain(http))
        batcher.close()
        lane.close()
        await loop.run_in_executor(None, watcher.join)


async def _check(http: Server) -> None:
    while True:
        await asyncio.sleep(1)
        http.check()


async def _take_queue(queue: socket.socket, http: Server) -> None:
    """Take the connections that clients made and nobody accepted, and then no more."""
    loop = asyncio.get_running_loop()
    queue.setblocking(False)
    try:
        with suppress(BlockingIOError):
            while True:
                await loop.connect_accepted_socket(lambda: Connection(http), queue.accept()[0])
    finally:
        queue.close()


async def _drain(http: Server) -> None:
    """Wait until every request that was taken is answered, and close the connections."""
    ends = time.monotonic() + GRACE
    while http.connections and time.monotonic() < ends:
        http.check()
        await asyncio.sleep(0.01)
    http.abort()


async def _stop_remote(remote: grpc.aio.Server, services: Services) -> None:
    """Take no new calls, and wait for those that have come whole: one that has not must not hold the server up."""
    stopping = asyncio.ensure_future(remote.stop(GRACE))
    begun = time.monotonic()
    while not stopping.done() and (services.active or time.monotonic() - begun < HALF):
        await asyncio.sleep(0.01)
    if not stopping.done():
        await remote.stop(None)
    await stopping


def _reasons(model: Model) -> str:
    return "; ".join(f"version {n}: {s.message}" for n, s in sorted(model.status.items())) or "none is whole"


def prepare() -> None:
    """Set TensorFlow and the interpreter up for serving, before anything computes."""
    sys.setswitchinterval(SWITCH)
    # A pool of threads for operations that could run side by side only passes a small model's from one to the next.
    with suppress(RuntimeError):  # it runs already
        tf.config.threading.set_inter_op_parallelism_threads(1)


def run(options: Options, say: Say, started: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that were taken are answered first.

    Raises:
        UserError: a port is taken, or no version can be loaded.
    """
    gc.collect()
    gc.freeze()  # TensorFlow's own objects never go: looking at them makes a pause of many requests

    def ready(addresses: Addresses, stop: Stop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        started(addresses)

    uvloop.run(serve(options, say, ready))
