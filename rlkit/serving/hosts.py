"""Which names a server answers to.

A page of a stranger can have its own name resolve to 127.0.0.1, and a browser then lets it talk to what listens there
(DNS rebinding). What tells is the Host header: it has the stranger's name.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s,]+))(?::\d*)?")
"""An address of IPv6 in brackets or a name, and a port."""

KNOWN = 1000
"""Header values that are kept, so that they are looked at once."""


class Hosts:
    """The names that a Host header may have.

    Addresses are taken, and names without a dot, which nobody can have in the public DNS; of the others localhost's,
    this machine's name, and those that are given.

    Args:
        names: that are taken beside.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower().rstrip(".") for name in (socket.gethostname(), *names)}
        self.known: set[bytes | None] = set()

    def __contains__(self, header: bytes) -> bool:
        if header in self.known:
            return True
        found = HOST.fullmatch(header.decode("latin-1"))
        if found is None or not (found[1] or self._takes(found[2].lower().rstrip("."))):
            return False
        if len(self.known) < KNOWN:
            self.known.add(header)
        return True

    def _takes(self, name: str) -> bool:
        return "." not in name or name.endswith(".localhost") or name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether what listens there can be reached from this machine alone."""
    try:
        found = {address[0] for *_, address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
