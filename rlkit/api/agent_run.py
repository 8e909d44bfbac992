"""A trained agent's run: evaluation, policy, values."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from rlkit import agents
from rlkit.agents.dqn.config import DQNConfig, remembers
from rlkit.agents.tabular.config import TabularConfig
from rlkit.api.configuration import check_env_args
from rlkit.config import build, checked
from rlkit.devices import configure
from rlkit.envs import lookup
from rlkit.errors import UserError
from rlkit.interaction.evaluation import Evaluation, Policy, evaluate
from rlkit.interaction.vector import make_vector
from rlkit.learning.agent import Learner
from rlkit.learning.config import TrainConfig
from rlkit.learning.q_agent import QAgent
from rlkit.loops.acting import compile_policy
from rlkit.reporting import Say, silent
from rlkit.runs import run_directory
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.run_directory import AnyRun, RunDirectory
from rlkit.seeding import run_evaluation_seed

if TYPE_CHECKING:
    from rlkit.agents.tabular.tabular import Tabular


EVALUATION_ENVS = 100
"""Most envs that an evaluation runs at once."""

EVALUATION_GAMES = 16
"""The same for Atari's games, each of which takes a tenth of a second to make."""


def evaluation_envs(env: str, episodes: int) -> int:
    """How many envs play some episodes."""
    return min(episodes, EVALUATION_GAMES if lookup.game(env) else EVALUATION_ENVS)


@dataclass(frozen=True)
class Run(AnyRun):
    """A run on disk, to evaluate and play."""

    config: TrainConfig

    def agent(self, checkpoint: str = "best") -> tuple[Learner, int]:
        """The trained agent, and the step that it was saved at.

        Args:
            checkpoint: "best", "last" or a step's number.
        """
        with configure(self.config):
            return self._agent(checkpoint)

    def _agent(self, checkpoint: str) -> tuple[Learner, int]:
        probe = make_vector(lookup.find(self.config.env), self.config.env_args, 1, "resettable")
        try:
            make = agents.agent_class(self.directory.agent)
            config = self.config.replace(precision="float32") if isinstance(self.config, DQNConfig) else self.config
            agent = make(config, probe.single_observation_space, probe.single_action_space)
        finally:
            probe.close()
        step = Checkpointer(self.directory.checkpoints, agent).restore_agent(checkpoint)
        if isinstance(self.config, TabularConfig):
            cast("Tabular", agent).adopt()
        return agent, step

    def counts(self) -> dict[str, int]:
        """Frames of the console, where the env is an Atari game."""
        each = lookup.frames_per_step(self.config.env, self.config.env_args)
        return {"frames": each * self.directory.step} if each else {}

    def policy(self, num_envs: int = 1, checkpoint: str = "best", runtime: str = "tensorflow") -> tuple[Policy, int]:
        """The greedy policy for N observations, and the step that it was saved at.

        Args:
            num_envs: N.
            checkpoint: "best", "last" or a step's number.
            runtime: one of "tensorflow", "litert".
        """
        checked("runtime", runtime, Literal["tensorflow", "litert"])
        num_envs = checked("num_envs", num_envs, int, low=1)
        if runtime == "litert":
            return self._litert(num_envs, checkpoint)
        with configure(self.config):
            agent, step = self.agent(checkpoint)
            policy = compile_policy(agent, self._space(), num_envs)
        return policy, step

    def _space(self) -> gymnasium.Space[Any]:
        """The space of one observation."""
        with contextlib.closing(
            make_vector(lookup.find(self.config.env), self.config.env_args, 1, "resettable")
        ) as probe:
            return probe.single_observation_space

    def values(self, checkpoint: str = "best") -> Callable[[np.ndarray], np.ndarray]:
        """From one observation, [1, ...], to the trained agent's values of its actions, [1, A] float32.

        Args:
            checkpoint: "best", "last" or a step's number.

        Raises:
            UserError: the agent's values are not those of the observation alone.
        """
        with configure(self.config):
            agent, _ = self.agent(checkpoint)
        if isinstance(self.config, TabularConfig):
            table, first = cast("Tabular", agent).q.numpy().mean(axis=0), cast("Tabular", agent).first_state
            return lambda observations: table[np.asarray(observations) - first].astype(np.float32)
        if not isinstance(agent, QAgent) or remembers(self.config):
            raise UserError(
                f"the values of {self.path} cannot be drawn: its network remembers, so they are not those of an "
                "observation alone"
            )
        return lambda observations: agent.q(observations, training=False).numpy()

    def _litert(self, num_envs: int, checkpoint: str) -> tuple[Policy, int]:
        """As `policy`, by LiteRT."""
        from rlkit.api.policy_models import write_tflite  # noqa: PLC0415 - for this runtime alone, as the next
        from rlkit.export.litert import LiteRTPolicy  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="rlkit-") as folder:
            file = Path(folder) / "model.tflite"
            with configure(self.config):
                agent, step = self._agent(checkpoint)
                write_tflite(agent, file)
            return LiteRTPolicy(file, num_envs, self._space(), own=True), step

    def _players(self, num_envs: int, checkpoint: str, runtime: str) -> tuple[Policy, int, VectorEnv]:
        """The policy, its step and the envs for an evaluation: N, or one where no more can be open at once."""
        policy, step = self.policy(num_envs, checkpoint, runtime)
        try:
            return policy, step, make_vector(lookup.find(self.config.env), self.config.env_args, num_envs, "resettable")
        except UserError:
            if num_envs == 1:
                raise
        return self._players(1, checkpoint, runtime)

    def evaluate(
        self,
        episodes: int = 100,
        seed: int = 0,
        checkpoint: str = "best",
        runtime: str = "tensorflow",
        epsilon: float = 0.0,
        say: Say = silent,
    ) -> Evaluation:
        """Episodes on seeds that training never used; also saved as evaluation.json in the run.

        Args:
            episodes: how many.
            seed: of the evaluation; runs of different training seeds play different episodes by it.
            checkpoint: "best", "last" or a step's number.
            runtime: one of "tensorflow", "litert".
            epsilon: share of actions that are uniform in place of greedy ones, in [0, 1].
            say: told now and then how far it has come.

        Raises:
            UserError: there is no such checkpoint, or it is damaged.
        """
        episodes, seed = checked("episodes", episodes, int, low=1), checked("seed", seed, int, low=0)
        epsilon = checked("epsilon", epsilon, float, low=0, high=1)
        policy, step, vector = self._players(evaluation_envs(self.config.env, episodes), checkpoint, runtime)
        try:
            with configure(self.config):
                mixed, watch = run_evaluation_seed(seed, self.config.seed), watching(episodes, say)
                result = evaluate(policy, vector, episodes, mixed, epsilon=epsilon, watch=watch)
                result = dataclasses.replace(result, seed=seed, step=step)
        finally:
            vector.close()
        self.record(checkpoint, result)
        return result

    def record(self, checkpoint: str, result: Evaluation) -> None:
        """Write an evaluation to evaluation.json; a run that cannot be written to can still be evaluated."""
        with contextlib.suppress(OSError):
            text = json.dumps({"checkpoint": checkpoint, **result.to_dict()})
            run_directory.replace_text(self.path / "evaluation.json", text + "\n")


