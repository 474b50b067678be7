"""A connection of a worker, as the ledger sees it.

Owns: who it is, what it is in the middle of announcing, and that this is bounded. Does not own: what follows from it
(server.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from postroad.ledger import wire

ANNOUNCED_MAX: Final = 300_000
"""Keys that a worker may announce: its connections, and the meters it keeps (held.py)."""


class Peer:
    """One connection. ``slot`` is -1 until it has said who it is, and for those who hold nothing."""

    def __init__(
        self,
        now: float,
        on_questions: Callable[[Peer, list[wire.Question]], None],
        on_lost: Callable[[Peer, str], None],
    ) -> None:
        self.wire = wire.Wire(
            wire.QUESTIONS, lambda questions: on_questions(self, questions), lambda why: on_lost(self, why)
        )
        self.heard_at = now
        self.slot = -1
        self.since = 0.0
        self.incarnation = ""
        self.said_hello = False
        self.announced = False
        self.returns = False
        """It closes this connection, comes back on another, and holds what it holds meanwhile."""
        self._holds: list[tuple[str, int, int]] = []
        self._used: list[wire.Used] = []
        self._owed: dict[str, int] = {}

    def hello(self, hello: wire.Hello) -> None:
        """Learn who it is."""
        self.slot, self.since, self.incarnation = hello.slot, hello.since, hello.incarnation

    def announces(self, held: wire.Hold | wire.Used | wire.Owed) -> None:
        """Note a part of the announcement; it counts when it is whole."""
        if len(self._holds) + len(self._used) + len(self._owed) >= ANNOUNCED_MAX:
            self.wire.fail(f"it announces more than {ANNOUNCED_MAX} keys")
        elif isinstance(held, wire.Hold):
            self._holds.append((held.key, held.most, held.count))
        elif isinstance(held, wire.Owed):
            self._owed[held.key] = held.count
        else:
            self._used.append(held)

    def take_holds(self) -> list[tuple[str, int, int]]:
        """Return the connections it announced: key, most, count. Once."""
        holds, self._holds = self._holds, []
        return holds

    def take_used(self) -> list[wire.Used]:
        """Return what it said it has used. Once."""
        used, self._used = self._used, []
        return used

    def take_owed(self) -> dict[str, int]:
        """Return how many of its shares it said others have. Once."""
        owed, self._owed = self._owed, {}
        return owed
