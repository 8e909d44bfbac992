"""Pictures of values and actions: size, colours, arrows, legibility and files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlkit.errors import UserError
from rlkit.pictures import canvas, grids, heat_maps
from rlkit.pictures.canvas import INK, MARGIN, STRIP, Canvas, blend, fitting, short
from rlkit.pictures.grids import (
    ENDED,
    PASSED,
    TIED,
    TINTS,
    Grid,
    grid_picture,
    save_frames,
    save_picture,
    triangle_picture,
)
from rlkit.pictures.heat_maps import EITHER, OUTLINE, PATH, SEVERAL, UNKNOWN, VALUES, WALL, Layers, Scale

NUMBERS = np.array([1.0, 1, 2, 1, 2, 1])
NOTES = np.array([4.5, 2.75, 3.75, 1, 2, 1])
"""Numbers and values of the notes' example."""

CELL = grids.LARGEST
"""Pixels of a cell in small pictures."""


def cells(rows: int) -> int:
    return rows * (rows + 1) // 2


def has(picture: np.ndarray, colour: canvas.Colour) -> int:
    """Pixels of a colour."""
    return int((picture == np.array(colour, np.uint8)).all(axis=-1).sum())


def dark(picture: np.ndarray) -> np.ndarray:
    """[H, W] bool: where arrows and text are."""
    return np.asarray(picture.astype(int).sum(axis=-1) < 150)


def assert_sound(picture: np.ndarray) -> None:
    """Right type, even sides, not blank, and nothing touches the edge."""
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert picture.shape[1] <= 1200
    assert (picture != 255).any(axis=-1).mean() > 0.02
    for edge in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
        assert (edge == 255).all()


# The canvas.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.5, "4.5"),
        (1074.0, "1074"),
        (940.8493558503687, "940.85"),
        (-64.709, "-64.709"),
        (0.068890904889, "0.068891"),
        (123456.0, "1.2346e5"),
        (1e6, "1e6"),
        (-0.00001, "-1e-5"),
        (0.0, "0"),
        (-0.0, "0"),
        (2 / 3, "0.66667"),
        (float("inf"), "inf"),
        (-float("inf"), "-inf"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_letters_shrink_to_their_room() -> None:
    assert fitting(["1"], 20, 1000) == 20
    assert fitting([], 20, 10) == 20
    assert fitting([""], 20, 10) == 20
    size = fitting(["1", "-940.85"], 20, 30)
    assert size < 20
    # In DejaVu Sans a digit is 0.636 wide, a point 0.318 and a hyphen 0.361 of the letters' size.
    assert size * (5 * 0.636 + 0.318 + 0.361) == pytest.approx(30, rel=0.01)
    assert fitting(["-940.85"], 20, 30, bold=True) < size


def test_colours_blend() -> None:
    ends = ((0, 0, 0), (100, 200, 50))
    assert blend(ends, np.array([0, 0.5, 1])).tolist() == [[0, 0, 0], [50, 100, 25], [100, 200, 50]]
    three = ((0, 0, 0), (100, 100, 100), (0, 0, 0))
    assert blend(three, np.array([[0.5, 0.75]])).tolist() == [[[100] * 3, [50] * 3]]


@pytest.mark.parametrize(("width", "height"), [(10, 10), (11, 13), (10.5, 7.25)])
@pytest.mark.parametrize("caption", ["", "sweep 3"])
def test_a_canvas_has_even_sides_and_a_strip_for_its_caption(width: float, height: float, caption: str) -> None:
    pixels = Canvas(width, height, caption).pixels()
    top = STRIP if caption else MARGIN
    assert pixels.shape[1] - (width + 2 * MARGIN) in np.arange(0, 2, 0.25)
    assert pixels.shape[0] - (height + top + MARGIN) in np.arange(0, 2, 0.25)
    assert pixels.shape[0] % 2 == pixels.shape[1] % 2 == 0
    assert bool((pixels < 255).any()) == bool(caption)


def test_shapes_are_where_they_are_asked_for() -> None:
    sheet = Canvas(100, 100)
    sheet.box((10, 20), (30, 40), (255, 0, 0), (0, 0, 255), width=2)
    sheet.dot((80, 80), 5, (0, 255, 0))
    sheet.paste((60, 10), np.full((6, 4, 3), (1, 2, 3), np.uint8))
    pixels = sheet.pixels()
    inside = pixels[MARGIN:, MARGIN:]
    assert has(pixels, (255, 0, 0)) == (30 - 4) * (40 - 4)
    assert has(pixels, (0, 0, 255)) == 30 * 40 - (30 - 4) * (40 - 4)
    assert inside[20, 10].tolist() == inside[59, 39].tolist() == [0, 0, 255]
    assert inside[19, 10].tolist() == inside[60, 39].tolist() == [255, 255, 255]
    assert inside[80, 80].tolist() == [0, 255, 0]
    assert inside[80, 87].tolist() == [255, 255, 255]
    assert has(pixels, (1, 2, 3)) == 24
    assert inside[10, 60].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("down", "right"), [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1)])
