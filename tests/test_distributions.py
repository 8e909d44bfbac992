"""Distributions of returns: networks, losses and updates held to NumPy, and toys whose distributions are known."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces

from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.distributional import AGENTS, DistributionalDQN
from rlkit.agents.dqn.recurrent import make
from rlkit.api.training import train
from rlkit.errors import UserError
from rlkit.learning.agent import Clock, Transition
from rlkit.loops.acting import numpy_forward
from rlkit.networks.layers import COSINES, MIDPOINTS, midpoints
from rlkit.networks.q_networks import Head, distribution, minatar_cnn, nature_cnn, q_network
from rlkit.spaces import observation_dtype

BOX = spaces.Box(-1, 1, (3,), np.float32)
ZERO = Clock(tf.constant(0, tf.int64), tf.constant(0, tf.int64))
KINDS = ("c51", "qr", "iqn")
NETWORKS: dict[str, tuple[Callable[..., keras.Model], gymnasium.Space[Any]]] = {
    "mlp": (q_network, BOX),
    "discrete": (q_network, spaces.Discrete(5, start=2)),
    "nature-cnn": (nature_cnn, spaces.Box(0, 255, (2, 36, 36), np.uint8)),
    "minatar-cnn": (minatar_cnn, spaces.Box(0, 1, (10, 10, 4), np.bool_)),
}


def batch(space: gymnasium.Space[Any], size: int = 6) -> np.ndarray:
    space.seed(0)
    return np.stack([space.sample() for _ in range(size)]).astype(observation_dtype(space))


def head(kind: str) -> Head:
    return {"c51": Head("c51", 5, -2.0, 4.0), "qr": Head("qr", 7), "iqn": Head("iqn")}[kind]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


# ---- networks


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)], ids=str)
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_values_are_the_means_of_the_returns(name: str, kind: str, dueling: bool, hidden: tuple[int, ...]) -> None:
    build, space = NETWORKS[name]
    model = build(space, 3, hidden=hidden, dueling=dueling, head=head(kind), seed=1)
    returns = distribution(model)
    assert [w.path for w in returns.trainable_variables] == [w.path for w in model.trainable_variables]
    assert all(a is b for a, b in zip(returns.trainable_variables, model.trainable_variables, strict=True))
    assert numpy_forward(model) is None
    seen = batch(space)
    values = np.asarray(model(seen))
    assert values.shape == (6, 3)
    assert values.dtype == np.float32
    assert np.unique(values, axis=0).shape[0] > 1, "the values depend on the observation"
    if kind == "iqn":
        assert MIDPOINTS == 32
        found = np.asarray(returns([seen, np.tile(midpoints(32), (6, 1))]))
        assert found.shape == (6 * 32, 3)
        np.testing.assert_allclose(values, found.reshape(6, 32, 3).mean(axis=1), atol=1e-5)
        assert np.abs(found.reshape(6, 32, 3).std(axis=1)).min() > 1e-3, "and the returns on the fraction"
        return
    found = np.asarray(returns(seen))
    if kind == "qr":
        assert found.shape == (6, 3, 7)
        np.testing.assert_allclose(values, found.mean(axis=-1), atol=1e-5)
    else:
        assert found.shape == (6, 3, 5)
        expected = softmax(found.astype(np.float64)) @ [-2.0, -0.5, 1.0, 2.5, 4.0]
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["c51", "qr"])
def test_dueling_is_within_each_atom(kind: str) -> None:
    model = q_network(BOX, 3, hidden=(8,), dueling=True, head=head(kind), seed=2)
    seen = batch(BOX)
    streams = keras.Model(
        model.input, [model.get_layer(f"{name}_of_actions").output for name in ("value", "advantages")]
    )
    value, advantages = (np.asarray(x, np.float64) for x in streams(seen))
    size = head(kind).size
    assert (value.shape, advantages.shape) == ((6, 1, size), (6, 3, size))
    found = np.asarray(distribution(model)(seen))
    for b, a, k in np.ndindex(found.shape):  # Wang et al. 2016, equation 9, for each atom as in Hessel et al. 2018
        expected = value[b, 0, k] + advantages[b, a, k] - advantages[b, :, k].sum() / 3
        assert found[b, a, k] == pytest.approx(expected, abs=1e-5)


def quantiles_by_hand(weights: list[np.ndarray], x: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """[N, A] of one observation, by a network with hidden layers of 8 and 6, number by number."""
    w0, b0, embedding, b1, w2, b2, w3, b3 = weights
    features = np.maximum(x @ w0 + b0, 0)
    found = []
    for tau in fractions:
        phi = [
            max(0.0, sum(np.cos(np.pi * i * tau) * embedding[i, j] for i in range(COSINES)) + b1[j])
            for j in range(len(features))
        ]
        found.append(np.maximum((features * phi) @ w2 + b2, 0) @ w3 + b3)
    return np.array(found)


def test_implicit_quantiles_are_those_worked_out_number_by_number() -> None:
    model = q_network(BOX, 3, hidden=(8, 6), head=head("iqn"), seed=3)
    rng = np.random.default_rng(0)
    for v in model.trainable_variables:
        v.assign(rng.normal(0, 0.5, v.shape))
    weights = [w.numpy().astype(np.float64) for w in model.trainable_variables]
    assert [w.shape for w in weights] == [(3, 8), (8,), (64, 8), (8,), (8, 6), (6,), (6, 3), (3,)]
    seen, fractions = batch(BOX, 4), rng.uniform(size=(4, 5)).astype(np.float32)
    found = np.asarray(distribution(model)([seen, fractions])).reshape(4, 5, 3)
    for b in range(4):
        np.testing.assert_allclose(found[b], quantiles_by_hand(weights, seen[b], fractions[b]), rtol=1e-4, atol=1e-4)
    # the midpoints are (k + 1/2) / 32
    expected = [quantiles_by_hand(weights, x, (np.arange(32) + 0.5) / 32).mean(axis=0) for x in seen]
    np.testing.assert_allclose(model(seen), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_network_comes_back(kind: str, tmp_path: Path) -> None:
    model = q_network(BOX, 3, hidden=(8,), dueling=True, head=head(kind), seed=3)
    model.save(tmp_path / "q.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "q.keras")(batch(BOX)), model(batch(BOX)))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_changes_neither_weights_nor_what_returns_are_made_of(kind: str) -> None:
    whole, mixed = (
        q_network(BOX, 3, hidden=(32, 16), head=head(kind), precision=precision, seed=3)
        for precision in ("float32", "mixed_bfloat16")
    )
    mixed.set_weights(whole.get_weights())
    a, b = (np.asarray(model(batch(BOX))) for model in (whole, mixed))
    assert b.dtype == np.float32
    np.testing.assert_allclose(a, b, atol=0.03 * np.abs(a).max() + 1e-3)
    assert (a != b).any()


# ---- updates against NumPy


def agent_of(kind: str, space: gymnasium.Space[Any] = BOX, actions: int = 3, **fields: Any) -> DistributionalDQN:
    config = DQNConfig(
        **{"env": "toy", "head": kind, "hidden": (8, 6), "max_gradient_norm": 0.0, "seed": 5, "atoms": 5, "v_min": -2,
           "v_max": 4, "quantiles": 7, **fields}
    )  # fmt: skip
    agent = make(config, space, spaces.Discrete(actions, start=1))
    assert isinstance(agent, DistributionalDQN)
    assert type(agent) is AGENTS[kind]
    return agent


def transitions(size: int = 5) -> Transition:
    rng = np.random.default_rng(7)
    return Transition(
        rng.normal(size=(size, 3)).astype(np.float32),
        rng.integers(1, 4, size).astype(np.int32),
        rng.normal(0, 2, size=size).astype(np.float32),
        (0.9 * (np.arange(size) % 3 > 0)).astype(np.float32),
        rng.normal(size=(size, 3)).astype(np.float32),
        rng.uniform(0.2, 1, size).astype(np.float32),
    )


def huber(u: float) -> float:
    return 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5


def quantile_reference(theta: np.ndarray, fractions: np.ndarray, target: np.ndarray) -> float:
    """Dabney et al. 2018a, algorithm 1, pair by pair."""
    total = 0.0
    for tau, mine in zip(fractions, theta, strict=True):
        for other in target:
            u = other - mine
            total += abs(tau - (1.0 if u < 0 else 0.0)) * huber(u) / len(target)
    return total


def categorical_reference(logits: np.ndarray, reward: float, discount: float, p: np.ndarray, z: np.ndarray) -> float:
    """Bellemare et al. 2017, algorithm 1, atom by atom; the cross-entropy less the target's entropy."""
    m, distance = np.zeros(len(z)), z[1] - z[0]
    for j in range(len(z)):
        place = (min(max(reward + discount * z[j], z[0]), z[-1]) - z[0]) / distance
        low, high = int(np.floor(place)), int(np.ceil(place))
        m[low] += p[j] * (1.0 if low == high else high - place)
        m[high] += p[j] * (place - low)
    assert m.sum() == pytest.approx(1)
    log_q = logits - np.log(np.exp(logits).sum())
    return float(sum(a * (np.log(a) - b) for a, b in zip(m, log_q, strict=True) if a > 0))


