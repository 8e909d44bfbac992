"""Environments as pure functions of tensors, N at once: what a compiled program can step.

The functions have the names of Gymnasium's own functional API (`gymnasium.experimental.functional.FuncEnv`), but take
whole batches, and random bits instead of a generator: so the same bits give the same episode, in a program or outside.

Letters: N parallel envs, I and J random numbers that an env takes for a beginning and for a step.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlkit.random_bits import draws
from rlkit.seeding import Purpose
from rlkit.traced import call_flat

State = Any
"""A tensor [N, ...], or a tuple of such tensors."""


class FunctionalEnv(Protocol):
    """N copies of an env as pure functions. Nothing here keeps state, so all of it can be traced."""

    initial_draws: int
    """Random numbers that the first state takes, I."""
    transition_draws: int
    """Random numbers that a step takes, J."""

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Of one env."""
        ...

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """Of one env."""
        ...

    def initial(self, bits: tf.Tensor) -> State:
        """First states from random bits, [N, I] uint32, each uniform over all of uint32."""
        ...

    def transition(self, state: State, action: tf.Tensor, bits: tf.Tensor) -> State:
        """The states after the actions, [N] or [N, ...], from random bits, [N, J] uint32."""
        ...

    def observation(self, state: State) -> tf.Tensor:
        """What is seen of the states, [N, ...]."""
        ...

    def reward(self, state: State, action: tf.Tensor, next_state: State) -> tf.Tensor:
        """Of a step, [N] float32."""
        ...

    def terminal(self, state: State) -> tf.Tensor:
        """Whether the episode has terminated, [N] bool."""
        ...


class Running(NamedTuple):
    """N envs in the middle of their episodes."""

    state: State
    time: tf.Tensor
    """Steps since each episode began, [N] int32."""
    observation: tf.Tensor
    """What to act on next, [N, ...]."""


class Outcome(NamedTuple):
    """What a step of N envs returned; the next observation is the real one, also where the episode ended."""

    next_observation: tf.Tensor
    reward: tf.Tensor
    """[N] float32."""
    terminated: tf.Tensor
    """[N] bool."""
    truncated: tf.Tensor
    """[N] bool."""


def env_draws(env: FunctionalEnv, seed: int | tf.Tensor, count: tf.Tensor, num_envs: int) -> tf.Tensor:
    """The bits of N envs at an absolute count of steps, 0 for the first reset: [N, I + J]."""
    return draws(seed, Purpose.TRAINING_ENV, count, [num_envs, env.initial_draws + env.transition_draws])


def begin(env: FunctionalEnv, bits: tf.Tensor) -> Running:
    """Fresh episodes, from bits [N, I + J]."""
    state = env.initial(bits[:, : env.initial_draws])
    return Running(state, tf.zeros(bits.shape[:1], tf.int32), env.observation(state))


def step(
    env: FunctionalEnv, limit: int | None, running: Running, action: tf.Tensor, bits: tf.Tensor
) -> tuple[Running, Outcome]:
    """Act in N envs; those whose episode ended begin another one in the same step.

    Args:
        env: the functions.
        limit: steps after which an episode is truncated; none if None.
        running: as the envs are.
        action: [N] or [N, ...].
        bits: random, [N, I + J] uint32.
    """
    state = env.transition(running.state, action, bits[:, env.initial_draws :])
    time = running.time + 1
    observation = env.observation(state)
    terminated = env.terminal(state)
    truncated = time >= limit if limit else tf.zeros_like(terminated)
    outcome = Outcome(observation, env.reward(running.state, action, state), terminated, truncated)
    ended = terminated | truncated
    fresh = begin(env, bits)
    return tf.nest.map_structure(lambda a, b: choose(ended, a, b), fresh, Running(state, time, observation)), outcome


