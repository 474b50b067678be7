"""The rows that a person sees, made of what the spool holds and the scheduler knows. Pure.

Owns: how a message, a destination and a drop look in a listing. Does not own: the fields (steering.py: never renamed),
what is listed (control.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from postroad.core.address import format_path
from postroad.core.ids import MessageId, format_id, parse_id
from postroad.core.outcome import DeliveryState, Dropped, Outcome
from postroad.outbound.steering import (
    PAGE_RECIPIENTS_MAX,
    DestinationRow,
    DropRow,
    MessagePage,
    MessageRow,
    RecipientRow,
)
from postroad.spool.face import DomainStats, Drop, QueuedMessage

REASON_MAX: Final = 500
"""Characters of a reason in a row."""


class DestinationState(msgspec.Struct, frozen=True):
    """What the scheduler knows of where a domain's mail goes."""

    name: str
    status: str
    """One word, e.g. ``open``, ``slow``, ``down``."""
    trouble: str
    """What went wrong last; empty if nothing did."""


def page_of(rows: Sequence[MessageRow], after: MessageId | None) -> MessagePage:
    """Return the page of these rows, or of the first of them if they have more than PAGE_RECIPIENTS_MAX recipients."""
    recipients = 0
    for place, row in enumerate(rows):
        recipients += len(row.recipients)
        if place and recipients > PAGE_RECIPIENTS_MAX:
            return MessagePage(tuple(rows[:place]), MessageId(parse_id(rows[place - 1].id)))
    return MessagePage(tuple(rows), after)


def message_row(message: QueuedMessage) -> MessageRow:
    """Return the row of a message as listings show it."""
    client = message.envelope.client
    recipients = message.envelope.recipients
    return MessageRow(
        id=format_id(message.id),
        received_at=message.received_at,
        size=message.size,
        sender=str(message.envelope.sender or format_path(None)),
        client=client.address,
        user=client.user,
        listener=client.listener,
        envelope_id=message.envelope.envelope_id or "",
        recipients_total=len(recipients),
        recipients=tuple(
            RecipientRow(
                number=delivery.number,
                address=str(recipients[delivery.number].mailbox),
                state=_state(delivery.state, delivery.attempts),
                attempts=delivery.attempts,
                next_at=delivery.due_at if delivery.state is DeliveryState.DUE else None,
                reason=_reason(delivery.last),
                host=getattr(delivery.last, "host", ""),
            )
            for delivery in message.deliveries
        ),
    )


def _state(state: DeliveryState, attempts: int) -> str:
    if state is DeliveryState.HELD:
        return "held"
    if state is DeliveryState.DUE:
        return "deferred" if attempts else "due"
    return "report"


def _reason(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return (outcome.rule if isinstance(outcome, Dropped) else str(outcome.reply))[:REASON_MAX]


def destination_row(row: DomainStats, oldest: QueuedMessage | None, known: DestinationState | None) -> DestinationRow:
    reason = known.trouble if known else ""
    if not reason and oldest is not None:
        reason = next((said for delivery in oldest.deliveries if (said := _reason(delivery.last))), "")
    return DestinationRow(
        domain=row.domain,
        destination=known.name if known else "",
        status=known.status if known else "",
        due=row.due,
        held=row.held,
        reports=row.reports,
        oldest_at=oldest.received_at if oldest else None,
        next_at=row.next_due_at,
        reason=reason,
    )


def drop_row(drop: Drop) -> DropRow:
    """Return the row of a recipient that was dropped."""
    return DropRow(
        at=drop.at, number=drop.number, recipient=drop.recipient, rule=drop.rule, reply=drop.reply[:REASON_MAX]
    )
