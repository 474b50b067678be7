"""What is kept of a password: it is of that password, it is written and read again, and shows nothing of itself."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import subprocess
from base64 import b64decode

import pytest

from postroad.access.credentials import (
    ARGON2ID,
    SCRAM,
    ArgonHash,
    Credential,
    format_credential,
    make,
    matches,
    parse_credential,
    scheme_of,
    shape_of,
    shaped,
)
from postroad.smtp.sasl import SCRAM_ITERATIONS, ScramKeys

SALT = bytes(range(16))
RFC_7677 = (  # section 3: user "user", password "pencil"
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
DOVECOT = "{SCRAM-SHA-256}" + RFC_7677.removeprefix("SCRAM-SHA-256$").replace("$", ",").replace(":", ",")
ARGON = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
"""Of "password": the reference implementation's test.c."""


@pytest.mark.parametrize("scheme", [SCRAM, ARGON2ID])
def test_it_is_of_one_password_alone(scheme: str) -> None:
    made = make(scheme, "correct horse", SALT)
    assert matches(made, "correct horse")
    assert not matches(made, "correct horsf")
    assert not matches(made, "")
    assert parse_credential(format_credential(made)) == made
    assert scheme_of(made) == scheme
    assert make(scheme, "correct horse", SALT[::-1]) != made


def test_scram_keys_are_those_of_the_rfc() -> None:
    """RFC 7677 section 3 gives an exchange: its proof must follow from the keys, and its signature too."""
    keys = parse_credential(RFC_7677)
    assert isinstance(keys, ScramKeys)
    said = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = hmac.digest(keys.stored_key, said, "sha256")
    proof = b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == keys.stored_key
    assert hmac.digest(keys.server_key, said, "sha256") == b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert matches(keys, "pencil")


@pytest.mark.parametrize("text", [DOVECOT, DOVECOT.replace("{SCRAM-SHA-256}", "{scram-sha-256}")])
def test_what_dovecot_writes_is_read(text: str) -> None:
    assert parse_credential(text) == parse_credential(RFC_7677)


@pytest.mark.parametrize("text", [ARGON, "{ARGON2ID}" + ARGON])
def test_argon_of_others_is_read(text: str) -> None:
    made = parse_credential(text)
    assert made == ArgonHash(ARGON)
    assert matches(made, "password")
    assert not matches(made, "passwore")


@pytest.mark.skipif(shutil.which("doveadm") is None, reason="needs doveadm")
def test_dovecots_own_tool_agrees() -> None:
    command = ["doveadm", "pw", "-s", "SCRAM-SHA-256", "-p", "correct horse"]
    written = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    assert matches(parse_credential(written), "correct horse")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither"),
        ("correct horse", "neither"),
        ("$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "neither"),
        ("{SHA256}XohImNooBHFR0OVvjcYpJ3NgPQ1qq73WKhHvch0VQtg=", "neither"),
        ("$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ", "neither"),
        (RFC_7677 + "\n", "neither"),
        (RFC_7677.replace("4096", "4095"), "4,095 iterations"),
        (RFC_7677.replace("4096", "1000001"), "1,000,001 iterations"),
        (RFC_7677.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "W22Z"), "wrong length"),
        (RFC_7677.replace("wfPL", "wfP"), "base64"),
        (RFC_7677.replace("wfPLwcE6", ""), "wrong length"),
        (ARGON.replace("m=256", "m=131073"), "m=131073"),
        (ARGON.replace("m=256,t=2", "m=131072,t=5"), "t=5"),
        (ARGON.replace("m=256", "m=7"), "m=7"),
        (ARGON.replace("p=1", "p=9"), "p=9"),
        (ARGON.replace("t=2", "t=0"), "t=0"),
        ("x" * 600, "at most 512"),
    ],
)
def test_what_cannot_be_checked_is_refused_without_showing_it(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        parse_credential(text)
    assert "wfPL" not in str(refused.value)
    assert "nf65" not in str(refused.value)
    assert text == "" or text not in str(refused.value)


@pytest.mark.parametrize("text", [RFC_7677, ARGON])
def test_a_shape_is_as_dear_and_of_no_password(text: str) -> None:
    real = parse_credential(text)
    shape = shaped(shape_of(real), SALT)
    assert cost(shape) == cost(real)
    assert shape_of(shape) == shape_of(real)
    assert parse_credential(format_credential(shape)) == shape
    assert not matches(shape, "pencil")
    assert not matches(shape, "password")


def cost(credential: Credential) -> object:
    return credential.iterations if isinstance(credential, ScramKeys) else credential.text.split("$")[2:4]


def test_nothing_of_it_is_shown() -> None:
    assert repr(parse_credential(ARGON)) == "ArgonHash(m=256,t=2,p=1)"
    assert repr(parse_credential(RFC_7677)) == "ScramKeys(iterations=4096)"
    assert repr(make(SCRAM, "correct horse", SALT)) == f"ScramKeys(iterations={SCRAM_ITERATIONS})"
