"""The server's side of PLAIN, LOGIN and SCRAM: by the examples of the RFCs, and by what is refused."""

from __future__ import annotations

import hmac
from base64 import b64decode

import pytest

from postroad.core import reply
from postroad.smtp.errors import DriverError
from postroad.smtp.sasl import (
    NAME_MAX,
    PASSWORD_MAX,
    RESPONSE_MAX,
    Challenge,
    Failed,
    NeedKeys,
    NeedPassword,
    ScramKeys,
    Step,
    Succeeded,
    derive_keys,
    derive_salted,
    same_keys,
)
from postroad.smtp.sasl_server import MECHANISMS, Exchange, begin
from postroad.smtp.scram import make_proof, to_base64

BINDING = bytes(range(32))
SALT = b"\x5bm\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81"  # W22ZaJ0SNY7soEsUEjb6gQ==
WRONG, MALFORMED = Failed(reply.BAD_CREDENTIALS), Failed(reply.BAD_SASL_RESPONSE)


def exchange(mechanism: str, *, binding: bytes = b"", nonce: str = "server") -> Exchange:
    return begin(mechanism, nonce=lambda: nonce, binding=binding)


def plain(message: bytes) -> Step:
    return exchange("PLAIN").start(message)


# --- PLAIN ---------------------------------------------------------------------------------------------


def test_plain_with_an_initial_response() -> None:
    one = exchange("PLAIN")
    assert one.start(b"\0tim\0tanstaaftanstaaf") == NeedPassword("tim", "tanstaaftanstaaf")  # RFC 4616 section 4
    assert one.decide("tim") == Succeeded("tim")


def test_plain_without_an_initial_response() -> None:
    one = exchange("PLAIN")
    assert one.start(None) == Challenge(b"")
    assert one.step(b"\0tim\0secret") == NeedPassword("tim", "secret")
    assert one.decide(None) == WRONG


@pytest.mark.parametrize(
    ("acts_as", "user", "last"),
    [
        ("tim", "tim", Succeeded("tim")),
        ("Tim", "tim", WRONG),
        ("tim@example.org", "tim@example.org", Succeeded("tim@example.org")),  # as the look-up calls him
        ("kurt", "tim", WRONG),
        ("kurt", None, WRONG),
        ("tim", None, WRONG),
        ("\x01", "tim", WRONG),
    ],
)
def test_nobody_acts_as_another(acts_as: str, user: str | None, last: Step) -> None:
    one = exchange("PLAIN")
    assert one.start(f"{acts_as}\0tim\0secret".encode()) == NeedPassword("tim", "secret")  # asked in any case
    assert one.decide(user) == last