def test_an_arrow_is_widest_near_its_point(down: int, right: int) -> None:
    sheet = Canvas(100, 100)
    sheet.arrow((50, 50), (50 + 40 * right, 50 + 40 * down), INK, 4)
    y, x = np.nonzero(dark(sheet.pixels()))
    along = ((x - MARGIN - 50) * right + (y - MARGIN - 50) * down) / np.hypot(down, right)
    length = 40 * np.hypot(down, right)
    assert -3 <= along.min() <= 1
    assert length - 6 <= along.max() <= length + 1
    shaft = (along > 0.25 * length) & (along < 0.35 * length)
    head = (along > length - 16) & (along < length - 16 + 0.1 * length)
    assert head.sum() > 2 * shaft.sum()


# Triangles.


@pytest.mark.parametrize("rows", [1, 2, 3, 10, 11, 15, 20, 21, 40, 560, 700])
def test_a_triangle_of_any_size_is_drawn(rows: int) -> None:
    numbers = np.arange(cells(rows)) % 100
    values = np.arange(cells(rows), 0.0, -1)
    policy = np.arange(cells(rows)) % 2
    for arguments in ((), (values,), (values, policy), (values, policy, np.ones((cells(rows), 2), np.bool_))):
        assert_sound(triangle_picture(numbers, *arguments, caption="sweep 3"))


def test_a_larger_triangle_is_a_wider_picture_until_it_is_a_map() -> None:
    widths = [triangle_picture(np.ones(cells(rows))).shape[1] for rows in range(1, 21)]
    assert widths[:10] == sorted(widths[:10])
    assert min(widths[9:]) > 1100
    assert triangle_picture(np.ones(cells(20))).shape[0] > triangle_picture(np.ones(cells(30))).shape[0]


def test_values_in_the_largest_triangle_with_numbers_can_be_read() -> None:
    pyramid = grids._Pyramid(20, tall=True)
    room = 0.89 * pyramid.width
    assert fitting(["940.85"], 0.225 * pyramid.pitch, room) > 12
    assert fitting(["-940.85"], 0.225 * pyramid.pitch, room) > 11
    assert pyramid.width < pyramid.pitch, "cells do not touch"
    assert pyramid.height < pyramid.step


def test_cells_of_the_triangle_are_a_pyramid_without_overlap() -> None:
    pyramid = grids._Pyramid(6, tall=True)
    boxes = [pyramid.box(cell) for cell in range(21)]
    for (corner, size), (other, _) in itertools.combinations(boxes, 2):
        apart = abs(corner[0] - other[0]) >= size[0] or abs(corner[1] - other[1]) >= size[1]
        assert apart
    for cell, action in itertools.product(range(15), (0, 1)):
        (x, y), (below_x, below_y) = pyramid.place(cell), pyramid.place(grids._below(cell, action))
        assert below_x - x == pytest.approx((action - 0.5) * pyramid.pitch)
        assert below_y - y == pytest.approx(pyramid.step)
        start, end = pyramid.edge(cell, action)
        assert start[1] == pytest.approx(y + pyramid.height / 2)
        assert end[1] == pytest.approx(below_y - pyramid.height / 2)
        assert x <= start[0] <= end[0] <= below_x or x >= start[0] >= end[0] >= below_x
    assert [grids._below(cell, 0) for cell in range(6)] == [1, 3, 4, 6, 7, 8]


