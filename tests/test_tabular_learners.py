"""Tabular learners and sampled models: held to plain Python, to numbers worked by hand and to the exact solution."""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from gymnasium import spaces

import rlkit
from rlkit import agents
from rlkit.agents.planning.planners import solve
from rlkit.agents.tabular import kernels
from rlkit.agents.tabular.config import TabularConfig
from rlkit.agents.tabular.tabular import Tabular
from rlkit.api.regret import Regret
from rlkit.cli import cli
from rlkit.envs.finite import FiniteEnv
from rlkit.envs.number_triangle import NumberTriangleEnv
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.sampling import WIDEST, Simulator, bits, fraction, simulator
from rlkit.interaction.vector import Environments, OneEnv
from rlkit.learning.agent import Clock
from rlkit.loops.tabular import TabularLoop
from rlkit.runs import curves
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Row

Outcome = tuple[float, int, float, bool]
"""Probability, next state, reward, whether the episode ends."""

Outcomes = list[list[list[Outcome]]]
"""[S][A][W]"""

LEARNERS = [name for name in agents.REGISTRY if issubclass(agents.config_class(name), TabularConfig)]


# ---- small models, as lists and as arrays


def model(outcomes: Outcomes, terminal: list[bool], start: list[float], **rest: Any) -> FiniteMDP:
    rows = list(itertools.chain.from_iterable(outcomes))
    flat = list(itertools.chain.from_iterable(rows))
    ends = [end and not terminal[to] for _, to, _, end in flat]
    return FiniteMDP(
        (np.cumsum([0, *map(len, rows)]), np.array([o[1] for o in flat]), np.array([o[0] for o in flat])),
        np.array([o[2] for o in flat]),
        terminal=terminal,
        terminated=ends if any(ends) else None,
        start=start,
        **rest,
    )


START = [0.5, 0.25, 0.25, 0.0, 0.0, 0.0]
ANYWHERE = [0.25, 0.25, 0.125, 0.125, 0.25, 0.0]


def six_states(seed: int = 0, gamma: float = 0.9, start: list[float] | None = None) -> tuple[Outcomes, FiniteMDP]:
    """Six states, the last terminal, three actions of three outcomes; one outcome ends in a state that is not."""
    rng = np.random.default_rng(seed)
    outcomes: Outcomes = []
    for s in range(6):
        outcomes.append([])
        for a in range(3):
            following = sorted(rng.choice(6, 3, replace=False).tolist())
            p = rng.permutation([0.5, 0.375, 0.125]).tolist()
            rewards = rng.normal(size=3).tolist()
            ends = [to == 5 or (s, a, k) == (1, 2, 0) for k, to in enumerate(following)]
            outcomes[s].append(list(zip(p, following, rewards, ends, strict=True)))
    return outcomes, model(outcomes, [False] * 5 + [True], start or START, gamma=gamma)


def layers(seed: int = 0) -> tuple[Outcomes, FiniteMDP]:
    """State 0, then one of 1 to 3, then one of 4 to 6, then the end, 7: three steps always; two actions."""
    rng = np.random.default_rng(seed)
    after = {0: [1, 2, 3], 1: [4, 5, 6], 4: [7]}
    outcomes: Outcomes = []
    for s in range(8):
        following = after[0 if s == 0 else 1 if s < 4 else 4]
        p = [0.5, 0.25, 0.25] if len(following) == 3 else [1.0]
        outcomes.append(
            [[(q, t, float(rng.normal()), t == 7) for q, t in zip(p, following, strict=True)] for _ in range(2)]
        )
    return outcomes, model(outcomes, [False] * 7 + [True], [1.0] + [0.0] * 7, gamma=0.9)


def make(name: str, size: tuple[int, int], **fields: Any) -> Tabular:
    """With a constant step size, but Monte Carlo by the mean, where no field says otherwise."""
    if name == "monte-carlo":
        fields = {"step_size_power": 1.0, **fields}
    elif name != "layered-q-iteration":
        fields = {"step_size_schedule": "constant", **fields}
    config = agents.config_class(name)(env="toy", **fields)
    return Tabular(cast("Any", config), spaces.Discrete(size[0]), spaces.Discrete(size[1]))


def learn(learner: Tabular, tables: Simulator | None, *until: int) -> Tabular:
    """From the first step in the model, in one call or several."""
    assert tables is not None
    learner.start(tables)
    for first, last in itertools.pairwise((0, *until)):
        learner.simulate(tables, first, last)
    return learner


# ---- the learners in plain Python


def draw(stream: np.uint64, count: int) -> float:
    return fraction(np.uint64(bits(stream, count)))


class TimeUp(Exception):  # noqa: N818 - no error
    """The reference has made its steps."""


