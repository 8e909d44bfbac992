"""Errors of the protocol: one code, which gRPC sends by name and REST as an HTTP status."""

from __future__ import annotations

import logging
from enum import Enum

LONGEST = 1_000
"""Bytes of an error's message."""


class Code(Enum):
    """A canonical code: its number, and the HTTP status that TensorFlow Serving answers it with."""

    OK = (0, 200)
    INVALID_ARGUMENT = (3, 400)
    DEADLINE_EXCEEDED = (4, 504)
    NOT_FOUND = (5, 404)
    RESOURCE_EXHAUSTED = (8, 429)
    FAILED_PRECONDITION = (9, 400)
    OUT_OF_RANGE = (11, 400)
    UNIMPLEMENTED = (12, 501)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)

    @property
    def number(self) -> int:
        """Of google.rpc.Code."""
        return self.value[0]

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[1]


class ServingError(Exception):
    """A request that is answered with an error.

    Args:
        code: what kind of error.
        message: for the client, who is told the beginning of a long one: gRPC has no room for more.
        http: the HTTP status, if it is not the code's.
    """

    def __init__(self, code: Code, message: str, http: int | None = None) -> None:
        whole = message[: LONGEST + 1].encode(errors="replace")
        self.message = (whole if len(whole) <= LONGEST else whole[:LONGEST] + b"...").decode(errors="ignore")
        super().__init__(self.message)
        self.code, self.http = code, http or code.http


def invalid(message: str) -> ServingError:
    """The client's mistake."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def told(error: BaseException) -> ServingError:
    """What a client is told of an exception that a model raised: TensorFlow's own code where it has one."""
    if isinstance(error, ServingError):
        return error
    number = getattr(error, "error_code", None)
    code = next((c for c in Code if c.number == number), Code.INTERNAL)
    return ServingError(code, str(getattr(error, "message", None) or error))


def logged(error: BaseException) -> ServingError:
    """The same of an exception while a request was answered; what is neither a client's nor TensorFlow's is logged."""
    if not isinstance(error, ServingError) and getattr(error, "error_code", None) is None:
        logging.getLogger(__name__).error("a request ended in an exception", exc_info=error)
    return told(error)
