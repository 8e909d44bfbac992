"""Tables of numbers from CSV files."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from rlkit.errors import UserError, short, unknown
from rlkit.files import MOST_DATA, read_bytes

Task = Literal["auto", "classification", "regression"]

MOST_CLASSES = 100
"""Different whole numbers up to which a column of them is taken for classes."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-"}
"""Cells, in small letters, that commonly stand for a missing value."""

NUMERAL = re.compile(r"[-+(]?\s*(?:[$€£¥]\s*)?[-+]?[\d.,][\d.,'_\s]*[%$€£¥)]*")
"""A cell that a person may mean as a number: with a decimal comma, marks between thousands, a currency, a per cent.

A space is taken by one part alone, so that a long cell takes no longer than its length.
"""

WHOLE = re.compile(r"([-+]?)0*([0-9]+)")

LARGEST = float(np.finfo(np.float32).max)

Line = tuple[int, list[str]]
"""A row's first line, counted from 1, and its cells without spaces around them."""


class Table(NamedTuple):
    """Rows of numbers and the value to predict from each."""

    inputs: np.ndarray
    """[n, columns] float64."""
    targets: np.ndarray
    """[n], float64, or int64 indices into the classes."""
    classes: tuple[str, ...]
    """Sorted; none where the targets are numbers."""
    notes: tuple[str, ...] = ()
    """How the file was understood: a sentence each."""


def read(path: Path, target: str = "", task: Task = "auto", on_error: Literal["stop", "skip"] = "stop") -> Table:
    """A CSV file with a heading and numbers in every column but the target's, which may hold text.

    Columns are separated by commas, semicolons, tabs or vertical bars; numbers have a decimal point.

    Args:
        path: of the file.
        target: name of the column to predict; empty for the last.
        task: whether the target's values are classes; auto takes text, and up to 100 whole numbers, for classes.
        on_error: "stop" for an error at a row with a missing or wrong value, "skip" to leave such rows out.

    Raises:
        UserError: the file is missing, no such table, or its heading or target can be understood in two ways; the
            line, the column and the flag that decides are named.
    """
    lines, notes = _lines(path)
    heading, rows = _heading(path, lines), lines[1:]
    if target and target not in heading:
        raise unknown(f"column of {path}", target, heading)
    at = heading.index(target or heading[-1])
    cells = [(line, row[at]) for line, row in rows if len(row) == len(heading)]
    kind = _task(path, heading[at], cells, on_error) if task == "auto" else task
    faults = [(line, fault) for line, row in rows if (fault := _fault(row, heading, at, kind, strict=task == "auto"))]
    if faults:
        _check_columns(path, heading, at, [row for _, row in rows if len(row) == len(heading)])
    if faults and on_error == "stop":
        many = f" ({len(faults)} such rows)" if len(faults) > 1 else ""
        raise UserError(f"{path}, line {faults[0][0]}{faults[0][1]}{many}; --on-error skip leaves such rows out")
    bad = {line for line, _ in faults}
    good = [row for line, row in rows if line not in bad]
    if len(good) < 2:
        raise UserError(
            f"{path} has {len(good)} rows without faults, expected 2 at least; line {faults[0][0]}{faults[0][1]}"
        )
    if faults:
        notes.append(f"left out: {_rows(len(faults))}, the first is line {faults[0][0]}{faults[0][1]}")
    names = [name for i, name in enumerate(heading) if i != at]
    last = "" if target else " (the last column; --target names another)"
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    notes.insert(0, f"table: {_rows(len(good))}; {heading[at]}{last} is predicted from {listed}")
    inputs = np.array([[float(v) for i, v in enumerate(row) if i != at] for row in good])
    values = [row[at] for row in good]
    if task == "auto" and kind == "classification" and all(map(_is_number, values)):
        notes.append(f"{heading[at]} has whole numbers, taken for classes: --task regression predicts the number")
    if kind == "regression":
        return Table(inputs, np.array([float(value) for value in values]), (), tuple(notes))
    targets, classes = _classified(path, heading[at], values)
    return Table(inputs, targets, classes, tuple(notes))


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def merged(inputs: np.ndarray) -> bool:
    """Whether float32 loses differences between a column's numbers that matter beside its standard deviation.

    >>> merged(np.array([[20240101.0], [20240102.0], [20240103.0]])), merged(np.array([[0.1], [0.2], [0.3]]))
    (True, False)

    Args:
        inputs: [n, columns] float64.
    """
    ordered = np.sort(inputs, axis=0)
    with np.errstate(under="ignore"):
        short = ordered.astype(np.float32)
    lost = np.where(short[1:] == short[:-1], np.diff(ordered, axis=0), 0.0).max(axis=0)
    deviation = inputs.std(axis=0)
    tiny = (deviation > 0) & ((deviation < 1e-18) | (deviation > 1e18))  # 1 / deviation is at float32's ends
    return bool(np.any(lost > 1e-6 * deviation) or np.any(tiny))


