"""What a person says of a destination for a while: suspended, or other limits, in the records.

Owns: checking what was said, the rows of the tables ``suspensions`` and ``overrides``, the fact that somebody did it.
Does not own: the grammar of names (policy/destination_name.py), obeying (the workers read the tables), who may.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from postroad.config.units import parse_rate
from postroad.core.faces import Clock, Outlet, RecordRow, Records, RecordsTrouble
from postroad.core.facts import Steered
from postroad.core.units import DAY
from postroad.outbound.relay import Override, Suspension
from postroad.outbound.steering import ControlRefused
from postroad.policy.destination_name import parse_destination_name

SUSPENSIONS: Final = "suspensions"
OVERRIDES: Final = "overrides"
ROWS_MAX: Final = 1_000
"""Rows in each of the tables: a listing is one answer, and each worker holds them all in memory."""
WHY_MAX: Final = 500
"""Characters of a reason."""
LONGEST: Final = 3_660 * DAY
"""Seconds from now that an end may be: ten years. Longer is "until it is lifted"."""
CONNECTIONS_MAX: Final = 10_000
MESSAGES_MAX: Final = 1_000_000
"""As in [[destination]] (config/routes.py)."""
NO_RATE: Final = "none"

T = TypeVar("T", Suspension, Override)


class ByHand:
    """Suspensions and overrides of one relay, as one person makes them."""

    def __init__(self, records: Records, clock: Clock, outlet: Outlet, who: str) -> None:
        self._records = records
        self._clock = clock
        self._outlet = outlet
        self._who = who

    async def suspend(self, destination: str, until: float | None, why: str) -> Suspension:
        """Write a suspension, over an older one. ``destination`` is in normal form."""
        now = self._clock.now()
        row = Suspension(
            destination=destination,
            since=now,
            until=_checked_until(until, now),
            who=self._who,
            why=_checked_why(why),
        )
        await self._put(SUSPENSIONS, row)
        self._tell("suspend", f"{destination} {shown_until(until)}")
        return row

    async def override(self, row: Override) -> Override:
        """Write an override, over an older one. The destination is in normal form; who and since are set here."""
        now = self._clock.now()
        row = msgspec.structs.replace(row, who=self._who, since=now, why=_checked_why(row.why))
        _checked_until(row.until, now)
        limits = _checked_limits(row)
        await self._put(OVERRIDES, row)
        self._tell("override", f"{row.destination} {limits} {shown_until(row.until)}")
        return row

    async def end(self, table: str, verb: str, destination: str) -> bool:
        """Take a row away; False if there is none."""
        try:
            was_there = await self._records.delete(table, destination)
        except RecordsTrouble as error:
            raise _unwritten(error) from error
        if was_there:
            self._tell(verb, destination)
        return was_there

    async def suspensions(self) -> tuple[Suspension, ...]:
        return await self._rows(SUSPENSIONS, Suspension)

    async def overrides(self) -> tuple[Override, ...]:
        return await self._rows(OVERRIDES, Override)

    async def _rows(self, table: str, kind: type[T]) -> tuple[T, ...]:
        rows: list[T] = []
        try:
            async for record in self._records.scan(table):
                if len(rows) == ROWS_MAX:
                    break
                rows.append(msgspec.json.decode(record.value, type=kind))
        except RecordsTrouble as error:
            raise ControlRefused(f"The records cannot be read now: {error}. Try again.") from error
        except msgspec.DecodeError as error:
            raise ControlRefused(f"A row of {table} cannot be understood: {error}.") from error
        return tuple(rows)

    async def _put(self, table: str, row: Suspension | Override) -> None:
        try:
            await self._check_room(table, row.destination)
            await self._records.put(table, RecordRow(row.destination, msgspec.json.encode(row), row.until))
        except RecordsTrouble as error:
            raise _unwritten(error) from error

    async def _check_room(self, table: str, destination: str) -> None:
        if await self._records.get(table, destination) is not None:
            return
        count = 0
        async for _ in self._records.scan(table):
            count += 1
        if count >= ROWS_MAX:
            text = (
                f"There are {count} {table} already, and no more are taken. End some, or use a pattern: *.example.org"
            )
            raise ControlRefused(text)

    def _tell(self, verb: str, what: str) -> None:
        self._outlet.emit(Steered(at=self._clock.now(), who=self._who, verb=verb, recipients=0, selection=what))


def normal_name(text: str) -> str:
    """Return the name of a destination in its normal form. Refuses what is none, with what would be right."""
    try:
        return str(parse_destination_name(text))
    except ValueError as error:
        raise ControlRefused(str(error), 2) from error


def shown_until(until: float | None) -> str:
    """Return ``until 2026-11-23T03:12:11Z``, or ``until it is lifted``."""
    if until is None or not math.isfinite(until):
        return "until it is lifted"
    return f"until {datetime.fromtimestamp(until, UTC):%Y-%m-%dT%H:%M:%SZ}"


def shown_limits(row: Override) -> str:
    """Return ``connections=3 rate=20/s``."""
    named = (
        ("connections", row.connections),
        ("messages_per_connection", row.messages_per_connection),
        ("rate", row.rate),
    )
    return " ".join(f"{name}={value}" for name, value in named if value is not None)


def _checked_until(until: float | None, now: float) -> float | None:
    if until is None:
        return None
    if not math.isfinite(until) or not now < until <= now + LONGEST:
        text = "The end must be in the future and at most ten years from now; leave it out for no end."
        raise ControlRefused(text, 2)
    return until


def _checked_why(why: str) -> str:
    if len(why) > WHY_MAX or not why.isprintable():
        raise ControlRefused(f"A reason has at most {WHY_MAX} characters, all of them printable.", 2)
    return why


def _checked_limits(row: Override) -> str:
    if row.connections is not None and not 1 <= row.connections <= CONNECTIONS_MAX:
        text = f"connections is from 1 to {CONNECTIONS_MAX}. To send nothing, suspend the destination."
        raise ControlRefused(text, 2)
    if row.messages_per_connection is not None and not 1 <= row.messages_per_connection <= MESSAGES_MAX:
        raise ControlRefused(f"messages_per_connection is from 1 to {MESSAGES_MAX}.", 2)
    if row.rate is not None and row.rate != NO_RATE:
        try:
            parse_rate(row.rate)
        except ValueError as error:
            raise ControlRefused(f'{error} "{NO_RATE}": no bound.', 2) from error
    if not (shown := shown_limits(row)):
        raise ControlRefused("No limit is given: say connections, messages_per_connection or rate.", 2)
    return shown


def _unwritten(error: RecordsTrouble) -> ControlRefused:
    return ControlRefused(f"It could not be written: {error}. Try again.")
