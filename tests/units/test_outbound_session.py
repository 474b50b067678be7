"""The pump of one outbound connection, over streams in memory, against a next hop played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from postroad.core.address import Mailbox, parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.outcome import AttemptError, Scope, Stage
from postroad.net.stream import SocketStream, StreamBroken
from postroad.outbound.content import ContentSource
from postroad.outbound.session import DeliveryResult, NextHopSession, Timeouts, open_session
from postroad.testing.memory_stream import stream_pair

SOON = Timeouts(greeting=0.02, hello=0.02, mail=0.02, rcpt=0.02, data=0.02, block=0.02, dot=0.02, quit=0.02)
HELLO = b"250-mx.example.net\r\n250-PIPELINING\r\n250-DSN\r\n250 STARTTLS\r\n"
ENVELOPE = Envelope(
    Mailbox("alice", "example.org"),
    tuple(Recipient(parse_mailbox(address)) for address in ("bob@example.net", "carol@example.net")),
)
CONTENT = b"Subject: x\r\n\r\n.dot\r\n"


class NextHop:
    """The other side: hears up to a mark, says what it is told to."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self.heard = b""
        self._seen = 0

    async def until(self, mark: bytes) -> None:
        while (found := self.heard.find(mark, self._seen)) < 0:
            octets = await self.stream.read()
            if not octets:
                raise EOFError(self.heard)
            self.heard += octets
        self._seen = found + len(mark)

    async def say(self, octets: bytes) -> None:
        await self.stream.write(octets)

    async def greet(self) -> None:
        await self.say(b"220 mx.example.net\r\n")
        await self.until(b"EHLO relay.example.org\r\n")
        await self.say(HELLO)


def play(
    hop: Callable[[NextHop], Awaitable[None]],
    work: Callable[[NextHopSession], Awaitable[None]],
    *,
    timeouts: Timeouts | None = None,
    piece: int = 100_000,
) -> NextHop:
    """Run our side and the next hop's side; return the next hop with what it heard."""

    async def both() -> NextHop:
        async with asyncio.timeout(20):
            ours, theirs = stream_pair(piece=piece)
            other = NextHop(theirs)
            playing = asyncio.ensure_future(hop(other))
            session = await open_session(
                ours, hello_name="relay.example.org", timeouts=timeouts or Timeouts(), host="mx"
            )
            await work(session)
            await playing
            session.abort()
            theirs.abort()
            return other

    return asyncio.run(both())


async def delivered(session: NextHopSession, content: bytes = CONTENT) -> DeliveryResult:
    return await session.deliver(ENVELOPE, [0, 1], ContentSource(content))


def shape(result: DeliveryResult) -> list[tuple[int, int, Stage]]:
    return [(one.number, one.reply.code, one.stage) for one in result.results]


@pytest.mark.parametrize("piece", [1, 5, 100_000])
def test_two_messages_over_one_connection(piece: int) -> None:
    async def hop(other: NextHop) -> None:
        await other.greet()
        for _ in range(2):
            await other.until(b"DATA\r\n")
            await other.say(b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n354 Go\r\n")
            await other.until(b"\r\n.\r\n")
            await other.say(b"250 2.0.0 Queued\r\n")
        await other.until(b"QUIT\r\n")
        await other.say(b"221 Bye\r\n")

    async def work(session: NextHopSession) -> None:
        for _ in range(2):
            result = await delivered(session)
            assert shape(result) == [(1, 550, Stage.RCPT), (0, 250, Stage.DOT)]
            assert (result.error, result.offers_dsn, session.is_usable) == (None, True, True)
        assert session.messages == 2
        await session.quit()
        assert not session.is_usable

    other = play(hop, work, piece=piece)
    message = (
        b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nRCPT TO:<carol@example.net>\r\nDATA\r\n"
        b"Subject: x\r\n\r\n..dot\r\n.\r\n"
    )
    assert other.heard == b"EHLO relay.example.org\r\n" + message * 2 + b"QUIT\r\n"


def test_a_connection_lost_after_the_content_leaves_no_verdict() -> None:
    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"DATA\r\n")
        await other.say(b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n354 Go\r\n")
        await other.until(b"\r\n.\r\n")
        other.stream.close()

    async def work(session: NextHopSession) -> None:
        result = await delivered(session)
        assert shape(result) == [(1, 550, Stage.RCPT)]
        assert result.error is not None
        assert (result.error.scope, result.error.reply, result.error.stage) == (Scope.STREAM, None, Stage.DOT)
        assert not session.is_usable

    play(hop, work)


@pytest.mark.parametrize(
    ("heard", "stage"), [(b"MAIL", Stage.MAIL), (b"DATA\r\n", Stage.MAIL)], ids=["at once", "after the flight"]
)
def test_silence_ends_at_the_time_out(heard: bytes, stage: Stage) -> None:
    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(heard)

    async def work(session: NextHopSession) -> None:
        result = await delivered(session)
        assert result.error is not None
        assert (result.error.reply, result.error.stage, result.error.why) == (None, stage, "no answer in time")

    play(hop, work, timeouts=SOON)


def test_a_421_is_heard_and_the_session_is_done_with() -> None:
    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"MAIL")
        await other.say(b"421 4.3.2 Closing\r\n")
        other.stream.close()

    async def work(session: NextHopSession) -> None:
        result = await delivered(session)
        assert result.error is not None
        assert result.error.reply is not None
        assert (result.error.reply.code, result.error.stage) == (421, Stage.MAIL)
        assert not session.is_usable

    play(hop, work)


