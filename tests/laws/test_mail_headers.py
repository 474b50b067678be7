"""Laws of header fields: what is found is there, what is taken away is all that is taken away."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.core.ids import MessageId, format_id
from postroad.mail.headers import (
    count_fields,
    field_text,
    find_field,
    find_fields,
    find_header_end,
    header_end,
    iterate_fields,
)
from postroad.mail.submission import mend

WORDS = [
    b"Received:", b"received :", b"Bcc:", b"bCc\t:", b"Resent-Bcc: x", b"Date: y", b"Message-ID: <z>", b"X-Bcc: n",
    b"\r\n", b"\r\n\r\n", b"\r\n ", b"\r\n\t", b"\r", b"\n", b"\n\r", b" ", b":", b"a", b"\x00", b"\xff",
    b"From bob\r\n",
]  # fmt: skip
NAMES = st.sampled_from([b"received", b"BCC", b"Resent-Bcc", b"date", b"Message-Id", b"a"])
contents = st.lists(st.sampled_from(WORDS) | st.binary(max_size=4), max_size=30).map(b"".join)


def lines_of(octets: bytes) -> list[bytes]:
    """Fields by the book, one line after the other: the plain form of what headers.py does with patterns."""
    logical: list[bytes] = []
    for line in re.findall(rb"(?:(?!\r\n).)*\r\n|(?:(?!\r\n).)+\Z", octets[: header_end(octets)], re.DOTALL):
        if line == b"\r\n":
            break
        if line[:1] in (b" ", b"\t") and logical:
            logical[-1] += line
        else:
            logical.append(line)
    return logical


@settings(max_examples=500, deadline=None)
@given(contents, NAMES)
def test_the_patterns_agree_with_reading_line_by_line(octets: bytes, name: bytes) -> None:
    wanted = [line for line in lines_of(octets) if re.match(re.escape(name) + rb"[ \t]*:", line, re.IGNORECASE)]
    found = find_fields(octets, name)
    assert [octets[field.start : field.end] for field in found] == wanted
    assert count_fields(octets, name) == len(wanted)
    first = find_field(octets, name)
    assert first == (found[0] if found else None)


@settings(max_examples=500, deadline=None)
@given(contents)
def test_all_fields_agree_with_reading_line_by_line(octets: bytes) -> None:
    wanted = [line for line in lines_of(octets) if re.match(rb"[!-9;-~]+[ \t]*:", line)]
    assert [octets[field.start : field.end] for field in iterate_fields(octets)] == wanted
    assert all(field_text(octets, field).isprintable() for field in iterate_fields(octets))


@settings(max_examples=300, deadline=None)
@given(contents, st.integers(1, 9))
def test_the_end_is_found_in_a_growing_buffer(octets: bytes, piece: int) -> None:
    seen = b""
    for start in range(0, len(octets), piece):
        before = max(len(seen) - 3, 0)
        seen += octets[start : start + piece]
        if (end := find_header_end(seen, before)) >= 0:
            assert end == find_header_end(octets)
            return
    assert find_header_end(octets) == -1


@settings(max_examples=500, deadline=None)
@given(contents)
def test_mending_takes_away_blind_copies_and_nothing_else(octets: bytes) -> None:
    mended = mend(octets, MessageId(1 << 40), hostname="relay.example.org", now=0.0)
    kept = octets
    for field in sorted(
        [*find_fields(octets, b"bcc"), *find_fields(octets, b"resent-bcc")], reverse=True, key=lambda f: f.start
    ):
        kept = kept[: field.start] + kept[field.end :]
    added = b""
    if not find_fields(octets, b"date"):
        added += b"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n"
    if not find_fields(octets, b"message-id"):
        added += f"Message-ID: <{format_id(1 << 40)}@relay.example.org>\r\n".encode()
    at = mended.find(added)
    assert mended[:at] + mended[at + len(added) :] == kept
    assert at == 0 or mended[:1] in (b" ", b"\t")
