"""Lines of the log: every kind of fact, and nothing in a value that breaks out of it."""

from __future__ import annotations

import json
import re
import shlex

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.core import facts
from postroad.core.facts import KINDS, Delivered, SessionBroke, Started, Stopped, Trouble
from postroad.core.ids import MessageId, SessionId, format_id
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.observe.log import LINE_MAX, Level, LogLines, format_time, level_of

AT = 1_790_000_000.25
MESSAGE = MessageId(880_000_000_000_000_000)
DELIVERED = Delivered(
    at=AT,
    message=MESSAGE,
    number=0,
    recipient="b@example.org",
    sender="",
    destination="example.org",
    host="mx.example.org",
    reply=Reply(250, (2, 0), "Ok: queued"),
    delay=0.5,
)


def logfmt(fact) -> str:
    return LogLines("logfmt", Level.DEBUG).line(fact).decode()


def as_json(fact):
    return json.loads(LogLines("json", Level.DEBUG).line(fact))


def sample(kind):
    """Return a fact of the kind, every field filled."""
    values = {
        float: AT,
        str: "text",
        int: 7,
        bool: True,
        Stage: Stage.RCPT,
        Reply: Reply(451, (3, 0), "Later"),
        MessageId: MESSAGE,
        SessionId: SessionId(MESSAGE + 1),
    }
    filled = {}
    for field in msgspec.structs.fields(kind):
        wanted = [values[part] for part in (field.type, *getattr(field.type, "__args__", ())) if part in values]
        filled[field.name] = ("a", "b") if getattr(field.type, "__origin__", None) is tuple else wanted[0]
    return kind(**filled)


def test_a_line_in_logfmt():
    assert logfmt(DELIVERED) == (
        f"time=2026-09-21T14:13:20.250Z level=info kind=delivered message={format_id(MESSAGE)} number=0 "
        'recipient=b@example.org destination=example.org host=mx.example.org reply="250 2.2.0 Ok: queued" delay=0.500'
    )


def test_a_line_in_json():
    assert as_json(DELIVERED) == {
        "time": "2026-09-21T14:13:20.250Z",
        "level": "info",
        "kind": "delivered",
        "message": format_id(MESSAGE),
        "number": 0,
        "recipient": "b@example.org",
        "destination": "example.org",
        "host": "mx.example.org",
        "reply": "250 2.2.0 Ok: queued",
        "delay": 0.5,
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_fact_shows_all_its_fields(kind):
    fact = sample(kind)
    names = [field.name for field in msgspec.structs.fields(kind) if field.name != "at"]
    assert list(as_json(fact)) == ["time", "level", "kind", *names]
    shown = shlex.split(logfmt(fact))
    assert [part.partition("=")[0] for part in shown] == ["time", "level", "kind", *names]
    for name, value in as_json(fact).items():
        if name in ("message", "report", "session"):
            assert re.fullmatch("[0-9a-z]{13}", value)
        if name == "retry_at":
            assert value == format_time(AT)


def test_times_roll_over():
    assert [format_time(at) for at in (0.0, 59.9996, 60.0, 1_767_225_599.999)] == [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:59.999Z",
        "1970-01-01T00:01:00.000Z",
        "2025-12-31T23:59:59.999Z",
    ]


@pytest.mark.parametrize(
    ("fact", "level"),
    [
        (sample(facts.Connected), Level.DEBUG),
        (DELIVERED, Level.INFO),
        (Trouble(at=AT, what="disk", why="full"), Level.WARNING),
        (Trouble(at=AT, what="disk", why="full", over=True), Level.INFO),
        (sample(facts.Damaged), Level.ERROR),
        (SessionBroke(at=AT, session=SessionId(1), listener="l", client="c", why="w"), Level.INFO),
        (SessionBroke(at=AT, session=SessionId(1), listener="l", client="c", why="w", ours=True), Level.ERROR),
    ],
)
def test_levels_and_the_least_that_is_written(fact, level):
    assert level_of(fact) is level
    assert as_json(fact)["level"] == level.name.lower()
    for least in Level:
        assert (LogLines("logfmt", least).line(fact) is None) == (level < least)


DANGEROUS = st.lists(
    st.sampled_from(
        ['"', "\\", '" level=error x="', "\r\n", "\n", "\x00", "\x1b[31m", "\x9b", "=", " ", "\u202e", "\u2028",
         "\udc80", "\x7f", "é", "日本", "a", "kind=delivered", "😀"]
    )
    | st.text(max_size=3)
).map("".join)  # fmt: skip


@given(DANGEROUS)
def test_nothing_breaks_out_of_a_value(why):
    fact = Stopped(at=AT, why=why)
    assert as_json(fact).get("why", "") == why
    line = logfmt(fact)
    assert line.isprintable()
    head, _, value = line.partition(" why=")
    assert head == "time=2026-09-21T14:13:20.250Z level=info kind=stopped"
    if value.startswith('"'):
        assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', value)
        assert value[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape") == why
    else:
        assert value == why
        assert not set(value) & set(' "=\\')


@pytest.mark.parametrize("form", ["logfmt", "json"])
@pytest.mark.parametrize("why", ["x" * 100_000, "\\" * 100_000, "\u202e" * 100_000, "é" * 100_000])
def test_lines_are_bounded(form, why):
    line = LogLines(form).line(Stopped(at=AT, why=why))
    assert len(line) <= LINE_MAX
    if form == "json":
        assert json.loads(line)["why"].endswith("...")
    else:
        assert line.endswith(b'..."') or b"x..." in line


@pytest.mark.parametrize("form", ["logfmt", "json"])
@pytest.mark.parametrize("item", ["a@example.org", "\u202e" * 400])
def test_long_lists_are_bounded_and_counted(form, item):
    line = LogLines(form).line(Started(at=AT, version="1", listeners=(item,) * 1000, waiting=0))
    assert len(line) <= LINE_MAX
    if item == "a@example.org":
        assert b"+980" in line
    if form == "json":
        assert json.loads(line)["kind"] == "started"


@pytest.mark.parametrize("form", ["logfmt", "json"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_kind_makes_a_line_too_long_whatever_stands_in_it(form, kind):
    fact = sample(kind)
    for name in fact.__struct_fields__:
        if isinstance(getattr(fact, name), str):
            fact = msgspec.structs.replace(fact, **{name: "\U0001f600" * 5000})
        elif isinstance(getattr(fact, name), tuple):
            fact = msgspec.structs.replace(fact, **{name: ("\U0001f600" * 5000,) * 50})
        elif isinstance(getattr(fact, name), Reply):
            fact = msgspec.structs.replace(fact, **{name: Reply(550, (1, 1), "\U0001f600" * 5000)})
    line = LogLines(form, Level.DEBUG).line(fact)
    assert len(line) + 1 <= 4096
    assert form == "logfmt" or json.loads(line)["kind"]


def test_empty_fields_are_left_out_but_not_counts():
    line = logfmt(Started(at=AT, version="", listeners=(), waiting=0))
    assert line.endswith(" kind=started waiting=0")
