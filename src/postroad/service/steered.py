"""What people have said of destinations, from the records to outbound: at the start, and whenever it changes.

Owns: reading the tables ``suspensions`` and ``overrides``, trying again while they cannot be read. Does not own:
writing them (the front), what follows (outbound), when one ends by itself (outbound too: rules carry their end).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from postroad.core.faces import Clock, Outlet, Records, RecordsTrouble
from postroad.core.facts import Trouble
from postroad.outbound.relay import Override, Suspension

TABLES: Final = ("suspensions", "overrides")
AGAIN_AFTER: Final = 1.0
"""Seconds until tables that could not be read are read again."""

T = TypeVar("T")
Steer = Callable[[list[Suspension], list[Override]], None]


class SteeredDestinations:
    """Keeps outbound in step with the records. ``changed`` is to be called with the name of each table that changes."""

    def __init__(self, records: Records, steer: Steer, outlet: Outlet, clock: Clock) -> None:
        self._records = records
        self._steer = steer
        self._outlet = outlet
        self._clock = clock
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""

    async def start(self, patience: float) -> None:
        """Read once, before mail moves, but wait no longer than so many seconds: mail must flow; then keep in step."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._read()
        if self._trouble:
            self._changed.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def changed(self, table: str) -> None:
        """Hear that a table has changed."""
        if table in TABLES:
            self._changed.set()

    async def close(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._read()
            if self._trouble:
                self._changed.set()
                await asyncio.sleep(AGAIN_AFTER)

    async def _read(self) -> None:
        try:
            suspensions = await self._table("suspensions", Suspension)
            overrides = await self._table("overrides", Override)
        except RecordsTrouble as error:
            self._tell(f"suspensions and overrides cannot be read: {error}")
            return
        self._steer(suspensions, overrides)
        if self._trouble:
            self._tell(self._trouble, over=True)

    async def _table(self, name: str, kind: type[T]) -> list[T]:
        rows = []
        async for row in self._records.scan(name):
            try:
                rows.append(msgspec.json.decode(row.value, type=kind))
            except msgspec.DecodeError as error:  # a newer Postroad's, perhaps: the others count all the same
                self._tell(f"{name} {row.key} cannot be understood: {error}")
        return rows

    def _tell(self, why: str, *, over: bool = False) -> None:
        if over or why != self._trouble:
            self._outlet.emit(Trouble(at=self._clock.now(), what="records", why=why, over=over))
        self._trouble = "" if over else why