WATCHED = 5.0
"""Seconds between two words on how far an evaluation has come."""


def watching(episodes: int, say: Say) -> Callable[[int, int], None]:
    """A function of the episodes that have ended and each env's steps, which says now and then how far they are."""
    told = time.monotonic()

    def watch(ended: int, steps: int) -> None:
        nonlocal told
        if time.monotonic() - told >= WATCHED:
            told = time.monotonic()
            say(f"evaluation: {ended:,} of {episodes:,} episodes have ended, after {steps:,} steps of each env")

    return watch


def load(path: str | Path, say: Say = silent, *, trust: bool = False) -> Run:
    """The run at a path, or the newest one below it that has a checkpoint.

    Args:
        path: the run's folder, or one that holds runs.
        say: told what a person may want to know.
        trust: import the code that the config of a run of another's names.

    Raises:
        UserError: there is no such run, or it is another's, is not to be trusted and its config names code.
    """
    directory = run_directory.find(path, run_directory.untrained, verb="train", say=say)
    return Run(directory, read_config(directory, trust, say))


def read_config(directory: RunDirectory, trust: bool = False, say: Say = silent) -> TrainConfig:
    """A run's config, checked.

    Args:
        directory: of the run.
        trust: import the code that it names, also where the run is another's.
        say: told where the file is damaged.

    Raises:
        UserError: its model is none of an agent, or it names code that is not trusted.
    """
    directory.require("train")
    config = build(agents.config_class(directory.agent), (str(directory.path / "config.toml"), directory.config(say)))
    directory.check_trust(config.to_dict(), trust)
    check_env_args(config.env, config.env_args)
    return config