class Reference:
    """The learners in the letters of Sutton and Barto's pseudo-code; of rlkit it takes random bits alone.

    Its draws are counted as the learners': of an action and of an outcome by the absolute step, of a first state by
    the episode, and of a double learner's coin by step x n + the number of rewards in the return.
    """

    def __init__(self, learner: Tabular, outcomes: Outcomes, start: list[float], limit: int, steps: int) -> None:
        self.c: Any = learner.config
        self.streams = learner.rule.exploration, learner.rule.coin, learner.rule.env, learner.rule.start
        self.outcomes, self.start, self.limit, self.steps = outcomes, start, limit, steps
        self.A = len(outcomes[0])
        self.t = self.episode = 0  # absolute
        self.tables = 2 if getattr(self.c, "double", False) else 1
        self.Q = [[[float(self.c.initial_value)] * self.A for _ in outcomes] for _ in range(self.tables)]
        self.N: Counter[tuple[int, int, int]] = Counter()

    def run(self, episode: Callable[[], None]) -> np.ndarray:
        try:
            while True:
                episode()
                self.episode += 1
        except TimeUp:
            return np.array(self.Q)

    # the env

    def begin(self) -> int:
        self.length = 0
        u, total = draw(self.streams[3], self.episode), 0.0
        for s, p in enumerate(self.start):
            total += p
            if u < total:
                return s
        raise AssertionError

    def step(self, s: int, a: int) -> tuple[int, float, bool, bool]:
        if self.t == self.steps:
            raise TimeUp
        u, total = draw(self.streams[2], self.t), 0.0
        self.t += 1
        self.length += 1
        for p, following, reward, ends in self.outcomes[s][a]:
            total += p
            if u < total:
                return following, reward, ends, not ends and self.length == self.limit
        raise AssertionError

    # the behaviour policy

    def scheduled(self, kind: str, start: float, end: float, share: float) -> float:
        if kind == "constant":
            return start
        share = min(share, 1.0)
        return float(start + share * (end - start) if kind == "linear" else start * (end / start) ** share)

    def epsilon(self) -> float:
        count = self.episode if self.c.epsilon_unit == "episode" else self.t
        share = count / self.c.epsilon_duration
        return self.scheduled(self.c.epsilon_decay, self.c.epsilon_start, self.c.epsilon_end, share)

    def values(self, s: int) -> list[float]:
        return [math.fsum(q[s][a] for q in self.Q) for a in range(self.A)]

    def best(self, values: list[float]) -> int:
        return values.index(max(values))

    def behave(self, s: int) -> int:
        random = int(bits(self.streams[0], self.t))
        high, low = random >> 32, random % 2**32
        values = self.values(s)
        explores = high / 2**32 < self.epsilon() or min(values) == max(values)
        return low * self.A // 2**32 if explores else self.best(values)

    def mean(self, s: int) -> float:
        """sum_a pi(a | s) q(s, a) of the epsilon-greedy policy."""
        q, e = self.Q[0][s], self.epsilon()
        return sum(e / self.A * x for x in q) + (1 - e) * max(q)

    def size(self, table: int, s: int, a: int) -> float:
        self.N[table, s, a] += 1
        return self.own_size(table, s, a)

    def own_size(self, table: int, s: int, a: int) -> float:
        """The step size of a pair as it is now; by visits a matter of the pair alone."""
        c, share = self.c, (self.t - 1) / self.c.step_size_duration
        if c.step_size_schedule == "visits":
            return float(1 / self.N[table, s, a] ** c.step_size_power)
        return self.scheduled(c.step_size_schedule, c.step_size, c.step_size_end, share)

    # the learners

    def n_step(self) -> None:
        """One episode, as on page 147 (n-step SARSA); n = 1 gives pages 130 (SARSA), 131 (Q-learning), 136 (double)."""
        n, sarsa = self.c.n_step, self.c.target == "sample"
        begun, end, t, terminated = self.t, math.inf, 0, False
        states, actions, rewards = [self.begin()], list[int](), [math.nan]
        if sarsa:
            actions.append(self.behave(states[0]))
        while True:
            if t < end:
                if not sarsa:
                    actions.append(self.behave(states[t]))
                following, reward, terminated, truncated = self.step(states[t], actions[t])
                states.append(following)
                rewards.append(reward)
                if terminated or truncated:
                    end = t + 1
                elif sarsa:
                    actions.append(self.behave(states[t + 1]))
            tau = t - n + 1
            if tau >= 0:
                last = int(min(tau + n, end))
                g = sum(self.c.gamma ** (i - tau - 1) * rewards[i] for i in range(tau + 1, last + 1))
                table = 0
                if self.tables == 2:
                    assert self.t - 1 == begun + min(t, end - 1)
                    table = int(bits(self.streams[1], (self.t - 1) * n + last - tau)) >> 63
                if last < end or not terminated:
                    g += self.c.gamma ** (last - tau) * self.after(table, states[last], actions[last : last + 1])
                q = self.Q[table][states[tau]]
                q[actions[tau]] += self.size(table, states[tau], actions[tau]) * (g - q[actions[tau]])
            if tau == end - 1:
                return
            t += 1

    def after(self, table: int, s: int, taken: list[int]) -> float:
        """The value of a state in which an action is taken, or none as the time is up."""
        q = self.Q[table][s]
        if self.tables == 2:
            return self.Q[1 - table][s][self.best(q)]
        if self.c.target == "max":
            return max(q)
        return q[taken[0]] if self.c.target == "sample" and taken else self.mean(s)

    def traces(self) -> None:
        """One episode of SARSA(lambda) or Watkins's Q(lambda), figures 7.11 and 7.14 of the first edition (1998)."""
        table, c = self.Q[0], self.c
        e = [[0.0] * self.A for _ in table]
        state = self.begin()
        action = self.behave(state)
        while True:
            following, reward, terminated, truncated = self.step(state, action)
            taken = [] if terminated or truncated else [self.behave(following)]
            value = 0.0 if terminated else self.after(0, following, taken)
            delta = reward + c.gamma * value - table[state][action]
            e[state][action] = 1.0 if c.traces == "replacing" else e[state][action] + 1
            self.N[0, state, action] += 1
            cut = c.target == "max" and taken and table[following][taken[0]] < max(table[following])
            for s, a in itertools.product(range(len(table)), range(self.A)):
                if e[s][a]:
                    table[s][a] += self.own_size(0, s, a) * delta * e[s][a]
                e[s][a] = 0.0 if cut else c.gamma * c.trace_decay * e[s][a]
            if not taken:
                return
            state, action = following, taken[0]

    def monte_carlo(self) -> None:
        """One episode, as on page 101 (first visit; without its condition, every visit)."""
        pairs, rewards, s = list[tuple[int, int]](), list[float](), self.begin()
        terminated = truncated = False
        while not (terminated or truncated):
            pairs.append((s, self.behave(s)))
            s, reward, terminated, truncated = self.step(*pairs[-1])
            rewards.append(reward)
        g = 0.0 if terminated else self.mean(s)
        for t in reversed(range(len(rewards))):
            g = self.c.gamma * g + rewards[t]
            if self.c.visits == "every" or pairs[t] not in pairs[:t]:
                s, a = pairs[t]
                self.Q[0][s][a] += self.size(0, s, a) * (g - self.Q[0][s][a])

    def layered(self) -> None:
        """One episode: random actions, but in the layer that is learned the action with the fewest trials."""
        if not self.episode:
            self.layer, self.targets = -1, {(s, a): list[float]() for s in range(8) for a in range(2)}
            self.met: list[set[int]] = []
        s, t, ended = self.begin(), 0, False
        while not ended:
            if t == self.layer:
                a = min(range(self.A), key=lambda a: len(self.targets[s, a]))
            else:
                a = int(bits(self.streams[0], self.t)) % 2**32 * self.A // 2**32
            following, reward, terminated, truncated = self.step(s, a)
            ended = terminated or truncated
            if len(self.met) == t:
                self.met.append(set())
            self.met[t].add(s)
            if t == self.layer:
                self.targets[s, a].append(reward + (0.0 if terminated else self.c.gamma * max(self.Q[0][following])))
                self.Q[0][s][a] = statistics.fmean(self.targets[s, a])
            s, t = following, t + 1
        if self.layer == -1:
            self.layer = t - 1
        elif all(len(self.targets[s, a]) >= self.c.trials for s in self.met[self.layer] for a in range(self.A)):
            self.layer -= 1
            if self.layer < 0:
                raise TimeUp


SCHEDULES: list[dict[str, Any]] = [
    {"step_size": 0.3, "epsilon_start": 0.4, "epsilon_end": 0.4},
    {
        "step_size": 0.5, "step_size_schedule": "linear", "step_size_end": 0.05, "step_size_duration": 400,
        "epsilon_start": 1.0, "epsilon_end": 0.2, "epsilon_duration": 300,
    },
    {
        "step_size": 0.5, "step_size_schedule": "exponential", "step_size_end": 0.05, "step_size_duration": 450,
        "epsilon_decay": "exponential", "epsilon_end": 0.05, "epsilon_unit": "episode", "epsilon_duration": 60,
    },
    {
        "step_size_schedule": "visits", "step_size_power": 0.7, "epsilon_unit": "episode", "epsilon_duration": 50.5,
        "epsilon_end": 0.3,
    },
    {"step_size_schedule": "visits", "step_size_power": 1.0, "epsilon_start": 0.7, "epsilon_end": 0.7},
]  # fmt: skip

BOOTSTRAPPING = ["q-learning", "double-q-learning", "sarsa", "expected-sarsa"]
LIMIT = 6
"""About a third of the episodes in the model of six states are cut off by it."""


def agrees(learner: Tabular, how: str, outcomes: Outcomes, start: list[float], limit: int, steps: int) -> Reference:
    """Whether the tables are the reference's after `steps`."""
    reference = Reference(learner, outcomes, start, limit, steps)
    expected = reference.run(getattr(reference, how))
    np.testing.assert_allclose(learner.tables.q, expected, rtol=0, atol=1e-12)
    assert np.abs(expected).max() > 0.1
    return reference


@pytest.mark.parametrize("fields", SCHEDULES, ids=range(len(SCHEDULES)))
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("name", BOOTSTRAPPING)
def test_learners_that_bootstrap_are_the_books(name: str, n_step: int, fields: dict[str, Any]) -> None:
    outcomes, mdp = six_states()
    learner = make(name, (6, 3), gamma=0.9, n_step=n_step, initial_value=0.25, seed=n_step, **fields)
    learn(learner, simulator(mdp, LIMIT), 600)
    reference = agrees(learner, "n_step", outcomes, START, LIMIT, 600)
    for (table, s, a), count in reference.N.items():
        assert learner.tables.visits[table, s, a] == count
    assert learner.episode == reference.episode


@pytest.mark.parametrize("fields", SCHEDULES, ids=range(len(SCHEDULES)))
@pytest.mark.parametrize("traces", ["accumulating", "replacing"])
@pytest.mark.parametrize("name", ["q-learning", "sarsa", "expected-sarsa"])
def test_learners_with_traces_are_the_books(name: str, traces: str, fields: dict[str, Any]) -> None:
    outcomes, mdp = six_states()
    for trace_decay, initial in ((0.8, 0.0), (1.0, 0.25)):
        how = {"trace_decay": trace_decay, "traces": traces, "initial_value": initial, **fields}
        learner = learn(make(name, (6, 3), gamma=0.9, **how), simulator(mdp, LIMIT), 600)
        agrees(learner, "traces", outcomes, START, LIMIT, 600)


@pytest.mark.parametrize("fields", SCHEDULES, ids=range(len(SCHEDULES)))
@pytest.mark.parametrize("visits", ["first", "every"])
def test_monte_carlo_is_the_books(visits: str, fields: dict[str, Any]) -> None:
    outcomes, mdp = six_states()
    learner = make("monte-carlo", (6, 3), gamma=0.9, visits=visits, initial_value=0.25, **fields)
    learn(learner, simulator(mdp, LIMIT), 600)
    agrees(learner, "monte_carlo", outcomes, START, LIMIT, 600)


