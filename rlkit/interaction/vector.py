"""N copies of any Gymnasium env behind one face, with autoreset, final observations and exact state settled.

Gymnasium's vector envs end episodes in three ways (`AutoresetMode`). Here there is one: a step returns the real
next observation, never one after a reset, and `observation` holds what to act on next.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FrameStackObservation, OrderEnforcing, PassiveEnvChecker, TimeLimit

from rlkit.config import Argument
from rlkit.errors import UserError
from rlkit.interaction.checked import MASK, Checked, checked_vector
from rlkit.interaction.generators import generator_states
from rlkit.interaction.workers import Workers
from rlkit.seeding import env_seed
from rlkit.spaces import Arrays

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


TOLD = ("life_lost", MASK)
"""The env's infos that are read."""


class OneEnv(VectorEnv):
    """One env, `Checked`, as a vector env of one, without the cost of batching (a third of SyncVectorEnv's)."""

    checked = True

    def __init__(self, make: EnvFactory) -> None:
        self.env = Checked(make())
        self.envs = (self.env,)
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
        return np.asarray(observation)[None], _heard(info)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        action = actions[0].item() if actions.ndim == 1 else actions[0]  # envs check a Python number faster
        observation, reward, terminated, truncated, info = self.env.step(action)
        return (
            np.asarray(observation)[None],
            np.array([reward], np.float64),
            np.array([terminated]),
            np.array([truncated]),
            _heard(info) if info else {},
        )

    def close_extras(self, **kwargs: object) -> None:
        self.env.close()


def _heard(info: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an env's infos that are used, or reported, [1] each."""
    return {name: np.array([info[name]]) for name in TOLD if name in info}


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


def make_vector(
    env: str | EnvSpec, env_args: Mapping[str, Argument], num_envs: int, vectorization: str = "auto"
) -> VectorEnv:
    """N copies of an env by its id or spec; `vectorization` as in TrainConfig, or "resettable".

    That is sync, or native where the env's own vector version has its episodes reset from outside.

    Raises:
        UserError: native asked for and the env has none, or the env refuses its arguments or cannot be made.
    """
    if "render_mode" in env_args:  # a window needs a display, and without one it may end the process
        raise UserError(f"{name_of(env)} takes no argument 'render_mode' here: rlkit render shows an env")
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
        make = partial(gymnasium.make, env, disable_env_checker=True, **arguments)
        if vectorization == "async":
            return Workers([make] * num_envs, name)
        return OneEnv(make) if num_envs == 1 else _in_turn(make, num_envs)
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"{name} cannot be made: {error}") from error
    except (TypeError, ValueError, AssertionError, LookupError) as error:
        raise UserError(f"{name} refuses its arguments {arguments}: {error!r}") from error
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{name} cannot be made: it raised {type(error).__name__}: {error}") from error


