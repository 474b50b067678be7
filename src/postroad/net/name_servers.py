"""Which DNS servers are asked: those of the settings, or those of /etc/resolv.conf as it stands now.

Owns: reading resolv.conf(5). Does not own: asking them (net/resolve.py). ``search`` and ``options`` do not concern a
relay: its names are complete, its time-outs are settings of its own.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Sequence
from typing import Final

from postroad.config.addresses import TcpAddress

RESOLV_CONF: Final = "/etc/resolv.conf"
DNS_PORT: Final = 53
SERVERS_MAX: Final = 3
"""Servers of resolv.conf that count; the C library takes as many (MAXNS)."""
LOOK_EVERY: Final = 5.0
"""Seconds between two looks whether resolv.conf has changed, as it does when a network comes or goes."""

_NONE_NAMED: Final = (TcpAddress("127.0.0.1", DNS_PORT),)
"""Who is asked where nobody is named, resolv.conf(5)."""


class NameServers:
    """The servers in order. ``time`` is the event loop's."""

    def __init__(
        self, servers: Sequence[TcpAddress] = (), *, time: Callable[[], float], path: str = RESOLV_CONF
    ) -> None:
        self._servers = tuple(servers)
        self._path = "" if servers else path
        self._time = time
        self._look_at = -LOOK_EVERY
        self._signature: object = ()

    def current(self) -> tuple[TcpAddress, ...]:
        """Return the servers to ask now, never none."""
        if self._path and self._time() >= self._look_at:
            self._look_at = self._time() + LOOK_EVERY
            self._look()
        return self._servers

    def _look(self) -> None:
        try:
            found = os.stat(self._path)
            signature = found.st_mtime_ns, found.st_size, found.st_ino
            if signature != self._signature:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._servers = parse_resolv_conf(file.read(65_536)) or _NONE_NAMED
                self._signature = signature
        except OSError:
            self._servers = self._servers or _NONE_NAMED


def parse_resolv_conf(text: str) -> tuple[TcpAddress, ...]:
    """Return the servers that ``text`` names, those that are IP addresses."""
    words = [line.split() for line in text.splitlines()]
    hosts = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return tuple(TcpAddress(host, DNS_PORT) for host in hosts if _is_address(host))[:SERVERS_MAX]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)  # a link-local one with its zone is fine here
    except ValueError:
        return False
    return True
