"""HTTP/1.1: what connections share, and answers.

A framework's request costs more than a small model's call in a batch (docs/decisions/0018), so there is none: a request
is method, path and body, an answer is status, body and type. What a client may take of memory and time is bounded
(docs/decisions/0029).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

import orjson

from rlkit.serving.bodies import Compressed
from rlkit.serving.hosts import Hosts

JSON_TYPE = "application/json"

LARGE = 64 * 1024
"""Bytes of a body from which on it counts in what a server holds."""

CORS = (
    b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: *\r\nAccess-Control-Max-Age: 86400\r\n"
)

Respond = Callable[[int, bytes, str], None]
Body = bytes | bytearray | Compressed
Handler = Callable[[str, str, Body, Respond], None]
"""Takes method, path and body, and calls the last argument once, at once or later, on the loop's thread."""


def error_body(message: str) -> bytes:
    """An error as the protocol has it."""
    return orjson.dumps({"error": message})


@lru_cache(64)
def _head(status: int, kind: str, more: bytes, most: bytes) -> bytes:
    """An answer's status line and headers up to the length's number."""
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n".encode()
    return line + more + most + b"Content-Length: "


class Client(Protocol):
    """A connection, as slots and servers see it: a `rlkit.serving.connection.Connection`."""

    transport: asyncio.Transport
    server: Server

    def flush(self) -> None:
        """Send the answers that are ready, in the order of the requests."""
        ...

    def refuse(self, status: int, message: str) -> None:
        """Answer a request that is still read with an error, and end the connection."""
        ...

    def check(self, now: float) -> None:
        """Close the connection if it has taken too long."""
        ...


class Slot:
    """A request that waits for its answer; answers go out in the order of the requests."""

    __slots__ = ("closes", "connection", "head_only", "held", "keeps", "ready")

    def __init__(self, connection: Client, closes: bool, head_only: bool = False, keeps: bool = False) -> None:
        self.connection, self.closes, self.head_only, self.keeps = connection, closes, head_only, keeps
        self.ready: bytes | list[bytes] | None = None
        self.held = 0

    def respond(self, status: int, body: bytes, kind: str = JSON_TYPE) -> None:
        """Answer."""
        connection = self.connection
        server = connection.server
        server.held -= self.held
        self.closes = self.closes or server.stopping > 0
        more = b"Connection: close\r\n" if self.closes else b"Connection: keep-alive\r\n" if self.keeps else b""
        head, size = _head(status, kind, more, server.headers), len(body)
        if size < LARGE or self.head_only:
            self.ready = b"%b%d\r\n\r\n%b" % (head, size, b"" if self.head_only else body)
        else:  # it is not copied
            self.ready = [b"%b%d\r\n\r\n" % (head, size), body]
        connection.flush()


class Server:
    """What connections share.

    Args:
        handler: answers requests.
        limit: bytes that a body may have.
        hosts: names that a request may be for.
        cors: let browsers show answers to any page.
    """

    def __init__(self, handler: Handler, limit: int, hosts: Hosts, cors: bool = False) -> None:
        self.handler, self.limit, self.hosts = handler, limit, hosts
        self.headers = CORS if cors else b""
        self.connections: set[Client] = set()
        self.stopping = 0.0
        """When it was told to stop; 0 before."""
        self.held = 0
        """Bytes of large bodies that are read or wait for their answer."""
        self.most = 16 * limit
        self.large: dict[Client, None] = {}
        """Connections on which a large body is read, the first to begin first."""

    def hold(self, connection: Client, size: int) -> None:
        """Count bytes of a large body; where there are too many, the one that is read for the longest is given up."""
        self.large[connection] = None
        self.held += size
        while self.held > self.most and self.large:
            connection = next(iter(self.large))
            connection.refuse(503, "The server holds too much of other requests: try again")
            self.large.pop(connection, None)

    def check(self) -> None:
        """Close what has taken too long."""
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check(now)

    def abort(self) -> None:
        """Close what is left."""
        for connection in list(self.connections):
            connection.transport.abort()
