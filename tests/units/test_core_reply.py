"""Replies: what goes over the wire, whatever the text says; and every constant keeps the rules for codes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.core import reply
from postroad.core.reply import LINE_MAX, Reply

CONSTANTS = {name: value for name, value in vars(reply).items() if isinstance(value, Reply)}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_keep_the_rules(name: str) -> None:
    constant = CONSTANTS[name]
    assert constant.code // 100 in (2, 3, 4, 5)
    assert constant.code // 10 % 10 <= 5
    assert constant.text
    assert "\n" not in constant.text
    assert (constant.detail is None) == (constant.code // 100 == 3), "RFC 2034 section 4"
    if constant.detail:
        assert constant.detail[0] <= 7, "RFC 3463 section 3"
    assert len(constant.to_wire()) <= LINE_MAX


def test_no_two_constants_have_one_meaning() -> None:
    assert len(set(CONSTANTS.values())) == len(CONSTANTS)


@pytest.mark.parametrize(
    ("answer", "wire"),
    [
        (Reply(250, (2, 5), "Ok"), b"250 2.2.5 Ok\r\n"),
        (Reply(451, (3, 0), "Later"), b"451 4.3.0 Later\r\n"),
        (Reply(550, (1, 1), "No"), b"550 5.1.1 No\r\n"),
        (Reply(354, None, "Go on"), b"354 Go on\r\n"),
        (Reply(334, None, ""), b"334 \r\n"),
        (Reply(250, None, "a\nb\nc"), b"250-a\r\n250-b\r\n250 c\r\n"),
        (Reply(550, (7, 1), "a\nb"), b"550-5.7.1 a\r\n550 5.7.1 b\r\n"),
    ],
)
def test_wire(answer: Reply, wire: bytes) -> None:
    assert answer.to_wire() == wire


@given(st.text(st.sampled_from("\r\n\0\x7fü\u2028 a") | st.characters(), max_size=30), st.booleans())
def test_no_text_breaks_out_of_its_line(text: str, has_detail: bool) -> None:
    wire = Reply(550, (1, 1) if has_detail else None, text).to_wire()
    lines = wire.split(b"\r\n")
    assert lines.pop() == b""
    assert len(lines) == text.count("\n") + 1
    for number, line in enumerate(lines, start=1):
        assert line.startswith(b"550 " if number == len(lines) else b"550-")
        assert line.decode("ascii").isprintable()


def test_long_lines_are_cut() -> None:
    wire = Reply(550, (1, 1), "x" * 1000 + "\n" + "y" * 1000).to_wire()
    assert [len(line) for line in wire.splitlines(keepends=True)] == [LINE_MAX, LINE_MAX]
    assert wire.endswith(b"y\r\n")


def test_classes_and_status() -> None:
    kinds = [
        (answer.is_positive, answer.is_transient, answer.is_permanent) for answer in map(_of, (250, 354, 450, 550))
    ]
    assert kinds == [(True, False, False), (True, False, False), (False, True, False), (False, False, True)]
    assert (_of(450).status, reply.NOT_HERE.status) == ("4.0.0", "5.1.2")
    assert str(reply.TOO_BIG) == "552 5.3.4 Message is larger than this server takes"
    assert str(Reply(250, None, "a\nb")) == "250 a / b"
    assert reply.OK.with_text("Fine") == Reply(250, (0, 0), "Fine")


def _of(code: int) -> Reply:
    return Reply(code, None, "text")
