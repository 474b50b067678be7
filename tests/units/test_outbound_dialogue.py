"""What is kept of a dialogue with a next hop: the beginning and the end, no secret, no content."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.units.test_outbound_session import CONTENT, SOON, NextHop, delivered, play

from postroad.core.facts import Said
from postroad.outbound.dialogue import ENTRIES_MAX, TEXT_MAX, Dialogue
from postroad.outbound.session import DeliveryResult, NextHopSession

OK = b"250 2.2.0 Ok\r\n"
PASSWORD = base64.b64encode(b"\0user\0hunter2")


class Time:
    now = 100.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def shown(said: tuple[Said, ...]) -> list[str]:
    return [f"{'>' if one.by_us else '<'} {one.text}" for one in said]


def test_what_is_said_and_heard_in_one_go_is_one_entry() -> None:
    dialogue = Dialogue(Time())
    dialogue.say(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    for octets in (OK, OK[:3], OK[3:] + b"354 Go\r\n"):
        dialogue.hear(octets)
    dialogue.content(5120)
    dialogue.hear(b"250-2.0.0 Queued\r\n250 2.0.0 as 1\r\n")
    assert dialogue.take() == (
        Said(0.5, True, "MAIL FROM:<a@b.example> | RCPT TO:<c@d.example> | DATA"),
        Said(1.0, False, "250 2.2.0 Ok | 250 2.2.0 Ok | 354 Go"),
        Said(2.5, True, "(5120 octets)"),
        Said(3.0, False, "250-2.0.0 Queued | 250 2.0.0 as 1"),
    )


def test_content_behind_a_chunk_is_left_out() -> None:
    dialogue = Dialogue(Time())
    dialogue.say(b"BDAT 12 LAST\r\nAUTH secret!", 12)
    assert shown(dialogue.take()) == ["> BDAT 12 LAST | (12 octets)"]


@pytest.mark.parametrize("together", [True, False], ids=["in one flight", "apart"])
def test_a_thousand_recipients_leave_the_beginning_and_the_end(together: bool) -> None:
    dialogue = Dialogue(Time())
    dialogue.say(b"MAIL FROM:<a@b.example>\r\n")
    dialogue.hear(OK)
    lines = [b"RCPT TO:<user%d@example.org>\r\n" % number for number in range(1000)]
    step = 100 if together else 1
    for first in range(0, 1000, step):
        dialogue.say(b"".join(lines[first : first + step]))
        dialogue.hear(OK * step)
    dialogue.say(b"DATA\r\n")
    dialogue.hear(b"354 Go\r\n")
    dialogue.content(99)
    dialogue.hear(b"250 Queued\r\n")
    said = dialogue.take()
    assert len(said) <= ENTRIES_MAX
    assert sum(len(one.text) for one in said) <= TEXT_MAX
    assert shown(said)[:2] == ["> MAIL FROM:<a@b.example>", "< 250 2.2.0 Ok"]
    assert "RCPT TO:<user0@example.org>" in said[2].text
    assert [one.text for one in said[-4:]] == ["DATA", "354 Go", "(99 octets)", "250 Queued"]
    assert said[-5].text.startswith("... ")
    if not together:
        told = len(said) - 1 - 6
        assert said[-5].text == f"... {2000 - told} more"


ANYTHING = st.one_of(
    st.tuples(st.just("say"), st.text(max_size=3000)),
    st.tuples(st.just("hear"), st.text(max_size=3000)),
    st.tuples(st.just("content"), st.integers(0, 2**40)),
)


@given(st.lists(ANYTHING, max_size=150))
def test_it_is_bounded_whatever_is_said(said: list[tuple[str, object]]) -> None:
    dialogue = Dialogue(Time())
    for verb, what in said:
        if verb == "say":
            dialogue.say(f"{what}\r\n".encode())
        elif verb == "hear":
            dialogue.hear(f"{what}\r\n".encode())
        else:
            dialogue.content(int(str(what)))
    taken = dialogue.take()
    assert len(taken) <= ENTRIES_MAX
    assert sum(len(one.text) for one in taken) <= TEXT_MAX + 20
    assert [one.seconds for one in taken] == sorted(one.seconds for one in taken)


@given(
    verb=st.sampled_from([b"AUTH PLAIN ", b"auth login ", b"AUTH XOAUTH2\t", b"aUtH  CRAM-MD5  "]),
    before=st.sampled_from([b"", b"EHLO c.example\r\n", b"RSET\r\nNOOP\r\n"]),
    more=st.integers(0, 4),
)
def test_a_secret_never_gets_in(verb: bytes, before: bytes, more: int) -> None:
    dialogue = Dialogue(Time())
    dialogue.say(before + verb + PASSWORD + b"\r\n" + PASSWORD + b"\r\n")
    for _ in range(more):
        dialogue.hear(b"334 " + PASSWORD + b"\r\n")
        dialogue.say(PASSWORD + b"\r\n")
    dialogue.hear(b"535 5.7.8 Bad credentials\r\n")
    dialogue.say(b"QUIT\r\n")
    text = str(dialogue.take())
    assert PASSWORD.decode() not in text
    assert "hunter2" not in text
    assert "AUTH" in text.upper()
    assert "535 5.7.8 Bad credentials" in text
    assert text.endswith("text='QUIT'),)") or "text='QUIT')" in text, "after the verdict nothing is hidden"


# --- what the session notes ---


async def queue(other: NextHop) -> None:
    await other.until(b"DATA\r\n")
    await other.say(b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n354 Go\r\n")
    await other.until(b"\r\n.\r\n")
    await other.say(b"250 2.0.0 Queued\r\n")


def test_the_first_message_begins_with_the_greeting_the_next_one_with_mail() -> None:
    results: list[DeliveryResult] = []

    async def hop(other: NextHop) -> None:
        await other.greet()
        await queue(other)
        await queue(other)

    async def work(session: NextHopSession) -> None:
        results.extend([await delivered(session), await delivered(session)])

    play(hop, work)
    flight = "> MAIL FROM:<alice@example.org> | RCPT TO:<bob@example.net> | RCPT TO:<carol@example.net> | DATA"
    message = [flight, "< 250 Ok | 250 Ok | 550 5.1.1 No | 354 Go", f"> ({len(CONTENT)} octets)", "< 250 2.0.0 Queued"]
    hello = [
        "< 220 mx.example.net",
        "> EHLO relay.example.org",
        "< 250-mx.example.net | 250-PIPELINING | 250-DSN | 250 STARTTLS",
    ]
    assert shown(results[0].dialogue) == hello + message
    assert shown(results[1].dialogue) == message


def test_a_silence_is_told_and_so_is_a_goodbye() -> None:
    async def silent(other: NextHop) -> None:
        await other.greet()
        await other.until(b"DATA\r\n")
        await other.say(b"250 Ok\r\n")

    async def parting(other: NextHop) -> None:
        await other.greet()
        await other.until(b"DATA\r\n")
        await other.say(b"421 4.3.2 Closing\r\n")

    for hop, last in ((silent, ["< 250 Ok", "> (no answer in time)"]), (parting, ["< 421 4.3.2 Closing"])):
        results: list[DeliveryResult] = []

        async def work(session: NextHopSession, results: list[DeliveryResult] = results) -> None:
            results.append(await delivered(session))

        play(hop, work, timeouts=SOON)
        assert shown(results[0].dialogue)[4:] == last
