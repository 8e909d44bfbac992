"""A connection of HTTP/1.1 on httptools' parser: keep-alive, pipelining, limits, and an end that loses no answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from typing import cast

import httptools

from rlkit.serving.bodies import CODINGS, Compressed, too_large
from rlkit.serving.hosts import HOST
from rlkit.serving.http import LARGE, Body, Respond, Server, Slot, error_body

HEAD = 64 * 1024
"""Bytes of a request's line and headers; of what may follow a body; of what may stand between two parts of one."""

FRAMING = 8
"""Bytes of chunks' sizes and extensions for each byte of a body, beside `HEAD`."""

HEAD_TIME = 20.0
"""Seconds from a request's first byte until its head is there."""

TIME = 60.0
"""Seconds from a request's first byte to its last; and for which a client may take nothing of its answer."""

IDLE = 75.0
"""Seconds after which a connection without a request is closed."""

LINGER = 5.0
"""Seconds for which a connection that ends is still read while nothing comes: what is sent to one that is closed takes
the answer back that its client has not read."""

LINGER_TOTAL = 30.0
"""The same, however much comes."""

QUIET = 0.3
"""Seconds that a server which stops waits for a request on a connection that has none."""

HALF = 2.0
"""Seconds that it waits for the rest of a request."""

PIPELINED = 64
"""Requests of one connection that may wait for answers before no more are read."""

TURN = 16
"""Requests of one connection that are begun before others have their turn."""

ABSOLUTE = re.compile(rb"https?://[^/?#]*([/?].*)?", re.IGNORECASE | re.DOTALL)
"""A target as it is sent to a proxy: only its path counts here."""


