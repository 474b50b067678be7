"""Cutting octets into lines: limits to the octet, and what is bare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.smtp.errors import PeerError
from postroad.smtp.extensions import (
    AUTH_LINE_MAX,
    COMMAND_LINE_MAX,
    Offer,
    Protocol,
    ehlo_reply,
    line_limits,
)
from postroad.smtp.lines import LineBuffer, NoLine

LIMITS = {b"MAIL": 600}


def lines_of(octets: bytes, piece: int) -> list[bytes | NoLine]:
    """Return all lines, and TOO_LONG where one was."""
    buffer, found = LineBuffer(), []
    for start in range(0, len(octets), piece):
        buffer.add(octets[start : start + piece])
        while (line := buffer.next_line(LIMITS)) is not NoLine.INCOMPLETE:
            found.append(line)
    return found


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("start", "limit"),
    [(b"NOOP", COMMAND_LINE_MAX), (b"mail", 600), (b"", COMMAND_LINE_MAX), (b"MAI", COMMAND_LINE_MAX)],
)
def test_a_line_may_have_its_limit_with_crlf(start: bytes, limit: int, piece: int) -> None:
    fits = start + b"x" * (limit - 2 - len(start)) + b"\r\n"
    longer = b"x" + fits if not start else start + b"x" + fits[len(start) :]
    assert lines_of(fits + longer + b"NOOP\r\n", piece) == [fits[:-2], NoLine.TOO_LONG, b"NOOP"]


@given(
    st.lists(st.sampled_from([b"\r\n", b"a", b"\r", b"\n", b"x" * 300, b"MAIL"]), max_size=20).map(b"".join),
    st.integers(1, 9),
)
def test_how_lines_arrive_changes_nothing(octets: bytes, piece: int) -> None:
    def outcome(size: int) -> list[bytes | NoLine] | str:
        try:
            return lines_of(octets, size)
        except PeerError as error:
            return str(error)

    assert outcome(piece) == outcome(len(octets) + 1)


def test_a_bare_newline_is_refused_before_the_line_ends() -> None:
    for octets in (b"NOOP\n", b"NOOP\rx", b"\n", b"\r\r"):
        buffer = LineBuffer()
        buffer.add(octets)
        with pytest.raises(PeerError):
            buffer.next_line({})


def test_all_that_is_not_used_can_be_taken() -> None:
    buffer = LineBuffer()
    buffer.add(b"one\r\ntw")
    assert buffer.next_line({}) == b"one"
    buffer.add(b"o\r\nthree")
    assert len(buffer) == len(b"two\r\nthree")
    assert buffer.take_all() == b"two\r\nthree"
    assert len(buffer) == 0
    assert buffer.take_all() == b""


def test_limits_follow_what_is_offered() -> None:
    all_of_it = line_limits(Offer(size_max=1, auth=("PLAIN",)))
    assert all_of_it == {b"MAIL": 512 + 26 + 17 + 10 + 116 + 500, b"RCPT": 512 + 536, b"AUTH": AUTH_LINE_MAX}
    none_of_it = line_limits(Offer(size_max=1, smtputf8=False, dsn=False))
    assert none_of_it == {b"MAIL": 512 + 26 + 17, b"RCPT": 512}


def test_the_answer_to_ehlo_says_what_is_offered() -> None:
    offer = Offer(size_max=52_428_800, starttls=True, auth=("PLAIN", "LOGIN"))
    assert ehlo_reply("relay.example", offer).to_wire() == (
        b"250-relay.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-STARTTLS\r\n250-AUTH PLAIN LOGIN\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"
    )
    least = Offer(size_max=1, smtputf8=False, chunking=False, dsn=False, pipelining=False)
    assert ehlo_reply("r", least).text == "r\nSIZE 1\nENHANCEDSTATUSCODES\n8BITMIME"
    assert Protocol("lmtp") is Protocol.LMTP
