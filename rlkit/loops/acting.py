"""Policies as loops call them: compiled for N envs, with a memory, and in NumPy where that is faster.

A compiled program takes 50 microseconds or more to start; three dense layers take 8 in NumPy. So for one env
and a network of dense layers the behaviour policy is computed here, from the same weights, draws and schedule
as `exploration.epsilon_greedy`; its values differ from TensorFlow's by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium
import keras
import numpy as np
import tensorflow as tf

from rlkit.interaction.evaluation import Policy
from rlkit.learning.agent import Clock, Learner
from rlkit.learning.config import TrainConfig
from rlkit.networks.layers import Dueling, OneHot
from rlkit.random_bits import below, draws, fraction
from rlkit.seeding import Purpose
from rlkit.spaces import Arrays, observation_dtype, observed
from rlkit.traced import COUNTS, call_flat, counts

Weights = Sequence[np.ndarray]
Forward = Callable[[np.ndarray, Weights], np.ndarray]


class EpsilonGreedyAgent(Protocol):
    """An agent whose behaviour policy is epsilon-greedy in a Keras network's values."""

    q: keras.Model
    first_action: int
    config: Any

    def epsilon(self, clock: Clock) -> tf.Tensor:
        """Share of random actions; elementwise in the clock's counts."""
        ...


def numpy_forward(model: keras.Model) -> Forward | None:
    """The model as a NumPy function of observations and weights, in float32; None for a memory or unknown layers."""
    if len(model.inputs) > 1:
        return None
    steps: list[tuple[int, Callable[..., np.ndarray], list[int]]] = []
    place = {w.path: i for i, w in enumerate(model.trainable_weights)}
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            entry = id(layer.output)
            continue
        sources = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
        compute = _layer(layer, [place[w.path] for w in layer.weights])
        if compute is None:
            return None
        steps.append((id(layer.output), compute, [id(t) for t in sources]))

    def forward(observations: np.ndarray, weights: Weights) -> np.ndarray:
        values = {entry: observations}
        for output, compute, sources in steps:
            values[output] = compute(weights, *[values[s] for s in sources])
        return values[output]

    return forward


def _layer(layer: keras.Layer, at: list[int]) -> Callable[..., np.ndarray] | None:
    """One layer as a NumPy function of the model's weights, of which its own are at the given places."""
    if isinstance(layer, keras.layers.Dense):
        kernel, bias = at
        if layer.activation is keras.activations.relu:
            return lambda weights, x: np.maximum(x @ weights[kernel] + weights[bias], np.float32(0))
        if layer.activation is keras.activations.linear:
            return lambda weights, x: x @ weights[kernel] + weights[bias]
    if isinstance(layer, keras.layers.Reshape):
        return lambda _, x: x.reshape(len(x), -1)
    if isinstance(layer, keras.layers.Rescaling):
        scale = np.float32(layer.scale)
        return lambda _, x: x.astype(np.float32) * scale
    if isinstance(layer, OneHot):
        eye, start = np.eye(layer.depth, dtype=np.float32), layer.start
        return lambda _, x: eye[x - start]
    if isinstance(layer, Dueling):
        return lambda _, value, advantages: value + advantages - advantages.mean(-1, keepdims=True)
    return None


