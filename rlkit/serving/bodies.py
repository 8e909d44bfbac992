"""Compressed bodies."""

from __future__ import annotations

import zlib

from rlkit.serving.errors import Code, ServingError, invalid

CODINGS = {b"gzip", b"x-gzip", b"deflate"}
"""Content codings that a body may have beside identity."""

STEP = 1 << 20
"""Bytes that are inflated by one call."""

BOTH = 32 + zlib.MAX_WBITS
"""A gzip or a zlib header, whichever there is."""


MEMBERS = 32
"""Parts of a body that each have a header of gzip; what follows a part is copied once more."""


class Compressed:
    """A body as it came.

    Args:
        data: its bytes.
        limit: bytes that it may have when it is inflated.
    """

    __slots__ = ("data", "limit")

    def __init__(self, data: bytes | bytearray, limit: int) -> None:
        self.data, self.limit = data, limit

    def inflated(self) -> bytearray:
        """The body, inflated; zlib lets other threads run meanwhile.

        Raises:
            ServingError: it is not compressed, or too large.
        """
        found, rest = bytearray(), bytes(self.data)
        for _ in range(MEMBERS):
            rest = self._inflate(rest, found)
            if not rest:
                return found
        raise invalid(f"The request's body has more than {MEMBERS} members of gzip")

    def _inflate(self, data: bytes, into: bytearray) -> bytes:
        """Inflate a member; what follows it."""
        member, size = zlib.decompressobj(BOTH), -1
        try:
            while data or len(into) > size:
                size = len(into)
                into += member.decompress(data, STEP)
                if len(into) > self.limit:
                    raise too_large(self.limit)
                if bool(member.eof):
                    return member.unused_data
                data = member.unconsumed_tail
        except zlib.error as error:
            raise invalid(f"The request's body is not compressed as its header says: {error}") from None
        raise invalid("The request's body is compressed, and ends too early")


def too_large(limit: int) -> ServingError:
    """A body that has more bytes than it may have."""
    return ServingError(Code.RESOURCE_EXHAUSTED, f"The request's body has more than {limit} bytes", 413)