@pytest.mark.parametrize("code", [421, 554])
def test_a_greeting_that_refuses_is_of_the_host(code: int) -> None:
    async def hop(other: NextHop) -> None:
        await other.say(b"%d No\r\n" % code)
        await other.until(b"QUIT\r\n")

    async def work(session: NextHopSession) -> None:
        raise AssertionError("there is no session")

    with pytest.raises(AttemptError) as raised:
        play(hop, work)
    error = raised.value
    assert error.reply is not None
    assert (error.scope, error.reply.code, error.stage) == (Scope.HOST, code, Stage.GREETING)


def test_a_next_hop_that_speaks_while_idle_is_not_used_again() -> None:
    spoken = asyncio.Event()

    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.say(b"421 4.4.2 Idle too long\r\n")
        spoken.set()

    async def work(session: NextHopSession) -> None:
        await spoken.wait()
        while session.is_usable:
            await asyncio.sleep(0)
        result = await delivered(session)
        assert result.error is not None
        assert shape(result) == []

    play(hop, work)


def test_a_quit_that_is_broken_off_drops_the_connection() -> None:
    has_quit = asyncio.Event()

    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"QUIT\r\n")
        has_quit.set()
        with pytest.raises((EOFError, StreamBroken)):
            await other.until(b"\n")

    async def work(session: NextHopSession) -> None:
        quitting = asyncio.ensure_future(session.quit())
        await has_quit.wait()
        quitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await quitting
        assert not session.is_usable

    play(hop, work)


def test_a_large_content_that_the_next_hop_does_not_take_ends_at_the_time_out() -> None:
    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"DATA\r\n")
        await other.say(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n")

    async def work(session: NextHopSession) -> None:
        result = await delivered(session, b"x" * 4_000_000 + b"\r\n")
        assert shape(result) == []
        assert result.error is not None
        assert result.error.reply is None
        assert not session.is_usable

    play(hop, work, timeouts=SOON)


@pytest.mark.parametrize(("said", "expected"), [(b"552 5.3.4 Too big\r\n", [552, 552]), (b"250 2.0.0 Queued\r\n", [])])
def test_an_answer_before_the_content_has_ended(said: bytes, expected: list[int]) -> None:
    """A refusal holds; a 250 for half a content is not taken as delivered."""

    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"DATA\r\n")
        await other.say(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n")
        await other.until(b"x" * 1000)
        await other.say(said)
        with pytest.raises((EOFError, OSError)):
            await other.until(b"\r\n.\r\n")

    async def work(session: NextHopSession) -> None:
        source = ContentSource(Slow())  # type: ignore[arg-type]
        result = await session.deliver(ENVELOPE, [0, 1], source)
        assert [one.reply.code for one in result.results] == expected
        assert (result.error is None) is bool(expected)
        assert not session.is_usable

    class Slow:
        """Read only as fast as turns of the loop go by: the answer is there before its end."""

        size = 200_000

        async def read(self, offset: int, octets_max: int) -> bytes:
            for _ in range(5):
                await asyncio.sleep(0)
            return b"x" * min(2000, octets_max)

        def close(self) -> None:
            pass

    play(hop, work)
