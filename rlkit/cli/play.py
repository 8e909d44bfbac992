"""rlkit play FILE.tflite --env ENV: an exported policy without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import click

from rlkit.cli.common import PATH, complete_env, count, json_option, literal, print_json
from rlkit.config import Argument
from rlkit.errors import UserError


@click.command(short_help="Play an exported .tflite, without TensorFlow.")
@click.argument("file", type=PATH)
@click.option("--env", required=True, metavar="ID", shell_complete=complete_env, help="Gymnasium id of the env.")
@click.option("--set", "words", multiple=True, metavar="NAME=VALUE", help="An argument of the env; may be repeated.")
@click.option("--episodes", default=20, show_default=True, type=count("--episodes"), help="How many.")
@click.option("--seed", default=0, show_default=True, type=count("--seed", 0), help="Seed of the episodes.")
@click.option("--to", "video", type=PATH, help="Also show the first one: an .mp4 or .gif.")
@json_option
def play(
    file: Path, env: str, words: tuple[str, ...], episodes: int, seed: int, video: Path | None, as_json: bool
) -> None:
    """Play episodes with a policy that rlkit export wrote as .tflite.

    TensorFlow is not loaded and need not be installed.
    """
    from rlkit.api import playing
    from rlkit.pictures import rollouts

    env_args = dict(map(_argument, words))
    if video:
        rollouts.check(video)
    result = playing.play(file, env, env_args, episodes, seed)
    if video:
        playing.film(file, env, env_args, seed, video)
    if as_json:
        print_json({"file": str(file), "env": env, **result.to_dict()})
        return
    click.echo(result.text)
    if video:
        click.echo(video)


def _argument(word: str) -> tuple[str, Argument]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise UserError(f"--set is {word!r}, expected NAME=VALUE")
    return name, literal(value)
