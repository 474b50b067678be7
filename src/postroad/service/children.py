"""The processes below the supervisor, as it sees them: which there are, how they do, when the next one may start.

Owns: one ``Child`` for each role and slot over all its lives, the back-off between two of them. Does not own: forking
(nursery.py), what is said to them (supervisor.py).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Final

from postroad.service.leash import Leash, ProcessState

RESTART_FIRST: Final = 0.1
RESTART_LONGEST: Final = 10.0
"""Seconds before a process that died again soon is started once more; doubling. The first restart is at once."""
WELL_AFTER: Final = 60.0
"""Seconds of life after which a death is a first one again."""
SILENCE_MAX: Final = 30.0
"""Seconds without a heartbeat after which a process is taken for hung, and killed.

Its event loop sends one a second.
"""


class Child:
    """One place for a process, and the process in it."""

    def __init__(self, role: str, slot: int = 0) -> None:
        self.role = role
        self.slot = slot
        self.leash: Leash | None = None
        self.pid = 0
        self.is_ready = False
        self.listeners: tuple[str, ...] = ()
        self.waiting = 0
        self.restarts = 0
        self.started_at = 0.0
        """Wall clock."""
        self.forked = 0.0
        """Loop time: when the fork was asked for, or its predecessor's death was seen."""
        self.heard = 0.0
        """Loop time of the last message."""
        self.generation = 0
        """Of the configuration it lives with."""
        self.why: dict[int, str] = {}
        """How processes of this place ended, by number, until it has been told."""
        self.again_at: float | None = None
        """Loop time at which it is started again; None: it runs, or is not wanted."""
        self._pid_descriptor = -1
        self._wait = 0.0
        self._has_died = False

    @property
    def name(self) -> str:
        return f"{self.role} {self.slot}" if self.role == "worker" else self.role

    @property
    def is_there(self) -> bool:
        return self.leash is not None

    def begun(self, leash: Leash, now: float, wall: float) -> None:
        """A process is asked for."""
        self.leash, self.pid, self.is_ready, self.again_at = leash, 0, False, None
        self.heard = now
        self.started_at = wall

    def born(self, pid: int) -> None:
        """It has a number now."""
        self.pid = pid
        with suppress(OSError):
            self._pid_descriptor = os.pidfd_open(pid)

    def kill(self) -> None:
        """End it at once."""
        if self._pid_descriptor >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pid_descriptor, signal.SIGKILL)

    def ended(self, now: float) -> None:
        """It is gone: note when the next one may start."""
        self.kill()  # its leash has gone: whatever it still does, nobody steers it any more
        if self._pid_descriptor >= 0:
            os.close(self._pid_descriptor)
            self._pid_descriptor = -1
        lived = now - self.forked
        self._wait = 0.0 if lived > WELL_AFTER else min(max(self._wait * 2.0, RESTART_FIRST), RESTART_LONGEST)
        first = not self._has_died or lived > WELL_AFTER
        self._has_died = True
        self.again_at = now if first else now + self._wait
        self.forked = now
        self.leash, self.is_ready = None, False

    def is_silent(self, now: float) -> bool:
        return self.leash is not None and now - self.heard > SILENCE_MAX

    def state(self) -> ProcessState:
        return ProcessState(
            process=self.role,
            slot=self.slot,
            pid=self.pid,
            started_at=self.started_at,
            restarts=self.restarts,
            is_ready=self.is_ready,
        )
