"""rlkit completion SHELL: a script that completes verbs, agents, envs and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rlkit.cli.common import Name

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print a shell's completion script.", epilog="For bash: rlkit completion bash >> ~/.bashrc")
@click.argument("shell", type=Name("shell", SHELLS))
def completion(shell: str) -> None:
    """Print the script that teaches a shell to complete rlkit's words."""
    root = click.get_current_context().find_root().command
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(root, {}, "rlkit", "_RLKIT_COMPLETE").source())