def between(rows: int, upper: int) -> tuple[slice, slice]:
    """The gap below a row of a small triangle with values, without a caption."""
    pyramid = grids._Pyramid(rows, tall=True)
    top = MARGIN + upper * pyramid.step + pyramid.height
    return slice(int(top) + 1, int(top + pyramid.gap)), slice(None)


def test_an_arrow_leads_to_the_left_or_to_the_right_below() -> None:
    middle = triangle_picture(NUMBERS).shape[1] / 2
    for action in (0, 1):
        picture = triangle_picture(NUMBERS, NOTES, np.full(6, action))
        x = np.nonzero(dark(picture[between(3, 0)]))[1]
        assert len(x) > 50
        assert ((x > middle) == bool(action)).all()
        assert not dark(picture[picture.shape[0] - MARGIN :]).any(), "none below the last row"


def test_each_gap_has_the_arrows_of_its_row() -> None:
    picture = triangle_picture(NUMBERS, NOTES, np.array([1, -1, 0, 1, 1, 1]))
    assert dark(picture[between(3, 0)]).any()
    x = np.nonzero(dark(picture[between(3, 1)]))[1]
    middle = picture.shape[1] / 2
    assert ((x > middle) & (x < middle + 0.5 * CELL)).all(), "only of the right cell, and leftwards"
    unknown = triangle_picture(NUMBERS, np.where(np.arange(6) == 2, np.nan, NOTES), np.array([1, -1, 0, 1, 1, 1]))
    assert not dark(unknown[between(3, 1)]).any(), "a cell without a value has no arrow"


def test_actions_that_are_as_good_get_a_lighter_arrow() -> None:
    policy, optimal = np.zeros(6, int), np.zeros((6, 2), np.bool_)
    optimal[:, 0] = True
    plain = triangle_picture(NUMBERS, NOTES, policy)
    assert (triangle_picture(NUMBERS, NOTES, policy, optimal) == plain).all()
    assert has(plain, TIED) == 0
    optimal[0, 1] = True
    tied = triangle_picture(NUMBERS, NOTES, policy, optimal)
    assert has(tied[between(3, 0)], TIED) > 50
    assert has(tied[between(3, 1)], TIED) == 0
    assert (triangle_picture(NUMBERS, NOTES, None, optimal) == tied).all(), "the lowest one stands for the policy"


def test_values_colour_the_cells() -> None:
    picture = triangle_picture(NUMBERS, NOTES)
    assert has(picture, TINTS[0]) > 2_000, "the lowest: two cells of value 1"
    assert has(picture, TINTS[-1]) > 1_000, "the highest: the top"
    shifted = triangle_picture(NUMBERS, NOTES, scale=(0.0, 9.0))
    assert has(shifted, TINTS[-1]) == 0
    half = tuple(blend(TINTS, np.array([0.5]))[0].tolist())
    assert has(shifted, half) > 1_000, "4.5 of 9"
    assert has(triangle_picture(NUMBERS), TINTS[0]) == 0


def test_a_value_that_is_not_known_is_left_out() -> None:
    known = triangle_picture(NUMBERS, NOTES, scale=(1, 4.5))
    unknown = triangle_picture(NUMBERS, np.array([np.nan, np.nan, np.nan, 1, 2, 1]), scale=(1, 4.5))
    assert known.shape == unknown.shape
    assert has(known, UNKNOWN) == 0
    assert has(unknown, UNKNOWN) > 3 * 2_000
    last = slice(-int(grids._Pyramid(3, tall=True).height) - MARGIN, None)
    assert (known[last] == unknown[last]).all()
    assert_sound(triangle_picture(NUMBERS, np.full(6, np.nan)))


