"""Happy eyeballs: order, races, failures that are told, losers that are closed."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager

import pytest
from tests.contracts.streams import LOOPS, run

from postroad.config.addresses import TcpAddress, UnixAddress
from postroad.net.connect import _Race, connect, connect_unix, interleave
from postroad.net.errors import ConnectFailed, Try
from postroad.net.sockets import open_listening


@pytest.fixture(params=list(LOOPS))
def loop(request):
    return request.param


@contextmanager
def hosts(*answering: str, silent: tuple[str, ...] = ()):
    """Listen on one port of several addresses; the silent ones have a full backlog and never answer."""
    with open_listening(TcpAddress(answering[0], 0)) as first:
        port = first.getsockname()[1]
        others = [open_listening(TcpAddress(host, port)) for host in answering[1:]]
        filling = []
        for host in silent:
            full = open_listening(TcpAddress(host, port), backlog=0)
            others.append(full)
            for _ in range(3):
                filler = socket.socket(full.family)
                filler.setblocking(False)
                filler.connect_ex((host, port))
                filling.append(filler)
        try:
            yield port
        finally:
            for one in others + filling:
                one.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["192.0.2.1"], ["192.0.2.1"]),
        (["::1", "::2", "192.0.2.1"], ["::1", "192.0.2.1", "::2"]),
        (["192.0.2.1", "::1", "::2", "::3"], ["192.0.2.1", "::1", "::2", "::3"]),
        (["::1", "192.0.2.1", "192.0.2.2"], ["::1", "192.0.2.1", "192.0.2.2"]),
        (["192.0.2.1", "192.0.2.2", "192.0.2.3", "::1"], ["192.0.2.1", "::1", "192.0.2.2", "192.0.2.3"]),
    ],
)
def test_families_take_turns_from_the_firsts(given, expected):
    assert interleave(given) == expected


def test_one_address(loop):
    async def work():
        with hosts("127.0.0.1") as port:
            stream = await connect(["127.0.0.1"], port, timeout=5)
            assert (stream.peer, stream.peer_port, stream.local) == ("127.0.0.1", port, "127.0.0.1")
            stream.abort()

    run(loop, work())


def test_a_refused_address_gives_way_at_once(loop):
    async def work():
        with hosts("127.0.0.2") as port:
            stream = await connect(["::1", "127.0.0.1", "127.0.0.2"], port, timeout=5, attempt_delay=30)
            assert stream.peer == "127.0.0.2"
            stream.abort()

    run(loop, work())


def test_a_silent_address_gives_way_after_the_delay(loop):
    async def work():
        with hosts("127.0.0.1", silent=("127.0.0.2",)) as port:
            stream = await connect(["127.0.0.2", "127.0.0.1"], port, timeout=10, attempt_delay=0.01)
            assert stream.peer == "127.0.0.1"
            stream.abort()
            await stream.wait_closed()
            assert len(asyncio.all_tasks()) == 1  # this one: the loser is over

    run(loop, work())


def test_the_first_keeps_its_head_start(loop):
    async def work():
        with hosts("::1", "127.0.0.1") as port:
            for order in (["::1", "127.0.0.1"], ["127.0.0.1", "::1"]):
                stream = await connect(order, port, timeout=5)
                assert stream.peer == order[0]
                stream.abort()

    run(loop, work())


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1", "127.0.0.2"]])
def test_every_failure_is_told(loop, addresses):
    port = free_port()

    async def work():
        with pytest.raises(ConnectFailed) as caught:
            await connect(addresses, port, timeout=5)
        assert caught.value.tries == tuple(
            Try(address, port, "connection refused") for address in interleave(addresses)
        )
        assert str(caught.value).startswith(f"{addresses[0]} port {port}: connection refused")

    run(loop, work())


@pytest.mark.parametrize("silent", [("127.0.0.2",), ("127.0.0.2", "127.0.0.3")])
def test_the_time_is_up_for_all(loop, silent):
    async def work():
        with hosts("127.0.0.1", silent=silent) as port:
            with pytest.raises(ConnectFailed) as caught:
                await connect(silent, port, timeout=0.05, attempt_delay=0.01)
            assert caught.value.tries == tuple(Try(address, port, "no answer within 0.05 s") for address in silent)

    run(loop, work())


def test_no_address_at_all(loop):
    async def work():
        with pytest.raises(ConnectFailed, match="no address to try"):
            await connect([], 25, timeout=5)

    run(loop, work())


def test_a_source_address_is_used_and_limits_the_family(loop):
    async def work():
        with hosts("::1", "127.0.0.1") as port:
            stream = await connect(["::1", "127.0.0.1"], port, timeout=5, source_ip="127.0.0.9")
            assert (stream.peer, stream.local) == ("127.0.0.1", "127.0.0.9")
            stream.abort()
            with pytest.raises(ConnectFailed, match="other family"):
                await connect(["::1"], port, timeout=5, source_ip="127.0.0.9")

    run(loop, work())


def test_a_source_address_that_is_not_ours(loop):
    async def work():
        with hosts("127.0.0.1") as port, pytest.raises(ConnectFailed) as caught:
            await connect(["127.0.0.1"], port, timeout=5, source_ip="192.0.2.1")
        assert "address" in caught.value.tries[0].why

    run(loop, work())


def test_who_answers_at_the_same_moment_as_the_winner_is_hung_up_on(loop):
    async def work():
        with open_listening(TcpAddress("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            race = _Race([], [], port, None)
            late = asyncio.ensure_future(connect(["127.0.0.1"], port, timeout=5))
            await late
            race._running[late] = "127.0.0.1"
            await race.end()
            running = asyncio.get_running_loop()
            accepted, _ = await running.sock_accept(listening)
            assert await running.sock_recv(accepted, 1) == b""
            accepted.close()

    run(loop, work())


def test_cancelling_leaves_nothing_behind(loop):
    async def work():
        with hosts("127.0.0.1", silent=("127.0.0.2", "127.0.0.3")) as port:
            connecting = asyncio.ensure_future(
                connect(["127.0.0.2", "127.0.0.3"], port, timeout=5, attempt_delay=0.001)
            )
            while len(asyncio.all_tasks()) < 4:  # this one, the race, both attempts
                await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert len(asyncio.all_tasks()) == 1

    run(loop, work())


def test_a_unix_socket(loop, tmp_path):
    async def work():
        path = f"{tmp_path}/lmtp"
        with open_listening(UnixAddress(path)):
            stream = await connect_unix(path, 5)
            assert stream.peer == "unix"
            stream.abort()
        with pytest.raises(ConnectFailed, match="connection refused"):
            await connect_unix(path, 5)
        with pytest.raises(ConnectFailed, match="no such file"):
            await connect_unix(path + "-none", 5)

    run(loop, work())
