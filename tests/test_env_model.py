"""Models of envs: read as they are, refused where they are odd, and never those of another env."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs import toy_text
from gymnasium.envs.registration import EnvCreator
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit, TransformObservation, TransformReward

import rlkit
from rlkit.agents.planning.planners import solve
from rlkit.api.regret import model_of
from rlkit.cli import cli
from rlkit.envs import twins
from rlkit.envs.finite import FiniteEnv
from rlkit.errors import UserError
from rlkit.exact.env_model import STEPS, NoModelError, compare
from rlkit.exact.mdp import FiniteMDP

FrozenLakeEnv: Any = toy_text.FrozenLakeEnv  # which have no types
TaxiEnv: Any = toy_text.TaxiEnv


class TableEnv(gymnasium.Env[Any, Any]):
    """An env that does what a table says, or another one."""

    def __init__(self, table: Any, start: Any = None, does: Any = None, actions: int = 2) -> None:
        self.P, self.does = table, table if does is None else does
        self.observation_space, self.action_space = spaces.Discrete(len(table)), spaces.Discrete(actions)
        self.start = np.eye(len(table))[0] if start is None else np.asarray(start)
        if start is not None:
            self.initial_state_distrib = self.start
        self.s = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.s = int(self.np_random.choice(len(self.start), p=self.start))
        return self.s, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        row = self.does[self.s][int(action)]
        _, self.s, reward, ended = row[self.np_random.choice(len(row), p=[outcome[0] for outcome in row])]
        return self.s, reward, ended, False, {}


class Said(gymnasium.Env[Any, Any]):
    """An env of which there is nothing but a table."""

    def __init__(self, table: Any, states: int = 2, actions: int = 2, start: Any = None) -> None:
        self.P, self.initial_state_distrib = table, start
        self.observation_space, self.action_space = spaces.Discrete(states), spaces.Discrete(actions)


def both(*row: Any) -> dict[int, Any]:
    """A state whose two actions have the same outcomes."""
    return {0: list(row), 1: list(row)}


END = both((1.0, 1, 0.0, True))


# ---- what is odd is refused


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({0: {0: [(1.0, 1, 1.0, True)]}, 1: END}, r"P\[0\] has no action 1, expected actions 0 to 1"),
        ({0: {**END, 2: []}, 1: END}, r"P\[0\] has 3 actions, expected 2"),
        ({0: [[(1.0, 1, 1.0, True)]], 1: END}, r"P\[0\] has 1 actions, expected 2"),
        ({(0, 0): END, (0, 1): END}, r"P has no state 0, .* its keys are such as \(0, 0\)"),
        ({"0": END, "1": END}, "its keys are such as '0'"),
        ({1: END, 2: END}, "P has no state 0, expected states 0 to 1"),
        ({0: END, 2: END}, "P has no state 1, expected states 0 to 1"),
        ({}, "P is empty, expected a dict or list by state"),
        ({0: END}, "P has no state 1, expected states 0 to 1"),
        ({0: END, 1: END, 2: END}, "P has 3 states, expected 2"),
        ({0: END, 1: None}, r"P\[1\] is a NoneType, expected a dict or list by action"),
        ({0: {0: [], 1: []}, 1: END}, r"P\[0\]\[0\] is empty, expected a list of \(probability, next state,"),
        ({0: {0: None, 1: []}, 1: END}, r"P\[0\]\[0\] is a NoneType"),
        ({0: {0: (1.0, 1, 0.0, True), 1: []}, 1: END}, r"P\[0\]\[1\] is empty"),
        ({0: dict.fromkeys((0, 1), (1.0, 1, 0.0, True)), 1: END}, r"P\[0\]\[0\] has the outcome 1.0, expected \(prob"),
        ({0: END, 1: both((1.0, 1, 1.0))}, r"P\[1\]\[0\] has an outcome of 3 values, \(1.0, 1, 1.0\), expected 4"),
        ({0: both((1.0, 1, 1.0, True, False)), 1: END}, r"P\[0\]\[0\] has an outcome of 5 values"),
        # what adds up to fours all the same
        ({0: both((1.0, 1, 1.0), (0.0, 1, 0.0, True, False)), 1: END}, "an outcome of 3 values"),
        ({0: both((1.0, 7, 1.0, True)), 1: END}, r"P\[0\]\[0\] has the next state 7, expected a state, 0 to 1"),
        ({0: both((1.0, -1, 1.0, True)), 1: END}, "the next state -1"),
        ({0: both((1.0, 10**400, 1.0, True)), 1: END}, "the next state 1000"),
        ({0: END, 1: {0: END[0], 1: [(1.0, 1.5, 1.0, True)]}}, r"P\[1\]\[1\] has the next state 1.5"),
        ({0: both((1.0, 1.0, 1.0, True)), 1: END}, "the next state 1.0"),
        ({0: both((1.0, True, 1.0, True)), 1: END}, "the next state True"),
        ({0: both((1.0, (0, 1), 1.0, True)), 1: END}, r"the next state \(0, 1\)"),
        ({0: both((1.0, None, 1.0, True)), 1: END}, "the next state None"),
        ({0: both((1.0, 1, True, 0.0)), 1: END}, "the reward True, expected a finite number"),  # in another order
        ({0: both((1.0, 1, "2", True)), 1: END}, "the reward '2'"),
        ({0: both((1.0, 1, [2.0], True)), 1: END}, r"the reward \[2.0\]"),
        ({0: both((1.0, 1, 1j, True)), 1: END}, "the reward 1j"),
        ({0: both((1.0, 1, float("nan"), True)), 1: END}, "the reward nan"),
        ({0: both((1.0, 1, float("inf"), True)), 1: END}, "the reward inf"),
        ({0: both((1.0, 1, 10**400, True)), 1: END}, "the reward 1000"),
        ({0: both((float("nan"), 1, 0.0, True)), 1: END}, "the probability nan"),
        ({0: both(("1", 1, 0.0, True)), 1: END}, "the probability '1'"),
        ({0: both((1.0, 1, 0.0, 1.0)), 1: END}, "the terminated 1.0, expected a bool, 0 or 1"),
        ({0: both((1.0, 1, 0.0, 2)), 1: END}, "the terminated 2"),
        ({0: both((1.0, 1, 0.0, "False")), 1: END}, "the terminated 'False'"),
        ({0: both((1.0, 1, 0.0, None)), 1: END}, "the terminated None"),
        ({0: both((0.9, 1, 0.0, True)), 1: END}, "state 0, action 0: the probabilities sum to 0.9, expected 1"),
        ({0: both((1.5, 1, 0.0, True), (-0.5, 0, 0.0, True)), 1: END}, "which is negative"),
    ],
)  # fmt: skip
def test_an_odd_table_is_refused_by_its_place(table: Any, told: str) -> None:
    with pytest.raises(UserError, match=f"env 'Said': .*{told}"):
        FiniteMDP.from_env(Said(table), gamma=0.9)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ([1.0], r"start has the shape \(1,\), expected \[2\]"),
        ([0.5, 0.4], "start sums to 0.9"),
        ([np.nan, 1.0], "start sums to nan"),
        ([1.5, -0.5], "expected probabilities"),
        ({0: 1.0}, r"initial_state_distrib is \{0: 1.0\}, expected a probability of each state"),
        ("first", "initial_state_distrib is 'first'"),
    ],
)
def test_an_odd_start_is_refused(start: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        FiniteMDP.from_env(Said({0: END, 1: END}, start=start), gamma=0.9)


@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda gamma: {"gamma": gamma}, r"mdp\(0.9\) is a dict, expected a rlkit.FiniteMDP"),
        (lambda gamma: None, r"mdp\(0.9\) is a NoneType"),
        (lambda: None, r"mdp\(0.9\) raised TypeError"),
        (lambda gamma: FiniteMDP.from_dense([[[1.0]]], [[1.0]], gamma=gamma), "its model has 1 states and its space"),
    ],
)
def test_a_method_that_gives_no_model_of_the_env_is_refused(give: Callable[..., Any], told: str) -> None:
    env = Said(None)
    env.mdp = give  # type: ignore[attr-defined] # an env with one
    with pytest.raises(UserError, match=told):
        FiniteMDP.from_env(env, gamma=0.9)


def test_a_method_that_forgets_the_discount_gets_it() -> None:
    env = Said(None)
    env.mdp = lambda gamma: FiniteMDP.from_dense(np.full((2, 2, 2), 0.5), np.ones((2, 2)), gamma=0.5)  # type: ignore[attr-defined]
    assert FiniteMDP.from_env(env, gamma=0.75).gamma == 0.75
    assert rlkit.solve(env, gamma=0.75).value_at_start == pytest.approx(4.0)  # 1 / (1 - 0.75)


@pytest.mark.parametrize("container", [dict, list, tuple])
def test_what_says_the_same_is_read_the_same(container: type) -> None:
    # from state 0 by action 1 half the time 3 and the end, half the time 1 and back: v = 2 + v/2 x 0.9
    rows: Any = [
        [[(1, 0, -1, 0)], [[Fraction(1, 2), np.int64(1), np.float32(3), np.True_], (0.5, 0, np.int8(1), False)]],
        [((1.0, 1, 0, 1),), ((1.0, 1, 0.0, True),)],
    ]
    table: Any = container(rows) if container is not dict else {s: dict(enumerate(row)) for s, row in enumerate(rows)}
    mdp = FiniteMDP.from_env(Said(table), gamma=0.9)
    assert solve(mdp).value_at_start == pytest.approx(2 / (1 - 0.45))
    assert mdp.terminal.tolist() == [False, True]


def test_an_odd_table_is_an_error_of_the_users(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gymnasium.register("Odd-v0", entry_point=lambda **_: Said({0: both((1.0, 1, 1.0)), 1: END}))
    try:
        with pytest.raises(UserError, match=r"^env 'Odd-v0': P\[0\]\[0\] has an outcome of 3 values"):
            cli.main(["solve", "auto", "--env", "Odd-v0"], standalone_mode=False)
        assert not list(tmp_path.iterdir())
    finally:
        del gymnasium.registry["Odd-v0"]


# ---- an episode ends by its outcome


CORRIDOR = {
    0: {0: [(1.0, 1, 0.0, False)], 1: [(1.0, 1, 1.0, False)]},
    1: {0: [(1.0, 0, 10.0, True)], 1: [(1.0, 0, 3.0, True)]},
}


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("start", [None, [1.0, 0.0], [0.5, 0.5]])
def test_the_start_is_no_end_where_finished_episodes_are_sent_there(gamma: float, start: Any) -> None:
    solution = rlkit.solve(TableEnv(CORRIDOR, start), gamma=gamma)
    np.testing.assert_allclose(solution.values, [1 + 10 * gamma, 10], atol=1e-12)


def test_a_state_in_which_nothing_happens_may_be_a_start_too() -> None:
    env = TableEnv({0: both((1.0, 1, 2.0, True)), 1: both((1.0, 1, 0.0, False))}, start=[0.5, 0.5])
    assert rlkit.solve(env).values.tolist() == [2.0, 0.0]  # undiscounted: state 1 would never end


def random_table(rng: np.random.Generator) -> dict[int, Any]:
    """Up to six states, two actions; what ends leads to state 0."""
    states = int(rng.integers(2, 7))
    table = dict[int, Any]()
    for s in range(states):
        table[s] = {}
        for a in range(2):
            shares = rng.dirichlet(np.ones(3))
            ends = rng.random(3) < 0.4
            to = np.where(ends, 0, rng.integers(0 if rng.random() < 0.3 else 1, states, 3))
            table[s][a] = [
                (float(p), int(t), float(r), bool(e))
                for p, t, r, e in zip(shares, to, rng.normal(size=3), ends, strict=True)
            ]
    return table


@pytest.mark.parametrize("gamma", [0.9, 0.99])
def test_random_tables_that_start_anew_have_the_values_of_slow_iteration(gamma: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(25):
        table = random_table(rng)
        values = [0.0] * len(table)
        for _ in range(400 if gamma == 0.9 else 4_000):  # gamma^n below 1e-17
            values = [
                max(sum(p * (r + (0 if e else gamma * values[t])) for p, t, r, e in row) for row in table[s].values())
                for s in table
            ]
        solution = solve(FiniteMDP.from_env(Said(table, states=len(table)), gamma=gamma), tolerance=1e-9)
        assert np.abs(solution.values - values).max() <= solution.bound + 1e-10


# ---- the env that was named


class WithModel(gymnasium.RewardWrapper[Any, Any]):
    """A lake that costs 1 a step and says so."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        inner: Any = env.unwrapped
        self.initial_state_distrib = inner.initial_state_distrib
        self.P = {
            s: {a: [(p, to, r - 1, end) for p, to, r, end in row] for a, row in rows.items()}
            for s, rows in inner.P.items()
        }

    def reward(self, reward: Any) -> float:
        return float(reward) - 1.0