def test_a_path_and_the_current_cell_are_marked() -> None:
    plain, marked = triangle_picture(NUMBERS), triangle_picture(NUMBERS, highlight=[0, 2, 4])
    assert plain.shape == marked.shape
    assert has(plain, PATH) == has(plain, PASSED) == 0
    assert has(marked, PASSED) > 3 * 1_000
    begun = triangle_picture(NUMBERS, highlight=[0])
    assert 0 < has(begun, PATH) < has(marked, PATH)
    middle = plain.shape[1] // 2
    below_top = slice(MARGIN + round(0.5 * CELL) + 4, MARGIN + round(0.92 * CELL) - 4)
    assert has(marked[below_top, middle:], PATH) > 20
    assert has(marked[below_top, :middle], PATH) == 0


@pytest.mark.parametrize("numbers", [np.ones(0), np.ones(2), np.ones(7), np.ones((3, 1))])
def test_what_is_no_triangle_is_refused(numbers: np.ndarray) -> None:
    with pytest.raises(ValueError, match="make no triangle"):
        triangle_picture(numbers)


def test_a_caption_makes_a_strip_and_no_other_difference() -> None:
    plain, said = triangle_picture(NUMBERS, NOTES), triangle_picture(NUMBERS, NOTES, caption="row 2")
    assert said.shape[0] - plain.shape[0] == STRIP - MARGIN
    assert (said[STRIP:] == plain[MARGIN:]).all()
    assert dark(said[:STRIP]).any()
    assert (triangle_picture(NUMBERS, NOTES, caption="row 1")[:STRIP] != said[:STRIP]).any()


def test_a_large_triangle_is_a_map_of_its_values() -> None:
    rows = 40
    row = np.repeat(np.arange(rows), np.arange(1, rows + 1))
    picture = triangle_picture(np.zeros(cells(rows)), row.astype(float))
    height, width = heat_maps.size(0.8 * rows, rows, Layers(row, Scale(0, 1), ""))
    assert (height, width) == (round(0.8 * 40 * 22), 40 * 22)
    for i in range(rows):
        y = MARGIN + int((i + 0.5) * height / rows)
        expected = blend(VALUES, np.array([i / (rows - 1)]))[0]
        assert picture[y, MARGIN + width // 2].tolist() == expected.tolist()
        filled = (picture[y, MARGIN : MARGIN + width] != 255).any(axis=-1).sum()
        assert filled == pytest.approx((i + 1) * width / rows, abs=1)


def test_a_map_of_actions_lies_beside_the_map_of_values() -> None:
    rows = 30
    policy = np.repeat(np.arange(rows) % 2, np.arange(1, rows + 1))
    optimal = np.eye(2, dtype=np.bool_)[policy]
    one_panel = triangle_picture(np.ones(cells(rows)))
    picture = triangle_picture(np.ones(cells(rows)), None, policy, optimal)
    assert one_panel.shape[1] < picture.shape[1]
    assert has(one_panel, heat_maps.ACTIONS[0]) == 0
    down, right = (has(picture, colour) for colour in heat_maps.ACTIONS[:2])
    # Rows 0, 2, ... 28 have 225 cells, rows 1, 3, ... 27 have 210; the last row has no action.
    each = (560 // rows) ** 2 * 0.8
    assert down == pytest.approx(225 * each + 200, rel=0.05)
    assert right == pytest.approx(210 * each + 200, rel=0.05)
    assert has(picture, EITHER) == 0
    optimal[0] = True
    assert has(triangle_picture(np.ones(cells(rows)), None, policy, optimal), EITHER) > 100


def test_a_path_is_drawn_on_a_map() -> None:
    left = [cells(i) for i in range(30)]
    picture = triangle_picture(np.zeros(cells(30)), highlight=left)
    y, x = np.nonzero((picture == np.array(PATH, np.uint8)).all(axis=-1))
    assert len(x) > 500
    assert x[y < np.median(y)].min() > x[y > np.median(y)].min(), "it goes down to the left"
    assert has(triangle_picture(np.zeros(cells(30)), highlight=[0]), PATH) > 50


def test_a_map_of_very_many_cells_is_drawn_quickly() -> None:
    rows = 2_000
    picture = triangle_picture(np.arange(cells(rows)), np.arange(cells(rows), 0.0, -1), np.zeros(cells(rows), np.int8))
    assert_sound(picture)
    assert picture.shape[1] == 1200


# Grids.


def cell(picture: np.ndarray, i: int, j: int, size: int = CELL, top: int = MARGIN) -> np.ndarray:
    """The inside of a cell of a grid without its lines."""
    return picture[top + i * size + 3 : top + (i + 1) * size - 3, MARGIN + j * size + 3 : MARGIN + (j + 1) * size - 3]


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (4, 12), (12, 4), (20, 20), (21, 3), (100, 100), (2, 600), (900, 7)])
def test_a_grid_of_any_shape_is_drawn(shape: tuple[int, int]) -> None:
    values = np.arange(shape[0] * shape[1], dtype=float).reshape(shape)
    policy = values.astype(int) % 4
    optimal = np.ones((*shape, 4), np.bool_)
    for arguments in ((), (policy,), (policy, optimal), (None, optimal)):
        assert_sound(grid_picture(values, *arguments, caption="sweep 12"))


