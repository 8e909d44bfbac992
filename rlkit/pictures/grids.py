"""Values and actions as pictures: a triangle of cells, a grid of cells, or a map of colours where there are many.

Letters: S cells of a triangle, N its rows; R rows and C columns of a grid; A actions. A picture is
[height, width, 3] uint8, of even height and width, and at most about 1200 wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rlkit.files import check_output, whole
from rlkit.pictures import heat_maps
from rlkit.pictures.canvas import INK, PAPER, Canvas, Colour, Point, blend, fitting, short
from rlkit.pictures.heat_maps import OUTLINE, PATH, SEVERAL, UNKNOWN, WALL, Layers, Scale
from rlkit.pictures.video import FASTEST, write_video

LEGIBLE = 20
"""Most rows or columns with which each cell shows its numbers."""

WIDTH = 1160
"""Pixels, of the widest drawing inside its margin."""

LARGEST = 112
"""Pixels, of a cell where there are few."""

HOLD = 2.0
"""Seconds for which the last of several frames stays."""

TINTS: tuple[Colour, ...] = ((255, 252, 232), (222, 240, 222), (172, 217, 224), (128, 183, 219))
"""From the lowest value to the highest, light enough for dark text."""

EDGE: Colour = (208, 212, 220)
TIED: Colour = (150, 160, 180)
PASSED: Colour = (252, 223, 186)
ENDED: Colour = (226, 228, 233)

ARROWS = {(0, -1): "←", (1, 0): "↓", (0, 1): "→", (-1, 0): "↑", (0, 0): "·"}
"""Names of moves in the key of a map."""


@dataclass(frozen=True)
class Grid:
    """What a grid is like apart from values and actions; each is of R rows and C columns."""

    moves: Sequence[tuple[int, int]] = ((0, -1), (1, 0), (0, 1), (-1, 0))
    """Each action's step by rows and columns, (0, 0) for one that stays; if not given, FrozenLake's: left, down, ..."""

    walls: np.ndarray | None = None
    """[R, C] bool: cells that nothing enters."""

    terminals: np.ndarray | None = None
    """[R, C] bool: cells without an action."""

    labels: Sequence[Sequence[str]] | np.ndarray | None = None
    """[R, C]: a letter or two for some cells, "" for the others."""


def triangle_picture(
    numbers: np.ndarray,
    values: np.ndarray | None = None,
    policy: np.ndarray | None = None,
    optimal: np.ndarray | None = None,
    *,
    highlight: Sequence[int] = (),
    caption: str = "",
    scale: tuple[float, float] | None = None,
) -> np.ndarray:
    """A triangle as a pyramid of cells, each with its number and, below that, its value.

    Action 0 (down) is drawn to the cell on the left below, action 1 (right) to the one on the right. Beyond 20 rows
    there is a map of the values, or of the numbers if there are none, and with a policy one of the actions beside it.

    Args:
        numbers: [S], the top first and each row from the left.
        values: [S]; a NaN is not known yet, and left out.
        policy: [S], 0 or 1: an arrow; none where it is negative, and none in the bottom row. If not given, the lowest
            optimal action.
        optimal: [S, 2] bool; an action that is as good as the policy's gets a lighter arrow.
        highlight: cells of a path, the last being the current one.
        caption: a line above, such as "sweep 3".
        scale: the values that the first and the last colour stand for, the same for all frames of a film; if not
            given, the least and the largest.
    """
    numbers = np.asarray(numbers, np.float64)
    rows = (math.isqrt(8 * numbers.size + 1) - 1) // 2
    if numbers.ndim != 1 or not rows or rows * (rows + 1) // 2 != numbers.size:
        raise ValueError(f"numbers of shape {numbers.shape} make no triangle")
    shown = None if values is None else np.asarray(values, np.float64)
    policy = _chosen(policy, optimal, numbers.size - rows)
    if rows > LEGIBLE:
        title, shown = ("number", numbers) if shown is None else ("value", shown)
        actions = None if policy is None else _several(policy, optimal)
        layers = Layers(shown, Scale(*scale) if scale else Scale.of(shown), title, actions, ("down", "right"))
        return _triangle_map(rows, layers, highlight, caption)
    pyramid = _Pyramid(rows, tall=shown is not None)
    pitch = pyramid.pitch
    canvas = Canvas(rows * pitch, rows * pyramid.step - pyramid.gap, caption)
    _draw_edges(canvas, pyramid, set(pairwise(highlight)))
    for cell, action, colour in _arrows(policy, optimal, shown):
        canvas.arrow(*pyramid.edge(cell, action), colour, 0.045 * pitch)
    _draw_cells(canvas, pyramid, numbers, shown, _fills(numbers, shown, highlight, scale))
    if highlight:
        canvas.box(*pyramid.box(highlight[-1]), None, PATH, width=0.06 * pitch, radius=0.12 * pitch)
    return canvas.pixels()


def grid_picture(
    values: np.ndarray,
    policy: np.ndarray | None = None,
    optimal: np.ndarray | None = None,
    *,
    grid: Grid | None = None,
    caption: str = "",
    scale: tuple[float, float] | None = None,
) -> np.ndarray:
    """The cells of a grid, each with its value and an arrow for its action.

    Beyond 20 rows or columns there is a map of the values, and with a policy one of the actions beside it.

    Args:
        values: [R, C]; a NaN is not known yet, and left out.
        policy: [R, C] actions; no arrow where negative. If not given, the lowest optimal one.
        optimal: [R, C, A] bool; an action that is as good as the policy's gets a lighter arrow.
        grid: moves, walls, ends and labels.
        caption: a line above, such as "sweep 3".
        scale: the values that the first and the last colour stand for, the same for all frames of a film; if not
            given, the least and the largest.
    """
    values, grid = np.asarray(values, np.float64), grid or Grid()
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values of shape {values.shape} make no grid")
    none = np.zeros(values.shape, np.bool_)
    walls = none if grid.walls is None else np.asarray(grid.walls, np.bool_)
    ends = none if grid.terminals is None else np.asarray(grid.terminals, np.bool_)
    ties = None if optimal is None else np.asarray(optimal).reshape(values.size, -1)
    flat = None if policy is None else np.asarray(policy).reshape(-1)
    chosen = _chosen(flat, ties, values.size)
    if chosen is not None:
        chosen[(walls | ends).reshape(-1)] = -1
    limits = Scale(*scale) if scale else Scale.of(values[~walls])
    if max(values.shape) > LEGIBLE:
        actions = None if chosen is None else _several(chosen, ties)
        names = [ARROWS.get(move, f"action {a}") for a, move in enumerate(grid.moves)]
        shown = np.where(ends, np.nan, values).reshape(-1)
        layers = Layers(shown, limits, "value", actions, names, walls.reshape(-1))
        return heat_maps.picture(_grid_cells(values.shape, layers), layers, caption=caption)
    pitch = min(LARGEST, WIDTH // max(values.shape))
    canvas = Canvas(values.shape[1] * pitch, values.shape[0] * pitch, caption)
    fills = blend(TINTS, limits.share(values))  # [R, C, 3]
    fills[np.isnan(values)], fills[ends], fills[walls] = UNKNOWN, ENDED, WALL
    _draw_grid(canvas, pitch, np.where(walls, np.nan, values), fills, grid.labels)
    for cell, action, colour in _arrows(chosen, ties, values.reshape(-1)):
        i, j = divmod(cell, values.shape[1])
        alone = ties is None or ties[cell].sum() <= 1
        _draw_move(canvas, pitch, ((j + 0.5) * pitch, (i + 0.67) * pitch), grid.moves[action], colour, alone)
    return canvas.pixels()


def save_picture(image: np.ndarray, path: str | Path) -> None:
    """Write a picture to a .png, whole or not at all.

    Raises:
        UserError: another ending, or a place where nothing can be written.
    """
    from PIL import Image  # noqa: PLC0415 - only those who draw wait for it

    path = Path(path)
    check_output(path, ".png")
    with whole(path) as beside:
        Image.fromarray(image).save(beside, "PNG", optimize=True)


def save_frames(images: Iterable[np.ndarray], path: str | Path, fps: float = 2.0) -> None:
    """Write pictures to a .gif or .mp4, one after the other, whole or not at all; the last one stays for 2 s.

    Args:
        images: at least one, all of one size.
        path: the file.
        fps: pictures a second; a gif shows at most 33.

    Raises:
        UserError: another ending, a place where nothing can be written, or an mp4 without ffmpeg.
    """
    path = Path(path)
    check_output(path, *FASTEST)
    frames = list(images)
    if len({frame.shape for frame in frames}) != 1:
        raise ValueError(f"frames of sizes {sorted({frame.shape[:2] for frame in frames})}, expected one size")
    fps = min(fps, FASTEST[path.suffix.lower()])
    shown = [1 / fps] * (len(frames) - 1) + [max(HOLD, 1 / fps)]
    write_video(path, zip(frames, shown, strict=True), fps)


class _Pyramid:
    """Where the cells of a triangle are."""

    def __init__(self, rows: int, *, tall: bool) -> None:
        self.rows = rows
        self.pitch = float(min(LARGEST, WIDTH // rows))
        self.width, self.height = 0.86 * self.pitch, (0.72 if tall else 0.5) * self.pitch
        self.gap = 0.42 * self.pitch
        self.step = self.height + self.gap

    def place(self, cell: int) -> Point:
        """Centre of a cell."""
        i = (math.isqrt(8 * cell + 1) - 1) // 2
        j = cell - i * (i + 1) // 2
        return (self.rows / 2 + j - i / 2) * self.pitch, i * self.step + self.height / 2

    def box(self, cell: int) -> tuple[Point, Point]:
        """Left upper corner, and width and height."""
        x, y = self.place(cell)
        return (x - self.width / 2, y - self.height / 2), (self.width, self.height)

    def edge(self, cell: int, action: int) -> tuple[Point, Point]:
        """From the lower side of a cell to the upper side of the one that an action leads to."""
        (x, y), side = self.place(cell), 2 * action - 1
        begin, over = y + self.height / 2, 0.14 * self.pitch * side
        return (x + over, begin), (x + side * self.pitch / 2 - over, begin + self.gap)


def _below(cell: int, action: int) -> int:
    return cell + (math.isqrt(8 * cell + 1) - 1) // 2 + 1 + action


def _draw_edges(canvas: Canvas, pyramid: _Pyramid, passed: set[tuple[int, int]]) -> None:
    """Both ways from each cell, those of a path strongly."""
    for cell in range(pyramid.rows * (pyramid.rows - 1) // 2):
        for action in (0, 1):
            on_path = (cell, _below(cell, action)) in passed
            colour, width = (PATH, 0.07) if on_path else (EDGE, 0.02)
            canvas.line(pyramid.edge(cell, action), colour, max(1, width * pyramid.pitch))


def _draw_cells(
    canvas: Canvas, pyramid: _Pyramid, numbers: np.ndarray, values: np.ndarray | None, fills: np.ndarray
) -> None:
    pitch, room = pyramid.pitch, 0.89 * pyramid.width
    names = [short(x) for x in numbers]
    below = [] if values is None else _texts(values)
    large = fitting(names, 0.27 * pitch, room, bold=True)
    small = fitting(below, 0.225 * pitch, room)
    for cell, name in enumerate(names):
        canvas.box(*pyramid.box(cell), tuple(fills[cell]), OUTLINE, width=max(1, 0.018 * pitch), radius=0.12 * pitch)
        x, y = pyramid.place(cell)
        canvas.text((x, y - 0.15 * pitch if below else y), name, large, bold=True)
        if below:
            canvas.text((x, y + 0.17 * pitch), below[cell], small)


def _fills(
    numbers: np.ndarray, values: np.ndarray | None, highlight: Sequence[int], scale: tuple[float, float] | None
) -> np.ndarray:
    """The colour of each cell, [S, 3] uint8."""
    if values is None:
        fills = np.full((numbers.size, 3), PAPER, np.uint8)
    else:
        fills = blend(TINTS, (Scale(*scale) if scale else Scale.of(values)).share(values))
        fills[np.isnan(values)] = UNKNOWN
    fills[list(highlight)] = PASSED
    return fills


def _triangle_map(rows: int, layers: Layers, highlight: Sequence[int], caption: str) -> np.ndarray:
    height, width = heat_maps.size(0.8 * rows, rows, layers)
    i = np.arange(height)[:, None] * rows // height  # [H, 1]
    j = np.floor((np.arange(width) + 0.5) * (rows / width) - (rows - 1 - i) / 2).astype(np.int64)  # [H, W]
    cells = np.where((j >= 0) & (j <= i), i * (i + 1) // 2 + j, -1)
    path = []
    for cell in highlight:
        row = (math.isqrt(8 * cell + 1) - 1) // 2
        column = cell - row * (row + 1) // 2 + (rows - row) / 2
        path.append((column * width / rows, (row + 0.5) * height / rows))
    return heat_maps.picture(cells, layers, path=path, caption=caption)


def _grid_cells(shape: tuple[int, int], layers: Layers) -> np.ndarray:
    (height, width), (rows, columns) = heat_maps.size(*shape, layers), shape
    i, j = np.arange(height) * rows // height, np.arange(width) * columns // width
    return np.asarray(i[:, None] * columns + j)


def _draw_grid(canvas: Canvas, pitch: float, values: np.ndarray, fills: np.ndarray, labels: Any) -> None:  # noqa: ANN401 - an array-like
    texts = _texts(values.reshape(-1))
    letters = fitting(texts, 0.22 * pitch, 0.88 * pitch)
    for (i, j), text in zip(np.ndindex(values.shape), texts, strict=True):
        x, y = j * pitch, i * pitch
        canvas.box((x, y), (pitch + 1, pitch + 1), tuple(fills[i, j]), OUTLINE)
        canvas.text((x + pitch / 2, y + 0.24 * pitch), text, letters)
        label = "" if labels is None else str(labels[i][j])
        if label:
            canvas.text((x + 0.07 * pitch, y + 0.93 * pitch), label, 0.2 * pitch, anchor="ls", bold=True)


def _texts(values: np.ndarray) -> list[str]:
    """Each value, "" for NaN: with the decimals that give the largest one 5 digits, but at least 2 decimals."""
    largest = np.abs(values[np.isfinite(values) & (values != 0)]).max(initial=0.0)
    decimals = max(2, 4 - math.floor(math.log10(largest))) if largest else 2
    return ["" if np.isnan(v) else short(round(float(v), decimals)) for v in values]


def _draw_move(canvas: Canvas, pitch: float, centre: Point, move: tuple[int, int], colour: Colour, alone: bool) -> None:
    """An arrow through a point, or from it if others begin there too."""
    if move == (0, 0):
        canvas.dot(centre, 0.05 * pitch, colour)
        return
    (x, y), (down, right), arm = centre, move, (0.2 if alone else 0.25) * pitch
    start = (x - arm * right, y - arm * down) if alone else centre
    canvas.arrow(start, (x + arm * right, y + arm * down), colour, 0.04 * pitch)


def _chosen(policy: np.ndarray | None, optimal: np.ndarray | None, acting: int) -> np.ndarray | None:
    """The action of each cell, [S]; -1 for none, as in all but the first `acting` cells."""
    if policy is None:
        if optimal is None:
            return None
        policy = np.where(np.any(optimal, axis=1), np.argmax(optimal, axis=1), -1)
    chosen = np.array(policy)
    chosen = chosen if chosen.dtype.kind == "i" else chosen.astype(np.int64)
    chosen[acting:] = -1
    return chosen


def _several(chosen: np.ndarray, optimal: np.ndarray | None) -> np.ndarray:
    """Actions, SEVERAL where more than one is optimal."""
    if optimal is None:
        return chosen
    return np.where((chosen >= 0) & (np.asarray(optimal).sum(axis=1) > 1), SEVERAL, chosen)


def _arrows(
    chosen: np.ndarray | None, optimal: np.ndarray | None, values: np.ndarray | None
) -> Iterable[tuple[int, int, Colour]]:
    """Cell, action and colour of each arrow; those that are as good before the chosen ones."""
    if chosen is None:
        return
    known = chosen >= 0 if values is None else (chosen >= 0) & ~np.isnan(values)
    for cell in np.flatnonzero(known):
        ties = () if optimal is None else np.flatnonzero(optimal[cell])
        yield from ((int(cell), int(action), TIED) for action in ties if action != chosen[cell])
        yield int(cell), int(chosen[cell]), INK
