"""Law: the table of patterns answers what trying each pattern in turn would; a set of networks likewise."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from postroad.config.addresses import IPNetwork
from postroad.config.networks import NetworkSet
from postroad.config.patterns import PatternTable, parse_pattern

# Few labels, so that domains are often each other's subdomains, and the words that look like another's end.
LABELS = ["a", "b", "aa", "example"]
domains = st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(".".join)
local_parts = st.sampled_from(["a", "A", "b", "postmaster", "Postmaster", "a.b", "*"])
asked_domains = domains | st.sampled_from(["", "[192.0.2.1]"])
patterns = st.one_of(
    st.just("*"),
    st.just("<>"),
    st.just("[192.0.2.1]"),
    domains,
    domains.map("*.{}".format),
    st.builds("{}@{}".format, local_parts, domains | domains.map("*.{}".format) | st.just("*")),
)


@given(st.lists(st.lists(patterns, max_size=3), max_size=12), local_parts | st.just(""), asked_domains)
def test_the_table_agrees_with_each_pattern(entries: list[list[str]], local_part: str, domain: str) -> None:
    parsed = [[parse_pattern(text) for text in entry] for entry in entries]
    naive = [
        index for index, entry in enumerate(parsed) if any(pattern.matches(local_part, domain) for pattern in entry)
    ]
    table = PatternTable(parsed)
    assert list(table.candidates(local_part, domain)) == naive
    assert table.first_match(local_part, domain) == (naive[0] if naive else None)


@given(patterns)
def test_a_pattern_comes_back(text: str) -> None:
    assert parse_pattern(str(parse_pattern(text))) == parse_pattern(text)


def networks_of(version: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> st.SearchStrategy[IPNetwork]:
    bits = 32 if version is ipaddress.IPv4Address else 128
    values = st.integers(0, 255).map(lambda value: value << (bits - 8)) | st.integers(0, 3)
    return st.builds(
        lambda value, prefix: ipaddress.ip_network((version(value), prefix), strict=False), values, st.integers(0, bits)
    )


networks = networks_of(ipaddress.IPv4Address) | networks_of(ipaddress.IPv6Address)


@given(st.lists(networks, max_size=6), networks)
def test_the_set_agrees_with_each_network(members: list[IPNetwork], asked: IPNetwork) -> None:
    found = NetworkSet(members)
    for address in (asked.network_address, asked.broadcast_address):
        if not (address.version == 6 and address.ipv4_mapped):
            assert (address in found) == any(address in member for member in members)
