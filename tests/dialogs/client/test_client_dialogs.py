"""Transcripts of our client against a scripted next hop, each played in every way in which the octets may arrive.

A transcript is named after the section of the RFC that it shows; the format is in
src/postroad/testing/scripted_peer.py. To pin a bug, write the dialog first and watch it fail.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroad.core.outcome import AttemptError
from postroad.net.stream import SocketStream
from postroad.outbound.content import ContentSource
from postroad.outbound.session import NextHopSession, open_session
from postroad.testing.memory_stream import stream_pair
from postroad.testing.play import DialogError
from postroad.testing.scripted_peer import ScriptedPeer, Transcript, parse_transcript

FOLDER = Path(__file__).parent
DIALOGS = {path.stem: path for path in sorted(FOLDER.glob("*.smtp"))}
WHOLE = 1 << 20
QUIT = "C: QUIT\nS: 221 Bye\nE:"


async def converse(transcript: Transcript, stream: SocketStream) -> list[str]:
    """Our side: the orders one after the other over one session; what came of them, as R: lines write it."""
    try:
        session = await open_session(stream, hello_name="c.example", protocol=transcript.protocol)
    except AttemptError as error:
        return [told(error)]
    results = []
    for order in transcript.orders:
        results += await deliver(session, ContentSource(order.content), order.envelope)
    await session.quit()
    return results


async def deliver(session: NextHopSession, content: ContentSource, envelope) -> list[str]:
    result = await session.deliver(envelope, range(len(envelope.recipients)), content)
    told_of = {one.number for one in result.results}
    assert (result.error is None) == (told_of == set(range(len(envelope.recipients)))), "somebody is untold of"
    assert result.error is None or not session.is_usable
    lines = [f"{one.number} {one.stage.value} {one.reply}".strip() for one in result.results]
    return lines if result.error is None else [*lines, told(result.error)]


def told(error: AttemptError) -> str:
    return f"error {error.stage.value} {error.reply or error.why}"


async def play(transcript: Transcript, piece: int) -> list[str]:
    ours, theirs = stream_pair(piece=piece)
    async with asyncio.timeout(10):
        playing = asyncio.ensure_future(ScriptedPeer(theirs).play(transcript.steps))
        conversing = asyncio.ensure_future(converse(transcript, ours))
        try:
            # Who finds something wrong ends it: the other side would wait for ever.
            await asyncio.wait({playing, conversing}, return_when=asyncio.FIRST_EXCEPTION)
            await playing
            return await conversing
        finally:
            for task in (playing, conversing):
                task.cancel()
            await asyncio.gather(playing, conversing, return_exceptions=True)
            ours.abort()
            theirs.abort()


@pytest.mark.parametrize("piece", [WHOLE, 7, 1], ids=["whole", "sevens", "octet by octet"])
@pytest.mark.parametrize("name", DIALOGS)
def test_dialog(name: str, piece: int) -> None:
    transcript = parse_transcript(DIALOGS[name].read_text(encoding="utf-8"))
    assert tuple(sorted(asyncio.run(play(transcript, piece)))) == transcript.results


HELLO = "S: 220 s.example\nC: EHLO c.example\nS: 250 s.example\n"


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ("S: 220 s.example\nC: HELO c.example", "heard b'EHLO"),
        ("S: 220 s.example\nC: EHLO c\nS: 250 x", "heard b'EHLO c.example"),
        (HELLO + "S: 250 x\n" + QUIT, "too early"),  # our client says QUIT without waiting for that line
        (HELLO + "C: NOOP", "heard b'QUIT"),
        (HELLO + "C: QUIT\nS: 221 x\nC: NOOP", "and the end"),
        (HELLO + "E:", "expected the end"),
    ],
)
def test_what_differs_from_the_transcript_is_found(steps: str, found: str) -> None:
    with pytest.raises(DialogError, match=found):
        asyncio.run(play(parse_transcript(steps), WHOLE))


@pytest.mark.parametrize("text", ["250 Ok", "Q: x", "O: to=b@b.example size=1", "O: sender=a@a.example"])
def test_a_wrong_transcript_is_refused(text: str) -> None:
    with pytest.raises(DialogError, match="line 1"):
        parse_transcript(text)
