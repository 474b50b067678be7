"""What facts say to people: something for every kind, and nothing that steers a terminal."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.units.facts_world import AT, LATER, MESSAGE, attempted, delivered, received, sample

from postroad.core import facts
from postroad.core.facts import KINDS, Said
from postroad.core.ids import format_id
from postroad.core.outcome import Stage
from postroad.observe.telling import LINE_MAX, tell, tell_lines


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_has_words_that_leave_nothing_of_weight_out(kind):
    fact = sample(kind)
    text = tell(fact)
    assert text.isprintable()
    for name in ("why", "rule", "host", "client", "recipient", "who", "selection", "where", "version"):
        if hasattr(fact, name):
            marked = msgspec.structs.replace(fact, **{name: "M4RK"})
            assert "M4RK" in tell(marked), name
    if hasattr(fact, "reply"):
        assert "451 4.3.0 Later" in text


def test_the_story_of_a_message():
    first = received(0)
    deferred = facts.Deferred(
        at=AT + 1,
        message=first.message,
        number=0,
        recipient="b@example.org",
        destination="mx:example.org",
        host="mx.example.org",
        stage=Stage.RCPT,
        reply=LATER,
        attempts=1,
        retry_at=AT + 301.0,
    )
    reported = facts.Reported(
        at=AT, message=MESSAGE, report=MESSAGE, action="delayed", to="a@sender.example", recipients=("b@example.org",)
    )
    assert [tell(fact) for fact in (first, deferred, delivered(first.message, AT + 7384.0), reported)] == [
        (
            "received from 192.0.2.1 (client.example) at inside, ESMTP, no TLS: from a@sender.example to "
            "b@example.org, 5120 octets in 0.010 s (allowed by relay.networks)"
        ),
        (
            "deferred for b@example.org, attempt 1: mx.example.org said at rcpt: 451 4.3.0 Later; "
            "next try 2026-09-21T14:18:21.250Z, in 5 min 0 s"
        ),
        "delivered to b@example.org: mx.example.org has it after 2 h 3 min: 250 2.2.0 Ok: queued",
        f"reported delayed for b@example.org to a@sender.example, by message {format_id(MESSAGE)}",
    ]


def test_the_dialogue_stands_below_where_it_is_wanted():
    fact = attempted(MESSAGE, AT)
    line = (
        "attempted at mx.example.org [192.0.2.25] for smtp:mx.example.org:25, no TLS, 0.100 s, ended at dot: "
        "250 2.2.0 Ok: queued"
    )
    assert tell_lines(fact, dialogue=False) == [line]
    assert tell_lines(fact, dialogue=True) == [line, "   0.010 > MAIL FROM:<a@sender.example>", "   0.020 < 250 Ok"]


HOSTILE = st.lists(
    st.sampled_from(["\x1b[2J", "\r\n", "\n", "\x00", "\x9b", "\u202e", "\u2066", "\u2028", "\udc80", "\x7f", "é", "a"])
    | st.text(max_size=3)
).map("".join)


@given(HOSTILE)
def test_nothing_steers_a_terminal(text):
    for fact in (facts.Stopped(at=AT, why=text), sample(facts.Attempted, dialogue=(Said(0.0, False, text),))):
        assert all(line.isprintable() for line in tell_lines(fact, dialogue=True))


@pytest.mark.parametrize("text", ["x" * 10_000, "\u202e" * 10_000])
def test_lines_are_bounded(text):
    many = sample(facts.Received, recipients=(text,) * 1000)
    for fact in (facts.Stopped(at=AT, why=text), many, sample(facts.Attempted, dialogue=(Said(0.0, False, text),))):
        assert all(len(line) <= LINE_MAX for line in tell_lines(fact, dialogue=True))
