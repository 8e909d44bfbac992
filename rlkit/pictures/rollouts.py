"""A greedy rollout to look at: as mp4, as gif, or live in a window."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from rlkit.config import Argument
from rlkit.errors import UserError, install, lacking
from rlkit.files import check_output
from rlkit.interaction.checked import Checked
from rlkit.interaction.evaluation import LONGEST, Policy, begin
from rlkit.interaction.vector import name_of, time_limit
from rlkit.pictures.agent_view import Panel, font, views
from rlkit.pictures.video import FASTEST, Picture, ffmpeg, write_video
from rlkit.seeding import evaluation_seed

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

SMALLEST = 320
"""Pixels; a narrower picture is enlarged by a whole number, so that its caption can be read."""

HOLD = 1.0
"""Seconds for which the last picture of an episode stays."""


@dataclass(frozen=True)
class View:
    """How a rollout is shown."""

    fps: float | None = None
    """Env steps a second; None for the env's own speed, or 30 where it names none."""

    width: int | None = None
    """Pixels of the picture's width; None for the env's own."""

    max_steps: int | None = None
    """Where an episode is cut that does not end by itself; None for `LONGEST` where the env has no time limit."""

    values: Callable[[np.ndarray], np.ndarray] | None = None
    """From one observation, [1, ...], to the values of its actions, [1, A], to be drawn beside the screen with what
    the agent sees; None for the screen alone."""


