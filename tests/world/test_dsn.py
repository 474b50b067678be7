"""What a sender hears of failures and successes, through a real relay: reports (RFC 3464) where they are due."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from pathlib import Path
from smtplib import SMTP

import pytest
from tests.world.counting import Arrived, CountingSink
from tests.world.harness import Relay, running
from tests.world.waiting import until

PATIENCE = 60.0
SENDER = "alice@client.example"
REFUSED = "550 5.1.1 <nobody@next.example>: no such user"
CONFIG = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
"""


class NextHop(CountingSink):
    """Refuses nobody@, and once@ the first time."""

    def __init__(self) -> None:
        super().__init__(rcpt=self._decide)
        self._seen: set[str] = set()

    def _decide(self, recipient: str) -> str:
        if recipient.startswith("nobody@"):
            return REFUSED
        if recipient.startswith("once@") and recipient not in self._seen:
            self._seen.add(recipient)
            return "451 4.2.0 come again"
        return "250 2.1.5 Ok"


@pytest.fixture
def sink() -> Iterator[NextHop]:
    with NextHop() as sink:
        yield sink


@pytest.fixture
def relay(tmp_path: Path, sink: NextHop) -> Iterator[Relay]:
    with running(Relay(tmp_path, config=CONFIG.format(port=sink.port))) as relay:
        yield relay


def send(
    relay: Relay, to: str, *, sender: str = SENDER, mail: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()
) -> None:
    with SMTP("127.0.0.1", relay.port, timeout=60) as client:
        client.ehlo("client.example")
        assert client.mail(sender, list(mail))[0] == 250
        assert client.rcpt(to, list(rcpt))[0] == 250
        assert client.data(b"Message-ID: <1@client.example>\r\nSubject: the original\r\n\r\nits body\r\n")[0] == 250


def report(sink: CountingSink) -> tuple[Arrived, EmailMessage]:
    """Wait for what comes to the sender, and read it."""
    until(lambda: sink.to(SENDER), PATIENCE, what="a report")
    (arrived,) = sink.to(SENDER)
    read = message_from_bytes(arrived.content, policy=policy.default)
    assert isinstance(read, EmailMessage)
    assert not read.defects
    return arrived, read


def fields(read: EmailMessage) -> tuple[EmailMessage, Message, Message, EmailMessage]:
    """Return the text, the fields of the message, those of the recipient, and what is returned of the original."""
    assert read.get_content_type() == "multipart/report"
    assert read.get_param("report-type") == "delivery-status"
    text, status, original = read.iter_parts()
    assert status.get_content_type() == "message/delivery-status"
    of_message, of_recipient = status.get_payload()
    assert isinstance(text, EmailMessage)
    assert isinstance(original, EmailMessage)
    return text, of_message, of_recipient, original


def end_of_queue(relay: Relay) -> None:
    until(lambda: relay.queue_length() == 0, PATIENCE, what="an empty queue")


def test_a_refused_recipient_is_reported_to_the_sender(relay: Relay, sink: NextHop) -> None:
    send(
        relay,
        "nobody@next.example",
        mail=("RET=HDRS", "ENVID=envelope+2B1"),
        rcpt=("ORCPT=rfc822;first@client.example", "NOTIFY=FAILURE"),
    )
    arrived, read = report(sink)
    assert arrived.sender == ""
    assert read["To"] == SENDER
    assert read["Auto-Submitted"] == "auto-replied"
    assert read["In-Reply-To"] == "<1@client.example>"
    text, of_message, of_recipient, original = fields(read)
    assert "nobody@next.example" in text.get_content()
    assert of_message["Reporting-MTA"] == "dns; relay.test.example"
    assert of_message["Original-Envelope-Id"] == "envelope+1"
    assert of_recipient["Original-Recipient"] == "rfc822; first@client.example"
    assert of_recipient["Final-Recipient"] == "rfc822; nobody@next.example"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"] == "5.1.1"
    assert " ".join(of_recipient["Diagnostic-Code"].split()) == f"smtp; {REFUSED}"
    assert "127.0.0.1" in of_recipient["Remote-MTA"]
    assert original.get_content_type() == "text/rfc822-headers", "RET=HDRS"
    assert "Subject: the original" in original.get_content()
    assert "its body" not in arrived.content.decode()
    end_of_queue(relay)


def test_the_whole_message_is_returned_unless_the_sender_wants_less(relay: Relay, sink: NextHop) -> None:
    send(relay, "nobody@next.example", mail=("RET=FULL",))
    *_, original = fields(report(sink)[1])
    assert original.get_content_type() == "message/rfc822"
    assert original.get_content().get_content().split() == ["its", "body"]


def test_who_asked_for_nothing_hears_nothing(relay: Relay, sink: NextHop) -> None:
    send(relay, "nobody@next.example", rcpt=("NOTIFY=NEVER",))
    until(lambda: "kind=dropped" in relay.log, PATIENCE, what="the fact")
    end_of_queue(relay)
    assert relay.stop() == 0
    assert not sink.arrived


def test_the_null_sender_is_never_answered(relay: Relay, sink: NextHop) -> None:
    send(relay, "nobody@next.example", sender="")
    until(lambda: "kind=dropped" in relay.log, PATIENCE, what="the fact")
    end_of_queue(relay)
    assert relay.stop() == 0
    assert not sink.arrived


def test_a_success_beyond_our_sight_is_reported_as_relayed(relay: Relay, sink: NextHop) -> None:
    send(relay, "somebody@next.example", rcpt=("NOTIFY=SUCCESS",))
    _, _, of_recipient, _ = fields(report(sink)[1])
    assert of_recipient["Action"] == "relayed"
    assert of_recipient["Status"].startswith("2.")
    assert len(sink.to("somebody@next.example")) == 1
    end_of_queue(relay)


def test_a_success_is_the_next_hops_to_report_where_it_can(tmp_path: Path) -> None:
    offers = ("sink.example", "PIPELINING", "8BITMIME", "DSN")
    with CountingSink(offers=offers) as sink, running(Relay(tmp_path, config=CONFIG.format(port=sink.port))) as relay:
        send(relay, "somebody@next.example", mail=("RET=HDRS", "ENVID=e1"), rcpt=("NOTIFY=SUCCESS,FAILURE",))
        until(lambda: sink.arrived, PATIENCE, what="the message")
        end_of_queue(relay)
        assert relay.stop() == 0
        (mail,) = (command for command in sink.commands if command.startswith("MAIL"))
        (rcpt,) = (command for command in sink.commands if command.startswith("RCPT"))
    assert {"RET=HDRS", "ENVID=e1"} <= set(mail.split())
    assert "NOTIFY=SUCCESS,FAILURE" in rcpt.split()
    assert [message.recipients for message in sink.arrived] == [("somebody@next.example",)]


def test_come_again_is_tried_again_at_once_by_flush(relay: Relay, sink: NextHop) -> None:
    send(relay, "once@next.example")
    until(lambda: "kind=deferred" in relay.log, PATIENCE, what="the deferral")
    assert "451 4.2.0 come again" in relay.postroad("queue", "list").stdout
    assert not sink.arrived
    assert "Made due now: 1 recipient of 1 message." in relay.postroad("queue", "flush", "--all").stdout
    until(lambda: sink.to("once@next.example"), PATIENCE, what="the delivery")
    end_of_queue(relay)
    assert not sink.to(SENDER)
