"""Training as a whole: from a name and an env to a finished run, from Python or the command line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import tensorflow as tf

from rlkit import agents, envs, run
from rlkit.agent import Agent, Learner
from rlkit.agents.tabular_config import TabularConfig
from rlkit.checkpoint import Checkpointer
from rlkit.config import ReplayConfig, TrainConfig, build
from rlkit.devices import configure
from rlkit.errors import UserError
from rlkit.evaluation import Evaluation, Policy, evaluate
from rlkit.experiments.configuration import resolve
from rlkit.experiments.regret import Regret, model_of
from rlkit.loop import HostLoop, Loop, compile_policy
from rlkit.metrics import CsvObserver, Observer, ProgressObserver, TensorBoardObserver
from rlkit.profiling import Profiler
from rlkit.replay import Replay, size_text
from rlkit.run import RunDirectory
from rlkit.simulation import Simulator, simulator
from rlkit.tabular_loop import TabularLoop
from rlkit.vector import Environments, make_vector

if TYPE_CHECKING:
    from rlkit.agents.tabular import Tabular
    from rlkit.mdp import FiniteMDP

EVALUATION_ENVS = 100
"""Most envs that an evaluation runs at once."""

Say = Callable[[str], None]


def silent(text: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Run:
    """A run on disk, to evaluate and play."""

    directory: RunDirectory
    config: TrainConfig

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.directory.path

    @property
    def status(self) -> str:
        """How training ended: finished, solved, interrupted, failed, killed; or running."""
        return self.directory.status

    def agent(self, checkpoint: str = "best") -> tuple[Learner, int]:
        """The trained agent, and the step that it was saved at.

        Args:
            checkpoint: "best", "last" or a step's number.
        """
        probe = make_vector(self.config.env, self.config.env_args, 1, "sync")
        try:
            make = agents.agent_class(self.directory.agent)
            agent = make(self.config, probe.single_observation_space, probe.single_action_space)
        finally:
            probe.close()
        step = Checkpointer(self.directory.checkpoints, agent).restore_agent(checkpoint)
        if isinstance(self.config, TabularConfig):
            cast("Tabular", agent).adopt()
        return agent, step

    def policy(self, num_envs: int = 1, checkpoint: str = "best") -> tuple[Policy, int]:
        """The greedy policy for N observations, and the step that it was saved at.

        Args:
            num_envs: N.
            checkpoint: "best", "last" or a step's number.
        """
        with configure(self.config):
            agent, step = self.agent(checkpoint)
            probe = make_vector(self.config.env, self.config.env_args, 1, "sync")
            policy = compile_policy(agent, probe.single_observation_space, num_envs)
            probe.close()
        return policy, step

    def evaluate(self, episodes: int = 100, seed: int = 0, checkpoint: str = "best") -> Evaluation:
        """Greedy episodes on seeds that training never used; also saved as evaluation.json in the run.

        Args:
            episodes: how many.
            seed: of the evaluation.
            checkpoint: "best", "last" or a step's number.

        Raises:
            UserError: there is no such checkpoint, or it is damaged.
        """
        num_envs = min(episodes, EVALUATION_ENVS)
        policy, step = self.policy(num_envs, checkpoint)
        vector = make_vector(self.config.env, self.config.env_args, num_envs, "sync")
        try:
            with configure(self.config):
                result = evaluate(policy, vector, episodes, seed, step=step)
        finally:
            vector.close()
        with contextlib.suppress(OSError):  # a run that cannot be written to can still be evaluated
            text = json.dumps({"checkpoint": checkpoint, **result.to_dict()})
            run.replace_text(self.path / "evaluation.json", text + "\n")
        return result


def train(
    agent: str,
    env: str | None = None,
    *,
    run_dir: str | Path = "runs",
    preset: str = "auto",
    config: str | Path | None = None,
    say: Say = silent,
    progress: str | None = None,
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
        progress: show a progress bar on stderr, behind this label.
        **fields: any field of the agent's config; the last word.

    Raises:
        UserError: whatever of this is wrong, before anything is written; or the loss is not finite.
    """
    resolved, taken = resolve(agent, env, preset=preset, config=Path(config) if config else None, fields=fields)
    with _Session(agent, resolved, say) as session:
        directory = run.create(Path(run_dir), agent, resolved.env, resolved.seed, resolved.to_dict())
        say(f"preset: {taken}" if taken else "preset: none, the defaults")
        return session.train(directory, progress=progress)


def resume(path: str | Path, *, steps: int | None = None, say: Say = silent, progress: str | None = None) -> Run:
    """Continue a run from its newest good checkpoint, as if it had never stopped.

    Args:
        path: the run's folder.
        steps: go on to this many steps instead of the config's.
        say: told what a person may want to know.
        progress: show a progress bar on stderr, behind this label.

    Raises:
        UserError: the path is no run, the run is in use, finished, or has no checkpoint that can be read.
    """
    directory = run.find(Path(path))
    config = read_config(directory)
    if steps is not None:
        config = config.replace(steps=steps)
    if directory.info["step"] >= config.steps or (steps is None and directory.info["status"] == "solved"):
        raise UserError(
            f"run {directory.path} is {directory.status} at step {directory.info['step']}: give more --steps to go on"
        )
    with _Session(directory.agent, config, say) as session:
        return session.train(directory, progress=progress, resuming=True)


