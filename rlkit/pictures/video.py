"""Pictures as an mp4 or a gif."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlkit.errors import UserError, install
from rlkit.files import whole

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = tuple[np.ndarray, float]
"""Pixels, [height, width, 3] uint8, and for how many seconds they are shown."""

FASTEST = {".mp4": 60.0, ".gif": 100 / 3}
"""Most pictures a second: gifs count in 1/100 s, and browsers slow down those that take under 2."""

PALETTE_SAMPLES = 16
"""Pictures whose colours a gif's palette is made of."""

EXACT_COLOURS = 64
"""Commonest colours that a gif keeps exactly, such as a background's."""

APART = 8
"""Least difference of two of a gif's colours, of 255: Pillow may take closer ones for each other."""


def write_video(path: Path, pictures: Iterable[Picture], fps: float) -> None:
    """Write a file of the kind that its ending names, whole or not at all.

    Args:
        path: ends in .mp4 or .gif.
        pictures: at least one, all of one size, which is even for an mp4.
        fps: pictures a second of an mp4; one that is shown for longer is repeated.

    Raises:
        UserError: there is no ffmpeg, it fails, or the file cannot be written.
    """
    try:
        with whole(path) as beside:
            if path.suffix.lower() == ".gif":
                _write_gif(beside, pictures)
            else:
                _write_mp4(beside, pictures, fps)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def ffmpeg() -> str:
    """The ffmpeg to run: imageio-ffmpeg's, which IMAGEIO_FFMPEG_EXE overrides, else the one on PATH.

    Raises:
        UserError: there is none.
    """
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - an extra

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = shutil.which("ffmpeg")
    if found is None:
        raise UserError(f"writing mp4 needs ffmpeg: {install('video')}")
    return found


def _write_mp4(path: Path, pictures: Iterable[Picture], fps: float) -> None:
    rest = iter(pictures)
    first = next(rest)
    command = _mp4_command(path, first[0].shape, fps)
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said) as process,
    ):
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):  # ffmpeg has ended, and its exit code says so below
                for pixels, seconds in chain([first], rest):
                    for _ in range(max(1, round(seconds * fps))):
                        process.stdin.write(pixels.tobytes())
        except BaseException:
            process.kill()
            raise
        with suppress(BrokenPipeError):
            process.stdin.close()
        if process.wait():
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
            raise OSError(f"ffmpeg fails ({lines[0] if lines else process.returncode})")


def _mp4_command(path: Path, shape: tuple[int, ...], fps: float) -> list[str]:
    size, rate = f"{shape[1]}x{shape[0]}", str(Fraction(fps).limit_denominator(1000))
    read = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "-"]
    encode = ["-an", "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    return [ffmpeg(), "-y", "-v", "error", *read, *encode, "-f", "mp4", str(path)]


def _write_gif(path: Path, pictures: Iterable[Picture]) -> None:
    """One palette for all pictures, so that little changes from one to the next and nothing flickers."""
    from PIL import Image as images  # noqa: N813, PLC0415 - only those who write gifs wait for it

    packed: list[bytes] = []
    seconds: list[float] = []
    shape: tuple[int, ...] = ()
    for pixels, shown in pictures:
        shape = pixels.shape
        packed.append(zlib.compress(pixels.tobytes(), 1))
        seconds.append(shown)

    def image(i: int) -> Image:
        return images.fromarray(np.frombuffer(zlib.decompress(packed[i]), np.uint8).reshape(shape))

    samples = np.linspace(0, len(packed) - 1, min(PALETTE_SAMPLES, len(packed))).astype(int)
    palette = _palette([image(i) for i in samples])
    frames = (image(i).quantize(palette=palette, dither=images.Dither.NONE) for i in range(len(packed)))
    with path.open("wb") as file:
        next(frames).save(
            file,
            "GIF",
            save_all=True,
            append_images=frames,
            duration=_milliseconds(seconds),
            loop=0,
            disposal=1,
            optimize=True,
            palette=bytes(palette.getpalette() or ()),
        )


def _palette(samples: list[Image]) -> Image:
    """The commonest colours as they are, the others by median cut; one of 256 is left for "unchanged"."""
    from PIL import Image as images  # noqa: N813, PLC0415

    together = images.fromarray(np.concatenate([np.asarray(sample) for sample in samples]))
    counted = together.getcolors(together.width * together.height) or []
    exact = [colour for _, colour in sorted(counted, reverse=True)[:EXACT_COLOURS]]
    cut = together.quantize(255 - len(exact), method=images.Quantize.MEDIANCUT, dither=images.Dither.NONE)
    apart: list[np.ndarray] = []
    for colour in np.concatenate([exact, np.reshape(cut.getpalette() or (), (-1, 3))]):
        if all(np.abs(colour - other).max() >= APART for other in apart):
            apart.append(colour)
    palette = images.new("P", (1, 1))
    palette.putpalette(np.array(apart, np.uint8).tobytes())
    return palette


def _milliseconds(seconds: list[float]) -> list[int]:
    """How long each picture is shown, in whole 1/100 s whose rounding does not add up."""
    ends = [0, *(round(100 * end) for end in np.cumsum(seconds))]
    return [10 * (end - start) for start, end in pairwise(ends)]
