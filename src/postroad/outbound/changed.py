"""What a person did to deliveries, told of each: held, released, dropped, bounced. Pure.

Owns: the fact for each recipient of a bulk change, with the name of the person. Does not own: the change (the spool),
the one fact that says what was meant (control.py), reports to senders, which do not name the person (report.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from postroad.core import reply
from postroad.core.facts import Bounced, Dropped, Held, Released
from postroad.core.outcome import Deferred, Failed, Stage
from postroad.core.reply import Reply
from postroad.outbound.steering import Change
from postroad.spool.face import Delivery, QueuedMessage, wants_report

OfDelivery = Held | Released | Dropped | Bounced


def delete_rule(who: str) -> str:
    """Return the rule in the drop row and the fact of what a person deleted."""
    return f"queue delete by {who}"


def facts_of(change: Change, who: str, message: QueuedMessage, now: float) -> Iterator[OfDelivery]:
    """Yield a fact for each of the deliveries, which are as they were before the change. A flush has none."""
    for delivery in message.deliveries:
        recipient = str(message.envelope.recipients[delivery.number].mailbox)
        match change:
            case Change.HOLD:
                yield Held(at=now, message=message.id, number=delivery.number, recipient=recipient, who=who)
            case Change.RELEASE:
                yield Released(at=now, message=message.id, number=delivery.number, recipient=recipient, who=who)
            case Change.DELETE:
                yield _dropped(message, delivery, recipient, delete_rule(who), now)
            case Change.BOUNCE if wants_report(message.envelope, delivery.number):
                yield _bounced(message, delivery, recipient, who, now)
            case Change.BOUNCE:
                yield _dropped(message, delivery, recipient, f"queue bounce by {who}, no report wanted", now)
            case _:
                pass


def _dropped(message: QueuedMessage, delivery: Delivery, recipient: str, rule: str, now: float) -> Dropped:
    return Dropped(
        at=now,
        message=message.id,
        number=delivery.number,
        recipient=recipient,
        rule=rule,
        reply=_last_reply(delivery),
    )


def _bounced(message: QueuedMessage, delivery: Delivery, recipient: str, who: str, now: float) -> Bounced:
    by_hand = reply.RETURNED_BY_HAND
    return Bounced(
        at=now,
        message=message.id,
        number=delivery.number,
        recipient=recipient,
        sender=str(message.envelope.sender or ""),
        destination="",
        host="",
        stage=Stage.ROUTE,
        reply=by_hand.with_text(f"{by_hand.text} ({who})"),
        delay=max(0.0, now - message.received_at),
    )


def _last_reply(delivery: Delivery) -> Reply | None:
    return delivery.last.reply if isinstance(delivery.last, Deferred | Failed) else None
