"""The replay against lists of single transitions, and its segments against the whole."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from gymnasium import spaces
from hypothesis import example, given
from hypothesis import strategies as st

from rlkit.errors import UserError
from rlkit.interaction.vector import Step
from rlkit.learning.agent import Transition
from rlkit.replay.uniform import Replay
from rlkit.reporting import size_text
from rlkit.spaces import Arrays

GOES_ON, TERMINATED, TRUNCATED, BOTH, INVALID = range(5)
GAMMA = 0.9
SPACE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


class Single(NamedTuple):
    """One transition as an env gave it. Observations are told apart by their number."""

    observation: int
    action: int
    reward: float
    terminated: bool
    truncated: bool


class History(NamedTuple):
    """What some envs did, step by step: how each step of each env ended."""

    ends: list[list[int]]
    rows: int
    n_step: int

    @property
    def num_envs(self) -> int:
        return len(self.ends[0])

    def replay(self) -> Replay:
        # Up to N - 1 transitions of the capacity make no whole row.
        capacity = self.rows * self.num_envs + self.num_envs - 1
        return Replay(capacity, self.num_envs, SPACE, self.n_step, GAMMA)

    def single(self, t: int, env: int) -> Single:
        number = 1 + t * self.num_envs + env
        end = self.ends[t][env]
        reward = float(np.float32((number * 37 % 101) / 7 - 5))
        return Single(number, number * 5 % 11, reward, end in (TERMINATED, BOTH), end in (TRUNCATED, BOTH))

    def add(self, replay: Replay, t: int) -> None:
        """Give the replay what a step of all envs returned; invalid rows hold what must not be seen."""
        step = [self.single(t, env) for env in range(self.num_envs)]
        valid = np.array([end != INVALID for end in self.ends[t]])
        number = np.where(valid, [s.observation for s in step], np.nan).astype(np.float32)
        replay.add(
            np.stack([number, -number], axis=1),
            np.where(valid, [s.action for s in step], -99).astype(np.int32),
            Step(
                np.stack([number + 0.5, -number], axis=1),
                np.where(valid, [s.reward for s in step], np.nan),
                np.array([s.terminated for s in step]),
                np.array([s.truncated for s in step]),
                valid,
            ),
        )

    def kept(self, env: int, until: int) -> list[Single]:
        """The newest valid transitions of an env, as many as there are rows."""
        valid = [self.single(t, env) for t in range(until) if self.ends[t][env] != INVALID]
        return valid[-self.rows :]

    def oracle(self, until: int) -> dict[int, tuple[int, float, float, float]]:
        """Action, return, discount and next observation of every n-step transition, by its observation."""
        found = {}
        for env in range(self.num_envs):
            kept = self.kept(env, until)
            for first in range(len(kept) - (self.n_step - 1)):
                total, discount = 0.0, 1.0
                last = kept[first]
                for single in kept[first : first + self.n_step]:
                    total += discount * single.reward
                    discount *= GAMMA
                    last = single
                    if single.terminated or single.truncated:
                        break
                bootstrap = 0.0 if last.terminated else discount
                found[kept[first].observation] = (
                    kept[first].action,
                    total,
                    bootstrap,
                    last.observation + 0.5,
                )
        return found


@st.composite
def histories(draw: st.DrawFn) -> History:
    num_envs, rows, n_step = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    always_valid = draw(st.booleans())
    end = st.sampled_from([GOES_ON] * 6 + [TERMINATED, TRUNCATED, BOTH] + [INVALID] * (0 if always_valid else 2))
    step = st.lists(end, min_size=num_envs, max_size=num_envs)
    return History(draw(st.lists(step, min_size=1, max_size=30)), rows, n_step)


def every_place(usable: int) -> np.ndarray:
    """For each of the usable transitions the smallest 32 bits that draw it, [1, usable] uint32."""
    return np.array([[-(-place * 2**32 // usable) for place in range(usable)]], np.uint32)


def check_all(replay: Replay, expected: dict[int, tuple[int, float, float, float]]) -> None:
    """Draw every transition once and compare."""
    assert replay.usable().sum() == len(expected)
    if not expected:
        return
    got = replay.sample(every_place(len(expected)))
    assert got.observation.shape == (1, len(expected), 2)
    assert [part.dtype for part in got[:5]] == [np.float32, np.int32, np.float32, np.float32, np.float32]
    np.testing.assert_array_equal(got.observation[..., 1], -got.observation[..., 0])
    numbers = got.observation[0, :, 0]
    assert sorted(numbers.tolist()) == sorted(expected), "each usable transition is drawn once, and no other"
    action, reward, discount, following = zip(*(expected[int(n)] for n in numbers), strict=True)
    np.testing.assert_array_equal(got.action[0], action)
    # Five roundings of sums up to 5 x 10, each 2^-24 relative.
    np.testing.assert_allclose(got.reward[0], reward, rtol=0, atol=2e-5)
    np.testing.assert_allclose(got.discount[0], discount, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(got.next_observation[0, :, 0], following)


@given(history=histories())
def test_samples_are_those_of_lists_of_transitions(history: History) -> None:
    replay = history.replay()
    for t in range(len(history.ends)):
        history.add(replay, t)
        check_all(replay, history.oracle(t + 1))


def test_three_steps_worked_by_hand() -> None:
    # One env, gamma 0.9, n = 3; rewards by Single's formula: 37/7 - 5, 74/7 - 5, 10/7 - 5, 47/7 - 5.
    rewards = [2 / 7, 39 / 7, -25 / 7, 12 / 7]
    replay = Replay(10, 1, SPACE, 3, 0.9)
    history = History([[GOES_ON], [GOES_ON], [TRUNCATED], [TERMINATED]], 10, 3)
    for t in range(4):
        history.add(replay, t)
    assert replay.usable().tolist() == [2]
    got = replay.sample(np.array([[0, 2**32 - 1]], np.uint32))
    # From 1: all three, bootstrapped from the truncated one's next observation, 3.5, with 0.9^3.
    # From 2: stops at the truncation after two rewards, with 0.9^2.
    np.testing.assert_allclose(
        got.reward[0],
        [rewards[0] + 0.9 * rewards[1] + 0.81 * rewards[2], rewards[1] + 0.9 * rewards[2]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(got.discount[0], [0.729, 0.81], rtol=1e-6)
    assert got.next_observation[0, :, 0].tolist() == [3.5, 3.5]


def long_history(n_step: int = 2, num_envs: int = 3, steps: int = 40, rows: int = 9) -> History:
    """Wraps, ends episodes in each way, and fills its envs unevenly."""
    kinds = [GOES_ON, GOES_ON, INVALID, GOES_ON, TERMINATED, GOES_ON, TRUNCATED]
    ends = [[kinds[(t * (env + 1) + env) % 7] for env in range(num_envs)] for t in range(steps)]
    return History(ends, rows, n_step)


def filled(history: History) -> Replay:
    replay = history.replay()
    for t in range(len(history.ends)):
        history.add(replay, t)
    return replay


def test_draws_are_uniform(chi_square: Callable[[np.ndarray, np.ndarray], float]) -> None:
    history = long_history(steps=8)  # env 0 has no 9 rows yet, so the columns are of unequal length
    replay, usable = filled(history), len(history.oracle(8))
    assert len(set(replay.usable().tolist())) > 1
    bits = np.random.default_rng(0).integers(2**32, size=(100, 300), dtype=np.uint32)
    drawn = replay.sample(bits).observation[..., 0]
    counts = np.array([(drawn == number).sum() for number in history.oracle(8)])
    assert chi_square(counts, np.full(usable, bits.size / usable)) > 1e-6  # the probability of a false alarm


def test_the_shape_of_a_sample_is_that_of_the_bits() -> None:
    sample = filled(long_history()).sample(np.zeros((3, 5), np.uint32))
    assert [part.shape for part in sample[:5]] == [(3, 5, 2), (3, 5), (3, 5), (3, 5), (3, 5, 2)]


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (spaces.Box(0, 255, (3, 2), np.uint8), np.uint8),
        (spaces.Box(-1, 1, (3,), np.float64), np.float32),
        (spaces.Discrete(5, start=2), np.int32),
    ],
)
def test_observations_are_stored_as_the_network_takes_them(
    space: spaces.Box | spaces.Discrete, dtype: type[np.generic]
) -> None:
    replay = Replay(6, 2, space)
    shape = space.shape or ()
    observation = np.full((2, *shape), 3, space.dtype)
    ones, never = np.ones(2), np.zeros(2, np.bool_)
    replay.add(observation, np.array([1, 0]), Step(observation + 1, ones, never, never, ~never))
    got = replay.sample(np.zeros((1, 4), np.uint32))
    assert got.observation.dtype == got.next_observation.dtype == dtype
    np.testing.assert_array_equal(got.observation, np.full((1, 4, *shape), 3))
    np.testing.assert_array_equal(got.next_observation, np.full((1, 4, *shape), 4))


def test_rows_that_are_no_transition_are_never_stored() -> None:
    replay = filled(long_history())  # the invalid ones hold NaN and the action -99
    assert not any(np.isnan(field).any() for field in replay.fields.values())
    assert replay.fields["action"].min() >= 0


# ---- breaks, where a resumed run starts fresh episodes


def test_no_return_runs_on_across_a_break() -> None:
    # One env, undiscounted, n = 3: five steps that pay 1 each, from 0 to 5; a break; five that pay 100, from 1000 on.
    replay = Replay(100, 1, spaces.Box(-np.inf, np.inf, (1,), np.float32), 3, 1.0)
    no, yes = np.zeros(1, np.bool_), np.ones(1, np.bool_)
    for t in [*range(5), *range(1000, 1005)]:
        if t == 1000:
            replay.cut()
        step = Step(np.array([[t + 1.0]]), np.array([1.0 if t < 1000 else 100.0]), no, no, yes)
        replay.add(np.array([[float(t)]]), np.zeros(1, np.int32), step)
    got = replay.sample(every_place(8))
    assert got.observation[0, :, 0].tolist() == [0, 1, 2, 3, 4, 1000, 1001, 1002]
    assert got.reward[0].tolist() == [3, 3, 3, 2, 1, 300, 300, 300]
    assert got.next_observation[0, :, 0].tolist() == [3, 4, 5, 5, 5, 1003, 1004, 1005]
    assert got.discount[0].tolist() == [1] * 8, "the last step before it is bootstrapped: it was cut, not ended"


@given(history=histories(), at=st.sets(st.integers(0, 29)), saves=st.sets(st.integers(0, 29)))
@example(history=History(ends=[[0, 0], [0, 0], [0, 0]], rows=2, n_step=2), at={1, 2}, saves=set())  # cut twice, unsaved
def test_a_break_ends_episodes_as_a_truncation_and_is_saved(history: History, at: set[int], saves: set[int]) -> None:
    """Saved in segments, before and after breaks, against a history in which the last steps were truncated."""
    steps = len(history.ends)
    truncated = [list(row) for row in history.ends]
    replay, since, segments = history.replay(), np.zeros(history.num_envs, np.int64), list[Arrays]()
    for t in range(steps):
        history.add(replay, t)
        for cut_after_save in (True, False):
            if t in at and cut_after_save == (t % 2 == 0):  # a run is resumed where it was saved
                replay.cut()
                for env in range(history.num_envs):
                    valid = [k for k in range(t + 1) if history.ends[k][env] != INVALID]
                    if valid and truncated[valid[-1]][env] == GOES_ON:
                        truncated[valid[-1]][env] = TRUNCATED
            if cut_after_save and (t in saves or t in at):
                segments.append({name: np.copy(a) for name, a in replay.export(since).items()})
                since = replay.written.copy()
    segments.append(replay.export(since))
    copy = history.replay()
    copy.load(segments)
    for each in (replay, copy):
        check_all(each, history._replace(ends=truncated).oracle(steps))


# ---- memory


def test_memory_is_taken_once_and_as_much_as_is_told() -> None:
    history = long_history()
    replay = history.replay()
    places = [field.__array_interface__["data"] for field in replay.fields.values()]
    assert replay.nbytes == sum(field.nbytes for field in replay.fields.values())
    for t in range(len(history.ends)):
        history.add(replay, t)
    saved = replay.export(np.zeros(3, np.int64))
    replay.load([saved])
    assert [field.__array_interface__["data"] for field in replay.fields.values()] == places


@pytest.mark.parametrize(
    ("space", "bytes_each"),
    [
        (spaces.Discrete(5), 2 * 4 + 10),
        (spaces.Box(0, 255, (84, 84), np.uint8), 2 * 84 * 84 + 10),
        (spaces.Box(-1, 1, (4,), np.float64), 2 * 16 + 10),
    ],
)
def test_bytes_of_a_transition(space: spaces.Box | spaces.Discrete, bytes_each: int) -> None:
    # Two observations, an int32 action, a float32 reward, two flags. 100 transitions of 3 envs are 33 rows.
    assert Replay(100, 3, space).nbytes == 99 * bytes_each


def test_what_cannot_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    # 42 bytes each, as above. A tenth of the free memory is left: 900 / 42 = 21.4.
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    box = spaces.Box(-1, 1, (4,), np.float32)
    with pytest.raises(UserError) as caught:
        Replay(100, 1, box)
    assert str(caught.value) == (
        "buffer_size is 100, which takes 4.2 kB of memory where 1 kB are free: at most 21 would fit"
    )
    with pytest.raises(UserError):
        Replay(22, 1, box)
    assert Replay(21, 1, box).nbytes == 882


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (4_200_000, "4.2 MB"), (56_780_000_000, "56.8 GB"),
        (3e12, "3 TB"), (999_900, "1 MB"),
    ],
)  # fmt: skip
def test_sizes_for_people(size: float, text: str) -> None:
    assert size_text(size) == text


# ---- segments


@given(history=histories(), saves=st.sets(st.integers(0, 29)), keep=st.booleans())
def test_segments_make_up_the_whole(history: History, saves: set[int], keep: bool) -> None:
    steps = len(history.ends)
    replay, saved, segments = history.replay(), np.zeros(history.num_envs, np.int64), list[Arrays]()
    for t in range(steps):
        history.add(replay, t)
        if t in saves or t == steps - 1:
            segments.append({name: np.copy(a) for name, a in replay.export(saved).items()})
            saved = replay.written.copy()
    needed = np.maximum(replay.written - replay.rows, 0)
    if not keep:  # what no row of the last state comes from may be gone
        while (segments[0]["stop"] <= needed).all() and len(segments) > 1:
            segments.pop(0)
    for segment in segments:
        assert len(segment["reward"]) == (segment["stop"] - segment["start"]).sum() <= replay.rows * history.num_envs
    copy = history.replay()
    copy.load(segments)
    np.testing.assert_array_equal(copy.written, replay.written)
    check_all(copy, history.oracle(steps))
    # They stay the same when both go on.
    for t in range(steps):
        history.add(copy, t)
        history.add(replay, t)
    np.testing.assert_array_equal(copy.usable(), replay.usable())
    if replay.usable().any():
        bits = every_place(int(replay.usable().sum()))
        for a, b in zip(copy.sample(bits), replay.sample(bits), strict=True):
            np.testing.assert_array_equal(a, b)


def saved_every(history: History, steps: int) -> list[Arrays]:
    replay, saved, segments = history.replay(), np.zeros(history.num_envs, np.int64), list[Arrays]()
    for t in range(len(history.ends)):
        history.add(replay, t)
        if (t + 1) % steps == 0:
            segments.append(replay.export(saved))
            saved = replay.written.copy()
    return segments


def without(history: History, until: int, lost: list[Arrays]) -> dict[int, tuple[int, float, float, float]]:
    """The oracle's transitions of which no step is in one of some segments."""
    found = history.oracle(until)
    for env in range(history.num_envs):
        valid = [history.single(t, env).observation for t in range(until) if history.ends[t][env] != INVALID]
        for segment in lost:
            for row in range(segment["start"][env] - (history.n_step - 1), segment["stop"][env]):
                if segment["start"][env] < segment["stop"][env] and row >= 0:
                    found.pop(valid[row], None)
    return found


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("missing", [(0,), (1,), (2,), (1, 2), (0, 2), (0, 1, 2)])
def test_a_missing_segment_costs_its_own_rows(missing: tuple[int, ...], n_step: int) -> None:
    history = long_history(n_step, steps=30, rows=14)
    segments = saved_every(history, 3)[:4]  # of 12 steps, so that all segments are needed
    whole, damaged = history.replay(), history.replay()
    assert whole.load(segments) == 0
    check_all(whole, history.oracle(12))
    lost = [segments[i] for i in missing]
    gone = damaged.load([segment for i, segment in enumerate(segments) if i not in missing])
    assert gone == sum(int((segment["stop"] - segment["start"]).sum()) for segment in lost)
    check_all(damaged, without(history, 12, lost))
    for t in range(12, 30):  # until what was lost would have been overwritten
        history.add(damaged, t)
        check_all(damaged, without(history, t + 1, lost))
    assert damaged.lost() == []