def lake(**arguments: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("FrozenLake-v1", is_slippery=False, **arguments)


def test_a_wrapper_that_the_model_knows_nothing_of_is_refused() -> None:
    for wrapped in (
        TransformReward(lake(), lambda r: float(r) - 1),
        TransformObservation(lake(), lambda s: 15 - s, spaces.Discrete(16)),
        TimeLimit(TransformReward(lake(), lambda r: -float(r)), 10),
        TransformReward(gymnasium.make("rlkit/NumberTriangle-v0"), lambda r: -float(r)),
    ):
        for ask in (rlkit.solve, FiniteMDP.from_env):
            with pytest.raises(UserError, match=r"wrapped in Transform\w+, which its model knows nothing of"):
                ask(wrapped, gamma=0.9)


def test_wrappers_that_change_nothing_are_not_in_the_way() -> None:
    env = RecordEpisodeStatistics(TimeLimit(lake(), 10))
    assert rlkit.solve(env, gamma=1.0).value_at_start == 1.0


def test_a_wrapper_with_a_model_of_its_own_is_solved_as_named() -> None:
    # 6 steps to the goal: 1 - 6; into the hole at state 5 it is 2 steps: -2
    assert rlkit.solve(TimeLimit(WithModel(lake()), 50), gamma=1.0).value_at_start == -2.0


def test_a_registered_wrapper_is_seen() -> None:
    spec = gymnasium.spec("FrozenLake-v1")
    wrapper = gymnasium.envs.registration.WrapperSpec(
        "ClipReward", "gymnasium.wrappers:ClipReward", {"min_reward": 0.0, "max_reward": 0.5}
    )
    gymnasium.register("Half-v0", spec.entry_point, kwargs=spec.kwargs, additional_wrappers=(wrapper,))
    try:
        with pytest.raises(UserError, match="wrapped in ClipReward"):
            rlkit.solve("Half-v0", gamma=0.9)
        told = list[str]()
        assert model_of(gymnasium.make("Half-v0"), 0.9, told.append) is None
        assert "env 'Half-v0' is wrapped in ClipReward" in told[0]
    finally:
        del gymnasium.registry["Half-v0"]


def test_a_fickle_passenger_is_not_in_the_table() -> None:
    with pytest.raises(UserError, match="'Taxi-v4': its P leaves out that a fickle passenger"):
        rlkit.solve("Taxi-v4", gamma=0.99, fickle_passenger=True)
    told = list[str]()
    assert model_of(gymnasium.make("Taxi-v4", fickle_passenger=True), 0.99, told.append) is None
    assert len(told) == 1
    assert twins.twin("Taxi-v4", {"fickle_passenger": True}) is None
    still = gymnasium.make("Taxi-v4", fickle_passenger=True, fickle_probability=0.0)
    assert model_of(still, 0.99, told.append) is not None


def test_an_env_without_a_model_is_nothing_to_tell() -> None:
    with pytest.raises(NoModelError):
        FiniteMDP.from_env("Blackjack-v1")
    assert model_of(gymnasium.make("Blackjack-v1"), 0.9, pytest.fail) is None


class Moody(TaxiEnv):
    """A taxi whose passenger may think again, by a name of its own."""

    s: int

    def reset(self, **how: Any) -> Any:
        self.changed = False
        return super().reset(**how)

    def step(self, a: int) -> Any:
        found = super().step(a)
        row, column, passenger, destination = self.decode(self.s)
        if passenger == 4 and not self.changed:
            self.changed = True
            if self.np_random.random() < 0.3:
                self.s = self.encode(row, column, passenger, (destination + 1) % 4)
                return (self.s, *found[1:])
        return found


class Paid(FrozenLakeEnv):
    def step(self, a: int) -> Any:
        s, reward, *rest = super().step(a)
        return (s, reward - 0.01, *rest)


class Endless(FrozenLakeEnv):
    def step(self, a: int) -> Any:
        s, reward, terminated, *rest = super().step(a)
        return (s, reward, terminated and reward > 0, *rest)


class Elsewhere(FrozenLakeEnv):
    def reset(self, **how: Any) -> Any:
        super().reset(**how)
        self.s = 8
        return 8, {}


class Firm(FrozenLakeEnv):
    """A lake whose table says that it is slippery."""

    s: int

    def step(self, a: int) -> Any:
        _, self.s, reward, ended = self.P[self.s][a][1]
        return int(self.s), reward, ended, False, {}


class Raises(FrozenLakeEnv):
    def step(self, a: int) -> Any:
        raise RuntimeError("the device is off")


def coins(first: float) -> dict[int, Any]:
    """A coin that pays 1 with a chance, for ever."""
    return {0: both((first, 0, 1.0, False), (1 - first, 0, 0.0, False))}


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (Moody(), "led to state .* which the model gives probability 0"),
        (Paid(), "reward -0.01, not terminated, which the model gives probability 0"),
        (Endless(), "which the model gives probability 0"),
        (Elsewhere(), r"reset\(\) led to state 8, .* gives probability 0, and state 0 the most"),
        (Firm(), "outcomes came in other shares than its probabilities"),
        (Raises(), "its model cannot be compared with it: RuntimeError: the device is off"),
        (TableEnv(coins(0.5), does=coins(0.7)), "outcomes came in other shares than its probabilities"),
        (TableEnv(CORRIDOR, [1.0, 0.0], does={0: CORRIDOR[0], 1: CORRIDOR[0]}), "probability 0"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, gymnasium.Env) else "",
)
def test_a_model_of_something_else_is_refused(env: gymnasium.Env[Any, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        FiniteMDP.from_env(env, gamma=0.9)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("FrozenLake-v1", {"success_rate": 0.6}),
        ("FrozenLake8x8-v1", {}),
        ("FrozenLake-v1", {"desc": ["SFFG", "FHFG"], "is_slippery": False}),
        ("Taxi-v4", {"is_rainy": True, "rainy_probability": 0.5}),
        ("CliffWalkingSlippery-v1", {}),
        ("rlkit/NumberTriangle-v0", {"slip": 0.25}),
    ],
)
def test_models_that_are_right_are_not_refused(name: str, arguments: dict[str, Any]) -> None:
    FiniteMDP.from_env(name, gamma=0.9, **arguments)


