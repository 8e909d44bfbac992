"""Evaluations: which episodes count, on which seeds, and what is said about their returns."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

from rlkit.errors import UserError
from rlkit.interaction.evaluation import LONGEST, Evaluation, evaluate
from rlkit.interaction.vector import OneEnv, make_vector
from rlkit.seeding import evaluation_seed
from rlkit.spaces import observed


class Lottery(gymnasium.Env[np.ndarray, np.int64]):
    """Its seed draws the episode's length, 1 to 7, and prize. A step pays the prize times the action taken.

    Observes [prize, steps so far]. Even lengths end by truncation, odd ones by termination.
    """

    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space = spaces.Discrete(3)
    seeds: ClassVar[list[int | None]] = []

    def observe(self) -> np.ndarray:
        return np.array([self.prize, self.steps], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        Lottery.seeds.append(seed)
        self.length, self.prize = int(self.np_random.integers(1, 8)), float(self.np_random.normal())
        self.steps = 0
        return self.observe(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.steps < self.length, "the episode has ended"
        self.steps += 1
        ended = self.steps == self.length
        return (
            self.observe(),
            self.prize * float(action),
            ended and self.length % 2 == 1,
            ended and self.length % 2 == 0,
            {},
        )


def policy(observations: np.ndarray) -> np.ndarray:
    """Action 2 where the prize is positive, and 0 and 1 in turns where it is not."""
    turns = observations[:, 1].astype(np.int64) % 2
    return np.where(observations[:, 0] > 0, 2, turns)


def expected(seed: int) -> tuple[float, int]:
    """Return and length of the episode with a seed, from the env's rules."""
    random = seeding.np_random(seed)[0]
    length, prize = int(random.integers(1, 8)), float(random.normal())
    return prize * (2 * length if prize > 0 else length // 2), length


def lotteries(num_envs: int) -> VectorEnv:
    Lottery.seeds.clear()
    if num_envs == 1:
        return OneEnv(Lottery)
    return SyncVectorEnv([Lottery] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


@pytest.mark.parametrize("num_envs", [1, 3, 10, 40])
@pytest.mark.parametrize("episodes", [1, 25])
def test_each_episode_counts_once_in_order_however_many_run_at_once(num_envs: int, episodes: int) -> None:
    envs = lotteries(num_envs)
    result = evaluate(policy, envs, episodes, 7, occasion=500)
    envs.close()
    returns, lengths = zip(*(expected(evaluation_seed(7, e, 500)) for e in range(episodes)), strict=True)
    np.testing.assert_allclose(result.returns, returns, rtol=1e-12)
    assert result.lengths == lengths
    assert (result.seed, result.cut) == (7, 0)
    if episodes == 25:
        assert len(set(lengths)) > 4, "episodes end at different times"


def test_the_number_of_envs_changes_no_bit() -> None:
    results = set()
    for num_envs in (1, 3, 10):
        envs = lotteries(num_envs)
        results.add(evaluate(policy, envs, 12, 0))
        envs.close()
    assert len(results) == 1


@pytest.mark.parametrize("num_envs", [1, 4])
def test_seeds_are_never_those_of_training(num_envs: int) -> None:
    envs = lotteries(num_envs)
    evaluate(policy, envs, 30, 7)
    given = [seed for seed in Lottery.seeds if seed is not None]
    envs.close()
    assert set(given) >= {evaluation_seed(7, e) for e in range(30)}
    assert len(set(given)) == len(given) == len(Lottery.seeds)
    assert min(given) >= 2**30  # training's are below


def test_seed_and_occasion_choose_the_episodes() -> None:
    envs = lotteries(3)
    first = evaluate(policy, envs, 10, 7)
    assert evaluate(policy, envs, 10, 7).returns == first.returns
    for seed, occasion in ((8, 0), (7, 1000)):
        assert not set(evaluate(policy, envs, 10, seed, occasion=occasion).returns) & (set(first.returns) - {0.0})
    envs.close()


class Tape(Lottery):
    """Keeps what is done to it; an episode has 50 steps, and three actions from 5 on."""

    action_space = spaces.Discrete(3, start=5)
    played: ClassVar[dict[int, list[int]]] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        assert seed is not None
        self.length, self.kept = 50, Tape.played.setdefault(seed, [])
        self.kept.clear()
        return observation, info

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.kept.append(int(action))
        return super().step(action)


def taped(num_envs: int, epsilon: float, seed: int = 0, occasion: int = 0) -> tuple[Evaluation, np.ndarray]:
    """An evaluation of the policy that always does 6, and the actions of its 40 episodes, [40, 50]."""
    Tape.played.clear()
    envs = SyncVectorEnv([Tape] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
    result = evaluate(lambda seen: np.full(len(seen), 6), envs, 40, seed, epsilon=epsilon, occasion=occasion)
    envs.close()
    return result, np.array([Tape.played[evaluation_seed(seed, e, occasion)] for e in range(40)])


def test_a_share_of_the_actions_is_uniform_the_same_however_many_run_at_once() -> None:
    result, actions = taped(1, 0.3)
    assert result.epsilon == result.to_dict()["epsilon"] == 0.3
    # 2,000 actions, each not the policy's with probability 0.3 x 2/3 = 0.2, in halves 5 and 7: 3 standard deviations
    assert abs((actions != 6).mean() - 0.2) < 3 * (0.2 * 0.8 / 2000) ** 0.5
    assert abs((actions == 5).mean() - 0.1) < 3 * (0.1 * 0.9 / 2000) ** 0.5
    assert set(actions.flat) == {5, 6, 7}
    assert len(np.unique(actions, axis=0)) == 40, "episodes are not strayed from alike"
    for num_envs in (3, 40):
        again, same = taped(num_envs, 0.3)
        assert again == result
        np.testing.assert_array_equal(same, actions)
    for seed, occasion in ((1, 0), (0, 1)):
        assert not np.array_equal(taped(3, 0.3, seed, occasion)[1], actions)


def test_without_epsilon_all_actions_are_the_policys_and_with_one_none_is() -> None:
    assert (taped(3, 0.0)[1] == 6).all()
    actions = taped(3, 1.0)[1]
    assert abs((actions == 6).mean() - 1 / 3) < 3 * (2 / 9 / 2000) ** 0.5


def test_epsilon_is_for_discrete_actions() -> None:
    envs = gymnasium.make_vec("Pendulum-v1", 2, vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED})
    with pytest.raises(UserError, match="epsilon is for discrete actions, and those of this env are Box"):
        evaluate(lambda seen: np.zeros((len(seen), 1), np.float32), envs, 2, 0, epsilon=0.1)
    envs.close()


def test_the_policy_sees_every_env_at_once() -> None:
    shapes = []

    def watching(observations: np.ndarray) -> np.ndarray:
        shapes.append(observations.shape)
        return policy(observations)

    envs = lotteries(4)
    evaluate(watching, envs, 3, 0)
    envs.close()
    assert set(shapes) == {(4, 2)}


def evaluation(*returns: float) -> Evaluation:
    return Evaluation(returns, tuple(10 for _ in returns), seed=3, step=400)


def test_mean_and_deviation_worked_by_hand() -> None:
    # Mean (1 + 2 + 3 + 6) / 4 = 3; squares of the distances from it: 4, 1, 0, 9, whose mean is 3.5.
    result = evaluation(1.0, 2.0, 3.0, 6.0)
    assert result.mean == 3.0
    assert result.std == pytest.approx(3.5**0.5, rel=1e-15)


def test_the_interval_is_students() -> None:
    # s = 2.1602, t(0.975, 3) = 3.1824, so 3 -+ 3.4374
    assert evaluation(1.0, 2.0, 3.0, 6.0).interval == pytest.approx((-0.4374, 6.4374), abs=1e-4)
    assert evaluation(5.0, 5.0, 5.0).interval == (5.0, 5.0)
    assert evaluation(5.0).interval is None


def test_an_evaluation_in_words() -> None:
    assert evaluation(490.0, 500.0, 500.0).text == "mean return 496.7 over 3 episodes, 95% interval 482.3 to 511.0"
    assert evaluation(5.0).text == "mean return 5.000 over 1 episode, no interval from one"
    cut = dataclasses.replace(evaluation(8.0, 9.0), cut=2)
    assert cut.text.endswith(", 2 of them cut off after 10,000 steps")


class Patient(gymnasium.Env[np.ndarray, np.int64]):
    """Pays 1 a step. Ends by itself after as many steps as its seed draws from below and above `LONGEST`."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, lengths: tuple[int, ...] = (10**9,), render_mode: str | None = None) -> None:
        self.lengths, self.render_mode = lengths, render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.choice(self.lengths))
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


class PatientVector(SyncVectorEnv):
    """A vector version of its own, whose episodes are reset from outside."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - as its base class has it

    def __init__(self, num_envs: int, max_episode_steps: int) -> None:
        make = partial(Beyond, Patient(), max_episode_steps)
        super().__init__([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


class Beyond(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A time limit that only the spec of the vector env tells."""

    def __init__(self, env: gymnasium.Env[Any, Any], limit: int) -> None:
        super().__init__(env)
        self.limit, self.steps = limit, 0

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return super().reset(**arguments)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, self.steps >= self.limit, info


own, limit = f"{__name__}:Patient", LONGEST + 500
gymnasium.register("test/sync-v0", own, max_episode_steps=limit)
gymnasium.register("test/native-v0", own, max_episode_steps=limit, vector_entry_point=f"{own}Vector")
gymnasium.register("test/argument-v0", own)


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("how", ["sync", "native", "argument", "wrapper"])
def test_a_time_limit_above_the_cut_holds_however_the_env_is_run(how: str, num_envs: int) -> None:
    if how == "wrapper":
        one = partial(TimeLimit, Patient(), limit)
        many = partial(SyncVectorEnv, [one] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
        envs: VectorEnv = OneEnv(one) if num_envs == 1 else many()
    else:
        arguments = {"max_episode_steps": limit} if how == "argument" else {}
        envs = make_vector(f"test/{how}-v0", arguments, num_envs, "resettable")
    assert isinstance(envs, PatientVector) == (how == "native")
    result = evaluate(lambda seen: np.zeros(len(seen), np.int32), envs, num_envs, 0)
    envs.close()
    assert result.returns == (limit,) * num_envs
    assert result.cut == 0


@pytest.mark.parametrize("num_envs", [1, 3])
def test_episodes_that_are_cut_off_are_counted(num_envs: int) -> None:
    choice = (3, LONGEST, LONGEST + 7)  # the second ends by itself, the third would have gone on
    envs = make_vector("test/argument-v0", {"lengths": choice}, num_envs, "resettable")  # type: ignore[dict-item]
    result = evaluate(lambda seen: np.zeros(len(seen), np.int32), envs, 5, 1)
    envs.close()
    drawn = [int(seeding.np_random(evaluation_seed(1, e))[0].choice(choice)) for e in range(5)]
    assert set(drawn) == set(choice)
    assert result.lengths == tuple(min(length, LONGEST) for length in drawn)
    assert result.cut == drawn.count(LONGEST + 7)
    told = result.to_dict()
    assert (told["cut"], told["cut_after"]) == (result.cut, LONGEST)


def test_whoever_watches_hears_how_far_it_has_come() -> None:
    heard: list[tuple[int, int]] = []
    envs = lotteries(4)
    result = evaluate(policy, envs, 9, 0, watch=lambda ended, steps: heard.append((ended, steps)))
    envs.close()
    assert [steps for _, steps in heard] == list(range(1, len(heard) + 1))
    ended = [ended for ended, _ in heard]
    assert ended == sorted(ended)
    assert ended[-1] == len(result.returns) == 9


def test_json_has_plain_numbers_only() -> None:
    envs = lotteries(3)
    result = dataclasses.replace(evaluate(policy, envs, 10, 7), step=400)
    envs.close()
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    names = "mean std interval episodes cut cut_after returns lengths seed step epsilon"
    assert list(told) == names.split()
    assert (told["cut"], told["cut_after"]) == (0, None)
    assert told["mean"] == pytest.approx(sum(told["returns"]) / 10, rel=1e-12)
    assert told["returns"] == list(result.returns)
    assert told["episodes"] == len(told["returns"]) == len(told["lengths"]) == 10
    assert told["interval"][0] < told["mean"] < told["interval"][1]
    assert (told["seed"], told["step"]) == (7, 400)
    assert json.loads(json.dumps(evaluation(5.0).to_dict(), allow_nan=False))["interval"] is None


@pytest.mark.parametrize("state", [4, 8, 99, -1])
def test_a_state_outside_the_space_is_refused(state: int) -> None:
    given = (2,), np.dtype(np.int32), spaces.Discrete(3, start=5)
    assert observed(np.array([5, 7]), *given).tolist() == [5, 7]
    with pytest.raises(UserError, match=rf"the observation {state} is outside the space, expected one of Discrete"):
        observed(np.array([5, state]), *given)
