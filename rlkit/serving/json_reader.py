"""A JSON request, read in pieces: neither a tree of the whole of it, nor one call that holds the interpreter for long.

orjson makes Python objects of a text, up to forty times its size, in one call in which no other thread runs. So a text
that is longer than a piece is cut at its commas: a short part is read by orjson, a long list is a `Long`, whose
elements are read when they are asked for. What is refused is the same as if orjson had read it whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson

from rlkit.serving.errors import invalid

JSON = Any
"""Any value of a JSON document; a list that is longer than a piece is a `Long`."""

PIECE = 64 * 1024
"""Bytes of text that are read by one call."""

BLOCK = 64 * 1024
"""Bytes of text that are searched for commas at once."""

DEEPEST = 16
"""Lists and objects in each other that may each be longer than a piece: each is searched once more."""

NAMES = 65_536
"""Names that an object may have which is longer than a piece."""

SHOWN = 200
"""Characters of a wrong value that an error repeats."""

BLANK = re.compile(rb"[ \t\r\n]*")
MEMBER = re.compile(rb'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\r\n]*:', re.DOTALL)
STEPS = bytes({ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(code, 0) for code in range(256))
"""For each byte by how much it changes the depth."""


class Long:
    """A JSON list that is longer than a piece.

    Iterating reads it: it gives lists of its next elements, of which there are as many as a piece holds, or one.

    Args:
        reader: of the text that it is in.
        start: where its bracket is.
        end: where the text ends that may hold it and blanks after it.
        level: how many that are longer than a piece it is in.
    """

    __slots__ = ("_level", "_reader", "_span")

    def __init__(self, reader: Reader, start: int, end: int, level: int) -> None:
        self._reader, self._span, self._level = reader, (start, end), level

    def __iter__(self) -> Iterator[list[JSON]]:
        reader = self._reader
        for start, end in reader.parts(*self._span):
            if end - start > PIECE:
                yield [reader.value(start, end, self._level + 1)]
            else:
                yield reader.small(start, end, b"[%b]")
        reader.unread.pop(self, None)

    def __str__(self) -> str:
        start = self._span[0]
        return bytes(self._reader.text[start : start + SHOWN]).decode(errors="replace") + "..."


class Reader:
    """Reads a request.

    Args:
        text: the request's body.
        nan: take NaN, Infinity and -Infinity, which JSON proper does not have and TensorFlow Serving takes.
    """

    __slots__ = ("nan", "text", "unread")

    def __init__(self, text: bytes | bytearray, nan: bool) -> None:
        self.text, self.nan = text, nan
        self.unread: dict[Long, None] = {}

    def request(self) -> dict[str, JSON]:
        """The JSON object.

        Raises:
            ServingError: it is not JSON, or no object; of a `Long`, that is told when it is read.
        """
        size = len(self.text)
        value = self.small(0, size, b"%b") if size <= PIECE else self.value(0, size, 0)
        if type(value) is not dict:
            raise invalid(f"JSON Value: {shown(value)} Is not object")
        return value

    def finish(self) -> None:
        """Read what nobody asked for; ServingError where it is not JSON."""
        while self.unread:
            for _ in next(iter(self.unread)):
                pass

    def value(self, start: int, end: int, level: int) -> JSON:
        """The value in a part of the text, with blanks around it."""
        if end - start > PIECE:
            start = _after_blanks(self.text, start, end)
        if end - start <= PIECE or self.text[start] not in b"[{" or self._empty(start, end):
            return self.small(start, end, b"%b")
        if level == DEEPEST:
            raise invalid(f"JSON Parse error: more than {DEEPEST} long lists in each other at offset: {start}")
        if self.text[start] == ord("{"):
            return self._object(start, end, level)
        made = Long(self, start, end, level)
        self.unread[made] = None
        return made

    def _empty(self, start: int, end: int) -> bool:
        """Whether a list or object that begins here has only blanks in it."""
        inner = _after_blanks(self.text, start + 1, end)
        return inner < end and self.text[inner] in b"]}"

    def small(self, start: int, end: int, form: bytes) -> JSON:
        """The value that orjson makes of a part of the text, set into a form such as [%b]."""
        text = self.text[start:end] if form == b"%b" else form % self.text[start:end]
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return _read_loosely(text, self.nan, error, start - form.index(b"%"))

    def _object(self, start: int, end: int, level: int) -> dict[str, JSON]:
        found: dict[str, JSON] = {}
        for begin, cut in self.parts(start, end):
            begin = _after_blanks(self.text, begin, cut)
            if cut - begin > PIECE:
                member = MEMBER.match(self.text, begin, begin + PIECE)
                if member is None:
                    raise invalid(f"JSON Parse error: no name of a piece's length at most at offset: {begin}")
                found[self.small(*member.span(1), b"%b")] = self.value(member.end(), cut, level + 1)
            else:
                found |= self.small(begin, cut, b"{%b}")
            if len(found) > NAMES:
                raise invalid(f"JSON Value: {shown(found)} has more than {NAMES} names")
        return found

    def parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where the elements of a list or object are: as many as a piece holds, or one that is longer.

        Raises:
            ServingError: there is no element between two commas, or none of its brackets closes it.
        """
        begin, held, close = start + 1, -1, -1
        for commas, close in _commas(self.text, start, end):
            marks = np.append(commas, close) if close >= 0 else commas
            while (fit := int(np.searchsorted(marks, begin + PIECE, "right"))) < len(marks):
                cut = int(marks[fit - 1]) if fit else held if held >= begin else int(marks[0])
                self._check_filled(begin, cut)
                yield begin, cut
                begin = cut + 1
                marks = marks[np.searchsorted(marks, begin) :]
            held = int(marks[-1]) if len(marks) else held
        if close < 0 or self.text[close] != self.text[start] + 2:  # as ASCII has [ ] and { }
            raise invalid(f"JSON Parse error: unexpected end of data at offset: {end if close < 0 else close}")
        if begin <= close:
            self._check_filled(begin, close)
            yield begin, close
        if (rest := _after_blanks(self.text, close + 1, end)) < end:
            raise invalid(f"JSON Parse error: unexpected content after document at offset: {rest}")

    def _check_filled(self, start: int, end: int) -> None:
        if _after_blanks(self.text, start, end) == end:
            raise invalid(f"JSON Parse error: unexpected character at offset: {end}")