def _in_turn(make: EnvFactory, num_envs: int) -> SyncVectorEnv:
    """N envs that are stepped in turn; if one of them cannot be made, those before it are closed."""
    with ExitStack() as stack:

        def checked() -> Checked:
            env = Checked(make())
            stack.callback(env.close)
            return env

        made = SyncVectorEnv([checked] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
        stack.pop_all()
    return made


@contextmanager
def single(
    vector: VectorEnv, env: str | EnvSpec, env_args: Mapping[str, Argument]
) -> Iterator[gymnasium.Env[Any, Any]]:  # fmt: skip
    """One of a vector env's envs to look at; where they are out of reach, one that is made and closed again."""
    if isinstance(vector, OneEnv | SyncVectorEnv):
        yield cast("Checked", vector.envs[0]).env
        return
    with closing(make_vector(env, env_args, 1, "sync")) as made:
        yield cast("OneEnv", made).env.env


def stacks_frames(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether an env's observations are the last frames, as the outermost of its wrappers that changes them says."""
    layer: Any = env
    while isinstance(layer, Checked | TimeLimit | OrderEnforcing | PassiveEnvChecker):
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
        self.envs, self.seed = checked_vector(envs), seed
        self.num_envs = envs.num_envs
        self.mode = AutoresetMode(envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.observation_space = envs.single_observation_space
        self.action_space = envs.single_action_space
        self.episodes = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._all = np.ones(self.num_envs, np.bool_)
        self._log = np.zeros((256, self.num_envs), np.int32)
        self._paid = np.zeros((256, self.num_envs))
        self._logged = 0
        self._repeats: bool | None = None
        self.masks = False
        """Whether the env reports a mask of allowed actions."""
        self._begin = np.zeros(self.num_envs, np.int64)
        self.observation = self._reset_all()

    def _seeds(self, wanted: np.ndarray, later: int = 0) -> list[int | None]:
        """The seeds of the current episodes of the wanted envs, or of later ones, None for the others."""
        return [
            env_seed(self.seed, e, int(k) + later) if want else None
            for e, (k, want) in enumerate(zip(self.episodes, wanted, strict=True))
        ]

    def _reset(self, seeds: Any, mask: np.ndarray) -> np.ndarray:  # noqa: ANN401 - a list, which VectorEnv does not declare
        observation, _ = self.envs.reset(seed=seeds, options={"reset_mask": mask})
        return cast("np.ndarray", observation)

    def _reset_all(self) -> np.ndarray:
        alone = self.mode == AutoresetMode.DISABLED
        seed: Any = self._seeds(self._all) if alone else env_seed(self.seed, 0, 0)
        observation, info = self.envs.reset(seed=seed)
        self.masks = MASK in info
        return cast("np.ndarray", observation)

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
        """A step, and a reset where it ends an episode; where either raises, the state stays the one before."""
        if self._logged == len(self._log):
            self._compact_log()
        self._log[self._logged] = actions
        observation, reward, terminated, truncated, info = self.envs.step(actions)
        self._paid[self._logged] = reward
        ended, following = terminated | truncated, observation
        if ended.any():
            following = self._reset(self._seeds(ended, later=1), ended)
            self.episodes += ended
            self._begin[ended] = self._logged + 1
        self._logged += 1
        self.observation = following
        return Step(observation, reward, terminated, truncated, self._all, info.get("life_lost"))

    def _compact_log(self) -> None:
        first = int(self._begin.min())
        kept = slice(first, self._logged)
        self._logged -= first
        self._log, self._paid = (_grown(log[kept]) for log in (self._log, self._paid))
        self._begin -= first

    def state(self) -> Arrays:
        """What `restore` needs to continue exactly, as arrays."""
        common = {"episodes": self.episodes, "observation": self.observation}
        if self.mode != AutoresetMode.DISABLED:
            return {**common, "ended": self._ended, **attributes(self.envs.unwrapped)}
        first = int(self._begin.min())
        log, paid = (part[first : self._logged].copy() for part in (self._log, self._paid))
        return {**common, "log": log, "paid": paid, "begin": self._begin - first}

    def restore(self, state: Arrays) -> bool:
        """Continue from a `state`; False if the env did not come back to it and starts fresh episodes.

        Where episodes are played again, an env has come back if it repeats itself at all (see `saves_exactly`), and
        its observation and each reward are those of before.
        """
        self.episodes = state["episodes"].copy()
        if self.mode == AutoresetMode.DISABLED:
            exact = self.saves_exactly()
            self._begin, self._logged = state["begin"].copy(), len(state["log"])
            self._log = np.array(state["log"])
            self._paid = np.array(state.get("paid", np.zeros(self._log.shape)))
            exact &= self._replay("paid" in state)
            before = state["observation"].astype(self.observation.dtype)
            exact &= np.array_equal(self.observation, before, equal_nan=before.dtype.kind == "f")
        else:
            set_attributes(self.envs.unwrapped, state)
            self._ended = state["ended"].copy()
            self.observation = state["observation"].copy()
            exact = self.saves_exactly()
        if exact:
            return True
        self.episodes += 1
        self._logged, self._begin[:], self._ended[:] = 0, 0, False
        self.observation = self._reset_all()
        return False

    def _replay(self, paid: bool) -> bool:
        """Reset each env to its episode's seed in time for all logged actions to end together.

        Args:
            paid: whether the log holds rewards to compare with.

        Returns:
            Whether no episode ended before its time and each paid as before.
        """
        seeds, begin, steps, same = self._seeds(self._all), self._begin, self._logged, True
        observation = self._reset_all()
        ended = np.zeros(self.num_envs, np.bool_)
        idle = np.full(self.num_envs, self._first_action(), np.int32)
        for i in range(steps + 1):
            due = (begin == i) | ended
            if due.any():
                observation = self._reset(seeds, due)
            if i < steps:
                going = begin <= i
                observation, reward, terminated, truncated, _ = self.envs.step(np.where(going, self._log[i], idle))
                ended = terminated | truncated
                same &= not (going & (ended | (paid & (reward != self._paid[i])))).any()
        self.observation = observation
        return same

    def saves_exactly(self) -> bool:
        """Whether a state that is saved now can be restored exactly, as far as a trial of some steps shows.

        The first call starts the episodes anew, but not those of envs that reset themselves, if the trial succeeds.
        """
        if self.mode == AutoresetMode.DISABLED:
            if self._repeats is None:
                self._repeats = _same(*(self._rehearse(16) for _ in range(2)))
                self._begin[:], self._logged = 0, 0
                self.observation = self._reset_all()
            return self._repeats
        envs = self.envs.unwrapped
        saved = {k: np.copy(v) for k, v in attributes(envs).items()}
        try:
            first = self._rehearse(64)
            set_attributes(envs, saved)
            second = self._rehearse(64)
        finally:
            set_attributes(envs, saved)
        if _same(first, second):
            return True
        self._ended[:] = False  # the trial has moved what its attributes do not hold
        self.observation = self._reset_all()
        return False

    def _rehearse(self, steps: int) -> list[np.ndarray]:
        """Results of some steps, [N, ...] each; where episodes are reset from here, of the first steps of episodes."""
        alone = self.mode == AutoresetMode.DISABLED
        rows = [self._reset_all()] if alone else []
        for i in range(steps):
            actions = np.full(self.num_envs, self._first_action() + i % min(2, self._actions()))
            observation, reward, terminated, truncated, _ = self.envs.step(actions)
            rows += [np.copy(part) for part in (observation, reward, terminated, truncated)]
            if alone and (ended := terminated | truncated).any():
                rows.append(self._reset(self._seeds(ended), ended))
        return [*rows, generator_states(self.envs)] if alone else rows

    def _actions(self) -> int:
        return int(getattr(self.action_space, "n", 1))

    def _first_action(self) -> int:
        return int(getattr(self.action_space, "start", 0))

    def close(self) -> None:
        """Close the envs; those that were closed before are left alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.envs.close()


def _grown(log: np.ndarray) -> np.ndarray:
    """A log with room for as many steps again."""
    grown = np.zeros((max(256, 2 * len(log)), *log.shape[1:]), log.dtype)
    grown[: len(log)] = log
    return grown


def _same(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


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
