"""An Outlet that keeps what it is given, for tests that ask what happened.

Owns: keeping facts, waiting for one. Does not own: what is done with them. Passes tests/contracts/test_outlet.py,
as observe/outlet.py does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from postroad.core.facts import AnyFact, Fact

F = TypeVar("F", bound=Fact)


class FakeOutlet:
    """Facts in the order in which they were emitted."""

    def __init__(self) -> None:
        self.facts: list[AnyFact] = []
        self._waiting: list[asyncio.Future[None]] = []

    def emit(self, fact: AnyFact) -> None:
        self.facts.append(fact)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def of(self, kind: type[F]) -> Sequence[F]:
        """Return the facts of one kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def until(self, kind: type[F], wanted: Callable[[F], bool] = lambda _: True) -> F:
        """Return the first fact of the kind that is ``wanted``, when there is one. Bound it by asyncio.timeout."""
        while True:
            for fact in self.of(kind):
                if wanted(fact):
                    return fact
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
