"""Ports to listen on, as far as they are known without TensorFlow."""

from __future__ import annotations

import socket

from rlkit.errors import UserError

BACKLOG = 1024
"""Connections that may wait to be accepted."""


def listen(flag: str, host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        flag: the port's, for an error.
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        UserError: there can be none.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host} cannot be listened on: {getattr(error, 'strerror', None) or error}") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise UserError(f"{flag} {port} cannot be listened on at {host}: {error.strerror or error}") from None
    return made


def check_ports(host: str, port: int, grpc_port: int) -> None:
    """UserError where a server could not listen; so that this is told before there is work for it."""
    with listen("--port", host, port), listen("--grpc-port", host, grpc_port):
        pass
