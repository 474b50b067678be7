"""Clients that people use, each through the relay to a sink of ours: replies, envelope, and the content's hash.

Owns: that these clients and the relay understand each other. Does not own: odd octets (test_octets.py), other mail
servers (test_postfix.py and its neighbours).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiosmtplib
import pytest
from tests.world.harness import Relay, running
from tests.world.sink import Message, Sink

SENDER = "sender@test.example"
ONE, TWO = "one@far.example", "two@far.example"
CODES = ["220", "250", "250", "250", "250", "354", "250", "221"]
CONTENT = (
    b"From: <sender@test.example>\r\nTo: <one@far.example>\r\nSubject: greetings\r\n"
    b"Date: Mon, 2 Mar 2026 10:00:00 +0000\r\nMessage-ID: <1@test.example>\r\n\r\n"
    b"first line\r\n.\r\n..two dots\r\n.begins with a dot\r\n\r\n trailing blank \r\n"
)


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink(refuse={"nobody@": "550 5.1.1 not here"}) as sink:
        yield sink


@pytest.fixture(scope="module")
def relay(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with running(Relay(tmp_path_factory.mktemp("relay"), config=sink.route)) as relay:
        yield relay


def next_message(sink: Sink, before: int) -> Message:
    message = sink.wait_for(before + 1)[before]
    assert len(message.content.traces) == 1, message.content.start[:500]
    assert b"by relay.test.example" in message.content.traces[0]
    return message


def paths(lines: list[str]) -> list[str]:
    return [line.split(" ")[0] for line in lines]


def assert_as_sent(message: Message, *recipients: str, content: bytes = CONTENT) -> None:
    assert paths([message.mail]) == [f"<{SENDER}>"]
    assert paths(message.rcpt) == [f"<{each}>" for each in recipients]
    assert (message.content.octets, message.content.start) == (len(content), content)
    assert message.sha256 == hashlib.sha256(content).hexdigest()


def test_smtplib(relay: Relay, sink: Sink) -> None:
    before = len(sink.messages)
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        assert client.ehlo()[0] == 250
        assert client.mail(SENDER, ["SIZE=1000", "BODY=8BITMIME"])[0] == 250
        assert client.rcpt(ONE)[0] == 250
        assert client.rcpt(TWO)[0] == 250
        assert client.data(CONTENT)[0] == 250
        assert client.quit()[0] == 221
    assert_as_sent(next_message(sink, before), ONE, TWO)


def test_smtplib_over_starttls(relay: Relay, sink: Sink) -> None:
    before = len(sink.messages)
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        assert client.starttls()[0] == 220
        assert client.sendmail(SENDER, [ONE], CONTENT) == {}
    message = next_message(sink, before)
    assert_as_sent(message, ONE)
    assert re.search(rb"with\s+ESMTPS\b", message.content.traces[0])


def test_aiosmtplib(relay: Relay, sink: Sink) -> None:
    before = len(sink.messages)

    async def send() -> tuple[dict[str, aiosmtplib.SMTPResponse], str]:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=relay.port, start_tls=False, timeout=30) as client:
            return await client.sendmail(SENDER, [ONE, TWO], CONTENT)

    errors, reply = asyncio.run(send())
    assert errors == {}
    assert reply.startswith("2.")
    assert_as_sent(next_message(sink, before), ONE, TWO)


@pytest.fixture
def unaltered(tmp_path: Path) -> Iterator[tuple[Sink, Path]]:
    """A sink without a relay before it, to see what a client makes of a file: some add an end of line."""
    file = tmp_path / "content"
    file.write_bytes(CONTENT.replace(b"\r\n", b"\n"))  # these clients make CRLF of LF, and double dots, themselves
    with Sink(traces=0) as sink:
        yield sink, file


def assert_as_unaltered(message: Message, direct: Message) -> None:
    assert_as_sent(message, ONE, TWO, content=direct.content.start)
    assert message.sha256 == direct.sha256
    assert direct.content.start in (CONTENT, CONTENT + b"\r\n")


def test_swaks(relay: Relay, sink: Sink, unaltered: tuple[Sink, Path]) -> None:
    before = len(sink.messages)
    direct, file = unaltered
    command = ["swaks", "--server", "127.0.0.1", "--from", SENDER, "--to", f"{ONE},{TWO}", "--data", f"@{file}"]
    command += ["--helo", "client.test.example", "--timeout", "30", "--port"]
    for port in (direct.port, relay.port):
        done = subprocess.run([*command, str(port)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(r"^<-  (\d{3}) ", done.stdout, re.MULTILINE) == CODES, done.stdout
    assert_as_unaltered(next_message(sink, before), direct.wait_for(1)[0])


def test_curl(relay: Relay, sink: Sink, unaltered: tuple[Sink, Path]) -> None:
    before = len(sink.messages)
    direct, file = unaltered
    command = ["curl", "-sv", "--crlf", "--mail-from", SENDER, "--mail-rcpt", ONE, "--mail-rcpt", TWO]
    command += ["--upload-file", str(file), "--max-time", "30", "--noproxy", "*"]
    for port in (direct.port, relay.port):
        url = f"smtp://127.0.0.1:{port}/client.test.example"
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert re.findall(r"^< (\d{3}) ", done.stderr, re.MULTILINE) == CODES[:-1]  # it does not wait for 221
    assert_as_unaltered(next_message(sink, before), direct.wait_for(1)[0])


def test_smtp_source(relay: Relay, sink: Sink, unaltered: tuple[Sink, Path]) -> None:
    before = len(sink.messages)
    direct, file = unaltered
    command = ["smtp-source", "-c", "-s", "4", "-m", "40", "-f", SENDER, "-t", ONE, "-F", str(file)]
    for port in (direct.port, relay.port):
        done = subprocess.run([*command, f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    messages = sink.wait_for(before + 40)[before:]
    assert len(messages) == 40
    assert {each.sha256 for each in messages} == {each.sha256 for each in direct.wait_for(40)}
    for message in messages:
        assert_as_sent(message, ONE, content=CONTENT + b"\r\n")  # the last is of smtp-source


def test_a_recipient_the_next_hop_refuses_is_reported(relay: Relay, sink: Sink) -> None:
    before = len(sink.messages)
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        assert client.sendmail(SENDER, [ONE, "nobody@far.example"], CONTENT) == {}
    both = sink.wait_for(before + 2)[before:]
    (message,) = [each for each in both if each.mail.startswith(f"<{SENDER}>")]
    (report,) = [each for each in both if each.mail.startswith("<>")]
    assert_as_sent(message, ONE)
    assert paths(report.rcpt) == [f"<{SENDER}>"]
    assert b"Final-Recipient: rfc822; nobody@far.example\r\n" in report.content.start
    assert b"Status: 5.1.1\r\n" in report.content.start