@dataclass(frozen=True)
class Rollout:
    """The episodes that were shown."""

    path: Path | None
    """The file, None for a window."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    """Env steps."""

    frames: int
    """Different pictures: a gif, or an env of over 60 steps a second, shows only some of the steps."""

    cut: int = 0
    """How many episodes would have gone on, but were cut off."""

    @property
    def text(self) -> str:
        """The returns, and how many are of episodes that were cut off."""
        cut = f"; {self.cut} of {len(self.returns)} cut off after {max(self.lengths):,} steps" if self.cut else ""
        return ", ".join(f"{r:g}" for r in self.returns) + cut


def record(
    policy: Policy,
    env: str | EnvSpec,
    env_args: Mapping[str, Argument],
    path: Path,
    *,
    seed: int = 0,
    episodes: int = 1,
    view: View | None = None,
) -> Rollout:
    """Play episodes and write them as a video with a caption; needs no display.

    The episodes are the first ones that `rlkit.interaction.evaluation.evaluate` plays with the same seed.

    Args:
        policy: from one observation, [1, ...], to one action, [1].
        env: Gymnasium id or spec of an env that renders "rgb_array".
        env_args: its keyword arguments.
        path: the file, .mp4 or .gif; written whole or not at all.
        seed: of the episodes.
        episodes: how many.
        view: speed, size and longest episode.

    Raises:
        UserError: as `check`; the env has no pictures or needs a package; the file cannot be written.
    """
    check(path)
    with _headless(), _world(env, env_args) as world:
        playback = _Playback(world, policy, seed, episodes, view or View())
        playback.stride = math.ceil(playback.fps / FASTEST[path.suffix.lower()] - 1e-9)
        write_video(path, playback.pictures(), playback.fps / playback.stride)
    return playback.rollout(path)


def show(
    policy: Policy,
    env: str | EnvSpec,
    env_args: Mapping[str, Argument],
    *,
    seed: int = 0,
    episodes: int = 1,
    view: View | None = None,
) -> Rollout:
    """Play episodes in a window, at the env's speed, until they end or it is closed (also by Esc or q).

    The arguments are those of `record`. An episode that is left early counts as far as it came.

    Raises:
        UserError: there is no display or no pygame, the env has no pictures or needs a package.
    """
    check(None, human=True)
    import pygame  # noqa: PLC0415 - an extra

    with _world(env, env_args) as world:
        playback = _Playback(world, policy, seed, episodes, view or View())
        try:
            with closing(playback.pictures()) as pictures:
                _project(pictures, name_of(env))
        except pygame.error as error:
            raise UserError(f"no window opens ({error}): write a file with --to rollout.mp4") from error
        finally:
            pygame.display.quit()
    return playback.rollout(None)


def check(path: Path | None, *, human: bool = False) -> None:
    """Refuse what cannot be shown, before a policy is loaded for it.

    Args:
        path: the file to write; None for an mp4 whose name is not known yet, or for a window.
        human: live in a window.

    Raises:
        UserError: an ending other than .mp4 and .gif, a folder that cannot be written to, no ffmpeg for
            an mp4; no display or no pygame for a window.
    """
    if path is not None:
        check_output(path, *FASTEST)
    if not human and (path is None or path.suffix.lower() == ".mp4"):
        ffmpeg()
    if human:
        if not _display():
            raise UserError("there is no display for --human: write a file with --to rollout.mp4")
        try:
            with _headless():
                import pygame  # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise UserError(f"--human needs pygame: {install('video')}") from None


class _Moment(NamedTuple):
    """Where a rollout is: the episode from 1, its steps and return so far, whether it ends here, and by a cut."""

    episode: int
    step: int
    total: float
    ended: bool
    cut: bool = False


class _Playback:
    """Plays episodes and keeps what came of them."""

    def __init__(self, env: gymnasium.Env[Any, Any], policy: Policy, seed: int, episodes: int, view: View) -> None:
        self._env, self._policy, self._view = env, policy, view
        self._seed, self._episodes = seed, episodes
        self._longest = self._view.max_steps or (math.inf if time_limit(env) else LONGEST)
        self.fps = float(view.fps or env.metadata.get("render_fps") or 30)
        self.stride = 1
        self._ends: list[_Moment] = []
        self._frames = 0
        self._observation = np.zeros(0)
        self._panel: Panel | None = None

    def rollout(self, path: Path | None) -> Rollout:
        """What has been played."""
        returns, lengths = tuple(end.total for end in self._ends), tuple(end.step for end in self._ends)
        return Rollout(path, returns, lengths, self._frames, sum(end.cut for end in self._ends))

    def pictures(self) -> Generator[Picture]:
        """Captioned pictures of every `stride`-th step, the first and the last of each episode among them."""
        caption: _Caption | None = None
        title = self._env.spec.id if self._env.spec else ""
        with closing(self._moments()) as moments:
            for moment in moments:
                if moment.step % self.stride and not moment.ended:
                    continue
                frame = _picture(self._env.render(), title)
                if self._view.values:
                    frame = self._beside(frame, self._view.values)
                caption = caption or _Caption(title, frame.shape, self._view.width)
                self._frames += 1
                shown = HOLD if moment.ended else self.stride / self.fps
                yield caption.under(frame, moment, self._episodes), shown

    def _beside(self, frame: np.ndarray, values: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The screen with what the agent sees and values."""
        found = values(self._observation[None])[0]
        if self._panel is None:
            named = getattr(self._env.unwrapped, "get_action_meanings", None)
            names = named() if named else [f"action {a}" for a in range(len(found))]
            self._panel = Panel(names, len(views(self._observation)))
        return self._panel.beside(frame, self._observation, found)

    def _moments(self) -> Generator[_Moment]:
        for episode in range(self._episodes):
            self._observation, _ = self._env.reset(seed=evaluation_seed(self._seed, episode))
            begin(self._policy, np.ones(1, np.bool_))
            moment = _Moment(episode + 1, 0, 0.0, False)
            try:
                yield moment
                while not moment.ended:
                    action = self._policy(self._observation[None])[0]
                    self._observation, reward, terminated, truncated, _ = self._env.step(action)
                    step = moment.step + 1
                    ended = bool(terminated or truncated)
                    cut = not ended and step >= self._longest
                    moment = _Moment(episode + 1, step, moment.total + float(reward), ended or cut, cut)
                    yield moment
            finally:
                self._ends.append(moment)


def _picture(frame: object, title: str) -> np.ndarray:
    """A frame as [height, width, 3] uint8: grey ones have one channel or none, and a fourth is left out."""
    expected = "expected a picture of [height, width, 3] and dtype uint8"
    if not isinstance(frame, np.ndarray):
        raise UserError(f"{title} cannot be drawn: its rgb_array is of type {type(frame).__name__}; {expected}")
    grey = frame[..., None] if frame.ndim == 2 else frame
    if grey.ndim != 3 or grey.shape[2] not in (1, 3, 4) or not grey.size or grey.dtype != np.uint8:
        text = f"its rgb_array has the shape {frame.shape} and dtype {frame.dtype}"
        raise UserError(f"{title} cannot be drawn: {text}; {expected}")
    return np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else grey[..., :3]


