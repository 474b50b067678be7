"""What a refusal is about: sentences that real hosts say, and what they mean."""

from __future__ import annotations

import time

import pytest

from postroad.core.reply import Reply
from postroad.policy.classify import Kind, kind_of

GREYLIST, RATE, REPUTATION = Kind.GREYLIST, Kind.RATE, Kind.REPUTATION
MAILBOX, SIZE, TLS, OTHER = Kind.MAILBOX, Kind.SIZE, Kind.TLS, Kind.OTHER


@pytest.mark.parametrize(
    ("code", "detail", "text", "kind"),
    [
        # greylisting
        (
            450,
            (2, 0),
            "<bob@example.org>: Recipient address rejected: Greylisted, see http://postgrey.example",
            GREYLIST,
        ),
        (451, (7, 1), "Greylisting in action, please come back later", GREYLIST),
        (451, None, "Graylisted - try again in 300 seconds", GREYLIST),
        (450, (7, 1), "Grey listed, too many connections from new hosts are normal", GREYLIST),
        # rate
        (421, (7, 0), "Our system has detected an unusual rate of unsolicited mail from your IP address", RATE),
        (450, (2, 1), "The user you are trying to contact is receiving mail at a rate that", MAILBOX),
        (421, (7, 28), "This sentence may say anything", RATE),
        (421, (7, 0), "[TS03] All messages from 192.0.2.1 will be permanently deferred", RATE),
        (421, None, "RP-001 (SNT004) Unfortunately, some messages weren't sent", RATE),
        (421, (3, 2), "Service not available", RATE),
        (452, (3, 2), "Connection rate limit exceeded", RATE),
        (421, (4, 5), "Server is busy", RATE),
        (421, None, "Too many concurrent SMTP connections from this IP address", RATE),
        (450, None, "Error: too many messages from 192.0.2.1", RATE),
        (451, (7, 1), "You are sending too fast, slow down", RATE),
        (421, (7, 0), "Throttled", RATE),
        # reputation
        (550, (7, 1), "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", REPUTATION),
        (
            550,
            (7, 1),
            "Messages from [192.0.2.1] weren't sent. Part of their network is on our block list (S3150)",
            REPUTATION,
        ),
        (
            554,
            (7, 1),
            "Your access to this mail system has been rejected due to the sending MTA's poor reputation",
            REPUTATION,
        ),
        (550, (7, 25), "anything", REPUTATION),
        (450, (7, 1), "Client host rejected: cannot find your reverse hostname, [192.0.2.1]", REPUTATION),
        (550, (7, 1), "This message is likely suspicious due to the very low score", REPUTATION),
        # one mailbox
        (552, (2, 2), "The email account that you tried to reach is over quota", MAILBOX),
        (452, (2, 2), "Mailbox full", MAILBOX),
        (550, (1, 1), "Host is listed somewhere", MAILBOX),
        (550, None, "No such user here", MAILBOX),
        (450, None, "Requested action not taken: mailbox unavailable", MAILBOX),
        (451, (7, 1), "Account temporarily disabled", MAILBOX),
        # size
        (552, (3, 4), "whatever", SIZE),
        (552, None, "sorry", SIZE),
        (554, (6, 0), "Message size exceeds fixed limit", SIZE),
        # TLS
        (530, (7, 0), "Must issue a STARTTLS command first", TLS),
        (451, (7, 1), "TLS connection is required", TLS),
        (550, (7, 10), "x", TLS),
        # nothing tells
        (451, (3, 0), "Local error in processing", OTHER),
        (451, (4, 3), "No answer from DNS now", OTHER),
        (550, (7, 1), "Access denied", OTHER),
        (554, None, "Transaction failed", OTHER),
        (421, (4, 2), "Timeout", OTHER),
        (450, (7, 1), "separate strategies deliberate", OTHER),
    ],
)
def test_a_sentence_is_understood(code: int, detail: tuple[int, int] | None, text: str, kind: Kind) -> None:
    assert kind_of(Reply(code, detail, text)) is kind
    assert kind_of(Reply(code, detail, text.upper())) is kind


def test_only_what_less_mail_would_mend_closes_the_window() -> None:
    assert {kind for kind in Kind if kind.closes_window} == {RATE, REPUTATION}


def test_no_reply_is_slow_to_read() -> None:
    """Pieces of the patterns, as many as a reply may hold."""
    for piece in ("mailbox ", "ip address ", "exceed ", "message ", "too many ", "tls ", " ", "gray "):
        began = time.perf_counter()
        for _ in range(20):
            kind_of(Reply(450, None, piece * 10_000))
        assert time.perf_counter() - began < 1.0
