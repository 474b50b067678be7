"""A real Postfix before the relay, with Postroad as its relayhost, and behind it, as its next hop.

Owns: that what RFC 3461, 1870, 6152 and 6531 let a sender ask for comes through both unchanged, and the content too.
"""

from __future__ import annotations

import hashlib
import re
import smtplib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.world.harness import Relay, running
from tests.world.overlay import open_directory
from tests.world.peers import Postfix, postfix
from tests.world.sink import Message, Sink
from tests.world.waiting import until

CONTENT = (
    b"From: <sender@test.example>\r\nTo: <one@far.example>\r\nSubject: through both\r\n"
    b"Date: Mon, 2 Mar 2026 10:00:00 +0000\r\nMessage-ID: <1@test.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b".\r\n..two\r\n\xc3\xa9\xc3\xa8\xff\r\n" + b"a line of 900 " * 64 + b"\r\n\r\n.last\r\n"
)


@dataclass
class Chain:
    """Client, then Postfix and Postroad in either order, then a sink."""

    port: int
    postfix: Postfix
    relay: Relay
    sink: Sink
    relay_is_last: bool

    def send(self, content: bytes, options: list[str], recipients: dict[str, list[str]], sender: str) -> Message:
        before = len(self.sink.messages)
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
            client.ehlo("client.test.example")
            if "SMTPUTF8" in options:
                client.command_encoding = "utf-8"
            assert client.mail(sender, options)[0] == 250
            for recipient, parameters in recipients.items():
                assert client.rcpt(recipient, parameters)[0] == 250
            code, text = client.data(content)
            assert (code, text[:4]) == (250, b"2.6." if not self.relay_is_last else b"2.0."), text
        try:
            return self.sink.wait_for(before + 1, 40)[before]
        except TimeoutError as late:
            raise AssertionError(f"{late}\n{self.postfix.log[-3000:]}\n{self.relay.log[-3000:]}") from late


def postfix_first(stack: ExitStack, home: Path, sink: Sink) -> Chain:
    relay = stack.enter_context(running(Relay(home / "relay", config=sink.route)))
    server = stack.enter_context(postfix(home, f"relayhost = [127.0.0.1]:{relay.port}\n"))
    return Chain(server.port, server, relay, sink, relay_is_last=True)


def postfix_last(stack: ExitStack, home: Path, sink: Sink) -> Chain:
    server = stack.enter_context(postfix(home, f"relayhost = [127.0.0.1]:{sink.port}\n"))
    config = f'\n[[route]]\nto = "*"\nvia = "smtp://127.0.0.1:{server.port}"\n'
    relay = stack.enter_context(running(Relay(home / "relay", config=config)))
    return Chain(relay.port, server, relay, sink, relay_is_last=False)


@pytest.fixture(scope="module", params=[postfix_first, postfix_last])
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    build: Callable[[ExitStack, Path, Sink], Chain] = request.param
    with ExitStack() as stack:
        home = stack.enter_context(open_directory())
        sink = stack.enter_context(Sink(traces=2, refuse={"nobody@": "550 5.1.1 not here"}))
        yield build(stack, home, sink)


def parameters(line: str) -> tuple[str, dict[str, str]]:
    path, *rest = line.split(" ")
    return path, {each.partition("=")[0].upper(): each.partition("=")[2] for each in rest}


def test_what_the_sender_asked_for_arrives(chain: Chain) -> None:
    options = ["SIZE=" + str(len(CONTENT)), "BODY=8BITMIME", "RET=HDRS", "ENVID=QQ+2B314159+3D"]
    recipients = {
        "one@far.example": ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;first+2Bone@near.example"],
        "two@far.example": ["NOTIFY=NEVER"],
        "three@far.example": ["NOTIFY=FAILURE"],
        "four@far.example": [],
    }
    message = chain.send(CONTENT, options, recipients, "sender@test.example")
    path, mail = parameters(message.mail)
    assert path == "<sender@test.example>"
    assert mail.pop("RET") == "HDRS"
    assert mail.pop("ENVID") == "QQ+2B314159+3D"
    assert mail.pop("BODY") == "8BITMIME"
    whole = len(CONTENT) + sum(map(len, message.content.traces))
    size = int(mail.pop("SIZE"))
    assert size == whole if chain.relay_is_last else abs(size - whole) < 1000  # Postfix estimates
    assert mail == {}
    arrived = dict(parameters(line) for line in message.rcpt)
    assert set(arrived) == {f"<{each}>" for each in recipients}
    assert set(arrived["<one@far.example>"]["NOTIFY"].split(",")) == {"SUCCESS", "DELAY"}
    assert arrived["<one@far.example>"]["ORCPT"].lower() == "rfc822;first+2bone@near.example"
    assert arrived["<two@far.example>"]["NOTIFY"] == "NEVER"
    assert arrived["<three@far.example>"]["NOTIFY"] == "FAILURE"
    assert "NOTIFY" not in arrived["<four@far.example>"]
    assert (message.content.octets, message.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert len(message.content.traces) == 2
    assert sum(b"relay.test.example (Postroad)" in each for each in message.content.traces) == 1


def test_smtputf8_arrives(chain: Chain) -> None:
    sender, recipient = "m\u00fcller@test.example", "\u00e9lise@far.example"
    message = chain.send(CONTENT, ["SMTPUTF8", "BODY=8BITMIME"], {recipient: []}, sender)
    path, mail = parameters(message.mail)
    assert path == f"<{sender}>", chain.postfix.log[-3000:] + message.content.start.decode(errors="replace")
    assert "SMTPUTF8" in mail
    assert parameters(message.rcpt[0])[0] == f"<{recipient}>"
    assert message.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_large_one(chain: Chain) -> None:
    content = CONTENT + (b"0123456789" * 7 + b"\r\n") * 100_000
    message = chain.send(content, ["BODY=8BITMIME"], {"one@far.example": []}, "sender@test.example")
    assert (message.content.octets, message.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_null_path(chain: Chain) -> None:
    message = chain.send(CONTENT, ["BODY=8BITMIME"], {"one@far.example": []}, "")
    assert parameters(message.mail)[0] == "<>"
    assert message.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_replies_are_seen_on_both_sides(chain: Chain) -> None:
    """The one that has a next hop logs the very reply that the other gave, with the name it queued it by."""
    chain.send(CONTENT, ["BODY=8BITMIME"], {"five@far.example": []}, "sender@test.example")
    if chain.relay_is_last:
        pattern = r"to=<five@far\.example>.* dsn=2\.6\.0, status=sent \(250 2\.6\.0 Queued as (\w+)\)"
        queued = until(lambda: re.search(pattern, chain.postfix.log), 30, what="Postfix logs it")[1]
        until(lambda: f"message={queued} " in chain.relay.log, 30, what="the relay logs it")
    else:
        pattern = r'recipient=five@far\.example .*reply="250 2\.0\.0 Ok: queued as (\w+)"'
        queued = until(lambda: re.search(pattern, chain.relay.log), 30, what="the relay logs it")[1]
        until(lambda: f" {queued}: " in chain.postfix.log, 30, what="Postfix logs it")


def test_nothing_stays_behind(chain: Chain) -> None:
    until(lambda: chain.relay.queue_length() == 0, 30, what="the relay's queue is empty")
    until(lambda: chain.postfix.queue() == "", 30, what="Postfix's queue is empty")