class Connection(asyncio.Protocol):
    """One client."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.slots: deque[Slot] = deque()
        self.last = self.since = time.monotonic()  # when something came; when what it does now began
        self._parser = httptools.HttpRequestParser(self)
        self._later: deque[tuple[str, str, Body, Respond]] = deque()  # requests that have not been begun
        self._again: bytes | None = None  # the head of a request with an Upgrade header, without that
        self._turn = 0  # requests that came with the last data
        self._framing = self._gap = 0  # bytes that are no body: of this request, and since the last that was
        self._held = 0  # bytes of the body that count in what the server holds
        self._closed = False  # takes no more requests
        self._ended = 0.0  # when the last answer was written, 0 before
        self._idle = 0.0  # when it was first seen to have no request since it had one, 0 before
        self._eof = False  # the client sends no more
        self._blocked = 0.0  # since when the client takes nothing of its answers, 0 while it does
        self._reading = self._in_body = False  # whether a request is there in part; whether its head is
        self._headers: dict[bytes, bytes] = {}
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: bytes | bytearray = b""
        self._size = 0
        self._in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        self.server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.server.connections.discard(self)
        self._closed = True
        self._drop()
        self.slots.clear()
        self._later.clear()

    def data_received(self, data: bytes) -> None:
        self.last = time.monotonic()
        if self._closed:
            return
        self._turn = 0
        size = self._size
        self._framing += len(data)
        rest: bytes | memoryview = data
        try:
            while True:
                try:
                    self._parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    if self._again is None:  # CONNECT
                        raise httptools.HttpParserError("this server speaks HTTP/1.1 only") from None
                    rest = memoryview(rest)[upgrade.args[0] :]
                    head, self._again = self._again, None
                    self._parser = httptools.HttpRequestParser(self)
                    self._parser.feed_data(head)
        except httptools.HttpParserError as error:
            self.refuse(400, f"Malformed request: {error}")
            return
        self._gap = 0 if self._size != size else self._gap + len(data)
        if self._framing > HEAD and not self._in_body:
            self._refuse_head()
        elif self._in_body and (self._gap > HEAD or self._framing > HEAD + FRAMING * self._size):
            self.refuse(400, f"Malformed request: its chunks or trailers have more than {HEAD} bytes beside the body")
        elif len(self.slots) >= PIPELINED:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; it may still read what it is owed."""
        self._eof = True
        if self.slots:
            self.slots[-1].closes = True
        return bool(self.slots)

    # httptools calls these.

    def on_message_begin(self) -> None:
        self._reset()
        self._reading = True
        self.since = self.last

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # else it is a trailer
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_body = True
        headers = dict(self._fields)
        if len(headers) != len(self._fields):  # a header that comes several times is a list
            headers.clear()
            for name, value in self._fields:
                headers[name] = headers[name] + b", " + value if name in headers else value
        self._headers = headers
        if self._framing > HEAD and sum(len(name) + len(value) for name, value in self._fields) > HEAD:
            self._refuse_head()
        elif b"upgrade" in headers and self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            self._again = self._without_upgrade()
        elif (headers.get(b"host") in self.server.hosts.known and self._url[:1] == b"/") or self._is_served():
            if int(headers.get(b"content-length", 0)) > self.server.limit:
                self.refuse(413, too_large(self.server.limit).message)
            elif headers.get(b"expect", b"").lower() == b"100-continue" and not self.slots and not self._closed:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _without_upgrade(self) -> bytes:
        """This request's head without the offer of another protocol, which a server may ignore (RFC 9110, 7.8)."""
        parser = self._parser
        first = b"%b %b HTTP/%b" % (parser.get_method(), self._url, parser.get_http_version().encode())
        fields = [b"%b: %b" % field for field in self._headers.items() if field[0] != b"upgrade"]
        return b"\r\n".join([first, *fields, b"", b""])

    def _is_served(self) -> bool:
        """Whether the request is for a name of this server; it is refused if it is not."""
        absolute = ABSOLUTE.fullmatch(self._url) if self._url[:1] != b"/" else None
        if absolute:  # as to a proxy, which no browser is told to take this for: RFC 9112, 3.2.2
            self._url = absolute[1] or b"/"
            return True
        if self._url[:1] not in b"/*":
            self.refuse(400, "Malformed request: its target is no path")
            return False
        host = self._headers.get(b"host")
        if host is not None and host in self.server.hosts:
            return True
        if host is None and self._parser.get_http_version() == "1.0":
            return True
        name = "" if host is None else host.decode("latin-1")
        if not HOST.fullmatch(name):
            self.refuse(400, f"Malformed request: Host is {name!r}; expected one name")
        else:
            self.refuse(421, f"Host {name} is not served here: rlkit serve --allow-host adds a name")
        return False

    def on_body(self, part: bytes) -> None:
        if self._closed:
            return
        self._size += len(part)
        self._framing -= len(part)
        if self._size > self.server.limit:
            self.refuse(413, too_large(self.server.limit).message)
            return
        if not self._body:
            self._body = part
        elif type(self._body) is bytes:
            self._body = bytearray(self._body)
            self._body += part
        else:
            self._body += part
        if self._size > LARGE:
            held, self._held = self._held, self._size
            self.server.hold(self, self._size - held)

    def on_message_complete(self) -> None:
        if self._again is not None:
            return
        self._framing = self._gap = 0
        self._reading = self._in_body = False
        if self._closed:
            return
        parser, headers = self._parser, self._headers
        body: Body = self._body
        method = parser.get_method().decode()
        keeps = parser.should_keep_alive()
        slot = Slot(self, not keeps, method == "HEAD", keeps and b"connection" in headers)
        self.slots.append(slot)
        if self._held:
            slot.held, self._held = self._held, 0
            self.server.large.pop(self, None)
        if b"content-encoding" in headers:
            coding = headers[b"content-encoding"].lower()
            if coding in CODINGS:
                body = Compressed(self._body, self.server.limit)
            elif coding != b"identity":
                name = coding.decode("latin-1")
                slot.respond(415, error_body(f"Content-Encoding is {name}; expected gzip or deflate"))
                return
        if method == "OPTIONS" and self.server.headers:  # what a browser asks first: the headers are the answer
            slot.respond(200, b"")
            return
        self._turn += 1
        if self._turn <= TURN and not self._later:
            self.server.handler(method, self._url.decode("latin-1"), body, slot.respond)
            return
        if not self._later:
            asyncio.get_running_loop().call_soon(self._begin_more)
        self._later.append((method, self._url.decode("latin-1"), body, slot.respond))

    def _begin_more(self) -> None:
        """Begin requests whose turn it is."""
        for _ in range(min(TURN, len(self._later))):
            self.server.handler(*self._later.popleft())
        if self._later:
            asyncio.get_running_loop().call_soon(self._begin_more)

    def refuse(self, status: int, message: str) -> None:
        """Answer what is not read on, after the answers before it, and close."""
        if self._closed:
            return
        self._closed = True
        self._drop()
        slot = Slot(self, True)
        self.slots.append(slot)
        slot.respond(status, error_body(message))

    def _refuse_head(self) -> None:
        self.refuse(431, f"Malformed request: its line and headers have more than {HEAD} bytes")

    def _drop(self) -> None:
        """Forget the body that is read."""
        self._body = b""
        self.server.held -= self._held
        self._held = 0
        self.server.large.pop(self, None)

    def flush(self) -> None:
        """Write the answers that are ready and next."""
        slots, transport = self.slots, self.transport
        full = len(slots) >= PIPELINED
        while slots and (ready := slots[0].ready) is not None:
            slot = slots.popleft()
            if isinstance(ready, bytes):
                transport.write(ready)
            else:
                transport.writelines(ready)
            if slot.closes:
                self._end()
                return
        if full and len(slots) < PIPELINED and not self._blocked and not self._closed:
            transport.resume_reading()

    def _end(self) -> None:
        """End what is written; what still comes is read and dropped until the client has seen that."""
        self._closed = True
        self._drop()
        self._ended = time.monotonic()
        self.slots.clear()
        self._later.clear()
        if self._eof:
            self.transport.close()
        else:
            self.transport.write_eof()
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._blocked = time.monotonic()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked = 0.0
        if len(self.slots) < PIPELINED:
            self.transport.resume_reading()

    def check(self, now: float) -> None:
        """Close or refuse what has taken too long."""
        stopping = self.server.stopping
        if self._blocked or (self._ended and self.transport.get_write_buffer_size()):
            if now - (self._blocked or self._ended) > TIME:
                self.transport.abort()
        elif self._ended:
            quiet = now - max(self._ended, self.last)
            if quiet > (QUIET if stopping else LINGER) or now - self._ended > LINGER_TOTAL:
                self.transport.abort()
        elif self._reading:
            if stopping and now - stopping > HALF:
                self.refuse(503, "The server stops")
            elif now - self.since > (TIME if self._in_body else HEAD_TIME):
                self.refuse(408, "The request takes too long")
        elif self.slots:
            self._idle = 0.0
        elif not self._idle or self._idle < self.last:
            self._idle = now
        elif now - max(self._idle, stopping) > (QUIET if stopping else IDLE):
            self.transport.close()
