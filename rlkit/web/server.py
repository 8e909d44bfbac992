"""The page's files, and a server of them for one computer."""

from __future__ import annotations

import base64
import io
import re
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from rlkit.errors import UserError

ASSETS = Path(__file__).parent / "page"
"""The page itself, which has the envs in JavaScript; see docs/decisions/0019-the-page-runs-the-tflite.md."""

IDLE = 30.0
"""Seconds after which a connection is closed on which nothing comes."""


@lru_cache(1)
def policy() -> str:
    """The Content-Security-Policy: the page may run its own files and its runtime, and talk to its own server alone.

    The runtime is inflated in the page, so it comes from blob: addresses; the one script in the page itself is a map of
    names, which is allowed by its digest.
    """
    found = re.search(rb'<script type="importmap">(.*?)</script>', (ASSETS / "index.html").read_bytes(), re.DOTALL)
    digest = base64.b64encode(sha256(found[1] if found else b"").digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval' 'sha256-{digest}'; connect-src 'self' blob:; "
        "style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Handler(SimpleHTTPRequestHandler):
    """Files of the server's folder, without a log."""

    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012 - as its base declares it
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".json": "application/json",
        ".svg": "image/svg+xml",
    }
    timeout = IDLE
    server: Server

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """The file that is asked for; no folder but the page's own is answered."""
        path = Path(self.translate_path(self.path))
        try:
            root = path == self.server.folder and urlsplit(self.path).path.endswith("/")  # else it would redirect
            found = root or path.is_file()
        except (OSError, ValueError):  # a name that is too long; an address that is none
            found = False
        if found:
            return super().send_head()
        self.send_error(HTTPStatus.NOT_FOUND)
        return None

    def translate_path(self, path: str) -> str:
        self.directory = str(self.server.folder)
        return super().translate_path(path)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # the next run's page may have the same address
        self.send_header("Content-Security-Policy", policy())
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


class Server(ThreadingHTTPServer):
    """Serves a folder, which may be made after the server listens; closed at the end of a with block.

    Args:
        folder: with the page.
        host: address to listen on.
        port: to listen on; 0 for any that is free.

    Raises:
        UserError: no such address, or the port is in use or not free to take.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
        self.folder = folder
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"host {host}, port {port} cannot be listened on ({reason}): choose another") from None

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{self.server_address[0]!s}:{self.server_port}/"

    def serve(self, started: Callable[[], None] = lambda: None) -> None:
        """Call `started`, then answer until Ctrl-C, or a signal to end."""
        for number in (signal.SIGINT, signal.SIGTERM):  # the first is ignored by what a shell starts in the background
            signal.signal(number, signal.default_int_handler)
        try:
            started()
            self.serve_forever()
        except KeyboardInterrupt:
            return

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away or takes nothing more is no error; all else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type] # as the base has it
