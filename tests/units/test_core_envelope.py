"""The envelope: what a recipient wants to be told, and how the spool keeps it."""

from __future__ import annotations

import msgspec
import pytest

from postroad.core.address import Mailbox
from postroad.core.envelope import LOCAL_CLIENT, Body, Client, Envelope, Notify, OriginalRecipient, Recipient, Ret

BOX = Mailbox("b", "y.example")


@pytest.mark.parametrize(
    ("notify", "failure", "delay", "success"),
    [
        (Notify.UNSAID, True, True, False),  # RFC 3461 section 4.1: failures, and delays if we like
        (Notify.NEVER, False, False, False),
        (Notify.FAILURE, True, False, False),
        (Notify.DELAY, False, True, False),
        (Notify.SUCCESS, False, False, True),
        (Notify.SUCCESS | Notify.FAILURE | Notify.DELAY, True, True, True),
    ],
)
def test_what_a_recipient_wants(notify: Notify, failure: bool, delay: bool, success: bool) -> None:
    recipient = Recipient(BOX, int(notify))
    assert (recipient.wants_failure, recipient.wants_delay, recipient.wants_success) == (failure, delay, success)


FULL = Envelope(
    Mailbox("ü b", "x.example"),
    (
        Recipient(BOX, int(Notify.SUCCESS), OriginalRecipient("rfc822", "o@z.example")),
        Recipient(Mailbox("c", "[192.0.2.1]")),
    ),
    Client("2001:db8::1", "client.example", "UTF8SMTPS", "outside", "", "TLSv1.3 X"),
    Body.BINARY,
    True,
    Ret.HEADERS,
    "id 1",
    4711,
    -3,
)


@pytest.mark.parametrize("envelope", [FULL, Envelope(None, (Recipient(BOX),))], ids=["full", "least"])
def test_an_envelope_is_kept_whole(envelope: Envelope) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(envelope), type=Envelope) == envelope


def test_fields_that_came_later_have_a_default() -> None:
    """Envelopes are stored as arrays: one of an older version is shorter, and must still be read."""
    old = msgspec.msgpack.encode([["a", "x.example"], [[["b", "y.example"]]]])
    assert msgspec.msgpack.decode(old, type=Envelope) == Envelope(Mailbox("a", "x.example"), (Recipient(BOX),))


def test_the_order_of_the_fields_never_changes() -> None:
    """Add at the end only; whoever changes this line loses the queue of everybody."""
    assert Envelope.__struct_fields__ == (
        "sender", "recipients", "client", "body", "smtputf8", "ret", "envelope_id", "size_declared", "priority",
    )  # fmt: skip
    assert Recipient.__struct_fields__ == ("mailbox", "notify", "original")
    assert Mailbox.__struct_fields__ == ("local_part", "domain")
    assert OriginalRecipient.__struct_fields__ == ("address_type", "address")
    assert Client.__struct_fields__ == ("address", "hello", "protocol", "listener", "user", "tls")


def test_our_own_messages_come_from_nowhere() -> None:
    assert (LOCAL_CLIENT.address, LOCAL_CLIENT.protocol) == ("local", "LOCAL")