def test_layered_q_iteration_is_the_mean_and_variance_of_trials() -> None:
    outcomes, mdp = layers()
    learner = learn(make("layered-q-iteration", (8, 2), gamma=0.9, trials=7), simulator(mdp), 100_000)
    reference = agrees(learner, "layered", outcomes, [1.0] + [0.0] * 7, 0, 100_000)
    assert learner.complete
    assert reference.t < 1_000
    variance = learner.variance()
    for (s, a), targets in reference.targets.items():
        assert learner.tables.visits[0, s, a] == len(targets) >= (7 if s < 7 else 0)
        if s < 7:
            assert variance[s, a] == pytest.approx(statistics.variance(targets), abs=1e-12)
    assert np.isnan(variance[7]).all()
    assert learner.tables.layer.tolist() == [0, 1, 1, 1, 2, 2, 2, -1]


def test_faint_traces_change_nothing_that_can_be_seen() -> None:
    # Episodes of up to 200 steps, in which (gamma lambda)^k falls below 1e-8 after 26 steps. What is forgotten is at
    # most step size x error x 1e-8 / (1 - gamma lambda) an update; 2,000 of them with errors below 10 are 0.3 x 1e-4.
    outcomes, mdp = six_states()
    outcomes = [[[(p, to % 5, r, False) for p, to, r, _ in row] for row in rows] for rows in outcomes]
    mdp = model(outcomes, [False] * 6, START, gamma=0.7)
    learner = make("sarsa", (6, 3), gamma=0.7, trace_decay=0.7, epsilon_start=1.0, epsilon_end=1.0)
    learn(learner, simulator(mdp, 200), 2_000)
    reference = Reference(learner, outcomes, START, 200, 2_000)
    np.testing.assert_allclose(learner.tables.q, reference.run(reference.traces), atol=1e-6)


def test_a_long_episode_of_monte_carlo_gets_the_memory_that_it_needs() -> None:
    # One state, reward 1, no end but the limit of 5,000 steps: far more than the 1,024 that are kept at first.
    # Undiscounted returns of the k-th step are 5,000 - k; then the mean value, 0 at first, of the state. Every visit's
    # mean is 2,500.5; the first visit's return is 5,000.
    mdp = model([[[(1.0, 0, 1.0, False)]]], [False], [1.0], gamma=0.5)
    for visits, mean in (("every", 2_500.5), ("first", 5_000.0)):
        learner = make("monte-carlo", (1, 1), gamma=1.0, visits=visits)
        learn(learner, simulator(mdp, 5_000), 5_000)
        assert learner.tables.q[0, 0, 0] == pytest.approx(mean, rel=1e-12)
        assert len(learner.memory.states) >= 5_000


# ---- updates worked by hand: step size 1/2, discount 1/2

HALF: dict[str, Any] = {"gamma": 0.5, "step_size": 0.5, "epsilon_start": 0.0, "epsilon_end": 0.0}
UNIFORM: dict[str, Any] = {**HALF, "epsilon_start": 1.0, "epsilon_end": 1.0}
SPLIT: dict[str, Any] = {**HALF, "epsilon_start": 0.5, "epsilon_end": 0.5}


# q(1, .) = (2, 5), reward 3, from state 0 with q(0, 0) = 0:
#   terminated: target 3, so q(0, 0) = 3/2 for all
#   q-learning: 3 + 5/2 = 11/2, half of it 11/4, truncated or not
#   sarsa, greedy, takes action 1: the same 11/4; where truncated no action is taken, and a greedy mean is 5 again
#   sarsa, uniform, truncated: the mean is 7/2, 3 + 7/4 = 19/4, half of it 19/8
#   expected sarsa, epsilon 1/2: 7/4 + 5/2 = 17/4, 3 + 17/8 = 41/8, half of it 41/16; uniform 19/8
@pytest.mark.parametrize(
    ("name", "fields", "terminated", "truncated", "expected"),
    [
        ("q-learning", HALF, True, False, 3 / 2),
        ("sarsa", HALF, True, False, 3 / 2),
        ("expected-sarsa", HALF, True, False, 3 / 2),
        ("q-learning", HALF, False, False, 11 / 4),
        ("q-learning", UNIFORM, False, True, 11 / 4),
        ("sarsa", HALF, False, False, 11 / 4),
        ("sarsa", HALF, False, True, 11 / 4),
        ("sarsa", UNIFORM, False, True, 19 / 8),
        ("expected-sarsa", SPLIT, False, False, 41 / 16),
        ("expected-sarsa", SPLIT, False, True, 41 / 16),
        ("expected-sarsa", UNIFORM, False, False, 19 / 8),
        ("q-learning", {**HALF, "trace_decay": 0.5}, False, False, 11 / 4),
        ("expected-sarsa", {**SPLIT, "trace_decay": 0.5}, False, False, 41 / 16),
        ("sarsa", {**UNIFORM, "trace_decay": 0.5}, False, True, 19 / 8),
    ],
)
def test_one_update_by_hand(
    name: str, fields: dict[str, Any], terminated: bool, truncated: bool, expected: float
) -> None:
    learner = make(name, (2, 2), **fields)
    learner.tables.q[0, 1] = [2, 5]
    learner.begin(0)
    learner.observe(0, 3.0, 1, terminated, truncated, 0)
    assert learner.tables.q.tolist() == [[[expected, 0], [2, 5]]]
    assert learner.sums.tolist() == [*([3, 1, 1] if terminated or truncated else [0, 0, 0]), 2 * expected, 1]
    assert learner.episode == int(terminated or truncated)


def test_sarsa_takes_the_action_that_it_learned_from() -> None:
    # q(1, .) = (2, 5): the target of action 0 is 3 + 1, of action 1 3 + 5/2; half of them 2 and 11/4.
    seen = set()
    for step in range(20):
        learner = make("sarsa", (2, 2), **UNIFORM)
        learner.tables.q[0, 1] = [2, 5]
        learner.begin(0)
        learner.observe(0, 3.0, 1, False, False, step)
        action = learner.choose(step + 1)
        assert learner.tables.q[0, 0, 0] == (2, 11 / 4)[action]
        seen.add(action)
    assert seen == {0, 1}


def test_double_q_learning_by_hand() -> None:
    # q1(1, .) = (4, 2), q2(1, .) = (10, 20), reward 3. Table 1 prefers action 0, worth 10 by table 2: 3 + 5 = 8, half
    # of it 4. Table 2 prefers action 1, worth 2 by table 1: 3 + 1 = 4, half of it 2.
    updated = Counter[int]()
    for step in range(400):
        learner = make("double-q-learning", (2, 2), **HALF)
        learner.tables.q[:, 1] = [[4, 2], [10, 20]]
        learner.begin(0)
        learner.observe(0, 3.0, 1, False, bool(step % 2), step)
        (table,) = np.flatnonzero(learner.tables.visits[:, 0, 0])
        assert learner.tables.q[:, 0, 0].tolist() == [[4, 0], [0, 2]][table]
        updated[int(table)] += 1
    # 200 of 400 fair coins, with a standard deviation of 10: another seed fails once in 15,000 times.
    assert abs(updated[0] - 200) < 40


def test_a_double_learner_acts_by_both_tables() -> None:
    learner = make("double-q-learning", (2, 3), **HALF)
    learner.tables.q[:, 0] = [[1, 4, 3], [5, 0, 2.5]]  # sums 6, 4, 5.5
    learner.tables.q[:, 1] = [[0, 1, 0], [0, -1, 0]]  # sums 0: the first of equals
    learner.publish()
    learner.begin(0)
    assert learner.choose(0) == 0
    clock = Clock(tf.constant(0, tf.int64), tf.constant(0, tf.int64))
    assert learner.act(tf.constant([0, 1]), clock, explore=False).numpy().tolist() == [0, 0]


def test_two_step_returns_by_hand() -> None:
    # Rewards 1 and 2, then q(2, .) = (0, 8): 1 + 2/2 + 8/4 = 4, half of it 2. The episode then ends with reward 4:
    # (1, 0) gets 2 + 4/2 = 4, half of it 2, and (2, 1) moves half of the way from 8 to 4: 6.
    learner = make("q-learning", (4, 2), n_step=2, **HALF)
    learner.tables.q[0, 2] = [0, 8]
    learner.begin(0)
    learner.observe(0, 1.0, 1, False, False, 0)
    assert not learner.tables.visits.any()
    learner.observe(0, 2.0, 2, False, False, 1)
    assert learner.tables.q[0, :, 0].tolist() == [2, 0, 0, 0]
    learner.observe(1, 4.0, 3, True, False, 2)
    assert learner.tables.q[0].tolist() == [[2, 0], [2, 0], [0, 6], [0, 0]]


