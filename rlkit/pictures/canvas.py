"""Boxes, arrows, text and maps of colours on a picture, with smooth edges. Sizes are in pixels of the result."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]
Point = tuple[float, float]

SMOOTH = 2
"""Everything is drawn so many times larger and then reduced."""

INK: Colour = (28, 32, 44)
PAPER: Colour = (255, 255, 255)

CAPTION = 20
"""Size of a caption's letters."""

STRIP = 44
"""Height of the strip with the caption."""

MARGIN = 20
"""Paper around what is drawn."""


class Canvas:
    """A white sheet with a caption above.

    The origin is the left upper corner of what lies inside the margin and below the caption.

    Args:
        width: of what is drawn.
        height: of what is drawn.
        caption: a line of text; the strip for it is left out where it is empty.
    """

    def __init__(self, width: float, height: float, caption: str = "") -> None:
        from PIL import Image, ImageDraw  # noqa: PLC0415 - only those who draw wait for it

        self._top = float(STRIP if caption else MARGIN)
        size = (_even(width + 2 * MARGIN), _even(height + self._top + MARGIN))
        self._image = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), PAPER)
        self._draw = ImageDraw.Draw(self._image)
        if caption:
            self.text((0, MARGIN + 4 - self._top), caption, CAPTION, anchor="lm", bold=True, room=width)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """A line through points, with round corners."""
        self._draw.line([self._at(p) for p in points], colour, round(width * SMOOTH), joint="curve")

    def arrow(self, start: Point, end: Point, colour: Colour, width: float) -> None:
        """A straight arrow whose point is at `end`."""
        length = math.dist(start, end)
        along = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
        head, half = min(4.2 * width, 0.75 * length), 1.7 * width
        neck = (end[0] - head * along[0], end[1] - head * along[1])
        self.line([start, (neck[0] + along[0], neck[1] + along[1])], colour, width)
        sides = [(neck[0] - s * half * along[1], neck[1] + s * half * along[0]) for s in (-1, 1)]
        self._draw.polygon([self._at(p) for p in (end, *sides)], colour)

    def dot(self, centre: Point, radius: float, colour: Colour) -> None:
        """A filled circle."""
        x, y = self._at(centre)
        r = radius * SMOOTH
        self._draw.ellipse((x - r, y - r, x + r, y + r), colour)

    def box(
        self, corner: Point, size: Point, fill: Colour | None, outline: Colour, *, width: float = 1, radius: float = 0
    ) -> None:  # fmt: skip
        """A rectangle from its left upper corner, the outline inside it; transparent without a fill."""
        (x, y), (w, h) = self._at(corner), size
        edges = (x, y, x + w * SMOOTH - 1, y + h * SMOOTH - 1)
        self._draw.rounded_rectangle(edges, radius * SMOOTH, fill, outline, round(width * SMOOTH))

    def text(
        self,
        at: Point,
        text: str,
        size: float,
        *,
        anchor: str = "mm",
        bold: bool = False,
        room: float = math.inf,
        colour: Colour = INK,
    ) -> None:  # fmt: skip
        """A line of text; smaller where it needs more than its room.

        Args:
            at: where its anchor is.
            text: what it says.
            size: height of its letters.
            anchor: Pillow's: l, m or r for across, then a, m or s for down.
            bold: whether it is.
            room: most width.
            colour: of the letters.
        """
        size = fitting([text], size, room, bold=bold)
        self._draw.text(self._at(at), text, colour, _font(round(size * SMOOTH), bold), anchor)

    def paste(self, corner: Point, pixels: np.ndarray) -> None:
        """Pixels [height, width, 3] uint8, as they are."""
        from PIL import Image  # noqa: PLC0415

        x, y = self._at(corner)
        large = pixels.repeat(SMOOTH, axis=0).repeat(SMOOTH, axis=1)
        self._image.paste(Image.fromarray(large), (round(x), round(y)))

    def pixels(self) -> np.ndarray:
        """The picture, [height, width, 3] uint8, of even height and width."""
        return np.asarray(self._image.reduce(SMOOTH)).copy()

    def _at(self, point: Point) -> Point:
        return (MARGIN + point[0]) * SMOOTH, (self._top + point[1]) * SMOOTH


def fitting(texts: Iterable[str], size: float, room: float, *, bold: bool = False) -> float:
    """The size of letters, at most `size`, in which each text fits its room."""
    longest = max((_font(100, bold).getlength(text) for text in set(texts)), default=0.0) / 100
    return min(size, room / longest) if longest and room < math.inf else size


def blend(colours: Sequence[Colour], share: np.ndarray) -> np.ndarray:
    """Colours between those given, which lie evenly apart: [...] in [0, 1] to [..., 3] uint8."""
    places = np.linspace(0, 1, len(colours))
    table = np.asarray(colours, np.float64)
    mixed = np.stack([np.interp(share, places, table[:, c]) for c in range(3)], axis=-1)
    return np.asarray(mixed.round(), np.uint8)


def short(value: float) -> str:
    """A number with up to 5 significant digits, in few characters."""
    text = f"{value + 0.0:.5g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def _even(size: float) -> int:
    return 2 * math.ceil(size / 2)


@functools.cache
def _font(size: int, bold: bool) -> FreeTypeFont:
    """Matplotlib's DejaVu Sans."""
    import matplotlib as mpl  # noqa: PLC0415
    from PIL import ImageFont  # noqa: PLC0415

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / name, size)
