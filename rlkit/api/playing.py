"""Exported policies in envs; nothing here loads TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gymnasium import spaces

from rlkit.config import Argument
from rlkit.envs import lookup
from rlkit.errors import UserError
from rlkit.export.litert import LiteRTPolicy
from rlkit.interaction.evaluation import Evaluation, evaluate
from rlkit.interaction.vector import make_vector
from rlkit.pictures import rollouts
from rlkit.seeding import run_evaluation_seed

MOST_ENVS = 20
"""That play at once: a .tflite takes one observation at a time, so more would save nothing."""


def play(file: Path, env: str, env_args: Mapping[str, Argument], episodes: int, seed: int) -> Evaluation:
    """Play episodes with the policy of a .tflite: those that `rlkit evaluate` plays with a run of training seed 0.

    Args:
        file: written by ``rlkit export RUN --to tflite``.
        env: Gymnasium id.
        env_args: arguments of the env.
        episodes: how many.
        seed: of the episodes.

    Raises:
        UserError: the file is of no policy, or of one for other observations than the env's.
    """
    lookup.find(env)
    num_envs = min(episodes, MOST_ENVS)
    vector = make_vector(lookup.find(env), env_args, num_envs, "resettable")
    try:
        actions = vector.single_action_space
        if not isinstance(actions, spaces.Discrete):
            raise UserError(f"{env} takes actions of {actions}, expected one of some, as a policy of rlkit picks")
        policy = LiteRTPolicy(file, num_envs, actions=actions)
        shape = vector.single_observation_space.shape
        if shape != policy.shape:
            raise UserError(f"{file} takes observations of the shape {policy.shape}, and those of {env} have {shape}")
        return replace(evaluate(policy, vector, episodes, run_evaluation_seed(seed, 0)), seed=seed)
    finally:
        vector.close()


def film(file: Path, env: str, env_args: Mapping[str, Argument], seed: int, path: Path) -> None:
    """Write the first of these episodes as a video.

    Raises:
        UserError: as `rlkit.pictures.rollouts.record`.
    """
    mixed = run_evaluation_seed(seed, 0)
    rollouts.record(LiteRTPolicy(file), lookup.find(env), env_args, path, seed=mixed)
