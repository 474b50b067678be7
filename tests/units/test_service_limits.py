"""What [[destination]] says about a target: the first that matches, by domain, MX host or next hop."""

from __future__ import annotations

import pytest

from postroad.config.load import load_text
from postroad.core.faces import Rate
from postroad.outbound.hops import Hop, ToHops, ToMaildir
from postroad.service.limits import DestinationRules, schedule_of

TEXT = """
[next_hop.provider]
address = "smtp://out.provider.example:587"

[[destination]]
mx = "*.big.example"
connections = 1
[[destination]]
domain = "slow.example"
connections = 2
rate = "600/min"
retry = { first = "10m" }
[[destination]]
next_hop = "provider"
connections = 3
[[destination]]
domain = "*"
connections = 4
messages_per_connection = 7
[[destination]]
domain = "never.example"
connections = 5
"""
PROVIDER = "smtp:out.provider.example:587#provider"


def rules(text: str = TEXT) -> DestinationRules:
    return DestinationRules(load_text(text).settings, {PROVIDER: "provider"})


def by_mx(host: str, rule: str = "") -> ToHops:
    return ToHops(f"mx:{host}{rule}", (Hop("smtp", host, 25, addresses=("192.0.2.1",)),))


TO_PROVIDER = ToHops(PROVIDER, (Hop("smtp", "out.provider.example", 587),))


@pytest.mark.parametrize(
    ("target", "domain", "connections"),
    [
        (by_mx("mx1.big.example"), "example.org", 1),
        (by_mx("MX1.Big.Example"), "example.org", 1),
        (by_mx("mx.slow.example", "@2"), "slow.example", 2),
        (by_mx("mx1.big.example", "@2"), "slow.example", 1),
        (TO_PROVIDER, "example.org", 3),
        (by_mx("mx.example.org"), "example.org", 4),
        (by_mx("mx.never.example"), "never.example", 4),
        (ToMaildir("maildir:/m", "/m"), "example.org", 4),
        (ToHops("smtp:mx1.big.example:25", (Hop("smtp", "mx1.big.example", 25),)), "example.org", 4),
    ],
)
def test_the_first_that_matches_counts(target, domain, connections):
    found = rules()
    assert found.limits_for(target, domain).connections == connections
    assert found.limits_for(target, domain) is found.limits_for(target, domain)


def test_limits_are_those_of_the_table():
    limits = rules().limits_for(by_mx("mx.slow.example", "@2"), "slow.example")
    assert limits.rate == Rate(600, 60)
    assert (limits.retry.first, limits.retry.longest) == (600, 4 * 3600)
    assert rules().limits_for(by_mx("mx.example.org"), "example.org").messages_per_connection == 7


def test_without_tables_the_defaults_hold():
    limits = rules("").limits_for(by_mx("mx.example.org"), "example.org")
    assert (limits.connections, limits.messages_per_connection, limits.rate) == (20, 100, None)


def test_a_rule_singles_out_its_domain_unless_an_earlier_one_takes_all():
    found = rules()
    assert [found.domain_rule(domain) for domain in ("slow.example", "never.example", "example.org")] == ["@2", "", ""]


def test_next_hops_are_told_by_their_host_too():
    text = '[next_hop.a]\naddress = "smtp://h.example"\n[[destination]]\nnext_hop = "h.example"\nconnections = 9'
    target = ToHops("smtp:h.example:25", (Hop("smtp", "h.example", 25),))
    assert rules(text).limits_for(target, "example.org").connections == 9


def test_never_to_warn_and_all_schedules():
    settings = load_text('[retry]\nwarn = "never"\n[[destination]]\ndomain = "*"\nretry = { expire = "2h" }').settings
    assert schedule_of(settings.retry).warn is None
    assert [
        schedule.expire for schedule in rules('[[destination]]\ndomain = "*"\nretry = { expire = "2h" }').schedules
    ] == [
        5 * 86_400,
        7200,
    ]