def decoded(path: Path) -> str:
    """A file of UTF-8, or of UTF-16 with its mark, as text without a byte order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is of another encoding, or has zero bytes; the line is named.
    """
    content = read_bytes(path, MOST_DATA)
    text = _decoded(content)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"line {line} holds a zero byte: save it as UTF-8")
    return text


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8 (byte 0x{content[error.start]:02x}): save it as UTF-8") from None


def _lines(path: Path) -> tuple[list[Line], list[str]]:
    """The rows that are not empty, a heading of two columns or more and at least two; and what is to be reported."""
    try:
        text = decoded(path)
        delimiter, text = _delimiter(path, text)
        lines = _split(text, delimiter)
    except FileNotFoundError:
        raise UserError(f"data file {path} does not exist") from None
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"data file {path} cannot be read as CSV: {reason}") from None
    notes = [] if delimiter == "," else [f"columns are separated by {DELIMITERS.get(delimiter, repr(delimiter))}"]
    full = [(line, row) for line, row in lines if any(row)]
    empty = sum(len(row) > 1 for _, row in lines) - sum(len(row) > 1 for _, row in full)
    if empty:
        notes.append(f"left out: {_rows(empty)} without any value")
    if len(full) < 3:
        raise UserError(f"data file {path} has {len(full)} lines, expected a heading and two rows at least")
    if len(full[0][1]) < 2:
        raise UserError(f"data file {path} has one column, expected a target and something to predict it from")
    return full, notes


def _delimiter(path: Path, text: str) -> tuple[str, str]:
    """The character between columns, and the text without a line `sep=;`, in which Excel names it."""
    if named := re.match(r"\s*sep=(.)\r?\n", text, re.IGNORECASE):
        return named[1], "\n" * text[: named.end()].count("\n") + text[named.end() :]  # the lines keep their numbers
    start = "\n".join(text.splitlines()[:200])
    fitting = []
    for delimiter in DELIMITERS:
        try:
            lines = _split(start, delimiter, strict=False)
        except csv.Error:
            continue
        widths = [len(row) for _, row in lines if any(row)]
        if widths and widths[0] > 1:
            fitting.append((delimiter, all(width == widths[0] for width in widths)))
    even = [delimiter for delimiter, same in fitting if same]
    if len(even) > 1:
        raise UserError(
            f"data file {path}: its columns may be separated by {' or by '.join(DELIMITERS[d] for d in even)}"
        )
    return next(iter([*even, *(delimiter for delimiter, _ in fitting), ","])), text


def _split(text: str, delimiter: str, *, strict: bool = True) -> list[Line]:
    """The rows of a CSV text with the numbers of their first lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict, skipinitialspace=True)
    lines, first = [], 1
    try:
        for row in reader:
            lines.append((first, [cell.strip() for cell in row]))
            first = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"line {first}: {error}") from None
    return lines


def _heading(path: Path, lines: Sequence[Line]) -> list[str]:
    """The columns' names, each of them given, and given once; UserError where the first row is one of data."""
    (line, heading), rows = lines[0], [row for _, row in lines[1:] if len(row) == len(lines[0][1])]
    numbers = [_is_numeral(cell) for cell in heading]
    above = [
        not numbers[i] and cell.lower() not in MISSING and sum(_is_number(row[i]) for row in rows) * 2 > len(rows)
        for i, cell in enumerate(heading)
    ]
    if any(numbers) and not any(above):
        raise UserError(
            f"{path}, line {line} has {heading[numbers.index(True)]!r} in place of a column's name: put a heading "
            "above it, with a name for each column"
        )
    if "" in heading:
        raise UserError(
            f"{path}, line {line}: column {heading.index('') + 1} has no name: name it, or leave the column out "
            "(a table's index, such as pandas writes, is nothing to learn from)"
        )
    twice = [name for name, times in Counter(heading).items() if times > 1]
    if twice:
        raise UserError(f"{path}, line {line}: two columns are called {twice[0]}: give each a name of its own")
    return heading


