"""Mailboxes: 164 addresses of others (tests/cases/address), and what those do not ask."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import NamedTuple

import pytest

from postroad.core.address import (
    NULL_PATH,
    AddressError,
    Mailbox,
    format_literal,
    format_path,
    literal_address,
    parse_domain,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    to_ascii,
)

ACCEPTED = {"VALID_CATEGORY", "DNSWARN", "RFC5321"}


class Case(NamedTuple):
    id: str
    address: str
    category: str
    diagnosis: str
    ours: str
    why: str


def cases() -> list[Case]:
    text = (Path(__file__).parents[1] / "cases" / "address" / "isemail.tsv").read_text(encoding="utf-8")
    found = [Case(*line.split("\t")) for line in text.splitlines()[1:]]
    return [case._replace(address=json.loads(case.address)) for case in found]


def is_mailbox(text: str) -> bool:
    try:
        parse_mailbox(text)
    except AddressError:
        return False
    return True


def test_there_are_164() -> None:
    assert len(cases()) == 164


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.id}-{case.diagnosis}")
def test_isemail(case: Case) -> None:
    assert is_mailbox(case.address) == (case.ours == "accept")
    assert (case.ours == "accept") == ((case.category in ACCEPTED) != bool(case.why)), "a difference and its reason"


@pytest.mark.parametrize(
    ("text", "local_part", "domain", "shown"),
    [
        ("User.Name+tag@Example.ORG", "User.Name+tag", "example.org", "User.Name+tag@example.org"),
        ('"a"@b.example', "a", "b.example", "a@b.example"),
        (r'"\a\b"@b.example', "ab", "b.example", "ab@b.example"),
        ('"a b"@b.example', "a b", "b.example", '"a b"@b.example'),
        (r'"a\"b\\c"@b.example', 'a"b\\c', "b.example", r'"a\"b\\c"@b.example'),
        ('"a@b"@c.example', "a@b", "c.example", '"a@b"@c.example'),
        ('""@b.example', "", "b.example", '""@b.example'),
        ('".a"@b.example', ".a", "b.example", '".a"@b.example'),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[ipv6:2001:DB8:0::1]", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
        ("用户@例え.example", "用户", "例え.example", "用户@例え.example"),
        ("a@xn--r8jz45g.example", "a", "xn--r8jz45g.example", "a@xn--r8jz45g.example"),
    ],
)  # fmt: skip
def test_a_mailbox_is_kept_in_its_shortest_form(text: str, local_part: str, domain: str, shown: str) -> None:
    mailbox = parse_mailbox(text)
    assert (mailbox.local_part, mailbox.domain, str(mailbox)) == (local_part, domain, shown)
    assert parse_mailbox(shown) == mailbox


@pytest.mark.parametrize(
    "text",
    [
        "a@[192.0.2.1", "a@192.0.2.1]", "a@[]", "a@[192.0.2.01]", "a@[192.0.2]", "a@[IPv6:fe80::1%eth0]",
        "a@[IPv6:192.0.2.1]", "a@[x400:anything]", "a@[2001:db8::1]", "a@b_c.example", "a@b..c", "a@.b", "a@b.", "a@",
        "@b", "a", "a@b@c", "a b@c", "<a@b>", "a@b>", "@x:a@b", "a@b\r\nX: y", "a\n@b", "a\0@b", '"a\n"@b', '"a\0"@b',
        "a@b\u2028c", "a\u2028@b", "a\u0085@b", '"a\u0085"@b', "a@\u00ad.example", "a@-\u00fc.example",
        "a@\u00fc" + "x" * 60 + ".example",
    ],
)  # fmt: skip
def test_no_mailbox(text: str) -> None:
    with pytest.raises(AddressError):
        parse_mailbox(text)


@pytest.mark.parametrize(
    ("local", "domain", "is_taken"),
    [
        ("a" * 64, "b.example", True),
        ("a" * 65, "b.example", False),
        ("ü" * 32, "b.example", True),
        ("ü" * 32 + "a", "b.example", False),
        ("a", "b" * 63, True),
        ("a", "b" * 64, False),
        ("a", ".".join(["b" * 62] * 4), True),  # 251 + 2 = 253
        ("aaa", ".".join(["b" * 62] * 4), False),  # 255; a path has 256 with its brackets, an address 254
        ("aa", ".".join(["b" * 62] * 4), True),
    ],
)
def test_limits_are_in_octets(local: str, domain: str, is_taken: bool) -> None:
    """RFC 5321 section 4.5.3.1.1 to 4.5.3.1.3."""
    assert is_mailbox(f"{local}@{domain}") is is_taken


def test_null_path_and_postmaster() -> None:
    assert parse_reverse_path("") is NULL_PATH
    assert format_path(NULL_PATH) == "<>"
    assert format_path(Mailbox("a b", "c.example")) == '<"a b"@c.example>'
    postmaster = parse_forward_path("PostMaster")
    assert (postmaster.domain, str(postmaster)) == ("", "PostMaster")
    with pytest.raises(AddressError):
        parse_reverse_path("postmaster")
    with pytest.raises(AddressError):
        parse_forward_path("")


@pytest.mark.parametrize("route", ["@one.example:", "@one.example,@two.example:", "@a,@b,@c:"])
def test_source_routes_are_stripped(route: str) -> None:
    assert (
        parse_forward_path(f"{route}a@b.example")
        == parse_reverse_path(f"{route}a@b.example")
        == Mailbox("a", "b.example")
    )


@pytest.mark.parametrize("route", ["@one.example", "@one.example,two.example:", "one.example:", "@:", "@a,:"])
def test_what_is_no_source_route(route: str) -> None:
    with pytest.raises(AddressError):
        parse_forward_path(f"{route}a@b.example")


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("a@EXAMPLE.org", "a@example.ORG", True),
        ("A@example.org", "a@example.org", False),  # only the host that delivers may fold a local-part
        ("POSTMASTER@example.org", "postmaster@example.org", True),
        ('"a.b"@example.org', "a.b@example.org", True),
        ("a@bücher.example", "a@xn--bcher-kva.example", True),
        ("a@BÜCHER.example", "a@bücher.example", True),
        ("a@[IPv6:2001:DB8::1]", "a@[IPv6:2001:db8:0:0:0:0:0:1]", True),
    ],
)
def test_keys_compare(one: str, other: str, are_same: bool) -> None:
    assert (parse_mailbox(one).key == parse_mailbox(other).key) is are_same


def test_ascii_forms() -> None:
    mailbox = parse_mailbox("jürgen@bücher.example")
    assert mailbox.ascii_domain == "xn--bcher-kva.example"
    assert not mailbox.is_ascii
    assert parse_mailbox("a@b.example").is_ascii
    assert not parse_mailbox("a@bücher.example").is_ascii
    assert to_ascii("BÜCHER.example") == to_ascii("bücher.example") == "xn--bcher-kva.example"
    with pytest.raises(AddressError):
        to_ascii("\u00ad.example")


def test_literals() -> None:
    for text in ("192.0.2.1", "2001:db8::1"):
        address = ipaddress.ip_address(text)
        assert literal_address(format_literal(address)) == address
        assert parse_domain(format_literal(address)) == format_literal(address)
    assert literal_address("example.org") is None
    assert literal_address("[example]") is None
    assert parse_mailbox("a@[192.0.2.1]").is_literal
    assert not parse_mailbox("a@b.example").is_literal


def test_an_error_shows_no_more_than_it_must() -> None:
    with pytest.raises(AddressError) as caught:
        parse_mailbox("\r\n" + "x" * 10_000)
    assert len(str(caught.value)) < 200
    assert "\r" not in str(caught.value)
