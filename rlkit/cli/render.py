"""rlkit render RUN: a rollout to look at."""

from __future__ import annotations

from pathlib import Path

import click

from rlkit.cli.common import PATH, checkpoint_options, count, run_argument, runtime_option, say, trust_option
from rlkit.errors import UserError
from rlkit.loading import loading


@click.command(short_help="Show the agent play: mp4, gif or a window.")
@run_argument
@click.option("--to", "path", type=PATH, help="File to write, .mp4 or .gif.  [RUN/videos/...mp4]")
@click.option("--human", is_flag=True, help="Play live in a window instead.")
@click.option("--episodes", default=1, show_default=True, type=count("--episodes"), help="How many.")
@click.option(
    "--max-steps", type=count("--max-steps"), help="Where one is cut.  [10,000 where the env has no time limit]"
)
@click.option("--values", is_flag=True, help="Draw what the agent sees and its value of each action beside the screen.")
@checkpoint_options
@runtime_option
@trust_option
def render(  # noqa: PLR0913 - the options
    run: Path,
    path: Path | None,
    human: bool,
    episodes: int,
    max_steps: int | None,
    values: bool,
    checkpoint: str,
    seed: int,
    runtime: str,
    trust: bool,
) -> None:
    """Show a run's agent play: a video file with the step and the return drawn on it, or a window."""
    from rlkit.envs import lookup
    from rlkit.pictures import rollouts
    from rlkit.runs.run_directory import find, untrained
    from rlkit.seeding import run_evaluation_seed

    if human and path:
        raise UserError("--human and --to exclude each other")
    directory = find(run, untrained, verb="train", say=say)
    rollouts.check(path, human=human)
    with loading():
        from rlkit.api.agent_run import load
    loaded = load(directory.path, say, trust=trust)
    policy, step = loaded.policy(1, checkpoint, runtime)
    view = rollouts.View(max_steps=max_steps, values=loaded.values(checkpoint) if values else None)
    shown = (policy, lookup.find(loaded.config.env), loaded.config.env_args)
    mixed = run_evaluation_seed(seed, loaded.config.seed)
    if human:
        rollout = rollouts.show(*shown, seed=mixed, episodes=episodes, view=view)
    else:
        path = path or loaded.path / "videos" / f"step{step}-seed{seed}.mp4"
        rollout = rollouts.record(*shown, path, seed=mixed, episodes=episodes, view=view)
        click.echo(rollout.path)
    click.echo(f"return {rollout.text}")
