"""Reports that are due: failed, delivered, relayed, and delayed ones, put into the spool in place of what they tell of.

Owns: which deliveries a report tells of, reading the header of the original, one transaction for the report and what
it replaces, trying again when the spool refuses. Does not own: how a report looks (mail/dsn.py), that one is due
(trouble.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

import msgspec

from postroad.core import facts, reply
from postroad.core.ids import MessageId
from postroad.core.outcome import Deferred, Delivered, DeliveryState, Failed
from postroad.mail.dsn import RETURNED_MAX, Report, build_report
from postroad.mail.dsn_text import Told
from postroad.outbound.house import OutboundHouse
from postroad.outbound.settle import Settler
from postroad.spool.face import ContentDamaged, Delivery, NewMessage, QueuedMessage, Ruling, SpoolRefused

GATHER: Final = 0.1
"""Seconds from "a report is due" to looking: rulings have become durable, one report tells of recipients together."""
LOOK_EVERY: Final = 5.0
"""Seconds between two looks if nobody calls; also the wait after the spool has refused a report."""
BROKEN_WAIT: Final = 300.0
"""Seconds until a report is tried again that met an error of ours."""
SLICE: Final = 100


class Reporter:
    """Makes reports, one at a time."""

    def __init__(self, house: OutboundHouse, settler: Settler) -> None:
        self._due = asyncio.Event()
        self._due.set()
        self._broken: dict[MessageId, float] = {}
        self.switch(house, settler)

    def switch(self, house: OutboundHouse, settler: Settler) -> None:
        """Go on by another configuration, from the next report on."""
        self._house = house
        self._settler = settler
        house.report_due = self._due.set

    async def run(self) -> None:
        """Make reports as they become due, for ever; cancelled at the end."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            await asyncio.sleep(GATHER)
            try:
                is_well = await self.report_due()
            except Exception as error:  # noqa: BLE001 - boundary: a look that breaks is told, and the next comes all the same
                self._tell(error)
                is_well = False
            if not is_well:
                await asyncio.sleep(LOOK_EVERY)

    async def report_due(self) -> bool:
        """Make all reports that are due now; False if the spool refused one: the rest waits."""
        now = self._house.time()
        self._broken = {message: until for message, until in self._broken.items() if until > now}
        passed: set[MessageId] = set(self._broken)  # in this round: nothing of them can be claimed now
        while True:
            found = self._house.spool.due_reports(SLICE + len(passed))
            messages = [message for message in found if message not in passed]
            if not messages:
                return True
            for message in messages:
                made = await self._report(message)
                if made is None:
                    passed.add(message)
                elif not made:
                    return False
                await asyncio.sleep(0)

    async def _report(self, identifier: MessageId) -> bool | None:
        """Make one report; False if the spool refused it, None if there is nothing to be done about it now."""
        try:
            message = await self._house.spool.claim_report(identifier)
        except Exception as error:  # noqa: BLE001 - boundary: as below
            self._tell_broken(identifier, error)
            return None
        if message is None:
            return None
        numbers = [delivery.number for delivery in message.deliveries]
        try:
            await self._make(message)
        except SpoolRefused:
            self._house.spool.unclaim(identifier, numbers)
            return False
        except Exception as error:  # noqa: BLE001 - boundary: one report that cannot be made must not stop all others
            self._house.spool.unclaim(identifier, numbers)
            self._tell_broken(identifier, error)
            return None
        return True

    def _tell_broken(self, identifier: MessageId, error: Exception) -> None:
        self._broken[identifier] = self._house.time() + BROKEN_WAIT
        self._tell(error)

    def _tell(self, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._house.outlet.emit(facts.Trouble(at=self._house.clock.now(), what="report", why=why))
        asyncio.get_running_loop().call_exception_handler({"message": "a report broke", "exception": error})

    async def _make(self, message: QueuedMessage) -> None:
        told = [
            Told(message.envelope.recipients[delivery.number], _outcome(delivery)) for delivery in message.deliveries
        ]
        rulings = [Ruling(delivery.number, _outcome(delivery), None) for delivery in message.deliveries]
        await self._put(message, told, rulings)

    async def report_delayed(
        self, message: QueuedMessage, rulings: Sequence[Ruling], until: Mapping[int, float] | None = None
    ) -> None:
        """Tell the sender of a delay, if it wants to hear of one, and mark the deliveries as warned of.

        The deliveries are claimed; they are given back if the spool refuses, to be looked at again.

        Args:
            rulings: settle.Settler.delay made them.
            until: recipient number -> when we give up, seconds since the epoch.
        """
        envelope, until = message.envelope, until or {}
        told = [
            Told(
                envelope.recipients[ruling.number],
                ruling.outcome
                if isinstance(ruling.outcome, Deferred)
                else Deferred(reply.LOCAL_TROUBLE, ruling.due_at),
                retry_until=until.get(ruling.number),
            )
            for ruling in rulings
            if envelope.sender is not None and envelope.recipients[ruling.number].wants_delay
        ]
        if not told:
            self._house.spool.record(message.id, rulings)
            return
        try:
            await self._put(message, told, rulings)
        except SpoolRefused:
            self._house.spool.unclaim(message.id, [ruling.number for ruling in rulings])

    async def _put(self, message: QueuedMessage, told: Sequence[Told], rulings: Sequence[Ruling]) -> None:
        """Put a report into the spool in place of what it tells of. Raises SpoolRefused."""
        house, now = self._house, self._house.clock.now()
        sender = message.envelope.sender or self._settler.failed_bounces_to
        if sender is None:  # the setting has been taken away since
            house.spool.record(message.id, self._settler.unreturnable(message, rulings))
            return
        identifier = house.spool.new_id()
        built = build_report(
            Report(
                envelope=msgspec.structs.replace(message.envelope, sender=sender),
                message=message.id,
                received_at=message.received_at,
                told=tuple(told),
                content=await self._beginning(message.id),
                size=message.size,
                hostname=house.hostname,
                now=now,
                id=identifier,
                token=house.dice.token(20).hex(),
            )
        )
        new = NewMessage(identifier, built.envelope, built.octets, now)
        reported = [
            facts.Reported(
                at=now,
                message=message.id,
                report=identifier,
                action=action.value,
                to=str(sender),
                recipients=tuple(str(one.recipient.mailbox) for one in told if one.action is action),
            )
            for action in dict.fromkeys(one.action for one in told)
        ]

        def tell() -> None:
            for fact in reported:
                house.outlet.emit(fact)

        await shielded(house.spool.put(new, replaces=[(message.id, rulings)], told=tell))

    async def _beginning(self, message: MessageId) -> bytes:
        """Return the first octets of the original; b"" if it cannot be read: better a report without it."""
        try:
            reader = await self._house.spool.open(message)
        except (ContentDamaged, KeyError, OSError):
            return b""
        pieces: list[bytes] = []
        have = 0
        try:
            while have < RETURNED_MAX and (piece := await reader.read(have, RETURNED_MAX - have)):
                pieces.append(piece)
                have += len(piece)
        except OSError:
            return b""
        finally:
            reader.close()
        return b"".join(pieces)


async def shielded(work: Awaitable[None]) -> None:
    """Await what goes on when we are cancelled: then nobody hears of its error, and the loop would call it a bug."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    await asyncio.shield(task)


def _outcome(delivery: Delivery) -> Failed | Delivered:
    """Return what a report says of a delivery whose report is due."""
    last = delivery.last
    if isinstance(last, (Failed, Delivered)):
        return last
    if delivery.state is DeliveryState.REPORT_FAILED:
        return Failed(last.reply if isinstance(last, Deferred) else reply.RETURNED_BY_HAND)
    return Delivered(reply.OK, relayed=delivery.state is DeliveryState.REPORT_RELAYED)
