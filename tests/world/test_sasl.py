"""Where we are the client that logs in, to a server that others wrote: Dovecot, over IMAP since imaplib lets us."""

from __future__ import annotations

import imaplib
from collections.abc import Iterator

import pytest
from tests.world.overlay import open_directory
from tests.world.peers import Dovecot, dovecot

from postroad.smtp.sasl import derive_salted
from postroad.smtp.sasl_client import ClientExchange, GiveUp, NeedSalted, Respond


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with open_directory() as home, dovecot(home) as server:
        yield server


class Answers:
    """What imaplib asks with each challenge. IMAP begins with an empty one also where SMTP would not ask."""

    def __init__(self, exchange: ClientExchange) -> None:
        self.exchange = exchange
        self._initial: bytes | None = None
        started = exchange.start()
        assert isinstance(started, Respond)
        self._initial = started.octets

    def __call__(self, challenge: bytes) -> bytes | None:
        if self._initial is not None:
            assert challenge == b""
            initial, self._initial = self._initial, None
            return initial
        step = self.exchange.challenged(challenge)
        if isinstance(step, NeedSalted):
            step = self.exchange.use_salted(derive_salted(step.password, step.salt, step.iterations))
        return None if isinstance(step, GiveUp) else step.octets


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("password", ["secret", "Secret"])
def test_dovecot_knows_who_we_are(server: Dovecot, mechanism: str, password: str) -> None:
    exchange = ClientExchange(mechanism, "ann@home.example", password, nonce=lambda: "rOprNGfwEbeRWgbNEkqO")
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        assert f"AUTH={mechanism}" in client.capabilities
        if password == "secret":
            assert client.authenticate(mechanism, Answers(exchange))[0] == "OK"
            assert exchange.is_complete
            return
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            client.authenticate(mechanism, Answers(exchange))
        assert exchange.is_complete is not (mechanism == "SCRAM-SHA-256")  # which alone can tell before the server does
