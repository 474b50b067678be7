"""AUTH as octets: the engine's events and an exchange between them, as a driver joins them (RFC 4954 section 4)."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from scramp import ScramClient

from postroad.core import reply
from postroad.core.reply import Reply
from postroad.smtp.events import Auth, AuthResponse, Hello, MailFrom, Refused, Signal
from postroad.smtp.extensions import Offer
from postroad.smtp.sasl import (
    Challenge,
    Failed,
    NeedKeys,
    NeedPassword,
    ScramKeys,
    Step,
    Succeeded,
    derive_keys,
)
from postroad.smtp.sasl_server import MECHANISMS, Exchange, begin
from postroad.smtp.server import ServerConnection

BINDING = bytes(range(48))
KEYS = derive_keys("secret", b"0123456789abcdef", 4096)
DISGUISE = ScramKeys(4096, b"fedcba9876543210", bytes(32), bytes(32))


class Server:
    """One session with one user, tim, whose password is secret. ``user`` is who has logged in."""

    def __init__(self) -> None:
        self.user: str | None = None
        self._engine = ServerConnection(Offer(size_max=1000, auth=MECHANISMS), is_secure=True)
        self._engine.send_greeting(reply.OK)
        self._exchange: Exchange | None = None

    def say(self, line: bytes) -> list[str]:
        """Say a line; return the lines of the answer."""
        self._engine.receive_data(line + b"\r\n")
        answer = b""
        while not isinstance(event := self._engine.next_event(), Signal):
            if isinstance(event, Auth):
                self._exchange = begin(event.mechanism, nonce=lambda: "server", binding=BINDING)
                said = self._answer(self._exchange.start(event.initial))
            elif isinstance(event, AuthResponse):
                assert self._exchange is not None
                said = self._answer(self._exchange.step(event.octets))
            elif isinstance(event, Refused):
                said = event.reply
            else:
                assert isinstance(event, Hello | MailFrom)
                said = reply.OK
            answer += self._engine.send_reply(said)
        return answer.decode().splitlines()

    def _answer(self, step: Step) -> Reply:
        assert self._exchange is not None
        if isinstance(step, NeedPassword):
            is_right = (step.user, step.password) == ("tim", "secret")
            step = self._exchange.decide(step.user if is_right else None)
        if isinstance(step, NeedKeys):
            step = self._exchange.use_keys(KEYS if step.user == "tim" else None, disguise=DISGUISE)
        if isinstance(step, Challenge):
            return Reply(334, None, b64encode(step.octets).decode())
        if isinstance(step, Failed):
            return step.reply
        assert isinstance(step, Succeeded)
        self.user = step.user
        return reply.AUTHENTICATED


def coded(text: str) -> str:
    return b64encode(text.encode()).decode()


GOOD, BAD, UNKNOWN = coded("\0tim\0secret"), coded("\0tim\0Secret"), coded("\0tom\0secret")
WELCOME, WRONG = "235 2.7.0 Authentication successful", "535 5.7.8 Authentication credentials invalid"
MALFORMED, CANCELLED = str(reply.BAD_SASL_RESPONSE), str(reply.AUTH_CANCELLED)


@pytest.mark.parametrize(
    "dialog",
    [
        [(f"AUTH PLAIN {GOOD}", WELCOME)],
        [(f"auth plain {GOOD}", WELCOME)],
        [("AUTH PLAIN", "334 "), (GOOD, WELCOME)],
        [(f"AUTH PLAIN {BAD}", WRONG)],
        [(f"AUTH PLAIN {UNKNOWN}", WRONG)],
        [("AUTH PLAIN =", MALFORMED)],  # an empty message
        [("AUTH PLAIN", "334 "), ("", MALFORMED)],
        [("AUTH PLAIN", "334 "), ("=", str(reply.BAD_BASE64))],  # empty only behind AUTH
        [("AUTH PLAIN", "334 "), ("*", CANCELLED), (f"AUTH PLAIN {GOOD}", WELCOME)],
        [("AUTH PLAIN", "334 "), ("no base64", str(reply.BAD_BASE64)), (f"AUTH PLAIN {GOOD}", WELCOME)],
        [("AUTH LOGIN", "334 VXNlcm5hbWU6"), (coded("tim"), "334 UGFzc3dvcmQ6"), (coded("secret"), WELCOME)],
        [(f"AUTH LOGIN {coded('tim')}", "334 UGFzc3dvcmQ6"), (coded("secret"), WELCOME)],
        [("AUTH LOGIN =", "334 UGFzc3dvcmQ6"), (coded("secret"), WRONG)],
        [("AUTH LOGIN", "334 VXNlcm5hbWU6"), ("*", CANCELLED)],
        [(f"AUTH LOGIN {coded('tim')}", "334 UGFzc3dvcmQ6"), ("*", CANCELLED)],
        [("AUTH SCRAM-SHA-256", "334 "), ("*", CANCELLED)],
        [("AUTH SCRAM-SHA-256 =", MALFORMED)],
        [(f"AUTH SCRAM-SHA-256 {coded('y,,n=tim,r=x')}", str(reply.BINDING_DOWNGRADED))],
        [("AUTH PLAIN", "334 "), (coded("x" * 4097), str(reply.SASL_RESPONSE_TOO_LONG))],
        [(f"AUTH PLAIN {coded('x' * 4097)}", str(reply.SASL_RESPONSE_TOO_LONG))],
        [("AUTH PLAIN", "334 "), ("x" * 20_000, str(reply.LINE_TOO_LONG)), (f"AUTH PLAIN {GOOD}", WELCOME)],
        [(f"AUTH PLAIN {GOOD}", WELCOME), (f"AUTH PLAIN {GOOD}", str(reply.BAD_SEQUENCE))],
    ],
)
def test_dialogs(dialog: list[tuple[str, str]]) -> None:
    server = Server()
    server.say(b"EHLO client.example")
    for said, heard in dialog:
        assert server.say(said.encode()) == [heard]
    assert server.user == ("tim" if WELCOME in [heard for _, heard in dialog] else None)
    assert server.say(b"MAIL FROM:<tim@example.org>") == ["250 2.0.0 Ok"]  # the session goes on


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
@pytest.mark.parametrize("with_initial", [True, False])
@pytest.mark.parametrize(("user", "password"), [("tim", "secret"), ("tim", "Secret"), ("tom", "secret")])
def test_scram_by_another_client(mechanism: str, with_initial: bool, user: str, password: str) -> None:
    server = Server()
    server.say(b"EHLO client.example")
    channel = ("tls-server-end-point", BINDING) if mechanism.endswith("PLUS") else None
    client = ScramClient([mechanism], user, password, channel_binding=channel)
    first = coded(client.get_client_first())
    if with_initial:
        heard = server.say(f"AUTH {mechanism} {first}".encode())
    else:
        assert server.say(f"AUTH {mechanism}".encode()) == ["334 "]
        heard = server.say(first.encode())
    client.set_server_first(challenge(heard))
    heard = server.say(coded(client.get_client_final()).encode())
    if (user, password) != ("tim", "secret"):
        assert heard == [WRONG]
        assert server.user is None
        return
    client.set_server_final(challenge(heard))
    assert server.user is None
    assert server.say(b"") == [WELCOME]
    assert server.user == "tim"


def challenge(heard: list[str]) -> str:
    (line,) = heard
    assert line.startswith("334 ")
    return b64decode(line[4:]).decode()