# With lambda 1/2 an eligibility falls to a quarter a step. (0, 0), (0, 0), then (1, 0) with reward 4 and the end: the
# error is 4, and half of it is 2. Accumulating: (0, 0) has (1/4 + 1) / 4 = 5/16, replacing: 1/4.
@pytest.mark.parametrize(("traces", "expected"), [("accumulating", 10 / 16), ("replacing", 1 / 2)])
@pytest.mark.parametrize("name", ["q-learning", "sarsa", "expected-sarsa"])
def test_traces_by_hand(name: str, traces: str, expected: float) -> None:
    learner = make(name, (3, 2), trace_decay=0.5, traces=traces, **HALF)
    learner.begin(0)
    learner.observe(0, 0.0, 0, False, False, 0)
    learner.observe(0, 0.0, 1, False, False, 1)
    learner.observe(0, 4.0, 2, True, False, 2)
    assert learner.tables.q[0].tolist() == [[expected, 0], [2, 0], [0, 0]]


# By visits with exponent 1: the first error, 2, sets q(0, 0) = 2 at 1/1. Back in (0, 0), the error is -2, and 1/2 of it
# leaves 1. Then (1, 0), new, pays 4: it moves by 1/1 of 4, and (0, 0) by its own 1/2 of 4 x its eligibility.
# Accumulating, that is 1/4 (1/4 + 1) = 5/16, but (0, 0) then moved by 5/4 x 1/2 x -2 before: 3/4 + 5/8. Replacing, it
# is 1/4: 1 + 1/2.
@pytest.mark.parametrize(("traces", "expected"), [("accumulating", 3 / 4 + 5 / 8), ("replacing", 3 / 2)])
@pytest.mark.parametrize("name", ["q-learning", "sarsa", "expected-sarsa"])
def test_traces_move_each_pair_by_its_own_step_size(name: str, traces: str, expected: float) -> None:
    by_visits = {**HALF, "step_size_schedule": "visits", "step_size_power": 1.0}
    learner = make(name, (3, 2), trace_decay=0.5, traces=traces, **by_visits)
    learner.begin(0)
    learner.observe(0, 2.0, 2, False, False, 0)
    learner.memory.numbers[kernels.STATE] = 0  # state 2 is worth nothing, and leads back
    learner.observe(0, 0.0, 1, False, False, 1)
    learner.observe(0, 4.0, 2, True, False, 2)
    assert learner.tables.q[0].tolist() == [[expected, 0], [4, 0], [0, 0]]


@pytest.mark.parametrize("traces", ["accumulating", "replacing"])
@pytest.mark.parametrize("name", ["q-learning", "sarsa", "expected-sarsa"])
def test_traces_by_visits_stay_within_what_is_possible(name: str, traces: str) -> None:
    # A drop-off pays 20 and ends; a step costs 1 or 10: at most 20 and, discounted, at least -10 / (1 - 0.99).
    mdp = FiniteMDP.from_env("Taxi-v4", gamma=0.99)
    learner = make(name, (500, 6), trace_decay=0.9, traces=traces, gamma=0.99)
    q = learn(learner, simulator(mdp, 200), 400_000).tables.q[0]
    assert 19.9 < q.max() <= 20 + 1e-9
    assert q.min() >= -1_000
    lost = solve(mdp).values - mdp.policy_values(q.argmax(axis=1))
    assert mdp.start @ lost < 0.6  # 0.01 to 0.47; 27.9 and more where all pairs moved by the last one's step size


@pytest.mark.parametrize(("name", "cuts"), [("q-learning", True), ("sarsa", False), ("expected-sarsa", False)])
@pytest.mark.parametrize("tie", [False, True])
def test_watkins_forgets_what_came_before_an_action_that_is_not_greedy(name: str, cuts: bool, tie: bool) -> None:
    # Action 1 is taken in state 1, where q(1, .) = (8, 0), or (0, 0) in a tie, and pays 4 at the end.
    step = -1
    while True:
        step += 1
        learner = make(name, (3, 2), trace_decay=0.5, **UNIFORM)
        learner.tables.q[0, 1, 0] = 0 if tie else 8
        learner.begin(0)
        learner.observe(0, 0.0, 1, False, False, step)
        if learner.choose(step + 1) == 1:
            break
    before = learner.tables.q[0, 0, 0]
    learner.observe(1, 4.0, 2, True, False, step + 1)
    assert learner.tables.q[0, 1, 1] == 2
    # half of 4, by an eligibility of 1/4, or nothing
    assert learner.tables.q[0, 0, 0] - before == (0 if cuts and not tie else 1 / 2)


# (0, 0) pays 1 and stays, (0, 0) pays 4 and leads to state 1, q(1, .) = (2, 6). Terminated: returns 1 + 4/2 = 3 and 4.
# Truncated, uniform: the mean of state 1 is 4, so the returns are 6 and 4. By step size 1/2, the last one first: 4
# gives 2, then 3 gives 5/2; and 6 gives 3, then 4 gives 7/2.
@pytest.mark.parametrize(
    ("visits", "schedule", "truncated", "expected"),
    [
        ("first", "visits", False, 3), ("every", "visits", False, 7 / 2), ("first", "visits", True, 4),
        ("every", "visits", True, 5), ("first", "constant", False, 3 / 2), ("every", "constant", False, 5 / 2),
        ("first", "constant", True, 2), ("every", "constant", True, 7 / 2),
    ],
)  # fmt: skip
def test_monte_carlo_by_hand(visits: str, schedule: str, truncated: bool, expected: float) -> None:
    learner = make("monte-carlo", (2, 2), visits=visits, step_size_schedule=schedule, **UNIFORM)
    learner.tables.q[0, 1] = [2, 6]
    learner.begin(0)
    learner.observe(0, 1.0, 0, False, False, 10)
    assert learner.tables.q[0, 0, 0] == 0
    learner.observe(0, 4.0, 1, not truncated, truncated, 11)
    assert learner.tables.q[0].tolist() == [[expected, 0], [2, 6]]


def test_an_episode_that_begins_anew_forgets_the_one_before() -> None:
    # As after a resume of an env whose state could not be saved: nothing leads from one episode to the other.
    for name, fields in (("q-learning", {"n_step": 2}), ("sarsa", {"trace_decay": 0.5}), ("monte-carlo", {})):
        learner = make(name, (4, 2), **HALF, **fields)
        learner.begin(0)
        learner.observe(0, 8.0, 1, False, False, 0)
        before = learner.tables.q[0, 0].tolist()
        learner.begin(2)
        learner.observe(1, 4.0, 3, True, False, 1)
        assert learner.tables.q[0, 0].tolist() == before, name
        assert learner.sums[[kernels.RETURNS, kernels.LENGTHS, kernels.ENDED]].tolist() == [4, 1, 1]


# ---- one code, called in different ways


def everything(learner: Tabular) -> dict[str, bytes]:
    """What must be the same to the bit; the statistics may be added up in another order.

    Nothing is looked up in a memory of one step, which fast Q-learning therefore does not fill.
    """
    left_out = {"learner.sums"}
    if len(learner.memory.states) == 1:
        left_out |= {"memory.states", "memory.actions", "memory.rewards"}
    return {k: v.tobytes() for k, v in learner.state().items() if k not in left_out}


@pytest.mark.parametrize("size", SCHEDULES, ids=range(len(SCHEDULES)))
@pytest.mark.parametrize("epsilon", SCHEDULES, ids=range(len(SCHEDULES)))
def test_fast_q_learning_is_q_learning_to_the_bit(size: dict[str, Any], epsilon: dict[str, Any]) -> None:
    fields = {k: v for k, v in size.items() if k.startswith("step")}
    fields |= {k: v for k, v in epsilon.items() if k.startswith("epsilon")}
    _, mdp = six_states()
    for limit, initial in ((LIMIT, 0.0), (0, 3.0)):
        tables = simulator(mdp, limit)
        assert tables is not None
        slow, fast = (make("q-learning", (6, 3), gamma=0.9, initial_value=initial, **fields) for _ in range(2))
        slow.start(tables)
        kernels.simulate(slow.rule, slow.tables, slow.memory, tables, 0, 3_000, slow.sums)
        learn(fast, tables, 3_000)
        assert slow.tables.q.tobytes() == fast.tables.q.tobytes()
        assert (slow.tables.visits == fast.tables.visits).all()
        assert slow.memory.numbers.tolist() == fast.memory.numbers.tolist()
        assert slow.memory.total.tolist() == fast.memory.total.tolist()
        np.testing.assert_allclose(slow.sums, fast.sums, rtol=1e-12)


