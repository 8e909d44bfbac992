"""The whole server: an event loop for HTTP, gRPC and small models, and a thread that looks for new versions."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import tensorflow as tf
import uvloop

from rlkit.errors import UserError
from rlkit.quiet import quiet
from rlkit.serving.batching import Batcher
from rlkit.serving.grpc_service import Services
from rlkit.serving.http import Server
from rlkit.serving.metrics import Metrics
from rlkit.serving.models import Model, Say
from rlkit.serving.rest import Rest

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


@dataclass(frozen=True)
class Addresses:
    """Where a server listens."""

    host: str
    port: int
    grpc_port: int


def bind(host: str, port: int) -> socket.socket:
    """A listening socket for REST; UserError where there can be none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"--host {host} cannot be listened on: {error.strerror or error}") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(1024)
    except OSError as error:
        made.close()
        raise UserError(f"--port {port} cannot be listened on at {host}: {error.strerror or error}") from None
    return made


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
    listener = bind(options.host, options.port)
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
    metrics = Metrics(options.name)
    batcher = Batcher(loop, options.batch_size, options.batch_timeout, metrics)
    http = Server(Rest(model, batcher, metrics, options.nan), options.limit)
    Services(model, batcher, metrics, options.limit).add_to(remote)
    await remote.start()
    listening = await loop.create_server(http.connection, sock=listener, backlog=1024)
    stop = Stop(loop)
    ended = threading.Event()
    watcher = threading.Thread(target=model.watch, args=(ended, options.poll), name="versions", daemon=True)
    watcher.start()
    idle = loop.create_task(_close_idle(http))
    started(Addresses(options.host, listener.getsockname()[1], grpc_port), stop)
    try:
        await stop.asked.wait()
    finally:
        idle.cancel()
        ended.set()
        listening.close()
        http.stopping = True
        await asyncio.gather(remote.stop(GRACE), _drain(http))
        batcher.close()
        await loop.run_in_executor(None, watcher.join)


async def _close_idle(http: Server) -> None:
    while True:
        await asyncio.sleep(5)
        http.close_idle()


async def _drain(http: Server) -> None:
    """Wait until every request that was taken is answered, and close the connections."""
    ends = asyncio.get_running_loop().time() + GRACE
    while http.connections and asyncio.get_running_loop().time() < ends:
        http.close_idle()
        await asyncio.sleep(0.01)
    http.abort()


def _reasons(model: Model) -> str:
    return "; ".join(f"version {n}: {s.message}" for n, s in sorted(model.status.items())) or "none is whole"


def prepare() -> None:
    """Set TensorFlow up for serving, before anything computes in it."""
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