def choose(mask: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Rows of a where the mask [N] is true, else of b; both [N, ...]."""
    return tf.where(tf.reshape(mask, [*mask.shape, *[1] * (a.shape.rank - 1)]), a, b)


class FunctionalVectorEnv(VectorEnv):
    """A functional env as an ordinary Gymnasium vector env, with autoreset in the same step.

    ``info["final_obs"]`` holds the real next observations of all envs, [N, ...], and ``info["_final_obs"]`` the mask of
    those whose episode ended. Draws are a function of (seed, steps since the reset).

    Args:
        env: the functions.
        num_envs: N.
        max_episode_steps: time limit; none if None.
        jit: compile with XLA, as the compiled loop does, to the same bits. A step takes a quarter to a half less time
            for any N, and making the env a second more, which pays from some 15,000 steps on.
    """

    def __init__(
        self, env: FunctionalEnv, num_envs: int = 1, max_episode_steps: int | None = None, *, jit: bool = False
    ) -> None:
        self.env, self.num_envs, self.limit, self.jit = env, num_envs, max_episode_steps, jit
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = batch_space(env.observation_space, num_envs)
        self.action_space = batch_space(env.action_space, num_envs)
        self._seed = np.array(0, np.int64)
        self._count = np.array(0, np.int64)
        self._compile()
        self._keep(self._reset(self._tensor("_seed"), self._tensor("_count")))

    def _compile(self) -> None:
        """Make the two programs; what they take and return of the state are the attributes named in `_leaves`."""
        env, num_envs, limit = self.env, self.num_envs, self.limit
        number = tf.TensorSpec([], tf.int64)

        @tf.function(input_signature=[number, number], jit_compile=self.jit, autograph=False)
        def reset(seed: tf.Tensor, count: tf.Tensor) -> Running:
            return begin(env, env_draws(env, seed, count, num_envs))

        concrete = reset.get_concrete_function()
        specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), concrete.structured_outputs)
        action = tf.TensorSpec(self.action_space.shape, self.action_space.dtype)

        @tf.function(input_signature=[number, number, specs, action], jit_compile=self.jit, autograph=False)
        def advance(seed: tf.Tensor, count: tf.Tensor, running: Running, action: tf.Tensor) -> tuple[Running, Outcome]:
            if action.dtype.is_integer:
                action = tf.cast(action, tf.int32)
            return step(env, limit, running, action, env_draws(env, seed, count, num_envs))

        self._leaves = [f"_leaf_{i}" for i in range(len(tf.nest.flatten(specs)))]
        self._tensors: dict[str, tuple[np.ndarray, tf.Tensor]] = {}
        self._reset, self._advance = (call_flat(f) for f in (concrete, advance.get_concrete_function()))

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_reset", "_advance", "_tensors")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()

    def _tensor(self, name: str) -> tf.Tensor:
        """An attribute as a tensor: the one it was made of, unless it was set since, as a restored state is."""
        value = getattr(self, name)
        if name not in self._tensors or self._tensors[name][0] is not value:
            self._tensors[name] = value, tf.constant(value)
        return self._tensors[name][1]

    def _keep(self, running: Running) -> np.ndarray:
        """Keep the state as attributes, which can be replaced but not written into; what to act on."""
        for name, leaf in zip(self._leaves, tf.nest.flatten(running), strict=True):
            value = leaf.numpy()
            value.setflags(write=False)
            setattr(self, name, value)
            self._tensors[name] = value, leaf
        return np.array(running.observation)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Fresh episodes in all envs, by one seed or a list; without, those that follow from the last one.

        A list counts as a whole: another seed anywhere in it gives other episodes in all envs.
        """
        del options
        if isinstance(seed, list):
            seed = None if set(seed) == {None} else _one_seed(seed)
        if seed is None:
            self._count = np.array(self._count + 1)
        else:
            self._seed, self._count = np.array(seed, np.int64), np.array(0, np.int64)
        return self._keep(self._reset(self._tensor("_seed"), self._tensor("_count"))), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Act in all envs; an episode that ends is followed by the first observation of another one."""
        self._count = np.array(self._count + 1)
        given = tf.constant(np.asarray(actions, self.action_space.dtype))
        running, outcome = self._advance(*map(self._tensor, ("_seed", "_count", *self._leaves)), given)
        final, reward, terminated, truncated = (part.numpy() for part in outcome)
        info = {"final_obs": final, "_final_obs": terminated | truncated}
        return self._keep(running), reward, terminated, truncated, info


def _one_seed(seeds: list[int | None]) -> int:
    """A number in [0, 2**31) for a list of seeds."""
    mixed = np.random.SeedSequence([0 if seed is None else seed + 1 for seed in seeds])
    return int(mixed.generate_state(1)[0]) >> 1


class SingleEnv(gymnasium.Env[Any, Any]):
    """A functional env as an ordinary Gymnasium env; a time limit is the wrapper's.

    Args:
        env: the functions.
        render_mode: None: there is nothing to draw.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as gymnasium.Env declares it

    def __init__(self, env: FunctionalEnv, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._one = FunctionalVectorEnv(env)
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def _seen(self, observation: np.ndarray) -> Any:  # noqa: ANN401 - of the space
        return int(observation[0]) if isinstance(self.observation_space, spaces.Discrete) else observation[0]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(self._one.reset(seed=seed, options=options)[0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ANN401 - of the space
        _, reward, terminated, _, info = self._one.step(np.asarray(action)[None])
        return self._seen(info["final_obs"]), float(reward[0]), bool(terminated[0]), False, {}
