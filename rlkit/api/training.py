"""Training as a whole: from a name and an env to a finished run, from Python or the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlkit.agents.dqn.config import DQNConfig
from rlkit.api.agent_run import Run, read_config
from rlkit.api.configuration import resolve
from rlkit.api.ending import in_turn
from rlkit.api.resuming import check_unfinished
from rlkit.api.session import Session, looping
from rlkit.config import checked, path_argument
from rlkit.devices import configure, fast_precision, settled
from rlkit.errors import UserError
from rlkit.learning.config import ReplayConfig, TrainConfig
from rlkit.reporting import Say, bar_label, labelled, silent
from rlkit.runs import run_directory


def train(
    agent: str,
    env: str | None = None,
    *,
    run_dir: str | Path = "runs",
    preset: str = "auto",
    config: str | Path | None = None,
    say: Say = silent,
    progress: str | bool | None = None,
    **fields: Any,  # noqa: ANN401 - any field of the agent's config
) -> Run:
    """Train an agent and return its run.

    >>> run = train("dqn", "CartPole-v1", seed=0, steps=2_000)  # doctest: +SKIP

    Args:
        agent: name in the registry, such as "dqn".
        env: Gymnasium id.
        run_dir: folder in which the run's own folder is made.
        preset: a preset's name, "none", or "auto" for the env's own where there is one.
        config: a TOML file of fields.
        say: told what a person may want to know.
        progress: show a progress bar on stderr: True, or a label to set before it.
        **fields: any field of the agent's config; the last word.

    Raises:
        UserError: whatever of this is wrong, before anything is written; or a metric is not finite.
    """
    label, folder = bar_label(progress), path_argument("run_dir", run_dir)
    file = path_argument("config", config) if config else None
    resolved, taken = resolve(agent, env, preset=preset, config=file, fields=fields)
    (run,) = _start(agent, [resolved], taken, folder, say, label)
    return run


def train_seeds(  # noqa: PLR0913 - train's, and seeds
    agent: str,
    env: str | None,
    seeds: Sequence[int],
    *,
    run_dir: str | Path = "runs",
    preset: str = "auto",
    config: str | Path | None = None,
    say: Say = silent,
    progress: bool = False,
    **fields: Any,  # noqa: ANN401 - any field of the agent's config
) -> list[Run]:
    """Train an agent with several seeds and return their runs.

    The compiled loop trains them at once in one program; else they are trained in turn, until one is interrupted.
    Where one fails, the others go on.

    Args:
        agent: name in the registry, such as "dqn".
        env: Gymnasium id.
        seeds: one for each run.
        run_dir: folder in which the runs' own folders are made.
        preset: a preset's name, "none", or "auto" for the env's own where there is one.
        config: a TOML file of fields.
        say: told what a person may want to know.
        progress: show progress bars on stderr.
        **fields: any other field of the agent's config; the last word.

    Raises:
        FailedRunsError: some have failed; it has the runs of the others.
        UserError: whatever is wrong before anything is written.
    """
    file, folder = path_argument("config", config) if config else None, path_argument("run_dir", run_dir)
    given: object = seeds
    seeds = checked("seeds", list(given) if isinstance(given, Iterable) else given, tuple[int, ...])
    if not seeds:
        raise UserError("seeds is empty, expected at least one")
    resolved = [resolve(agent, env, preset=preset, config=file, fields={**fields, "seed": seed}) for seed in seeds]
    configs, taken = [c for c, _ in resolved], resolved[0][1]
    if len(seeds) > 1 and looping(configs[0])[0] == "compiled":
        return _start(agent, configs, taken, folder, say, f"{len(seeds)} seeds: " if progress else None)
    by_seed = {c.seed: c for c in configs}

    def start(seed: int) -> list[Run]:
        label = f"seed {seed}: "
        return _start(agent, [by_seed[seed]], taken, folder, labelled(say, label), label if progress else None)

    return in_turn(seeds, start)


def _start(
    agent: str, configs: list[TrainConfig], preset: str | None, run_dir: Path, say: Say, progress: str | None
) -> list[Run]:
    """Train new runs whose configs differ in the seed alone."""
    loop, why = looping(configs[0])
    configs = [_settled(c, say if c is configs[0] else silent).replace(loop=loop) for c in configs]
    with Session(agent, configs, say) as session:
        directories = [session.enter_context(run_directory.preparing(run_dir, agent, c.env, c.seed)) for c in configs]
        say(f"preset: {preset}" if preset else "preset: none, the defaults")
        say(f"loop: {loop}, {why}")
        if isinstance(c := configs[0], ReplayConfig) and c.priority_exponent:
            say(f"priorities: {_priorities_text(c)}")
        return session.train(directories, progress=progress)


def _priorities_text(config: ReplayConfig) -> str:
    """The way of a prioritized replay."""
    begun = config.importance_exponent
    if begun is None:
        return "LAP, without importance weights"
    return f"proportional, importance exponent {begun:g} to 1 at step {config.importance_duration:,}"


def _settled(config: TrainConfig, say: Say) -> TrainConfig:
    """A config whose threads and precision are those that the run begins with, so that it goes on with them."""
    with configure(config):
        config = settled(config, say)
        auto = isinstance(config, DQNConfig) and config.precision == "auto"
        return config.replace(precision=fast_precision()) if auto else config


def resume(
    path: str | Path,
    *,
    steps: int | None = None,
    trust: bool = False,
    say: Say = silent,
    progress: str | bool | None = None,
) -> Run:
    """Continue a run from its newest good checkpoint, as if it had never stopped.

    Args:
        path: the run's folder.
        steps: go on to this many steps instead of the config's.
        trust: import the code that the config of a run of another's names.
        say: told what a person may want to know.
        progress: show a progress bar on stderr: True, or a label to set before it.

    Raises:
        UserError: the path is no run, the run is in use, finished, has no checkpoint that can be read, or is another's,
            is not to be trusted and its config names code.
    """
    directory = run_directory.find(path, run_directory.untrained, verb="train", say=say, begun=True)
    config = read_config(directory, trust, say)
    if steps is not None:
        config = config.replace(steps=steps)
    check_unfinished(directory, config.steps, given=steps is not None)
    with Session(directory.agent, [config], say) as session:
        (resumed,) = session.train([directory], progress=bar_label(progress), resuming=not directory.prepared)
    return resumed