KINDS: list[tuple[str, dict[str, Any]]] = [
    *[(name, {"n_step": n}) for name in BOOTSTRAPPING for n in (1, 3)],
    *[(name, {"trace_decay": 0.7}) for name in BOOTSTRAPPING if name != "double-q-learning"],
    ("monte-carlo", {}),
    ("monte-carlo", {"visits": "every", "step_size_schedule": "constant"}),
]


@pytest.mark.parametrize(("name", "fields"), KINDS, ids=str)
def test_many_calls_are_one_call(name: str, fields: dict[str, Any]) -> None:
    _, mdp = six_states()
    tables = simulator(mdp, LIMIT)
    fields = {"epsilon_duration": 500.0, **fields}
    whole = learn(make(name, (6, 3), **fields), tables, 2_000)
    parts = learn(make(name, (6, 3), **fields), tables, 1, 2, 5, 500, 501, 1_999, 2_000)
    assert everything(whole) == everything(parts)
    np.testing.assert_allclose(whole.sums, parts.sums, rtol=1e-12)
    other = make(name, (6, 3), **fields)
    assert tables is not None
    other.restore(learn(make(name, (6, 3), **fields), tables, 700).state())
    other.simulate(tables, 700, 2_000)
    assert everything(whole) == everything(other)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_seed_decides(name: str) -> None:
    _, mdp = layers()
    fields = {"trials": 5} if name == "layered-q-iteration" else {}
    first, same, other = (learn(make(name, (8, 2), seed=seed, **fields), simulator(mdp), 500) for seed in (3, 3, 4))
    assert everything(first) == everything(same)
    assert (first.tables.q != other.tables.q).any()


class Nowhere:
    """Keeps no checkpoints."""

    def save(self, step: int, state: object) -> None: ...

    def keep_best(self, step: int, score: float | None) -> None: ...

    def write_best(self) -> None: ...


class Rows:
    def __init__(self) -> None:
        self.rows: list[dict[str, float | None]] = []

    def row(self, step: int, row: Row, seconds: float) -> None:
        del seconds
        self.rows.append({"step": step, **row})

    def evaluation(self, *_: object) -> None: ...


def in_a_loop(
    learner: Tabular, source: Simulator | Callable[[], gymnasium.Env[Any, Any]]
) -> list[dict[str, float | None]]:
    """Train in the loop that runs use, in a model or in an env; the rows of metrics."""
    rows = Rows()
    where = source if isinstance(source, Simulator) else Environments(OneEnv(source), learner.config.seed)
    loop = TabularLoop(learner, where, cast("Checkpointer", Nowhere()), None, [rows])
    assert loop.run() == "finished"
    return rows.rows


def without_chance(gamma: float = 0.9) -> FiniteMDP:
    """Six states in a ring, two steps forwards or one back; 5 is terminal, and the way back from 0 ends in 4."""
    outcomes: Outcomes = [
        [[(1.0, (s + by) % 6, s - 2.5 * by, (s + by) % 6 == 5 or (s, by) == (0, 4))] for by in (2, 5, 4)]
        for s in range(6)
    ]
    return model(outcomes, [False] * 5 + [True], [1.0] + [0.0] * 5, gamma=gamma, horizon=5)


@pytest.mark.parametrize(("name", "fields"), [*KINDS, ("layered-q-iteration", {"trials": 5})], ids=str)
def test_where_nothing_is_left_to_chance_env_and_model_agree_to_the_bit(name: str, fields: dict[str, Any]) -> None:
    # Also in what terminates, what is truncated and where episodes begin.
    mdp = without_chance()
    if name == "layered-q-iteration":
        # two actions lead from layer to layer of a triangle, and never back
        mdp = FiniteMDP.from_env(NumberTriangleEnv([[1], [2, 3], [4, 5, 6], [7, 8, 9, 10]]), gamma=0.9)
    tables = simulator(mdp)
    assert tables is not None
    both = [make(name, (mdp.states, mdp.actions), steps=1_500, log_interval=500, **fields) for _ in range(2)]
    simulated, stepped = in_a_loop(both[0], tables), in_a_loop(both[1], lambda: FiniteEnv(mdp))
    assert everything(both[0]) == everything(both[1])
    assert len(simulated) == len(stepped)
    for mine, other in zip(simulated, stepped, strict=True):
        assert mine == pytest.approx(other, rel=1e-12)
    assert len(simulated) == 3 or name == "layered-q-iteration"


def test_rows_of_metrics_are_means_and_schedules() -> None:
    # A state that pays 2 a step for 4 steps, then the time is up; step size 1, discount 0: the first error is 2, all
    # others are 0. Epsilon falls in a straight line from 1 to 1/2 over 20 steps, the step size from 1 to 1/2 over 16.
    mdp = model([[[(1.0, 0, 2.0, False)]]], [False], [1.0], gamma=0.5)
    learner = make(
        "q-learning", (1, 1), gamma=0.0, steps=16, log_interval=8, step_size=1.0, step_size_schedule="linear",
        step_size_end=0.5, step_size_duration=16, epsilon_end=0.5, epsilon_duration=20.0,
    )  # fmt: skip
    tables = simulator(mdp, 4)
    assert tables is not None
    same = {"episode_return": 8, "episode_length": 4}
    assert in_a_loop(learner, tables) == [
        {"step": 8, "episode": 2, "updates": 8, "epsilon": 0.8, "learning_rate": 0.75, "td_error": 0.25, **same},
        {"step": 16, "episode": 4, "updates": 16, "epsilon": 0.6, "learning_rate": 0.5, "td_error": 0, **same},
    ]


def frozen_lake() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("FrozenLake-v1", max_episode_steps=10)


def z_score(first: np.ndarray, second: np.ndarray) -> float:
    return float(
        (first.mean() - second.mean()) / np.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
    )


def test_env_and_model_are_samples_of_one_distribution() -> None:
    # Means over 60 seeds of: the value of the start, of all states, and the mean return and length of episodes. Each
    # pair of means is over 4.4 standard errors apart once in 100,000 times: a false alarm for 4 in 25,000 choices of
    # seeds. That this tells models apart is shown with one of no limit.
    mdp = FiniteMDP.from_env("FrozenLake-v1", gamma=0.9)

    def statistics_of(source: Any) -> np.ndarray:
        found = []
        for seed in range(60):
            learner = make(
                "q-learning", (16, 4), gamma=0.9, seed=seed, steps=1_500, log_interval=1_500, initial_value=0.5,
                epsilon_duration=1_000.0,
            )  # fmt: skip
            (row,) = in_a_loop(learner, source)
            values = learner.tables.q[0].max(axis=1)
            found.append([values[0], values.mean(), row["episode_return"], row["episode_length"]])
        return np.array(found, np.float64).T

    limited, unlimited = simulator(mdp, 10), simulator(mdp, 0)
    stepped, simulated, other = map(statistics_of, (frozen_lake, limited, unlimited))
    assert [abs(z_score(a, b)) < 4.4 for a, b in zip(stepped, simulated, strict=True)] == [True] * 4
    assert max(abs(z_score(a, b)) for a, b in zip(stepped, other, strict=True)) > 10


# ---- convergence

GENTLE: dict[str, Any] = {"step_size_schedule": "visits", "step_size_power": 0.8, "gamma": 0.8}
RANDOM: dict[str, Any] = {**GENTLE, "epsilon_start": 1.0, "epsilon_end": 1.0}


def noise(mdp: FiniteMDP, outcomes: Outcomes, values: np.ndarray) -> float:
    """Largest standard deviation of reward + gamma value over the outcomes of an action."""
    deviations = []
    for row in itertools.chain.from_iterable(outcomes[:5]):
        p, targets = np.array([o[0] for o in row]), [o[2] + mdp.gamma * (not o[3]) * values[o[1]] for o in row]
        deviations.append(math.sqrt(p @ (np.array(targets) - p @ targets) ** 2))
    return max(deviations)


