"""The leash: messages with descriptors over a pair of sockets, and its end."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from postroad.service import leash
from postroad.service.leash import Beat, Drain, Fork, Leash, LeashBroken, Prepared, Secrets, pair, receive, send

DRAIN = Drain(patience=3.0, why="SIGTERM")


@pytest.fixture
def ends():
    ours, theirs = pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_message_arrives_as_it_was_sent_with_its_descriptors(ends, tmp_path) -> None:
    (tmp_path / "file").write_text("handed on")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    message = Fork(role="worker", slot=1, workers=2, data_dir="/d", sockets=("steering",), secrets=(), adopt=(3,))
    send(ends[0], message, [descriptor])
    send(ends[0], Beat())
    got, (same,) = receive(ends[1])
    assert got == message
    assert os.pread(same, 100, 0) == b"handed on"
    assert not os.get_inheritable(same), "a program that is started must not get it by accident"
    assert receive(ends[1]) == (Beat(), [])
    with pytest.raises(BlockingIOError):
        receive(ends[1])
    os.close(same)
    os.close(descriptor)


@pytest.mark.parametrize(
    "octets", [b"nonsense", b"\x81\xa4kind\xa4nope", b"\x82\xa4kind\xa4beat\xa1x\x01", b"\xc1" * 70]
)
def test_what_is_no_message_breaks_the_leash_and_leaks_nothing(ends, octets: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(ends[0], [octets], [0, 1])
    with pytest.raises(LeashBroken):
        receive(ends[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_end_of_file_is_told(ends) -> None:
    ends[0].close()
    with pytest.raises(LeashBroken, match="end of file"):
        receive(ends[1])


def test_what_is_too_large_is_our_own_fault(ends) -> None:
    with pytest.raises(ValueError, match="too large"):
        send(ends[0], Prepared(number=1, why="x" * 70_000))
    with pytest.raises(ValueError, match="too large"):
        send(ends[0], Beat(), [0] * 254)


class Heard:
    """One end on a loop, and what it heard."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[leash.AnyMessage] = []
        self.ends: list[str] = []
        self.leash = Leash(sock, self._on_message, self.ends.append)

    def _on_message(self, message: leash.AnyMessage, descriptors: list[int]) -> None:
        self.messages.append(message)
        leash.close_all(descriptors)


async def settled(question) -> None:
    async with asyncio.timeout(10):
        while not question():
            await asyncio.sleep(0)


def test_a_process_that_reads_late_gets_everything_in_order() -> None:
    async def play() -> None:
        ours, theirs = pair()
        mine = Heard(ours)
        for number in range(900):  # far more than the kernel keeps
            mine.leash.send(Prepared(number=number, why="w" * 1000))
        mine.leash.send(Secrets(secrets=("/key",)), [0])
        other = Heard(theirs)
        await settled(lambda: len(other.messages) == 901)
        assert [message.number for message in other.messages[:-1]] == list(range(900))
        other.leash.close()
        await settled(lambda: mine.ends)
        mine.leash.send(DRAIN)  # to nobody: no error
        assert len(mine.ends) == 1

    asyncio.run(play())


def test_a_process_that_never_reads_is_given_up() -> None:
    async def play() -> None:
        ours, theirs = pair()
        mine = Heard(ours)
        for number in range(10_000):
            mine.leash.send(Prepared(number=number, why="w" * 1000))
        assert mine.ends == ["it reads nothing"]
        theirs.close()

    asyncio.run(play())


def test_closing_says_nothing_to_oneself() -> None:
    async def play() -> None:
        ours, theirs = pair()
        mine, other = Heard(ours), Heard(theirs)
        mine.leash.close()
        mine.leash.close()
        await settled(lambda: other.ends)
        assert mine.ends == []

    asyncio.run(play())