@pytest.mark.parametrize(
    ("message", "last"),
    [
        (b"", MALFORMED),  # AUTH PLAIN =
        (b"tim", MALFORMED),
        (b"tim\0secret", MALFORMED),
        (b"\0tim\0secret\0", MALFORMED),
        (b"\0\0\0\0", MALFORMED),
        (b"\0t\xefm\0secret", MALFORMED),  # latin-1
        (b"\0tim\0s\xc0\x80cret", MALFORMED),  # NUL in too long a form
        (b"\0tim\0\xed\xa0\x80", MALFORMED),  # a surrogate
        (b"\0\0secret", WRONG),
        (b"\0tim\0", WRONG),
        (b"\0tim\r\n\0secret", WRONG),
        (b"\0" + b"x" * (NAME_MAX + 1) + b"\0secret", WRONG),
        (b"\0tim\0" + b"x" * (PASSWORD_MAX + 1), WRONG),
        ("\0" + "\ufdfa" * (NAME_MAX // 3) + "\0secret", WRONG),  # each becomes 18 characters
        (b"\0tim\0" + b"x" * RESPONSE_MAX, Failed(reply.SASL_RESPONSE_TOO_LONG)),
    ],
)
def test_plain_that_is_none(message: bytes | str, last: Step) -> None:
    octets = message.encode() if isinstance(message, str) else message
    assert plain(octets) == last
    later = exchange("PLAIN")
    later.start(None)
    assert later.step(octets) == last


def test_names_and_passwords_may_be_as_long_as_the_limits() -> None:
    name, password = "n" * NAME_MAX, "p" * PASSWORD_MAX
    assert plain(f"{name}\0{name}\0{password}".encode()) == NeedPassword(name, password)


def test_names_and_passwords_are_prepared() -> None:
    assert plain("\0I\u00adX\0\u00a0\u2168".encode()) == NeedPassword("IX", " IX")


# --- LOGIN ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_initial", [True, False])
def test_login(has_initial: bool) -> None:
    one = exchange("LOGIN")
    step = one.start(b"tim" if has_initial else None)
    if not has_initial:
        assert step == Challenge(b"Username:")
        step = one.step(b"tim")
    assert step == Challenge(b"Password:")
    assert one.step(b"secret") == NeedPassword("tim", "secret")
    assert one.decide("tim") == Succeeded("tim")


@pytest.mark.parametrize(
    ("name", "password", "last"),
    [
        (b"", b"secret", WRONG),  # AUTH LOGIN =
        (b"tim", b"", WRONG),
        (b"tim\0", b"secret", WRONG),
        (b"tim", b"sec\0ret", WRONG),
        (b"tim", b"\xff", MALFORMED),
        (b"tim", b"x" * (RESPONSE_MAX + 1), Failed(reply.SASL_RESPONSE_TOO_LONG)),
    ],
)
def test_login_that_is_none(name: bytes, password: bytes, last: Step) -> None:
    one = exchange("LOGIN")
    assert one.start(name) == Challenge(b"Password:")
    assert one.step(password) == last


def test_a_login_name_that_is_no_text_is_refused_before_the_password() -> None:
    assert exchange("LOGIN").start(b"\xff") == MALFORMED


# --- SCRAM ---------------------------------------------------------------------------------------------

PENCIL = derive_keys("pencil", SALT, 4096)
DISGUISE = ScramKeys(5000, SALT[::-1], bytes(32), bytes(32))


def test_the_exchange_of_rfc_7677_section_3() -> None:
    one = exchange("SCRAM-SHA-256", nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert one.start(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO") == NeedKeys("user")
    assert one.use_keys(PENCIL, disguise=DISGUISE) == Challenge(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert one.step(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    ) == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert one.step(b"") == Succeeded("user")


def test_the_messages_of_rfc_5802_section_5() -> None:
    """They are of SCRAM-SHA-1: all but the proof is the same, and its proof is none here."""
    one = exchange("SCRAM-SHA-256", nonce="3rfcNHYJY1ZVvWVs7j")
    keys = ScramKeys(4096, b"A%\xc2G\xe4:\xb1\xe9<m\xffv", b"\1" * 32, b"\2" * 32)
    assert one.start(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL") == NeedKeys("user")
    assert one.use_keys(keys, disguise=DISGUISE) == Challenge(
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    )
    final = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    assert one.step(final) == WRONG


def test_keys_are_compared_by_what_they_are_of() -> None:
    assert same_keys(PENCIL, derive_keys("pencil", SALT, 4096))
    assert not same_keys(PENCIL, derive_keys("Pencil", SALT, 4096))
    assert not same_keys(PENCIL, derive_keys("pencil", SALT[::-1], 4096))


@pytest.mark.parametrize(
    ("first", "user"),
    [
        (b"n,,n=user,r=x", "user"),
        (b"y,,n=user,r=x", "user"),
        (b"n,a=user,n=user,r=x", "user"),
        (b"n,a=other,n=user,r=x", "user"),  # refused at the end, as a wrong password
        (b"n,,n=a=2Cb=3Dc,r=x", "a,b=c"),
        (b"n,,n==3D2C,r=x", "=2C"),
        (b"n,,n=user,r=x,b=1,Z==,", None),
        (b"n,,n=user,r=x,b=1,Z==", "user"),  # extensions that nobody knows
        ("n,,n=J\u00fcr\u00adgen,r=x".encode(), "J\u00fcrgen"),
        (b"n,,n=user,r=" + b"x" * 512, "user"),
        (b"n,,n=user,r=" + b"x" * 513, None),
        (b"n,,n=user,r=", None),
        (b"n,,n=,r=x", None),
        (b"n,a=,n=user,r=x", None),
        (b"n,,r=x,n=user", None),
        (b"n,,n=user", None),
        (b"n,,n=user,n=user,r=x", None),
        (b"n,,n=user,r=x,r=x", None),
        (b"n,,n=user,r=x,m=1", None),
        (b"n,,m=1,n=user,r=x", None),  # RFC 5802 section 5.1: m= must fail
        (b"n,n=user,r=x", None),
        (b"N,,n=user,r=x", None),
        (b"z,,n=user,r=x", None),
        (b"n,,n=us=er,r=x", None),
        (b"n,,n=us=2cer,r=x", None),
        (b"n,,n=user\0,r=x", None),
        (b"n,,n=user,r=x\n", None),
        (b"n,,n=user,r=x y", None),
        (b"n,,n=us\xe9r,r=x", None),
        (b"n,,n=user,r=x ", None),
        (b"", None),
    ],
)
def test_first_messages(first: bytes, user: str | None) -> None:
    assert exchange("SCRAM-SHA-256").start(first) == (MALFORMED if user is None else NeedKeys(user))


def test_scram_asks_for_the_first_message() -> None:
    one = exchange("SCRAM-SHA-256")
    assert one.start(None) == Challenge(b"")
    assert one.step(b"n,,n=user,r=x") == NeedKeys("user")


@pytest.mark.parametrize(
    ("mechanism", "binding", "first", "last"),
    [
        ("SCRAM-SHA-256", BINDING, b"y,,n=user,r=x", Failed(reply.BINDING_DOWNGRADED)),
        ("SCRAM-SHA-256-PLUS", BINDING, b"y,,n=user,r=x", Failed(reply.BINDING_DOWNGRADED)),
        ("SCRAM-SHA-256-PLUS", BINDING, b"n,,n=user,r=x", Failed(reply.BINDING_NOT_KNOWN)),
        ("SCRAM-SHA-256-PLUS", BINDING, b"p=tls-unique,,n=user,r=x", Failed(reply.BINDING_NOT_KNOWN)),
        ("SCRAM-SHA-256-PLUS", BINDING, b"p=tls-exporter,,n=user,r=x", Failed(reply.BINDING_NOT_KNOWN)),
        ("SCRAM-SHA-256-PLUS", BINDING, b"p=,,n=user,r=x", MALFORMED),
        ("SCRAM-SHA-256", BINDING, b"p=tls-server-end-point,,n=user,r=x", Failed(reply.BINDING_NOT_KNOWN)),
        ("SCRAM-SHA-256", b"", b"p=tls-server-end-point,,n=user,r=x", Failed(reply.BINDING_NOT_KNOWN)),
        ("SCRAM-SHA-256", BINDING, b"n,,n=user,r=x", NeedKeys("user")),
        ("SCRAM-SHA-256-PLUS", BINDING, b"p=tls-server-end-point,,n=user,r=x", NeedKeys("user")),
    ],
)
def test_the_flag_of_channel_binding(mechanism: str, binding: bytes, first: bytes, last: Step) -> None:
    assert exchange(mechanism, binding=binding).start(first) == last


@pytest.mark.parametrize(
    ("final", "last"),
    [
        (b"c=biws,r=xserver,p=" + b"A" * 43 + b"=", WRONG),
        (b"c=biws,r=xserver,p=AAAA", WRONG),
        (b"c=biws,r=x,p=" + b"A" * 43 + b"=", WRONG),
        (b"c=eSws,r=xserver,p=" + b"A" * 43 + b"=", Failed(reply.BINDING_WRONG)),
        (b"c=biws,r=xserver,p=" + b"A" * 43, MALFORMED),
        (b"c=biws,r=xserver", MALFORMED),
        (b"c=biws,r=xserver,p=", MALFORMED),
        (b"c=,r=xserver,p=AAAA", MALFORMED),
        (b"r=xserver,c=biws,p=AAAA", MALFORMED),
        (b"c=biws,p=AAAA,r=xserver", MALFORMED),
        (b"c=biws,c=biws,r=xserver,p=AAAA", MALFORMED),
        (b"c=biws,r=xserver,m=x,p=AAAA", MALFORMED),
        (b"c=biws,r=xserver,p=AAAA,p=AAAA", MALFORMED),
        (b"c=bi\0ws,r=xserver,p=AAAA", MALFORMED),
        (b"\xff", MALFORMED),
        (b"", MALFORMED),
        (None, Failed(reply.AUTH_CANCELLED)),
        (b"x" * (RESPONSE_MAX + 1), Failed(reply.SASL_RESPONSE_TOO_LONG)),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_final_messages(final: bytes | None, last: Step, is_known: bool) -> None:
    one = exchange("SCRAM-SHA-256")
    one.start(b"n,,n=user,r=x")
    one.use_keys(PENCIL if is_known else None, disguise=DISGUISE)
    assert one.step(final) == last


def proven(one: Exchange, header: str = "n,,", echoed: str = "xserver") -> Step:
    """Answer the challenge to ``header`` and ``n=user,r=x`` as one who knows the password, pencil."""
    one.start(f"{header}n=user,r=x".encode())
    challenge = one.use_keys(PENCIL, disguise=DISGUISE)
    assert isinstance(challenge, Challenge)
    return one.step(proof_for(challenge, header, echoed))


def proof_for(challenge: Challenge, header: str = "n,,", echoed: str = "xserver") -> bytes:
    salt, iterations = (part[2:] for part in challenge.octets.decode().split(",")[1:])
    salted = derive_salted("pencil", b64decode(salt), int(iterations))
    without_proof = f"c={to_base64(header.encode())},r={echoed}"
    message = f"n=user,r=x,{challenge.octets.decode()},{without_proof}".encode()
    proof = make_proof(hmac.digest(salted, b"Client Key", "sha256"), message)
    return f"{without_proof},p={to_base64(proof)}".encode()


@pytest.mark.parametrize(
    ("header", "gets_in"),
    [("n,,", True), ("y,,", True), ("n,a=user,", True), ("n,a=us\u00ader,", True), ("n,a=other,", False)],
)
def test_nobody_acts_as_another_by_scram(header: str, gets_in: bool) -> None:
    step = proven(exchange("SCRAM-SHA-256"), header)
    assert isinstance(step, Challenge) if gets_in else step == WRONG


@pytest.mark.parametrize("echoed", ["x", "server", "yserver", "xserverx", "xServer"])
def test_another_nonce_is_refused_though_the_proof_is_right(echoed: str) -> None:
    assert proven(exchange("SCRAM-SHA-256"), echoed=echoed) == WRONG


@pytest.mark.parametrize(
    ("answer", "last"), [(b"", Succeeded("user")), (b"x", MALFORMED), (None, Failed(reply.AUTH_CANCELLED))]
)
def test_the_proof_of_the_server_is_answered_with_nothing(answer: bytes | None, last: Step) -> None:
    one = exchange("SCRAM-SHA-256")
    assert isinstance(proven(one), Challenge)
    assert one.step(answer) == last


def test_an_unknown_user_does_not_get_in_even_with_the_right_proof() -> None:
    one = exchange("SCRAM-SHA-256")
    one.start(b"n,,n=user,r=x")
    challenge = one.use_keys(None, disguise=PENCIL)
    assert isinstance(challenge, Challenge)
    assert one.step(proof_for(challenge)) == WRONG


def test_known_or_not_a_client_is_shown_the_same() -> None:
    shown = []
    for keys, disguise in ((PENCIL, DISGUISE), (None, PENCIL)):
        one = exchange("SCRAM-SHA-256")
        one.start(b"n,,n=user,r=x")
        shown.append((one.use_keys(keys, disguise=disguise), one.step(b"c=biws,r=xserver,p=" + b"A" * 43 + b"=")))
    assert shown[0] == shown[1]


# --- all of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_client_may_cancel(mechanism: str) -> None:
    one = exchange(mechanism, binding=BINDING)
    assert isinstance(one.start(None), Challenge)
    assert one.step(None) == Failed(reply.AUTH_CANCELLED)


def test_calls_that_nothing_waits_for() -> None:
    one = exchange("LOGIN")
    with pytest.raises(DriverError):
        one.step(b"")
    one.start(None)
    for wrong in (lambda: one.decide("tim"), lambda: one.use_keys(None, disguise=DISGUISE), lambda: one.start(None)):
        with pytest.raises(DriverError):
            wrong()
    one.step(None)
    with pytest.raises(DriverError):
        one.step(b"tim")


def test_mechanisms_that_cannot_be_begun() -> None:
    with pytest.raises(DriverError):
        exchange("CRAM-MD5")
    with pytest.raises(DriverError):
        exchange("SCRAM-SHA-256-PLUS", binding=b"")


def test_nothing_secret_is_shown() -> None:
    assert repr(NeedPassword("tim", "hunter2")) == "NeedPassword(user='tim')"
    shown = repr(PENCIL)
    assert shown == "ScramKeys(iterations=4096)"