def forward(weights: list[np.ndarray], kind: str, x: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """[A, N] of one observation."""
    if kind == "iqn":
        return quantiles_by_hand(weights, x, fractions).T
    w0, b0, w1, b1, w2, b2 = weights
    h = np.maximum(np.maximum(x @ w0 + b0, 0) @ w1 + b1, 0)
    return np.asarray((h @ w2 + b2).reshape(3, -1))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_a_slow_reference_and_so_are_metrics_and_priorities(kind: str, double: bool) -> None:
    agent = agent_of(kind, double=double)
    rng = np.random.default_rng(1)
    for model in (agent.q, agent.target):
        for v in model.trainable_variables:
            v.assign(rng.normal(0, 0.6, v.shape))
    online, target = ([w.numpy().astype(np.float64) for w in m.trainable_variables] for m in (agent.q, agent.target))
    given, state = transitions(), agent.state()
    z = np.linspace(-2, 4, 5)

    def mean(x: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(x) @ z if kind == "c51" else x.mean(axis=-1))

    taus, taus_t = (np.broadcast_to(np.asarray(agent.fractions(state, 5, side), np.float64), (5, 7)) for side in (0, 1))
    losses, errors, q = [], [], []
    for b in range(5):
        chooser = online if double else target
        best = int(mean(forward(chooser, kind, given.next_observation[b], (np.arange(32) + 0.5) / 32)).argmax())
        later = forward(target, kind, given.next_observation[b], taus_t[b])[best]
        now = forward(online, kind, given.observation[b], taus[b])[given.action[b] - 1]
        r, discount = float(given.reward[b]), float(given.discount[b])
        if kind == "c51":
            losses.append(categorical_reference(now, r, discount, softmax(later), z))
        else:
            losses.append(quantile_reference(now, taus[b], r + discount * later))
        q.append(float(mean(now)))
        errors.append(abs(r + discount * float(mean(later)) - q[-1]))
    _, metrics, priorities = agent.update(state, tf.nest.map_structure(tf.constant, given), ZERO)
    weighted = np.array(losses) * np.asarray(given.weight)
    np.testing.assert_allclose(metrics[:3], [weighted.mean(), np.mean(errors), np.mean(q)], rtol=1e-3)
    np.testing.assert_allclose(priorities, losses, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_goes_to_the_chosen_action_and_not_through_the_target(kind: str) -> None:
    agent = agent_of(kind, hidden=())
    given = tf.nest.map_structure(tf.constant, transitions()._replace(action=np.full(5, 2, np.int32)))
    state = agent.state()
    weights = state.weights
    with tf.GradientTape() as tape:
        tape.watch(tf.nest.flatten(state))
        loss = tf.reduce_mean(agent.judge(state, given).losses)
    gradients = tape.gradient(loss, [weights, state.target], unconnected_gradients="zero")
    kernel = gradients[0][-2].numpy().reshape(gradients[0][-2].shape[0], 3, -1)  # [D, A, K]
    assert np.abs(kernel[:, 1]).max() > 0
    assert (kernel[:, [0, 2]] == 0).all()
    assert all((g.numpy() == 0).all() for g in gradients[1])


def test_fractions_are_others_in_every_update_on_either_side_and_for_every_seed() -> None:
    def drawn(seed: int, update: int, side: int) -> np.ndarray:
        agent = agent_of("iqn", seed=seed)
        state = agent.state()
        optimizer = state.optimizer._replace(iterations=tf.constant(update, tf.int64))
        found = agent.fractions(state._replace(optimizer=optimizer), 4, side).numpy()
        assert found.shape == (4, 7)
        return np.asarray(found)

    cases = [drawn(*case) for case in itertools.product((0, 1), (0, 1, 2), (0, 1))]
    for a, b in itertools.combinations(cases, 2):
        assert not np.isin(a, b).any()
    np.testing.assert_array_equal(drawn(1, 2, 1), cases[-1])
    assert 0 <= np.min(cases) < 0.03
    assert 0.97 < np.max(cases) < 1
    assert np.mean(cases) == pytest.approx(0.5, abs=0.09)  # six standard errors of sqrt(1 / 12 / 336)


def test_quantiles_are_as_many_as_in_the_papers_unless_given() -> None:
    counts: dict[Any, int | None] = {"qr": 200, "iqn": 64, "c51": None, "expected": None}
    for kind, count in counts.items():
        assert DQNConfig(env="toy", head=kind).quantiles == count
    assert DQNConfig(env="toy", head="qr", quantiles=9).quantiles == 9
    assert agent_of("qr", quantiles=9).distribution.output_shape == (None, 3, 9)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"head": "c51", "v_min": 1.0, "v_max": 1.0}, "v_min is 1, expected less than v_max, 1"),
        ({"head": "c51", "atoms": 1}, "atoms is 1, expected at least 2"),
        ({"head": "qr", "quantiles": 0}, "quantiles is 0, expected at least 1"),
        ({"head": "c52"}, "head is 'c52', expected one of expected, c51, qr, iqn"),
        ({"head": "iqn", "network": "lstm"}, "head is iqn, expected expected where network is lstm"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        DQNConfig(env="toy", **fields)
    assert str(refused.value) == sentence


# ---- the range of C51


def test_targets_outside_of_the_range_are_counted_at_either_end() -> None:
    # Range [-2, 4]; V is the middle, 1, of a network whose weights are 0. Targets r + d: -3, -2, 4.5, 4, and 0.
    agent = agent_of("c51", hidden=())
    for model in (agent.q, agent.target):
        for v in model.trainable_variables:
            v.assign(tf.zeros_like(v))
    seen = tf.zeros((5, 3))
    batch = Transition(
        seen, tf.ones(5, tf.int32), tf.constant([-3.5, -2.5, 4.5, 3.5, 0.0]), tf.constant([0.5, 0.5, 0, 0.5, 0]), seen
    )
    _, metrics, _ = agent.update(agent.state(), batch, ZERO)
    assert agent.metrics[4:] == ("below_v_min", "above_v_max")
    np.testing.assert_allclose(metrics[4:], [1 / 5, 1 / 5], rtol=1e-6)
    _, metrics, _ = agent.update(agent.state(), batch._replace(correction=tf.constant([2.0, 1, 1, 0, 0])), ZERO)
    np.testing.assert_allclose(metrics[4:], [2 / 4, 1 / 4], rtol=1e-6)


@pytest.mark.parametrize("loop", ["host", "compiled"])
def test_returns_that_leave_the_range_are_told_once_while_training(loop: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "preset": "none", "head": "c51", "steps": 3000, "learning_rate": 5e-3, "n_step": 3, "gamma": 0.9,
        "hidden": (16,), "learning_starts": 200, "batch_size": 32, "target_interval": 100, "eval_interval": 0,
        "log_interval": 500,
    }  # fmt: skip
    said: dict[float, list[str]] = {}
    for v_max in (5.0, 10.0):  # a point a step is worth 10 where it goes on
        texts = said[v_max] = list[str]()
        train("dqn", "CartPole-v1", run_dir=tmp_path, loop=loop, v_min=0.0, v_max=v_max, say=texts.append, **fields)
    (told,) = [text for text in said[5.0] if "v_max" in text]
    assert re.fullmatch(
        r"step [\d,]+: head c51 cannot hold these returns: of the targets \d+% are above v_max, 5, and are clipped to "
        r"it: give a higher --v-max",
        told,
    )
    assert not [text for text in said[10.0] if "v_max" in text or "v_min" in text]


# ---- a toy whose returns are known
#
# In state 0 action 0 pays 10 or -10, each with probability 1/2, and leads to state 1, where action 0 pays 20 with
# probability 1/4, else nothing, and action 1 takes 10; action 1 in state 0 pays nothing and ends. So, undiscounted,
# state 0 and action 0 are worth -10 with probability 1/2 x 3/4 = 3/8; 10 with 1/2 x 3/4 + 1/2 x 1/4 = 1/2; 30 with 1/8.
ACTION_0_RETURNS = {-10.0: 3 / 8, 10.0: 1 / 2, 30.0: 1 / 8}
OUTCOMES = [(0, 0, 10, 1), (0, 0, -10, 1), (1, 0, 20, 2), *[(1, 0, 0, 2)] * 3, (1, 1, -10, 2), (0, 1, 0, 2)]
"""State, action, reward and next state, each as often as it is likely; 2 is the end."""


def learned(kind: str, seed: int, updates: int, **fields: Any) -> DistributionalDQN:
    """The agent that has seen each outcome, in each update."""
    s, a, r, s_t = map(np.array, zip(*OUTCOMES, strict=True))
    once = Transition(
        s.astype(np.int32), a.astype(np.int32) + 1, r.astype(np.float32), (s_t < 2).astype(np.float32),
        np.minimum(s_t, 1).astype(np.int32),
    )  # fmt: skip
    rounds = 50
    many = tf.nest.map_structure(lambda part: tf.constant(np.tile(part, (updates // rounds, 1))), once)
    agent = agent_of(kind, spaces.Discrete(2), 2, seed=seed, target="polyak", polyak=0.05, **fields)
    learn = tf.function(lambda: agent.learn(many, ZERO), jit_compile=True, autograph=False)
    for _ in range(rounds):
        learn()
    return agent


def returns_of(agent: DistributionalDQN, state: int, action: int, fractions: np.ndarray) -> np.ndarray:
    given = tf.constant(fractions[None], tf.float32)
    return np.asarray(agent.returns(agent.state().weights, tf.constant([state]), given)[0, action])


@pytest.mark.parametrize("seed", [0, 1])
def test_c51_learns_the_probabilities_of_returns(seed: int) -> None:
    agent = learned("c51", seed, 2000, hidden=(), atoms=7, v_min=-30, v_max=30, learning_rate=0.02)
    found = softmax(returns_of(agent, 0, 0, np.zeros(1)))
    expected = [ACTION_0_RETURNS.get(float(z), 0) for z in np.linspace(-30, 30, 7)]
    np.testing.assert_allclose(found, expected, atol=0.01)
    np.testing.assert_allclose(agent.q(tf.constant([0, 1])), [[5, 0], [5, -10]], atol=0.3)


@pytest.mark.parametrize("seed", [0, 1])
def test_qr_learns_the_quantiles_of_returns(seed: int) -> None:
    agent = learned("qr", seed, 4000, hidden=(), quantiles=8, learning_rate=0.1)
    # Of eight fractions 1/16, 3/16, ... three are below 3/8, four more below 7/8. Where the Huber loss is a parabola it
    # takes a quantile away from a value towards the others, by less than 1 in either of the two steps.
    np.testing.assert_allclose(np.sort(returns_of(agent, 0, 0, np.zeros(1))), [-10] * 3 + [10] * 4 + [30], atol=1.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_iqn_learns_the_quantiles_of_returns_at_any_fraction(seed: int) -> None:
    agent = learned("iqn", seed, 2000, hidden=(32, 32), quantiles=16, learning_rate=3e-3)
    inside = np.array([0.05, 0.15, 0.25, 0.5, 0.6, 0.7, 0.95])
    np.testing.assert_allclose(returns_of(agent, 0, 0, inside), [-10] * 3 + [10] * 3 + [30], atol=2)
    np.testing.assert_allclose(agent.q(tf.constant([0, 1])), [[5, 0], [5, -10]], atol=1)
