"""Starting programs of ours, and hearing of the end of any child: for the supervisor, without threads.

Owns: posix_spawn with the descriptors a program needs, reaping. Does not own: which programs (supervisor.py).
Descriptors are handed over at fixed numbers from FIRST on; everything else that we have open stays ours.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

FIRST: Final = 3
_SET_CHILD_SUBREAPER: Final = 36


def spawn(module: str, descriptors: Sequence[int], arguments: Sequence[str] = ()) -> int:
    """Start ``python -m module`` with the descriptors as 3, 4, ... Returns its process number."""
    # Through numbers that nobody has, so that no descriptor is overwritten before it is handed over.
    high = max([*descriptors, FIRST + len(descriptors)]) + 1
    actions: list[tuple[int, int, int]] = []
    for place, descriptor in enumerate(descriptors):
        actions.append((os.POSIX_SPAWN_DUP2, descriptor, high + place))
    for place in range(len(descriptors)):
        actions.append((os.POSIX_SPAWN_DUP2, high + place, FIRST + place))
    actions += [(os.POSIX_SPAWN_CLOSE, high + place, 0)[:2] for place in range(len(descriptors))]  # type: ignore[misc]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", module, *arguments],  # -P: nothing from the working directory
        os.environ,
        file_actions=actions,
        setsigmask=(),
        setsigdef=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD),
    )


def adopt_orphans() -> None:
    """Become the parent of what our descendants leave behind (PR_SET_CHILD_SUBREAPER of prctl(2)).

    When the nursery dies, the kernel then tells us how the processes that it forked end.
    """
    import ctypes

    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap() -> list[tuple[int, int]]:
    """Return the process number and wait status of every child that has ended.

    As process 1 of a container we get all.
    """
    ended = list[tuple[int, int]]()
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


def reap_all() -> bool:
    """Bury what has ended; True if no child is left at all."""
    reap()
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def shown_status(status: int) -> str:
    """Return how a process ended: ``exit 1``, ``SIGKILL``."""
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.waitstatus_to_exitcode(status)}"
