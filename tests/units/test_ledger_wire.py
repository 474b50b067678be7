"""The wire: frames, batches, bounds; what is not as agreed ends the connection and nothing else."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.streams import run
from tests.world.waiting import soon

from postroad.core.faces import RecordRow
from postroad.ledger import wire
from postroad.testing.simulated_loop import run_simulated

VALUES = [
    wire.Hello(1, 2, "7.1", 5.5),
    wire.Hold("to:mx.example", 20, 3),
    wire.Used("in:192.0.2.1", 60.0, [(1, 2), (3, 4)]),
    wire.Announced(),
    wire.Take(1, "to:mx.example", 20),
    wire.Give("to:mx.example"),
    wire.Tokens(2, "to:mx.example", 20.0, 1.0, 1, 4),
    wire.Unused("to:mx.example", 100, 3),
    wire.Put(3, "users", RecordRow("ann", b"\xff\x00", None)),
    wire.Delete(4, "users", "ann"),
    wire.Count(5, "failed:192.0.2.1", 60.0, 1),
    wire.Mark(6, "ban:192.0.2.1", 60.0),
    wire.Marked(7, "ban:192.0.2.1"),
    wire.Claim(8, "once:1", 60.0),
    wire.Ping(),
    wire.Leaving(),
]


@asynccontextmanager
async def pair():
    """A Wire, what it got, and a plain socket at the other end."""
    got, lost = [], []
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    one = wire.Wire(wire.QUESTIONS, got.append, lost.append)
    ours.setblocking(False)
    await loop.connect_accepted_socket(lambda: one, ours)
    try:
        yield one, theirs, got, lost
    finally:
        one.close()
        theirs.close()
        await asyncio.sleep(0)


def test_what_is_said_in_one_turn_is_one_write_and_arrives_whole():
    async def work():
        async with pair() as (one, theirs, _, _):
            for value in VALUES:
                one.say(value)
            octets = await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)
            assert octets == wire.frames(VALUES)
            assert wire.QUESTIONS.decode(octets[4:]) == VALUES

    run("uvloop", work())


@given(st.lists(st.integers(1, 40), max_size=40))
def test_frames_arrive_however_they_are_cut(cuts):
    octets = wire.frames(VALUES[:4]) + wire.frames(VALUES[4:])

    async def work():
        got = []
        one = wire.Wire(wire.QUESTIONS, got.extend, lambda why: None)
        rest = octets
        for cut in cuts:
            one.data_received(rest[:cut])
            rest = rest[cut:]
        one.data_received(rest)
        assert got == VALUES

    run_simulated(work())


def test_many_values_are_several_frames():
    values = [wire.Hold(f"in:{number}", 10, 1) for number in range(5000)]
    octets, found = wire.frames(values), []
    while octets:
        length = int.from_bytes(octets[:4], "big")
        assert length <= wire.FRAME_MAX
        found += wire.QUESTIONS.decode(octets[4 : 4 + length])
        octets = octets[4 + length :]
    assert found == values


def test_large_values_are_several_frames_and_one_that_is_too_large_is_refused():
    row = RecordRow("k", b"x" * wire.ROW_MAX, None)
    assert len(wire.frames([wire.Put(number, "t", row) for number in range(5)])) > 5 * wire.ROW_MAX
    with pytest.raises(ValueError, match="too long"):
        wire.frames([wire.Put(1, "t", RecordRow("k", b"x" * wire.FRAME_MAX, None))])


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ((wire.FRAME_MAX + 1).to_bytes(4, "big"), "octets"),
        (b"GET / HTTP/1.1\r\n\r\n", "octets"),
        (b"\x00\x00\x00\x01\xc1", "decoded"),
        (b"\x00\x00\x00\x00", "decoded"),
        (b"\x00\x00\x00\x03\x91\x91\x63", "decoded"),  # no such kind of value
        (b"\x00\x00\x00\x05\x91\x92\x06\xa1\xff", "decoded"),  # a Give whose key is no UTF-8
        (b"\x00\x01\x00\x00" + b"\x91" * 65536, "decoded"),  # nested without end
    ],
)
def test_what_is_not_as_agreed_ends_the_connection(octets, why):
    async def work():
        async with pair() as (_, theirs, got, lost):
            await asyncio.get_running_loop().sock_sendall(theirs, wire.frames([wire.Ping()]) + octets)
            await soon(lambda: lost)
            assert got == [[wire.Ping()]]
            assert why in lost[0]

    run("uvloop", work())


def test_who_does_not_read_is_dropped():
    async def work():
        async with pair() as (one, _, _, lost):
            async with asyncio.timeout(10):
                while not lost:
                    for _ in range(1000):
                        one.say(wire.Freed("to:" + "x" * 200))
                    await asyncio.sleep(0)
            assert "not read" in lost[0]

    run("uvloop", work())


def test_an_ordinary_end_needs_no_reason_and_what_is_said_afterwards_goes_nowhere():
    async def work():
        async with pair() as (one, theirs, _, lost):
            theirs.close()
            await soon(lambda: lost)
            assert lost == [""]
            one.say(wire.Ping())
            await asyncio.sleep(0)

    run("uvloop", work())


def test_half_a_frame_and_the_end_is_an_ordinary_end():
    async def work():
        async with pair() as (_, theirs, got, lost):
            theirs.send(wire.frames(VALUES)[:-1])
            theirs.shutdown(socket.SHUT_WR)
            await soon(lambda: lost)
            assert (got, lost) == ([], [""])

    run("uvloop", work())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_a_dead_one_had_said_is_heard_also_where_we_speak_before_we_read(loop):
    async def work():
        async with pair() as (one, theirs, got, lost):
            one.say(wire.Ping())  # goes out before the loop looks at what came
            theirs.send(wire.frames([wire.Give("to:a")]) + wire.frames([wire.Give("to:b")]) + wire.frames(VALUES)[:-1])
            theirs.close()
            await soon(lambda: lost)
            assert (got, lost) == ([[wire.Give("to:a")], [wire.Give("to:b")]], [""])

    run(loop, work())


def test_what_a_dead_one_said_after_we_looked_and_before_we_wrote_is_heard():
    async def work():
        async with pair() as (one, theirs, got, lost):

            class Killer(asyncio.Protocol):
                """Lets the other side die in between: uvloop writes when it has read from all."""

                def data_received(self, data):
                    theirs.send(wire.frames([wire.Give("to:a")]))
                    theirs.close()

            near, far = socket.socketpair()
            transport, _ = await asyncio.get_running_loop().create_connection(Killer, sock=near)
            one.say(wire.Ping())
            far.send(b"now")
            await soon(lambda: lost)
            transport.abort()
            far.close()
            assert (got, lost) == ([[wire.Give("to:a")]], [""])

    run("uvloop", work())