def uniform_values(mdp: FiniteMDP, outcomes: Outcomes) -> np.ndarray:
    """q of the uniformly random policy, [S, A], by linear equations in the values of the five states."""
    system, right = np.eye(6), np.zeros(6)
    for s in range(5):
        for p, to, reward, ends in itertools.chain.from_iterable(outcomes[s]):
            right[s] += p * reward / 3
            system[s, to] -= 0.0 if ends else mdp.gamma * p / 3
    values = np.linalg.solve(system, right)
    return np.array(
        [
            [sum(p * (r + mdp.gamma * (not e) * values[to]) for p, to, r, e in row) for row in rows]
            for rows in outcomes[:5]
        ]
    )


@pytest.mark.parametrize(
    ("name", "fields", "optimal"),
    [
        ("q-learning", {}, True), ("double-q-learning", {}, True), ("sarsa", {}, False), ("expected-sarsa", {}, False),
        ("sarsa", {"n_step": 3}, False), ("sarsa", {"trace_decay": 0.5}, False), ("monte-carlo", {}, False),
        ("monte-carlo", {"visits": "every"}, False),
    ],
    ids=str,
)  # fmt: skip
def test_learners_converge_to_the_exact_solution(name: str, fields: dict[str, Any], optimal: bool) -> None:
    # An update with step size alpha has noise of standard deviation sigma in its target; the mean over the last
    # 1 / alpha updates leaves sigma sqrt(alpha / 2), and bootstrapping multiplies that by at most 1 / (1 - gamma),
    # also for targets of several rewards, whose noise is a discounted sum. Five of these deviations for each of 15
    # values: a false alarm for one choice of seeds in 100,000. The double learner's tables get half of the updates.
    outcomes, mdp = six_states(seed=5, gamma=0.8, start=ANYWHERE)
    learner = learn(make(name, (6, 3), **RANDOM, **fields), simulator(mdp), 3_000_000)
    values = solve(mdp, tolerance=1e-10).values
    exact = mdp.q_values(values)[:5] if optimal else uniform_values(mdp, outcomes)
    if not optimal:
        values = np.append(exact.mean(axis=1), 0.0)
    fewest = learner.tables.visits[:, :5].min()
    assert fewest > 10_000
    bound = 5 * noise(mdp, outcomes, values) * math.sqrt(fewest**-0.8 / 2) / (1 - 0.8)
    assert bound < 0.5
    assert np.abs(learner.tables.q[:, :5] - exact).max() < bound
    if optimal:
        assert (learner.tables.q.mean(axis=0)[:5].argmax(axis=1) == exact.argmax(axis=1)).all()


# ---- layered Q iteration on the number triangle

NOTES = [[1], [1, 2], [1, 2, 1]]


@pytest.fixture
def triangle(tmp_path: Path) -> str:
    """The triangle of the hand example, as a file."""
    path = tmp_path / "notes.txt"
    path.write_text("1\n1 2\n1 2 1\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("simulate", ["model", "env"])
def test_layered_q_iteration_on_the_hand_example(triangle: str, simulate: str, tmp_path: Path) -> None:
    # Slip 1/4. From (1, 0): to 1 with 3/4 and to 2 with 1/4, or the other way round: 5/4 and 7/4. From (1, 1): to 2
    # and 1: 7/4 and 5/4. The top then is 1 + 3/4 (1 + 7/4) + 1/4 (2 + 7/4) = 1 + 3, or 1 + 1/4 (1 + 7/4) + 3/4 (2 +
    # 7/4) = 1 + 7/2. Targets differ by 1 between the two outcomes, so their variance is 3/16. Means of K trials are
    # within 5 sqrt(3 / 16 K) once in 2 million times each; for the top come the errors of the layer below.
    trials = 20_000 if simulate == "model" else 1_000
    run = rlkit.train(
        "layered-q-iteration", "rlkit/NumberTriangle-v0", env_args={"triangle": triangle, "slip": 0.25},
        run_dir=tmp_path / "runs", trials=trials, gamma=1.0, simulate=simulate, eval_interval=100_000,
    )  # fmt: skip
    assert run.status == "finished"
    agent, step = run.agent("last")
    # Two actions in the top: exactly K each, two steps an episode. Below, until the last of two cells has its 2 K:
    # one of them comes up in half of the episodes.
    assert step < 2 * (1 + 2 * trials + 1.2 * 4 * trials) < run.config.steps
    assert isinstance(agent, Tabular)
    bound = 5 * math.sqrt(3 / 16 / trials)
    q = agent.q.numpy()[0]
    np.testing.assert_allclose(q[1:3], [[1.25, 1.75], [1.75, 1.25]], rtol=0, atol=bound)
    np.testing.assert_allclose(q[0], [3 + 1, 3.5 + 1], rtol=0, atol=2 * bound)
    assert (q[3:] == 0).all()
    with (run.path / "evaluations.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert int(last["step"]) == step
    assert float(last["regret"]) == 0


@pytest.mark.parametrize("simulate", ["model", "env"])
@pytest.mark.parametrize("env", ["FrozenLake-v1", "rlkit/Garnet-v0"])
def test_layered_q_iteration_refuses_what_has_no_layers(env: str, simulate: str, tmp_path: Path) -> None:
    # FrozenLake's episodes end when they will; a Garnet's all last 100 steps, but states come back.
    with pytest.raises(UserError, match=r"^layered-q-iteration needs an env whose episodes all have the same length"):
        rlkit.train("layered-q-iteration", env, run_dir=tmp_path, simulate=simulate, steps=10_000)


# ---- spaces and configs


def test_states_and_actions_may_start_anywhere() -> None:
    config = agents.config_class("q-learning")(env="toy")
    learner = Tabular(cast("Any", config), spaces.Discrete(3, start=5), spaces.Discrete(2, start=-1))
    learner.tables.q[0] = [[1, 2], [4, 3], [5, 6]]
    clock = Clock(tf.constant(0, tf.int64), tf.constant(0, tf.int64))
    assert learner.act(tf.constant([5, 6, 7]), clock, explore=False).numpy().tolist() == [-1, -1, -1], "not published"
    learner.publish()
    assert learner.act(tf.constant([5, 6, 7]), clock, explore=False).numpy().tolist() == [0, -1, 0]


class Shifted(gymnasium.Env[Any, Any]):
    """Ten steps in state 7 of 6 to 8, where action -1 of -2 to 0 pays 1."""

    observation_space = spaces.Discrete(3, start=6)
    action_space = spaces.Discrete(3, start=-2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 10
        return 7, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.left -= 1
        return 7, float(action == -1), False, self.left == 0, {}


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "layered-q-iteration"])
def test_a_loop_counts_states_and_actions_from_where_they_start(name: str) -> None:
    config: Any = agents.config_class(name)
    learner = Tabular(
        config(env="toy", gamma=0.0, steps=500, epsilon_end=1.0), Shifted.observation_space, Shifted.action_space
    )
    in_a_loop(learner, Shifted)
    q = learner.tables.q.sum(axis=0)
    assert q[1, 1] > 0.5
    assert np.abs(q).sum() == q[1, 1]


@pytest.mark.parametrize(
    ("observations", "actions", "told"),
    [
        (spaces.Box(-1, 1, (3,)), spaces.Discrete(2), r"a tabular learner needs Discrete observations.*: take dqn$"),
        (spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (1,)), r"needs Discrete observations.* not Box[^:]*float32\)$"),
        (spaces.MultiDiscrete([2, 2]), spaces.Discrete(2), r"needs Discrete observations.* MultiDiscrete\(\[2 2\]\)$"),
        (spaces.Discrete(2), spaces.Box(-1, 1, (1,)), r"needs Discrete actions.* not Box[^:]*float32\)$"),
    ],
)
def test_other_spaces_are_refused(observations: Any, actions: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Tabular(cast("Any", agents.config_class("sarsa")(env="toy")), observations, actions)


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("q-learning", {"num_envs": 2}, "num_envs is 2, expected 1: only the compiled loop learns from several"),
        ("layered-q-iteration", {"num_envs": 2}, "num_envs is 2, expected 1"),
        ("sarsa", {"trace_decay": 0.5, "n_step": 2}, "trace_decay is 0.5 and n_step 2: expected one of them alone"),
        ("double-q-learning", {"trace_decay": 0.5}, "trace_decay is for one table: take q-learning"),
        ("q-learning", {"epsilon_decay": "exponential", "epsilon_end": 0.0}, "epsilon_end is 0, expected above 0"),
        ("monte-carlo", {"epsilon_decay": "exponential", "epsilon_start": 0}, "epsilon_start is 0, expected above 0"),
        ("q-learning", {"step_size": 0.0}, "step_size is 0"),
        ("q-learning", {"step_size": 1.5}, "step_size is 1.5"),
        ("q-learning", {"gamma": 1.5}, "gamma is 1.5"),
        ("sarsa", {"trace_decay": 1.5}, "trace_decay is 1.5"),
        ("q-learning", {"simulate": "modle"}, "simulate is 'modle'"),
        ("layered-q-iteration", {"trials": 0}, "trials is 0"),
    ],
)
def test_configs_that_cannot_be_are_refused(name: str, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refused:
        agents.config_class(name)(env="toy", **fields)
    assert str(refused.value).startswith(told)


def test_epsilon_may_fall_to_zero_in_a_straight_line() -> None:
    assert make("q-learning", (1, 1), epsilon_end=0.0).rule.epsilon.end == 0


class NoModel(gymnasium.Env[Any, Any]):
    """A Discrete env that says nothing about itself."""

    observation_space = action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 1, float(action), True, False, {}


gymnasium.register("test/NoModel-v0", entry_point=cast("Any", NoModel))
SHORT: dict[str, Any] = {"steps": 200, "eval_interval": 200, "eval_episodes": 2}


def test_a_model_that_is_not_there_is_refused_or_done_without(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="simulate is model, but env 'test/NoModel-v0' has none that can be sampled"):
        rlkit.train("q-learning", "test/NoModel-v0", run_dir=tmp_path, simulate="model", **SHORT)
    assert list(tmp_path.iterdir()) == []
    said: list[str] = []
    run = rlkit.train("q-learning", "test/NoModel-v0", run_dir=tmp_path, say=said.append, **SHORT)
    assert "simulate: the env itself, which has no model that can be sampled" in said
    assert run.evaluate(episodes=3).returns == (1.0,) * 3
    rlkit.train("q-learning", "FrozenLake-v1", run_dir=tmp_path, say=said.append, **SHORT)
    assert "simulate: the env's model, in compiled code" in said


def test_runs_in_the_model_keep_the_envs_time_limit(tmp_path: Path) -> None:
    # Garnet processes never end, and are registered with a limit of 100 steps.
    run = rlkit.train(
        "q-learning", "rlkit/Garnet-v0", run_dir=tmp_path, simulate="model", steps=1_000, log_interval=500,
        eval_interval=0,
    )  # fmt: skip
    with (run.path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["episode"], row["episode_length"]) for row in rows] == [("5", "100"), ("10", "100")]


