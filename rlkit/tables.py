"""Tables of numbers from CSV files."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from rlkit.errors import UserError, unknown

Task = Literal["auto", "classification", "regression"]

MOST_CLASSES = 100
"""Different whole numbers up to which a column of them is taken for classes."""


class Table(NamedTuple):
    """Rows of numbers and what is to be predicted from each."""

    inputs: np.ndarray
    """[n, columns] float32."""
    targets: np.ndarray
    """[n], float32, or int64 places in the classes."""
    classes: tuple[str, ...]
    """Sorted; none where the targets are numbers."""


def read(path: Path, target: str = "", task: Task = "auto") -> Table:
    """A CSV file with a heading and numbers in every column but the target's, which may hold text.

    Args:
        path: of the file.
        target: name of the column to predict; empty for the last.
        task: whether the target's values are classes; auto takes text, and up to 100 whole numbers, for classes.

    Raises:
        UserError: the file is missing or no such table; the line and column are named.
    """
    lines = _lines(path)
    heading, rows = [name.strip() for name in lines[0][1]], lines[1:]
    target = target or heading[-1]
    if target not in heading:
        raise unknown(f"column of {path}", target, heading)
    at = heading.index(target)
    for number, row in rows:
        if len(row) != len(heading):
            raise UserError(f"{path}, line {number}: {len(row)} values, expected {len(heading)}")
    inputs = [[_number(path, n, heading[i], v) for i, v in enumerate(row) if i != at] for n, row in rows]
    words = [row[at].strip() for _, row in rows]
    for (number, _), word in zip(rows, words, strict=True):
        if not word:
            raise UserError(f"{path}, line {number}: no value in the column {target}")
    if task == "classification" or (task == "auto" and _are_classes(words)):
        classes = sorted(
            set(words), key=lambda word: (not _is_number(word), float(word) if _is_number(word) else 0, word)
        )
        if len(classes) < 2:
            raise UserError(f"{path}: the column {target} has only one class, {classes[0]}")
        targets = np.array([classes.index(word) for word in words])
    else:
        classes = []
        numbers = [_number(path, n, target, word) for (n, _), word in zip(rows, words, strict=True)]
        targets = np.array(numbers, np.float32)
    return Table(np.array(inputs, np.float32), targets, tuple(classes))


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, with their numbers: a heading of two columns or more, and at least two rows."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError:
        raise UserError(f"data file {path} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data file {path} cannot be read as CSV: {error}") from None
    if len(lines) < 3:
        raise UserError(f"data file {path} has {len(lines)} lines, expected a heading and two rows at least")
    if len(lines[0][1]) < 2:
        raise UserError(f"data file {path} has one column, expected a target and something to predict it from")
    return lines


def _number(path: Path, line: int, column: str, value: str) -> float:
    if not _is_number(value):
        raise UserError(f"{path}, line {line}: {value!r} in the column {column} is no number")
    return float(value)


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _are_classes(words: list[str]) -> bool:
    if not all(map(_is_number, words)):
        return True
    return all(float(word).is_integer() for word in words) and len(set(words)) <= min(MOST_CLASSES, len(words) // 2)
