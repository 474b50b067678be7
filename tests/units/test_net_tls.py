"""Contexts: certificates by name, reloaded when they change, kept when the new ones are broken; our own pair."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from datetime import UTC, datetime

import pytest
import trustme
from cryptography import x509
from tests.contracts.streams import run, tcp

from postroad.core.units import DAY
from postroad.net import tls as module
from postroad.net.errors import TlsFailed
from postroad.net.self_signed import ensure_self_signed
from postroad.net.tls import CertificateError, ClientTls, Pair, ServerTls

AUTHORITY = trustme.CA()


class World:
    """Clock, loop time and outlet in one."""

    def __init__(self) -> None:
        self.seconds = datetime.now(UTC).timestamp()
        self.facts = []

    def now(self) -> float:
        return self.seconds

    def time(self) -> float:
        return self.seconds

    def emit(self, fact) -> None:
        self.facts.append(fact)


def write_pair(folder, name, *, names=None, **issue) -> Pair:
    issued = AUTHORITY.issue_cert(name, **issue)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return Pair((name,) if names is None else names, str(certificate), str(key))


def replace(pair: Pair, by: Pair) -> None:
    os.replace(by.certificate, pair.certificate)
    os.replace(by.private_key, pair.private_key)


def server(world, *pairs, minimum="1.2") -> ServerTls:
    return ServerTls(pairs, minimum=minimum, outlet=world, clock=world, time=world.time)


def shown(tls: ServerTls, asked: str | None) -> list[str]:
    """Return the names in the certificate that a client gets who asks for a name."""
    got = []

    async def work():
        async with tcp() as (client, served):
            async with asyncio.TaskGroup() as group:
                group.create_task(served.start_tls(tls.context(), server_side=True, timeout=5, implicit=True))
                context = ClientTls().context("opportunistic")
                group.create_task(client.start_tls(context, server_side=False, server_hostname=asked, timeout=5))
            found = x509.load_der_x509_certificate(client.peer_certificate)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            got.extend(names.get_values_for_type(x509.DNSName))

    run("uvloop", work())
    return got


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, "first.example"),
        ("first.example", "first.example"),
        ("second.example", "second.example"),
        ("SECOND.example", "second.example"),
        ("a.wild.example", "*.wild.example"),
        ("a.b.wild.example", "first.example"),
        ("wild.example", "first.example"),
        ("unknown.example", "first.example"),
    ],
)
def test_certificates_by_name_with_a_default(tmp_path, asked, expected):
    pairs = [write_pair(tmp_path, name) for name in ("first.example", "second.example", "*.wild.example")]
    assert shown(server(World(), *pairs), asked) == [expected]


def test_a_changed_certificate_is_taken_within_seconds_and_not_at_every_connection(tmp_path, monkeypatch):
    world = World()
    pair = write_pair(tmp_path, "old.example", names=())
    tls = server(world, pair)
    replace(pair, write_pair(tmp_path, "new.example"))
    assert shown(tls, None) == ["old.example"]
    world.seconds += module.CHECK_EVERY
    assert shown(tls, None) == ["new.example"]
    looks = []
    monkeypatch.setattr(module, "_signature", looks.append)
    for _ in range(100):
        tls.context()
    assert looks == []


def behind_descriptor(pair: Pair) -> dict[str, int]:
    """Put the files of a pair into memory, as the supervisor does; return their descriptors."""
    found = {}
    for path in (pair.certificate, pair.private_key):
        with open(path, "rb") as file:
            found[path] = os.memfd_create("secret")
            os.write(found[path], file.read())
    return found


def test_files_that_were_handed_over_by_descriptor_are_read_there_and_named_by_their_path(tmp_path):
    world = World()
    pair = write_pair(tmp_path, "old.example", names=())
    descriptors = behind_descriptor(pair)
    new = behind_descriptor(write_pair(tmp_path, "new.example"))
    broken = os.memfd_create("secret")
    for path in (pair.certificate, pair.private_key):
        os.unlink(path)  # nobody but the supervisor could have read them

    def read(path: str) -> str:
        return f"/proc/self/fd/{descriptors[path]}"

    tls = ServerTls([pair], outlet=world, clock=world, time=world.time, read=read)
    assert shown(tls, None) == ["old.example"]
    os.dup2(broken, descriptors[pair.private_key])
    world.seconds += module.CHECK_EVERY
    assert shown(tls, None) == ["old.example"]
    assert pair.private_key in world.facts[0].why
    assert "/proc/" not in world.facts[0].why
    for number, other in zip(descriptors.values(), new.values(), strict=True):
        os.dup2(other, number)
    world.seconds += module.CHECK_EVERY
    assert shown(tls, None) == ["new.example"]
    for number in (*descriptors.values(), *new.values(), broken):
        os.close(number)


def test_what_cannot_be_read_behind_a_descriptor_is_named_by_its_path(tmp_path):
    world, pair = World(), write_pair(tmp_path, "a.example")
    with pytest.raises(CertificateError, match=f"{pair.certificate} cannot be read"):
        ServerTls([pair], outlet=world, clock=world, time=world.time, read=lambda _: "/proc/self/fd/9999")


def test_a_broken_certificate_keeps_the_old_one_and_is_told_once(tmp_path):
    world = World()
    pair = write_pair(tmp_path, "good.example")
    tls = server(world, pair)
    good = (tmp_path / "good.example.pem").read_bytes()
    (tmp_path / "good.example.pem").write_text("nonsense")
    for _ in range(3):
        world.seconds += module.CHECK_EVERY
        assert shown(tls, None) == ["good.example"]
    assert [(fact.what, fact.over) for fact in world.facts] == [("certificate", False)]
    assert "do not hold a certificate" in world.facts[0].why
    assert "stays in use" in world.facts[0].why
    (tmp_path / "good.example.pem").write_bytes(good)
    world.seconds += module.CHECK_EVERY
    tls.context()
    assert [fact.over for fact in world.facts] == [False, True]


def test_a_certificate_that_comes_before_its_key_is_taken_when_both_are_there(tmp_path):
    world = World()
    pair, other = write_pair(tmp_path, "old.example", names=()), write_pair(tmp_path, "new.example")
    tls = server(world, pair)
    os.replace(other.certificate, pair.certificate)
    world.seconds += module.CHECK_EVERY
    assert shown(tls, None) == ["old.example"]
    assert f"{pair.private_key} is not the key of {pair.certificate}" in world.facts[0].why
    os.replace(other.private_key, pair.private_key)
    world.seconds += module.CHECK_EVERY
    assert shown(tls, None) == ["new.example"]


def test_an_expired_certificate_is_served_with_a_warning_a_day(tmp_path):
    world = World()
    pair = write_pair(tmp_path, "old.example", not_after=datetime(2026, 1, 2, tzinfo=UTC))
    world.seconds = datetime(2026, 1, 3, tzinfo=UTC).timestamp()
    tls = server(world, pair)
    assert "expired on 2026-01-02" in world.facts[0].why
    assert tls.context()
    for _ in range(24):
        world.seconds += DAY / 24
        tls.context()
    assert len(world.facts) == 2


def test_a_certificate_about_to_expire_is_told(tmp_path):
    world = World()
    pair = write_pair(tmp_path, "old.example", not_after=datetime(2026, 1, 20, tzinfo=UTC))
    world.seconds = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    tls = server(world, pair)
    assert world.facts == []
    world.seconds += 6 * DAY
    tls.context()
    assert "expires on 2026-01-20; renew it" in world.facts[0].why


def encrypt(path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "a.example.pem").unlink(), "a.example.pem cannot be read: no such file"),
        (lambda folder: (folder / "a.example.key").unlink(), "a.example.key cannot be read: no such file"),
        (lambda folder: (folder / "a.example.pem").write_text(""), "do not hold a certificate and its key"),
        (lambda folder: encrypt(folder / "a.example.key"), "a.example.key is encrypted"),
    ],
)
def test_what_cannot_be_used_at_the_start_is_an_error(tmp_path, spoil, told):
    pair = write_pair(tmp_path, "a.example")
    spoil(tmp_path)
    with pytest.raises(CertificateError, match=told):
        server(World(), pair)


def test_the_oldest_version_allowed(tmp_path):
    pair = write_pair(tmp_path, "a.example")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode, old.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2

    async def shake(tls):
        async with tcp() as (client, served):
            shaking = asyncio.ensure_future(served.start_tls(tls.context(), server_side=True, timeout=5, implicit=True))
            try:
                await client.start_tls(old, server_side=False, timeout=5)
                await shaking
                assert client.tls.startswith("TLSv1.2")
            finally:
                await asyncio.gather(shaking, return_exceptions=True)

    run("uvloop", shake(server(World(), pair)))
    with pytest.raises(TlsFailed, match="version"):
        run("uvloop", shake(server(World(), pair, minimum="1.3")))


def test_clients_verify_only_where_told_to(tmp_path):
    pair = write_pair(tmp_path, "a.example")
    tls = server(World(), pair)
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusting = ClientTls(ca_file=str(tmp_path / "ca.pem"))

    async def shake(context, name):
        async with tcp() as (client, served):
            shaking = asyncio.ensure_future(served.start_tls(tls.context(), server_side=True, timeout=5, implicit=True))
            try:
                await client.start_tls(context, server_side=False, server_hostname=name, timeout=5)
            finally:
                await asyncio.gather(shaking, return_exceptions=True)

    for policy in ("opportunistic", "required"):
        run("uvloop", shake(ClientTls().context(policy), "other.example"))
    run("uvloop", shake(trusting.context("verified"), "a.example"))
    with pytest.raises(TlsFailed, match="certificate not accepted"):
        run("uvloop", shake(trusting.context("verified"), "other.example"))
    with pytest.raises(TlsFailed, match="certificate not accepted"):
        run("uvloop", shake(ClientTls().context("verified"), "a.example"))
    assert trusting.context("verified") is trusting.context("verified")


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_trust_that_cannot_be_read(tmp_path, content):
    if content:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(CertificateError, match=r"ca\.pem"):
        ClientTls(ca_file=str(tmp_path / "ca.pem")).context("verified")


# --- our own pair ---


@pytest.mark.parametrize("hostname", ["relay.example.org", f"{'a' * 60}.{'b' * 60}.example"])
def test_our_own_pair_is_made_once_and_private(tmp_path, hostname):
    world = World()
    pair = ensure_self_signed(str(tmp_path / "tls"), hostname, now=world.seconds)
    made = os.stat(pair.private_key)
    assert stat.S_IMODE(made.st_mode) == 0o600
    assert shown(server(world, pair), None) == [hostname]
    assert world.facts == []
    assert ensure_self_signed(str(tmp_path / "tls"), hostname, now=world.seconds) == pair
    assert os.stat(pair.private_key).st_ino == made.st_ino
    assert os.listdir(tmp_path / "tls") == ["self-signed.pem"]


@pytest.mark.parametrize("why", ["other name", "nearly over", "cut off"])
def test_our_own_pair_is_made_anew(tmp_path, why):
    world = World()
    pair = ensure_self_signed(str(tmp_path), "a.example", now=world.seconds)
    before = os.stat(pair.certificate).st_ino
    name = "b.example" if why == "other name" else "a.example"
    if why == "nearly over":
        world.seconds += 3640 * DAY
    if why == "cut off":
        os.truncate(pair.certificate, 100)
    ensure_self_signed(str(tmp_path), name, now=world.seconds)
    assert os.stat(pair.certificate).st_ino != before
    assert shown(server(world, pair), None) == [name]
