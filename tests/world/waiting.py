"""Waits for the world outside: other programs' ports, files, queues, of which nobody sends us an event.

Owns: polling. The only place in the tests that sleeps; a wait ends as soon as the question is answered, and fails
loudly, with the question's own words, when it is not answered in time.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

EVERY: Final = 0.02
"""Seconds between two looks: short beside what a mail server takes, long beside what a look costs."""


def until(question: Callable[[], T], within: float = 10.0, *, what: str = "") -> T:
    """Ask until the answer is true, and return it. Raises TimeoutError after ``within`` seconds."""
    end = time.monotonic() + within
    while not (answer := question()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {within} s: {what or question.__qualname__}")
        time.sleep(EVERY)
    return answer


async def soon(question: Callable[[], T], within: float = 10.0, *, what: str = "") -> T:
    """The same for a test that runs on an event loop."""
    end = time.monotonic() + within
    while not (answer := question()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {within} s: {what or question.__qualname__}")
        await asyncio.sleep(EVERY)
    return answer


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """True if somebody takes connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
