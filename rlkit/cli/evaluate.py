"""rlkit evaluate RUN: episodes of an agent, or a supervised model on the data held out."""

from __future__ import annotations

from pathlib import Path

import click

from rlkit.cli.common import (
    FieldType,
    checkpoint_options,
    count,
    json_option,
    print_json,
    run_argument,
    runtime_option,
    say,
    trust_option,
)
from rlkit.loading import loading

EPSILON = FieldType("--epsilon", float, {"low": 0, "high": 1, "above": None})


@click.command(short_help="Report returns of greedy episodes, or accuracy on held-out data.")
@run_argument
@click.option("--episodes", default=100, show_default=True, type=count("--episodes"), help="How many.")
@click.option(
    "--epsilon", default=0.0, show_default=True, type=EPSILON, help="Share of actions that are random, not greedy."
)
@checkpoint_options
@runtime_option
@trust_option
@json_option
def evaluate(  # noqa: PLR0913 - the options
    run: Path,
    episodes: int,
    epsilon: float,
    checkpoint: str,
    seed: int,
    runtime: str,
    trust: bool,
    as_json: bool,
) -> None:
    """Play greedy episodes with a run's agent, or try a supervised run's model on the data held out."""
    from rlkit.runs.run_directory import ENDED, find, untrained

    directory = find(run, untrained, say=say)
    state = {"run": str(directory.path), "status": directory.status, "run_step": directory.step}
    if directory.status not in ENDED:
        say(f"run {directory.path} is {directory.status} at step {directory.step:,}: it has not come to its end")
    if directory.verb == "fit":
        _held_out(directory.path, checkpoint, state if as_json else None)
        return
    with loading():
        from rlkit.api.agent_run import load
    loaded = load(directory.path, say, trust=trust)
    result = loaded.evaluate(episodes, seed, checkpoint, runtime, epsilon, say)
    if as_json:
        print_json({**state, **result.to_dict()})
        return
    by = f", epsilon {epsilon:g}" if epsilon else ""
    click.echo(f"{loaded.path}, {checkpoint} agent, of step {result.step:,}{by}")
    click.echo(result.text)
    click.echo(f"standard deviation {result.std:.4g}, lowest {min(result.returns):g}, highest {max(result.returns):g}")


def _held_out(run: Path, checkpoint: str, state: dict[str, object] | None) -> None:
    """A supervised model on the data held out; as JSON behind the run's state, if that is given."""
    from rlkit.cli.fit import described

    with loading():
        from rlkit.api.fitting import load
    loaded = load(run, say)
    result = loaded.evaluate(checkpoint, say)
    if state:
        print_json({**state, **result})
    else:
        click.echo(f"{loaded.path}, {checkpoint} model, of step {result['step']:,}")
        click.echo(described(result))
