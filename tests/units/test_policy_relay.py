"""Who may relay: the whole table, row by row."""

from __future__ import annotations

import pytest

from postroad.core.address import parse_forward_path
from postroad.inbound.login import sending_as
from postroad.policy.relay import Allowed, Credentials, Denied, Permission, Role, has_routing, may_reach, may_send

OURS = {"example.org", "xn--bcher-kva.example", "[192.0.2.25]"}


def shown(permission: Permission) -> str:
    match permission:
        case Allowed(rule):
            return f"yes: {rule}"
        case Denied(reply, rule):
            return f"{reply.code} {reply.status}: {rule}"


@pytest.mark.parametrize(
    ("role", "trusted", "authenticated", "verdict"),
    [
        (Role.MX, False, False, "yes: listener.role"),
        (Role.MX, True, False, "yes: relay.networks"),
        (Role.MX, False, True, "yes: auth"),
        (Role.SUBMISSION, False, False, "530 5.7.0: listener.role"),
        (Role.SUBMISSION, True, False, "yes: relay.networks"),
        (Role.SUBMISSION, False, True, "yes: auth"),
        (Role.LMTP, False, False, "yes: listener.role"),
    ],
)
def test_at_mail(role: Role, trusted: bool, authenticated: bool, verdict: str) -> None:
    credentials = Credentials(may_relay=True) if authenticated else None
    assert shown(may_send(role, is_trusted=trusted, shown=credentials)) == verdict


@pytest.mark.parametrize(
    ("send_as", "sender", "verdict"),
    [
        ((), "any@where.example", "yes: auth"),
        (("a@example.org",), "a@example.org", "yes: auth"),
        (("a@example.org",), "A@EXAMPLE.org", "yes: auth"),
        (("a@example.org",), "", "yes: auth"),
        (("a@example.org",), "b@example.org", "553 5.7.1: auth.send_as"),
        (("a@example.org",), "a@example.org.evil.example", "553 5.7.1: auth.send_as"),
        (("example.org",), "b@example.org", "yes: auth"),
        (("example.org",), "b@sub.example.org", "553 5.7.1: auth.send_as"),
        (("xn--bcher-kva.example",), "b@bücher.example", "yes: auth"),
        (("bücher.example",), "b@xn--bcher-kva.example", "yes: auth"),
        (('"a b"@example.org',), '"a b"@example.org', "yes: auth"),
        (('"a b"@example.org',), '"\\"a b\\""@example.org', "553 5.7.1: auth.send_as"),
        (("k@example.org",), "\u212a@example.org", "553 5.7.1: auth.send_as"),
        (("example.org", "c@other.example"), "c@other.example", "yes: auth"),
    ],
)
def test_a_user_sends_as_its_own_addresses(send_as: tuple[str, ...], sender: str, verdict: str) -> None:
    path = parse_forward_path(sender) if sender else None
    for trusted in (False, True):
        for may_relay in (False, True):
            credentials = Credentials(may_relay, tuple(map(sending_as, send_as)))
            permission = may_send(Role.SUBMISSION, path, is_trusted=trusted, shown=credentials)
            assert shown(permission) == verdict


@pytest.mark.parametrize("role", [Role.MX, Role.SUBMISSION])
def test_a_user_without_the_scope_relays_nothing(role: Role) -> None:
    def reach(recipient: str, *, trusted: bool) -> str:
        path = parse_forward_path(recipient)
        credentials = Credentials(may_relay=False)
        return shown(may_reach(role, path, is_ours=OURS.__contains__, is_trusted=trusted, shown=credentials))

    assert reach(HOME, trusted=False) == "yes: relay.domains"
    assert reach(FOREIGN, trusted=False) == "550 5.7.1: auth.scope"
    assert reach("bob%elsewhere.example@example.org", trusted=False) == "550 5.7.1: relay.routing"
    assert reach(FOREIGN, trusted=True) == "yes: relay.networks"


FOREIGN, HOME = "bob@elsewhere.example", "bob@example.org"


@pytest.mark.parametrize(
    ("role", "trusted", "authenticated", "recipient", "verdict"),
    [
        (Role.MX, False, False, HOME, "yes: relay.domains"),
        (Role.MX, False, False, FOREIGN, "550 5.7.1: relay.domains"),
        (Role.MX, True, False, FOREIGN, "yes: relay.networks"),
        (Role.MX, False, True, FOREIGN, "yes: auth"),
        (Role.SUBMISSION, False, False, HOME, "530 5.7.0: listener.role"),
        (Role.SUBMISSION, False, False, "Postmaster", "530 5.7.0: listener.role"),
        (Role.SUBMISSION, True, False, FOREIGN, "yes: relay.networks"),
        (Role.SUBMISSION, False, True, FOREIGN, "yes: auth"),
        (Role.LMTP, False, False, HOME, "yes: relay.domains"),
        (Role.LMTP, True, True, FOREIGN, "550 5.1.2: relay.domains"),
        (Role.LMTP, False, False, "Postmaster", "yes: relay.domains"),
        (Role.MX, False, False, "Postmaster", "yes: relay.domains"),
        (Role.MX, False, False, "bob@EXAMPLE.org", "yes: relay.domains"),
        (Role.MX, False, False, "bob@bücher.example", "yes: relay.domains"),
        (Role.MX, False, False, "bob@sub.example.org", "550 5.7.1: relay.domains"),
        (Role.MX, False, False, "bob@example.org.evil.example", "550 5.7.1: relay.domains"),
        (Role.MX, False, False, "bob@[192.0.2.25]", "yes: relay.domains"),
        (Role.MX, False, False, "bob@[192.0.2.26]", "550 5.7.1: relay.domains"),
        # The patterns that every open-relay test tries.
        (Role.MX, False, False, "bob%elsewhere.example@example.org", "550 5.7.1: relay.routing"),
        (Role.MX, False, False, '"bob@elsewhere.example"@example.org', "550 5.7.1: relay.routing"),
        (Role.MX, False, False, '"bob%elsewhere.example"@example.org', "550 5.7.1: relay.routing"),
        (Role.MX, False, False, "elsewhere.example!bob@example.org", "550 5.7.1: relay.routing"),
        (Role.MX, False, False, "@example.org:bob@elsewhere.example", "550 5.7.1: relay.domains"),
        (Role.MX, False, False, "bob%example.org@elsewhere.example", "550 5.7.1: relay.domains"),
        (Role.MX, True, False, "100%@example.org", "yes: relay.networks"),
        (Role.LMTP, False, False, "100%@example.org", "yes: relay.domains"),
    ],
)
def test_at_rcpt(role: Role, trusted: bool, authenticated: bool, recipient: str, verdict: str) -> None:
    permission = may_reach(
        role,
        parse_forward_path(recipient),
        is_ours=OURS.__contains__,
        is_trusted=trusted,
        shown=Credentials(may_relay=True) if authenticated else None,
    )
    assert shown(permission) == verdict


def test_nothing_ours_means_nothing_reached() -> None:
    for recipient in (HOME, FOREIGN, "bob@[192.0.2.25]", "bob@localhost"):
        permission = may_reach(Role.MX, parse_forward_path(recipient), is_ours=lambda _: False, is_trusted=False)
        assert isinstance(permission, Denied)


def test_ordinary_local_parts_hold_no_route() -> None:
    for local_part in ("bob", "bob+list", "bounce=bob=elsewhere.example", "SRS0=x=y=z", "a.b", "o'neil", "", "a b"):
        assert not has_routing(local_part)
