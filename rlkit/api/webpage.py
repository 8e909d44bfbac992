"""A page where a run's agent plays in the browser, as a folder of files for any web server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.envs import lookup
from rlkit.errors import UserError
from rlkit.files import read_json, whole_folder
from rlkit.runs.run_directory import RunDirectory
from rlkit.version import __version__
from rlkit.web.server import ASSETS

if TYPE_CHECKING:
    from rlkit.api.agent_run import Run

CARTPOLE, TRIANGLE = "CartPole-v1", "rlkit/NumberTriangle-v0"

ENVS = (CARTPOLE, TRIANGLE)
"""What the page can play."""

ROWS = 50
"""Most rows of a triangle that the page has room for."""

FACTS = "page.json"
"""What the page knows of the run; also by which a folder is known to be a page."""


def check(directory: RunDirectory) -> None:
    """Refuse a run that the page cannot play; loads no TensorFlow.

    Raises:
        UserError: a supervised run, another env, or an agent with a memory.
    """
    directory.require("train")
    if directory.env not in ENVS:
        raise UserError(
            f"run {directory.path} is on {directory.env}, which is not there in JavaScript: "
            f"the page plays {' and '.join(ENVS)}"
        )
    if directory.config().get("network") == "lstm":
        raise UserError(
            f"run {directory.path} has an agent with a memory, --network lstm: the page plays agents without one"
        )


def build(run: Run, out: Path, checkpoint: str = "best", held: Callable[[Path], object] = lambda _: None) -> Path:
    """Write the page of a run to a folder, which any web server can show; loads TensorFlow.

    Args:
        run: on one of `ENVS`, of an agent without a memory.
        out: the folder; replaced if it holds an earlier page.
        checkpoint: "best", "last" or a step's number.
        held: called with the folder before it takes its place; an exception of it refuses the page.

    Returns:
        The folder.

    Raises:
        UserError: the run is none for the page, there is no such checkpoint, or the folder cannot be written; then it
            is left as it was.
    """
    from rlkit.api.policy_models import write_tflite  # noqa: PLC0415 - loads TensorFlow, as the next
    from rlkit.devices import configure  # noqa: PLC0415

    check(run.directory)
    with whole_folder(out, FACTS) as beside:
        shutil.copytree(ASSETS, beside, dirs_exist_ok=True)
        known = facts(run)
        with configure(run.config):
            agent, step = run.agent(checkpoint)
            write_tflite(agent, beside / "model.tflite")
        known |= agent_facts(run, step)
        (beside / FACTS).write_text(json.dumps(known, allow_nan=False), encoding="utf-8")
        held(beside)
    return out


def facts(run: Run) -> dict[str, Any]:
    """What page.json tells the page of the run and its env.

    Args:
        run: on one of `ENVS`.

    Raises:
        UserError: the triangle is too large.
    """
    triangle = {"triangle": _triangle(run)} if run.config.env == TRIANGLE else {}
    return {
        "rlkit": __version__,
        "run": run.path.name,
        "agent": run.directory.agent,
        "env": run.config.env,
        "env_args": dict(run.config.env_args),
        "limit": lookup.find(run.config.env).max_episode_steps,
        **triangle,
    }


def agent_facts(run: Run, step: int) -> dict[str, Any]:
    """What it tells of the agent that was saved at a step."""
    return {"step": step, "evaluation": _evaluation(run, step)}


def _evaluation(run: Run, step: int) -> dict[str, Any] | None:
    """The mean return of the agent of a step, and over how many episodes, where it is known."""
    from rlkit.runs.curves import columns  # noqa: PLC0415 - with the rest

    try:
        found = read_json(run.path / "evaluation.json")
        if found["step"] == step and not found.get("epsilon"):  # the page plays greedily
            return {"mean": float(found["mean"]), "episodes": int(found["episodes"])}
    except (OSError, UserError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        pass
    steps, means = columns(run.directory, "evaluations.csv", "mean")
    at = [float(mean) for known, mean in zip(steps, means, strict=True) if known == step]
    return {"mean": at[-1], "episodes": run.config.eval_episodes} if at else None


def _triangle(run: Run) -> dict[str, Any]:
    """A triangle's numbers, and the exact action values at the agent's discount, [S, 2], and without one at the top."""
    from rlkit.api import solving  # noqa: PLC0415 - loads Numba
    from rlkit.envs.number_triangle import NumberTriangleEnv  # noqa: PLC0415 - as the next

    with solving.opened(run.config.env, run.config.env_args) as made:
        env: Any = made.unwrapped  # type: ignore[union-attr] # an env, as it was opened by its name
        assert isinstance(env, NumberTriangleEnv)
        rows = env.triangle.rows
        if rows > ROWS:
            raise UserError(f"the triangle of run {run.path} has {rows} rows: the page has room for {ROWS}")
        gamma = float(getattr(run.config, "gamma", 1.0))
        return {
            "rows": [env.triangle.row(i).tolist() for i in range(rows)],
            "slip": env.slip,
            "gamma": gamma,
            "q": solving.solve(env, gamma=gamma, allow_unconverged=True).q.tolist(),
            "best_return": solving.solve(env, gamma=1.0, allow_unconverged=True).value_at_start,
        }
