"""Every registered agent learns something tiny, resumes and does not retrace; the DQN's update is held to NumPy."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces

import rlkit
from rlkit import agents
from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN
from rlkit.agents.dqn.recurrent import make
from rlkit.agents.tabular.config import TabularConfig
from rlkit.errors import UserError
from rlkit.learning.agent import Clock, Transition, update_round
from rlkit.loops.acting import HostActor, numpy_forward

BOX = spaces.Box(-1, 1, (3,), np.float32)


class Echo(gymnasium.Env[Any, Any]):
    """Pays 1 for naming the number that is shown. `shown` says as what: Discrete, Discrete with the step, or Box."""

    def __init__(self, shown: str = "discrete", first: int = 0, length: int = 20) -> None:
        self.shown, self.first, self.length = shown, first, length
        self.action_space = spaces.Discrete(3, start=first)
        self.observation_space = {
            "discrete": spaces.Discrete(3, start=5),
            "steps": spaces.Discrete(3 * (length + 1), start=5),
            "box": spaces.Box(0, 1, (3,)),
        }[shown]

    def look(self) -> Any:
        self.number = int(self.np_random.integers(3))
        if self.shown == "box":
            return np.eye(3, dtype=np.float32)[self.number]
        return np.int64(5 + self.number + (3 * (self.length - self.left) if self.shown == "steps" else 0))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = self.length
        return self.look(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        reward = float(action - self.first == self.number)
        self.left -= 1
        return self.look(), reward, False, self.left == 0, {}


gymnasium.register("test/Echo-v0", entry_point=cast("Any", Echo))
QUICK = {
    "steps": 1500, "hidden": (16,), "learning_rate": 3e-3, "learning_starts": 50, "train_interval": 4,
    "batch_size": 32, "buffer_size": 1500, "epsilon_duration": 1000, "target_interval": 50, "gamma": 0.5,
    "eval_interval": 0, "checkpoint_interval": 700,
}  # fmt: skip
TABULAR = {"steps": 3000, "epsilon_duration": 1000, "gamma": 0.5, "eval_interval": 0, "checkpoint_interval": 700}
LAYERED = {"steps": 50_000, "trials": 5, "gamma": 0.5, "eval_interval": 0, "checkpoint_interval": 700}
ROLLOUTS = {
    "steps": 3000, "hidden": (16,), "learning_rate": 1e-2, "rollout_length": 16, "minibatches": 2,
    "epsilon_duration": 1000, "gamma": 0.5, "eval_interval": 0, "checkpoint_interval": 700,
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {"dqn": QUICK, "pqn": ROLLOUTS, "layered-q-iteration": LAYERED}
"""The fields of an agent with which it learns the toy; TABULAR where there is none."""

NETWORKS = ("dqn", "pqn")

BY_STEPS: dict[str, Any] = {"shown": "steps", "length": 5}
"""The toy with layers, for an agent that needs them."""


def quick(name: str) -> dict[str, Any]:
    return {**FIELDS.get(name, TABULAR), "env_args": BY_STEPS if name == "layered-q-iteration" else {}}


TOYS = [
    (name, env_args, num_envs)
    for name in agents.REGISTRY
    for env_args in ([{}, {"shown": "box"}, {"first": 2}] if name in NETWORKS else [{}, {"first": 2}])
    for num_envs in ([1, 4] if name in NETWORKS else [1])
]


@pytest.mark.parametrize(("name", "env_args", "num_envs"), TOYS, ids=str)
def test_an_agent_learns_a_toy_in_seconds(name: str, env_args: dict[str, Any], num_envs: int, tmp_path: Path) -> None:
    fields = quick(name)
    fields["env_args"] = {**fields["env_args"], **env_args}
    run = rlkit.train(name, "test/Echo-v0", run_dir=tmp_path, num_envs=num_envs, **fields)
    result = run.evaluate(episodes=10, checkpoint="last")
    length = fields["env_args"].get("length", 20)
    assert result.returns == (length,) * 10
    assert result.lengths == (length,) * 10


SWITCHES = [
    {"double": a, "dueling": b, "n_step": c, "loss": d, "target": e, "jit": f}
    for a, b, c, d, e, f in itertools.product(
        [True, False], [True, False], [1, 3], ["huber", "squared"], ["hard", "polyak"], [True, False]
    )
]


@pytest.mark.parametrize("switches", SWITCHES[::7], ids=str)
def test_the_switches_are_orthogonal(switches: dict[str, Any], tmp_path: Path) -> None:
    run = rlkit.train("dqn", "test/Echo-v0", run_dir=tmp_path, polyak=0.05, **{**QUICK, **switches, "steps": 2500})
    # n-step returns of the exploring policy add noise to what each step's own reward says, so the best of
    # each answer may need more steps than the others; 15 of 20 is far above 6.7, chance
    assert run.evaluate(episodes=10, checkpoint="last").mean >= 15


@pytest.mark.parametrize(
    "fields",
    [
        {"head": "c51", "atoms": 11, "v_min": -1, "v_max": 3},
        {"head": "qr", "quantiles": 8, "dueling": True, "loss": "squared"},
        {"head": "iqn", "quantiles": 8, "hidden": (16, 16), "double": False},
        {"noisy": True, "dueling": True, "n_step": 2, "epsilon_end": 0.0},
        {"precision": "mixed_bfloat16", "dueling": True},
        {"head": "c51", "v_min": -1, "v_max": 3, "noisy": True, "precision": "mixed_bfloat16", "target": "polyak"},
    ],
    ids=str,
)
def test_heads_noise_and_precision_are_switches_as_well(fields: dict[str, Any], tmp_path: Path) -> None:
    run = rlkit.train("dqn", "test/Echo-v0", run_dir=tmp_path, **{**QUICK, "steps": 2500, "jit": False, **fields})
    assert run.evaluate(episodes=10, checkpoint="last").mean >= 15  # as above


def test_returns_of_n_steps_carry_a_reward_n_states_back() -> None:
    # A row of states whose end pays 1: with each copy of the target network that is known n states further back.
    length = 9

    def after(copies: int, n: int) -> np.ndarray:
        agent = DQN(DQNConfig(env="toy", hidden=(), n_step=n, target_interval=1, learning_rate=0.02, seed=3),
                    spaces.Discrete(length), spaces.Discrete(1))  # fmt: skip
        for v in (*agent.q.trainable_variables, *agent.target.trainable_variables):
            v.assign(tf.zeros_like(v))
        states = np.tile(np.arange(length), (400, 1)).astype(np.int32)  # [K, B]
        ends = states + n >= length
        batch = Transition(
            states, np.zeros_like(states), ends.astype(np.float32), (~ends).astype(np.float32),
            np.minimum(states + n, length - 1),
        )  # fmt: skip
        learn = tf.function(agent.learn, autograph=False)
        for copy in range(copies):
            learn(
                tf.nest.map_structure(tf.constant, batch),
                Clock(tf.constant(copy + 1, tf.int64), tf.constant(0, tf.int64)),
            )
        return np.asarray(agent.q(np.arange(length, dtype=np.int32)))[:, 0]

    np.testing.assert_allclose(after(2, 1), [0] * 7 + [1] * 2, atol=0.02)
    np.testing.assert_allclose(after(2, 3), [0] * 3 + [1] * 6, atol=0.02)


@pytest.mark.parametrize("name", agents.REGISTRY)
def test_the_same_seed_is_the_same_run_and_another_seed_is_another(name: str, tmp_path: Path) -> None:
    def metrics(seed: int, folder: str) -> bytes:
        run = rlkit.train(
            name,
            "test/Echo-v0",
            run_dir=tmp_path / folder,
            seed=seed,
            log_interval=100,
            **{**quick(name), "steps": 500},
        )
        content: bytes = (run.path / "metrics.csv").read_bytes()
        return content

    assert metrics(3, "a") == metrics(3, "b")
    assert metrics(3, "c") != metrics(4, "d")


REFUSED = [
    (BOX, spaces.Box(-1, 1, (1,)), "needs Discrete actions", "needs Discrete observations"),
    (BOX, spaces.MultiDiscrete([2, 2]), "needs Discrete actions", "needs Discrete observations"),
    (spaces.Discrete(3), spaces.Box(-1, 1, (1,)), "needs Discrete actions", "needs Discrete actions"),
    (spaces.Dict({"a": BOX}), spaces.Discrete(2), "Box and Discrete are", "needs Discrete observations"),
    (spaces.Text(5), spaces.Discrete(2), "Box and Discrete are", "needs Discrete observations"),
]
"""Spaces, and what a network's and what a table's learner say."""


@pytest.mark.parametrize("name", agents.REGISTRY)
@pytest.mark.parametrize(("observations", "actions", "by_network", "by_table"), REFUSED, ids=str)
def test_unsupported_spaces_are_refused_with_what_would_work(
    name: str, observations: spaces.Space[Any], actions: spaces.Space[Any], by_network: str, by_table: str
) -> None:
    config = agents.config_class(name)(env="toy")
    sentence = by_table if isinstance(config, TabularConfig) else by_network
    with pytest.raises(UserError, match=sentence):
        agents.agent_class(name)(config, observations, actions)


# The update by hand: a linear network with zero weights and biases (1, 2) for its two actions, a target network
# with biases (10, 20) and (for Double) an online network that prefers action 1. One transition: action 0,
# reward 3, discount 0.5.
#   target = 3 + 0.5 * 20 = 13 (max and Double agree: the online argmax is action 1, worth 20 by the target)
#   TD error = 13 - 1 = 12; squared loss 72, Huber loss 12 - 1/2 = 11.5
#   gradient on the bias of action 0: -12 (squared), -1 (Huber); Adam's first step moves it by the step size.
# With the target's biases (20, 10), max gives 3 + 0.5 * 20 = 13, Double 3 + 0.5 * 10 = 8: TD error 7.
@pytest.mark.parametrize(
    ("fields", "target_bias", "error", "loss", "norm"),
    [
        ({"double": False, "loss": "squared"}, (10, 20), 12, 72, 12),
        ({"double": True, "loss": "squared"}, (10, 20), 12, 72, 12),
        ({"double": False, "loss": "huber"}, (10, 20), 12, 11.5, 1),
        ({"double": False, "loss": "squared"}, (20, 10), 12, 72, 12),
        ({"double": True, "loss": "squared"}, (20, 10), 7, 24.5, 7),
        ({"double": True, "loss": "huber"}, (20, 10), 7, 6.5, 1),
    ],
)
def test_one_update_worked_by_hand(
    fields: dict[str, Any], target_bias: tuple[int, int], error: float, loss: float, norm: float
) -> None:
    config = DQNConfig(env="toy", hidden=(), learning_rate=0.25, target_interval=10, **fields)
    agent = DQN(config, BOX, spaces.Discrete(2))
    for network, bias in ((agent.q, (1, 2)), (agent.target, target_bias)):
        kernel, b = network.trainable_variables
        kernel.assign(tf.zeros_like(kernel))
        b.assign(tf.constant(bias, tf.float32))
    zeros = np.zeros((1, 1, 3), np.float32)  # [K, B, D]
    batch = Transition(
        zeros, np.array([[0]], np.int32), np.array([[3.0]], np.float32), np.array([[0.5]], np.float32), zeros
    )
    learn = tf.function(lambda batch: agent.learn(batch, Clock(tf.constant(5, tf.int64), tf.constant(0, tf.int64))))
    metrics, priorities = learn(tf.nest.map_structure(tf.constant, batch))
    assert float(metrics["loss"]) == loss
    assert float(metrics["td_error"]) == error
    assert float(metrics["q"]) == 1
    assert float(metrics["gradient_norm"]) == norm
    assert priorities.numpy().tolist() == [[error]]
    np.testing.assert_allclose(agent.q.trainable_variables[1].numpy(), [1.25, 2.0], atol=1e-5)
    assert agent.target.trainable_variables[1].numpy().tolist() == list(target_bias)  # step 5 of 10: no copy yet


# Two transitions that terminate, worth 3 and 5, of actions worth 1 and 2: TD errors 2 and 3, squared losses 2 and 4.5.
# Weights 1/2 and 1/4: losses 1 and 1.125, gradients on the biases -1/2 * 2 / 2 and -1/4 * 3 / 2.
def test_importance_weights_scale_losses_and_not_priorities() -> None:
    config = DQNConfig(env="toy", hidden=(), loss="squared", max_gradient_norm=0.0)
    agent = DQN(config, BOX, spaces.Discrete(2))
    kernel, bias = agent.q.trainable_variables
    kernel.assign(tf.zeros_like(kernel))
    bias.assign([1.0, 2.0])
    batch = Transition(
        tf.zeros((2, 3)), tf.constant([0, 1]), tf.constant([3.0, 5.0]), tf.zeros(2), tf.zeros((2, 3)),
        tf.constant([0.5, 0.25]),
    )  # fmt: skip
    _, metrics, priorities = agent.update(
        agent.state(), batch, Clock(tf.constant(0, tf.int64), tf.constant(0, tf.int64))
    )
    assert priorities.numpy().tolist() == [2, 3]
    np.testing.assert_allclose(metrics, [(1 + 1.125) / 2, 2.5, 1.5, np.hypot(0.5, 0.375)], rtol=1e-6)


@pytest.mark.parametrize("fields", [{}, {"target": "polyak"}, {"noisy": True}, {"head": "iqn", "double": False}])
def test_large_networks_are_updated_in_place_as_small_ones_are_by_functions(fields: dict[str, Any]) -> None:
    rates: dict[str, Any] = {"learning_rate": 1e-2, "adam_epsilon": 1e-2, "max_gradient_norm": 0.1}
    config = DQNConfig(env="toy", hidden=(300, 400), target_interval=10, jit=False, **rates, **fields)
    changed, twin = (make(config, BOX, spaces.Discrete(3)) for _ in range(2))
    learn = tf.function(changed.learn, autograph=False)
    state, rng = twin.state(), np.random.default_rng(0)
    for step in (4, 8, 12, 16):  # with a copy after 12
        clock = Clock(tf.constant(step, tf.int64), tf.constant(0, tf.int64))
        seen, following = tf.constant(rng.normal(size=(2, 2, 8, 3)), tf.float32)  # [K, B, D]
        chosen, paid = rng.integers(3, size=(2, 8)), rng.normal(size=(2, 8))
        batch = Transition(
            seen, tf.constant(chosen, tf.int32), tf.constant(paid, tf.float32), tf.fill([2, 8], 0.9), following
        )
        metrics, priorities = learn(batch, clock)

        def drawn(k: tf.Tensor, batch: Transition = batch) -> Transition:
            return cast("Transition", tf.nest.map_structure(lambda part: part[k], batch))

        state, expected, errors = update_round(twin, state, drawn, 2, clock)
        np.testing.assert_allclose(list(metrics.values()), expected, rtol=1e-3)
        np.testing.assert_allclose(priorities, errors, rtol=1e-3, atol=1e-5)
        for found, wanted in zip(*map(tf.nest.flatten, (changed.state(), state)), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    assert int(changed.state().copied_at) == (0 if "target" in fields else 12)


def test_the_targets_are_copied_or_moved_as_configured() -> None:
    zeros = np.zeros((1, 1, 3), np.float32)
    batch = [
        tf.constant(p)
        for p in (
            zeros,
            np.array([[0]], np.int32),
            np.ones((1, 1), np.float32),
            np.zeros((1, 1), np.float32),
            zeros,
        )
    ]

    def after(step: int, agent: DQN) -> tuple[np.ndarray, np.ndarray]:
        agent.learn(Transition(*batch), Clock(tf.constant(step, tf.int64), tf.constant(0, tf.int64)))
        return agent.q.trainable_variables[1].numpy(), agent.target.trainable_variables[1].numpy()

    hard = DQN(DQNConfig(env="toy", hidden=(), target_interval=10), BOX, spaces.Discrete(2))
    before = hard.target.trainable_variables[1].numpy()
    assert (after(9, hard)[1] == before).all()
    online, target = after(12, hard)
    assert (online == target).all()
    held = target
    assert (after(21, hard)[1] == held).all()  # nine steps after the copy at 12
    online, target = after(22, hard)
    assert (online == target).all()
    polyak = DQN(DQNConfig(env="toy", hidden=(), target="polyak", polyak=0.25), BOX, spaces.Discrete(2))
    old = polyak.target.trainable_variables[1].numpy()
    online, target = after(1, polyak)
    np.testing.assert_allclose(target, 0.25 * online + 0.75 * old, rtol=1e-6)


def reference_update(
    weights: list[np.ndarray],
    target: list[np.ndarray],
    batch: Transition,
    double: bool,
    clip: float,
    rate: float,
) -> list[np.ndarray]:
    """Adam's first step on the squared loss of a one-hidden-layer network, in float64 and by hand-written gradients."""
    w1, b1, w2, b2 = (w.astype(np.float64) for w in weights)
    v1, c1, v2, c2 = (w.astype(np.float64) for w in target)
    o_tm1, a_tm1, r_t, discount_t, o_t = (np.asarray(part) for part in batch[:5])
    weight = np.ones(len(r_t)) if isinstance(batch.weight, tuple) else np.asarray(batch.weight, np.float64)
    q_t = np.maximum(o_t @ v1 + c1, 0) @ v2 + c2
    chooser = np.maximum(o_t @ w1 + b1, 0) @ w2 + b2 if double else q_t
    y = r_t + discount_t * q_t[np.arange(len(q_t)), chooser.argmax(1)]
    pre = o_tm1 @ w1 + b1
    h = np.maximum(pre, 0)
    q = h @ w2 + b2
    d_q = np.zeros_like(q)
    rows = np.arange(len(q))
    d_q[rows, a_tm1] = weight * (q[rows, a_tm1] - y) / len(q)
    d_h = (d_q @ w2.T) * (pre > 0)
    gradients = [o_tm1.T @ d_h, d_h.sum(0), h.T @ d_q, d_q.sum(0)]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    gradients = [g * min(1.0, clip / norm) for g in gradients]
    # Adam's first step (Kingma and Ba 2015, section 2's efficient order, as Keras has it): m = 0.1 g, v = 0.001 g^2
    rate *= np.sqrt(0.001) / 0.1
    return [
        w - rate * 0.1 * g / (np.sqrt(0.001) * np.abs(g) + 1e-8)
        for w, g in zip((w1, b1, w2, b2), gradients, strict=True)
    ]


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("clip", [1e-3, 100.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_update_agrees_with_float64_gradients_written_by_hand(double: bool, clip: float, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    config = DQNConfig(
        env="toy",
        hidden=(7,),
        double=double,
        loss="squared",
        max_gradient_norm=clip,
        learning_rate=0.01,
        batch_size=16,
    )
    agent = DQN(config, BOX, spaces.Discrete(4))
    for v in (*agent.q.trainable_variables, *agent.target.trainable_variables):
        v.assign(rng.normal(size=v.shape).astype(np.float32))
    batch = Transition(
        rng.normal(size=(16, 3)).astype(np.float32),
        rng.integers(4, size=16).astype(np.int32),
        rng.normal(size=16).astype(np.float32),
        (0.9 * rng.integers(2, size=16)).astype(np.float32),
        rng.normal(size=(16, 3)).astype(np.float32),
        rng.uniform(0.05, 1, size=16).astype(np.float32) if weighted else (),
    )
    expected = reference_update(
        [v.numpy() for v in agent.q.trainable_variables], [v.numpy() for v in agent.target.trainable_variables],
        batch, double, clip, 0.01,
    )  # fmt: skip
    zero = tf.constant(0, tf.int64)
    state, _, _ = agent.update(agent.state(), tf.nest.map_structure(tf.constant, batch), Clock(zero, zero))
    agent.assign(state)
    for v, w in zip(agent.q.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(v.numpy(), w, atol=2e-5)


SPACES = [
    BOX,
    spaces.Box(0, 255, (2, 3), np.uint8),
    spaces.Box(-1, 1, (2, 2), np.float64),
    spaces.Discrete(6, start=2),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("fields", [{}, {"dueling": True}, {"hidden": ()}, {"epsilon_unit": "episode"}], ids=str)
def test_acting_in_numpy_is_acting_in_tensorflow(space: spaces.Space[Any], fields: dict[str, Any]) -> None:
    config = DQNConfig(**{"env": "toy", "hidden": (8, 5), "epsilon_duration": 1500, **fields})
    agent = DQN(config, space, spaces.Discrete(3, start=1))
    forward = numpy_forward(agent.q)
    assert forward is not None
    actor, seen = HostActor(agent, forward), set()
    space.seed(0)

    @tf.function
    def act(observation: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return agent.act(observation, Clock(step, step // 10), explore=True), agent.q(observation)

    for step in range(0, 2000, 5):
        if step == 1000:
            for v in agent.q.trainable_variables:
                v.assign(-v)
            actor.use(None)
        dtype = agent.q.input.dtype
        observation = np.asarray(space.sample())[None].astype(dtype)
        expected, values = (t.numpy() for t in act(tf.constant(observation), tf.constant(step, tf.int64)))
        q = np.sort(values[0])
        if q[-1] - q[-2] > 1e-5:  # rounding may decide nearer ties either way
            assert actor.act(observation, step, step // 10).tolist() == expected.tolist()
            seen.add(int(expected[0]))
    assert seen == {1, 2, 3}
    assert actor.traces == 1


def test_an_unknown_layer_leaves_acting_to_tensorflow() -> None:
    import keras

    inputs = keras.Input((3,))
    assert numpy_forward(keras.Model(inputs, keras.layers.LayerNormalization()(inputs))) is None


@pytest.mark.parametrize("name", agents.REGISTRY)
def test_every_field_of_an_agent_has_help(name: str) -> None:
    for field in dataclasses.fields(agents.config_class(name)):
        assert field.metadata["help"].endswith("."), field.name


def test_double_q_learning_does_not_take_the_best_of_chances_for_the_best() -> None:
    # From state 0 one goes on to state 1, where each of 8 actions pays -1 or 1 and ends: nothing, in the mean. The
    # largest of 8 estimates that are not yet certain is above it. Sutton and Barto 2018, figure 6.5.
    actions, batch, rounds = 8, 9, 300
    rng = np.random.default_rng(0)

    def worth(double: bool) -> float:
        agent = DQN(DQNConfig(env="toy", hidden=(), double=double, target_interval=1, learning_rate=0.05, seed=3),
                    spaces.Discrete(2), spaces.Discrete(actions))  # fmt: skip
        learn = tf.function(agent.learn, autograph=False)
        found = []
        for number in range(rounds):  # of 40 updates, in which chances are forgotten, each with a target of its own
            rewards = rng.choice([-1.0, 1.0], size=(40, batch))
            rewards[:, 0] = 0
            states = np.tile((np.arange(batch) > 0).astype(np.int32), (40, 1))
            chosen = np.tile(np.maximum(np.arange(batch) - 1, 0).astype(np.int32), (40, 1))
            many = Transition(
                states, chosen, rewards.astype(np.float32), (1 - states).astype(np.float32), np.ones_like(states)
            )
            learn(
                tf.nest.map_structure(tf.constant, many),
                Clock(tf.constant(number + 1, tf.int64), tf.constant(0, tf.int64)),
            )
            found.append(float(agent.q(np.zeros(1, np.int32))[0, 0]))
        return float(np.mean(found[20:]))

    single, double = worth(False), worth(True)
    assert single > 0.15
    assert abs(double) < single / 4
