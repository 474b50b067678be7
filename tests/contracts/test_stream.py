"""The contract of net.stream.Stream, for every implementation on every loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.contracts.streams import LOOPS, PAIRS, run

from postroad.net.stream import READ_MAX, Stream, StreamBroken

Play = Callable[[Stream, Stream], Coroutine[Any, Any, None]]
KINDS = [(loop, kind) for kind in PAIRS for loop in LOOPS]


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(kind))
def play(request: pytest.FixtureRequest) -> Callable[[Play], None]:
    loop, kind = request.param

    def player(script: Play) -> None:
        async def work() -> None:
            async with PAIRS[kind]() as (client, server):
                await script(client, server)

        run(loop, work())

    return player


async def read_exactly(stream: Stream, octets: int) -> bytes:
    got = b""
    while len(got) < octets:
        piece = await stream.read()
        assert piece
        assert len(piece) <= READ_MAX
        got += piece
    return got


def test_octets_arrive_in_order_and_whole(play):
    async def script(client, server):
        await client.write(b"EHLO c\r\n")
        assert await server.read() == b"EHLO c\r\n"
        await server.write(b"250-relay\r\n")
        await server.write(b"250 SIZE\r\n")
        assert await read_exactly(client, 21) == b"250-relay\r\n250 SIZE\r\n"

    play(script)


def test_a_read_waits_for_octets(play):
    async def script(client, server):
        reading = asyncio.ensure_future(server.read())
        await asyncio.sleep(0)
        assert not reading.done()
        await client.write(b"x")
        assert await reading == b"x"

    play(script)


def test_unread_tells_of_octets_that_wait(play):
    async def script(client, server):
        assert not server.unread
        await client.write(b"x" * (READ_MAX + 10))
        await server.read()
        while not server.unread:
            await asyncio.sleep(0)
        await read_exactly(server, 1)

    play(script)


def test_much_is_carried_both_ways_at_once(play):
    octets = bytes(range(256)) * 8192  # 2 MiB

    async def send(stream):
        for start in range(0, len(octets), 50_000):
            await stream.write(octets[start : start + 50_000])

    async def script(client, server):
        async with asyncio.TaskGroup() as group:
            group.create_task(send(client))
            group.create_task(send(server))
            there = group.create_task(read_exactly(server, len(octets)))
            back = group.create_task(read_exactly(client, len(octets)))
        assert there.result() == octets
        assert back.result() == octets

    play(script)


def test_a_writer_waits_for_a_reader_and_memory_is_bounded(play):
    async def script(client, server):
        sent = 0

        async def send():
            nonlocal sent
            while True:
                await client.write(bytes(32_768))
                sent += 32_768

        sending = asyncio.ensure_future(send())
        before = -1
        while before != sent:  # until nothing moves any more
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
        assert sent < 16 * 1024 * 1024  # what the kernel takes, and our own bounds
        await read_exactly(server, sent)
        while sent == before:
            await server.read()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    play(script)


def test_end_of_file_comes_after_the_last_octets_and_stays(play):
    async def script(client, server):
        await client.write(b"QUIT\r\n")
        client.close()
        assert await server.read() == b"QUIT\r\n"
        assert await server.read() == b""
        assert await server.read() == b""

    play(script)


def test_a_closed_stream_reads_end_of_file_and_refuses_to_write(play):
    async def script(client, server):
        reading = asyncio.ensure_future(client.read())
        await asyncio.sleep(0)
        client.close()
        client.close()
        assert await reading == b""
        assert await client.read() == b""
        with pytest.raises(StreamBroken):
            await client.write(b"x")
        server.close()
        await client.wait_closed()

    play(script)


def test_an_aborted_stream_breaks_what_waits(play):
    async def script(client, server):
        reading = asyncio.ensure_future(client.read())
        await asyncio.sleep(0)
        client.abort()
        with pytest.raises(StreamBroken):
            await reading
        with pytest.raises(StreamBroken):
            await client.read()
        with pytest.raises(StreamBroken):
            await client.write(b"x")
        client.write_last(b"x")
        await client.wait_closed()

    play(script)


def test_an_abort_frees_a_writer(play):
    async def script(client, server):
        async def send():
            while True:
                await client.write(bytes(65_536))

        sending = asyncio.ensure_future(send())
        for _ in range(500):
            await asyncio.sleep(0)
        assert not sending.done()
        client.abort()
        with pytest.raises(StreamBroken):
            await sending

    play(script)


def test_writing_to_a_peer_that_has_gone_ends_in_stream_broken(play):
    async def script(client, server):
        async def send():
            while True:
                await client.write(bytes(4096))
                await asyncio.sleep(0)

        server.abort()
        with pytest.raises(StreamBroken):
            await send()

    play(script)


def test_write_last_is_heard_though_the_peer_still_sends(play):
    async def script(client, server):
        await client.write(bytes(60_000))
        await server.read()
        server.write_last(b"521 5.5.2 no\r\n")
        for _ in range(20):
            await client.write(bytes(20_000))
            await asyncio.sleep(0)
        assert await client.read() == b"521 5.5.2 no\r\n"
        assert await client.read() == b""
        client.close()
        await server.wait_closed()

    play(script)


def test_write_last_lets_a_waiting_read_end(play):
    async def script(client, server):
        reading = asyncio.ensure_future(server.read())
        await asyncio.sleep(0)
        server.write_last(b"421 bye\r\n")
        assert await reading == b""
        assert await client.read() == b"421 bye\r\n"

    play(script)


def test_a_read_times_out_and_the_stream_lives_on(play):
    async def script(client, server):
        with pytest.raises(TimeoutError):
            await server.read(timeout=0.01)
        await client.write(b"late")
        assert await server.read(timeout=5) == b"late"
        with pytest.raises(TimeoutError):
            await server.read(timeout=0.01)

    play(script)


def test_a_cancelled_read_loses_nothing(play):
    async def script(client, server):
        reading = asyncio.ensure_future(server.read())
        await asyncio.sleep(0)
        reading.cancel()
        await client.write(b"kept")
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await server.read() == b"kept"

    play(script)


def test_a_peer_has_a_name(play):
    async def script(client, server):
        assert server.peer in ("unix", "127.0.0.1")
        assert (server.peer_port > 0) == (server.peer != "unix")
        assert isinstance(server.local, str)

    play(script)