def _after_blanks(text: bytes | bytearray, start: int, end: int) -> int:
    found = BLANK.match(text, start, end)
    return found.end() if found else start


class Place(NamedTuple):
    """Where a block of a text ends: in how many brackets, whether in a string, there after a backslash that counts."""

    depth: int
    string: bool
    escaped: bool


def _commas(text: bytes | bytearray, start: int, end: int) -> Iterator[tuple[np.ndarray, int]]:
    """Where the commas of the list or object are that begins at `start`, block by block; and where it closes, or -1."""
    place = Place(0, False, False)
    for base in range(start, end, BLOCK):
        found, close, place = _search(bytes(text[base : min(base + BLOCK, end)]), place)
        if close >= 0:
            yield base + found[found < close], base + close
            return
        yield base + found, -1


def _search(block: bytes, place: Place) -> tuple[np.ndarray, int, Place]:
    """In a block: where the commas at depth 1 are, where the depth comes to 0, or -1, and where it ends."""
    depth, string, escaped = place
    steps = np.frombuffer(block.translate(STEPS), np.int8)
    commas = np.frombuffer(block, np.uint8) == ord(",")
    if string or b'"' in block:
        strings, string, escaped = _strings(block, string, escaped)
        steps = np.where(strings, np.int8(0), steps)
        commas &= ~strings
    depths = np.cumsum(steps, dtype=np.int32) + np.int32(depth)
    close = int((depths <= 0).argmax()) if int(depths.min()) <= 0 else -1
    return np.flatnonzero(commas & (depths == 1)), close, Place(int(depths[-1]), string, escaped)


def _strings(block: bytes, string: bool, escaped: bool) -> tuple[np.ndarray, bool, bool]:
    """Which bytes of a block are in a string; whether it ends in one, and there after a backslash that counts.

    Args:
        block: of the text.
        string: whether it begins in a string.
        escaped: whether a backslash before it takes its first byte's meaning.
    """
    codes = np.frombuffer(block, np.uint8)
    quotes = codes == ord('"')
    if escaped or b"\\" in block:
        place = np.arange(len(block), dtype=np.int32)
        before = np.maximum.accumulate(np.where(codes == ord("\\"), np.int32(-1 - escaped), place))
        odd = ((place - before) & 1).astype(bool)  # backslashes that end here; one was before where none is the first
        quotes = quotes & ~np.concatenate([[escaped], odd[:-1]])
        escaped = bool(odd[-1])
    inside = ((np.cumsum(quotes, dtype=np.int32) + string) & 1).astype(bool)
    return inside, bool(inside[-1]), escaped


def _read_loosely(text: bytes | bytearray, nan: bool, error: orjson.JSONDecodeError, base: int) -> JSON:
    """The value of a text that orjson refused: NaN and Infinity are the only reason to take it all the same."""
    if not text:
        raise invalid("JSON Parse error: The document is empty")
    if re.match(r"-?(NaN|Infinity)", error.doc[error.pos :]) or error.doc[error.pos - 1 :].startswith("-Infinity"):
        try:
            value = json.loads(text.decode())
            orjson.dumps(value)  # which refuses what the loose parser takes beside: half of a surrogate pair
        except (ValueError, TypeError, RecursionError) as worse:
            raise invalid(f"JSON Parse error: {worse}") from None
        if nan:
            return value
        raise invalid("JSON Parse error: NaN and Infinity are taken with --allow-nan only")
    raise invalid(f"JSON Parse error: {error.msg} at offset: {base + error.pos}")


def groups(value: JSON) -> Iterable[list[JSON]]:
    """The elements of a list, in lists; of anything else, itself."""
    return value if isinstance(value, Long) else [value if type(value) is list else [value]]


def is_list(value: JSON) -> bool:
    """Whether it is a list, of any length."""
    return type(value) is list or type(value) is Long


def shown(value: JSON) -> str:
    """The beginning of a value, for an error; what is not repeated is not looked at."""
    text = ""
    for part in _written(value):
        text += part
        if len(text) > SHOWN:
            return text[:SHOWN] + "..."
    return text


def _written(value: JSON) -> Iterator[str]:
    """A value as JSON, part by part."""
    if type(value) is list:
        yield "["
        for i, item in enumerate(value):
            yield ", " if i else ""
            yield from _written(item)
        yield "]"
    elif type(value) is dict:
        yield "{"
        for i, (key, item) in enumerate(value.items()):
            yield f"{', ' if i else ''}{json.dumps(key[:SHOWN])}: "
            yield from _written(item)
        yield "}"
    elif type(value) is str:
        yield json.dumps(value[: SHOWN + 1])
    elif type(value) is Long:
        yield str(value)
    else:
        yield json.dumps(value)
