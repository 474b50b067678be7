"""Listening: sockets and their errors, sessions as tasks, pauses, healing, the drain."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from contextlib import asynccontextmanager

import pytest
from tests.contracts.streams import LOOPS, run

from postroad.config.addresses import TcpAddress, UnixAddress
from postroad.core.facts import Trouble
from postroad.net import listen
from postroad.net.errors import ListenError
from postroad.net.listen import Listening
from postroad.net.sockets import name_of, open_listening

LOOPBACK = TcpAddress("127.0.0.1", 0)


@pytest.fixture(params=list(LOOPS))
def loop(request):
    return request.param


class Noon:
    def now(self) -> float:
        return 43_200.0


class Facts(list):
    def emit(self, fact) -> None:
        self.append(fact)


async def greet(stream):
    """Greet, and end when the client does."""
    await stream.write(b"220 hello\r\n")
    while await stream.read():
        pass


@asynccontextmanager
async def listening(serve=greet, *, address=LOOPBACK, connections_max=100, surplus=0, facts=None):
    sock = open_listening(address)
    server = Listening(
        sock,
        serve,
        connections_max=connections_max,
        surplus=surplus,
        outlet=Facts() if facts is None else facts,
        clock=Noon(),
    )
    await server.start()
    try:
        yield server, sock.getsockname()
    finally:
        await server.close()


async def connect(address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address)
    return await asyncio.open_connection(*address[:2])


async def greeted(address) -> asyncio.StreamWriter:
    reader, writer = await connect(address)
    assert await reader.readline() == b"220 hello\r\n"
    return writer


# --- sockets ---


def test_ipv6_sockets_take_ipv6_only():
    with open_listening(TcpAddress("::1", 0)) as six:
        port = six.getsockname()[1]
        assert name_of(six) == f"[::1]:{port}"
        with open_listening(TcpAddress("127.0.0.1", port)) as four:
            assert name_of(four) == f"127.0.0.1:{port}"


def test_a_port_in_use_is_named_with_the_remedy():
    with open_listening(LOOPBACK) as first:
        port = first.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            open_listening(TcpAddress("127.0.0.1", port))
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: address already in use; "
        "another program listens there; stop it (see `ss -ltnp`), or change the listener's address"
    )


def test_an_address_of_another_machine():
    with pytest.raises(ListenError, match=r"^cannot listen on 192\.0\.2\.1:2525: .*this machine has no such address"):
        open_listening(TcpAddress("192.0.2.1", 2525))


def test_a_port_for_root_only(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("postroad.net.sockets._open_tcp", refuse)
    with pytest.raises(ListenError, match=r"0\.0\.0\.0:25: permission denied; ports below 1024 are for root"):
        open_listening(TcpAddress("0.0.0.0", 25))


def test_a_unix_socket_has_its_mode_whatever_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        with open_listening(UnixAddress(f"{tmp_path}/s"), mode=0o666):
            assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o666
    finally:
        os.umask(old)


def test_a_stale_unix_socket_is_replaced_and_a_living_one_is_not(tmp_path):
    address = UnixAddress(f"{tmp_path}/s")
    open_listening(address).close()  # as a killed process leaves it
    with open_listening(address), pytest.raises(ListenError, match="another program answers there"):
        open_listening(address)


def test_a_file_in_the_place_of_a_unix_socket_is_kept(tmp_path):
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ListenError, match="not a socket"):
        open_listening(UnixAddress(f"{tmp_path}/s"))
    assert (tmp_path / "s").read_text() == "precious"


def test_a_missing_directory_of_a_unix_socket_is_named(tmp_path):
    with pytest.raises(ListenError, match=rf"make the directory {tmp_path}/none"):
        open_listening(UnixAddress(f"{tmp_path}/none/s"))


# --- accepting ---


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_each_connection_is_served(loop, family, tmp_path):
    async def work():
        address = LOOPBACK if family == "tcp" else UnixAddress(f"{tmp_path}/s")
        async with listening(address=address) as (server, name):
            writers = [await greeted(name) for _ in range(5)]
            assert server.connections == 5
            for writer in writers:
                writer.close()
            await server.wait_idle()
            assert server.connections == 0
        assert not (tmp_path / "s").exists()

    run(loop, work())


def test_a_broken_session_closes_its_connection_and_hurts_no_other(loop):
    async def break_down(stream):
        raise ZeroDivisionError

    async def work():
        seen = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context["exception"]))
        async with listening(break_down) as (_, name):
            for _ in range(2):
                reader, writer = await connect(name)
                assert await reader.read() == b""
                writer.close()
        assert [type(error) for error in seen] == [ZeroDivisionError] * 2

    run(loop, work())


def test_at_most_so_many_connections_and_the_rest_waits(loop, monkeypatch):
    monkeypatch.setattr(listen, "WATCH_EVERY", 0.01)
    facts = Facts()

    async def work():
        async with listening(connections_max=2, facts=facts) as (server, name):
            first, second = await greeted(name), await greeted(name)
            third_reader, third = await connect(name)  # the kernel takes it; we do not yet
            assert server.connections == 2
            first.close()
            second.close()
            assert await third_reader.readline() == b"220 hello\r\n"
            third.close()
        assert [(fact.what, fact.over) for fact in facts] == [("accept", False), ("accept", True)]
        assert "2 connections are open" in facts[0].why
        assert facts[0] == Trouble(at=43_200.0, what="accept", why=facts[0].why)

    run(loop, work())


def test_a_surplus_is_served_again_while_all_places_are_held(loop, monkeypatch):
    """A burst must not end it for as long as those within the limit stay."""
    monkeypatch.setattr(listen, "WATCH_EVERY", 0.01)
    facts = Facts()

    async def work():
        async with listening(connections_max=4, surplus=2, facts=facts) as (_, name):
            held = [await greeted(name) for _ in range(4)]
            burst = [await greeted(name) for _ in range(2)]
            assert [fact.over for fact in facts] == [False]
            for writer in burst:
                writer.close()
            held.append(await greeted(name))
            assert [fact.over for fact in facts] == [False, True]
            for writer in held:
                writer.close()

    run(loop, work())


def test_descriptors_used_up_are_a_pause(loop, monkeypatch):
    monkeypatch.setattr(listen, "WATCH_EVERY", 0.01)
    monkeypatch.setattr(listen, "_files_spare", lambda: listen.FILES_SPARE)  # of a limit as it is in life
    facts = Facts()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def work():
        async with listening(facts=facts) as (server, name):
            first = await greeted(name)
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + listen.FILES_SPARE, hard))
            async with asyncio.timeout(5):
                while server._files_usable != lowest:  # until the next look at the limit
                    await asyncio.sleep(0)
            second = await greeted(name)
            reader, third = await connect(name)
            assert [fact.over for fact in facts] == [False]
            assert "file descriptors are used up" in facts[0].why
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert await reader.readline() == b"220 hello\r\n"
            assert [fact.over for fact in facts] == [False, True]
            for writer in (first, second, third):
                writer.close()

    try:
        run(loop, work())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_are_looked_at_the_more_often_the_fewer_are_left(loop, monkeypatch):
    async def work():
        async with listening(connections_max=1000) as (server, _):
            looked = []

            class Stream:
                def __init__(self, number):
                    self.number = number

                def fileno(self):
                    looked.append(self.number)
                    return self.number

                def close(self):
                    pass

            server._files_usable, server._unlooked = 600, 0
            for number in range(601):
                server._on_stream(Stream(number))
                if server._paused:
                    break
            assert server._paused
            assert looked[:2] == [0, 33]
            assert looked[-14:] == list(range(587, 601)), "the last ones are looked at one by one"
            assert len(looked) < 90

    run(loop, work())


@pytest.mark.parametrize(("limit", "spare"), [(65_536, 64), (1024, 64), (150, 18)])
def test_a_low_limit_keeps_less_to_spare(monkeypatch, limit, spare):
    """Else a process with as few files as that at rest would never accept again after its first pause."""
    monkeypatch.setattr(listen, "_files_max", lambda: limit)
    assert listen._files_spare() == spare


def test_a_listener_that_the_kernel_closed_is_opened_again(monkeypatch):
    """On uvloop, which goes on in silence; asyncio reports without end."""
    monkeypatch.setattr(listen, "WATCH_EVERY", 0.01)
    facts = Facts()

    async def work():
        async with listening(facts=facts) as (server, _):
            server._sock.shutdown(socket.SHUT_RD)
            while len(facts) < 2:
                await asyncio.sleep(0)
            # The kernel gives a new port where we did not ask for a certain one.
            (await greeted(server._sock.getsockname())).close()
            assert [fact.over for fact in facts] == [False, True]

    run("uvloop", work())


# --- the end ---


def test_a_drain_serves_what_waits_and_what_is_open(loop):
    async def work():
        async with listening(connections_max=1) as (server, name):
            first = await greeted(name)
            await asyncio.sleep(0)
            waiting_reader, waiting = await connect(name)  # in the backlog
            await server.drain()
            assert await waiting_reader.readline() == b"220 hello\r\n"
            with pytest.raises(ConnectionRefusedError):
                await connect(name)
            assert server.connections == 2
            first.close()
            waiting.close()
            await server.wait_idle()
            await server.drain()  # twice does no harm

    run(loop, work())


def test_a_successors_unix_socket_is_left_alone(loop, tmp_path):
    async def work():
        address = UnixAddress(f"{tmp_path}/s")
        async with listening(address=address):
            os.rename(tmp_path / "s", tmp_path / "old")
            with open_listening(address):
                pass
            inode = os.stat(tmp_path / "s").st_ino
        assert os.stat(tmp_path / "s").st_ino == inode

    run(loop, work())
