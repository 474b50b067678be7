"""Laws of addresses: what is printed is read again, what compares equal is one, and nothing takes long."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.core.address import (
    AddressError,
    Mailbox,
    Path,
    format_path,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
)

PIECES = [
    ".", "..", '"', "\\", "@", "<", ">", "[", "]", ":", ",", " ", "a", "B", "-", "_", "IPv6:", "::1", "192.0.2.1", "ü",
    "é", "xn--", "\r\n", "\0", "\u0085", "\u2028", "postmaster", "@x:",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=12).map("".join)
local_parts = st.text(
    st.sampled_from('ab.@"\\ <>,:;()[]üé') | st.characters(min_codepoint=32, max_codepoint=126), max_size=20
)
domains = st.sampled_from(["example.org", "a", "x-y.z9", "bücher.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"])


@given(local_parts, domains)
def test_every_mailbox_is_read_as_it_is_printed(local_part: str, domain: str) -> None:
    mailbox = Mailbox(local_part, domain)
    assert parse_mailbox(str(mailbox)) == mailbox
    path = format_path(mailbox)
    assert parse_reverse_path(path[1:-1]) == parse_forward_path(path[1:-1]) == mailbox
    assert path.isprintable()


@settings(max_examples=500)
@given(texts)
def test_what_is_taken_is_printed_in_a_form_that_is_taken(text: str) -> None:
    """And nothing but AddressError is ever raised, and no line end ever gets through."""
    for parse in (parse_mailbox, parse_reverse_path, parse_forward_path):
        try:
            path: Path = parse(text)
        except AddressError:
            continue
        if path is None:
            assert text == ""
            continue
        assert parse_forward_path(str(path)) == path
        assert len(format_path(path).encode()) <= 256
        assert path.key[1].isascii()
        assert not set(format_path(path)) & set("\r\n\0\u0085\u2028\u2029")


@given(local_parts, domains)
def test_the_case_of_a_domain_says_nothing(local_part: str, domain: str) -> None:
    text = str(Mailbox(local_part, domain))
    head, at, tail = text.rpartition("@")
    assert parse_mailbox(head + at + tail.upper()).key == parse_mailbox(text).key


@given(
    st.sampled_from(["a", ".", "a.", '"', '\\"', "@", "@a,", "-", "a-", "[", "ü"]),
    st.sampled_from(["", "@", '"', "\\", "!", ">"]),
)
def test_long_hostile_input_takes_linear_time(word: str, end: str) -> None:
    """20,000 octets of anything are judged at once: a quadratic expression would take minutes."""
    try:
        parse_mailbox(word * (20_000 // len(word)) + end)
    except AddressError:
        pass
    else:
        raise AssertionError("longer than any address may be")