@pytest.mark.parametrize(("action", "side"), list(enumerate(["left", "down", "right", "up"])))
def test_an_arrow_points_where_the_action_leads(action: int, side: str) -> None:
    picture = grid_picture(np.full((3, 3), np.nan), np.full((3, 3), action))
    assert not dark(picture).any(), "no arrow where nothing is known"
    with_arrow, without = (grid_picture(np.zeros((1, 1)), p) for p in (np.full((1, 1), action), None))
    drawn = dark(with_arrow) & ~dark(without)
    y, x = np.nonzero(drawn)
    assert len(x) > 100
    # The head holds more pixels than the tail: the centre of mass lies towards the point.
    middle = {"x": (x.min() + x.max()) / 2, "y": (y.min() + y.max()) / 2}
    leaning = {"left": x.mean() < middle["x"] - 2, "right": x.mean() > middle["x"] + 2,
               "up": y.mean() < middle["y"] - 2, "down": y.mean() > middle["y"] + 2}  # fmt: skip
    assert [name for name, leans in leaning.items() if leans] == [side]


def test_moves_can_be_given() -> None:
    values, policy = np.zeros((2, 2)), np.zeros((2, 2), int)
    right = grid_picture(values, policy + 2)
    assert (grid_picture(values, policy, grid=Grid(moves=[(0, 1)])) == right).all()
    stays = grid_picture(values, policy, grid=Grid(moves=[(0, 0)]))
    assert 0 < dark(stays).sum() < dark(right).sum()


def test_text_and_arrows_of_a_cell_do_not_touch() -> None:
    for action in range(4):
        values = np.full((20, 20), 0.54203)
        plain = grid_picture(values)
        optimal = np.ones((20, 20, 4), np.bool_)
        for ties in (None, optimal):
            drawn = (grid_picture(values, np.full((20, 20), action), ties) != plain).any(axis=-1)
            text = plain.astype(int).sum(axis=-1) < 500
            rows_drawn, rows_text = (np.nonzero(cell(area, 5, 5, 58).any(axis=1))[0] for area in (drawn, text))
            assert rows_text.max() + 2 < rows_drawn.min()
            columns = np.nonzero(cell(text, 5, 5, 58).any(axis=0))[0]
            assert columns.min() > 0
            assert columns.max() < 58 - 7


