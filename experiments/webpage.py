"""A page where a run's agent plays in the browser: a folder of files for any web server, and a server of its own."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from rlkit import __version__, envs
from rlkit.errors import UserError
from rlkit.files import read_json, whole_folder
from rlkit.run import RunDirectory

if TYPE_CHECKING:
    from rlkit.experiments.training import Run

ASSETS = Path(__file__).parent / "web"
"""The page itself, which has the envs in JavaScript; see docs/decisions/0019-the-page-runs-the-tflite.md."""

CARTPOLE, TRIANGLE = "CartPole-v1", "rlkit/NumberTriangle-v0"

ENVS = (CARTPOLE, TRIANGLE)
"""What the page can play."""

ROWS = 50
"""Most rows of a triangle that the page has room for."""

IDLE = 30.0
"""Seconds after which a connection is closed on which nothing comes."""

FACTS = "page.json"
"""What the page knows of the run; also by which a folder is known to be a page."""


def check(directory: RunDirectory) -> None:
    """Refuse a run that the page cannot play; loads no TensorFlow.

    Raises:
        UserError: a supervised run, another env, or an agent with a memory.
    """
    directory.require("train")
    if directory.env not in ENVS:
        raise UserError(
            f"run {directory.path} is on {directory.env}, which is not there in JavaScript: "
            f"the page plays {' and '.join(ENVS)}"
        )
    if directory.config().get("network") == "lstm":
        raise UserError(
            f"run {directory.path} has an agent with a memory, --network lstm: the page plays agents without one"
        )


def build(run: Run, out: Path, checkpoint: str = "best", held: Callable[[Path], object] = lambda _: None) -> Path:
    """Write the page of a run to a folder, which any web server can show; loads TensorFlow.

    Args:
        run: on one of `ENVS`, of an agent without a memory.
        out: the folder; replaced if it holds an earlier page.
        checkpoint: "best", "last" or a step's number.
        held: called with the folder before it takes its place; an exception of it refuses the page.

    Returns:
        The folder.

    Raises:
        UserError: the run is none for the page, there is no such checkpoint, or the folder cannot be written; then it
            is left as it was.
    """
    from rlkit.experiments.exporting import write_tflite  # noqa: PLC0415 - which builds this page too

    check(run.directory)
    with whole_folder(out, FACTS) as beside:
        shutil.copytree(ASSETS, beside, dirs_exist_ok=True)
        known = facts(run)
        known |= agent_facts(run, write_tflite(run, beside / "model.tflite", checkpoint))
        (beside / FACTS).write_text(json.dumps(known, allow_nan=False), encoding="utf-8")
        held(beside)
    return out


def facts(run: Run) -> dict[str, Any]:
    """What page.json tells the page of the run and its env.

    Args:
        run: on one of `ENVS`.

    Raises:
        UserError: the triangle is too large.
    """
    triangle = {"triangle": _triangle(run)} if run.config.env == TRIANGLE else {}
    return {
        "rlkit": __version__,
        "run": run.path.name,
        "agent": run.directory.agent,
        "env": run.config.env,
        "env_args": dict(run.config.env_args),
        "limit": envs.find(run.config.env).max_episode_steps,
        **triangle,
    }


def agent_facts(run: Run, step: int) -> dict[str, Any]:
    """What it tells of the agent that was saved at a step."""
    return {"step": step, "evaluation": _evaluation(run, step)}


def _evaluation(run: Run, step: int) -> dict[str, Any] | None:
    """The mean return of the agent of a step, and over how many episodes, where it is known."""
    from rlkit.curves import columns  # noqa: PLC0415 - with the rest

    try:
        found = read_json(run.path / "evaluation.json")
        if found["step"] == step and not found.get("epsilon"):  # the page plays greedily
            return {"mean": float(found["mean"]), "episodes": int(found["episodes"])}
    except (OSError, UserError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        pass
    steps, means = columns(run.directory, "evaluations.csv", "mean")
    at = [float(mean) for known, mean in zip(steps, means, strict=True) if known == step]
    return {"mean": at[-1], "episodes": run.config.eval_episodes} if at else None


def _triangle(run: Run) -> dict[str, Any]:
    """A triangle's numbers, and the exact action values at the agent's discount, [S, 2], and without one at the top."""
    from rlkit.envs.number_triangle import NumberTriangleEnv  # noqa: PLC0415 - as the next
    from rlkit.experiments import solving  # noqa: PLC0415 - loads Numba

    with solving.opened(run.config.env, run.config.env_args) as made:
        env: Any = made.unwrapped  # type: ignore[union-attr] # an env, as it was opened by its name
        assert isinstance(env, NumberTriangleEnv)
        rows = env.triangle.rows
        if rows > ROWS:
            raise UserError(f"the triangle of run {run.path} has {rows} rows: the page has room for {ROWS}")
        gamma = float(getattr(run.config, "gamma", 1.0))
        return {
            "rows": [env.triangle.row(i).tolist() for i in range(rows)],
            "slip": env.slip,
            "gamma": gamma,
            "q": solving.solve(env, gamma=gamma, allow_unconverged=True).q.tolist(),
            "best_return": solving.solve(env, gamma=1.0, allow_unconverged=True).value_at_start,
        }


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
