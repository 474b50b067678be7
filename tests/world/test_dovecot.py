"""Dovecot as the last hop: by LMTP into it, over TCP and over its Unix socket, then read as people read their mail."""

from __future__ import annotations

import hashlib
import imaplib
import poplib
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.world.harness import Relay, running
from tests.world.overlay import open_directory
from tests.world.peers import Dovecot, dovecot
from tests.world.waiting import until

CONTENT = (
    b"From: <sender@test.example>\r\nTo: <ann@home.example>\r\nSubject: to be read\r\n"
    b"Date: Mon, 2 Mar 2026 10:00:00 +0000\r\nMessage-ID: <1@test.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b".\r\n..two\r\n\xc3\xa9\xc3\xa8\r\n" + b"long " * 190 + b"\r\n\r\nlast\r\n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with open_directory() as home, dovecot(home) as server:
        yield server


@pytest.fixture(params=["tcp", "unix"])
def relay(request: pytest.FixtureRequest, server: Dovecot, tmp_path: Path) -> Iterator[Relay]:
    via = f"lmtp://127.0.0.1:{server.lmtp}" if request.param == "tcp" else f"lmtp+unix://{server.socket}"
    config = f'\n[[route]]\nto = "home.example"\nvia = "{via}"\n'
    with running(Relay(tmp_path / "relay", config=config)) as relay:
        yield relay


def read_by_pop3(server: Dovecot, user: str) -> list[bytes]:
    client = poplib.POP3("127.0.0.1", server.pop3, timeout=20)
    try:
        client.user(user)
        client.pass_("secret")
        return [b"\r\n".join(client.retr(number + 1)[1]) + b"\r\n" for number in range(client.stat()[0])]
    finally:
        client.quit()


def read_by_imap(server: Dovecot, user: str) -> list[bytes]:
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        client.login(user, "secret")
        client.select("INBOX", readonly=True)
        found = client.search(None, "ALL")[1][0].split()
        return [client.fetch(number.decode(), "(BODY.PEEK[])")[1][0][1] for number in found]  # type: ignore[index,misc]


def assert_as_sent(stored: bytes) -> None:
    start = stored.index(b"From: <sender@test.example>\r\n")
    top = stored[:start]
    assert top.startswith(b"Return-Path: <sender@test.example>\r\n")
    assert top.count(b"by relay.test.example") == 1
    assert hashlib.sha256(stored[start:]).hexdigest() == hashlib.sha256(CONTENT).hexdigest()


def test_read_by_pop3_and_imap(relay: Relay, server: Dovecot, request: pytest.FixtureRequest) -> None:
    way = request.node.callspec.params["relay"]
    users = [f"ann-{way}@home.example", f"bob-{way}@home.example"]
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        assert client.sendmail("sender@test.example", users, CONTENT, ["BODY=8BITMIME"]) == {}
    for user in users:
        (by_pop3,) = until(lambda user=user: read_by_pop3(server, user), 40, what=f"mail for {user}")  # type: ignore[misc]
        (by_imap,) = read_by_imap(server, user)
        assert by_pop3 == by_imap
        assert_as_sent(by_pop3)
    until(lambda: relay.queue_length() == 0, 20, what="the queue is empty")
    until(lambda: relay.log.count("kind=delivered") == 2, 20, what="the relay logs both")
    delivered = [line for line in relay.log.splitlines() if "kind=delivered" in line]
    assert len(delivered) == 2  # LMTP: a reply for each recipient (RFC 2033 section 4.2)
    assert all('reply="250 2.0.0 ' in line for line in delivered)
