"""Videos are decoded again: their size, length, timing, caption, and that a failure leaves no file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from rlkit.errors import UserError, install
from rlkit.interaction.evaluation import evaluate
from rlkit.interaction.vector import make_vector
from rlkit.pictures import rollouts, video
from rlkit.pictures.rollouts import View, record, show

ROOT = Path(__file__).resolve().parents[1]
NO_DISPLAY = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


class Pixels(gymnasium.Env[np.ndarray, np.int64]):
    """Observes its step; shows a white bar that moves; ends after `length` steps, each with reward 1/2."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 100}  # noqa: RUF012 - Gymnasium's own form
    observation_space = spaces.Box(0, 1000, (1,), np.float32)
    action_space: spaces.Space[np.int64] = spaces.Discrete(2)

    def __init__(self, length: int = 10, fails_at: int = -1, render_mode: str | None = None) -> None:
        self.length, self.fails_at, self.render_mode = length, fails_at, render_mode
        self.steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        del action
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("the env breaks")
        return np.full(1, self.steps, np.float32), 0.5, self.steps >= self.length, False, {}

    def render(self) -> Any:
        frame = np.zeros((99, 71, 3), np.uint8)
        frame[:, self.steps % 71] = 255
        return frame


class Blind(Pixels):
    """Renders text only."""

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    envs: dict[str, Any] = {"test/Pixels-v0": Pixels, "test/Blind-v0": Blind}
    for name, env in envs.items():
        gymnasium.register(name, env)
    yield
    for name in envs:
        del gymnasium.registry[name]


def upright(observations: np.ndarray) -> np.ndarray:
    """Pushes a cart under its falling pole: hundreds of steps of CartPole-v1."""
    assert observations.shape == (1, 4)
    return np.asarray(observations @ [0.02, 0.05, 1.0, 0.3] > 0).astype(np.int64)


def still(observations: np.ndarray) -> np.ndarray:
    return np.zeros(len(observations), np.int64)


