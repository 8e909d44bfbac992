"""Environments: Gymnasium's and rlkit's own, looked up by id."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from rlkit.config import Scalar
from rlkit.errors import UserError, unknown

if TYPE_CHECKING:
    from rlkit.functional import FunctionalEnv

if __name__ != "rlkit.envs":
    raise ImportError("import rlkit.envs, not envs")

OWN: dict[str, dict[str, Any]] = {
    "rlkit/NumberTriangle-v0": {"entry_point": "rlkit.envs.number_triangle:NumberTriangleEnv"},
    "rlkit/FiniteMDP-v0": {"entry_point": "rlkit.envs.finite:SavedFiniteEnv"},
    "rlkit/Garnet-v0": {"entry_point": "rlkit.envs.garnet:GarnetEnv", "max_episode_steps": 100},
}
"""rlkit's own envs, and how they are registered; each is imported when it is made."""

for _id, _how in OWN.items():
    if _id not in gymnasium.registry:  # as it is where this module is loaded again
        gymnasium.register(_id, **_how)

TWINS: dict[str, str] = {
    "CartPole-v1": "rlkit.envs.cartpole:CartPole",
}
"""Envs that are there as tensor functions too, and what makes these from the arguments, as ``module:name``."""

EXTRAS = {"box2d": "box2d", "pygame": "video"}
"""Which extra of rlkit installs a module that an env imports."""


def names() -> list[str]:
    """The ids of every registered env that is the newest of its versions."""
    newest: dict[str, EnvSpec] = {}
    for spec in gymnasium.registry.values():
        key = f"{spec.namespace}/{spec.name}" if spec.namespace else spec.name
        if key not in newest or (spec.version or 0) > (newest[key].version or 0):
            newest[key] = spec
    return sorted(spec.id for spec in newest.values())


def find(env: str) -> EnvSpec:
    """The spec of a registered env; an id may begin with a module to import, as in ``package:Env-v0``.

    Raises:
        UserError: there is no such env, it is retired, or it needs a package that is not installed.
    """
    if not env:
        raise UserError("no env is given: name one with --env, such as CartPole-v1")
    module, colon, name = env.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError, TypeError) as error:  # the last two where it is no module's name
            raise UserError(f"env {env!r}: the module {module!r} cannot be imported ({error})") from None
    if name not in gymnasium.registry:
        raise unknown("env", name, names())
    spec = gymnasium.registry[name]
    try:
        _creator(spec)
    except gymnasium.error.DeprecatedEnv as error:
        raise UserError(f"env {name!r} is retired: {error}") from None
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        missing = (getattr(error, "name", None) or str(error)).casefold()
        extra = next((extra for module, extra in EXTRAS.items() if module in missing), None)
        hint = f"install rlkit with the extra {extra!r}" if extra else str(error)
        raise UserError(f"env {name!r} needs a package that is not installed: {hint}") from None
    return spec


def has_twin(env: str, env_args: Mapping[str, Scalar]) -> bool:
    """Whether the env with these arguments is there as tensor functions; loads no TensorFlow."""
    return not env_args and env.rpartition(":")[2] in TWINS


def twin(env: str, env_args: Mapping[str, Scalar]) -> FunctionalEnv | None:
    """The env as tensor functions, or None; loads TensorFlow."""
    if not has_twin(env, env_args):
        return None
    module, _, name = TWINS[env.rpartition(":")[2]].partition(":")
    return cast("FunctionalEnv", getattr(importlib.import_module(module), name)(**env_args))


def arguments(env: str) -> dict[str, Any]:
    """The keyword arguments that an env takes, with their defaults; render_mode is not among them."""
    spec = find(env)
    parameters = inspect.signature(_creator(spec)).parameters.values()
    defaults = {
        p.name: p.default for p in parameters if p.default is not p.empty and p.name not in ("render_mode", "self")
    }
    return {**defaults, **{k: v for k, v in spec.kwargs.items() if k in defaults}}


def has_model(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether an env's model tells all: no wrapper changes what is seen or paid, and the env itself knows everything.

    Taxi's P leaves out that a fickle passenger may change the destination.
    """
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if not isinstance(layer, TimeLimit | OrderEnforcing | PassiveEnvChecker):
            return False
        layer = layer.env
    known = hasattr(layer, "mdp") or isinstance(getattr(layer, "P", None), dict)
    return known and not getattr(layer, "fickle_passenger", False)


def _creator(spec: EnvSpec) -> Any:  # noqa: ANN401 - whatever makes the env
    return spec.entry_point if callable(spec.entry_point) else load_env_creator(str(spec.entry_point))
