"""Environments that exist as functions of tensors too: which these are, and how a user's are registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import gymnasium

from rlkit.config import Argument
from rlkit.envs.lookup import MAKERS, REFUSALS, imported, load

if TYPE_CHECKING:
    from rlkit.interaction.functional import FunctionalEnv


TWINS: dict[str, str] = {
    "CartPole-v1": "rlkit.envs.functional.cartpole:CartPole",
    "Acrobot-v1": "rlkit.envs.functional.acrobot:Acrobot",
    "MountainCar-v0": "rlkit.envs.functional.mountain_car:MountainCar",
    "Pendulum-v1": "rlkit.envs.functional.pendulum:Pendulum",
}
"""Envs that are there as tensor functions too, and what makes these from the arguments, as ``module:name``."""

MODELS = (
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "Taxi-v4",
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
    "rlkit/NumberTriangle-v0",
    "rlkit/FiniteMDP-v0",
    "rlkit/Garnet-v0",
)
"""Envs whose model makes them tensor functions."""


def twin(env: str, env_args: Mapping[str, Argument]) -> FunctionalEnv | None:
    """The env with these arguments as tensor functions, or None where it is not there so; loads TensorFlow.

    Raises:
        UserError: the module that the id begins with cannot be imported.
    """
    name = imported(env)
    if name in MODELS:
        return cast("FunctionalEnv | None", load("rlkit.envs.functional.finite_mdp:of_env")(name, **env_args))
    make = MAKERS.get(name) or (load(TWINS[name]) if is_gymnasiums(name) else None)
    try:
        return None if make is None else cast("FunctionalEnv", make(**env_args))
    except REFUSALS:
        return None


def has_twin(env: str, env_args: Mapping[str, Argument]) -> bool:
    """Whether `twin` has the env with these arguments; loads TensorFlow only where arguments or a model decide.

    Raises:
        UserError: as `twin` does.
    """
    name = imported(env)
    if name not in MODELS and name not in MAKERS and not is_gymnasiums(name):
        return False
    return (name in TWINS and not env_args) or twin(env, env_args) is not None


def is_gymnasiums(name: str) -> bool:
    """Whether the id has a twin and still means Gymnasium's own env, as nobody has registered it anew or otherwise."""
    spec = gymnasium.registry.get(name)
    if name not in TWINS or spec is None or spec.additional_wrappers or spec.kwargs:
        return False
    return str(spec.entry_point).startswith("gymnasium.")


def register_functional(id: str, make: Callable[..., FunctionalEnv], max_episode_steps: int | None = None) -> None:
    """Register tensor functions with Gymnasium, as an env and a vector env, and for the compiled loop.

    Args:
        id: as Gymnasium takes it, such as "Corridor-v0".
        make: from the env's arguments to the functions.
        max_episode_steps: time limit; none if None.
    """
    MAKERS[id] = make
    gymnasium.register(
        id,
        entry_point=partial(_single, make),
        vector_entry_point=partial(_vector, make),
        max_episode_steps=max_episode_steps,
    )


def _single(
    make: Callable[..., FunctionalEnv],
    render_mode: str | None = None,
    **arguments: Any,  # noqa: ANN401 - the env's own
) -> gymnasium.Env[Any, Any]:
    return cast(
        "gymnasium.Env[Any, Any]", load("rlkit.interaction.functional:SingleEnv")(make(**arguments), render_mode)
    )


def _vector(
    make: Callable[..., FunctionalEnv],
    num_envs: int = 1,
    max_episode_steps: int | None = None,
    **arguments: Any,  # noqa: ANN401 - the env's own
) -> gymnasium.vector.VectorEnv:
    made = load("rlkit.interaction.functional:FunctionalVectorEnv")(make(**arguments), num_envs, max_episode_steps)
    return cast("gymnasium.vector.VectorEnv", made)