def test_the_comparison_is_no_false_alarm() -> None:
    """In 30 envs the likelihood ratio passes 1e9 somewhere with a probability of 3e-8 at most."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        shares = rng.dirichlet(np.ones(4), 20) * (rng.random((20, 4)) < 0.8)
        shares[shares.sum(axis=1) == 0, 0] = 1.0
        mdp = FiniteMDP(
            (np.arange(0, 81, 4), rng.integers(0, 10, 80), (shares / shares.sum(axis=1, keepdims=True)).ravel()),
            rng.normal(size=80),
            gamma=0.9,
            terminal=[False] * 10,
            terminated=rng.random(80) < 0.1,
            start=rng.dirichlet(np.ones(10)),
        )
        compare(FiniteEnv(mdp), mdp)


def test_the_comparison_leaves_no_trace_in_the_env() -> None:
    env = gymnasium.make("FrozenLake-v1", is_slippery=True)
    env.reset(seed=5)
    env.step(1)
    inner: Any = env.unwrapped
    before = (inner.s, inner.lastaction, inner.np_random.bit_generator.state, env.get_wrapper_attr("_elapsed_steps"))
    model = FiniteMDP.from_env(env, gamma=0.9)
    after = (inner.s, inner.lastaction, inner.np_random.bit_generator.state, env.get_wrapper_attr("_elapsed_steps"))
    assert before == after
    assert model.nnz == 152
    assert STEPS == 1_000


def test_a_learner_acts_in_the_env_where_the_model_is_of_something_else(tmp_path: Any) -> None:
    gymnasium.register(
        "Paid-v0", entry_point=cast("EnvCreator", Paid), kwargs={"is_slippery": False}, max_episode_steps=100
    )
    try:
        run = rlkit.train("q-learning", "Paid-v0", steps=200, eval_interval=0, run_dir=tmp_path)
        with pytest.raises(UserError, match="simulate is model, but env 'Paid-v0' has none"):
            rlkit.train("q-learning", "Paid-v0", steps=200, simulate="model", run_dir=tmp_path)
    finally:
        del gymnasium.registry["Paid-v0"]
    rows = (run.path / "metrics.csv").read_text().splitlines()
    assert "regret" not in rows[0] or all(not row.endswith("0.0") for row in rows[1:])
