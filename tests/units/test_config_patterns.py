"""Patterns of addresses: which match what, and what is no pattern."""

from __future__ import annotations

import pickle

import pytest

from postroad.config.patterns import Pattern, PatternTable, parse_domain_pattern, parse_pattern


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("*", ["a@b.example", "a@[192.0.2.1]"], []),
        ("example.org", ["a@example.org"], ["a@x.example.org", "a@xexample.org", "a@example.org.x", "example.org@x"]),
        ("*.example.org", ["a@x.example.org", "a@y.x.example.org"], ["a@example.org", "a@xexample.org"]),
        ("Bob@Example.org", ["bob@example.org", "BOB@example.org"], ["rob@example.org", "bob@x.example.org"]),
        ("*@example.org", ["a@example.org"], ["a@x.example.org"]),
        ("*@*.example.org", ["a@x.example.org"], ["a@example.org"]),
        ("postmaster@*", ["Postmaster@b.example"], ["a@b.example"]),
        ("bob@*.example.org", ["bob@x.example.org"], ["bob@example.org", "a@x.example.org"]),
        ("bücher.example", ["a@xn--bcher-kva.example"], ["a@bucher.example"]),
        ("[192.0.2.1]", ["a@[192.0.2.1]"], ["a@[192.0.2.2]"]),
        ("a@[IPv6:2001:DB8::0:1]", ["a@[IPv6:2001:db8::1]"], ["b@[IPv6:2001:db8::1]"]),
        ('"john doe"@example.org', ["john doe@example.org"], ["john@example.org"]),
        ('"a@b"@example.org', ["a@b@example.org"], ["b@example.org"]),
        ("<>", ["@"], ["a@b.example"]),
    ],
)
def test_what_matches(text: str, inside: list[str], outside: list[str]) -> None:
    pattern = parse_pattern(text)
    found = [address for address in inside + outside if pattern.matches(*address.rpartition("@")[::2])]
    assert found == inside
    assert parse_pattern(str(pattern)) == pattern
    table = PatternTable([[pattern]])
    assert [address for address in inside + outside if table.first_match(*address.rpartition("@")[::2]) == 0] == inside


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "The pattern is empty"),
        ("*.", "The pattern is empty"),
        (".example.org", 'Write "*.example.org" for its subdomains'),
        ("ex*mple.org", "stands alone or before a dot"),
        ("*.*.example.org", "stands alone or before a dot"),
        ("*example.org", "stands alone or before a dot"),
        ("*.[192.0.2.1]", "stands alone or before a dot"),
        ("a b", "is not a domain name"),
        ("example..org", "is not a domain name"),
        ("user@", "The pattern is empty"),
        ("@example.org", 'Write "user@example.org" or "*@example.org"'),
        ("a@b@example.org", '"a@b" is not a local-part'),
        ("news*@example.org", "stands for a whole local-part"),
    ],
)
def test_what_is_no_pattern(text: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_pattern(text)
    assert told in str(caught.value)


def test_a_pattern_of_domains_takes_no_address() -> None:
    assert parse_domain_pattern("*.example.org") == Pattern(None, "example.org", subdomains=True)
    with pytest.raises(ValueError, match=r'A domain is meant: write "example\.org"'):
        parse_domain_pattern("bob@example.org")


def test_the_first_match_wins() -> None:
    texts = [["a.example", "b.example"], ["*.example"], ["bob@a.example"], ["*"], ["a.example"]]
    table = PatternTable([map(parse_pattern, entry) for entry in texts])
    assert table.first_match("bob", "a.example") == 0
    assert list(table.candidates("bob", "a.example")) == [0, 1, 2, 3, 4]
    assert table.first_match("bob", "c.example") == 1
    assert list(table.candidates("bob", "c.example")) == [1, 3]
    assert list(table.candidates("", "")) == [3]


def test_a_table_of_nothing() -> None:
    assert PatternTable([]).first_match("a", "b.example") is None
    assert list(PatternTable([]).candidates("a", "b.example")) == []
    assert PatternTable([[], [parse_pattern("a.example")]]).first_match("a", "a.example") == 1


def test_a_table_travels_to_another_process() -> None:
    table = pickle.loads(pickle.dumps(PatternTable([[parse_pattern("bob@*.example")]])))
    assert table.first_match("bob", "a.example") == 0


def test_many_entries_cost_no_more_than_few() -> None:
    """Counted in lookups, not in time: what is found is as small among 50,000 entries as among 5."""
    table = PatternTable([[parse_pattern(f"d{number}.example")] for number in range(50_000)])
    assert table.first_match("a", "d49999.example") == 49_999
    assert len(table._found("a", "d49999.example")) == 1
