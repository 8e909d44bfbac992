"""Stacks that are put together from single frames are those that the env gave."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from gymnasium import spaces

from rlkit.errors import UserError
from rlkit.interaction.vector import Step
from rlkit.replay.frames import FrameReplay

GAMMA = 0.9
FRAMES = 4
SPACE = spaces.Box(0, 255, (FRAMES, 2, 3), np.uint8)


class Played(NamedTuple):
    """T steps of N envs with full stacks, as a plain store would keep them; each frame tells its env and moment."""

    observation: np.ndarray
    """[T, N, F, 2, 3]"""
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    life_lost: np.ndarray
    valid: np.ndarray
    next_observation: np.ndarray

    def step(self, t: int) -> Step:
        return Step(
            self.next_observation[t],
            self.reward[t],
            self.terminated[t],
            self.truncated[t],
            self.valid[t],
            self.life_lost[t],
        )


def frame(env: int, moment: int) -> np.ndarray:
    digits = [env, moment % 256, moment // 256 % 256, 1, 2, 3]
    return np.array(digits, np.uint8).reshape(2, 3)


def play(steps: int, num_envs: int, seed: int, invalid: bool) -> Played:
    """Random episodes of 1 to 15 steps; `invalid`: a row that only resets its env follows each end."""
    rng = np.random.default_rng(seed)
    zero = np.zeros((steps, num_envs))
    played = Played(
        np.zeros((steps, num_envs, *SPACE.shape), np.uint8),
        rng.integers(5, size=(steps, num_envs)).astype(np.int32),
        rng.normal(size=(steps, num_envs)),
        zero.astype(bool),
        zero.astype(bool),
        zero.astype(bool),
        np.ones((steps, num_envs), np.bool_),
        np.zeros((steps, num_envs, *SPACE.shape), np.uint8),
    )
    for e in range(num_envs):
        moment, left, stack = 0, 0, np.zeros(SPACE.shape, np.uint8)
        for t in range(steps):
            if not left:
                left = int(rng.integers(1, 16))
                first = [frame(e, moment + k) for k in range(FRAMES)]  # as after some steps without an action
                blank = int(rng.integers(FRAMES))
                stack = np.stack([np.zeros_like(f) if k < blank else f for k, f in enumerate(first)])
                moment += FRAMES
                if invalid and t:
                    played.valid[t, e] = False
                    continue
            played.observation[t, e] = stack
            stack = np.concatenate([stack[1:], frame(e, moment)[None]])
            moment += 1
            played.next_observation[t, e] = stack
            left -= 1
            kind = rng.integers(4)
            played.terminated[t, e] = not left and kind in (0, 2)
            played.truncated[t, e] = not left and kind != 0
            played.life_lost[t, e] = bool(left) and rng.random() < 0.1
    return played


def outcome(played: Played, t: int, e: int, n_step: int) -> tuple[float, float, np.ndarray] | None:
    """Return, discount and last observation by going through the plain store; None where it does not go so far."""
    total, discount, taken = 0.0, 1.0, 0
    while True:
        if t >= len(played.action):
            return None
        if played.valid[t, e]:
            total += discount * played.reward[t, e]
            discount *= GAMMA
            taken += 1
            stops = played.terminated[t, e] or played.life_lost[t, e]
            if stops or played.truncated[t, e] or taken == n_step:
                return total, 0.0 if stops else discount, played.next_observation[t, e]
        t += 1


@pytest.mark.parametrize("priority_exponent", [0.0, 0.5])
@pytest.mark.parametrize(("num_envs", "n_step", "invalid"), [(1, 1, False), (3, 3, False), (2, 5, True)])
def test_100_000_samples_are_those_of_a_plain_store(
    num_envs: int, n_step: int, invalid: bool, priority_exponent: float
) -> None:
    steps, rows = 700, 90
    played = play(steps, num_envs, seed=n_step, invalid=invalid)
    place = {played.observation[t, e].tobytes(): (t, e) for t, e in np.argwhere(played.valid)}
    replay = FrameReplay(rows * num_envs, num_envs, SPACE, n_step, GAMMA, priority_exponent)
    rng = np.random.default_rng(0)
    compared, seen = 0, set()
    for t in range(steps):
        replay.add(played.observation[t], played.action[t], played.step(t))
        if t < 20 or t % 20:
            continue
        batch = replay.sample(rng.integers(2**32, size=(1, 3000), dtype=np.uint32))
        for i in range(3000):
            at = place[batch.observation[0, i].tobytes()]
            seen.add(at)
            expected = outcome(played, *at, n_step)
            assert at[0] <= t
            assert expected is not None
            total, discount, following = expected
            assert batch.action[0, i] == played.action[at]
            assert abs(batch.reward[0, i] - total) < 1e-5
            assert abs(batch.discount[0, i] - discount) < 1e-6
            assert np.array_equal(batch.next_observation[0, i], following)
            compared += 1
        if priority_exponent:
            assert replay.priorities is not None
            open_now = np.count_nonzero(replay.priorities.tree.weights)
            assert open_now == replay.usable().sum()
            replay.priorities.update(replay.drawn, rng.exponential(size=replay.drawn.shape))
        newest = [at for at in place.values() if at[0] <= t]
        whole = sum(min(rows, sum(e == column for _, e in newest)) for column in range(num_envs))
        assert whole / 2 < replay.usable().sum() <= whole
    assert compared >= 100_000
    ends = played.terminated | played.truncated
    for kind in (played.terminated & ~played.truncated, played.truncated, played.life_lost & ~ends, ~ends):
        assert any(kind[at] for at in seen), "every way to end is among what was compared"


def test_what_is_saved_continues_exactly_also_across_the_seam() -> None:
    played = play(400, 3, seed=5, invalid=False)
    whole, first, second = (FrameReplay(3 * 60, 3, SPACE, 3, GAMMA, 0.5) for _ in range(3))
    segments, since = [], np.zeros(3, np.int64)
    bits = np.random.default_rng(1).integers(2**32, size=(1, 64), dtype=np.uint32)
    for t in range(330):
        for replay in (whole, first) if t < 250 else (whole, second):
            replay.add(played.observation[t], played.action[t], played.step(t))
        if t in (100, 170, 249):
            segments.append(first.export(since))
            since = first.written.copy()
        if t == 249:
            second.load(segments[1:])
            second.restore(first.state())
        if t > 30:
            samples = [replay.sample(bits) for replay in (whole, first if t < 250 else second)]
            for one, other in zip(*samples, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("priority_exponent", [0.0, 0.5])
def test_a_missing_segment_costs_the_stacks_that_it_is_in(priority_exponent: float) -> None:
    played = play(400, 2, seed=7, invalid=False)
    place = {played.observation[t, e].tobytes(): (t, e) for t, e in np.argwhere(played.valid)}
    made, damaged = (FrameReplay(2 * 300, 2, SPACE, 3, GAMMA, priority_exponent) for _ in range(2))
    segments, since, steps = [], np.zeros(2, np.int64), []
    for t in range(160):
        made.add(played.observation[t], played.action[t], played.step(t))
        if t in (49, 99, 129, 159):
            segments.append(made.export(since))
            steps.append(t)
            since = made.written.copy()
    assert damaged.load([segments[0], *segments[2:]]) == len(segments[1]["reward"])
    damaged.restore(made.state())
    bits = np.random.default_rng(1).integers(2**32, size=(1, 3000), dtype=np.uint32)
    batch, seen = damaged.sample(bits), set()
    for i in range(3000):
        at = place[batch.observation[0, i].tobytes()]  # no stack that the env did not give
        seen.add(at[0])
        expected = outcome(played, *at, 3)
        assert expected is not None
        assert abs(batch.reward[0, i] - expected[0]) < 1e-5
        assert np.array_equal(batch.next_observation[0, i], expected[2])
    assert not seen & set(range(steps[0] + 1, steps[1] + 1))
    assert len(seen & set(range(steps[0] - 5))) > 40
    assert len(seen & set(range(steps[1] + 5, 155))) > 40


def test_an_interrupted_episode_ends_with_its_last_frame() -> None:
    played = play(60, 1, seed=2, invalid=False)
    ended = (played.terminated | played.truncated)[:, 0]
    t = next(t for t in range(20, 50) if not ended[t - 3 : t + 1].any())
    replay = FrameReplay(200, 1, SPACE, 2, GAMMA)
    for i in range(t + 1):
        replay.add(played.observation[i], played.action[i], played.step(i))
    replay.cut()
    fresh = play(30, 1, seed=3, invalid=False)
    for i in range(5):
        replay.add(fresh.observation[i], fresh.action[i], fresh.step(i))
    got = replay.sample(np.random.default_rng(0).integers(2**32, size=(1, 500), dtype=np.uint32))
    found = {o.tobytes(): k for k, o in enumerate(got.observation[0])}
    last = found[played.observation[t - 1, 0].tobytes()]  # the step whose following frame is the last that was seen
    np.testing.assert_array_equal(got.next_observation[0, last], played.next_observation[t - 1, 0])
    assert got.discount[0, last] in (np.float32(GAMMA), 0)
    assert played.observation[t, 0].tobytes() not in found, "what came after it is not known"


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_break_is_in_what_is_saved_after_it(n_step: int) -> None:
    before, after = play(60, 2, seed=2, invalid=False), play(40, 2, seed=3, invalid=False)
    after = after._replace(observation=after.observation + 100, next_observation=after.next_observation + 100)
    first, second, third = (FrameReplay(400, 2, SPACE, n_step, GAMMA) for _ in range(3))
    for t in range(40):
        first.add(before.observation[t], before.action[t], before.step(t))
    segments = [first.export(np.zeros(2, np.int64))]
    second.load(segments)
    second.cut()
    since = second.written.copy()
    for t in range(20):
        second.add(after.observation[t], after.action[t], after.step(t))
    third.load([*segments, second.export(since)])
    going = ~(before.terminated | before.truncated)[39]
    assert going.any()
    held = {before.observation[t, e].tobytes(): (t, e) for t, e in np.ndindex(40, 2) if t < 39 or not going[e]}
    for replay in (second, third):
        batch = replay.sample(np.random.default_rng(0).integers(2**32, size=(1, 3000), dtype=np.uint32))
        drawn = {o.tobytes(): i for i, o in enumerate(batch.observation[0])}
        assert held.keys() <= drawn.keys()
        assert not {before.observation[39, e].tobytes() for e in np.flatnonzero(going)} & drawn.keys()
        for which, (t, e) in held.items():
            known = Played(*(part[: 40 - going[e]].copy() for part in before))
            known.truncated[-1, e] |= not known.terminated[-1, e]
            total, discount, following = outcome(known, t, e, n_step) or pytest.fail("every return ends at the break")
            i = drawn[which]
            assert abs(batch.reward[0, i] - total) < 1e-5
            assert abs(batch.discount[0, i] - discount) < 1e-6
            assert np.array_equal(batch.next_observation[0, i], following)


def test_a_million_transitions_take_seven_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    small = FrameReplay(1000, 8, space, 3)
    assert small.nbytes * 1000 <= 7.2e9
    assert small.nbytes == sum(field.nbytes for field in small.fields.values()) + 8 * 1000


def test_observations_that_are_no_stacks_are_refused() -> None:
    replay = FrameReplay(100, 1, SPACE)
    rng = np.random.default_rng(0)
    none = np.zeros(1, np.bool_)
    step = Step(rng.integers(255, size=(1, *SPACE.shape), dtype=np.uint8), np.zeros(1), none, none, ~none)
    replay.add(rng.integers(255, size=(1, *SPACE.shape), dtype=np.uint8), np.zeros(1, np.int32), step)
    with pytest.raises(UserError, match="no stacks"):
        replay.add(rng.integers(255, size=(1, *SPACE.shape), dtype=np.uint8), np.zeros(1, np.int32), step)