def test_where_nothing_is_known_any_action_is_taken() -> None:
    learner = make("q-learning", (2, 3), epsilon_start=0.0, epsilon_end=0.0)
    learner.begin(0)
    assert {learner.choose(step) for step in range(100)} == {0, 1, 2}  # else by a chance of 3 (2/3)^100
    learner.tables.q[0, 0] = [1, 2, 2]
    assert {learner.choose(step) for step in range(100)} == {1}


# ---- regret


def test_the_regret_of_a_policy_worked_by_hand() -> None:
    # The hand example, slip 1/4: the best return is 9/2. Always down: 1 + 5/4 from (1, 0) and 2 + 7/4 from (1, 1), so
    # 1 + 3/4 x 9/4 + 1/4 x 15/4 = 29/8, which is 7/8 less. Always right: 1 + 7/4 and 2 + 5/4, so 1 + 1/4 x 11/4 + 3/4 x
    # 13/4 = 33/8, 3/8 less. Right, then right and down, is best.
    env = NumberTriangleEnv(NOTES, slip=0.25)
    learner = make("q-learning", (6, 2))
    regret = Regret(env.mdp(1.0), learner, env.observation_space)
    for right, expected in (([], 7 / 8), ([0, 1, 2], 3 / 8), ([0, 1], 0)):
        learner.tables.q[0] = 0.0
        learner.tables.q[0, right, 1] = 1.0
        learner.publish()
        assert regret() == pytest.approx(expected, abs=1e-9)
    # Discounted by 1/2, the second step counts half: from (1, 0) 5/8 or 7/8, and from (1, 1) 7/8 or 5/8, halved again
    # at the top; the numbers of the top and of the row that is entered count in full. Down: 2 x 3/4 + 3 x 1/4 + 3/4 x
    # 5/8 + 1/4 x 7/8 = 9/4 + 11/16; the best: 2 x 1/4 + 3 x 3/4 + 7/8 = 11/4 + 7/8; the difference is 11/16.
    learner.tables.q[0] = 0.0
    learner.publish()
    assert Regret(env.mdp(0.5), learner, env.observation_space)() == pytest.approx(11 / 16, abs=1e-9)


def regrets(run: rlkit.Run) -> list[str]:
    with (run.path / "evaluations.csv").open() as file:
        return [row["regret"] for row in csv.DictReader(file)]


def test_regret_is_written_wherever_a_model_is_known(triangle: str, tmp_path: Path) -> None:
    quick: dict[str, Any] = {"steps": 400, "eval_interval": 200, "eval_episodes": 2, "run_dir": tmp_path / "runs"}
    small: dict[str, Any] = {**quick, "hidden": (8,), "learning_starts": 50, "buffer_size": 400, "preset": "none"}
    hand: dict[str, Any] = {"env_args": {"triangle": triangle, "slip": 0.25}, "gamma": 1.0}
    network = rlkit.train("dqn", "rlkit/NumberTriangle-v0", **small, **hand)
    # Two choices in three cells: the regrets of all policies of the hand example, by the values above; a first step
    # down instead of right costs 1/2, the wrong one in (1, 0) or (1, 1) 1/2 times the chance to be there.
    possible = {
        first / 2 + (left * p + right * (1 - p)) / 2
        for first, left, right in itertools.product((0, 1), repeat=3)
        for p in [3 / 4 if first else 1 / 4]
    }
    assert len(regrets(network)) == 2
    assert all(min(abs(float(r) - p) for p in possible) < 1e-9 for r in regrets(network))
    table = rlkit.train("q-learning", "rlkit/NumberTriangle-v0", **quick, **hand)
    assert all(min(abs(float(r) - p) for p in possible) < 1e-9 for r in regrets(table))
    assert regrets(rlkit.train("dqn", "CartPole-v1", **small)) == ["", ""]
    known = [run.directory for run in (network, table)]
    for drawn, run in zip(curves.groups(known, y="regret"), (network, table), strict=True):
        assert drawn.mean.x.tolist() == [200, 400]
        assert drawn.mean.y.tolist() == [float(r) for r in regrets(run)]


# ---- the sampled model


def test_bits_are_splitmix64() -> None:
    # The first outputs of Vigna's splitmix64.c (prng.di.unimi.it) for the seeds 0 and 1234567.
    published = {
        0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B],
        1234567: [
            6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
        ],
    }  # fmt: skip
    for seed, outputs in published.items():
        assert [int(bits(np.uint64(seed), k + 1)) for k in range(5)] == outputs


def test_fractions_are_the_upper_53_bits() -> None:
    assert fraction(np.uint64(0)) == fraction(np.uint64(2047)) == 0.0
    assert fraction(np.uint64(2048)) == 2.0**-53
    assert fraction(np.uint64(2**63)) == 0.5
    assert fraction(np.uint64(2**64 - 1)) == 1 - 2.0**-53


def watch(learner: Tabular, tables: Simulator, steps: int) -> list[tuple[int, int, float, int, bool]]:
    """Simulated steps one by one: state, action, reward, state to act in next, whether the episode ended."""
    learner.start(tables)
    found = []
    for step in range(steps):
        s, episode = int(learner.memory.numbers[kernels.STATE]), learner.episode
        kernels.simulate(learner.rule, learner.tables, learner.memory, tables, step, step + 1, learner.sums)
        ended = learner.episode > episode
        following = int(learner.memory.numbers[kernels.STATE])
        a, reward = int(learner.memory.actions[0]), float(learner.memory.rewards[0])
        assert learner.memory.states[0] == s
        found.append((s, a, reward, following, ended))
    return found


