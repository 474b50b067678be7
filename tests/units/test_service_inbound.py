"""What settings mean to inbound: profiles, trust, domains, certificates."""

from __future__ import annotations

import asyncio

import pytest

from postroad.config.load import load_text
from postroad.policy.relay import Role
from postroad.service.build_inbound import build_tls, domains_of, profile_of, trust_of
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet


def profile(text: str):
    settings = load_text(f'[limits]\nmessage_size = "1MiB"\n[[listener]]\naddress = "127.0.0.1:0"\n{text}').settings
    return profile_of(settings.listener[0], settings)


@pytest.mark.parametrize(("tls", "offered"), [("off", False), ("starttls", True), ("implicit", False)])
def test_starttls_is_offered_only_where_tls_is_still_to_come(tls, offered):
    found = profile(f'tls = "{tls}"')
    assert (found.tls, found.offer.starttls, found.offer_secured.starttls) == (tls, offered, False)


def test_a_profile_has_role_size_and_newlines_of_its_listener():
    found = profile('role = "submission"\nname = "in"\nbare_newline = "normalize"')
    assert (found.name, found.role, found.bare_newline) == ("in", Role.SUBMISSION, "normalize")
    assert found.offer.size_max == found.offer_secured.size_max == 1024 * 1024


def test_trust_is_by_network_and_for_our_unix_sockets():
    is_trusted = trust_of(load_text('[relay]\nnetworks = ["10.1.0.0/16", "2001:db8::/32"]').settings)
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "unix"):
        assert is_trusted(address), address
    for address in ("10.2.0.1", "127.0.0.1", "2001:db9::1", "::1"):
        assert not is_trusted(address), address


def test_our_domains():
    is_ours = domains_of(load_text('[relay]\ndomains = ["example.org", "*.example.net"]').settings)
    assert [
        domain for domain in ("example.org", "a.example.org", "a.example.net", "example.net") if is_ours(domain)
    ] == [
        "example.org",
        "a.example.net",
    ]


def test_no_listener_with_tls_needs_no_certificate(tmp_path):
    text = f'data_dir = "{tmp_path}"\n[[listener]]\naddress = "127.0.0.1:0"\ntls = "off"'
    assert build_tls(load_text(text).settings, FakeClock(), FakeOutlet(), lambda: 0.0) is None
    assert list(tmp_path.iterdir()) == []


def test_without_a_certificate_one_is_made_in_data_dir(tmp_path):
    async def work():
        time = asyncio.get_running_loop().time
        tls = build_tls(load_text(f'data_dir = "{tmp_path}"').settings, FakeClock(), FakeOutlet(), time)
        assert tls is not None
        assert tls() is tls()

    asyncio.run(work())
    assert [path.name for path in tmp_path.iterdir()] == ["self-signed.pem"]
