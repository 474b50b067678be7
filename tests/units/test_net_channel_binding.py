"""tls-server-end-point: of every kind of signature, and the same at both ends, whatever name was asked for."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from scramp.core import CBindData
from tests.contracts.streams import run, tcp
from tests.units.test_net_tls import World, replace, server, write_pair

from postroad.net import tls as module
from postroad.net.channel_binding import server_end_point
from postroad.net.tls import ClientTls

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
# Nothing makes these any more but a knife and `openssl req`.
SHA1 = b64decode(
    b"MIIBazCCARKgAwIBAgIUfBVDL0K7mp/O4VX9Bj8BxMNWZlUwCQYHKoZIzj0EATAMMQowCAYDVQQDDAF4MB4XDTI2MTEyNjIxNTYxN1oXDTM2MT"
    b"EyMzIxNTYxN1owDDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPAjxGEUWM+4GE0Mr5AV57oEfKQkeWh0uYgoNOKR0cOg"
    b"D87lzi2KJTpeez9fvtphB3ZKfZX9N3FQkOofCvGy+gOjUzBRMB0GA1UdDgQWBBTZpeQXUXmzMDe5NjG6zMjz69RhfTAfBgNVHSMEGDAWgBTZpe"
    b"QXUXmzMDe5NjG6zMjz69RhfTAPBgNVHRMBAf8EBTADAQH/MAkGByqGSM49BAEDSAAwRQIgY6ciViE6/rUPdXvgW33rzR/Ko7E+VG5mPhXJzQZf"
    b"4DUCIQD9+h1HlusDiBuYPPZWhIJ27SvMC732aDkQJH1qhS90vg=="
)
MD5 = b64decode(
    b"MIIB9DCCAV2gAwIBAgIUYyFr8s/1voIVCWJXyrGuKQRXgRYwDQYJKoZIhvcNAQEEBQAwDDEKMAgGA1UEAwwBeDAeFw0yNjExMjYyMTU2MTdaFw"
    b"0zNjExMjMyMTU2MTdaMAwxCjAIBgNVBAMMAXgwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGBAMVNR58FmabR7QPf0xh8/1lZwFH+5r9WTsYd"
    b"AHEfryX3/DxeOYxmCXW3p+joSntqtCMBvbBEb1uDbqTex3frV2SDnk+PdK9qIW2YORPBAZlbDqEIE2Yk69QYKzS7xDTn+wozpl81MkanbX2jYl"
    b"Tj35baD6FHxf8XcDvOUnzLgTrpAgMBAAGjUzBRMB0GA1UdDgQWBBTpUqhPMxX7MROl04PwyfqfBTTAeDAfBgNVHSMEGDAWgBTpUqhPMxX7MROl"
    b"04PwyfqfBTTAeDAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBBAUAA4GBAMJcrddXXaux6LFt1G43E8OzC9AG1rGcojVSNNemiv8l7/pZNc"
    b"4xS03qnAphuS2TW/QYmB26EDUWZvqCU3qBmLOqiiDzwtpPgCneluWlUk+OdjTPWH7pmDdfb7NswmnmbkTVLNSgKpKDJNttBMnm6pTG7Wz9cza6"
    b"4L9drTE3WbbW"
)


def made(key, algorithm, **how) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay.example.org")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    return builder.sign(key, algorithm, **how).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("certificate", "hash_name"),
    [
        (made(RSA, hashes.SHA256()), "sha256"),
        (made(RSA, hashes.SHA384()), "sha384"),
        (made(RSA, hashes.SHA512()), "sha512"),
        (made(EC, hashes.SHA224()), "sha224"),
        (made(EC, hashes.SHA256()), "sha256"),
        (made(EC, hashes.SHA384()), "sha384"),
        (made(RSA, hashes.SHA384(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA384()), 48)), "sha384"),
        (SHA1, "sha256"),
        (MD5, "sha256"),
    ],
)
def test_the_hash_is_that_of_the_signature(certificate: bytes, hash_name: str) -> None:
    found = server_end_point(certificate)
    assert found == hashlib.new(hash_name, certificate).digest()
    assert found == bytes(CBindData.from_der(certificate))


@pytest.mark.parametrize(
    "certificate",
    [
        made(ed25519.Ed25519PrivateKey.generate(), None),
        made(ed448.Ed448PrivateKey.generate(), None),
        b"",
        b"no certificate",
        made(EC, hashes.SHA256())[:-1],
        made(EC, hashes.SHA256()).replace(b"\x2a\x86\x48\xce\x3d\x04\x03\x02", b"\x2a\x86\x48\xce\x3d\x04\x03\x7f"),
    ],
    ids=["Ed25519", "Ed448", "empty", "text", "cut", "signed in an unknown way"],
)
def test_some_have_none(certificate: bytes) -> None:
    assert server_end_point(certificate) == b""


def bindings(tls, asked: str | None) -> tuple[bytes, bytes, bytes]:
    """Return what client and server take for the binding, and what it should be."""
    got = []

    async def work() -> None:
        async with tcp() as (client, served):
            assert (client.channel_binding, served.channel_binding) == (b"", b"")
            context = ClientTls().context("opportunistic")
            async with asyncio.TaskGroup() as group:
                group.create_task(served.start_tls(tls.context(), server_side=True, timeout=5, implicit=True))
                group.create_task(client.start_tls(context, server_side=False, server_hostname=asked, timeout=5))
            right = hashlib.sha256(client.peer_certificate).digest()
            got.append((client.channel_binding, served.channel_binding, right))

    run("uvloop", work())
    return got[0]


def test_both_ends_agree_for_each_name_and_after_a_reload(tmp_path) -> None:
    world = World()
    pairs = [write_pair(tmp_path, name) for name in ("first.example", "second.example")]
    tls = server(world, *pairs)
    seen = set()
    for asked in (None, "first.example", "second.example"):
        client, served, right = bindings(tls, asked)
        assert client == served == right
        seen.add(served)
    assert len(seen) == 2
    replace(pairs[1], write_pair(tmp_path, "third.example"))
    world.seconds += module.CHECK_EVERY
    client, served, right = bindings(tls, "second.example")
    assert client == served == right
    assert served not in seen