def test_what_is_lost_has_no_priority() -> None:
    history = long_history(2, steps=12, rows=14)
    made = Replay(history.rows * 3, 3, SPACE, 2, GAMMA, priority_exponent=0.5)
    saved, segments = np.zeros(3, np.int64), list[Arrays]()
    for t in range(12):
        history.add(made, t)
        if t % 3 == 2:
            segments.append(made.export(saved))
            saved = made.written.copy()
    copy = Replay(history.rows * 3, 3, SPACE, 2, GAMMA, priority_exponent=0.5)
    copy.load(segments[:1] + segments[2:])
    copy.restore(made.state())
    drawn = copy.sample(np.random.default_rng(0).integers(2**32, size=(1, 5000), dtype=np.uint32))
    assert set(drawn.observation[0, :, 0].tolist()) == set(without(history, 12, segments[1:2]))


def test_segments_of_another_replay_are_told() -> None:
    segments = saved_every(long_history(steps=12), 12)
    with pytest.raises(ValueError, match="another number of envs"):
        long_history(num_envs=2).replay().load(segments)
    with pytest.raises(ValueError, match="shape"):
        Replay(27, 3, spaces.Box(-1, 1, (5,), np.float32)).load(segments)


def test_a_transition_is_what_the_agent_takes() -> None:
    assert isinstance(filled(long_history()).sample(np.zeros((1, 1), np.uint32)), Transition)
