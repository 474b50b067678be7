"""What the service manager hears of us: ready, reloading, stopping, still alive (sd_notify(3)).

Owns: the datagrams. Does not own: when they are sent (supervisor.py). Where no service manager listens, nothing
happens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

_MICROSECONDS: Final = 1_000_000


class Notifier:
    """The socket that $NOTIFY_SOCKET names, if there is one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._path = f"\0{path[1:]}" if path.startswith("@") else path
        self.watchdog_every = _watchdog(environment)
        """Seconds between two signs of life; 0: none are wanted."""

    def ready(self, status: str) -> None:
        self._tell(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(time.monotonic() * _MICROSECONDS)}")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=Finishing what is in hand")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._path:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)  # a manager that does not listen must not stop us
            sock.sendto(text.encode(), self._path)


def _watchdog(environment: Mapping[str, str]) -> float:
    """Return how often a sign of life is due: twice as often as it is asked for."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(text) / _MICROSECONDS / 2
