"""A spool of a few messages in a list, for tests of what steers it.

Owns: the calls that steering makes, with the spool's own reading of selections (spool/selection.py). Does not own:
being a spool: nothing is put, claimed or durable. ``in_flight`` names deliveries that nobody may touch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from tests.units.steering_world import NOW, message_id

from postroad.core.address import Mailbox, parse_mailbox
from postroad.core.envelope import Client, Envelope, Recipient
from postroad.core.ids import MessageId
from postroad.core.outcome import Deferred, DeliveryState, Dropped, Failed, Outcome, Stage
from postroad.core.reply import Reply
from postroad.spool.face import (
    Changed,
    Delivery,
    DomainStats,
    Drop,
    Page,
    QueuedMessage,
    Selection,
    SpoolStats,
    Told,
)
from postroad.spool.selection import Search

BUSY = Deferred(Reply(450, (2, 1), "Busy"), NOW + 290, "mx1.example.com", Stage.RCPT)
NO_SUCH_USER = Failed(Reply(550, (1, 1), "No such user"), "mx1.example.com", Stage.RCPT)

ALICE = Mailbox("alice", "example.org")
Row = tuple[str, DeliveryState, int, Outcome | None]


def queued(number: int, *rows: Row, sender: Mailbox | None = ALICE) -> QueuedMessage:
    """Make a message whose recipients wait as ``rows`` say: address, state, attempts, last outcome."""
    recipients = tuple(Recipient(parse_mailbox(address)) for address, *_ in rows)
    client = Client("192.0.2.7", listener="outside", user="alice")
    envelope = Envelope(sender, recipients, client, envelope_id="QQ314159")
    deliveries = tuple(
        Delivery(message_id(number), place, recipient.mailbox.ascii_domain, 0, state, attempts, NOW + 10, False, last)
        for place, (recipient, (_, state, attempts, last)) in enumerate(zip(recipients, rows, strict=True))
    )
    return QueuedMessage(message_id(number), envelope, NOW - 60 * number, 1000 * number, deliveries)


def few_messages() -> list[QueuedMessage]:
    due, held, report = DeliveryState.DUE, DeliveryState.HELD, DeliveryState.REPORT_FAILED
    return [
        queued(1, ("bob@example.net", due, 0, None)),
        queued(2, ("carol@example.com", due, 3, BUSY), ("dave@example.com", held, 1, BUSY)),
        queued(3, ("eve@bücher.example", report, 9, NO_SUCH_USER), sender=None),
        queued(4, ("frank@example.com", due, 0, None)),
    ]


class ListSpool:
    """What steering asks of a spool."""

    async def drops_of(self, message: MessageId) -> Sequence[Drop]:
        return []

    def __init__(self, messages: Sequence[QueuedMessage] | None = None) -> None:
        self.messages = list(few_messages() if messages is None else messages)
        self.in_flight: set[tuple[MessageId, int]] = set()
        self.ended: list[tuple[str, Outcome | str]] = []

    async def list(self, selection: Selection, *, after: MessageId | None, limit: int) -> Page:
        found = [message for message in self.messages if message.id > (after or 0) and self._meant(message, selection)]
        shown = tuple(
            msgspec.structs.replace(message, deliveries=tuple(self._meant(message, selection)))
            for message in found[:limit]
        )
        return Page(shown, shown[-1].id if len(found) > limit else None)

    async def oldest(self, domains: Sequence[str]) -> dict[str, QueuedMessage]:
        pages = {domain: await self.list(Selection(domain=domain), after=None, limit=1) for domain in domains if domain}
        return {domain: page.messages[0] for domain, page in pages.items() if page.messages}

    async def show(self, message: MessageId) -> QueuedMessage | None:
        return next((one for one in self.messages if one.id == message), None)

    async def flush(self, selection: Selection, now: float, *, dry_run: bool = False) -> Changed:
        return self._change(selection, dry_run, lambda one: msgspec.structs.replace(one, due_at=now))

    async def hold(self, selection: Selection, *, dry_run: bool = False, told: Told | None = None) -> Changed:
        return self._change(
            selection, dry_run, lambda one: msgspec.structs.replace(one, state=DeliveryState.HELD), told
        )

    async def release(
        self, selection: Selection, now: float, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed:
        return self._change(
            selection, dry_run, lambda one: msgspec.structs.replace(one, state=DeliveryState.DUE, due_at=now), told
        )

    async def drop(
        self, selection: Selection, rule: str, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed:
        return self._change(selection, dry_run, lambda one: self._end(one, Dropped(rule)), told)

    async def bounce(
        self, selection: Selection, outcome: Outcome, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed:
        return self._change(selection, dry_run, lambda one: self._end(one, outcome), told)

    def stats(self) -> SpoolStats:
        deliveries = [delivery for message in self.messages for delivery in message.deliveries]
        return SpoolStats(
            messages=len(self.messages),
            recipients=len(deliveries),
            held=sum(one.state is DeliveryState.HELD for one in deliveries),
            reports=sum(one.state >= DeliveryState.REPORT_FAILED for one in deliveries),
            octets=sum(message.size for message in self.messages),
            oldest_at=min((message.received_at for message in self.messages), default=None),
            accepting=True,
            trouble="",
        )

    def domain_stats(self, limit: int) -> Sequence[DomainStats]:
        rows = {"example.com": (2, 1, 0), "example.net": (1, 0, 0), "xn--bcher-kva.example": (0, 0, 1)}
        return [DomainStats(domain, *counts, NOW + 10) for domain, counts in rows.items()][:limit]

    def deliver(self, message: MessageId) -> None:
        """Have the message leave the queue."""
        self.messages = [one for one in self.messages if one.id != message]

    def _meant(self, message: QueuedMessage, selection: Selection) -> Sequence[Delivery]:
        search = Search(selection)
        return [one for one in message.deliveries if search.admits(one) and search.matches(one, message.envelope)]

    def _end(self, delivery: Delivery, outcome: Outcome) -> None:
        message = next(one for one in self.messages if one.id == delivery.message)
        address = str(message.envelope.recipients[delivery.number].mailbox)
        self.ended.append((address, outcome))

    def _change(
        self,
        selection: Selection,
        dry_run: bool,
        change: Callable[[Delivery], Delivery | None],
        told: Told | None = None,
    ) -> Changed:
        recipients, messages, in_flight = 0, 0, 0
        for place, message in enumerate(self.messages):
            meant = self._meant(message, selection)
            free = [one for one in meant if (one.message, one.number) not in self.in_flight]
            in_flight += len(meant) - len(free)
            recipients += len(free)
            messages += bool(free)
            if not dry_run:
                kept = [change(one) if one in free else one for one in message.deliveries]
                self.messages[place] = msgspec.structs.replace(message, deliveries=tuple(filter(None, kept)))
                if told is not None and free:
                    told([msgspec.structs.replace(message, deliveries=tuple(free))])
        return Changed(recipients, messages, in_flight)
