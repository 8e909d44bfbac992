"""N copies of any Gymnasium env behind one face, with autoreset, final observations and exact state settled.

Gymnasium's vector envs end episodes in three ways (`AutoresetMode`). Here there is one: a step returns the real
next observation, never one after a reset, and `observation` holds what to act on next.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FrameStackObservation, OrderEnforcing, PassiveEnvChecker, TimeLimit

from rlkit.config import Argument
from rlkit.errors import UserError
from rlkit.seeding import env_seed

Arrays = dict[str, np.ndarray]
EnvFactory = Callable[[], gymnasium.Env[Any, Any]]


class Step(NamedTuple):
    """What N envs returned; only rows with `valid` are transitions, the others only reset themselves."""

    next_observation: np.ndarray
    """[N, ...], the real one, also where the episode ended."""
    reward: np.ndarray
    """[N] float64."""
    terminated: np.ndarray
    """[N] bool."""
    truncated: np.ndarray
    """[N] bool."""
    valid: np.ndarray
    """[N] bool."""
    life_lost: np.ndarray | None = None
    """[N] bool, where the env tells: learning bootstraps nothing behind it, though the episode goes on."""

    @property
    def bootstraps(self) -> np.ndarray:
        """Whether what is behind the step counts for learning, [N] bool."""
        return ~self.terminated if self.life_lost is None else ~(self.terminated | self.life_lost)


TOLD = ("life_lost",)
"""What is heard of an env's infos."""


