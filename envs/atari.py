"""Atari 2600 games from the screen, by the Arcade Learning Environment (ale-py, extra atari). Bellemare et al. 2013.

Preprocessing is ale-py's own for several envs, and Gymnasium's for one, which can be rendered; what comes out is the
same. Observations are stacks of grey frames, [stack_num, screen_size, screen_size] uint8, the newest last, with
black ones before the first. Each frame is the larger of the last two of `frameskip` that an action is held for, pixel
by pixel. Rewards are the game's own.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import ale_py
import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TimeLimit

from rlkit.errors import UserError

gymnasium.register_envs(ale_py)
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What stands between the console and the agent."""

    repeat_action_probability: float
    """Of the action before being held for one more frame, frame by frame: sticky actions."""
    full_action_space: bool
    """All 18 actions of the console, or those that the game knows."""
    noop_max: int
    """Most frames without an action that an episode begins with."""
    use_fire_reset: bool
    """Press FIRE as an episode begins, where the game knows it; with `episodic_life` as each life does."""
    episodic_life: bool
    """Whether a lost life is an end for learning: nothing is bootstrapped behind it, and the game goes on."""
    frameskip: int = 4
    screen_size: int = 84
    stack_num: int = 4
    max_num_frames_per_episode: int = 108_000
    """Frames after the start's after which an episode is truncated: half an hour of play."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.repeat_action_probability < 1.0:
            raise UserError(f"repeat_action_probability is {self.repeat_action_probability}, expected 0 up to below 1")
        for name in ("full_action_space", "use_fire_reset", "episodic_life"):
            if type(getattr(self, name)) is not bool:
                raise UserError(f"{name} is {getattr(self, name)!r}, expected true or false")
        for name, least in (
            ("noop_max", 0), ("frameskip", 1), ("screen_size", 1), ("stack_num", 1), ("max_num_frames_per_episode", 1)
        ):  # fmt: skip
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UserError(f"{name} is {value!r}, expected a whole number of at least {least}")

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is truncated."""
        return math.ceil(self.max_num_frames_per_episode / self.frameskip)


CONSOLE_FPS = 60
"""Frames that the console shows a second."""

SETTINGS = {
    "machado2018": Preprocessing(
        repeat_action_probability=0.25, full_action_space=True, noop_max=0, use_fire_reset=False, episodic_life=False
    ),
    "mnih2015": Preprocessing(
        repeat_action_probability=0.0, full_action_space=False, noop_max=30, use_fire_reset=True, episodic_life=True
    ),
}
"""By name: Machado et al. 2018, "Revisiting the Arcade Learning Environment", section 5; Mnih et al. 2015, "Human-level
control through deep reinforcement learning", methods, with the FIRE that later implementations press at the start of a
life."""


def fire(meanings: list[str], wanted: bool) -> int | None:
    """The action FIRE among actions by these names, where it is wanted and known."""
    return meanings.index("FIRE") if wanted and "FIRE" in meanings else None


def preprocessing(name: str, **changes: Any) -> Preprocessing:  # noqa: ANN401 - the fields' own
    """A named setting with the fields that are not None changed; UserError for an unknown name or a wrong value."""
    if name not in SETTINGS:
        raise UserError(f"preprocessing is {name!r}, expected one of {', '.join(SETTINGS)}")
    return dataclasses.replace(SETTINGS[name], **{k: v for k, v in changes.items() if v is not None})


class Start(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Begins an episode with up to `noop_max` frames without an action, each number as likely, and then FIRE.

    Args:
        env: a game without frame skipping.
        noop_max: frames.
        fire: the action FIRE, if it is to be pressed.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], noop_max: int, fire: int | None) -> None:
        super().__init__(env)
        self.noop_max, self.fire = noop_max, fire

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As any env's."""
        observation, info = self.env.reset(seed=seed, options=options)
        waits = int(self.np_random.integers(self.noop_max + 1))
        for action in [0] * waits + ([] if self.fire is None else [self.fire]):
            observation, _, terminated, truncated, info = self.env.step(action)
            if terminated or truncated:
                observation, info = self.env.reset(options=options)
        return observation, info


class LostLives(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says in `info["life_lost"]` where a life is lost and the game goes on; the step after presses FIRE.

    Args:
        env: a game.
        fire: the action FIRE, if it is to be pressed.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], fire: int | None) -> None:
        super().__init__(env)
        self.fire, self.lives, self.lost = fire, 0, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As any env's."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.lives, self.lost = info["lives"], False
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401 - the env's
        """As any env's."""
        pressed = action if self.fire is None or not self.lost else self.fire
        observation, reward, terminated, truncated, info = self.env.step(pressed)
        self.lost = info["lives"] < self.lives and not (terminated or truncated)
        self.lives = info["lives"]
        return observation, reward, terminated, truncated, {**info, "life_lost": self.lost}


