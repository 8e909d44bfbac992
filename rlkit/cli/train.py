"""rlkit train AGENT --env ENV: learn by interaction."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from rlkit.cli.common import (
    Grouped,
    Help,
    count,
    env_options,
    json_option,
    print_json,
    quiet_import,
    say,
)
from rlkit.cli.fields import field_options, parse_seeds, parse_settings, run_options
from rlkit.errors import UserError

if TYPE_CHECKING:
    from rlkit.experiments.training import Run

GROUPS = {"env": "Env", "training": "Training", "agent": "Agent", "logging": "Logging", "device": "Device"}


class AgentCommand(Grouped):
    """Shows the fields under the headings of their groups."""

    groups: ClassVar[Mapping[str, str]] = GROUPS


class Agents(Help):
    """A command an agent, with flags from the agent's config and from the arguments of the env that is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from rlkit.experiments.catalogue import agent_summaries

        return list(agent_summaries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from rlkit.experiments.catalogue import agent_summaries

        if cmd_name not in agent_summaries():
            return None
        try:
            return agent_command(cmd_name, ctx.meta.get("rlkit.env"))
        except UserError:
            if ctx.resilient_parsing:  # a shell completes the line before it is right
                return agent_command(cmd_name, None)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            agents = ", ".join(self.list_commands(ctx))
            raise UserError(
                f"{error.option_name} comes after the agent's name, rlkit train AGENT {error.option_name}, "
                f"or is unknown; AGENT is {agents}"
            ) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from rlkit.errors import unknown

        if not ctx.resilient_parsing and args[0] not in self.list_commands(ctx):
            raise unknown("agent", args[0], self.list_commands(ctx))
        for word, following in itertools.pairwise([*args, ""]):
            if word == "--env" or word.startswith("--env="):
                ctx.meta["rlkit.env"] = word.partition("=")[2] or following
        return super().resolve_command(ctx, args)


@click.group(cls=Agents, invoke_without_command=True, epilog="Each agent has its own flags: rlkit train dqn --help")
@click.option("--resume", "path", type=click.Path(path_type=Path), metavar="RUN", help="Continue this run exactly.")
@click.option("--steps", type=count("--steps"), help="With --resume: go on to this step.")
@json_option
@click.pass_context
def train(ctx: click.Context, path: Path | None, steps: int | None, as_json: bool) -> None:
    """Train an agent on an env, or continue a run."""
    if ctx.invoked_subcommand:
        if path:
            raise UserError(f"--resume takes the agent from the run: say rlkit train --resume {path}")
        if steps or as_json:
            flag = "--steps" if steps else "--json"
            raise UserError(f"{flag} comes after the agent's name: say rlkit train {ctx.invoked_subcommand} {flag}")
        return
    if path is None:
        raise UserError("name an agent to train, such as rlkit train dqn --env CartPole-v1, or --resume RUN")
    with quiet_import():
        from rlkit.experiments.training import resume
    conclude([resume(path, steps=steps, say=say, progress="")], as_json)


def agent_command(agent: str, env: str | None) -> click.Command:
    """The command that trains an agent, with the env's arguments as flags if the env is known."""
    from rlkit.experiments.catalogue import agent_summaries, config_class

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
    from rlkit.experiments.configuration import resolve

    own = {k: values.pop(k) for k in ("preset", "file", "settings", "seeds", "run_dir", "as_json")}
    given = {k: v for k, v in values.items() if v is not None}
    fields = {**parse_settings(own["settings"]), **{k: v for k, v in given.items() if k not in env_options}}
    env_args = {k: v for k, v in given.items() if k in env_options}
    if env_args:
        fields["env_args"] = {**fields.get("env_args", {}), **env_args}
    if own["seeds"] is not None and "seed" in fields:
        raise UserError("--seed and --seeds exclude each other")
    seeds = None if own["seeds"] is None else parse_seeds(own["seeds"])
    env = fields.pop("env", None)
    source = {"preset": own["preset"], "config": own["file"]}
    resolve(agent, env, fields=fields, **source)
    with quiet_import():
        from rlkit.experiments import training
    common = {"run_dir": own["run_dir"], "say": say, **source, **fields}
    if seeds is None:
        runs = [training.train(agent, env, progress="", **common)]
    else:
        runs = training.train_seeds(agent, env, seeds, progress=True, **common)
    conclude(runs, own["as_json"])


def conclude(runs: list[Run], as_json: bool) -> None:
    """Evaluate what was trained and print it, with what to try next."""
    results = []
    for run in runs:
        result = None if run.status == "interrupted" else run.evaluate()
        results.append((run, result))
    if as_json:
        rows = [
            {
                "run": str(run.path),
                "seed": run.config.seed,
                "status": run.status,
                "step": run.directory.info["step"],
                "seconds": run.directory.info["seconds"],
                "evaluation": result and result.to_dict(),
            }
            for run, result in results
        ]
        print_json(rows[0] if len(rows) == 1 else {"runs": rows})
    else:
        print_results(results)
    if runs[-1].status == "interrupted":
        say(f"interrupted; go on with: rlkit train --resume {runs[-1].path}")
        raise click.exceptions.Exit(130)


def print_results(results: list[tuple[Run, Any]]) -> None:
    """For people: a line a run, and the next commands."""
    for run, result in results:
        info = run.directory.info
        click.echo(f"{run.path}")
        click.echo(f"  seed {run.config.seed}: {run.status} at step {info['step']:,} after {info['seconds']:.1f} s")
        if result is not None:
            low, high = result.interval
            click.echo(
                f"  best agent, of step {result.step:,}, over {len(result.returns)} fresh episodes:\n"
                f"  mean return {result.mean:.1f}, 95% interval {low:.1f} to {high:.1f}, "
                f"standard deviation {result.std:.1f}"
            )
    means = [result.mean for _, result in results if result is not None]
    if len(means) > 1:
        import numpy as np

        from rlkit.evaluation import bootstrap_interval

        low, high = bootstrap_interval(np.array(means))
        click.echo(
            f"{len(means)} seeds: mean {np.mean(means):.1f} (95% interval {low:.1f} to {high:.1f}), "
            f"lowest {min(means):.1f}, highest {max(means):.1f}"
        )
    paths = " ".join(str(run.path) for run, _ in results)
    if results[-1][0].status != "interrupted":
        click.echo(f"next: rlkit render {results[-1][0].path}\n      rlkit plot {paths}")
