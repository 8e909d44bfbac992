"""Maps of colours for more cells than can show their numbers: one of values, and one of actions beside it.

Letters: H and W pixels, S cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlkit.pictures.canvas import MARGIN, PAPER, Canvas, Colour, Point, blend, short

PANEL, ALONE = 560, 880
"""Pixels, the width of a map beside another, in a picture 1200 wide, and of one alone."""

KEY = 52
"""Height of the strip below a map that says what its colours mean."""

VALUES: tuple[Colour, ...] = (
    (68, 1, 84), (72, 40, 120), (62, 73, 137), (49, 104, 142), (38, 130, 142), (31, 158, 137), (53, 183, 121),
    (110, 206, 88), (181, 222, 43), (253, 231, 37),
)  # fmt: skip
"""Viridis, from the lowest value to the highest: even steps to the eye (Smith and van der Walt 2015)."""

ACTIONS: tuple[Colour, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0),
)  # fmt: skip
"""Okabe and Ito 2008, "Color universal design"; from the seventh action on they come again."""

EITHER: Colour = (128, 132, 142)
UNKNOWN: Colour = (238, 239, 242)
WALL: Colour = (84, 90, 102)
PATH: Colour = (213, 94, 0)
OUTLINE: Colour = (120, 126, 140)

SEVERAL = -2
"""In place of an action: more than one is optimal."""


class Scale(NamedTuple):
    """The values that the first and the last colour stand for."""

    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Scale:
        """From the least to the largest; NaN and infinity do not count."""
        known = values[np.isfinite(values)]
        return cls(float(known.min()), float(known.max())) if known.size else cls(0.0, 0.0)

    def share(self, values: np.ndarray) -> np.ndarray:
        """Where values lie between the two, in [0, 1]; a half where the two are one, 0 for a NaN."""
        span = self.high - self.low
        shares = (values - self.low) / span if span > 0 else np.full(values.shape, 0.5)
        return np.clip(np.nan_to_num(shares), 0.0, 1.0)


class Layers(NamedTuple):
    """What the maps show of each cell."""

    values: np.ndarray
    """[S] float64; a NaN is not known."""
    scale: Scale
    title: str
    """What the values are."""
    actions: np.ndarray | None = None
    """[S]; -1 for none, SEVERAL for more than one."""
    names: Sequence[str] = ()
    """Of the actions."""
    walls: np.ndarray | None = None
    """[S] bool."""


def size(height: float, width: float, layers: Layers) -> tuple[int, int]:
    """Pixels (H, W) of a map whose sides are in proportion to these; a whole number a cell where that is possible."""
    room = ALONE if layers.actions is None else PANEL
    each = min(room / width, 1.5 * room / height)
    each = max(1, int(each)) if each >= 1 else each
    return max(1, round(height * each)), max(1, round(width * each))


def picture(cells: np.ndarray, layers: Layers, *, path: Sequence[Point] = (), caption: str = "") -> np.ndarray:
    """The maps side by side, each with a key to its colours: [height, width, 3] uint8.

    Args:
        cells: the cell at each pixel, [H, W]; -1 for none.
        layers: what to show of the cells.
        path: a line through these points of a map.
        caption: a line above.
    """
    height, width = cells.shape
    panel = max(width, 360)  # a key needs that much
    count = 1 if layers.actions is None else 2
    canvas = Canvas(count * panel + (count - 1) * 2 * MARGIN, height + KEY, caption)
    inside = cells >= 0
    # A triangle can have many more cells than a map has pixels, so colours are for pixels only.
    values = np.where(inside, layers.values[cells], np.nan)  # [H, W]
    colours = blend(VALUES, layers.scale.share(values))  # [H, W, 3]
    colours[np.isnan(values)] = UNKNOWN
    walls = inside & False if layers.walls is None else inside & layers.walls[cells]
    colours[walls], colours[~inside] = WALL, PAPER
    _panel(canvas, 0.0, colours, path)
    _value_key(canvas, (0.0, height + 14.0), layers)
    if layers.actions is not None:
        left = float(panel + 2 * MARGIN)
        actions = layers.actions[cells]  # [H, W]
        table = np.array([*ACTIONS, EITHER, UNKNOWN], np.uint8)  # SEVERAL and -1 count from the end
        colours = table[np.where(actions < 0, actions, actions % len(ACTIONS))]
        colours[walls], colours[~inside] = WALL, PAPER
        _panel(canvas, left, colours, path)
        _action_key(canvas, (left, height + 14.0), layers, panel)
    return canvas.pixels()


def _panel(canvas: Canvas, left: float, colours: np.ndarray, path: Sequence[Point]) -> None:
    canvas.paste((left, 0), colours)
    points = [(left + x, y) for x, y in path]
    if len(points) > 1:
        canvas.line(points, PATH, 3)
    if points:
        canvas.dot(points[-1], 6, PATH)


def _value_key(canvas: Canvas, corner: Point, layers: Layers) -> None:
    x, y = corner
    canvas.paste((x, y), np.broadcast_to(blend(VALUES, np.linspace(0, 1, 240)), (16, 240, 3)))
    canvas.text((x, y + 29), short(layers.scale.low), 14, anchor="lm")
    canvas.text((x + 240, y + 29), short(layers.scale.high), 14, anchor="rm")
    canvas.text((x + 252, y + 8), layers.title, 14, anchor="lm")


def _action_key(canvas: Canvas, corner: Point, layers: Layers, room: float) -> None:
    assert layers.actions is not None
    keys = [(ACTIONS[a % len(ACTIONS)], name) for a, name in enumerate(layers.names)]
    if (layers.actions == SEVERAL).any():
        keys.append((EITHER, "several"))
    x, y = corner
    each = min(room / len(keys), 100)
    for k, (colour, name) in enumerate(keys):
        canvas.box((x + k * each, y), (16, 16), colour, OUTLINE)
        canvas.text((x + k * each + 22, y + 8), name, 14, anchor="lm", room=each - 26)
