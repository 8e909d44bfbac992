"""HTTP/1.1 on httptools' parser: connections, keep-alive, pipelining, limits, and a stop that waits for answers.

A framework's request costs more than a small model's call in a batch (docs/decisions/0018), so there is none: a request
is method, path and body, an answer is status, body and type.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import cast

import httptools
import orjson

HEAD = 64 * 1024
"""Bytes of a request's line and headers; more is refused."""

PATIENCE = 8
"""Times the limit that a body which is too large is read before its connection is closed."""

PIPELINED = 64
"""Requests of one connection that may wait for answers before no more are read."""

IDLE = 75.0
"""Seconds after which a connection is closed on which nothing happens."""

JSON_TYPE = "application/json"

Respond = Callable[[int, bytes, str], None]
Handler = Callable[[str, str, bytes, Respond], None]
"""Takes method, path and body, and calls the last argument once, at once or later, on the loop's thread."""


def error_body(message: str) -> bytes:
    """An error as the protocol has it."""
    return orjson.dumps({"error": message})


@lru_cache(64)
def _head(status: int, kind: str, closes: bool) -> bytes:
    """An answer's status line and headers up to the length's number."""
    end = "Connection: close\r\n" if closes else ""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n{end}Content-Length: ".encode()


class Slot:
    """A request that waits for its answer; answers go out in the order of the requests."""

    __slots__ = ("closes", "connection", "head_only", "ready")

    def __init__(self, connection: Connection, closes: bool, head_only: bool) -> None:
        self.connection, self.closes, self.head_only = connection, closes, head_only
        self.ready: bytes | None = None

    def respond(self, status: int, body: bytes, kind: str = JSON_TYPE) -> None:
        """Answer."""
        connection = self.connection
        self.closes = self.closes or connection.server.stopping
        head = _head(status, kind, self.closes)
        self.ready = b"%b%d\r\n\r\n%b" % (head, len(body), b"" if self.head_only else body)
        connection.flush()


@dataclass
class Server:
    """What connections share.

    Args:
        handler: answers requests.
        limit: bytes that a body may have.
    """

    handler: Handler
    limit: int
    stopping: bool = False
    connections: set[Connection] = field(default_factory=set)

    def connection(self) -> Connection:
        """A protocol for a new connection."""
        return Connection(self)

    def close_idle(self) -> None:
        """Close what has been idle for long; once stopping, everything that waits for no answer."""
        now = time.monotonic()
        for connection in list(self.connections):
            idle = now - connection.last > IDLE
            if not connection.slots and (idle or (self.stopping and not connection.reading)):
                connection.transport.close()

    def abort(self) -> None:
        """Close what is left."""
        for connection in list(self.connections):
            connection.transport.abort()


class Connection(asyncio.Protocol):
    """One client."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.slots: deque[Slot] = deque()
        self.last = time.monotonic()
        self._parser = httptools.HttpRequestParser(self)
        self._blocked = self._closed = self._in_body = False
        self._head = 0
        self.on_message_begin()

    @property
    def reading(self) -> bool:
        """Whether a request is there in part."""
        return self._in_body or self._head > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        self.server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.server.connections.discard(self)
        self._closed = True
        self.slots.clear()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self.last = time.monotonic()
        if not self._in_body:
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "Malformed request: this server speaks HTTP/1.1 only")
        except httptools.HttpParserError as error:
            self._refuse(400, f"Malformed request: {error}")
        else:
            if self._head > HEAD and not self._in_body:
                self._refuse(431, f"Malformed request: its line and headers have more than {HEAD} bytes")
            elif len(self.slots) >= PIPELINED:
                self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; it may still read what it is owed."""
        if self.slots:
            self.slots[-1].closes = True
        return bool(self.slots)

    # httptools calls these.

    def on_message_begin(self) -> None:
        self._url = b""
        self._body: list[bytes] = []
        self._size = self._length = 0
        self._in_body = self._waits = False

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 6 and name.lower() == b"expect":
            self._waits = value.lower() == b"100-continue"
        elif len(name) == 14 and name.lower() == b"content-length":
            self._length = int(value)

    def on_headers_complete(self) -> None:
        self._in_body = True
        if self._waits:
            if self._length > self.server.limit:
                self._refuse(413, self._too_large())
            elif not self.slots:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self.server.limit:
            self._body.append(part)
        else:  # read on: a client that still sends would not see the answer of a connection that is closed
            self._body.clear()
            if self._size > PATIENCE * self.server.limit:
                self._refuse(413, self._too_large())

    def on_message_complete(self) -> None:
        self._head = 0
        self._in_body = False
        if self._closed:
            return
        parser = self._parser
        method = parser.get_method().decode()
        slot = Slot(self, not parser.should_keep_alive(), method == "HEAD")
        self.slots.append(slot)
        if self._size > self.server.limit:
            slot.respond(413, error_body(self._too_large()))
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self.server.handler(method, self._url.decode("latin-1"), body, slot.respond)

    def _too_large(self) -> str:
        return f"The request's body has more than {self.server.limit} bytes"

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be read on from, after the answers before it, and close."""
        if self._closed:
            return
        self._closed = True  # read no more
        self.transport.pause_reading()
        slot = Slot(self, True, False)
        self.slots.append(slot)
        slot.respond(status, error_body(message))

    def flush(self) -> None:
        """Write the answers that are ready and next."""
        slots, transport = self.slots, self.transport
        full = len(slots) >= PIPELINED
        while slots and (ready := slots[0].ready) is not None:
            slot = slots.popleft()
            transport.write(ready)
            if slot.closes:
                self._closed = True
                slots.clear()
                transport.close()
                return
        if full and len(slots) < PIPELINED and not self._blocked and not self._closed:
            transport.resume_reading()

    def pause_writing(self) -> None:
        self._blocked = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        if not self._closed and len(self.slots) < PIPELINED:
            self.transport.resume_reading()
