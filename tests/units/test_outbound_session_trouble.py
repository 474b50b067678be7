"""A session when things go wrong half way: content that breaks off, next hops that speak too early, TLS, cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trustme
from tests.units.test_outbound_session import CONTENT, ENVELOPE, NextHop, play, shape

from postroad.core.envelope import Body, Envelope
from postroad.core.outcome import AttemptError, Scope, Stage
from postroad.net.errors import StreamBroken
from postroad.outbound.content import PIECE_OCTETS, ContentSource, ContentTrouble
from postroad.outbound.session import DeliveryResult, NextHopSession, Timeouts, open_session
from postroad.smtp.client_fit import Question, Traits
from postroad.testing.memory_stream import stream_pair

LARGE = b"Subject: x\r\n\r\n" + b".line\r\n" * 100_000
ENDS = (EOFError, OSError)  # closed or reset, as the next hop sees it
TAKEN = b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n354 Go\r\n"


class Stored:
    """A content on a disk: read in pieces of any size, told to break at some octet."""

    def __init__(self, content: bytes, *, piece: int = PIECE_OCTETS, breaks_at: int | None = None) -> None:
        self.content = content if breaks_at is None else content[:breaks_at]
        self.size = len(content)
        self.piece = piece
        self.largest = 0
        self.breaks_with: OSError | None = None

    async def read(self, offset: int, octets_max: int) -> bytes:
        await asyncio.sleep(0)
        self.largest = max(self.largest, octets_max)
        if self.breaks_with is not None and offset:
            raise self.breaks_with
        return self.content[offset : offset + min(octets_max, self.piece)]

    def close(self) -> None:
        raise AssertionError("whoever opened it closes it")


async def start(other: NextHop) -> None:
    await other.greet()
    await other.until(b"DATA\r\n")
    await other.say(TAKEN)


@pytest.mark.parametrize("piece", [1, 3, 7, 4096])
def test_content_from_a_disk_is_stuffed_across_its_pieces(piece: int) -> None:
    content = b"Subject: x\r\n\r\n.\r\n..\r\n\r\n.a\r\n" * 5

    async def hop(other: NextHop) -> None:
        await start(other)
        await other.until(b"\r\n.\r\n")
        await other.say(b"250 2.0.0 Queued\r\n")

    async def work(session: NextHopSession) -> None:
        result = await session.deliver(ENVELOPE, [0, 1], ContentSource(Stored(content, piece=piece)))
        assert shape(result) == [(1, 550, Stage.RCPT), (0, 250, Stage.DOT)]

    wire = play(hop, work).heard.partition(b"DATA\r\n")[2]
    assert wire == content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


@pytest.mark.parametrize("how", ["short", "unreadable"])
def test_a_content_that_breaks_off_is_never_ended(how: str) -> None:
    async def hop(other: NextHop) -> None:
        await start(other)
        with pytest.raises(ENDS):
            await other.until(b"\r\n.\r\n")

    async def work(session: NextHopSession) -> None:
        stored = Stored(LARGE, breaks_at=300_000 if how == "short" else None)
        stored.breaks_with = OSError(5, "Input/output error") if how == "unreadable" else None
        result = await session.deliver(ENVELOPE, [0, 1], ContentSource(stored))
        assert shape(result) == [(1, 550, Stage.RCPT)]
        error = result.error
        assert error is not None
        assert error.reply is not None
        assert (error.scope, error.reply.status, error.stage) == (Scope.MESSAGE, "4.3.0", Stage.DATA)
        assert not session.is_usable
        assert stored.largest == PIECE_OCTETS

    assert not play(hop, work).heard.endswith(b"\r\n.\r\n")


@pytest.mark.parametrize(
    ("said", "results", "broke"),
    [
        (b"552 5.3.4 Too big\r\n", [(1, 550, Stage.RCPT), (0, 552, Stage.DATA)], False),
        (b"250 2.0.0 Queued\r\n", [(1, 550, Stage.RCPT)], True),
        (b"421 4.3.2 Closing\r\n", [(1, 550, Stage.RCPT)], True),
        (b"", [(1, 550, Stage.RCPT)], True),
    ],
    ids=["refused", "taken before the end", "421", "gone"],
)
@pytest.mark.parametrize("closes", [True, False])
def test_an_answer_amid_the_content(said: bytes, results: list[tuple[int, int, Stage]], broke: bool, closes) -> None:
    """What refuses counts. What takes a content that has not ended is a lie, and nobody has the message for it."""
    if not said and not closes:
        return

    async def hop(other: NextHop) -> None:
        await start(other)
        await other.until(b"..line\r\n" * 1000)
        await other.say(said)
        if closes:
            other.stream.close()
        else:
            with pytest.raises(ENDS):
                await other.until(b"\r\n.\r\n")

    async def work(session: NextHopSession) -> None:
        result = await session.deliver(ENVELOPE, [0, 1], ContentSource(LARGE if closes else Stored(LARGE)))
        assert shape(result) == results
        assert (result.error is not None) is broke
        assert not session.is_usable

    assert not play(hop, work).heard.endswith(b"\r\n.\r\n")


def test_an_answer_behind_354_is_not_for_the_content() -> None:
    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"DATA\r\n")
        await other.say(TAKEN + b"250 2.0.0 Queued\r\n")
        with pytest.raises(ENDS):
            await other.until(b"Subject")

    async def work(session: NextHopSession) -> None:
        result = await session.deliver(ENVELOPE, [0, 1], ContentSource(CONTENT))
        assert shape(result) == [(1, 550, Stage.RCPT)]
        assert result.error is not None
        assert not session.is_usable

    play(hop, work)


def test_a_large_chunk_goes_as_it_is_and_nothing_follows_it() -> None:
    content = b"Subject: x\r\n\r\n" + b".line\r\n" * 50_000 + b"no end"

    async def hop(other: NextHop) -> None:
        await other.say(b"220 mx\r\n")
        await other.until(b"EHLO relay.example.org\r\n")
        await other.say(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
        for _ in range(2):
            await other.until(b"carol@example.net>\r\n")
            await other.say(b"250 Ok\r\n" * 3)
            await other.until(b"no end")
            await other.say(b"250 2.0.0 Kept\r\n")

    async def work(session: NextHopSession) -> None:
        for source in (ContentSource(Stored(content)), ContentSource(content)):
            result = await session.deliver(ENVELOPE, [0, 1], source)
            assert shape(result) == [(0, 250, Stage.DOT), (1, 250, Stage.DOT)]
            assert session.is_usable

    said = b"BDAT %d LAST\r\n" % len(content) + content
    heard = play(hop, work).heard
    assert heard.count(said) == 2
    assert heard.endswith(said)
    assert heard.count(said + b"MAIL") == 1


def test_a_refused_chunk_amid_its_octets() -> None:
    async def hop(other: NextHop) -> None:
        await other.say(b"220 mx\r\n")
        await other.until(b"EHLO relay.example.org\r\n")
        await other.say(b"250-mx\r\n250-CHUNKING\r\n250 BINARYMIME\r\n")
        for command, answer in (
            (b"MAIL", b"250 Ok\r\n"),
            (b"RCPT", b"250 Ok\r\n"),
            (b"BDAT", b"552 5.3.4 Too big\r\n"),
        ):
            await other.until(command)
            await other.until(b"\r\n")
            await other.say(answer)
        other.stream.close()

    async def work(session: NextHopSession) -> None:
        envelope = Envelope(None, ENVELOPE.recipients[:1], body=Body.BINARY)
        result = await session.deliver(envelope, [0], ContentSource(Stored(b"\0" * 3_000_000)))
        assert [(one.reply.code, one.stage) for one in result.results] == [(552, Stage.DATA)]
        assert result.error is None
        assert not session.is_usable

    assert b"BDAT 3000000 LAST\r\n" in play(hop, work).heard


def test_a_421_is_heard_even_where_writing_fails() -> None:
    opened, gone = asyncio.Event(), asyncio.Event()

    async def hop(other: NextHop) -> None:
        await other.greet()
        await opened.wait()
        await other.say(b"421 4.3.2 Shutting down\r\n")
        for _ in range(5):
            await asyncio.sleep(0)
        other.stream.abort()
        await other.stream.wait_closed()
        gone.set()

    async def work(session: NextHopSession) -> None:
        opened.set()
        await gone.wait()
        await asyncio.sleep(0)
        with pytest.raises(StreamBroken):
            await session.stream.write(b"NOOP\r\n")
        result = await session.deliver(ENVELOPE, [0, 1], ContentSource(CONTENT))
        assert result.error is not None
        assert result.error.reply is not None
        assert result.error.reply.code == 421
        await session.quit()  # says nothing, raises nothing

    play(hop, work)


def test_a_reply_that_drips_has_one_time_out() -> None:
    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"DATA\r\n")
        with contextlib.suppress(OSError):  # until it is hung up on
            while True:
                await other.say(b"2")
                await asyncio.sleep(0)

    async def work(session: NextHopSession) -> None:
        started = asyncio.get_running_loop().time()
        result = await session.deliver(ENVELOPE, [0, 1], ContentSource(CONTENT))
        assert result.error is not None
        assert result.error.why == "no answer in time"
        assert asyncio.get_running_loop().time() - started < 5

    play(hop, work, timeouts=Timeouts(mail=0.05))


@pytest.mark.parametrize("mark", [b"MAIL", b"\r\n.\r\n"])
def test_cancelled_it_drops_the_connection(mark: bytes) -> None:
    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"DATA\r\n")
        if mark != b"MAIL":
            await other.say(TAKEN)
            await other.until(mark)
        task.cancel()
        with pytest.raises(ENDS):
            await other.until(b"never")

    async def work(session: NextHopSession) -> None:
        nonlocal task
        task = asyncio.ensure_future(session.deliver(ENVELOPE, [0, 1], ContentSource(CONTENT)))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not session.is_usable

    task: asyncio.Future[DeliveryResult]
    play(hop, work)


def test_cancelled_at_the_greeting_it_drops_the_connection() -> None:
    async def both() -> None:
        ours, theirs = stream_pair()
        opening = asyncio.ensure_future(open_session(ours, hello_name="c"))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        with pytest.raises(OSError, match="reset"):
            await theirs.read()

    asyncio.run(both())


# --- TLS ------------------------------------------------------------------------------------------------------

AUTHORITY = trustme.CA()


def server_context(name: str = "mx.example.net") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name).configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return context


def starting(
    answer: bytes, then: Callable[[NextHop], Awaitable[None]] | None = None
) -> Callable[[NextHop], Awaitable[None]]:
    async def hop(other: NextHop) -> None:
        await other.greet()
        await other.until(b"STARTTLS\r\n")
        await other.say(answer)
        if then is not None:
            await then(other)

    return hop


def test_starttls_says_hello_again_and_forgets_what_was_offered() -> None:
    async def then(other: NextHop) -> None:
        await other.stream.start_tls(server_context(), server_side=True, timeout=5)
        await other.until(b"EHLO relay.example.org\r\n")
        await other.say(b"250-mx.example.net\r\n250 SIZE 100\r\n")
        await other.until(b"QUIT\r\n")
        await other.say(b"221 Bye\r\n")

    async def work(session: NextHopSession) -> None:
        assert session.extensions.pipelining
        await session.start_tls(client_context(), "mx.example.net")
        assert (session.extensions.pipelining, session.extensions.size_max) == (False, 100)
        assert session.tls.startswith("TLSv1.")
        assert session.is_usable
        await session.quit()

    play(starting(b"220 Go\r\n", then), work)


def test_starttls_refused_leaves_the_session_as_it_was() -> None:
    async def then(other: NextHop) -> None:
        await other.until(b"QUIT\r\n")
        await other.say(b"221 Bye\r\n")

    async def work(session: NextHopSession) -> None:
        with pytest.raises(AttemptError) as raised:
            await session.start_tls(client_context(), "mx.example.net")
        assert raised.value.reply is not None
        assert (raised.value.scope, raised.value.stage, raised.value.reply.code) == (Scope.HOST, Stage.TLS, 454)
        assert session.is_usable
        assert session.extensions.pipelining
        await session.quit()

    play(starting(b"454 4.7.0 Not now\r\n", then), work)


def test_a_handshake_that_fails_ends_the_session() -> None:
    async def then(other: NextHop) -> None:
        with contextlib.suppress(OSError):  # TLS 1.3: the server learns of it with its next read
            await other.stream.start_tls(server_context("other.example.net"), server_side=True, timeout=5)
            await other.stream.read()

    async def work(session: NextHopSession) -> None:
        with pytest.raises(AttemptError) as raised:
            await session.start_tls(client_context(), "mx.example.net")
        assert (raised.value.scope, raised.value.stage, raised.value.reply) == (Scope.HOST, Stage.TLS, None)
        assert "certificate" in raised.value.why
        assert not session.is_usable

    play(starting(b"220 Go\r\n", then), work)


@pytest.mark.parametrize("behind", [b"250 injected\r\n", b"2"])
def test_octets_behind_the_answer_to_starttls_end_the_session(behind: bytes) -> None:
    async def work(session: NextHopSession) -> None:
        with pytest.raises(AttemptError):
            await session.start_tls(client_context(), "mx.example.net")
        assert not session.is_usable

    play(starting(b"220 Go\r\n" + behind), work)


# --- what is asked of the content -------------------------------------------------------------------------------

ALL = Question.EIGHT_BIT | Question.EIGHT_BIT_HEADER | Question.FINAL_CRLF


@pytest.mark.parametrize(
    ("content", "traits"),
    [
        (b"", Traits(final_crlf=False)),
        (b"\n", Traits(final_crlf=False)),
        (b"a: b\r\n\r\nx\r\n", Traits()),
        (b"a: b\r\n\r\nx", Traits(final_crlf=False)),
        (b"a: b\r\n\r\n\xff\r\n", Traits(eight_bit=True)),
        (b"a: \xff\r\n\r\nx\r\n", Traits(eight_bit=True, eight_bit_header=True)),
        (b"a: \xff\r\n", Traits(eight_bit=True, eight_bit_header=True)),
        (b"a: b\r\n\r\n" + b"x" * PIECE_OCTETS + b"\xff\r\n", Traits(eight_bit=True)),
    ],
    ids=range(8),
)
def test_traits(content: bytes, traits: Traits) -> None:
    pieces = (1, 3, PIECE_OCTETS) if len(content) < 100 else (PIECE_OCTETS,)
    for source in [ContentSource(content), *(ContentSource(Stored(content, piece=piece)) for piece in pieces)]:
        assert asyncio.run(source.traits(ALL)) == traits
    assert asyncio.run(ContentSource(content).traits(Question.NONE)) == Traits()


def test_traits_of_a_content_that_cannot_be_read() -> None:
    with pytest.raises(ContentTrouble):
        asyncio.run(ContentSource(Stored(b"x" * 100, breaks_at=0)).traits(ALL))
