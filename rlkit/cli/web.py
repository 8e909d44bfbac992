"""rlkit web RUN: a page where the agent plays."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from rlkit.cli.common import checkpoint_option, count, run_argument, say, trust_option
from rlkit.loading import loading


@click.command(short_help="Show the agent play in the browser.")
@run_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=count("--port", 0), help="0 for any that is free.")
@checkpoint_option
@trust_option
def web(run: Path, host: str, port: int, checkpoint: str, trust: bool) -> None:
    """Serve a page in which a run's agent plays CartPole-v1 or the number triangle, until Ctrl-C.

    Env and agent run in the browser. `rlkit export RUN --to web` writes the same page for any web server.
    """
    from rlkit.api import webpage
    from rlkit.runs.run_directory import find, untrained
    from rlkit.web.server import Server

    directory = find(run, untrained, verb="train", say=say)
    webpage.check(directory)
    with (
        tempfile.TemporaryDirectory(prefix="rlkit-web-") as folder,
        Server(Path(folder) / "page", host, port) as server,
    ):
        with loading():
            from rlkit.api.agent_run import load
        webpage.build(load(directory.path, say, trust=trust), server.folder, checkpoint)
        server.serve(lambda: click.echo(f"{server.address}  Ctrl-C stops"))
