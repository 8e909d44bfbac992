"""The command line: a verb and a noun. A file a verb: it parses, calls one function, and prints."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from rlkit.cli.common import Help, printable, say
from rlkit.cli.compare import compare
from rlkit.cli.completion import completion
from rlkit.cli.doctor import doctor
from rlkit.cli.evaluate import evaluate
from rlkit.cli.export import export
from rlkit.cli.fit import fit
from rlkit.cli.generate import generate
from rlkit.cli.listing import list_
from rlkit.cli.play import play
from rlkit.cli.plot import plot
from rlkit.cli.render import render
from rlkit.cli.serve import serve
from rlkit.cli.solve import solve
from rlkit.cli.tfrecord import tfrecord
from rlkit.cli.train import train
from rlkit.cli.web import web
from rlkit.errors import UserError, unknown
from rlkit.version import __version__

EPILOG = """\b
Begin with:
  rlkit train dqn --env CartPole-v1
  rlkit evaluate runs
  rlkit render runs --to rollout.gif
Wherever a RUN is asked for, a folder such as runs means the newest run in it."""


@click.group(
    cls=Help,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="rlkit")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; may stand anywhere.")
def cli(debug: bool) -> None:
    """Reinforcement learning for TensorFlow and Keras 3."""
    del debug


COMMANDS = (
    train,
    solve,
    fit,
    compare,
    evaluate,
    render,
    web,
    plot,
    play,
    generate,
    export,
    serve,
    tfrecord,
    list_,
    doctor,
    completion,
)
for command in COMMANDS:
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 a user's mistake in one sentence, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        code = cli.main(words, prog_name="rlkit", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except (UserError, click.ClickException) as error:
        if debug:
            traceback.print_exc()
        sys.exit(tell(error))
    except (OSError, MemoryError) as error:  # of the disk or the machine, wherever it was met
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        sys.exit(tell(UserError(f"{where}{getattr(error, 'strerror', None) or str(error) or 'not enough memory'}")))
    except (click.Abort, KeyboardInterrupt) as error:
        say(" ".join(["interrupted", *map(str, (error.__cause__ or error).args)]))
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def tell(error: UserError | click.ClickException) -> int:
    """Print a mistake as one sentence on stderr; the exit code."""
    if isinstance(error, click.NoSuchOption) and error.ctx:
        flags = [f for p in error.ctx.command.get_params(error.ctx) for f in (*p.opts, *p.secondary_opts)]
        error = unknown("flag", error.option_name, [f for f in flags if f.startswith("--")])
    text = " ".join(str(error).split())
    if isinstance(error, click.ClickException):
        text = " ".join(error.format_message().split()).rstrip(".")
        text = text[:1].lower() + text[1:]
    print(f"rlkit: {printable(text)}", file=sys.stderr)
    return 2