def test_ties_walls_ends_and_labels_are_drawn() -> None:
    values, policy = np.array([[0.0, 1.0], [2.0, 3.0]]), np.ones((2, 2), int)
    optimal = np.eye(4, dtype=np.bool_)[policy]
    optimal[0, 0, 2] = True
    grid = Grid(
        walls=np.array([[False, True], [False, False]]),
        terminals=np.array([[False, False], [False, True]]),
        labels=[["S", ""], ["", "G"]],
    )
    picture = grid_picture(values, policy, optimal, grid=grid)
    assert has(cell(picture, 0, 0), TIED) > 50
    assert has(cell(picture, 1, 0), TIED) == 0
    assert (cell(picture, 0, 1) == np.array(WALL)).all(), "nothing is written on a wall"
    assert has(cell(picture, 1, 1), ENDED) > 0.8 * (CELL - 6) ** 2
    assert has(cell(picture, 0, 0), TINTS[0]) > 0.7 * (CELL - 6) ** 2
    assert has(cell(picture, 1, 0), blend(TINTS, np.array([2 / 3]))[0].tolist()) > 0.7 * (CELL - 6) ** 2
    lower = slice(2 * CELL // 3, None)
    bare = grid_picture(values, policy, optimal, grid=Grid(walls=grid.walls, terminals=grid.terminals))
    labelled = (picture != bare).any(axis=-1)
    assert cell(labelled, 0, 0)[lower, : CELL // 3].any()
    assert cell(labelled, 1, 1)[lower, : CELL // 3].any()
    assert not cell(labelled, 1, 0).any()
    # An end has no arrow: it differs from the same cell with another action in nothing.
    other = grid_picture(values, policy + 2, None, grid=grid)
    assert (cell(other, 1, 1) == cell(picture, 1, 1)).all()
    assert (cell(other, 1, 0) != cell(picture, 1, 0)).any()


def test_a_wall_does_not_stretch_the_scale() -> None:
    walls = np.array([[False, True, False]])
    picture = grid_picture(np.array([[0.0, -1e9, 1.0]]), grid=Grid(walls=walls))
    assert has(cell(picture, 0, 0), TINTS[0]) > 1_000
    assert has(cell(picture, 0, 2), TINTS[-1]) > 1_000


def test_small_values_are_written_with_the_decimals_of_the_largest() -> None:
    assert grids._texts(np.array([0.86284, 0.00090193, 5.1521e-15, np.nan])) == ["0.86284", "0.0009", "0", ""]
    assert grids._texts(np.array([940.84935, 2.75, 4.0])) == ["940.85", "2.75", "4"]
    assert grids._texts(np.array([374490.0, -0.3333, -41.8187])) == ["3.7449e5", "-0.33", "-41.82"]
    assert grids._texts(np.array([0.0, -0.0, -0.001, np.inf])) == ["0", "0", "-0.001", "inf"]
    assert grids._texts(np.array([0.001234567])) == ["0.0012346"]


def test_a_large_grid_is_a_map() -> None:
    values = np.tile(np.arange(40.0), (30, 1))
    policy = np.zeros((30, 40), int)
    policy[:, 20:] = 2
    walls, terminals = np.zeros((2, 30, 40), np.bool_)
    walls[0], terminals[29] = True, True
    optimal = np.eye(4, dtype=np.bool_)[policy]
    optimal[15] = True
    picture = grid_picture(values, policy, optimal, grid=Grid(walls=walls, terminals=terminals))
    each = 560 // 40
    left, right = MARGIN, MARGIN + 560 + 2 * MARGIN

    def at(x: int, i: int, j: int) -> tuple[int, ...]:
        return tuple(picture[MARGIN + i * each + each // 2, x + j * each + each // 2].tolist())

    for j in (0, 7, 39):
        assert at(left, 10, j) == tuple(blend(VALUES, np.array([j / 39]))[0].tolist())
        assert at(left, 0, j) == at(right, 0, j) == WALL
        assert at(left, 29, j) == at(right, 29, j) == UNKNOWN
        assert at(right, 15, j) == EITHER
        assert at(right, 10, j) == heat_maps.ACTIONS[0 if j < 20 else 2]


@pytest.mark.parametrize("values", [np.ones(4), np.ones((0, 3)), np.ones((2, 2, 2))])
def test_what_is_no_grid_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="make no grid"):
        grid_picture(values)


# Maps.


def test_a_scale_is_from_the_least_to_the_largest_known_value() -> None:
    scale = Scale.of(np.array([np.nan, 3.0, -1.0, np.inf]))
    assert scale == (-1.0, 3.0)
    shares = scale.share(np.array([-1.0, 1.0, 3.0, 7.0, -np.inf, np.inf, np.nan]))
    assert shares.tolist() == [0, 0.5, 1, 1, 0, 1, 0]
    assert Scale.of(np.array([np.nan])) == (0.0, 0.0)
    assert Scale(2.0, 2.0).share(np.array([2.0, 2.0])).tolist() == [0.5, 0.5]


def test_a_cell_of_a_map_is_a_whole_number_of_pixels_where_that_is_possible() -> None:
    alone, beside = Layers(np.ones(1), Scale(0, 1), ""), Layers(np.ones(1), Scale(0, 1), "", np.zeros(1))
    assert heat_maps.size(50, 50, beside) == (550, 550)
    assert heat_maps.size(50, 50, alone) == (850, 850)
    assert heat_maps.size(1120, 1120, beside) == (560, 560)
    assert heat_maps.size(900, 2, beside)[0] <= 1.5 * 560
    assert min(heat_maps.size(1, 100_000, beside)) == 1


def test_the_key_of_a_map_names_what_is_in_it() -> None:
    index = np.zeros((100, 400), int)
    index[:, 200:] = 1
    layers = Layers(np.array([0.0, 1.0]), Scale(0, 1), "value", np.array([0, 1]), ["left", "right"])
    plain = heat_maps.picture(index, layers)
    several = heat_maps.picture(index, layers._replace(actions=np.array([0, SEVERAL])))
    assert has(plain, EITHER) == 0
    assert has(several, EITHER) > 200 * 100
    key = plain[MARGIN + 100 :]
    for colour in (heat_maps.ACTIONS[0], heat_maps.ACTIONS[1], VALUES[0], VALUES[-1], OUTLINE):
        assert has(key, colour) > 10
    assert (heat_maps.picture(index, layers._replace(title="number")) != plain).any()


# Files.


def test_a_picture_is_written_and_read_back(tmp_path: Path) -> None:
    picture = triangle_picture(NUMBERS, NOTES, caption="sweep 3")
    for path in (tmp_path / "a.png", tmp_path / "new" / "b.PNG", str(tmp_path / "c.png")):
        save_picture(picture, path)
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert (np.asarray(image) == picture).all()
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "c.png", "new"}


@pytest.mark.parametrize(
    ("name", "told"),
    [("a.jpg", r"a\.jpg must end in \.png$"), ("no/such/a.png", r"cannot be written: folder .+: No such file")],
)
def test_a_picture_that_cannot_be_written_is_refused(name: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        save_picture(triangle_picture(NUMBERS), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def frames() -> list[np.ndarray]:
    """One a row of the notes' example, from the last."""
    made: list[np.ndarray] = []
    for known in (3, 1, 0):
        values = np.where(np.arange(6) >= known, NOTES, np.nan)
        policy = np.where(np.arange(6) >= known, [1, 1, 0, 0, 0, 0], -1)
        made.append(triangle_picture(NUMBERS, values, policy, caption=f"row {len(made) + 1}", scale=(1, 4.5)))
    return made


def test_frames_are_written_as_a_gif(tmp_path: Path) -> None:
    made = frames()
    save_frames(iter(made), tmp_path / "film.gif", fps=4)
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == 3  # type: ignore[attr-defined] # of a gif
        for k, frame in enumerate(made):
            image.seek(k)
            assert image.info["duration"] == (250, 250, 2000)[k]
            shown = np.asarray(image.convert("RGB")).astype(int)
            assert shown.shape == frame.shape
            assert np.abs(shown - frame).mean() < 3
        assert image.info["loop"] == 0


def test_a_gif_is_not_faster_than_browsers_show_it(tmp_path: Path) -> None:
    save_frames(frames(), tmp_path / "film.gif", fps=1000)
    with Image.open(tmp_path / "film.gif") as image:
        assert image.info["duration"] == 30


@pytest.mark.parametrize(
    ("images", "told"),
    [([], "expected one size"), ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], "expected one size")],
)
def test_frames_are_of_one_size(images: list[Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        save_frames(images, tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []


def test_frames_need_an_ending_that_moves(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"film\.png must end in \.mp4 or \.gif$"):
        save_frames(frames(), tmp_path / "film.png")
