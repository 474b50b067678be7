"""Law: a name of a destination comes back from its normal form, and means what its parts say, whatever the key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.policy.destination_name import NAME_MAX, NameKind, hosts_in, parse_destination_name

# Few labels, so that names are often each other's ends; words that look like keys, schemes and patterns.
LABELS = ["a", "b", "aa", "mx", "example", "smtp"]
domains = st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(".".join)
literals = st.sampled_from(["[192.0.2.1]", "[IPv6:2001:db8::1]"])
sites = st.builds(
    "mx:{}{}".format,
    st.lists(domains, min_size=1, max_size=3).map(",".join),
    st.sampled_from(["", "!required", "@2", "!verified@*.a", "#0123456789abcdef"]),
)
others = st.sampled_from(
    ["smtp:relay.example:587", "smtp:a:25#p!required@2", "lmtp:unix:/run/a b", "maildir:/m/{user}"]
)
keys = st.lists(sites | others, min_size=1, max_size=2).map(" ".join)
words = st.sampled_from(
    ["*", "*.", "mx:", "mx:*", "mx:*.", "x:", ":", "[", "[IPv6:", "@", "a@b", " ", "\n", "\x00", "ü", ""]
)
names = domains | domains.map("*.{}".format) | st.just("*") | literals | keys | domains.map("mx:*.{}".format)
anything = names | st.lists(words | domains, max_size=4).map("".join) | st.text(max_size=12)


@given(anything)
def test_a_name_comes_back_or_is_refused_with_a_sentence(text: str) -> None:
    try:
        name = parse_destination_name(text)
    except ValueError as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert told.endswith(".")
        return
    assert parse_destination_name(str(name)) == name
    assert str(name).isprintable()


@given(names, domains | literals | st.just(""), keys | st.just(""))
def test_a_name_means_what_its_parts_say(text: str, domain: str, key: str) -> None:
    name = parse_destination_name(text)
    if text == "*":
        wanted = True
    elif name.kind is NameKind.KEY:
        wanted = key == text
    else:
        asked = [domain] if name.kind is NameKind.DOMAIN else hosts_in(key)
        pattern = text.removeprefix("mx:") if name.kind is NameKind.MX else text
        if pattern.startswith("*."):
            wanted = any(one.endswith(pattern[1:]) for one in asked)
        else:
            wanted = pattern in asked
    assert name.matches(domain, key) is wanted


@given(keys, domains)
def test_the_key_of_a_destination_is_a_name_of_it(key: str, domain: str) -> None:
    """What ``queue stats`` shows can be given back to it. (The key of one MX host is the name of that host.)"""
    assert parse_destination_name(key).matches(domain, key)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Example.ORG.", "example.org"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("mx:MX1.Example.org", "mx:mx1.example.org"),
        ("mx:*.Big.example", "mx:*.big.example"),
        ("mx:a.example,b.example", "mx:a.example,b.example"),
        ("[ipv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
        ("smtp:Relay.example:587", "smtp:Relay.example:587"),
    ],
)
def test_the_normal_form(text: str, normal: str) -> None:
    assert str(parse_destination_name(text)) == normal


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("bob@example.org", 'write "example.org"'),
        ("*example.org", "stands alone"),
        ("mx:*", "stands alone"),
        ("mx:", "names nothing"),
        ("-.example", "names no destination"),
        ("a" * (NAME_MAX + 1), f"{NAME_MAX} characters"),
        ("a\x00", "printable"),
    ],
)
def test_what_is_no_name_is_told(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("*", r"\*")):
        parse_destination_name(text)


def test_hosts_that_the_key_has_no_room_for() -> None:
    name = parse_destination_name("mx:mx99.example")
    assert not name.matches("example.org", "mx:mx1.example#0123456789abcdef")
    assert name.matches("example.org", "mx:mx1.example#0123456789abcdef", ["MX99.example"])


def test_the_more_a_name_says_the_higher_it_ranks() -> None:
    texts = ["*", "*.example", "*.a.example", "a.example", "mx:*.a.example", "smtp:a:25"]
    assert sorted(texts, key=lambda text: parse_destination_name(text).rank) == texts
