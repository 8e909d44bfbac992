"""rlkit serve: the TensorFlow Serving protocol, REST and gRPC."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from rlkit.cli.common import PATH, count, say
from rlkit.errors import UserError, install
from rlkit.loading import loading

if TYPE_CHECKING:
    from rlkit.runs.run_directory import RunDirectory
    from rlkit.serving.server import Addresses

NEEDS = ("grpc", "httptools", "orjson", "prometheus_client", "tensorflow_serving", "uvloop")
"""Modules that the extra serve brings."""

PORT = click.IntRange(0, 65535)


class Label(click.ParamType):  # type: ignore[type-arg] # generic only in the newest click
    """NAME=VERSION."""

    name = "NAME=VERSION"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        name, _, number = value.partition("=")
        if not name or "/" in name or ":" in name or not (number.isascii() and number.isdigit()):
            raise UserError(f"--label is {value!r}: expected a name and a version's number, such as stable=3")
        return name, int(number)


@click.command(short_help="Serve an exported model over REST and gRPC.")
@click.argument("path", metavar="RUN|EXPORT", type=PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8501, show_default=True, type=PORT, help="For REST; 0 takes a free one.")
@click.option("--grpc-port", default=8500, show_default=True, type=PORT, help="For gRPC; 0 takes a free one.")
@click.option("--name", default="default", show_default=True, help="The model's name in requests.")
@click.option(
    "--batch-size",
    default=64,
    show_default=True,
    type=count("--batch-size"),
    help="Rows after which a batch takes no further request; 1 computes each alone.",
)
@click.option(
    "--batch-timeout",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 60_000),
    metavar="MS",
    help="Milliseconds that a request waits for others; 0 takes those that are there.",
)
@click.option(
    "--versions", default=2, show_default=True, type=count("--versions"), help="How many of the newest are served."
)
@click.option("--label", "labels", multiple=True, type=Label(), help="Name a version, which is then served too.")
@click.option(
    "--poll",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 86_400),
    metavar="S",
    help="Seconds between looks for new versions.",
)
@click.option(
    "--max-body", default=16, show_default=True, type=count("--max-body"), metavar="MB", help="Megabytes of a request."
)
@click.option(
    "--allow-op",
    "operations",
    multiple=True,
    metavar="NAME",
    help="Take graphs with this TensorFlow operation too, such as ReadFile; may be repeated.",
)
@click.option("--trust", is_flag=True, help="Serve a run with a SavedModel that was not made here; asked for once.")
@click.option(
    "--cors", is_flag=True, help="Let web pages of any origin ask, as --enable_cors_support of TensorFlow Serving."
)
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name with a dot that requests may have.")
@click.option("--allow-nan", "nan", is_flag=True, help="Take NaN and Infinity in JSON, as TensorFlow Serving does.")
def serve(
    path: Path, name: str, labels: tuple[tuple[str, int], ...], max_body: int, trust: bool, **how: Any  # noqa: ANN401 - click's
) -> None:  # fmt: skip
    """Serve RUN or EXPORT by the TensorFlow Serving protocol.

    EXPORT is a folder of versions, sub-folders whose names are numbers, or one SavedModel. A run whose best agent or
    model is not exported yet is exported first. A new version in the folder is served as soon as it is there whole.
    """
    from rlkit.serving.folders import check_folder, versions_in
    from rlkit.serving.hosts import is_loopback
    from rlkit.serving.ports import check_ports
    from rlkit.trust import check_model

    missing = [module for module in NEEDS if find_spec(module) is None]
    if missing:
        raise UserError(f"rlkit serve needs {', '.join(missing)}: {install('serve')}")
    if not name or not set(name).isdisjoint("/:"):
        raise UserError(f"--name is {name!r}: expected a name without / and :")
    run = run_at(path)
    if run is None:
        check_folder(path)
    check_ports(how["host"], how["port"], how["grpc_port"])
    if not is_loopback(how["host"]):
        say(f"{how['host']} can be reached from other machines: there is no password and no encryption")
    with loading():
        from rlkit.serving import server
    server.prepare()
    how["batch_timeout"] /= 1000
    folder = exported(run, trust) if run else path
    for version in versions_in(folder).values() if run else ():
        check_model(version, trust)
    options = server.Options(folder, name, labels=dict(labels), limit=max_body * 1_000_000, **how)

    def started(at: Addresses) -> None:
        host = f"[{at.host}]" if ":" in at.host else at.host
        click.echo(f"REST http://{host}:{at.port}/v1/models/{quote(name)}")
        click.echo(f"gRPC {host}:{at.grpc_port}")
        sys.stdout.flush()
        say("Ctrl-C stops, after the requests that were taken")

    server.run(options, say, started)


def run_at(path: Path) -> RunDirectory | None:
    """The run that a path means; None if it is a folder of SavedModels, or neither."""
    from rlkit.runs.run_directory import find, runs_below, untrained
    from rlkit.serving.folders import versions_in

    if not path.is_dir() or (not (path / "run.json").exists() and (versions_in(path) or not runs_below(path))):
        return None
    return find(path, untrained, say=say)


def exported(run: RunDirectory, trust: bool = False) -> Path:
    """The folder of a run's SavedModels, with its best agent's or model's among them."""
    from rlkit.files import steps_in
    from rlkit.serving.folders import listing

    folder = run.path / "exports" / "savedmodel"
    step = run.best_step if run.best_step is not None else max(steps_in(run.checkpoints), default=None)
    if step is not None and listing(folder / str(step)):
        return folder
    say(f"exporting {run.path}")
    with loading():
        from rlkit.api.exporting import export_run
    return export_run(run.path, "savedmodel", trust=trust, say=say).path