def _check_columns(path: Path, heading: Sequence[str], at: int, rows: Sequence[Sequence[str]]) -> None:
    """UserError where a column to predict from is text in most rows: leaving them out would leave little."""
    for i, name in enumerate(heading):
        texts = [row[i] for row in rows if row[i].lower() not in MISSING and not _is_numeral(row[i])]
        if i != at and 2 * len(texts) > len(rows):
            raise UserError(
                f"{path}: the column {name} is text in {len(texts):,} of {_rows(len(rows))}, as {short(texts[0])}; "
                "a table is learned from numbers alone: write it as numbers or leave the column out"
            )


def _task(path: Path, target: str, cells: Sequence[tuple[int, str]], on_error: str) -> Task:
    """Whether a column's values, with their lines, are classes or numbers; UserError where both is possible."""
    known = [(line, cell) for line, cell in cells if cell.lower() not in MISSING]
    numbers = [_value(cell) for _, cell in known if _is_number(cell)]
    missing = [(line, cell) for line, cell in cells if cell and cell.lower() in MISSING and on_error == "stop"]
    meant = sum(_is_numeral(cell) for _, cell in known)
    if known and 2 * meant >= len(known):
        odd = [(line, cell) for line, cell in known if not _is_number(cell)] + missing
        way = (
            f"and {len(numbers):,} of {len(cells):,} values are: give --task regression --on-error skip to leave such "
            "rows out, or --task classification to take the values for classes"
            if numbers
            else "expected one such as 1234.5: write the column so, or give --task classification to take it as classes"
        )
        if odd:
            raise UserError(f"{path}, line {odd[0][0]}, column {target}: {short(odd[0][1])} is no number, {way}")
        whole = all(float(number).is_integer() for number in numbers)
        few = len(set(numbers)) <= min(MOST_CLASSES, len(known) // 2)
        return "classification" if whole and few else "regression"
    if missing:
        raise UserError(
            f"{path}, line {missing[0][0]}, column {target}: {missing[0][1]!r} may be a class or a missing value: give "
            "--task classification to take it for a class, or --on-error skip to leave such rows out"
        )
    return "classification"


def _fault(row: Sequence[str], heading: Sequence[str], at: int, task: Task, *, strict: bool) -> str:
    """The first fault of a row, to stand behind its line's number; empty if it has none.

    A strict one is also a class that commonly stands for a missing value.
    """
    if len(row) != len(heading):
        return f": {len(row)} values, expected {len(heading)}"
    for i, cell in enumerate(row):
        if i == at and task == "classification":
            fault = _absent(cell) if strict or not cell else ""
        else:
            fault = _number_fault(cell)
        if fault:
            return f", column {heading[i]}: {fault}"
    return ""


def _absent(cell: str) -> str:
    return ("no value" if not cell else f"{cell!r} is no value") if cell.lower() in MISSING else ""


def _number_fault(cell: str) -> str:
    """The reason why a cell is no number that a model can take; empty if it is one."""
    if not cell:
        return "no value"
    if not _is_number(cell):
        hint = ", expected one such as 1234.5" if _is_numeral(cell) else ""
        return f"{short(cell)} is no number{hint}"
    if abs(float(cell)) > LARGEST:
        return f"{cell[:60]} is too large, expected at most 3.4e38, float32's largest number"
    return ""


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word)) and "_" not in word
    except ValueError:
        return False


def _value(word: str) -> float:
    """The number of a cell that is one; whole ones are exact, however long, without zeros that int() would count."""
    return int("".join(whole.groups())) if (whole := WHOLE.fullmatch(word)) else float(word)


def _is_numeral(word: str) -> bool:
    """Whether a person may mean it as a number."""
    return _is_number(word) or bool(NUMERAL.fullmatch(word))


def _classified(path: Path, column: str, words: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Indices into the classes, [n] int64, and the classes, sorted; numbers that are equal are one class."""
    names: dict[str | float, str] = {}
    keys = [_value(word) if _is_number(word) else word for word in words]
    for key, word in zip(keys, words, strict=True):
        names[key] = min(names.get(key, word), word, key=lambda name: (len(name), name))
    ordered = sorted(names, key=lambda key: (isinstance(key, str), 0.0 if isinstance(key, str) else key, names[key]))
    if len(ordered) < 2:
        raise UserError(f"{path}: the column {column} has only one class, {names[ordered[0]]}")
    index = {key: i for i, key in enumerate(ordered)}
    return np.array([index[key] for key in keys]), tuple(names[key] for key in ordered)