def make(  # noqa: PLR0913 - the fields of Preprocessing
    game: str,
    preprocessing: str = "machado2018",
    render_mode: str | None = None,
    repeat_action_probability: float | None = None,
    full_action_space: bool | None = None,
    noop_max: int | None = None,
    use_fire_reset: bool | None = None,
    episodic_life: bool | None = None,
    frameskip: int | None = None,
    screen_size: int | None = None,
    stack_num: int | None = None,
    max_num_frames_per_episode: int | None = None,
) -> gymnasium.Env[Any, Any]:
    """One game with Gymnasium's preprocessing.

    Args:
        game: its name in ale-py, such as "ms_pacman".
        preprocessing: a key of `SETTINGS`.
        render_mode: "rgb_array" to draw the screen, 210 x 160.
        repeat_action_probability: as `Preprocessing`'s, like what follows; None: as the setting has it.
        full_action_space: see there.
        noop_max: see there.
        use_fire_reset: see there.
        episodic_life: see there.
        frameskip: see there.
        screen_size: see there.
        stack_num: see there.
        max_num_frames_per_episode: see there.

    Raises:
        UserError: an unknown setting or a wrong value.
    """
    changes = {k: v for k, v in locals().items() if k not in ("game", "preprocessing", "render_mode")}
    p = _preprocessing(preprocessing, **changes)
    env: gymnasium.Env[Any, Any] = ale_py.AtariEnv(
        game,
        frameskip=1,
        repeat_action_probability=p.repeat_action_probability,
        full_action_space=p.full_action_space,
        max_num_frames_per_episode=0,  # which would count those of the start
        render_mode=render_mode,
    )
    pressed = fire(env.unwrapped.get_action_meanings(), p.use_fire_reset)  # type: ignore[attr-defined] # the console's
    env = Start(env, p.noop_max, pressed)
    env = AtariPreprocessing(env, noop_max=0, frame_skip=p.frameskip, screen_size=p.screen_size)
    if p.episodic_life:
        env = LostLives(env, pressed)
    env = FrameStackObservation(env, p.stack_num, padding_type="zero")
    env = TimeLimit(env, p.max_steps)
    env.metadata = {**env.metadata, "render_fps": CONSOLE_FPS / p.frameskip}  # steps a second, not ale-py's 30
    return env


_preprocessing = preprocessing


class AtariVector(VectorEnv):
    """N games with ale-py's own preprocessing, on as many threads as there are cores; reset from outside.

    Args:
        game: as `make`'s, like what follows.
        num_envs: N.
        preprocessing: see there.
        max_episode_steps: steps of an episode, if they are fewer than its frames allow.
        **changes: the other arguments of `make`.

    Raises:
        UserError: an unknown setting or a wrong value.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - as Gymnasium has it

    def __init__(
        self,
        game: str,
        num_envs: int = 1,
        preprocessing: str = "machado2018",
        max_episode_steps: int | None = None,
        **changes: Any,  # noqa: ANN401 - the fields' own
    ) -> None:
        p = _preprocessing(preprocessing, **changes)
        self.limit = p.max_steps if max_episode_steps is None else min(p.max_steps, max_episode_steps)
        self.games = AtariVectorEnv(
            game,
            num_envs,
            max_num_frames_per_episode=2**30,  # where it cuts off, the last frames of a skip stand still
            repeat_action_probability=p.repeat_action_probability,
            full_action_space=p.full_action_space,
            img_height=p.screen_size,
            img_width=p.screen_size,
            stack_num=p.stack_num,
            frameskip=p.frameskip,
            noop_max=p.noop_max + 1 if p.noop_max else 0,  # the first that it does not reach
            use_fire_reset=p.use_fire_reset,
            reward_clipping=False,
        )
        self.num_envs, self.episodic_life = num_envs, p.episodic_life
        self.single_observation_space = self.games.single_observation_space
        self.single_action_space = self.games.single_action_space
        self.observation_space, self.action_space = self.games.observation_space, self.games.action_space
        names = [action.name for action in self.games.ale.get_action_set()]
        self.fire = fire(names, p.use_fire_reset and p.episodic_life)
        self.lives, self.steps = np.zeros(num_envs, np.int32), np.zeros(num_envs, np.int64)
        self.lost = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As any vector env's; `options` may hold a `reset_mask`, [N] bool."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        seeds = [seed + e for e in range(self.num_envs)] if isinstance(seed, int) else seed or [None] * self.num_envs
        given = np.array([-1 if s is None else s for s, due in zip(seeds, mask, strict=True) if due])
        observation, info = self.games.reset(seed=given, options={"reset_mask": mask})
        self.lives[mask], self.steps[mask], self.lost = info["lives"][mask], 0, self.lost & ~mask
        return observation, info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As any vector env's; `info["life_lost"]`, [N] bool, where lives count."""
        pressed = actions if self.fire is None else np.where(self.lost, self.fire, actions)
        observation, reward, terminated, _, info = self.games.step(np.asarray(pressed, np.int32))
        self.steps += 1
        truncated = ~terminated & (self.steps >= self.limit)
        if self.episodic_life:
            self.lost = (info["lives"] < self.lives) & ~(terminated | truncated)
            info["life_lost"], self.lives = self.lost, info["lives"]
        return observation, reward.astype(np.float64), terminated, truncated, info