def test_simulated_outcomes_and_first_states_follow_the_model(chi_square: Callable[..., float]) -> None:
    outcomes, mdp = six_states()
    tables = simulator(mdp)
    assert tables is not None
    seen = watch(make("expected-sarsa", (6, 3), epsilon_end=1.0, seed=1), tables, 20_000)
    by_row: dict[tuple[int, int], Counter[float]] = {}
    for s, a, reward, following, ended in seen:
        # rewards are drawn from a continuous distribution, so each tells its outcome
        ((_, to, _, ends),) = [o for o in outcomes[s][a] if o[2] == reward]
        assert ended == ends
        assert ended or following == to
        by_row.setdefault((s, a), Counter())[reward] += 1
    assert len(by_row) == 15
    # Were the seed another, one of the 15 rows, the actions and the first states would fail once in 1,000 times.
    for (s, a), counts in by_row.items():
        p = np.array([o[0] for o in outcomes[s][a]])
        assert chi_square(np.array([counts[o[2]] for o in outcomes[s][a]]), p * counts.total()) > 1e-3 / 17
    assert chi_square(np.bincount([a for _, a, *_ in seen]), np.full(3, 20_000 / 3)) > 1e-3 / 17
    first = np.bincount([seen[0][0], *(following for *_, following, ended in seen if ended)], minlength=6)
    assert (first[3:] == 0).all()
    assert chi_square(first[:3], np.array(START[:3]) * first.sum()) > 1e-3 / 17


@pytest.mark.parametrize(
    ("limit", "horizon", "expected"), [(4, None, 4), (0, 3, 3), (4, 3, 3), (3, 4, 3), (0, None, 0)]
)
def test_episodes_are_cut_off_at_the_limit_or_the_horizon(limit: int, horizon: int | None, expected: int) -> None:
    mdp = model([[[(1.0, 0, 1.0, False)]]], [False], [1.0], gamma=0.5, horizon=horizon)
    tables = simulator(mdp, limit)
    assert tables is not None
    assert tables.limit == expected
    for name in ("q-learning", "sarsa"):  # one has a loop of its own
        learner = learn(make(name, (1, 1)), tables, 12)
        assert learner.episode == (12 // expected if expected else 0)
        assert learner.sums[kernels.LENGTHS] == (12 if expected else 0)


def test_an_outcome_that_terminates_at_the_limit_is_not_truncated() -> None:
    # 0 -> 1 -> 2, the end, in two steps, with a limit of two: nothing is bootstrapped from state 2's value, 9.
    outcomes: Outcomes = [[[(1.0, 1, 0.0, False)]], [[(1.0, 2, 4.0, True)]], [[(1.0, 2, 0.0, False)]]]
    mdp = model(outcomes, [False, False, True], [1.0, 0, 0])
    for name in ("q-learning", "sarsa", "monte-carlo"):
        learner = make(name, (3, 1), gamma=1.0, step_size=1.0)
        learner.tables.q[0, 2] = 9.0
        learn(learner, simulator(mdp, 2), 4)
        assert learner.tables.q[0, :, 0].tolist() == [4, 4, 9], name


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
def test_the_tables_are_gymnasiums(name: str) -> None:
    env = gymnasium.make(name)
    table = cast("Any", env.unwrapped).P
    mdp = FiniteMDP.from_env(env, gamma=0.99)
    tables = simulator(mdp, 200)
    assert tables is not None
    ended = 0
    for s, a in itertools.product(range(len(table)), range(len(table[0]))):
        if mdp.terminal[s]:
            continue
        row, low = s * len(table[0]) + a, 0.0
        expected: Counter[tuple[int, float, bool]] = Counter()
        found: Counter[tuple[int, float, bool]] = Counter()
        for p, following, reward, terminated in table[s][a]:
            expected[int(following), float(reward), bool(terminated)] += p
        for high, *outcome in zip(
            tables.threshold[row], tables.to[row], tables.reward[row], tables.ends[row], strict=True
        ):
            if low < 1:
                to, r, ends = outcome
                found[int(to), float(r), bool(ends)] += min(high, 1.0) - low
            low = high
        assert found == pytest.approx(expected, abs=1e-12)
        ended += any(ends for _, _, ends in expected)
    assert ended > 0
    if name == "Taxi-v4":
        assert not mdp.terminal.all()
        assert ended == 4  # the drop-off at each of four destinations
    env.close()


def test_shorter_rows_are_padded_with_what_never_happens() -> None:
    # One, two and three outcomes; rewards tell them apart, and the padding would pay 0.
    outcomes: Outcomes = [
        [
            [(1.0, 0, 1.0, False)],
            [(0.5, 0, 2.0, False), (0.5, 1, 3.0, False)],
            [(0.25, 0, 4.0, False), (0.25, 1, 5.0, False), (0.5, 2, 6.0, True)],
        ],
        [[(1.0, 0, 7.0, False)]] * 3,
        [[], [], []],
    ]
    mdp = model(outcomes, [False, False, True], [1.0, 0, 0], gamma=0.9)
    tables = simulator(mdp)
    assert tables is not None
    assert tables.threshold.shape == (9, 3)
    seen = watch(make("expected-sarsa", (3, 3), epsilon_end=1.0), tables, 2_000)
    assert {reward for _, _, reward, *_ in seen} == {1, 2, 3, 4, 5, 6, 7}
    assert {s for s, *_ in seen} == {0, 1}


def test_models_that_cannot_be_sampled_have_no_tables() -> None:
    one: list[Outcome] = [(1.0, 0, 1.0, False)]
    assert simulator(model([[one, one]], [False], [1.0], gamma=0.5)) is not None
    assert simulator(model([[one, []]], [False], [1.0], gamma=0.5)) is None, "an action is not available"
    for width, fits in ((WIDEST, True), (WIDEST + 1, False)):
        wide: list[Outcome] = [(1 / width, k, 0.0, False) for k in range(width)]
        mdp = model([[wide]] * width, [False] * width, [1.0] + [0.0] * (width - 1), gamma=0.5)
        assert (simulator(mdp) is not None) == fits


# ---- plotting the regret


def test_rlkit_plot_draws_the_regret(triangle: str, tmp_path: Path) -> None:
    run = rlkit.train(
        "q-learning", "rlkit/NumberTriangle-v0", env_args={"triangle": triangle}, gamma=1.0, run_dir=tmp_path / "runs",
        steps=400, eval_interval=100, eval_episodes=2,
    )  # fmt: skip
    done = CliRunner().invoke(cli, ["plot", str(run.path), "--y", "regret"], catch_exceptions=False)
    assert done.exit_code == 0
    assert (run.path / "plots/regret.png").stat().st_size > 5_000
    cart = rlkit.train(
        "dqn", "CartPole-v1", run_dir=tmp_path / "others", preset="none", hidden=(8,), learning_starts=50, **SHORT
    )
    with pytest.raises(UserError, match=r"^run .* has no regret yet"):
        curves.groups([cart.directory], y="regret")
    with pytest.raises(UserError, match=r"'regrett'.*regret"):
        curves.groups([run.directory], y="regrett")


@pytest.mark.parametrize("agent", ["q-learning", "double-q-learning"])
def test_the_values_of_an_observation_are_its_row_of_the_table(agent: str, tmp_path: Path) -> None:
    from rlkit.api import training

    said: list[str] = []
    run = training.train(agent, "FrozenLake-v1", steps=2_000, eval_interval=0, run_dir=tmp_path, say=said.append)
    learner, _ = run.agent()
    tables = cast("Tabular", learner).q.numpy()  # [1 or 2, S, A]
    values = run.values()
    for state in range(16):
        found = values(np.array([state]))
        assert found.shape == (1, 4)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[0], tables[:, state].mean(axis=0), rtol=1e-6)
    assert tables.any()
    assert not any(text.startswith("steps: ") for text in said), "a table's cycle is a step"


def test_steps_beyond_the_last_are_announced(tmp_path: Path) -> None:
    from rlkit.api import training

    said: list[str] = []
    fields: dict[str, Any] = {
        "preset": "none",
        "loop": "host",
        "num_envs": 4,
        "steps": 30,
        "hidden": (8,),
        "eval_interval": 0,
    }
    run = training.train("dqn", "CartPole-v1", run_dir=tmp_path, say=said.append, **fields)
    assert "steps: 30, and up to 3 more to the end of a round of 4" in said
    assert 30 < run.directory.step <= 33