class _Caption:
    """A strip under the picture: the env, the episode, the step and the return so far, each in its place."""

    BACKGROUND, LABEL, VALUE = (28, 32, 40), (150, 160, 175), (255, 255, 255)
    WIDEST = ("episode 88/88", "step 88,888", "return -8,888.8")

    def __init__(self, title: str, shape: tuple[int, ...], width: int | None) -> None:
        scale = width / shape[1] if width else math.ceil(SMALLEST / shape[1])
        self.size = max(2, round(shape[1] * scale)), max(2, round(shape[0] * scale))
        self._title = title
        self._rows, self._font = self._fit()
        gap = self._font.size
        slots = [self._font.getlength(text) + gap for text in self.WIDEST]
        left = gap if self._rows == 2 else self.size[0] - sum(slots)
        self._places = [left, left + slots[0], left + slots[0] + slots[1]]
        self._line = 1.8 * gap

    def _fit(self) -> tuple[int, FreeTypeFont]:
        """One row in the largest font that fits, two if that would be too small to read."""
        largest = min(24, max(15, self.size[0] // 32))
        fitting = font(largest)
        for rows, smallest in ((1, 13), (2, 8)):
            for size in range(largest, smallest - 1, -1):
                fitting = font(size)
                texts = self.WIDEST if rows == 2 else (self._title, *self.WIDEST)
                if sum(fitting.getlength(text) + size for text in texts) + size <= self.size[0]:
                    return rows, fitting
        return 2, fitting

    def under(self, frame: np.ndarray, moment: _Moment, episodes: int) -> np.ndarray:
        """The picture with the strip, [height, width, 3] uint8, of even height and width."""
        from PIL import Image, ImageDraw  # noqa: PLC0415

        (width, height), picture = self.size, Image.fromarray(np.ascontiguousarray(frame))
        if self.size != picture.size:
            by = Image.Resampling.LANCZOS if width % picture.width else Image.Resampling.NEAREST
            picture = picture.resize(self.size, by)
        below = round(height + self._line * self._rows)
        canvas = Image.new("RGB", (width + width % 2, below + below % 2), self.BACKGROUND)
        canvas.paste(picture)
        draw = ImageDraw.Draw(canvas)
        first, last = height + self._line / 2, height + self._line * (self._rows - 0.5)
        draw.text((self._font.size, first), self._title, self.VALUE, self._font, anchor="lm")
        total = f"{moment.total:,.1f}".removesuffix(".0")
        values = (f"{moment.episode}/{episodes}", f"{moment.step:,}", total)
        for x, widest, value in zip(self._places, self.WIDEST, values, strict=True):
            label = widest.split()[0] + " "
            draw.text((x, last), label, self.LABEL, self._font, anchor="lm")
            draw.text((x + self._font.getlength(label), last), value, self.VALUE, self._font, anchor="lm")
        return np.asarray(canvas)


def _project(pictures: Iterator[Picture], title: str) -> None:
    """Show pictures in a window, each for its time."""
    import pygame  # noqa: PLC0415 - an extra

    clock, window = pygame.time.Clock(), None
    for pixels, seconds in pictures:
        turned = pixels.swapaxes(0, 1)
        if window is None:
            pygame.display.init()
            window = pygame.display.set_mode(turned.shape[:2])
            pygame.display.set_caption(title)
        pygame.surfarray.blit_array(window, turned)
        pygame.display.flip()
        clock.tick(1 / seconds)
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                return
            if event.type == pygame.KEYDOWN and event.key in (pygame.K_ESCAPE, pygame.K_q):
                return


@contextmanager
def _world(env: str | EnvSpec, env_args: Mapping[str, Argument]) -> Iterator[gymnasium.Env[Any, Any]]:
    """The env to draw, closed at the end."""
    try:
        with closing(_make(env, {**env_args, "render_mode": "rgb_array"})) as made:
            if "rgb_array" not in (made.metadata.get("render_modes") or ()):
                raise UserError(f"{name_of(env)} cannot be drawn: it does not render rgb_array")
            yield Checked(made)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{name_of(env)} cannot be drawn: {lacking(error)}") from error


def _make(env: str | EnvSpec, arguments: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium's, where the env does not render rgb_array
            return gymnasium.make(env, disable_env_checker=True, **arguments)
    except TypeError as error:
        raise UserError(f"{name_of(env)} cannot be drawn, it refuses its arguments {arguments}: {error}") from error
    except (UserError, gymnasium.error.Error):
        raise
    except Exception as error:
        said = f"it raised {type(error).__name__}: {error}"
        raise UserError(f"{name_of(env)} cannot be drawn, it cannot be made: {said}") from error


def _display() -> bool:
    """Whether a window can be opened; a user who sets SDL_VIDEODRIVER says so."""
    wanted = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform != "linux" or any(os.environ.get(name) for name in wanted)


@contextmanager
def _headless() -> Iterator[None]:
    """Draw without a display or a sound card, and without pygame's greeting on stdout."""
    wanted = {"SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    if not _display():
        wanted["SDL_VIDEODRIVER"] = "dummy"
    fresh = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            os.environ.pop(name, None)