def gif(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The pictures of a gif and the milliseconds of each."""
    pictures, milliseconds = [], []
    with Image.open(path) as file:
        for i in range(getattr(file, "n_frames", 1)):
            file.seek(i)
            pictures.append(np.asarray(file.convert("RGB")))
            milliseconds.append(file.info["duration"])
    return pictures, milliseconds


def mp4(path: Path, height: int, width: int) -> np.ndarray:
    """The pictures of an mp4, [T, height, width, 3]."""
    command = [video.ffmpeg(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_DISPLAY:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("headless")
def test_gif_of_cartpole_is_small_and_runs_in_real_time(tmp_path: Path) -> None:
    rollout = record(upright, "CartPole-v1", {}, tmp_path / "a.gif", view=View(max_steps=101))
    assert (rollout.returns, rollout.lengths) == ((101.0,), (101,))
    pictures, milliseconds = gif(tmp_path / "a.gif")
    # 50 steps a second, every second one shown: steps 0, 2, ..., 100, and the last, 101, for a second.
    assert rollout.frames == len(pictures) == 52
    assert milliseconds == [40] * 51 + [1000]
    height, width, _ = pictures[0].shape
    assert width == 600
    assert 420 <= height <= 450
    assert (tmp_path / "a.gif").stat().st_size < 100_000
    assert (pictures[-1][5, 5] == 255).all(), "white stays white"
    assert list(tmp_path.iterdir()) == [rollout.path]


def test_caption_changes_and_leaves_the_scene_alone(tmp_path: Path) -> None:
    rollout = record(still, "test/Pixels-v0", {"length": 6}, tmp_path / "a.gif", view=View(fps=10))
    pictures, milliseconds = gif(tmp_path / "a.gif")
    assert rollout.frames == len(pictures) == 7
    assert milliseconds == [100] * 6 + [1000]
    # 71 pixels are enlarged by 5 to at least 320.
    strips = [picture[99 * 5 :] for picture in pictures]
    assert all((a != b).any() for a, b in pairwise(strips))
    for step, picture in enumerate(pictures):
        scene = np.zeros((99 * 5, 71 * 5, 3), np.uint8)
        scene[:, step * 5 : step * 5 + 5] = 255
        np.testing.assert_array_equal(picture[: 99 * 5, : 71 * 5], scene)


def test_rounding_of_gif_times_does_not_add_up(tmp_path: Path) -> None:
    record(still, "test/Pixels-v0", {"length": 60}, tmp_path / "a.gif", view=View(fps=30))
    _, milliseconds = gif(tmp_path / "a.gif")
    assert set(milliseconds[:-1]) == {30, 40}
    assert sum(milliseconds) == 2000 + 1000


@pytest.mark.parametrize(("fps", "stride"), [(30, 1), (50, 2), (60, 2), (100, 3), (100 / 3, 1)])
def test_gifs_have_no_time_that_browsers_slow_down(tmp_path: Path, fps: float, stride: int) -> None:
    record(still, "test/Pixels-v0", {"length": 30}, tmp_path / "a.gif", view=View(fps=fps))
    pictures, milliseconds = gif(tmp_path / "a.gif")
    assert len(pictures) == 30 // stride + 1
    assert min(milliseconds) >= 30


@pytest.mark.usefixtures("headless")
def test_mp4_has_every_step_and_the_last_for_a_second(tmp_path: Path) -> None:
    rollout = record(upright, "CartPole-v1", {}, tmp_path / "a.mp4", view=View(max_steps=20))
    record(upright, "CartPole-v1", {}, tmp_path / "a.gif", view=View(max_steps=2))
    height, width, _ = gif(tmp_path / "a.gif")[0][0].shape
    assert height % 2 == width % 2 == 0
    pictures = mp4(tmp_path / "a.mp4", height, width)
    assert rollout.frames == 21
    assert len(pictures) == 20 + 50
    strip = pictures[:, 400:].astype(int)
    assert np.abs(strip[1] - strip[20]).max() > 100
    assert np.abs(strip[20] - strip[-1]).max() < 30


def test_a_fast_env_is_thinned_to_sixty_pictures_a_second(tmp_path: Path) -> None:
    rollout = record(still, "test/Pixels-v0", {"length": 40}, tmp_path / "a.mp4")
    command = [video.ffmpeg(), "-i", str(tmp_path / "a.mp4")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rollout.frames == 21
    assert "50 fps" in said.stderr
    assert "yuv420p" in said.stderr


def test_width_of_the_picture_can_be_chosen(tmp_path: Path) -> None:
    record(still, "test/Pixels-v0", {}, tmp_path / "a.gif", view=View(width=201))
    (first, *_), _ = gif(tmp_path / "a.gif")
    assert first.shape[1] == 202  # even
    assert first.shape[0] % 2 == 0


def test_episodes_are_those_that_an_evaluation_plays(tmp_path: Path) -> None:
    rollout = record(still, "CartPole-v1", {}, tmp_path / "a.gif", seed=3, episodes=2, view=View(width=120))
    vector = make_vector("CartPole-v1", {}, 1)
    result = evaluate(still, vector, 2, 3)
    vector.close()
    assert rollout.returns == result.returns
    assert rollout.lengths == result.lengths
    assert sum(milliseconds == 1000 for milliseconds in gif(tmp_path / "a.gif")[1]) == 2


def test_the_same_seed_gives_the_same_gif(tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        record(upright, "CartPole-v1", {}, tmp_path / name, seed=1, view=View(max_steps=8))
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_a_failure_leaves_no_file_and_keeps_the_one_before(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("before")
    with pytest.raises(UserError, match=r"step\(\) raised RuntimeError: the env breaks, at step 5 of the episode"):
        record(still, "test/Pixels-v0", {"fails_at": 5}, tmp_path / name)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "before")]


def test_ffmpeg_that_fails_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho 'no such encoder' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(UserError, match=r"a\.mp4 cannot be written: ffmpeg fails \(no such encoder\)"):
        record(still, "test/Pixels-v0", {"length": 500}, tmp_path / "a.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["ffmpeg"]


def test_mp4_without_ffmpeg_names_the_extra_and_gif_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=re.escape(f"writing mp4 needs ffmpeg: {install('video')}") + "$"):
        rollouts.check(tmp_path / "a.mp4")
    with pytest.raises(UserError, match="writing mp4 needs ffmpeg"):
        rollouts.check(None)
    rollouts.check(tmp_path / "a.gif")
    own = tmp_path / "ffmpeg"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert video.ffmpeg() == str(own)


def test_missing_pygame_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(
        UserError, match=re.escape(f"CartPole-v1 cannot be drawn: pygame is not installed: {install('video')}") + "$"
    ):
        record(upright, "CartPole-v1", {}, tmp_path / "a.gif")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(UserError, match="--human needs pygame: pip install"):
        show(upright, "CartPole-v1", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("env", "arguments", "message"),
    [
        ("test/Blind-v0", {}, "test/Blind-v0 cannot be drawn: it does not render rgb_array"),
        ("test/Pixels-v0", {"depth": 3}, "refuses its arguments .*depth"),
    ],
)
def test_envs_that_cannot_be_drawn(tmp_path: Path, env: str, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        record(still, env, arguments, tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (8, 6, 3), (8, 6, 4)])
def test_grey_and_transparent_frames_become_pictures(shape: tuple[int, ...]) -> None:
    frame = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    picture = rollouts._picture(frame, "X-v0")
    assert picture.shape == (8, 6, 3)
    for channel in range(3):  # a grey one is the same in each colour
        one = frame if len(shape) == 2 else frame[..., channel % shape[2]]
        np.testing.assert_array_equal(picture[..., channel], one)


@pytest.mark.parametrize("frame", [
    np.zeros((3, 24, 37), np.uint8), np.zeros((0, 0, 3), np.uint8), np.zeros((4, 7, 3)), None, [np.zeros((4, 7, 3))],
])  # fmt: skip
def test_frames_of_other_shapes_are_refused_with_theirs(frame: Any) -> None:
    with pytest.raises(UserError, match=r"X-v0 cannot be drawn: its rgb_array .*; expected a picture of \[height"):
        rollouts._picture(frame, "X-v0")


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.avi must end in \.mp4 or \.gif"):
        rollouts.check(tmp_path / "a.avi")
    with pytest.raises(UserError, match="none/at/all: No such file or directory"):
        rollouts.check(tmp_path / "none" / "at" / "all" / "a.gif")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        rollouts.check(tmp_path / "folder.gif")
    rollouts.check(tmp_path / "videos" / "a.gif")
    assert (tmp_path / "videos").is_dir(), "one missing folder is made"


@pytest.mark.usefixtures("headless")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_a_window_needs_a_display() -> None:
    with pytest.raises(UserError, match="there is no display for --human: write a file with --to"):
        show(upright, "CartPole-v1", {})


def test_a_window_shows_the_episodes_at_the_envs_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    waits: list[float] = []

    class Clock:
        def tick(self, hertz: float) -> None:
            waits.append(1 / hertz)

    monkeypatch.setattr(pygame.time, "Clock", Clock)
    rollout = show(still, "test/Pixels-v0", {"length": 4}, episodes=2)
    assert rollout == rollouts.Rollout(None, (2.0, 2.0), (4, 4), 10)
    assert waits == pytest.approx(2 * [0.01, 0.01, 0.01, 0.01, 1.0])
    assert not pygame.display.get_init()


@pytest.mark.parametrize("key", [None, "K_ESCAPE", "K_q"])
def test_closing_the_window_ends_the_rollout(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def policy(observations: np.ndarray) -> np.ndarray:
        if observations[0, 0] == 2:
            quits = pygame.event.Event(pygame.QUIT)
            presses = pygame.event.Event(pygame.KEYDOWN, key=getattr(pygame, key)) if key else quits
            pygame.event.post(presses)
        return still(observations)

    rollout = show(policy, "test/Pixels-v0", {"length": 1000}, episodes=2)
    assert rollout == rollouts.Rollout(None, (1.5,), (3,), 4)


def test_drawing_prints_nothing_and_loads_no_tensorflow(tmp_path: Path) -> None:
    code = """
import sys, numpy
from pathlib import Path
from rlkit.pictures.rollouts import View, record
assert not {"PIL", "pygame", "imageio_ffmpeg"} & set(sys.modules)
record(lambda o: numpy.zeros(1, int), "CartPole-v1", {}, Path(sys.argv[1]), view=View(max_steps=2))
assert "tensorflow" not in sys.modules
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.gif")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
