"""Catch: its dynamics worked by hand, what is seen, and all that any env must do."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence

from rlkit.envs import lookup, twins
from rlkit.envs.catch import Catch
from rlkit.errors import UserError
from rlkit.interaction.vector import Environments, make_vector

ENV = "rlkit/Catch-v0"
LEFT, STAY, RIGHT = np.int64(0), np.int64(1), np.int64(2)


def started(column: int, **arguments: Any) -> Catch:
    """An env whose ball begins in a column."""
    env = Catch(**arguments)
    seed = 0
    while True:
        picture, _ = env.reset(seed=seed)
        if column in columns(picture, 0, env):
            return env
        seed += 1


def columns(picture: np.ndarray, row: int, env: Catch) -> list[int]:
    """The columns of a row whose cell is white; the centre of a cell says so."""
    height, width = 84 // env.rows, 84 // env.columns
    top, left = (84 - height * env.rows) // 2, (84 - width * env.columns) // 2
    return [c for c in range(env.columns) if picture[top + row * height + height // 2, left + c * width + width // 2]]


@pytest.mark.parametrize(
    ("ball", "actions", "reward"),
    [
        # The paddle begins in column 2 of 0 to 4, and moves before it is known whether the ball is caught.
        (2, [STAY] * 9, 1.0),
        (3, [STAY] * 9, -1.0),
        (3, [STAY] * 8 + [RIGHT], 1.0),
        (0, [LEFT] * 9, 1.0),  # against the wall for seven of them
        (4, [RIGHT] * 9, 1.0),
        (2, [RIGHT] * 2 + [LEFT] * 2 + [STAY] * 5, 1.0),
        (2, [RIGHT] * 4 + [LEFT] * 2 + [STAY] * 3, 1.0),  # at the wall two moves are lost: 4, then 2
        (4, [RIGHT] * 4 + [LEFT] * 2 + [STAY] * 3, -1.0),
    ],
)
def test_the_ball_is_caught_where_the_paddle_is_at_the_end(ball: int, actions: list[np.int64], reward: float) -> None:
    env = started(ball)
    for step, action in enumerate(actions, 1):
        picture, *rest = env.step(action)
        last = step == 9
        assert rest == [reward if last else 0.0, last, False, {}]
        if not last:
            assert columns(picture, step, env) == [ball]


def test_the_picture_is_of_white_cells_on_black() -> None:
    # 10 rows of 8 pixels and 5 columns of 16 leave 4 pixels of 84 each way, 2 on each side.
    env = started(1)
    picture, *_ = env.step(RIGHT)
    expected = np.zeros((84, 84), np.uint8)
    expected[2 + 8 : 2 + 16, 2 + 16 : 2 + 32] = 255  # the ball in row 1, column 1
    expected[2 + 72 : 2 + 80, 2 + 48 : 2 + 64] = 255  # the paddle in row 9, column 3
    np.testing.assert_array_equal(picture, expected)


def test_a_board_has_the_size_that_is_asked_for() -> None:
    env = started(6, rows=4, columns=7)
    env.step(RIGHT)
    picture, reward, terminated, *_ = env.step(RIGHT)
    assert (reward, terminated) == (0.0, False)
    assert columns(picture, 2, env) == [6]
    assert columns(picture, 3, env) == [5]  # from the middle, 3
    assert env.step(RIGHT)[1:3] == (1.0, True)


def test_each_column_has_equal_chances_of_the_ball(chi_square: Callable[[np.ndarray, np.ndarray], float]) -> None:
    env = Catch()
    env.reset(seed=3)
    counts = np.zeros(5)
    for _ in range(2_000):
        counts[columns(env.reset()[0], 0, env)] += 1
    assert chi_square(counts, np.full(5, 400.0)) > 0.001  # which is the probability of a false alarm


def test_the_last_four_pictures_are_stacked_the_newest_last() -> None:
    stacked, plain = gymnasium.make(ENV), Catch()
    assert stacked.observation_space == gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    seen, _ = stacked.reset(seed=5)
    pictures = [plain.reset(seed=5)[0]] * 4
    np.testing.assert_array_equal(seen, pictures)
    for action in (LEFT, STAY, RIGHT, RIGHT, STAY):
        seen, *_ = stacked.step(action)
        pictures.append(plain.step(action)[0])
        np.testing.assert_array_equal(seen, pictures[-4:])


def test_its_registration() -> None:
    assert lookup.arguments(ENV) == {"rows": 10, "columns": 5}
    assert ENV in lookup.names()
    assert twins.twin(ENV, {}) is None
    env = gymnasium.make(ENV, rows=6, columns=3)
    again = gymnasium.make(env.spec or ENV)
    assert isinstance(again.unwrapped, Catch)
    assert (again.unwrapped.rows, again.unwrapped.columns) == (6, 3)
    assert again.observation_space == env.observation_space


def test_it_passes_gymnasiums_checks_and_pickle() -> None:
    pytest.importorskip("PIL")
    env = gymnasium.make(ENV)
    check_env(env.unwrapped)
    env.reset(seed=4)
    copy = pickle.loads(pickle.dumps(env))
    for action in [LEFT, RIGHT, STAY] * 3:
        assert data_equivalence(copy.step(action), env.step(action), exact=True)


def test_it_is_a_function_of_seed_and_actions() -> None:
    def rollout(seed: int) -> list[Any]:
        env = gymnasium.make(ENV)
        env.action_space.seed(1)
        seen: list[Any] = [env.reset(seed=seed)]
        for _ in range(40):
            seen.append(env.step(env.action_space.sample()))
            if seen[-1][2]:
                seen.append(env.reset())
        return seen

    assert data_equivalence(rollout(0), rollout(0), exact=True)
    assert not data_equivalence(rollout(0), rollout(1), exact=True)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_its_state_is_restored_exactly(num_envs: int) -> None:
    first, second = (Environments(make_vector(ENV, {}, num_envs), 7) for _ in range(2))
    actions = np.random.default_rng(0).integers(3, size=(30, num_envs))
    for action in actions[:14]:  # in the middle of the second episode
        first.step(action)
    assert second.restore({name: np.copy(value) for name, value in first.state().items()})
    for action in actions[14:]:
        for a, b in zip(first.step(action), second.step(action), strict=True):
            np.testing.assert_array_equal(a, b)
    for each in (first, second):
        each.close()


def test_it_is_drawn_with_ball_and_paddle_where_they_are() -> None:
    pytest.importorskip("PIL")
    env = started(0, render_mode="rgb_array")
    before = env.render()
    for _ in range(8):
        env.step(RIGHT)
    after = env.render()
    assert before is not None
    assert after is not None
    # A margin of 20 around 10 rows and 5 columns of 40.
    assert before.shape == after.shape == (440, 240, 3)
    ball, paddle, sky = before[40, 40].tolist(), before[410, 120].tolist(), before[200, 200].tolist()
    assert len({tuple(colour) for colour in (ball, paddle, sky, [255, 255, 255])}) == 4
    assert before[360, 40].tolist() == before[410, 200].tolist() == sky
    assert after[360, 40].tolist() == ball
    assert after[410, 200].tolist() == paddle
    assert after[40, 40].tolist() == after[410, 120].tolist() == sky
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert Catch().render() is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rows": 1}, "rows is 1, expected a whole number from 2 to 84"),
        ({"rows": 85}, "rows is 85, expected a whole number from 2 to 84"),
        ({"columns": 0}, "columns is 0, expected a whole number from 1 to 84"),
        ({"columns": 2.5}, "columns is 2.5, expected a whole number from 1 to 84"),
        ({"columns": True}, "columns is True, expected a whole number from 1 to 84"),
        ({"render_mode": "human"}, "render_mode is 'human', expected None or 'rgb_array'"),
    ],
)
def test_what_is_no_board_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        Catch(**arguments)
    assert str(refused.value) == sentence
