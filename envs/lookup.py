"""Environments by id: Gymnasium's, rlkit's own, Atari's games, and those of a module that the id names."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from rlkit.config import Argument
from rlkit.errors import UserError, lacking, short, unknown

if TYPE_CHECKING:
    from rlkit.interaction.functional import FunctionalEnv


REFUSALS = (gymnasium.error.Error, ImportError, TypeError, ValueError, AssertionError, LookupError)
"""How an env that is made refuses its arguments."""


def names() -> list[str]:
    """The ids of every registered env that is the newest of its versions, Atari's games among them if installed."""
    with suppress(ImportError):
        _register_games()
    newest: dict[str, EnvSpec] = {}
    for spec in gymnasium.registry.values():
        if spec.entry_point == GAME and not spec.namespace:
            continue  # an old id of a game
        key = f"{spec.namespace}/{spec.name}" if spec.namespace else spec.name
        if key not in newest or (spec.version or 0) > (newest[key].version or 0):
            newest[key] = spec
    return sorted((spec.id for spec in newest.values()), key=str.casefold)


def find(env: str) -> EnvSpec:
    """The spec of a registered env; an id may begin with a module to import, as in ``package:Env-v0``.

    Raises:
        UserError: there is no such env, it is retired, or it needs a package that is not installed.
    """
    if not isinstance(env, str):
        raise _no_id(env)
    if not env:
        raise UserError('no env is given: name one, such as --env CartPole-v1, or env="CartPole-v1" in Python')
    name = imported(env)
    try:
        if name not in gymnasium.registry and (name.startswith("ALE/") or "NoFrameskip-v" in name):
            _register_games()
        if name not in gymnasium.registry:
            raise unknown("env", name, names())
        spec = gymnasium.registry[name]
        if spec.entry_point == GAME:
            spec = _game(spec)
        _creator(spec)
    except gymnasium.error.DeprecatedEnv as error:
        raise UserError(f"env {name!r} is retired: {error}") from None
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise UserError(f"env {name!r} needs a package: {lacking(error)}") from None
    return spec


GAME = "ale_py.env:AtariEnv"
"""Entry point with which ale-py registers its games."""

PREPROCESSED = "rlkit.envs.atari:make"
"""Entry point of the same games here."""


def _register_games() -> None:
    """Have ale-py register its games, as its first import does; ImportError if it is not installed."""
    registration = importlib.import_module("ale_py.registration")
    if not any(spec.entry_point == GAME for spec in gymnasium.registry.values()):  # taken out since
        registration.register_v0_v4_envs()
        registration.register_v5_envs()


def game(env: str) -> str | None:
    """The newest id of the Atari game that an env is, such as "ALE/Pong-v5"; None where it is none."""
    spec = find(env)
    if spec.entry_point != PREPROCESSED:
        return None
    return f"ALE/{str(spec.kwargs['game']).title().replace('_', '')}-v5"


def frames_per_step(env: str, env_args: Mapping[str, Argument]) -> int | None:
    """Frames of the console that a step of an Atari game takes; None for any other env."""
    if game(env) is None:
        return None
    given = env_args.get("frameskip")
    return given if isinstance(given, int) and given else int(load("rlkit.envs.atari:SETTINGS")["mnih2015"].frameskip)


def _game(spec: EnvSpec) -> EnvSpec:
    """The spec of a game of ale-py's, preprocessed: its version says how, and arguments may say otherwise."""
    kwargs = {"game": spec.kwargs["game"]}
    if not spec.kwargs["repeat_action_probability"]:
        kwargs["preprocessing"] = "mnih2015"
    return dataclasses.replace(
        spec,
        entry_point=PREPROCESSED,
        vector_entry_point="rlkit.envs.atari:AtariVector",
        kwargs=kwargs,
        max_episode_steps=27_000,  # half an hour of play
    )


def _no_id(env: object) -> UserError:
    """The error for an env that is given as something else than its id."""
    spec = env if isinstance(env, EnvSpec) else getattr(env, "spec", None)
    known = isinstance(spec, EnvSpec) and spec.id in gymnasium.registry
    how = (
        f"give {spec.id!r}, and its arguments as env_args"
        if isinstance(spec, EnvSpec) and known
        else "register it, gymnasium.register(id='My-v0', entry_point=...), and give that id"
    )
    return UserError(
        f"env is {short(env)}, expected the id of a registered env as text, such as 'CartPole-v1', since a run's "
        f"config says how to make its env again: {how}"
    )


def _look_here(module: str) -> None:
    """Have Python find a module that the user names in the current folder, if it is there, as ``python -m`` does."""
    top = module.partition(".")[0]
    with suppress(OSError, ValueError):  # a folder that is gone, a name that is none
        here = str(Path.cwd())
        if top and top not in sys.modules and here not in sys.path and PathFinder.find_spec(top, [here]):
            sys.path.insert(0, here)


def imported(env: str) -> str:
    """An env's id without the module that it may begin with, which is imported."""
    module, colon, name = env.rpartition(":")
    if colon:
        _look_here(module)
        try:
            importlib.import_module(module)
        except (ImportError, ValueError, TypeError) as error:  # the last two where it is no module's name
            absent = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
            hint = ": give the command in the folder that holds it, or set PYTHONPATH" if absent else ""
            raise UserError(f"env {env!r}: the module {module!r} cannot be imported ({error}){hint}") from None
    return name


MAKERS: dict[str, Callable[..., FunctionalEnv]] = {}
"""Makers of the tensor functions of registered functional envs, by id."""


def load(target: str) -> Any:  # noqa: ANN401 - whatever it names
    """An attribute of a module that is imported for it, as ``module:name``."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def arguments(env: str) -> dict[str, Any]:
    """The keyword arguments that an env takes, with their defaults; render_mode is not among them."""
    spec = find(env)
    creator = MAKERS.get(spec.id) or _creator(spec)
    parameters = inspect.signature(creator).parameters.values()
    defaults = {
        p.name: p.default for p in parameters if p.default is not p.empty and p.name not in ("render_mode", "self")
    }
    return {**defaults, **{k: v for k, v in spec.kwargs.items() if k in defaults}}


def _creator(spec: EnvSpec) -> Any:  # noqa: ANN401 - whatever makes the env
    return spec.entry_point if callable(spec.entry_point) else load_env_creator(str(spec.entry_point))
