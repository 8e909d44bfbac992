"""Learning from rollouts: lambda-returns, rectified Adam, PQN, and tables from many chains, on both loops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces

from rlkit.agents.planning.planners import solve
from rlkit.agents.pqn.config import PQNConfig
from rlkit.agents.pqn.pqn import PQN
from rlkit.agents.tabular.config import (
    DoubleQLearningConfig,
    ExpectedSarsaConfig,
    LayeredQIterationConfig,
    MonteCarloConfig,
    QLearningConfig,
    SarsaConfig,
)
from rlkit.agents.tabular.parallel import Chains
from rlkit.agents.tabular.tabular import Tabular
from rlkit.api import session
from rlkit.envs import twins
from rlkit.envs.functional.cartpole import CartPole
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.sampling import simulator
from rlkit.interaction.functional import FunctionalVectorEnv
from rlkit.interaction.vector import Environments
from rlkit.learning import td
from rlkit.learning.agent import Clock, Rollout
from rlkit.learning.optimizers import AdamState, adam, adam_in_place, clipped, large
from rlkit.loops.compiled import CompiledLoop, run_together
from rlkit.loops.on_policy import RolloutLoop, RolloutProgram
from rlkit.runs.checkpoint import Checkpointer

ZERO = Clock(tf.constant(0, tf.int64), tf.constant(0, tf.int64))


def test_lambda_returns_worked_by_hand() -> None:
    # gamma 1/2, lambda 1/2. Row 2 is the last: 4 + 8/2 = 8. Row 1: 2 + 1/2 (1/2 * 6 + 1/2 * 8) = 5.5.
    # Row 0: 1 + 1/2 (1/2 * 4 + 1/2 * 5.5) = 3.375. The other env terminates in row 1 (2, and 1 + (4 + 2)/4 = 2.5 before
    # it); the third is truncated there: it bootstraps from the real next value, 2 + 6/2 = 5, and row 0 is 3.25.
    r = tf.constant([[1.0] * 3, [2.0] * 3, [4.0] * 3])
    v = tf.constant([[4.0] * 3, [6.0] * 3, [8.0] * 3])
    terminated = tf.constant([[False] * 3, [False, True, False], [False] * 3])
    truncated = tf.constant([[False] * 3, [False, False, True], [False] * 3])
    found = td.lambda_returns(r, tf.where(terminated, 0.0, 0.5), v, ~(terminated | truncated), 0.5)
    np.testing.assert_allclose(found, [[3.375, 2.5, 3.25], [5.5, 2.0, 5.0], [8.0, 8.0, 8.0]])


@pytest.mark.parametrize("trace_decay", [0.0, 0.3, 1.0])
def test_lambda_returns_are_the_mixture_of_n_step_returns(trace_decay: float) -> None:
    # Sutton and Barto 2018, equation 12.3: (1 - l) sum_n l^(n-1) G^(n) + l^(h-1) G^(h), where the episode or data ends.
    rng, length, n = np.random.default_rng(0), 20, 6
    r, v = rng.normal(size=(2, length, n))
    terminated = rng.random((length, n)) < 0.1
    truncated = rng.random((length, n)) < 0.1
    ended = terminated | truncated
    discount = np.where(terminated, 0.0, 0.9)
    r_t, discount_t, v_t = (tf.constant(x, tf.float32) for x in (r, discount, v))
    found = td.lambda_returns(r_t, discount_t, v_t, tf.constant(~ended), trace_decay).numpy()
    for e in range(n):
        for t in range(length):
            returns, reward, factor, k = [], 0.0, 1.0, t
            while True:
                reward += factor * r[k, e]
                factor *= discount[k, e]
                returns.append(reward + factor * v[k, e])
                if ended[k, e] or k + 1 == length:
                    break
                k += 1
            weights = [(1 - trace_decay) * trace_decay**i for i in range(len(returns) - 1)]
            weights.append(trace_decay ** (len(returns) - 1))
            assert found[t, e] == pytest.approx(np.dot(weights, returns), abs=1e-5)


@pytest.mark.parametrize("rectified", [False, True])
def test_adam_and_its_rectified_form_are_the_papers(rectified: bool) -> None:
    # Kingma and Ba 2015, algorithm 1; Liu et al. 2020, algorithm 2, in float64. Epsilon is added after the correction.
    rng = np.random.default_rng(1)
    w = rng.normal(size=(3, 2))
    weights: Any = (tf.constant(w, tf.float32),)
    state = tf.nest.map_structure(tf.convert_to_tensor, AdamState.variables([tf.Variable(weights[0])]))
    m, v, longest = np.zeros_like(w), np.zeros_like(w), 2 / (1 - 0.999) - 1
    for t in range(1, 31):
        g = rng.normal(size=w.shape)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        mean, spread = m / (1 - 0.9**t), np.sqrt(v / (1 - 0.999**t))
        length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
        if not rectified:
            w = w - 0.01 * mean / (spread + 1e-8)
        elif length > 5:
            factor = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
            w = w - 0.01 * factor * mean / (spread + 1e-8)
        else:
            w = w - 0.01 * mean
        weights, state = adam(state, weights, [tf.constant(g, tf.float32)], 0.01, rectified=rectified)
        np.testing.assert_allclose(weights[0], w, atol=2e-5)
    assert int(state.iterations) == 30


def test_gradients_are_clipped_by_their_common_norm() -> None:
    gradients = [tf.constant([3.0]), tf.constant([[4.0]])]
    for largest, expected in ((10.0, [3.0, 4.0]), (1.0, [0.6, 0.8]), (0.0, [3.0, 4.0])):
        found, norm = clipped(gradients, largest)
        assert float(norm) == 5.0
        np.testing.assert_allclose([found[0][0], found[1][0, 0]], expected, rtol=1e-6)


def test_large_gradients_are_clipped_and_stepped_by_as_the_small_ones() -> None:
    rng = np.random.default_rng(0)
    gradients = [tf.constant(rng.normal(size=shape), tf.float32) for shape in ((400, 300), (7,))]
    assert large(gradients)
    assert not large(gradients[1:])
    found, norm = clipped(gradients, 2.0)
    together = np.concatenate([np.ravel(g) for g in gradients]).astype(np.float64)
    assert float(norm) == pytest.approx(np.linalg.norm(together), rel=1e-5)
    np.testing.assert_allclose(found[1], gradients[1] * 2.0 / np.linalg.norm(together), rtol=1e-5)
    weights = [tf.Variable(tf.ones_like(g)) for g in gradients]
    kept = AdamState.variables(weights)
    stepped, state = tuple(w.value() for w in weights), tf.nest.map_structure(tf.convert_to_tensor, kept)
    for _ in range(3):
        stepped, state = adam(state, stepped, found, 0.01, 1e-6)
        adam_in_place(kept, weights, found, 0.01, 1e-6)
    for one, other in zip(tf.nest.flatten((stepped, state)), tf.nest.flatten((weights, kept)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


LIMIT = 40
SMALL: dict[str, Any] = {
    "env": "CartPole-v1",
    "num_envs": 4,
    "rollout_length": 16,
    "epochs": 2,
    "minibatches": 4,
    "hidden": (16,),
    "epsilon_duration": 2_000,
    "steps": 4_096,
    "log_interval": 512,
    "eval_interval": 0,
    "checkpoint_interval": 1_024,
}


class Rows:
    def __init__(self) -> None:
        self.rows: list[Any] = []

    def row(self, step: int, row: Any, seconds: float) -> None:
        del seconds
        self.rows.append((step, row))

    def evaluation(self, step: int, values: Mapping[str, float | None], returns: Sequence[float] = ()) -> None:
        self.rows.append((step, tuple(returns), values.get("regret")))


def pqn(seed: int = 0, **fields: Any) -> PQN:
    env = CartPole()
    return PQN(PQNConfig(**{**SMALL, "seed": seed, **fields}), env.observation_space, env.action_space)


def compiled(path: Path, agents: Sequence[Any], limit: int = LIMIT, env: Any = None) -> list[CompiledLoop]:
    program = RolloutProgram(agents[0], env or CartPole(), limit)
    return [
        CompiledLoop(program, agent, Checkpointer(path / str(i), agent), [Rows()]) for i, agent in enumerate(agents)
    ]


def close(a: Any, b: Any, tolerance: float) -> None:
    for x, y in zip(tf.nest.flatten(a.state()), tf.nest.flatten(b.state()), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def test_one_update_of_pqn_moves_as_the_hand_worked_gradient_says() -> None:
    # A linear network with zero weights. Targets 2 and 4 for action 0 in two steps: TD errors 2 and 4, squared loss
    # (4 + 16)/4 = 5, bias gradient -(2 + 4)/2 = -3. Rectified Adam's first step is plain: 0.1 * 3 up.
    agent = pqn(hidden=(), num_envs=2, rollout_length=1, epochs=1, minibatches=1, learning_rate=0.1, gamma=0.5)
    agent.assign(tf.nest.map_structure(tf.zeros_like, agent.state()))
    zeros = tf.zeros([1, 2, 4])
    reward, going = tf.constant([[2.0, 4.0]]), tf.fill([1, 2], False)
    rollout = Rollout(zeros, tf.zeros([1, 2], tf.int32), reward, going, going, zeros, ~going)
    state, metrics = agent.learn(agent.state(), rollout, ZERO, tf.zeros([1, 2], tf.uint32))
    np.testing.assert_allclose(metrics, [5.0, 3.0, 0.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(state.weights[1], [0.3, 0.0], rtol=1e-6)
    ignored = rollout._replace(valid=tf.constant([[True, False]]))
    state, metrics = agent.learn(agent.state(), ignored, ZERO, tf.zeros([1, 2], tf.uint32))
    np.testing.assert_allclose(metrics[:2], [2.0, 2.0], rtol=1e-6)


def test_minibatches_go_through_the_rollout_once_an_epoch_in_another_order() -> None:
    agent = pqn()
    bits = tf.constant(np.random.default_rng(0).integers(0, 2**32, agent.draws, np.uint32))
    places = agent.minibatches(bits).numpy()
    assert places.shape == (8, 16)
    for epoch in places.reshape(2, 64):
        assert sorted(epoch) == list(range(64))
    assert (places[:4] != places[4:]).any()


def test_both_loops_see_the_same_and_learn_the_same_weights(tmp_path: Path) -> None:
    (program,) = compiled(tmp_path / "a", [pqn()])
    agent = pqn()
    python = RolloutLoop(
        agent,
        Environments(FunctionalVectorEnv(CartPole(), 4, LIMIT, jit=True), 0),
        Checkpointer(tmp_path / "b", agent),
        None,
        [Rows()],
    )
    assert program.run() == python.run() == "finished"
    assert program.episode == python.episode > 50
    close(program.agent, agent, 3e-4)
    assert python.traces == 2
    ours, theirs = program.observers[0].rows, python.observers[0].rows  # type: ignore[attr-defined]
    for (step, a), (same, b) in zip(ours, theirs, strict=True):
        assert step == same
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert value == pytest.approx(b[name], rel=5e-3, abs=1e-3), name


def test_several_seeds_end_where_they_do_alone_and_a_run_resumes_to_the_bit(tmp_path: Path) -> None:
    together = compiled(tmp_path / "all", [pqn(2), pqn(7)])
    run_together(together, ["failed"] * 2)
    alone = together[0]
    for loop, seed in zip(together, (2, 7), strict=True):
        (alone,) = compiled(tmp_path / f"alone{seed}", [pqn(seed)])
        alone.run()
        close(loop.agent, alone.agent, 0.0)
    (half,) = compiled(tmp_path / "half", [pqn(7, steps=2_048)])
    half.run()
    (rest,) = compiled(tmp_path / "half", [pqn(7)])
    rest.restore(pytest.fail)
    rest.run()
    close(rest.agent, alone.agent, 0.0)


@pytest.mark.parametrize("mode", ["sync", "native"])
def test_the_host_loop_resumes_to_the_bit_and_skips_rows_that_only_reset(mode: str, tmp_path: Path) -> None:
    from rlkit.interaction.vector import make_vector

    def loop(path: Path, steps: int) -> RolloutLoop:
        agent = pqn(steps=steps)
        made = Environments(make_vector("CartPole-v1", {}, 4, mode), 0)
        return RolloutLoop(agent, made, Checkpointer(path, agent), None, [])

    whole, half, rest = loop(tmp_path / "a", 2_000), loop(tmp_path / "b", 1_000), loop(tmp_path / "b", 2_000)
    whole.run()
    half.run()
    rest.restore(pytest.fail)
    assert 1_000 <= rest.step < 1_064
    rest.run()
    close(whole.agent, rest.agent, 0.0)
    assert whole.step == rest.step
    assert mode == "native" or whole.step % 64 == 0


def test_minibatches_must_be_equal_parts() -> None:
    with pytest.raises(UserError, match="minibatches is 5, expected a divisor of rollout_length times num_envs, 64"):
        pqn(minibatches=5)
    with pytest.raises(UserError, match="pqn cannot choose from the action space"):
        PQN(PQNConfig(env="x"), CartPole().observation_space, spaces.Box(0, 1, (2,)))


LAKE = spaces.Discrete(16), spaces.Discrete(4)


@pytest.mark.parametrize(
    ("config", "regret"),
    [(QLearningConfig, 0.002), (SarsaConfig, 0.03), (ExpectedSarsaConfig, 0.03), (MonteCarloConfig, 0.03)],
)
def test_chains_find_the_certified_values_of_the_frozen_lake(config: Any, regret: float, tmp_path: Path) -> None:
    # On-policy learners end at the best policy that still tries each action: their loss is bounded, not zero.
    made = config(
        env="FrozenLake-v1", loop="compiled", num_envs=256, steps=4_000_000, eval_interval=0, epsilon_end=0.05,
        epsilon_duration=1_000_000, checkpoint_interval=10**9, log_interval=10**6,
    )  # fmt: skip
    agent = Chains(made, *LAKE)
    twin = twins.twin("FrozenLake-v1", {})
    (loop,) = compiled(tmp_path, [agent], 100, twin)
    assert loop.run() == "finished"
    mdp = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1"), gamma=0.99)
    best = solve(mdp).values[0]
    actions = agent.act(tf.range(16), ZERO, explore=False).numpy()
    assert best - mdp.policy_values(actions)[0] <= regret
    if config is QLearningConfig:
        assert abs(float(tf.reduce_max(agent.q[0, 0])) - best) < 0.02
    assert int(tf.reduce_sum(agent.visits)) > 1_000_000


def test_updates_of_several_chains_are_one_by_their_mean() -> None:
    # Step size 1/2. Three chains visit (0, 1) with targets 1, 1 and 4: mean 2, and 1 - (1/2)^3 = 7/8 of the way: 1.75.
    made = QLearningConfig(
        env="FrozenLake-v1", loop="compiled", num_envs=4, step_size=0.5, step_size_schedule="constant"
    )
    agent = Chains(made, *LAKE)
    ended, seen = tf.fill([1, 4], True), tf.constant([[0, 0, 0, 5]])
    rollout = Rollout(
        seen, tf.constant([[1, 1, 1, 2]]), tf.constant([[1.0, 1.0, 4.0, 8.0]]), ended, ~ended, seen, ended
    )
    state, metrics = agent.learn(agent.state(), rollout, ZERO, tf.zeros([0], tf.uint32))
    assert state.q.numpy()[0, 0, 1] == pytest.approx(1.75)
    assert state.q.numpy()[0, 5, 2] == pytest.approx(4.0)
    assert state.visits.numpy()[0, 0, 1] == 3
    assert float(metrics[0]) == pytest.approx(14 / 4)
    assert int(np.count_nonzero(state.q)) == 2


def test_monte_carlo_counts_whole_episodes_that_began_early_enough() -> None:
    # Time limit 3, rounds of 15 steps. One chain: the episode under way at first does not count; (0, 0) is met twice in
    # the next one, rewards 1 and 2, and first visits alone count: return 1 + 2/2 = 2.
    name = "Counted-v0"
    gymnasium.register(name, entry_point="gymnasium:Env", max_episode_steps=3)
    try:
        made = MonteCarloConfig(env=name, loop="compiled", gamma=0.5, step_size_power=1.0)
        agent = Chains(made, *LAKE)
    finally:
        del gymnasium.registry[name]
    assert agent.length == 15
    terminated = np.zeros((15, 1), bool)
    terminated[[0, 2, 14]] = True
    reward, seen = np.zeros((15, 1), np.float32), np.full((15, 1), 3, np.int32)
    reward[:3, 0], seen[1:3, 0] = (9.0, 1.0, 2.0), 0
    terminated[3:13:3] = True
    rollout = Rollout(*map(tf.constant, (seen, np.zeros((15, 1), np.int32), reward, terminated, ~terminated & False,
                                         seen, terminated | True)))  # fmt: skip
    state, _ = agent.learn(agent.state(), rollout, ZERO, tf.zeros([0], tf.uint32))
    assert state.q.numpy()[0, 0, 0] == pytest.approx(2.0)
    assert state.visits.numpy()[0, 0, 0] == 1
    assert state.q.numpy()[0, 3, 0] == 0.0


def test_monte_carlo_goes_on_with_the_mean_value_where_an_episode_is_open() -> None:
    # No time limit: rounds of 5,000 steps, of which those with 1,000 more behind them count. One chain, 1 a step, an
    # end at step 0 and none after it. Undiscounted, with values of 10 at first, step t is worth 5,000 - t + 10; the
    # first visit is t = 1. By every visit it is the mean over t = 1 to 4,000. At gamma 1/2 each is worth 2.
    name = "Open-v0"
    gymnasium.register(name, entry_point="gymnasium:Env")
    seen, reward = np.full((5_000, 1), 3, np.int32), np.ones((5_000, 1), np.float32)
    terminated = np.arange(5_000)[:, None] == 0
    fields = (seen, 0 * seen, reward, terminated, terminated & False, seen, terminated | True)
    rollout = Rollout(*map(tf.constant, fields))
    try:
        for gamma, visits, count, expected in (
            (1.0, "first", 1, 5_009.0), (1.0, "every", 4_000, 5_010 - 2_000.5), (0.5, "every", 4_000, 2.0),
        ):  # fmt: skip
            how: Any = {"gamma": gamma, "visits": visits, "step_size_power": 1.0, "initial_value": 10.0}
            made = MonteCarloConfig(env=name, loop="compiled", **how)
            agent = Chains(made, *LAKE)
            assert agent.length == 5_000
            assert ("estimated value stands for the rest" in agent.open_episodes) == (gamma == 1)
            state, _ = tf.function(agent.learn)(agent.state(), rollout, ZERO, tf.zeros([0], tf.uint32))
            assert state.q.numpy()[0, 3, 0] == pytest.approx(expected)
            assert state.visits.numpy()[0, 3, 0] == count
    finally:
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("env", "gamma", "told"),
    [
        (
            "CliffWalking-v1",
            1.0,
            "returns: undiscounted, of 1,000 steps at least; where a round of 5,000 steps leaves an ",
        ),
        (
            "FrozenLake-v1",
            1.0,
            "returns: undiscounted; an episode that a round of 500 steps leaves open does",
        ),
        ("CliffWalking-v1", 0.99, ""),
    ],
)
def test_an_undiscounted_run_says_what_open_episodes_count_for(env: str, gamma: float, told: str) -> None:
    said: list[str] = []
    config = MonteCarloConfig(env=env, gamma=gamma, loop="compiled")
    with session.Session("monte-carlo", [config], said.append):
        pass
    assert [text[: len(told)] for text in said if text.startswith("returns: ")] == [told] * bool(told)


def test_monte_carlo_has_no_bias_where_episodes_are_longer_than_a_round() -> None:
    """A step costs 1 and ends the episode with probability 1/3000, so that many a round of 5,000 steps leaves it open.

    The means of 16 independent parts, of the compiled loop's rounds and of the host's runs, are within 6 standard
    errors of the exact value: by Student's t of 15 degrees of freedom a right learner fails once in 40,000 seeds.
    """
    end, name = 1 / 3_000, "Patience-v0"
    rows = (np.array([0, 2]), np.zeros(2, int), np.array([1 - end, end]))
    mdp = FiniteMDP(rows, [-1.0, -1.0], gamma=0.99, terminal=[False], terminated=[False, True])
    (exact,) = mdp.policy_values(np.zeros(1, int))
    assert exact == pytest.approx(-1 / (1 - 0.99 * (1 - end)))
    one = spaces.Discrete(1)
    how: Any = {"env": name, "visits": "every", "step_size_power": 1.0, "epsilon_end": 1.0}
    gymnasium.register(name, entry_point="gymnasium:Env")
    try:
        agent = Chains(MonteCarloConfig(**how, loop="compiled"), one, one)
    finally:
        del gymnasium.registry[name]
    learn, rng, biases = tf.function(agent.learn), np.random.default_rng(0), list[tuple[float, float]]()
    tables, still = simulator(mdp), np.zeros((5_000, 64), np.int32)
    assert tables is not None
    for seed in range(16):
        terminated = rng.random(still.shape) < end
        fields = (still, still, np.float32(still - 1), terminated, terminated & False, still, terminated | True)
        state, _ = learn(agent.state(), Rollout(*map(tf.constant, fields)), ZERO, tf.zeros([0], tf.uint32))
        learner = Tabular(MonteCarloConfig(**how, seed=seed), one, one)
        learner.start(tables)
        learner.simulate(tables, 0, 400_000)
        biases.append((float(state.q.numpy()[0, 0, 0]) - exact, float(learner.tables.q[0, 0, 0]) - exact))
    bound = 6 * np.std(biases, axis=0, ddof=1) / 4
    assert (np.abs(np.mean(biases, axis=0)) < bound).all()
    assert (bound < 1.0).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            QLearningConfig(env="FrozenLake-v1", n_step=3),
            "n_step 3 is for one chain: take the loop host and num_envs 1$",
        ),
        (SarsaConfig(env="FrozenLake-v1", trace_decay=0.5), "trace_decay 0.5 is for one chain"),
        (DoubleQLearningConfig(env="FrozenLake-v1"), "double Q-learning is for one chain"),
        (LayeredQIterationConfig(env="FrozenLake-v1"), r"one after another: take the loop host and num_envs 1$"),
    ],
)
def test_rules_for_one_chain_are_refused(config: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Chains(config, *LAKE)


def test_chains_need_discrete_spaces() -> None:
    with pytest.raises(UserError, match="a tabular learner needs Discrete observations"):
        Chains(QLearningConfig(env="CartPole-v1"), CartPole().observation_space, CartPole().action_space)
