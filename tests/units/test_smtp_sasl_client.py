"""The client's side of PLAIN, LOGIN and SCRAM: the example of the RFC, what is taken of a server and what is not."""

from __future__ import annotations

import pytest

from postroad.smtp.errors import DriverError
from postroad.smtp.sasl import derive_salted
from postroad.smtp.sasl_client import CHALLENGE_MAX, ClientExchange, ClientStep, GiveUp, NeedSalted, Respond, choose

BINDING = bytes(range(32))
SALT = b"\x5bm\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81"  # W22ZaJ0SNY7soEsUEjb6gQ==
ALL = ("LOGIN", "PLAIN", "XOAUTH2", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")


def exchange(mechanism: str, user: str = "user", password: str = "pencil", *, binding: bytes = b"") -> ClientExchange:
    return ClientExchange(mechanism, user, password, binding=binding, nonce=lambda: "rOprNGfwEbeRWgbNEkqO")


@pytest.mark.parametrize(
    ("offered", "binding", "is_secure", "chosen"),
    [
        (ALL, BINDING, True, "SCRAM-SHA-256-PLUS"),
        (ALL, b"", True, "SCRAM-SHA-256"),
        (ALL[:-1], BINDING, True, "SCRAM-SHA-256"),
        (ALL[:-2], BINDING, True, "PLAIN"),
        (("LOGIN", "XOAUTH2"), BINDING, True, "LOGIN"),
        (("LOGIN", "PLAIN"), b"", False, None),
        (("LOGIN", "PLAIN", "SCRAM-SHA-256"), b"", False, "SCRAM-SHA-256"),
        (("CRAM-MD5",), b"", True, None),
        ((), b"", True, None),
    ],
)
def test_the_strongest_is_chosen(offered: tuple[str, ...], binding: bytes, is_secure: bool, chosen: str | None) -> None:
    assert choose(offered, binding=binding, is_secure=is_secure) == chosen


def test_plain() -> None:
    one = exchange("PLAIN", "tim", "tanstaaftanstaaf")
    assert not one.is_complete
    assert one.start() == Respond(b"\0tim\0tanstaaftanstaaf", is_last=True)  # RFC 4616 section 4
    assert one.is_complete
    assert isinstance(one.challenged(b""), GiveUp)
    assert not one.is_complete


def test_login_whatever_the_server_calls_it() -> None:
    one = exchange("LOGIN")
    assert one.start() == Respond(None)
    assert one.challenged(b"User Name\0") == Respond(b"user")
    assert not one.is_complete
    assert one.challenged(b"\xff") == Respond(b"pencil", is_last=True)
    assert one.is_complete


SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def test_the_exchange_of_rfc_7677_section_3() -> None:
    one = exchange("SCRAM-SHA-256")
    assert one.start() == Respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert one.challenged(SERVER_FIRST) == NeedSalted("pencil", SALT, 4096)
    assert one.use_salted(derive_salted("pencil", SALT, 4096)) == Respond(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert not one.is_complete
    assert one.challenged(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == Respond(b"", is_last=True)
    assert one.is_complete


@pytest.mark.parametrize(
    ("mechanism", "binding", "header"),
    [
        ("SCRAM-SHA-256", b"", b"n,,"),
        ("SCRAM-SHA-256", BINDING, b"y,,"),  # the server will know if it did offer -PLUS
        ("SCRAM-SHA-256-PLUS", BINDING, b"p=tls-server-end-point,,"),
    ],
)
def test_the_flag_of_channel_binding(mechanism: str, binding: bytes, header: bytes) -> None:
    started = exchange(mechanism, "a=b,c", binding=binding).start()
    assert started == Respond(header + b"n=a=3Db=2Cc,r=rOprNGfwEbeRWgbNEkqO")


@pytest.mark.parametrize(
    "first",
    [
        SERVER_FIRST.replace(b"4096", b"4095"),
        SERVER_FIRST.replace(b"4096", b"1000001"),
        SERVER_FIRST.replace(b"4096", b"9" * 10),
        SERVER_FIRST.replace(b"4096", b"9" * 4000),
        SERVER_FIRST.replace(b"4096", b"04096"),
        SERVER_FIRST.replace(b"4096", b"-1"),
        SERVER_FIRST.replace(b"rOpr", b"rOpR"),
        SERVER_FIRST.replace(b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", b""),
        SERVER_FIRST.replace(b"==", b""),
        SERVER_FIRST + b",m=x",
        b"m=x," + SERVER_FIRST,
        SERVER_FIRST + b",",
        SERVER_FIRST + b"," * CHALLENGE_MAX,
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,r=rOprNGfwEbeRWgbNEkqOx,i=4096",
        b"e=unknown-user",
        b"\xff",
        b"",
    ],
)
def test_first_messages_that_are_not_taken(first: bytes) -> None:
    one = exchange("SCRAM-SHA-256")
    one.start()
    assert isinstance(one.challenged(first), GiveUp)
    with pytest.raises(DriverError):
        one.challenged(b"")


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "no base64"),
        (b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=", "does not know the password"),
        (b"v=AAAA", "does not know the password"),
        (b"v=A", "no base64"),
        (b"e=invalid-proof", "invalid-proof"),
        (b"e=in\nvalid", "none of SCRAM"),
        (b"", "none of SCRAM"),
        (b"\xff", "no UTF-8"),
    ],
)
def test_last_messages_that_are_not_taken(last: bytes, why: str) -> None:
    one = exchange("SCRAM-SHA-256")
    one.start()
    one.challenged(SERVER_FIRST)
    one.use_salted(derive_salted("pencil", SALT, 4096))
    step = one.challenged(last)
    assert isinstance(step, GiveUp)
    assert why in step.why
    assert not one.is_complete


@pytest.mark.parametrize(
    ("mechanism", "user", "password"),
    [
        ("PLAIN", "a\0b", "secret"),
        ("PLAIN", "user", "sec\0ret"),
        ("PLAIN", "user", chr(0xDC80)),
        ("SCRAM-SHA-256", "user", "tab\there"),
        ("SCRAM-SHA-256", chr(0xDC80), "secret"),
    ],
)
def test_credentials_that_cannot_be_said(mechanism: str, user: str, password: str) -> None:
    step = exchange(mechanism, user, password).start()
    assert isinstance(step, GiveUp)
    assert password not in step.why


def test_what_nothing_waits_for_and_what_cannot_be_begun() -> None:
    one = exchange("LOGIN")
    with pytest.raises(DriverError):
        one.challenged(b"")
    one.start()
    with pytest.raises(DriverError):
        one.start()
    with pytest.raises(DriverError):
        one.use_salted(b"")
    for mechanism in ("SCRAM-SHA-256-PLUS", "CRAM-MD5"):
        with pytest.raises(DriverError):
            exchange(mechanism)


@pytest.mark.parametrize("step", [Respond(b"hunter2"), NeedSalted("hunter2", b"", 1), GiveUp("it is too long")])
def test_nothing_secret_is_shown(step: ClientStep) -> None:
    assert "hunter2" not in repr(step)
