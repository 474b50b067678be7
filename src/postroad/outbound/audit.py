"""Who changed what: a row for every change that a person asks for, written before it is done.

Owns: the keys of the records table ``audit``, its rows, paging through them. Does not own: the changes (front.py), how
long rows are kept by the table (they say so themselves), the facts, which say the same to the log.

No change without a row: the row is there as ``asked`` before anything is done, then the result takes that word's place.
Where it cannot be written nothing is done. A row that still says ``asked`` is of a change whose end nobody saw.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from postroad.core.faces import Clock, Dice, Outlet, RecordRow, Records, RecordsTrouble
from postroad.core.facts import Trouble
from postroad.core.units import DAY
from postroad.outbound.relay import AuditRow
from postroad.outbound.steering import ControlRefused

TABLE: Final = "audit"
KEPT: Final = 366 * DAY
"""Seconds that a row is kept."""
PAGE_MAX: Final = 500
"""Rows in one page."""
TEXT_MAX: Final = 500
"""Characters of what it was about, and of what came of it."""
ASKED: Final = "asked"
_NEWEST: Final = 10**20 - 1
"""Keys count down from here by microseconds, so that the newest row comes first."""
_SUFFIX_OCTETS: Final = 4


class Entry:
    """One change in the audit. Say what came of it in ``result``."""

    def __init__(self, at: float, who: str, what: str, about: str) -> None:
        self.row = AuditRow(at=at, who=who, what=what, about=about[:TEXT_MAX], result=ASKED)

    @property
    def result(self) -> str:
        return self.row.result

    @result.setter
    def result(self, text: str) -> None:
        self.row = msgspec.structs.replace(self.row, result=text[:TEXT_MAX])


class Audit:
    """The audit of one relay."""

    def __init__(self, records: Records, clock: Clock, dice: Dice, outlet: Outlet) -> None:
        self._records = records
        self._clock = clock
        self._dice = dice
        self._outlet = outlet

    @asynccontextmanager
    async def noted(self, who: str, what: str, about: str) -> AsyncIterator[Entry]:
        """Write that somebody asks for it, then, when the block has ended, what came of it, also if that failed.

        Raises:
            ControlRefused: it cannot be written, so it must not be done.
        """
        now = self._clock.now()
        entry = Entry(now, who, what, about)
        key = f"{_NEWEST - int(now * 1_000_000):020d}-{self._dice.token(_SUFFIX_OCTETS).hex()}"
        try:
            await self._write(key, entry.row)
        except RecordsTrouble as error:
            text = f"Who changes what is written down first, and that cannot be done now: {error}. Nothing was changed."
            raise ControlRefused(text) from error
        try:
            yield entry
        except ControlRefused as refused:
            entry.result = f"refused: {refused.text}"
            raise
        except BaseException as error:
            entry.result = f"broke off: {error!r}"
            raise
        finally:
            await self._conclude(key, entry.row)

    async def _conclude(self, key: str, row: AuditRow) -> None:
        try:
            await self._write(key, row)
        except RecordsTrouble as error:
            why = f"what came of {row.what} by {row.who} could not be written: {error}"
            self._outlet.emit(Trouble(at=self._clock.now(), what="records", why=why))

    async def _write(self, key: str, row: AuditRow) -> None:
        await self._records.put(TABLE, RecordRow(key, msgspec.json.encode(row), row.at + KEPT))

    async def page(self, after: str, limit: int) -> tuple[tuple[AuditRow, ...], str]:
        """Return up to ``limit`` rows, the newest first, and what to give as ``after`` for more ("": no more).

        A page far back costs reading what comes before it, in slices.
        """
        size = max(1, min(limit, PAGE_MAX))
        rows: list[AuditRow] = []
        last = ""
        async for record in self._records.scan(TABLE):
            if record.key <= after:
                continue
            if len(rows) == size:
                return tuple(rows), last
            try:
                rows.append(msgspec.json.decode(record.value, type=AuditRow))
            except msgspec.DecodeError as error:  # a newer Postroad's, perhaps: the others count all the same
                rows.append(AuditRow(at=0.0, who="", what="", about="", result=f"cannot be read: {error}"))
            last = record.key
        return tuple(rows), ""