class OneEnv(VectorEnv):
    """One env as a vector env of one, without the cost of batching (a third of SyncVectorEnv's)."""

    def __init__(self, make: EnvFactory) -> None:
        self.env = make()
        self.num_envs = 1
        self.metadata = {**self.env.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.spec = self.env.spec
        self.render_mode = self.env.render_mode
        self.single_observation_space = self.env.observation_space
        self.single_action_space = self.env.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(self.env.observation_space, 1)
        self.action_space = gymnasium.vector.utils.batch_space(self.env.action_space, 1)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        options = {k: v for k, v in (options or {}).items() if k != "reset_mask"} or None
        observation, info = self.env.reset(seed=seed[0] if isinstance(seed, list) else seed, options=options)
        return np.asarray(observation)[None], info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        action = actions[0].item() if actions.ndim == 1 else actions[0]  # envs check a Python number faster
        observation, reward, terminated, truncated, info = self.env.step(action)
        return (
            np.asarray(observation)[None],
            np.array([reward], np.float64),
            np.array([terminated]),
            np.array([truncated]),
            {name: np.array([info[name]]) for name in TOLD if name in info},
        )

    def close_extras(self, **kwargs: object) -> None:
        self.env.close()


def name_of(env: str | EnvSpec) -> str:
    """The id of an env."""
    return env if isinstance(env, str) else env.id


def spec_of(env: str | EnvSpec) -> EnvSpec:
    """The spec of a registered env."""
    return gymnasium.spec(env.rpartition(":")[2]) if isinstance(env, str) else env


def time_limit(envs: VectorEnv | gymnasium.Env[Any, Any]) -> int | None:
    """Steps after which an env is truncated, however its copies are run; None where nothing of it says so.

    Specs and wrappers are asked: Gymnasium's SyncVectorEnv has no spec, and a wrapper by itself none either.
    """
    one: Any = envs
    if isinstance(envs, VectorEnv):
        inner: Any = envs.unwrapped
        one = next(iter(getattr(inner, "envs", ())), getattr(inner, "env", None))
    specs = [part.spec for part in (envs, one) if part is not None]
    limits = [spec.max_episode_steps for spec in specs if spec is not None]
    while isinstance(one, gymnasium.Wrapper):
        if isinstance(one, TimeLimit):
            limits.append(one._max_episode_steps)
        one = one.env
    return min((limit for limit in limits if limit is not None), default=None)


def _in_worker(make: EnvFactory) -> gymnasium.Env[Any, Any]:
    """Make an env, and in a worker's process leave Ctrl-C, which a terminal sends to all, to the parent."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return make()


def make_vector(
    env: str | EnvSpec, env_args: Mapping[str, Argument], num_envs: int, vectorization: str = "auto"
) -> VectorEnv:
    """N copies of an env by its id or spec; `vectorization` as in TrainConfig, or "resettable".

    That is sync, or native where the env's own vector version has its episodes reset from outside.

    Raises:
        UserError: native asked for and the env has none, or the env refuses its arguments.
    """
    arguments: dict[str, Any] = dict(env_args)
    name, own = name_of(env), spec_of(env).vector_entry_point
    if vectorization == "auto":
        vectorization = "native" if num_envs > 1 and own is not None else "sync"
    if vectorization == "resettable":
        vector = load_env_creator(own) if isinstance(own, str) else own
        mode = getattr(vector, "metadata", {}).get("autoreset_mode")
        vectorization = "native" if mode == AutoresetMode.DISABLED else "sync"
    try:
        if vectorization == "native":
            if own is None:
                raise UserError(f"vectorization is native, but {name} has no vector version of its own: take sync")
            return gymnasium.make_vec(env, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)
        make = partial(gymnasium.make, env, **arguments)
        if vectorization == "async":
            makers = [partial(_in_worker, make)] * num_envs
            # not by fork: this process may already run TensorFlow's threads
            return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED, context="forkserver")
        if num_envs == 1:
            return OneEnv(make)
        return SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"{name} cannot be made: {error}") from error
    except (TypeError, ValueError, AssertionError, LookupError) as error:
        raise UserError(f"{name} refuses its arguments {arguments}: {error!r}") from error


def stacks_frames(env: str | EnvSpec, env_args: Mapping[str, Argument]) -> bool:
    """Whether an env's observations are the last frames, as the outermost of its wrappers that changes them says."""
    with closing(make_vector(env, env_args, 1, "sync")) as made:
        layer: Any = cast("OneEnv", made).env
    while isinstance(layer, TimeLimit | OrderEnforcing | PassiveEnvChecker):
        layer = layer.env
    return isinstance(layer, FrameStackObservation)


class Environments:
    """N envs whose episodes, autoresets and state are under control.

    Where episodes are reset from here (`AutoresetMode.DISABLED`), each has a seed of its own, a function of
    (seed, env, episode); the state is then that seed and the actions since, whatever the env is. Envs that
    reset themselves are saved by their attributes, where a trial shows that this is enough.

    Args:
        envs: a vector env in any autoreset mode.
        seed: the run's seed.
    """

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        self.envs, self.seed = envs, seed
        self.num_envs = envs.num_envs
        self.mode = AutoresetMode(envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.observation_space = envs.single_observation_space
        self.action_space = envs.single_action_space
        self.episodes = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._all = np.ones(self.num_envs, np.bool_)
        self._log = np.zeros((256, self.num_envs), np.int32)
        self._logged = 0
        self._begin = np.zeros(self.num_envs, np.int64)
        self.observation = self._reset_all()

    def _seeds(self, wanted: np.ndarray) -> list[int | None]:
        """The seeds of the current episodes of the wanted envs, None for the others."""
        return [
            env_seed(self.seed, e, int(k)) if want else None
            for e, (k, want) in enumerate(zip(self.episodes, wanted, strict=True))
        ]

    def _reset(self, seeds: list[int | None], mask: np.ndarray | None = None) -> np.ndarray:
        options = None if mask is None else {"reset_mask": mask}
        observation, _ = self.envs.reset(seed=seeds, options=options)  # type: ignore[arg-type]
        return np.array(observation)

    def _reset_all(self) -> np.ndarray:
        if self.mode == AutoresetMode.DISABLED:
            return self._reset(self._seeds(self._all))
        return np.array(self.envs.reset(seed=env_seed(self.seed, 0, 0))[0])

    def step(self, actions: np.ndarray) -> Step:
        """Act in every env; `observation` is then what to act on next, [N, ...]."""
        if self.mode == AutoresetMode.DISABLED:
            return self._step_and_reset(actions)
        observation, reward, terminated, truncated, info = self.envs.step(actions)
        valid, final = self._all, observation
        if self.mode == AutoresetMode.NEXT_STEP:
            valid = ~self._ended
        elif "final_obs" in info:
            final = np.array(observation)
            for e in np.flatnonzero(terminated | truncated):
                final[e] = info["final_obs"][e]
        self.observation = observation
        self._ended = terminated | truncated
        self.episodes += self._ended
        return Step(final, reward, terminated, truncated, valid, info.get("life_lost"))

    def _step_and_reset(self, actions: np.ndarray) -> Step:
        if self._logged == len(self._log):
            self._compact_log()
        self._log[self._logged] = actions
        self._logged += 1
        observation, reward, terminated, truncated, info = self.envs.step(actions)
        ended = terminated | truncated
        self.observation = observation
        if ended.any():
            self.episodes += ended
            self._begin[ended] = self._logged
            self.observation = self._reset(self._seeds(ended), ended)
        return Step(observation, reward, terminated, truncated, self._all, info.get("life_lost"))

    def _compact_log(self) -> None:
        first = int(self._begin.min())
        kept = self._log[first : self._logged]
        grown = np.zeros((max(256, 2 * len(kept)), self.num_envs), np.int32)
        grown[: len(kept)] = kept
        self._log, self._logged = grown, len(kept)
        self._begin -= first

    def state(self) -> Arrays:
        """What `restore` needs to continue exactly, as arrays."""
        common = {"episodes": self.episodes, "observation": self.observation}
        if self.mode == AutoresetMode.DISABLED:
            first = int(self._begin.min())
            return {**common, "log": self._log[first : self._logged].copy(), "begin": self._begin - first}
        return {**common, "ended": self._ended, **attributes(self.envs)}

    def restore(self, state: Arrays) -> bool:
        """Continue from a `state`; False if the env did not come back to it and starts fresh episodes."""
        self.episodes = state["episodes"].copy()
        if self.mode == AutoresetMode.DISABLED:
            self._begin, log = state["begin"].copy(), state["log"]
            self._log, self._logged = np.array(log), len(log)
            self.observation = self._replay(log, self._begin)
        else:
            set_attributes(self.envs, state)
            self._ended = state["ended"].copy()
            self.observation = state["observation"].copy()
            if self.saves_exactly():
                return True
        if self.mode == AutoresetMode.DISABLED and np.array_equal(
            self.observation, state["observation"], equal_nan=self.observation.dtype.kind == "f"
        ):
            return True
        self.episodes += 1
        self._logged, self._begin[:], self._ended[:] = 0, 0, False
        self.observation = self._reset_all()
        return False

    def _replay(self, log: np.ndarray, begin: np.ndarray) -> np.ndarray:
        """Reset each env to its episode's seed in time for all logged actions to end together."""
        seeds = self._seeds(self._all)
        observation = self._reset_all()
        ended = np.zeros(self.num_envs, np.bool_)
        idle = np.full(self.num_envs, self._first_action(), np.int32)
        for i in range(len(log) + 1):
            due = (begin == i) | ended
            if due.any():
                observation = self._reset(seeds, due)
            if i < len(log):
                actions = np.where(begin <= i, log[i], idle)
                observation, _, terminated, truncated, _ = self.envs.step(actions)
                ended = terminated | truncated
        return np.array(observation)

    def saves_exactly(self) -> bool:
        """Whether a state that is saved now can be restored exactly; envs that reset themselves are tried."""
        if self.mode == AutoresetMode.DISABLED:
            return True
        saved = {k: np.copy(v) for k, v in attributes(self.envs).items()}
        try:
            first = self._rehearse()
            set_attributes(self.envs, saved)
            second = self._rehearse()
        finally:
            set_attributes(self.envs, saved)
        if all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
            return True
        self._ended[:] = False  # the trial has moved what its attributes do not hold
        self.observation = self._reset_all()
        return False

    def _rehearse(self, steps: int = 64) -> list[np.ndarray]:
        rows: list[np.ndarray] = []
        for i in range(steps):
            actions = np.full(self.num_envs, self._first_action() + i % 2)
            observation, reward, terminated, truncated, _ = self.envs.step(actions)
            rows += [np.copy(part) for part in (observation, reward, terminated, truncated)]
        return rows

    def _first_action(self) -> int:
        return int(getattr(self.action_space, "start", 0))

    def close(self) -> None:
        """Close the envs; those that were closed before are left alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.envs.close()


_PREFIX = "attribute."


def attributes(env: VectorEnv) -> Arrays:
    """An env's own numbers, arrays and generators, as arrays."""
    found: Arrays = {}
    for name, value in vars(env).items():
        if isinstance(value, np.random.Generator):
            found[_PREFIX + name] = np.array(json.dumps(value.bit_generator.state))
        elif isinstance(value, bool | int | float) or (isinstance(value, np.ndarray) and value.dtype != object):
            found[_PREFIX + name] = np.copy(value)
    return found


def set_attributes(env: VectorEnv, state: Arrays) -> None:
    """The inverse of `attributes`."""
    for key, value in state.items():
        if not key.startswith(_PREFIX):
            continue
        name = key.removeprefix(_PREFIX)
        current = getattr(env, name)
        if isinstance(current, np.random.Generator):
            current.bit_generator.state = json.loads(str(value))
        else:
            setattr(env, name, value.copy() if value.ndim or isinstance(current, np.ndarray) else value.item())
