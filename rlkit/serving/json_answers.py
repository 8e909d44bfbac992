"""Arrays to JSON, as TensorFlow Serving's REST API answers.

A request in row format is answered by `predictions`, one in column format by `outputs`. A name is left out where there
is but one. Bytes are `{"b64": "..."}` where the output's name ends in _bytes. NaN, Infinity and -Infinity stand for
themselves.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import orjson

from rlkit.serving.errors import invalid
from rlkit.serving.json_reader import JSON
from rlkit.serving.signature import Arrays, Outputs

Slice = tuple[int, Outputs]
"""How many rows some outputs are of, and the outputs."""

CHUNK = 4096
"""Numbers and lists that are written by one call."""


def parts_of(array: np.ndarray) -> int:
    """How many numbers and lists an array is as JSON: one of many dimensions has many lists and may have no number."""
    return sum(math.prod(array.shape[: n + 1]) for n in range(array.ndim))


def answer(outputs: Outputs, by_row: bool) -> bytes:
    """The JSON of a predict response.

    Raises:
        ServingError: in row format, an output has no rows or another number of them than the others.
    """
    values = {name: _plain(name, array) for name, array in outputs.arrays.items()}
    body: JSON
    if by_row:
        rows = range(_same_rows(outputs.arrays))
        if len(values) == 1:
            [body] = values.values()
        else:
            body = [{name: value[i] for name, value in values.items()} for i in rows]
        return _dumps({"predictions": body}, outputs.finite)
    return _dumps({"outputs": next(iter(values.values())) if len(values) == 1 else values}, outputs.finite)


def long_answer(slices: Iterable[Slice], by_row: bool) -> bytes:
    """The same of many numbers, in pieces, so that other threads run in between.

    Args:
        slices: the outputs, some rows after the other; or all of them in one.
        by_row: whether to answer in row format.

    Raises:
        ServingError: as `answer`.
    """
    if by_row:
        rows = [piece for _, outputs in slices for piece in _row_pieces(outputs)]
        return b"".join([b'{"predictions":[', *_separated(rows), b"]}"])
    named: dict[str, list[bytes]] = {}
    ends: dict[str, tuple[bytes, bytes]] = {}
    for _, outputs in slices:
        for name, array in outputs.arrays.items():
            named.setdefault(name, []).extend(_pieces(name, array, outputs.finite))
            ends[name] = (b"[", b"]") if array.ndim else (b"", b"")
    texts = {name: [ends[name][0], *_separated(pieces), ends[name][1]] for name, pieces in named.items()}
    if len(texts) == 1:
        return b"".join([b'{"outputs":', *next(iter(texts.values())), b"}"])
    members = [[orjson.dumps(name), b":", *text] for name, text in texts.items()]
    between = [part for i, member in enumerate(members) for part in ([b",", *member] if i else member)]
    return b"".join([b'{"outputs":{', *between, b"}}"])


def results_answer(slices: Iterable[Slice], read: Callable[[Arrays, int], Sequence[JSON]]) -> bytes:
    """The JSON of a classify or regress response.

    Args:
        slices: the outputs, some rows after the other.
        read: what to answer for so many rows of outputs; ServingError where they are not as many.
    """
    rows = []
    for count, outputs in slices:
        for start in range(0, count, CHUNK):
            end = start + CHUNK if start + CHUNK < count else None  # the last has what is too much, too
            some = {name: array[start:end] if array.ndim else array for name, array in outputs.arrays.items()}
            rows.append(json.dumps(read(some, min(CHUNK, count - start)))[1:-1].encode())
    return b"".join([b'{"results":[', *_separated(rows), b"]}"])


def _separated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces with a comma between each two."""
    for i, piece in enumerate(pieces):
        if i:
            yield b","
        yield piece


def _row_pieces(outputs: Outputs) -> Iterator[bytes]:
    """Rows as JSON, some at a time."""
    arrays, finite = outputs
    rows = _same_rows(arrays)
    if len(arrays) == 1:
        [(name, array)] = arrays.items()
        yield from _pieces(name, array, finite)
        return
    size = sum(map(parts_of, arrays.values())) // max(1, rows)
    if size > CHUNK:
        for i in range(rows):
            yield b"{%b}" % b",".join(_member(name, array, i, finite) for name, array in arrays.items())
        return
    step = max(1, CHUNK // (4 * max(1, size)))  # an array for each row and output costs more than its numbers
    for start in range(0, rows, step):
        some = {name: _plain(name, array[start : start + step]) for name, array in arrays.items()}
        rest = range(min(step, rows - start))
        yield _dumps([{name: value[i] for name, value in some.items()} for i in rest], finite)[1:-1]


def _member(name: str, array: np.ndarray, row: int, finite: bool) -> bytes:
    """One row of an output with its name."""
    if array.ndim == 1:
        return b"".join([orjson.dumps(name), b":", *_pieces(name, array[row : row + 1], finite)])
    return b"".join([orjson.dumps(name), b":[", *_separated(_pieces(name, array[row], finite)), b"]"])


def _pieces(name: str, array: np.ndarray, finite: bool) -> Iterator[bytes]:
    """The elements of an array as JSON, some at a time, without the brackets around them all."""
    if not array.ndim:
        yield _dumps(_plain(name, array), finite)
        return
    size = parts_of(array) // max(1, len(array))
    if size > CHUNK:
        for row in array:
            yield b"".join([b"[", *_separated(_pieces(name, row, finite)), b"]"])
        return
    step = CHUNK // max(1, size)
    for start in range(0, len(array), step):
        yield _dumps(_plain(name, array[start : start + step]), finite)[1:-1]


def _dumps(value: JSON, finite: bool) -> bytes:
    if finite:
        return orjson.dumps(value, None, orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(value, default=_listed).encode()


def _same_rows(arrays: Mapping[str, np.ndarray]) -> int:
    count = -1
    for name, array in arrays.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count not in (-1, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}")
        count = len(array)
    return count


def _plain(name: str, array: np.ndarray) -> JSON:
    """An output as orjson writes it: an array of numbers, or nested lists of text."""
    if array.dtype.kind in "fiub":
        return array
    if array.dtype.kind == "O":
        binary = name.endswith("_bytes")
        holder = np.empty(array.size, object)
        holder[:] = [
            {"b64": base64.b64encode(v).decode()} if binary else v.decode(errors="replace") for v in array.flat
        ]
        return holder.reshape(array.shape).tolist()
    if array.dtype.kind == "c":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    return array.astype(np.float32)  # bfloat16 and the like


def _listed(value: JSON) -> JSON:
    """For json.dumps: arrays as lists, with float32 as short as orjson writes it."""
    if isinstance(value, np.float32):
        return float(str(value))
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return [_listed(item) for item in value]
    return value.tolist()
