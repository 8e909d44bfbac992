"""Atari games: both preprocessings against each other, and what learning sees of a game."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from rlkit.api.configuration import resolve
from rlkit.envs import lookup
from rlkit.envs.atari import SETTINGS, AtariVector, make
from rlkit.errors import UserError
from rlkit.interaction.vector import Environments, OneEnv, make_vector, stacks_frames


def seeds(env: gymnasium.Env[Any, Any]) -> Iterator[tuple[int, int]]:
    """Seeds of an env, and what it seeds the console itself with, where that is no negative number."""
    for seed in itertools.count():
        console = int(np.uint32(env.unwrapped.seed_game(seed)[1]).astype(np.int32))  # type: ignore[attr-defined]
        if console >= 0:
            yield seed, console


@pytest.mark.parametrize("preprocessing", sorted(SETTINGS))
@pytest.mark.parametrize(("game", "size"), [("breakout", 84), ("pong", 42), ("seaquest", 84)])
def test_one_game_and_several_give_the_same_bits(game: str, size: int, preprocessing: str) -> None:
    # Without waiting at the start, whose length either draws in its own way.
    chosen: dict[str, Any] = {"preprocessing": preprocessing, "noop_max": 0, "screen_size": size}
    chosen["max_num_frames_per_episode"] = 900
    one, many = make(game, **chosen), AtariVector(game, 2, **chosen)
    assert one.observation_space == many.single_observation_space
    assert one.action_space == many.single_action_space
    rng, several_seeds = np.random.default_rng(0), seeds(one)
    ends, lost = 0, 0

    def reset() -> None:
        seed, console = next(several_seeds)
        first, _ = one.reset(seed=seed)
        stacks, _ = many.reset(seed=[console, 0], options={"reset_mask": np.array([True, not ends])})
        np.testing.assert_array_equal(stacks[0], first)

    reset()
    for _ in range(700):
        action = int(rng.integers(many.single_action_space.n))  # type: ignore[attr-defined] # Discrete
        single, several = one.step(action), many.step(np.array([action, 0]))
        np.testing.assert_array_equal(several[0][0], single[0])
        assert single[1:4] == tuple(part[0] for part in several[1:4])
        assert ("life_lost" in single[4]) == ("life_lost" in several[4]) == SETTINGS[preprocessing].episodic_life
        if SETTINGS[preprocessing].episodic_life:
            assert several[4]["life_lost"][0] == single[4]["life_lost"]
            lost += single[4]["life_lost"]
        if single[2] or single[3]:
            ends += 1
            reset()
    assert ends > 1
    assert game == "pong" or not SETTINGS[preprocessing].episodic_life or lost > 2


@pytest.mark.parametrize(("frames", "steps"), [(40, 10), (42, 11)])
def test_the_frames_of_the_start_do_not_count(frames: int, steps: int) -> None:
    for num_envs in (1, 2):
        arguments: dict[str, Any] = {"preprocessing": "mnih2015", "max_num_frames_per_episode": frames}
        games = Environments(make_vector(lookup.find("ALE/Pong-v5"), arguments, num_envs), seed=0)
        ends = [t for t in range(1, 3 * steps + 1) if games.step(np.zeros(num_envs, np.int32)).truncated.all()]
        assert ends == [steps, 2 * steps, 3 * steps]


def test_an_id_says_the_setting_and_arguments_change_it() -> None:
    assert lookup.arguments("ALE/Pong-v5")["preprocessing"] == "machado2018"
    assert lookup.arguments("PongNoFrameskip-v4")["preprocessing"] == "mnih2015"
    assert lookup.arguments("PongNoFrameskip-v0")["preprocessing"] == "machado2018"
    made = gymnasium.make(lookup.find("PongNoFrameskip-v4"), screen_size=50, stack_num=2)
    assert made.observation_space.shape == (2, 50, 50)
    assert made.action_space.n == 6  # type: ignore[attr-defined] # Discrete
    assert gymnasium.make(lookup.find("ALE/Pong-v5")).action_space.n == 18  # type: ignore[attr-defined]
    assert stacks_frames(gymnasium.make(lookup.find("ALE/Pong-v5"), screen_size=36))
    assert stacks_frames(gymnasium.make("rlkit/Catch-v0"))
    assert not stacks_frames(gymnasium.make("CartPole-v1"))


def test_starts_wait_as_many_frames_as_they_may() -> None:
    several = AtariVector("pong", 30, "mnih2015", noop_max=2, use_fire_reset=False)
    waited = several.reset(seed=1)[1]["episode_frame_number"]
    single = make("pong", "mnih2015", noop_max=2, use_fire_reset=False)
    one = [single.reset(seed=None if k else 0)[1]["episode_frame_number"] for k in range(30)]
    for frames in (waited, one):
        assert set(frames) == {0, 1, 2}
    fired = make("pong", "mnih2015", noop_max=0).reset(seed=0)[1]["episode_frame_number"]
    assert fired == AtariVector("pong", 1, "mnih2015", noop_max=0).reset(seed=0)[1]["episode_frame_number"][0] == 1


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(("fire", "losses"), [(True, 5), (False, 0)])
def test_each_life_begins_with_fire(num_envs: int, fire: bool, losses: int) -> None:
    # Breakout's ball comes with FIRE alone, and is lost by who does nothing.
    arguments: dict[str, Any] = {"preprocessing": "mnih2015", "use_fire_reset": fire}
    games = Environments(make_vector(lookup.find("ALE/Breakout-v5"), arguments, num_envs), seed=0)
    lost = 0
    for _ in range(200):
        step = games.step(np.zeros(num_envs, np.int32))
        assert step.life_lost is not None
        lost += int(step.life_lost[0] | step.terminated[0])
        if step.terminated[0]:
            break
    assert lost == losses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preprocessing": "mnih2013"}, "preprocessing is 'mnih2013', expected one of machado2018, mnih2015"),
        ({"repeat_action_probability": 1.5}, "repeat_action_probability is 1.5, expected 0 up to below 1"),
        ({"use_fire_reset": "maybe"}, "use_fire_reset is 'maybe', expected true or false"),
        ({"stack_num": 0}, "stack_num is 0, expected a whole number of at least 1"),
        ({"frameskip": 2.5}, "frameskip is 2.5, expected a whole number of at least 1"),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_wrong_argument_is_one_sentence(arguments: dict[str, Any], message: str, num_envs: int) -> None:
    with pytest.raises(UserError, match=message):
        make_vector(lookup.find("ALE/Pong-v5"), arguments, num_envs)


def test_games_without_the_extra_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ale_py", "ale_py.registration"):
        monkeypatch.setitem(sys.modules, module, None)  # cannot be imported
    monkeypatch.delitem(sys.modules, "rlkit.envs.atari")
    monkeypatch.delitem(gymnasium.registry, "ALE/Pong-v5", raising=False)
    for env in ("ALE/Pong-v5", "ALE/Breakout-v5", "BreakoutNoFrameskip-v4"):
        with pytest.raises(UserError, match=r"needs a package: ale_py is not installed: pip install -e '\.\[atari\]'"):
            lookup.find(env)
    assert "CartPole-v1" in lookup.names()


def test_a_run_on_a_game_is_trained_told_drawn_and_continued(rl: Callable[..., Any], tmp_path: Path) -> None:
    small = [
        "--env", "ALE/Pong-v5", "--screen-size", "36", "--max-num-frames-per-episode", "160", "--hidden", "8",
        "--buffer-size", "500", "--learning-starts", "100", "--batch-size", "4", "--gradient-steps", "1",
        "--checkpoint-interval", "100", "--eval-interval", "0", "--log-interval", "40", "--threads", "1",
        "--final-episodes", "4",
    ]  # fmt: skip
    trained = rl("train", "dqn", *small, "--steps", "200", "--json")
    assert trained.code == 0, trained.err
    run = json.loads(trained.out)
    assert (run["step"], run["frames"]) == (200, 800)
    assert run["evaluation"]["lengths"] == [40] * 4
    for told in ("preset: ALE-Pong-v5", "replay: 496 transitions, 660 kB of memory", "checkpoints: up to"):
        assert told in trained.err
    continued = rl("train", "--resume", "runs", "--steps", "280")
    assert "at step 280, 1,120 frames, after" in continued.out
    video = tmp_path / "pong.gif"
    assert rl("render", "runs", "--values", "--to", video).code == 0
    with Image.open(video) as picture:
        assert picture.size[0] > 2 * 320, "the screen, and what the agent sees beside it"
        pictures = getattr(picture, "n_frames", 1)
        times = []
        for k in range(pictures):
            picture.seek(k)
            times.append(picture.info["duration"])
    # 40 steps of 4 of the console's 60 frames a second; the last picture stays for a second.
    assert pictures > 10
    assert sum(times[:-1]) == pytest.approx(1000 * 40 * 4 / 60, abs=20)


def test_an_unknown_game_is_told_with_its_neighbours() -> None:
    with pytest.raises(UserError, match="ALE/Pong-v5"):
        lookup.find("ALE/Pog-v5")


def test_a_lost_life_is_an_end_for_learning_alone() -> None:
    for num_envs in (1, 2):
        games = Environments(
            make_vector(lookup.find("ALE/Breakout-v5"), {"preprocessing": "mnih2015"}, num_envs), seed=0
        )
        lost = ended = 0
        for t in range(600):
            step = games.step(np.full(num_envs, t % 4, np.int32))
            assert step.life_lost is not None
            np.testing.assert_array_equal(step.bootstraps, ~(step.terminated | step.life_lost))
            assert not (step.life_lost & step.terminated).any()
            lost, ended = lost + step.life_lost[0], ended + step.terminated[0]
            if ended:
                break
        assert (lost, ended) == (4, 1), "five lives, of which the last one ends the game"


@pytest.mark.parametrize("preprocessing", sorted(SETTINGS))
@pytest.mark.parametrize("num_envs", [1, 3])
def test_games_continue_from_their_state(num_envs: int, preprocessing: str) -> None:
    def fresh() -> Environments:
        chosen: dict[str, Any] = {"preprocessing": preprocessing, "screen_size": 36, "max_num_frames_per_episode": 200}
        return Environments(make_vector(lookup.find("ALE/Breakout-v5"), chosen, num_envs), seed=3)

    def roll(games: Environments, steps: int, seed: int) -> list[np.ndarray]:
        known = 18 if preprocessing == "machado2018" else 4
        actions = np.random.default_rng(seed).integers(known, size=(steps, num_envs)).astype(np.int32)
        return [np.copy(part) for row in actions for part in (*games.step(row)[:4], games.observation)]

    one, other = fresh(), fresh()
    assert isinstance(one.envs, OneEnv if num_envs == 1 else gymnasium.Wrapper | gymnasium.vector.VectorEnv)
    roll(one, 130, seed=1)
    assert other.restore(one.state())
    for a, b in zip(roll(one, 80, seed=2), roll(other, 80, seed=2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_presets_serve_every_id_of_a_game() -> None:
    for env in ("ALE/Pong-v5", "PongNoFrameskip-v4", "ALE/Seaquest-v5"):
        config, taken = resolve("dqn", env)
        assert taken is not None
        assert config.network == "nature-cnn"  # type: ignore[attr-defined] # a DQN's
        assert config.clip_reward  # type: ignore[attr-defined]
