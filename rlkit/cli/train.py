"""rlkit train AGENT --env ENV: learn by interaction."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from rlkit.cli.common import (
    Grouped,
    env_options,
    print_json,
    say,
    trust_option,
    words,
)
from rlkit.cli.fields import (
    Nouns,
    ended,
    field_options,
    leave,
    own_options,
    plot_command,
    resume_options,
    run_options,
    run_rows,
)
from rlkit.errors import UserError
from rlkit.loading import loading

if TYPE_CHECKING:
    from rlkit.api.agent_run import Run
    from rlkit.interaction.evaluation import Evaluation

GROUPS = {"env": "Env", "training": "Training", "agent": "Agent", "logging": "Logging", "device": "Device"}


class AgentCommand(Grouped):
    """Shows the fields under the headings of their groups."""

    groups: ClassVar[Mapping[str, str]] = GROUPS


class Agents(Nouns):
    """A command an agent, with flags from the agent's config and from the arguments of the env that is named."""

    verb, noun, example = "train", "agent", "rlkit train dqn --env CartPole-v1"

    def list_commands(self, ctx: click.Context) -> list[str]:
        from rlkit.api.catalogue import agent_summaries

        return list(agent_summaries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from rlkit.api.catalogue import agent_summaries

        if cmd_name not in agent_summaries():
            return None
        try:
            return agent_command(cmd_name, ctx.meta.get("rlkit.env"))
        except UserError:
            if ctx.resilient_parsing:  # a shell completes the line before it is right
                return agent_command(cmd_name, None)
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        for word, following in itertools.pairwise([*args, ""]):
            if word == "--env" or word.startswith("--env="):
                ctx.meta["rlkit.env"] = word.partition("=")[2] or following
        return super().resolve_command(ctx, args)


@click.group(cls=Agents, invoke_without_command=True, epilog="Each agent has its own flags: rlkit train dqn --help")
@resume_options
@trust_option
@click.pass_context
def train(ctx: click.Context, path: Path | None, steps: int | None, trust: bool, as_json: bool) -> None:
    """Train an agent on an env, or continue a run."""
    assert isinstance(ctx.command, Agents)
    if trust and path is None:
        raise UserError("--trust is for a run that was not made here: give it with --resume RUN")
    if not ctx.command.resumes(ctx, path, steps, as_json):
        return
    assert path is not None
    with loading():
        from rlkit.api.training import resume
    conclude([resume(path, steps=steps, trust=trust, say=say, progress="")], {}, as_json)


def agent_command(agent: str, env: str | None) -> click.Command:
    """The command that trains an agent, with the env's arguments as flags if the env is known."""
    from rlkit.api.catalogue import agent_summaries, config_class

    options: list[click.Parameter] = [
        *field_options(config_class(agent)),
        *run_options("env"),
    ]
    of_env = env_options(env, options) if env else []
    options += of_env
    text = agent_summaries()[agent]
    if not env:
        text += "\n\nWith --env ENV, the env's own arguments are flags too."

    def callback(**values: Any) -> None:  # noqa: ANN401 - click's
        start(agent, values, {str(option.name) for option in of_env})

    return AgentCommand(agent, params=options, callback=callback, help=text, short_help=agent_summaries()[agent])


def start(agent: str, values: dict[str, Any], env_options: set[str]) -> None:
    """Train as the parsed options say."""
    from rlkit.api.configuration import resolve

    env_args = {name: value for name in env_options if (value := values.pop(name)) is not None}
    own, fields, seeds = own_options(values)
    if env_args:
        fields["env_args"] = {**fields.get("env_args", {}), **env_args}
    env = fields.pop("env", None)
    source = {"preset": own["preset"], "config": own["file"]}
    resolve(agent, env, fields=fields, **source)
    with loading():
        from rlkit.api import training
    common = {"run_dir": own["run_dir"], "say": say, **source, **fields}
    if seeds is None:
        conclude([training.train(agent, env, progress="", **common)], {}, own["as_json"])
    else:
        conclude(*ended(lambda: training.train_seeds(agent, env, seeds, progress=True, **common)), own["as_json"])


def conclude(runs: list[Run], failures: Mapping[int, str], as_json: bool) -> None:
    """Evaluate what was trained, the best agent and the last one, and print it, with what to try next."""
    results = [(run, [] if run.status == "interrupted" else evaluations(run)) for run in runs]
    if as_json:
        rows = run_rows([(run, found[0].to_dict() if found else None) for run, found in results], failures)
        for row, (_, found) in zip(rows.get("runs", [rows]), results, strict=True):
            row["last"] = found[-1].to_dict() if found else None
        print_json(rows)
    elif results:
        print_results(results)
    leave(runs, failures)


def evaluations(run: Run) -> list[Evaluation]:
    """Evaluations of the best and the last agent in the same fresh episodes; one if these are one, none if unwanted."""
    episodes = run.config.final_episodes
    if not episodes:
        return []
    try:
        best = run.evaluate(episodes, say=say)
        if best.step == run.directory.info["step"]:
            return [best]
        last = run.evaluate(episodes, checkpoint="last", say=say)
        run.record("best", best)  # which the run is told by
        return [best, last]
    except KeyboardInterrupt:
        say(f"the evaluation was interrupted, the run is {run.status}; go on with: {run.directory.evaluating}")
        raise click.exceptions.Exit(130) from None


def print_results(results: Sequence[tuple[Run, list[Evaluation]]]) -> None:
    """For people: some lines a run with its `evaluations`, and the next commands."""
    for run, found in results:
        info = run.directory.info
        click.echo(f"{run.path}")
        also = "".join(f", {count:,} {unit}," for unit, count in run.counts().items())
        click.echo(
            f"  seed {run.config.seed}: {run.status} at step {info['step']:,}{also} after {info['seconds']:.1f} s"
        )
        names = ["best and last agent"] if len(found) == 1 else ["best agent", "last agent"]
        for name, result in zip(names, found, strict=False):
            click.echo(f"  {name}, of step {result.step:,}, in fresh episodes: {result.text}")
    best = [found[0].mean for _, found in results if found]
    if len(best) > 1:
        import numpy as np

        from rlkit.intervals import several_text

        click.echo(f"{len(best)} seeds, best agents: {several_text(np.array(best))}")
    paths = [run.path for run, _ in results]
    if results[-1][0].status != "interrupted":
        click.echo(f"next: {words('rlkit', 'render', paths[-1])}\n      {plot_command(paths)}")
