"""Facts for tests: one of each kind with every field filled, and the short story of a message.

Owns: making them. Used by the tests of everything that facts become.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroad.core import facts
from postroad.core.facts import AnyFact, Said
from postroad.core.ids import EPOCH, MessageId, SessionId
from postroad.core.outcome import Stage
from postroad.core.reply import Reply

AT = 1_790_000_000.25
MESSAGE = MessageId(int((AT - EPOCH) * 1000) << 22)
SAID = (Said(0.01, True, "MAIL FROM:<a@sender.example>"), Said(0.02, False, "250 Ok"))
OK = Reply(250, (2, 0), "Ok: queued")
LATER = Reply(451, (3, 0), "Later")


def sample(kind: Any, **wanted: Any) -> Any:
    """Return a fact of the kind, every field filled."""
    values = {
        float: AT,
        str: "text",
        int: 7,
        bool: True,
        Stage: Stage.RCPT,
        Reply: LATER,
        MessageId: MESSAGE,
        SessionId: SessionId(MESSAGE + 1),
    }
    filled: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name == "dialogue":
            filled[field.name] = SAID
        elif getattr(field.type, "__origin__", None) is tuple:
            filled[field.name] = ("a", "b")
        else:
            parts = (field.type, *getattr(field.type, "__args__", ()))
            filled[field.name] = next(values[part] for part in parts if part in values)
    return kind(**(filled | wanted))


def received(number: int, at: float = AT, sender: str = "a@sender.example", *to: str) -> facts.Received:
    """Return the receipt of message ``number`` (its id is as old as ``at``)."""
    return facts.Received(
        at=at,
        message=message_id(number, at),
        session=SessionId(number + 1),
        listener="inside",
        client="192.0.2.1",
        hello="client.example",
        protocol="ESMTP",
        tls="",
        sender=sender,
        recipients=to or ("b@example.org",),
        size=5120,
        seconds=0.01,
        rule="relay.networks",
    )


def attempted(message: MessageId, at: float) -> facts.Attempted:
    return facts.Attempted(
        at=at,
        message=message,
        destination="smtp:mx.example.org:25",
        host="mx.example.org",
        address="192.0.2.25",
        tls="",
        recipients=1,
        stage=Stage.DOT,
        reply=OK,
        seconds=0.1,
        dialogue=SAID,
    )


def delivered(message: MessageId, at: float, recipient: str = "b@example.org") -> facts.Delivered:
    return facts.Delivered(
        at=at,
        message=message,
        number=0,
        recipient=recipient,
        sender="a@sender.example",
        destination="smtp:mx.example.org:25",
        host="mx.example.org",
        reply=OK,
        delay=at - AT,
    )


def story(number: int, at: float = AT) -> list[AnyFact]:
    """Return the three facts of an ordinary message."""
    first = received(number, at)
    return [first, attempted(first.message, at + 0.01), delivered(first.message, at + 0.01)]


def message_id(number: int, at: float = AT) -> MessageId:
    """Return the id of message ``number`` that was made at that time, as core/ids.py writes it."""
    return MessageId(int((at - EPOCH) * 1000) << 22 | number)
