"""A session when content goes by BDAT in the same flight as the commands, and the next hop breaks off."""

from __future__ import annotations

import pytest
from tests.units.test_outbound_session import ENVELOPE, NextHop, play

from postroad.core.outcome import Stage
from postroad.outbound.content import ContentSource
from postroad.outbound.session import NextHopSession


@pytest.mark.parametrize(
    ("said", "stage"),
    [
        (b"", Stage.DOT),
        (b"250 Ok\r\n", Stage.DOT),
        (b"250 Ok\r\n250 Ok\r\n", Stage.DOT),
        (b"what?\r\n", Stage.DOT),
        (b"421 4.3.2 Shutting down\r\n", Stage.MAIL),
        (b"250 Ok\r\n421 4.3.2 Shutting down\r\n", Stage.RCPT),
    ],
)
def test_a_chunk_that_went_with_the_commands_may_be_taken_before_a_word_is_heard(said: bytes, stage: Stage) -> None:
    content = b"Subject: x\r\n\r\nno end"

    async def hop(other: NextHop) -> None:
        await other.say(b"220 mx\r\n")
        await other.until(b"EHLO relay.example.org\r\n")
        await other.say(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
        await other.until(content)
        await other.say(said)
        other.stream.close()

    async def work(session: NextHopSession) -> None:
        result = await session.deliver(ENVELOPE, [0, 1], ContentSource(content))
        assert result.error is not None
        assert result.error.stage is stage
        assert not result.results

    play(hop, work)
