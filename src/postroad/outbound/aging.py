"""Looks after mail that waits: "delayed" reports and expiry, also where no attempt is made.

Owns: the two rounds through the queue (unwarned since ``warn``; older than ``expire``), in slices, from the oldest;
when the spool is asked to prune its drop rows.
Does not own: the report itself (report.py), what an expiry means (trouble.py by way of settle.py).

A destination that is down has only a few of its messages attempted at each probe; the
others would neither be warned of nor expire. Ids are in the order of time, so a round looks only at what is old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from postroad.core import facts
from postroad.core.ids import EPOCH, MessageId
from postroad.core.units import MINUTE
from postroad.outbound.house import OutboundHouse
from postroad.outbound.planner import Planner
from postroad.outbound.report import Reporter
from postroad.outbound.settle import Settler
from postroad.policy.schedule import Schedule, expires_at, is_expired, warn_due
from postroad.spool.face import QueuedMessage, Ruling

ROUND_EVERY: Final = 1 * MINUTE
"""Seconds between two rounds, when the last found nothing more to do."""
SLICE: Final = 500
"""Rows looked at at a time."""


def id_at(when: float) -> MessageId:
    """Return the smallest id that can have been made at ``when`` (seconds since the epoch)."""
    return MessageId(max(0, int((when - EPOCH) * 1000.0)) << 22)


class Aging:
    """The rounds."""

    def __init__(
        self,
        house: OutboundHouse,
        planner: Planner,
        settler: Settler,
        reporter: Reporter,
        schedules: Iterable[Schedule],
    ) -> None:
        self._reporter = reporter
        self.switch(house, planner, settler, schedules)

    def switch(self, house: OutboundHouse, planner: Planner, settler: Settler, schedules: Iterable[Schedule]) -> None:
        """Go on by another configuration, from the next message on."""
        self._house = house
        self._planner = planner
        self._settler = settler
        schedules = list(schedules)
        self._expire_min = min(schedule.expire for schedule in schedules)
        warnings = [schedule.warn for schedule in schedules if schedule.warn is not None]
        self._warn_min = min(warnings) if warnings else None

    async def run(self) -> None:
        """Go round for ever; cancelled at the end."""
        while True:
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001 - boundary: a round that breaks is told, and the next comes all the same
                self._tell(error)
            await asyncio.sleep(ROUND_EVERY)

    def _tell(self, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._house.outlet.emit(facts.Trouble(at=self._house.clock.now(), what="aging", why=why))
        asyncio.get_running_loop().call_exception_handler({"message": "aging broke", "exception": error})

    async def round(self) -> None:
        """Look once at all that is old enough."""
        now = self._house.clock.now()
        await self._look(id_at(now - self._expire_min), unwarned=False)
        if self._warn_min is not None:
            await self._look(id_at(now - self._warn_min), unwarned=True)
        await self._house.spool.prune(now)

    async def _look(self, before: MessageId, *, unwarned: bool) -> None:
        after: MessageId | None = MessageId(0)
        while after is not None:
            messages, after = await self._house.spool.aged(after, before, SLICE, unwarned=unwarned)
            for message in messages:
                try:
                    await self._see(message)
                except Exception as error:  # noqa: BLE001 - boundary: one message must not keep the others from expiring
                    self._tell(error)
                    numbers = [delivery.number for delivery in message.deliveries]
                    self._house.spool.unclaim(message.id, numbers)
            await asyncio.sleep(0)

    async def _see(self, message: QueuedMessage) -> None:
        """Decide about claimed deliveries of one message: expired, to be warned of, or given back."""
        now = self._house.clock.now()
        expired: list[Ruling] = []
        delayed: list[Ruling] = []
        left: list[int] = []
        until: dict[int, float] = {}
        for delivery in message.deliveries:
            retry = self._planner.retry_of(message.envelope, delivery)
            if is_expired(retry, received_at=message.received_at, now=now):
                expired.append(self._settler.expire(message, delivery))
            elif not delivery.warned and warn_due(retry, received_at=message.received_at, now=now):
                delayed.append(self._settler.delay(message, delivery))
                until[delivery.number] = expires_at(retry, message.received_at)
            else:
                left.append(delivery.number)
        if expired:
            self._house.spool.record(message.id, expired)
            self._house.report_due()
        if delayed:
            await self._reporter.report_delayed(message, delayed, until)
        if left:
            self._house.spool.unclaim(message.id, left)
