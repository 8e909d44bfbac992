"""A DQN on gymnax's CartPole-v1 in one JAX program, and gymnax's envs alone: the peers of the compiled loop.

The configuration and structure are those that PureJaxRL describes (Lu et al. 2022, "Discovered policy optimisation"):
a scan over steps of 10 envs, a flashbax buffer, one update in each. Written for this comparison.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flashbax
import gymnax
import jax
import jax.numpy as jnp
import optax
from gymnax.wrappers.purerl import FlattenObservationWrapper, LogWrapper

ENVS, BATCH, CAPACITY, STARTS, GAMMA, RATE = 10, 128, 10_000, 10_000, 0.99, 2.5e-4
COPY, ANNEAL, LAST = 500, 250_000, 0.05
SIZES = (4, 120, 84, 2)


class Parameters(NamedTuple):
    """Kernels and biases, layer by layer."""

    kernels: tuple[jax.Array, ...]
    biases: tuple[jax.Array, ...]


class Item(NamedTuple):
    """What the buffer keeps."""

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    ended: jax.Array


def initial(key: jax.Array) -> Parameters:
    """LeCun-normal kernels as Flax's default, and zero biases."""
    keys = jax.random.split(key, len(SIZES) - 1)
    shapes = list(itertools.pairwise(SIZES))
    init = jax.nn.initializers.lecun_normal()
    return Parameters(
        tuple(init(k, shape) for k, shape in zip(keys, shapes, strict=True)),
        tuple(jnp.zeros(n) for _, n in shapes),
    )


def values(parameters: Parameters, x: jax.Array) -> jax.Array:
    """Action values, [B, 2]."""
    for i, (kernel, bias) in enumerate(zip(*parameters, strict=True)):
        x = x @ kernel + bias
        if i < len(SIZES) - 2:
            x = jax.nn.relu(x)
    return x


def train(key: jax.Array, steps: int) -> jax.Array:
    """A whole training; the mean return of the last episodes of the last 100 steps."""
    plain, settings = gymnax.make("CartPole-v1")
    env = LogWrapper(FlattenObservationWrapper(plain))
    reset, step = jax.vmap(env.reset, (0, None)), jax.vmap(env.step, (0, 0, 0, None))
    buffer = flashbax.make_flat_buffer(
        max_length=CAPACITY, min_length=BATCH, sample_batch_size=BATCH, add_sequences=False, add_batch_size=ENVS
    )
    key, of_reset, of_weights = jax.random.split(key, 3)
    observation, state = reset(jax.random.split(of_reset, ENVS), settings)
    parameters = initial(of_weights)
    optimizer = optax.adam(RATE)
    item = Item(observation[0], jnp.int32(0), jnp.float32(0), jnp.float32(0))

    def loss(parameters: Parameters, target: Parameters, pair: Any) -> jax.Array:  # noqa: ANN401 - flashbax's
        following = values(target, pair.second.observation).max(-1)
        goal = pair.first.reward + GAMMA * (1 - pair.first.ended) * following
        chosen = jnp.take_along_axis(values(parameters, pair.first.observation), pair.first.action[:, None], 1)[:, 0]
        return jnp.mean((chosen - goal) ** 2)

    def cycle(carry: Any, i: jax.Array) -> tuple[Any, jax.Array]:  # noqa: ANN401 - a tuple of trees
        key, parameters, target, moments, memory, state, observation = carry
        key, of_explore, of_action, of_step, of_batch = jax.random.split(key, 5)
        count = (i + 1) * ENVS
        epsilon = jnp.clip(1 - (1 - LAST) * i * ENVS / ANNEAL, LAST)
        greedy = values(parameters, observation).argmax(-1)
        uniform = jax.random.randint(of_action, (ENVS,), 0, 2)
        action = jnp.where(jax.random.uniform(of_explore, (ENVS,)) < epsilon, uniform, greedy)
        seen, state, reward, ended, info = step(jax.random.split(of_step, ENVS), state, action, settings)
        memory = buffer.add(memory, Item(observation, action, reward, ended.astype(jnp.float32)))

        def learn(parameters: Parameters, moments: Any) -> Any:  # noqa: ANN401 - optax's state
            pair = buffer.sample(memory, of_batch).experience
            gradients = jax.grad(loss)(parameters, target, pair)
            updates, moments = optimizer.update(gradients, moments)
            return optax.apply_updates(parameters, updates), moments

        parameters, moments = jax.lax.cond(count > STARTS, learn, lambda *same: same, parameters, moments)
        target = jax.lax.cond(count % COPY == 0, lambda: parameters, lambda: target)
        return (key, parameters, target, moments, memory, state, seen), info["returned_episode_returns"].mean()

    carry = (key, parameters, parameters, optimizer.init(parameters), buffer.init(item), state, observation)
    _, returns = jax.lax.scan(cycle, carry, jnp.arange(steps // ENVS))
    return returns[-100:].mean()


def compile(steps: int, seeds: int = 1) -> tuple[Callable[[int], tuple[float, float]], float]:
    """The program as a function of a seed, which returns seconds and mean return; and the seconds this took.

    With several `seeds` it trains as many agents at once, of the seeds from the given one on, each with weights,
    envs and draws of its own, and the return is the mean over them.
    """

    def whole(first: jax.Array) -> jax.Array:
        if seeds == 1:
            return train(jax.random.key(first), steps)
        return jax.vmap(lambda seed: train(jax.random.key(seed), steps))(first + jnp.arange(seeds)).mean()

    begun = time.perf_counter()
    program = jax.jit(whole).lower(jnp.int32(0)).compile()
    seconds = time.perf_counter() - begun

    def run(seed: int) -> tuple[float, float]:
        first = jnp.int32(seed)
        begun = time.perf_counter()
        mean = float(program(first).block_until_ready())
        return time.perf_counter() - begun, mean

    return run, seconds


def env_steps(num_envs: int, steps: int) -> float:
    """Env steps a second of CartPole alone, with random actions and resets."""
    env, settings = gymnax.make("CartPole-v1")
    reset, step = jax.vmap(env.reset, (0, None)), jax.vmap(env.step, (0, 0, 0, None))

    def cycle(carry: Any, _: None) -> tuple[Any, jax.Array]:  # noqa: ANN401 - a tuple of trees
        key, state = carry
        key, of_action, of_step = jax.random.split(key, 3)
        action = jax.random.randint(of_action, (num_envs,), 0, 2)
        _, state, _, ended, _ = step(jax.random.split(of_step, num_envs), state, action, settings)
        return (key, state), ended.sum()

    @jax.jit
    def run(key: jax.Array, state: Any) -> jax.Array:  # noqa: ANN401 - gymnax's state
        _, ended = jax.lax.scan(cycle, (key, state), None, steps // num_envs)
        return ended.sum()

    key = jax.random.key(0)
    _, state = reset(jax.random.split(key, num_envs), settings)
    run(key, state).block_until_ready()
    begun = time.perf_counter()
    run(jax.random.key(1), state).block_until_ready()
    return steps / (time.perf_counter() - begun)
