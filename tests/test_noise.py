"""Noisy networks: the noise held to NumPy, where it is drawn and where not, and a lock that it opens."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces
from scipy import stats

import rlkit
from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN
from rlkit.agents.dqn.recurrent import make
from rlkit.api import training
from rlkit.envs.finite import FiniteEnv
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.learning.agent import Clock, Transition
from rlkit.learning.noise import FactorisedNoise
from rlkit.loops.off_policy import HostProgram
from rlkit.networks.q_networks import nature_cnn, q_network
from rlkit.random_bits import draws, normal
from rlkit.replay.uniform import Replay
from rlkit.seeding import Purpose

BOX = spaces.Box(-1, 1, (3,), np.float32)
HEADS = ("expected", "c51", "qr", "iqn")


def at(step: int) -> Clock:
    return Clock(tf.constant(step, tf.int64), tf.constant(0, tf.int64))


def agent_of(**fields: Any) -> DQN:
    config = DQNConfig(**{"env": "toy", "noisy": True, "hidden": (5,), "quantiles": 6, "atoms": 4, **fields})
    agent = make(config, BOX, spaces.Discrete(3))
    assert isinstance(agent, DQN)
    return agent


def bits_of(count: int) -> tf.Tensor:
    return draws(3, Purpose.NOISE, tf.constant(9, tf.int64), [count])


def transitions(size: int = 4) -> Transition:
    rng = np.random.default_rng(7)
    seen, later = tf.constant(rng.normal(size=(2, size, 3)), tf.float32)
    return Transition(
        seen, tf.constant(rng.integers(0, 3, size), tf.int32), tf.constant(rng.normal(size=size), tf.float32),
        tf.fill([size], 0.9), later,
    )  # fmt: skip


# ---- the draws


def test_bits_become_standard_normal_numbers() -> None:
    found = normal(bits_of(100_000)).numpy()
    assert found.dtype == np.float32
    assert stats.kstest(found, "norm").pvalue > 1e-6  # the probability of a false alarm


def test_the_numbers_are_the_quantiles_of_the_middles_of_2_to_the_23_parts() -> None:
    bits = np.array([0, 2**31 - 1, 2**31, 2**32 - 1, 2**30], np.uint32)
    expected = stats.norm.ppf((2 * (bits >> 9).astype(np.float64) + 1) / 2**24)
    for jit in (False, True):
        found = tf.function(normal, jit_compile=jit)(tf.constant(bits))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)
    assert np.isfinite(expected).all()


# ---- the noise of a network


@pytest.mark.parametrize("dueling", [False, True])
def test_the_dense_layers_have_noise_and_convolutions_have_none(dueling: bool) -> None:
    space = spaces.Box(0, 255, (2, 36, 36), np.uint8)
    model = nature_cnn(space, 3, hidden=(8,), dueling=dueling)
    noise = FactorisedNoise(model)
    names = [model.trainable_variables[place].path.split("/")[0] for place, _ in noise.places]
    assert names == (
        ["value_hidden", "advantage_hidden", "value", "advantages"] if dueling else ["hidden_0", "q_values"]
    )
    assert [model.trainable_variables[kernel].shape for kernel, _ in noise.places] == noise.shapes
    assert [model.trainable_variables[bias].shape for _, bias in noise.places] == [(q,) for _, q in noise.shapes]


def test_means_and_sizes_begin_as_in_the_paper() -> None:
    model = q_network(spaces.Box(-1, 1, (25,), np.float32), 40, hidden=(100,))
    noise = FactorisedNoise(model)
    sizes = noise.begin(model, 4)
    first = [w.numpy() for w in model.trainable_variables]
    for weights, scales, inputs in ((first[:2], sizes[:2], 25), (first[2:], sizes[2:], 100)):
        for mean, size in zip(weights, scales, strict=True):
            assert size.shape == mean.shape
            assert (size == np.float32(0.5 / math.sqrt(inputs))).all()
            bound = 1 / math.sqrt(inputs)
            # all of 40 numbers are below 0.8 of the bound with a probability of 0.8^40, 1.3e-4
            assert 0.8 * bound < np.abs(mean).max() <= bound
            assert abs(mean.mean()) < 5 * bound / math.sqrt(3 * mean.size)
    noise.begin(model, 4)
    assert all((a == b.numpy()).all() for a, b in zip(first, model.trainable_variables, strict=True))
    noise.begin(model, 5)
    assert all((a != b.numpy()).any() for a, b in zip(first, model.trainable_variables, strict=True))


def test_perturbed_weights_are_those_of_numpy() -> None:
    agent = agent_of(hidden=(5, 4), dueling=True)
    noise, rng = agent.noise, np.random.default_rng(0)
    assert noise is not None
    weights = [tf.constant(rng.normal(size=w.shape), tf.float32) for w in agent.state().weights]
    bits = bits_of(noise.draws)[None]
    factors = noise.factors(tf.constant(3, tf.int64), tf.constant(9, tf.int64), 1)
    found = noise.perturbed(weights, factors[0])
    assert len(found) == noise.weights == len(agent.q.trainable_variables)
    e = np.asarray(normal(bits), np.float64)[0]
    f, sizes = np.sign(e) * np.sqrt(np.abs(e)), [w.numpy() for w in weights[noise.weights :]]
    expected, position = [w.numpy().astype(np.float64) for w in weights[: noise.weights]], 0
    for layer, ((kernel, bias), (p, q)) in enumerate(zip(noise.places, noise.shapes, strict=True)):
        ins, outs = f[position : position + p], f[position + p : position + p + q]
        position += p + q
        for i, j in np.ndindex(p, q):  # Fortunato et al. 2018, equation 10
            expected[kernel][i, j] += sizes[2 * layer][i, j] * ins[i] * outs[j]
        expected[bias] += sizes[2 * layer + 1] * outs  # equation 11
    assert position == noise.draws
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


# ---- where it is drawn


def test_each_network_of_each_update_has_noise_of_its_own() -> None:
    agent = agent_of()
    state = agent.state()
    seen = []
    for update in range(3):
        optimizer = state.optimizer._replace(iterations=tf.constant(update, tf.int64))
        seen += [weights[0].numpy() for weights in agent.networks(state._replace(optimizer=optimizer))]
    for a, b in itertools.combinations(seen, 2):
        assert (a != b).all()
    again = agent_of().networks(state)
    np.testing.assert_array_equal(again[0][0], seen[0])
    other = agent_of(seed=1)
    shift = other.networks(other.state())[0][0] - other.state().weights[0]
    assert (np.abs(shift - (seen[0] - state.weights[0])) > 0).all()


@pytest.mark.parametrize("head", HEADS)
def test_a_gradient_of_a_size_is_that_of_its_mean_times_the_noise(head: str) -> None:
    agent = agent_of(head=head)
    state, noise = agent.state(), agent.noise
    assert noise is not None
    with tf.GradientTape() as tape:
        tape.watch(state.weights)
        loss = tf.reduce_mean(agent.judge(state, transitions()).losses)
    gradients = [g.numpy() for g in tape.gradient(loss, state.weights)]
    online = [w.numpy() for w in agent.networks(state)[0]]
    for layer, places in enumerate(noise.places):
        for part, place in enumerate(places):
            size = noise.weights + 2 * layer + part
            drawn = (online[place] - state.weights[place].numpy()) / state.weights[size].numpy()
            np.testing.assert_allclose(gradients[size], gradients[place] * drawn, rtol=1e-3, atol=1e-5)
            assert np.abs(gradients[size]).max() > 0


@pytest.mark.parametrize("double", [False, True])
def test_an_update_is_that_of_plain_networks_with_the_drawn_weights(double: bool) -> None:
    agent = agent_of(double=double, loss="squared")
    state, batch = agent.state(), transitions()
    online, target, selecting = agent.networks(state)
    q_tm1, q_t, chooser = (
        agent.q_values(weights, seen).numpy()
        for weights, seen in ((online, batch.observation), (target, batch.next_observation),
                              (selecting if double else target, batch.next_observation))
    )  # fmt: skip
    rows = np.arange(4)
    error = batch.reward + 0.9 * q_t[rows, chooser.argmax(axis=1)] - q_tm1[rows, batch.action]
    _, metrics, priorities = agent.update(state, batch, at(0))
    np.testing.assert_allclose(priorities, np.abs(error), rtol=1e-4)
    np.testing.assert_allclose(metrics[0], (0.5 * error**2).numpy().mean(), rtol=1e-4)


def test_the_greedy_policy_is_by_the_means_and_the_behaviour_policy_is_not() -> None:
    agent = agent_of(epsilon_start=0.0, epsilon_end=0.0)
    seen = tf.constant(np.random.default_rng(0).normal(size=(64, 3)), tf.float32)
    values = agent.q(seen).numpy()
    np.testing.assert_array_equal(agent.q_values(agent.state().weights, seen), values)
    np.testing.assert_array_equal(agent.act(seen, at(5), explore=False), values.argmax(axis=1))
    by_step = [agent.act(seen, at(step), explore=True).numpy() for step in range(20)]
    assert len({tuple(actions) for actions in by_step}) > 10
    np.testing.assert_array_equal(by_step[3], agent.act(seen, at(3), explore=True))
    uniform = agent_of(epsilon_start=1.0, epsilon_end=1.0).act(seen, at(3), explore=True).numpy()
    assert (np.bincount(uniform, minlength=3) > 8).all(), "epsilon is still there"


@pytest.mark.parametrize("target", ["hard", "polyak"])
def test_sizes_are_learned_and_copied_to_the_target(target: str) -> None:
    agent = agent_of(target=target, target_interval=1, polyak=0.25, learning_rate=0.1)
    before = agent.state()
    batch = tf.nest.map_structure(lambda part: part[None], transitions())
    agent.learn(batch, at(5))
    after, sizes = agent.state(), len(agent.q.trainable_variables)
    assert all(
        (a.numpy() != b.numpy()).any() for a, b in zip(after.weights[sizes:], before.weights[sizes:], strict=True)
    )
    share = 1.0 if target == "hard" else 0.25
    for new, old, online in zip(after.target, before.target, after.weights, strict=True):
        np.testing.assert_allclose(new, share * online + (1 - share) * old, rtol=1e-5, atol=1e-6)


def test_a_noisy_policy_is_not_computed_in_numpy() -> None:
    for noisy in (False, True):
        agent = agent_of(noisy=noisy, batch_size=4, buffer_size=10)
        assert agent.noisy is noisy
        program = HostProgram(agent, BOX, Replay(10, 1, BOX, 1, 0.99))
        assert (program._actor is None) is noisy


def test_noise_and_a_memory_are_refused() -> None:
    with pytest.raises(UserError, match=r"^noisy is true, expected false where network is lstm$"):
        DQNConfig(env="toy", noisy=True, network="lstm")


# ---- whole runs

SMALL: dict[str, Any] = {
    "preset": "none", "noisy": True, "hidden": (8,), "num_envs": 2, "learning_starts": 20, "batch_size": 8,
    "train_interval": 4, "gradient_steps": 2, "buffer_size": 300, "quantiles": 4, "eval_interval": 0,
    "log_interval": 100, "checkpoint_interval": 200, "epsilon_duration": 100,
}  # fmt: skip


def weights_of(run: Any) -> list[np.ndarray]:
    return [part.numpy() for part in tf.nest.flatten(run.agent("last")[0].state())]


def test_seeds_that_share_a_program_have_draws_of_their_own(tmp_path: Path) -> None:
    fields: dict[str, Any] = {**SMALL, "head": "iqn", "loop": "compiled", "steps": 400}
    shared = rlkit.train_seeds("dqn", "CartPole-v1", [0, 1], run_dir=tmp_path / "shared", **fields)
    alone = rlkit.train("dqn", "CartPole-v1", seed=1, run_dir=tmp_path / "alone", **fields)
    for a, b in zip(weights_of(shared[1]), weights_of(alone), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    fields: dict[str, Any] = {**SMALL, "head": "iqn", "loop": "host", "jit": False}
    whole = rlkit.train("dqn", "CartPole-v1", run_dir=tmp_path / "whole", steps=600, **fields)
    parts = rlkit.train("dqn", "CartPole-v1", run_dir=tmp_path / "parts", steps=250, **fields)
    parts = training.resume(parts.path, steps=600)
    for a, b in zip(weights_of(whole), weights_of(parts), strict=True):
        np.testing.assert_array_equal(a, b)


def lock(length: int = 6, render_mode: str | None = None) -> FiniteEnv:
    """A row of states, each with an action that leads on and one that ends the episode; the last one pays 1.

    Giving up at once pays 0.05, and that is what an agent finds first.
    """
    moves, rewards = np.zeros((length + 1, 2, length + 1)), np.zeros((length + 1, 2))
    for state in range(length):
        right = state * state // 2 % 2
        moves[state, right, state + 1] = moves[state, 1 - right, length] = 1
        rewards[state, right] = float(state == length - 1)
    rewards[0, 1] = 0.05
    ends = np.arange(length + 1) == length
    return FiniteEnv(FiniteMDP.from_dense(moves, rewards, gamma=0.99, terminal=ends), render_mode)


@pytest.fixture
def locked() -> Iterator[str]:
    gymnasium.register("test/Lock-v0", entry_point=lock)  # type: ignore[arg-type] # it takes no vector arguments
    yield "test/Lock-v0"
    del gymnasium.registry["test/Lock-v0"]


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_opens_a_lock_that_a_small_epsilon_does_not(seed: int, locked: str, tmp_path: Path) -> None:
    def value(noisy: bool, epsilon: float) -> float:
        run = rlkit.train(
            "dqn", locked, run_dir=tmp_path / str(noisy), preset="none", seed=seed, noisy=noisy, steps=4_000,
            epsilon_start=epsilon, epsilon_end=epsilon, hidden=(32,), learning_rate=3e-3, train_interval=4,
            batch_size=32, buffer_size=4_000, learning_starts=100, target="polyak", polyak=0.05, eval_interval=0,
            jit=False, loop="host",
        )  # fmt: skip
        return float(run.evaluate(episodes=1, checkpoint="last").mean)

    assert value(noisy=True, epsilon=0.0) == 1.0
    assert value(noisy=False, epsilon=0.01) == pytest.approx(0.05)
