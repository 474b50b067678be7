"""What routes and next hops of the settings mean to outbound."""

from __future__ import annotations

import pytest

from postroad.config.load import load_text
from postroad.core.address import parse_mailbox
from postroad.core.envelope import LOCAL_CLIENT, Client
from postroad.outbound.hops import Hop, ToHops, ToMaildir, ToNothing, ToRefusal
from postroad.outbound.planner import AskMx
from postroad.service.routes import build_router, destination_keys, hop_names, ourselves

ALICE = parse_mailbox("alice@example.org")
INSIDE, OUTSIDE = Client("10.0.0.1"), Client("192.0.2.1")


def choice(text: str, to: str = "bob@example.com", sender=ALICE, client: Client = OUTSIDE):
    return build_router(load_text(text).settings).choose(parse_mailbox(to), sender, client)


def via(value: str, more: str = "") -> tuple[object, ...]:
    return choice(f'{more}\n[[route]]\nto = "*"\nvia = {value}').via


NAMED = """
[next_hop.p]
address = "smtp://out.example:587"
tls = "verified"
source_ip = "192.0.2.9"
helo = "me.example"
"""


@pytest.mark.parametrize(
    ("value", "step"),
    [
        ('"mx"', AskMx("opportunistic")),
        ('"smtp://relay.example:26"', ToHops("smtp:relay.example:26", (Hop("smtp", "relay.example", 26),))),
        ('"lmtp://[::1]"', ToHops("lmtp:[::1]:24", (Hop("lmtp", "::1", 24),))),
        ('"lmtp+unix:///run/l"', ToHops("lmtp:unix:/run/l", (Hop("lmtp", "/run/l", 0, tls="off"),))),
        ('"maildir:/m/{user}"', ToMaildir("maildir:/m/{user}", "/m/{user}")),
        ('"discard:"', ToNothing("discard:1", "route:1")),
        ('"reject:No such user"', ToRefusal("reject:1", "No such user")),
    ],
)
def test_each_via_becomes_a_step(value, step):
    assert via(value) == (step,)


def test_a_next_hop_brings_its_own_settings():
    hop = Hop("smtp", "out.example", 587, tls="verified", hello_name="me.example", source_ip="192.0.2.9")
    assert via('"p"', NAMED) == (ToHops("smtp:out.example:587#p!verified", (hop,)),)


def test_the_name_of_a_next_hop_is_found_by_its_key():
    settings = load_text(f'{NAMED}\n[[route]]\nto = "*"\nvia = ["p", "smtp://other.example"]').settings
    assert hop_names(settings) == {"smtp:out.example:587#p!verified": "p"}


def test_what_is_counted_by_name_is_what_the_configuration_names():
    more = '[[route]]\nto = "a.example"\nvia = "maildir:/var/mail/{address}"\n[[route]]\nto = "b.example"\nvia = "mx"'
    settings = load_text(f'{NAMED}\n{more}\n[[route]]\nto = "*"\nvia = ["p", "lmtp://other.example:24"]').settings
    assert destination_keys(settings) == {
        "smtp:out.example:587#p!verified",
        "lmtp:other.example:24",
        "maildir:/var/mail/{address}",
    }


def test_tls_of_the_route_makes_another_destination():
    (step,) = choice('[[route]]\nto = "*"\nvia = "smtp://h.example"\ntls = "required"').via
    assert (step.key, step.hops[0].tls) == ("smtp:h.example:25!required", "required")


def test_what_matches_no_route_goes_by_mx():
    found = choice('[[route]]\nto = "example.net"\nvia = "discard:"')
    assert (found.rule, found.via) == ("route:default", (AskMx("opportunistic"),))


@pytest.mark.parametrize(
    ("condition", "sender", "client", "taken"),
    [
        ('from = "example.org"', ALICE, OUTSIDE, True),
        ('from = "example.net"', ALICE, OUTSIDE, False),
        ('from = "<>"', None, OUTSIDE, True),
        ('from = "<>"', ALICE, OUTSIDE, False),
        ('client = ["10.0.0.0/8"]', ALICE, INSIDE, True),
        ('client = ["10.0.0.0/8"]', ALICE, OUTSIDE, False),
        ('client = ["10.0.0.0/8"]', ALICE, LOCAL_CLIENT, False),
        ('client = ["10.0.0.0/8"]', ALICE, Client("unix"), False),
    ],
)
def test_conditions_of_a_route(condition, sender, client, taken):
    found = choice(f'[[route]]\nto = "*"\nvia = "discard:"\n{condition}', sender=sender, client=client)
    assert (found.index == 0) is taken


def test_a_local_part_keeps_routes_apart():
    text = '[[route]]\nto = "bob@example.com"\nvia = "discard:"\n'
    assert choice(text, "BOB@example.com").index == 0
    assert choice(text, "eve@example.com").index is None


def test_a_route_has_a_schedule_of_its_own_on_top_of_retry():
    text = '[retry]\nfirst = "7m"\n[[route]]\nto = "*"\nvia = "mx"\nretry = { expire = "30d" }'
    assert (choice(text).retry.first, choice(text).retry.expire) == (420, 30 * 86_400)
    assert choice('[[route]]\nto = "*"\nvia = "mx"').retry is None


def test_ourselves_by_names_and_by_addresses_that_say_something():
    text = """
hostname = "Relay.Example.org"
[names]
other_hostnames = ["mx.example.org"]
other_addresses = ["198.51.100.1"]
[[listener]]
address = "0.0.0.0:0"
name = "a"
[[listener]]
address = "[2001:db8::1]:25"
"""
    found = ourselves(load_text(text).settings)
    assert found.names == {"relay.example.org", "mx.example.org"}
    assert found.addresses == {"198.51.100.1", "2001:db8::1"}