def load(path: str | Path) -> Run:
    """The run at a path, or the newest one below it; UserError where there is none."""
    directory = run.find(Path(path))
    return Run(directory, read_config(directory))


def read_config(directory: RunDirectory) -> TrainConfig:
    """A run's config, checked."""
    config = build(agents.config_class(directory.agent), (str(directory.path / "config.toml"), directory.config()))
    envs.find(config.env)
    return config


class _Session(contextlib.ExitStack):
    """All that a run needs in memory, made and checked before its folder exists."""

    def __init__(self, agent: str, config: TrainConfig, say: Say) -> None:
        super().__init__()
        self.name, self.config, self.say = agent, config, say

    def __enter__(self) -> _Session:
        super().__enter__()
        c = self.config
        try:
            self.enter_context(configure(c))
            vector = make_vector(c.env, c.env_args, c.num_envs, c.vectorization)
            self.callback(vector.close)
            make = agents.agent_class(self.name)
            self.agent = make(c, vector.single_observation_space, vector.single_action_space)
            model = model_of(c.env, c.env_args, c.gamma) if isinstance(c, ReplayConfig | TabularConfig) else None
            self.regret = Regret(model, self.agent, vector.single_observation_space) if model else None
            self.envs = Environments(vector, c.seed)
            self.replay: Replay | None = None
            self.source: Environments | Simulator = self.envs
            if isinstance(c, TabularConfig):
                self.source = self._source(c, model)
            elif isinstance(c, ReplayConfig):
                space = vector.single_observation_space
                self.replay = Replay(c.buffer_size, c.num_envs, space, c.n_step, c.gamma)
        except BaseException:
            self.close()
            raise
        return self

    def _source(self, config: TabularConfig, model: FiniteMDP | None) -> Environments | Simulator:
        """Where a tabular learner's transitions come from."""
        if config.simulate == "env":
            return self.envs
        limit = envs.find(config.env).max_episode_steps or 0
        tables = simulator(model, limit) if model else None
        if tables is not None:
            self.say("simulate: the env's model, in compiled code")
            return tables
        if config.simulate == "model":
            raise UserError(f"simulate is model, but env {config.env!r} has none that can be sampled: take env")
        self.say("simulate: the env itself, which has no model that can be sampled")
        return self.envs

    def _loop(self, directory: RunDirectory, observers: list[Observer]) -> Loop:
        c = self.config
        checkpointer = Checkpointer(directory.checkpoints, self.agent, self.replay, c.keep_checkpoints)
        evaluator = self._evaluator()
        if self.replay is None:
            return TabularLoop(cast("Tabular", self.agent), self.source, checkpointer, evaluator, observers)
        held = self.replay.rows * self.replay.num_envs
        self.say(f"replay: {held:,} transitions, {size_text(self.replay.nbytes)} of memory")
        return HostLoop(cast("Agent", self.agent), self.envs, self.replay, checkpointer, evaluator, observers)

    def train(self, directory: RunDirectory, *, progress: str | None, resuming: bool = False) -> Run:
        """Train in a run's folder until the run ends one way or another."""
        c = self.config
        with directory.lock():
            observers: list[Observer] = []
            loop = self._loop(directory, observers)
            loop.regret = self.regret
            if resuming:
                self._tell_changes(directory)
                loop.restore(self.say)
                CsvObserver.cut(directory.path, loop.step)
                directory.write_config(c.to_dict())
                self.say(f"resumed at step {loop.step:,}")
            elif self.source is self.envs and not self.envs.saves_exactly():
                self.say("this env's state cannot be saved: a resumed run would start fresh episodes")
            directory.update(
                status="running",
                versions=run.versions(),
                threads=tf.config.threading.get_intra_op_parallelism_threads(),
                onednn=os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
            )
            observers += [CsvObserver(directory.path), TensorBoardObserver(directory.path)]
            if c.profile and isinstance(loop, HostLoop):
                loop.profiler = Profiler(directory.path, loop.program)
            status = "failed"
            try:
                with contextlib.ExitStack() as stack:
                    if progress is not None:
                        bar = ProgressObserver(c.steps, loop.step, label=progress)
                        observers.append(stack.enter_context(bar))
                    status = loop.run()
                if isinstance(loop, TabularLoop) and (short := loop.agent.shortfall()):
                    self.say(f"{short:,} pairs of state and action had too few trials: give more --steps")
            finally:
                directory.update(status=status, step=loop.saved_at, seconds=round(loop.seconds, 3))
        return Run(directory, c)

    def _evaluator(self) -> Callable[[int], Evaluation] | None:
        c = self.config
        if not c.eval_interval:
            return None
        num_envs = min(c.eval_episodes, EVALUATION_ENVS)
        vector = make_vector(c.env, c.env_args, num_envs, "sync")
        self.callback(vector.close)
        policy = compile_policy(self.agent, vector.single_observation_space, num_envs)
        return lambda step: evaluate(policy, vector, c.eval_episodes, c.seed, occasion=step, step=step)

    def _tell_changes(self, directory: RunDirectory) -> None:
        before, now = directory.info.get("versions", {}), run.versions()
        changed = [f"{k} {before[k]} is now {v}" for k, v in now.items() if before.get(k, v) != v]
        if changed:
            self.say(f"{', '.join(changed)}: the run may not go on bit for bit")
