"""rlkit list: what there is to name."""

from __future__ import annotations

from pathlib import Path

import click

from rlkit.cli.common import Name, json_option, print_json

KINDS = ("agents", "solvers", "envs", "models", "datasets", "presets", "runs")


@click.command("list", short_help="List agents, solvers, envs, models, data sets, presets, runs.")
@click.argument("kind", type=Name("kind", KINDS), required=False)
@click.option("--run-dir", default="runs", show_default=True, type=click.Path(path_type=Path), help="Where runs are.")
@json_option
def list_(kind: str | None, run_dir: Path, as_json: bool) -> None:
    """List agents, solvers, envs, models, data sets, presets or runs; all but the envs without a name."""
    from rlkit.experiments import catalogue
    from rlkit.fit_config import DATA, MODELS

    kinds = (kind,) if kind else tuple(name for name in KINDS if name != "envs")
    found: dict[str, object] = {}
    for name in kinds:
        if name == "agents":
            found[name] = catalogue.agent_summaries()
        elif name == "solvers":
            found[name] = catalogue.SOLVERS
        elif name == "models":
            found[name] = {model: entry.summary for model, entry in MODELS.items()}
        elif name == "datasets":
            found[name] = DATA
        elif name == "envs":
            found[name] = catalogue.env_names()
        elif name == "presets":
            found[name] = catalogue.preset_names()
        else:
            found[name] = catalogue.runs(run_dir)
    if as_json:
        print_json(found)
        return
    for name, values in found.items():
        if len(found) > 1:
            click.echo(f"{name}:" + ("" if values else " none"))
        for line in lines(values):
            click.echo(f"  {line}" if len(found) > 1 else line)


def lines(values: object) -> list[str]:
    """A list's or a table's entries, a line each."""
    if isinstance(values, dict):
        width = max((len(k) for k in values), default=0)
        return [f"{k:<{width}}  {', '.join(v) if isinstance(v, list) else v}" for k, v in values.items()]
    if isinstance(values, list):
        return [f"{v['run']}  {v['status']} at step {v['step']:,}" if isinstance(v, dict) else str(v) for v in values]
    return []