class HostActor:
    """The epsilon-greedy policy of one env, in NumPy.

    Args:
        agent: whose network and schedule.
        forward: its network, by `numpy_forward`.
    """

    BLOCK = 512
    """Steps whose draws and epsilons are made in one call."""

    def __init__(self, agent: EpsilonGreedyAgent, forward: Forward) -> None:
        self.first_action, self.actions = agent.first_action, agent.q.output_shape[-1]
        self.traces = 0
        self._forward = forward
        self._network = agent.q
        self._weights: Weights | None = None
        self._source: Sequence[tf.Tensor] | None = None

        @tf.function(input_signature=[COUNTS], jit_compile=True, autograph=False)
        def block(now: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1
            steps = now[0] + tf.range(self.BLOCK, dtype=tf.int64)
            bits = tf.map_fn(
                lambda step: draws(agent.config.seed, Purpose.EXPLORATION, step, [2, 1]),
                steps,
                fn_output_signature=tf.uint32,
            )  # [BLOCK, 2, 1]
            return fraction(bits[:, 0, 0]) < agent.epsilon(Clock(steps, now[1])), below(bits[:, 1, 0], self.actions)

        self._block = call_flat(block.get_concrete_function())
        self._by_episode = agent.config.epsilon_unit == "episode"
        self._episode, self._first = -1, -self.BLOCK
        self._explores: list[bool] = []
        self._uniform: list[int] = []

    def use(self, weights: Sequence[tf.Tensor] | None) -> None:
        """Act by these trainable weights of the network from now on; None reads them from the network."""
        self._weights = None
        self._source = weights

    def act(self, observations: np.ndarray, step: int, episode: int) -> np.ndarray:
        """The action for one observation, [1] int32."""
        i = step - self._first
        if (self._by_episode and episode != self._episode) or not 0 <= i < self.BLOCK:
            self._draw(step, episode)
            i = 0
        if self._explores[i]:
            action = self._uniform[i]
        else:
            if self._weights is None:
                source = self._network.trainable_weights if self._source is None else self._source
                self._weights = [np.asarray(weight) for weight in source]
            action = int(self._forward(observations, self._weights).argmax())
        return np.array([action + self.first_action], np.int32)

    def _draw(self, step: int, episode: int) -> None:
        explores, uniform = self._block(tf.constant(np.array([step, episode])))
        self._explores, self._uniform = explores.numpy().tolist(), uniform.numpy().tolist()
        self._first, self._episode = step, episode


BehaviourPolicy = Callable[[np.ndarray, int, int], np.ndarray]
"""From N observations, [N, ...], and a clock's counts, steps and episodes, to N actions, [N] int32."""


def compile_policy(agent: Learner, space: gymnasium.Space[Any], num_envs: int) -> Policy:
    """The greedy policy for N observations as NumPy arrays."""
    if isinstance(agent, RecurrentAgent):
        return RecurrentActor(agent, space, num_envs, explore=False)
    dtype = observation_dtype(space)
    zero = tf.constant(0, tf.int64)

    shape = (num_envs, *(space.shape or ()))
    signature = [tf.TensorSpec(shape, dtype)]

    @tf.function(input_signature=signature, jit_compile=agent.config.jit, autograph=False)
    def act(observations: tf.Tensor) -> tf.Tensor:
        return agent.act(observations, Clock(zero, zero), explore=False)

    call = call_flat(act.get_concrete_function())

    def policy(observations: np.ndarray) -> np.ndarray:
        actions: np.ndarray = call(tf.constant(observed(observations, shape, dtype, space), dtype)).numpy()
        return actions

    return policy


@runtime_checkable
class RecurrentAgent(Protocol):
    """An agent whose actions depend on the episode so far, as far as it remembers it."""

    @property
    def config(self) -> TrainConfig:
        """Its fields."""
        ...

    @property
    def memory_size(self) -> int:
        """Numbers that it remembers of an env, M."""
        ...

    def remember(
        self, observations: tf.Tensor, memory: tf.Tensor, clock: Clock, *, explore: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Actions, [N] int32, and the memory after the observations, [N, M].

        Args:
            observations: [N, ...].
            memory: before the observations, zeros where they begin an episode, [N, M] float32.
            clock: now.
            explore: by the behaviour policy, else greedily.
        """
        ...


class RecurrentActor:
    """A policy with the memory of N envs; greedy, it is what evaluations call.

    Args:
        agent: whose policy.
        space: of one env's observations.
        num_envs: N.
        explore: the behaviour policy, else the greedy one.
    """

    def __init__(self, agent: RecurrentAgent, space: gymnasium.Space[Any], num_envs: int, *, explore: bool) -> None:
        self.traces = 0
        self._dtype, self._space = observation_dtype(space), space
        self._shape = (num_envs, *(space.shape or ()))
        self._memory = tf.zeros([num_envs, agent.memory_size])
        self._fresh = np.ones(num_envs, np.bool_)
        self._before = self._memory, self._fresh
        signature = [
            tf.TensorSpec(self._shape, self._dtype),
            tf.TensorSpec([num_envs], tf.bool),
            tf.TensorSpec(self._memory.shape, tf.float32),
            COUNTS,
        ]

        @tf.function(input_signature=signature, jit_compile=agent.config.jit, autograph=False)
        def act(
            observations: tf.Tensor, fresh: tf.Tensor, memory: tf.Tensor, now: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1
            memory = tf.where(fresh[:, None], 0.0, memory)
            return agent.remember(observations, memory, Clock(now[0], now[1]), explore=explore)

        self._act = call_flat(act.get_concrete_function())

    def act(self, observations: np.ndarray, step: int, episode: int) -> np.ndarray:
        """Actions, [N] int32; what was observed is remembered."""
        self._before = self._memory, self._fresh.copy()
        seen = (tf.constant(observations, self._dtype), tf.constant(self._fresh))
        actions, self._memory = self._act(*seen, self._memory, counts(step, episode))
        self._fresh[:] = False
        chosen: np.ndarray = actions.numpy()
        return chosen

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        return self.act(observed(observations, self._shape, self._dtype, self._space), 0, 0)

    def take_back(self) -> None:
        """Forget the last observations, whose actions were not taken."""
        self._memory, self._fresh = self._before

    def reset(self, fresh: np.ndarray) -> None:
        """Forget where an episode begins with the next observation, [N] bool."""
        self._fresh |= fresh

    def state(self) -> Arrays:
        """The memory, [N, M], and where it is void, [N]."""
        return {"hidden": self._memory.numpy(), "fresh": self._fresh.copy()}

    def restore(self, state: Arrays) -> None:
        """Go on from a `state`."""
        self._memory, self._fresh = tf.constant(state["hidden"]), state["fresh"].copy()
