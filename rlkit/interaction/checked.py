"""The boundary to envs: each answer is checked where it enters and copied, so that nothing behind it has to."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper

from rlkit.errors import EnvError, UserError
from rlkit.interaction.generators import digest
from rlkit.spaces import action_bounds, bounds

MASK = "action_mask"
"""Name in an env's info of the actions that it allows; no agent reads it."""

SHOWN = 60
"""Longest value in a message, in characters."""

LARGEST = float(np.finfo(np.float32).max)
"""Largest reward: replays and networks keep float32."""

EXPECTED_REWARD = "expected a finite number that float32 can hold, at most 3.4e38"

FEW = 64
"""Numbers that are looked at one by one faster than as an array."""

EXPECTED_STEP = "expected the five values observation, reward, terminated, truncated, info"
EXPECTED_RESET = "expected the two values observation, info"


class Checked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One env whose answers are checked; observations are copies of the space's dtype.

    Args:
        env: any env.

    Raises:
        UserError: the env has no spaces.
        EnvError: from `reset`, `step` and `render`, where the env raises or breaks Gymnasium's interface.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.name = name_of(env)
        for field in ("observation_space", "action_space"):
            if not isinstance(getattr(env, field, None), gymnasium.Space):
                raise UserError(f"env {self.name!r} has no {field}; expected one of gymnasium.spaces")
        self._observations = Observations(env.observation_space)
        self._actions = action_bounds(env.action_space)
        self._seed: int | None = None
        self._steps = -1
        self._called = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if not self._called:
            self._check_signature()
            self._called = True
        self._seed, self._steps = seed, 0
        try:
            result: Any = self.env.reset(seed=seed, options=options)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            self._raised("reset", error)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.fault(f"reset() returns {_shown(result)}; {EXPECTED_RESET}")
        observation, info = result
        self._check_info(info)
        return self._observation(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ANN401 - any space's
        low, high = self._actions
        if high is not None and not low <= action < high:
            raise UserError(f"the action is {action}; expected one of {self.env.action_space}, of env {self.name!r}")
        self._steps += 1
        try:
            result: Any = self.env.step(action)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            self._raised("step", error, action)
        if not isinstance(result, tuple) or len(result) != 5:
            raise self.fault(f"step() returns {_shown(result)}; {EXPECTED_STEP}")
        observation, reward, terminated, truncated, info = result
        if type(reward) is not float:
            reward = self._number(reward)
        if not -LARGEST <= reward <= LARGEST:
            raise self.fault(f"its reward is {reward:g}; {EXPECTED_REWARD}")
        if type(terminated) is not bool:
            terminated = self._flag("terminated", terminated)
        if type(truncated) is not bool:
            truncated = self._flag("truncated", truncated)
        if type(info) is not dict:
            self._check_info(info)
        return self._observation(observation), reward, terminated, truncated, info

    def render(self) -> Any:  # noqa: ANN401 - whatever the render mode gives
        try:
            return self.env.render()
        except (UserError, gymnasium.error.Error):
            raise
        except (Exception, SystemExit) as error:
            self._raised("render", error)

    def generators(self) -> bytes:
        """A digest of the state of the generators that the env may draw from."""
        return digest(self.env)

    def fault(self, text: str) -> EnvError:
        """The error for something that the env did, with the place in its episode."""
        seed = "an episode without a seed" if self._seed is None else f"the episode of seed {self._seed}"
        place = {-1: "before any episode", 0: f"at the start of {seed}"}.get(self._steps)
        return EnvError(f"env {self.name!r}: {text}, {place or f'at step {self._steps} of {seed}'}")

    def _observation(self, value: Any) -> Any:  # noqa: ANN401 - whatever the env gives
        try:
            return self._observations.read(value)
        except ValueError as error:
            raise self.fault(f"its observation {error}") from None

    def _number(self, reward: Any) -> float:  # noqa: ANN401 - whatever the env gives
        if isinstance(reward, int | float):
            try:
                return float(reward)
            except OverflowError:
                return math.inf
        array = _array(reward)
        if array is None or array.size != 1 or array.dtype.kind not in "biuf":
            raise self.fault(f"its reward is {_shown(reward)}; expected a number")
        return float(array.item())

    def _flag(self, name: str, value: Any) -> bool:  # noqa: ANN401 - whatever the env gives
        if isinstance(value, np.bool_):
            return bool(value)
        array = _array(value)
        if array is None or array.size != 1 or array.dtype.kind not in "biuf" or array.item() not in (0, 1):
            raise self.fault(f"its {name} is {_shown(value)}; expected true or false")
        return bool(array.item())

    def _check_info(self, info: object) -> None:
        if not isinstance(info, dict):
            raise self.fault(f"its info is {_shown(info)}; expected a dictionary")

    def _check_signature(self) -> None:
        """Refuse a `reset` of before Gymnasium 0.26, which takes no seed."""
        try:
            parameters = inspect.signature(self.env.unwrapped.reset).parameters
        except (TypeError, ValueError):  # compiled code may have no signature
            return
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return
        missing = [name for name in ("seed", "options") if name not in parameters]
        if missing:
            raise EnvError(
                f"env {self.name!r}: its reset() takes no {' and no '.join(missing)}; expected "
                "reset(self, *, seed=None, options=None), as Gymnasium has it since 0.26"
            )

    def _raised(self, method: str, error: BaseException, *arguments: object) -> NoReturn:
        """The env's exception as one sentence; where a wrapper could not unpack an answer, what the answer was."""
        if isinstance(error, TypeError | ValueError) and "unpack" in str(error):
            wanted, text = (5, EXPECTED_STEP) if method == "step" else (2, EXPECTED_RESET)
            try:
                result = getattr(self.env.unwrapped, method)(*arguments)
            except (Exception, SystemExit):  # whatever it raises, the first error is the one to report
                result = None, *range(wanted - 1)
            if not isinstance(result, tuple) or len(result) != wanted:
                raise self.fault(f"{method}() returns {_shown(result)}; {text}") from error
        said = " ".join(str(error).split())
        raise self.fault(f"{method}() raised {type(error).__name__}{f': {said}' if said else ''}") from error


class Observations:
    """Check of observations against a space, and a copy of each.

    Args:
        space: of one env.
        lead: shape before that of one observation, (N,) for a batch of N.
    """

    def __init__(self, space: gymnasium.Space[Any], lead: tuple[int, ...] = ()) -> None:
        self.space = space
        self.known = isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
        self.shape = (*lead, *(space.shape or ()))
        self.dtype = np.dtype(space.dtype)
        self.low, self.high = bounds(space)
        self.scalar = isinstance(space, spaces.Discrete) and not lead
        self.floats = self.dtype.kind == "f"

    def read(self, value: Any) -> Any:  # noqa: ANN401 - whatever the env gives
        """A copy of one observation, or of a batch, in the space's dtype.

        Raises:
            ValueError: it is none of the space; the text continues "its observation".
        """
        if self.scalar and type(value) in (int, np.int64) and self.low <= value < self.high:
            return np.int64(value) if self.dtype == np.int64 else self.dtype.type(value)
        if not self.known:
            return copy.deepcopy(value)
        array = value.copy() if type(value) is np.ndarray and value.dtype == self.dtype else self._converted(value)
        if array.shape != self.shape:
            raise ValueError(f"has the shape {array.shape}; expected {self.shape}, that of {self.space}")
        if self.high is not None and not ((array >= self.low) & (array < self.high)).all():
            raise ValueError(f"is {_shown(value)}; expected one of {self.space}")
        if self.floats and not finite(array):
            bad = array[~np.isfinite(array)].flat[0]
            raise ValueError(f"holds {bad}; expected finite numbers")
        return array[()] if self.scalar else array

    def _converted(self, value: Any) -> np.ndarray:  # noqa: ANN401 - whatever the env gives
        """An array of the space's dtype, where that loses nothing but a float's last digits."""
        array = _array(value)
        if array is None or array.dtype.kind not in "biuf":
            raise ValueError(f"is {_shown(value)}; expected one of {self.space}")
        if self.dtype.kind != "f":
            if array.dtype.kind == "f":
                raise ValueError(f"has the dtype {array.dtype}; expected {self.dtype}, that of {self.space}")
            info = None if self.dtype.kind == "b" else np.iinfo(self.dtype)
            low, high = (info.min, info.max) if info else (0, 1)
            if array.size and not low <= int(array.min()) <= int(array.max()) <= high:
                raise ValueError(f"is {_shown(value)}, beyond {self.dtype}; expected one of {self.space}")
        with np.errstate(over="ignore"):  # too large a number becomes infinite, which is refused
            return array.astype(self.dtype)


class CheckedVector(VectorWrapper):
    """A vector env whose answers are checked and copied.

    Args:
        env: N envs that somebody else has made, such as an env's own vector version.

    Raises:
        EnvError: from `reset` and `step`, where it raises or breaks Gymnasium's interface.
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self.name = name_of(env)
        n = env.num_envs
        self._batch = Observations(env.single_observation_space, (n,))
        self._one = Observations(env.single_observation_space)
        self._actions = action_bounds(env.single_action_space)
        self._seeds: list[int | None] = [None] * n

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        given = seed if isinstance(seed, list) else [None if seed is None else seed + e for e in range(self.num_envs)]
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        self._seeds = [new if due else old for new, old, due in zip(given, self._seeds, mask, strict=True)]
        result = self._call("reset", EXPECTED_RESET, 2, seed=seed, options=options)
        observation, info = result
        return self._read(self._batch, observation), info

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:  # noqa: ANN401
        low, high = self._actions
        chosen = actions.tolist() if high is not None else []
        if chosen and not low <= min(chosen) <= max(chosen) < high:
            space = self.single_action_space
            raise UserError(f"the actions are {_shown(actions)}; expected some of {space}, of env {self.name!r}")
        observation, reward, terminated, truncated, info = self._call("step", EXPECTED_STEP, 5, actions)
        reward = self._numbers("reward", reward)
        if not (np.abs(reward) <= LARGEST).all():
            bad = int(np.flatnonzero(~(np.abs(reward) <= LARGEST))[0])
            raise self.fault(f"its reward is {reward[bad]:g}; {EXPECTED_REWARD}", bad)
        flags = [self._flags(name, value) for name, value in (("terminated", terminated), ("truncated", truncated))]
        if "final_obs" in info:
            finals = np.array(info["final_obs"], object)
            for e in np.flatnonzero(flags[0] | flags[1]):
                finals[e] = self._read(self._one, info["final_obs"][e])
            info = {**info, "final_obs": finals}
        return self._read(self._batch, observation), reward, flags[0], flags[1], info

    def fault(self, text: str, e: int | None = None) -> EnvError:
        """The error for something that the envs did, of copy e."""
        if e is None:
            return EnvError(f"env {self.name!r}: {text}")
        seed = "" if self._seeds[e] is None else f", last reset with the seed {self._seeds[e]}"
        return EnvError(f"env {self.name!r}: {text}, copy {e} of {self.num_envs}{seed}")

    def _call(self, method: str, expected: str, values: int, *arguments: Any, **options: Any) -> tuple[Any, ...]:  # noqa: ANN401
        try:
            result = getattr(self.env, method)(*arguments, **options)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            said = " ".join(str(error).split())
            raise self.fault(f"{method}() raised {type(error).__name__}{f': {said}' if said else ''}") from error
        if not isinstance(result, tuple) or len(result) != values:
            raise self.fault(f"{method}() returns {_shown(result)}; {expected}")
        if not isinstance(result[-1], Mapping):
            raise self.fault(f"its info is {_shown(result[-1])}; expected a dictionary")
        return result

    def _flags(self, name: str, values: Any) -> np.ndarray:  # noqa: ANN401 - whatever the env gives
        if type(values) is np.ndarray and values.dtype == np.bool_ and values.shape == (self.num_envs,):
            return values.copy()
        return self._numbers(name, values).astype(np.bool_)

    def _numbers(self, name: str, values: Any) -> np.ndarray:  # noqa: ANN401 - whatever the env gives
        array = _array(values)
        if array is None or array.shape != (self.num_envs,) or array.dtype.kind not in "biuf":
            raise self.fault(f"its {name} is {_shown(values)}; expected {self.num_envs} numbers")
        return array.astype(np.float64)

    def _read(self, observations: Observations, value: Any) -> np.ndarray:  # noqa: ANN401 - whatever the env gives
        try:
            array: np.ndarray = observations.read(value)
        except ValueError as error:
            raise self.fault(f"its observation {error}") from None
        return array


def name_of(env: gymnasium.Env[Any, Any] | VectorEnv) -> str:
    """The env's id, or its class where it has none."""
    spec = getattr(env, "spec", None)
    return str(spec.id) if spec else type(env.unwrapped).__name__


def checked_vector(envs: VectorEnv) -> VectorEnv:
    """The vector env itself if each of its envs is `Checked`, else checked as a whole."""
    if isinstance(envs, CheckedVector) or getattr(envs, "checked", False):
        return envs
    if isinstance(envs, SyncVectorEnv) and all(isinstance(env, Checked) for env in envs.envs):
        return envs
    return CheckedVector(envs)


def finite(array: np.ndarray) -> bool:
    """Whether all numbers of an array are; a few are looked at in Python, which takes a third of the time."""
    return all(map(math.isfinite, array.ravel().tolist())) if array.size <= FEW else bool(np.isfinite(array).all())


def _array(value: Any) -> np.ndarray | None:  # noqa: ANN401 - whatever the env gives
    """A value as an array, None where it is none."""
    if value is None:
        return None
    try:
        return np.asarray(value)
    except (TypeError, ValueError):  # rows of different lengths
        return None


def _shown(value: object) -> str:
    """A value in a message, shortened."""
    if isinstance(value, tuple):
        return f"{len(value)} values"
    if isinstance(value, np.ndarray) and value.size > 10:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
