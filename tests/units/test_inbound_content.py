"""Incoming content in memory: how much of one message, and how much of all together."""

from __future__ import annotations

import asyncio

import pytest

from postroad.core.units import KIB
from postroad.inbound.content import CROWDED, OVERFULL, PIECE, ContentCollector, ContentRoom
from postroad.spool.face import SpoolFile, SpoolRefused, Why

HEAD = b"Subject: x\r\n\r\n"
LINE = b"x" * 998 + b"\r\n"


class Files:
    """A body writer that remembers what it was given."""

    def __init__(self) -> None:
        self.begun = 0
        self.pieces: list[bytes] = []
        self.discarded = 0
        self.refusal: SpoolRefused | None = None

    def begin(self) -> Files:
        self.begun += 1
        return self

    async def write(self, octets: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.pieces.append(octets)

    async def finish(self) -> SpoolFile:
        content = b"".join(self.pieces)
        return SpoolFile("body", len(content), b"")

    async def discard(self) -> None:
        self.discarded += 1


def collector(files: Files, room: ContentRoom, *, file_above: int = 256 * KIB) -> ContentCollector:
    return ContentCollector(lambda held: b"Received: here\r\n" + held, files.begin, file_above=file_above, room=room)  # type: ignore[arg-type, return-value]


async def feed(one: ContentCollector, octets: bytes) -> None:
    for start in range(0, len(octets), 10_000):
        await one.take(octets[start : start + 10_000])


def test_a_small_message_is_held_until_it_is_handed_over() -> None:
    async def work() -> None:
        files, room = Files(), ContentRoom()
        one = collector(files, room)
        await feed(one, HEAD + LINE * 100)
        assert room.octets == len(HEAD + LINE * 100)
        assert await one.finish() == b"Received: here\r\n" + HEAD + LINE * 100
        assert (room.octets, files.begun) == (0, 0)

    asyncio.run(work())


def test_a_large_one_goes_to_a_file_in_pieces() -> None:
    async def work() -> None:
        files, room = Files(), ContentRoom()
        one = collector(files, room)
        await feed(one, HEAD + LINE * 1_000)
        assert room.octets <= PIECE + 10_000
        content = await one.finish()
        assert isinstance(content, SpoolFile)
        assert b"".join(files.pieces) == b"Received: here\r\n" + HEAD + LINE * 1_000
        assert (room.octets, files.begun, files.discarded) == (0, 1, 0)
        assert max(map(len, files.pieces[1:])) <= PIECE + 10_000

    asyncio.run(work())


def test_where_all_hold_much_each_holds_less() -> None:
    async def work() -> None:
        files, room = Files(), ContentRoom()
        room.octets = CROWDED
        one = collector(files, room)
        await feed(one, HEAD + LINE * 40)
        assert files.begun == 1
        assert room.octets - CROWDED <= 20_000
        await one.finish()
        assert room.octets == CROWDED

    asyncio.run(work())


def test_a_long_header_is_put_off_where_memory_is_full() -> None:
    """The client hears of it after its final dot, and tries again."""

    async def work() -> None:
        files, room = Files(), ContentRoom()
        one = collector(files, room)
        room.octets = OVERFULL
        await feed(one, (b"X-Long: " + b"x" * 900 + b"\r\n") * 200)
        assert room.octets == OVERFULL
        await feed(one, b"\r\n" + LINE)
        with pytest.raises(SpoolRefused) as refused:
            await one.finish()
        assert refused.value.why is Why.BUSY
        assert (room.octets, files.begun) == (OVERFULL, 0)

    asyncio.run(work())


@pytest.mark.parametrize("refused", [False, True])
def test_what_is_given_up_is_not_counted(refused: bool) -> None:
    async def work() -> None:
        files, room = Files(), ContentRoom()
        if refused:
            files.refusal = SpoolRefused(Why.TROUBLE)
        one = collector(files, room)
        await feed(one, HEAD + LINE * 300)
        await one.discard()
        assert room.octets == 0
        assert files.discarded == 1

    asyncio.run(work())
