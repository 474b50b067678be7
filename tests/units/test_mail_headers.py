"""Header fields are found where they are, nowhere else, and fast."""

from __future__ import annotations

import time
from email import message_from_bytes, policy

import pytest

from postroad.mail.headers import (
    FIELD_TEXT_MAX,
    HEADER_MAX,
    count_fields,
    count_received,
    field_text,
    find_field,
    find_fields,
    find_header_end,
    header_end,
    iterate_fields,
    message_id,
)

HEADER = (
    b"Received: from a by b;\r\n\tdate\r\n"
    b"RECEIVED : from c by d; date\r\n"
    b"Subject: Received: is a word,\r\n Received: too\r\n"
    b"Message-Id:\r\n <one@example.org>\r\n"
    b"received:x\r\n"
    b"X-Received: no\r\n"
    b"\r\n"
)
MESSAGE = HEADER + b"Received: of the body\r\nMessage-ID: <two@example.org>\r\n"


def test_the_header_ends_behind_its_blank_line() -> None:
    assert header_end(MESSAGE) == len(HEADER)
    assert find_header_end(MESSAGE) == len(HEADER)
    assert find_header_end(MESSAGE, len(HEADER) - 4) == len(HEADER)
    assert find_header_end(HEADER[:-1]) == -1
    assert header_end(HEADER[:-1]) == len(HEADER) - 1
    assert header_end(b"\r\nbody\r\n\r\n") == 2
    assert header_end(b"") == 0


def test_bare_line_ends_end_no_header() -> None:
    assert header_end(b"A: b\n\nc: d\r\r\ne\r\n\r\nbody") == len(b"A: b\n\nc: d\r\r\ne\r\n\r\n")
    assert count_fields(b"A: b\nReceived: c\rReceived: d\r\n\r\n", b"Received") == 0


def test_the_search_is_bounded() -> None:
    far = b"A: b\r\n" + b"x" * HEADER_MAX + b"\r\nReceived: y\r\n\r\n"
    assert find_header_end(far) == -1
    assert header_end(far) == HEADER_MAX
    assert count_received(far) == 0


def test_received_fields_are_counted() -> None:
    assert count_received(MESSAGE) == 3
    assert count_received(MESSAGE, len(HEADER)) == 3
    assert count_received(b"Received: x") == 1
    assert count_received(b"") == 0
    assert count_received(b"\r\nReceived: x\r\n") == 0
    assert count_received(b"".join(b"Received: hop %d\r\n" % hop for hop in range(60)) + b"\r\n") == 60


def test_a_field_is_found_with_its_folds() -> None:
    assert [MESSAGE[f.start : f.end] for f in find_fields(MESSAGE, b"received")] == [
        b"Received: from a by b;\r\n\tdate\r\n",
        b"RECEIVED : from c by d; date\r\n",
        b"received:x\r\n",
    ]
    subject = find_field(MESSAGE, b"SUBJECT")
    assert subject is not None
    assert MESSAGE[subject.start : subject.end] == b"Subject: Received: is a word,\r\n Received: too\r\n"
    assert field_text(MESSAGE, subject) == "Received: is a word, Received: too"
    assert find_field(MESSAGE, b"Date") is None
    first = find_field(MESSAGE, b"received")
    assert first is not None
    assert (first.start, first.end) == (0, len(b"Received: from a by b;\r\n\tdate\r\n"))


def test_the_message_id_is_read() -> None:
    assert message_id(MESSAGE) == "<one@example.org>"
    assert message_id(b"Subject: x\r\n\r\nMessage-ID: <body@example.org>\r\n") == ""
    assert message_id(b"Message-ID: <cut@exa") == "<cut@exa"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"X: \xff\x00\x1b[2J\r\n\r\n", "???[2J"),
        (b"X: gr\xc3\xbc\xc3\x9fe\r\n\r\n", "grüße"),
        (b"X: a\r\n\t b\r\n\r\n", "a\t b".replace("\t", "?")),
        (b"X:\r\n\r\n", ""),
        (b"X: \xe2\x80\xae evil\r\n\r\n", "? evil"),
    ],
)
def test_hostile_text_is_shown_harmless(raw: bytes, text: str) -> None:
    field = find_field(raw, b"x")
    assert field is not None
    assert field_text(raw, field) == text


def test_the_text_of_a_field_is_bounded() -> None:
    raw = b"X: " + b"a" * 5000 + b"\r\n\r\n"
    field = find_field(raw, b"x")
    assert field is not None
    assert field_text(raw, field) == "a" * FIELD_TEXT_MAX


def test_all_fields_are_listed_as_the_library_does() -> None:
    # The library stops at the white space that RFC 5322 section 4.5.1 allows before the colon.
    octets = MESSAGE.replace(b" :", b":")
    parsed = message_from_bytes(octets, policy=policy.compat32)
    assert [f.name for f in iterate_fields(octets)] == [name.encode() for name in parsed]


def test_lines_that_are_no_fields_are_passed_over() -> None:
    raw = b"From bob Mon Nov 23\r\nno field\r\nA: 1\r\n: 2\r\n B: 3\r\nC: 4\r\n"
    assert [f.name for f in iterate_fields(raw)] == [b"A", b"C"]


def test_what_every_message_costs_is_little() -> None:
    """5 us are budgeted for a message of 5 KiB; a slow machine gets ten times that before this fails."""
    content = MESSAGE + b"a line of text that is as long as such lines are\r\n" * 100
    best = min(_seconds(content) for _ in range(5))
    assert best < 50e-6


def _seconds(content: bytes) -> float:
    rounds = 500
    began = time.perf_counter()
    for _ in range(rounds):
        end = header_end(content)
        count_received(content, end)
        message_id(content, end)
    return (time.perf_counter() - began) / rounds


def test_no_input_is_slow() -> None:
    """Each is as large as a header may be; a quadratic pattern would need minutes."""
    for piece in (
        b"\r\n",
        b"\r\n ",
        b"\r",
        b"\r\nreceived",
        b"\r\nmessage-id:",
        b"\r\nmessage-id \t",
        b"a",
        b"\r\n\t:",
        b"x:",
    ):
        hostile = piece * (HEADER_MAX // len(piece))
        began = time.perf_counter()
        count_received(hostile, len(hostile))
        find_fields(hostile, b"message-id", len(hostile))
        sum(1 for _ in iterate_fields(hostile, len(hostile)))
        assert time.perf_counter() - began < 2.0, piece
