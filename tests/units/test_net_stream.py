"""What a socket's stream does beyond the contract: TLS and its border, half-closed and vanished peers."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from tests.contracts.streams import (
    LOOPS,
    adopt,
    client_context,
    pair_of,
    run,
    secure,
    server_context,
    tcp,
    tcp_sockets,
)

from postroad.net.stream import READ_MAX, SocketStream, StreamBroken, TlsFailed


@pytest.fixture(params=list(LOOPS))
def loop(request):
    return request.param


def test_tls_is_described_and_carries_the_certificate(loop):
    async def work():
        async with tcp() as (client, server):
            assert (client.tls, client.peer_certificate) == ("", None)
            await secure(client, server)
            assert client.tls.startswith("TLSv1.3 TLS_")
            assert server.tls == client.tls
            assert client.peer_certificate[:1] == b"\x30"  # DER
            assert server.peer_certificate is None

    run(loop, work())


def test_octets_that_follow_the_handshake_at_once_are_not_lost(loop):
    async def work():
        async with tcp() as (client, server):

            async def speak_at_once():
                await client.start_tls(
                    client_context(), server_side=False, server_hostname="relay.example.org", timeout=5
                )
                await client.write(b"EHLO c\r\n")

            speaking = asyncio.ensure_future(speak_at_once())
            await server.start_tls(server_context(), server_side=True, timeout=5, implicit=True)
            assert await server.read() == b"EHLO c\r\n"
            await speaking

    run(loop, work())


def test_clear_octets_before_the_handshake_are_refused(loop):
    """RFC 3207 section 6: what an attacker put before the handshake must not count as said within."""

    async def work():
        async with tcp() as (client, server):
            await client.write(b"STARTTLS\r\n" + bytes(READ_MAX))
            await server.read()
            while not server.unread:
                await asyncio.sleep(0)
            with pytest.raises(TlsFailed, match="clear text"):
                await server.start_tls(server_context(), server_side=True, timeout=5)
            with pytest.raises(StreamBroken):
                await server.read()

    run(loop, work())


def test_clear_octets_in_place_of_a_handshake_fail_it(loop):
    async def work():
        async with tcp() as (client, server):
            shaking = asyncio.ensure_future(server.start_tls(server_context(), server_side=True, timeout=5))
            await asyncio.sleep(0)
            await client.write(b"EHLO in the clear\r\n")
            with pytest.raises(TlsFailed):
                await shaking
            assert await client.read() == b""

    run(loop, work())


def test_a_handshake_that_came_before_we_looked_belongs_to_implicit_tls(loop):
    async def work():
        async with tcp() as (client, server):
            shaking = asyncio.ensure_future(
                client.start_tls(client_context(), server_side=False, server_hostname="relay.example.org", timeout=5)
            )
            while not server.unread:
                await asyncio.sleep(0)
            await server.start_tls(server_context(), server_side=True, timeout=5, implicit=True)
            await shaking
            assert client.tls

    run(loop, work())


def test_a_certificate_that_does_not_verify_says_why(loop):
    async def work():
        async with tcp() as (client, server):
            shaking = asyncio.ensure_future(
                server.start_tls(server_context(), server_side=True, timeout=5, implicit=True)
            )
            with pytest.raises(TlsFailed, match="certificate not accepted: Hostname mismatch"):
                await client.start_tls(
                    client_context(), server_side=False, server_hostname="other.example.org", timeout=5
                )
            with pytest.raises(TlsFailed, match="alert"):  # we tell the peer
                await shaking

    run(loop, work())


@pytest.mark.parametrize("name", [".", "", "x" * 300, "a\0b", "\udc80"])
def test_a_name_tls_cannot_carry_is_a_failed_handshake(loop, name):
    async def work():
        async with tcp() as (client, _):
            with pytest.raises(TlsFailed):
                await client.start_tls(client_context(), server_side=False, server_hostname=name, timeout=5)

    run(loop, work())


def test_a_peer_that_does_not_shake_hands_is_given_up(loop):
    async def work():
        async with tcp() as (_, server):
            with pytest.raises(TlsFailed, match=r"no handshake within 0\.01 s"):
                await server.start_tls(server_context(), server_side=True, timeout=0.01)

    run(loop, work())


def test_a_peer_that_leaves_during_the_handshake(loop):
    async def work():
        async with tcp() as (client, server):
            shaking = asyncio.ensure_future(server.start_tls(server_context(), server_side=True, timeout=5))
            client.close()
            with pytest.raises(TlsFailed, match="closed during the handshake"):
                await shaking

    run(loop, work())


def test_garbage_within_tls_breaks_the_stream(loop):
    async def work():
        async with tcp() as (client, server):
            await secure(client, server)
            client._transport.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(StreamBroken, match="TLS"):
                await server.read()
            await server.wait_closed()

    run(loop, work())


def test_a_client_may_stop_sending_and_still_hear_us(loop):
    async def work():
        client, server = tcp_sockets()
        async with pair_of(client.dup(), server) as (_, stream):
            client.sendall(b"QUIT\r\n")
            client.shutdown(socket.SHUT_WR)
            assert await stream.read() == b"QUIT\r\n"
            assert await stream.read() == b""
            await stream.write(b"221 bye\r\n")
            assert client.recv(100) == b"221 bye\r\n"
            client.close()

    run(loop, work())


def test_a_reset_gives_what_came_before_it(loop):
    async def work():
        client, server = tcp_sockets()
        stream = await adopt(server)
        client.sendall(b"DATA\r\n")
        while not stream.unread:
            await asyncio.sleep(0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await stream.wait_closed()
        assert await stream.read() == b"DATA\r\n"
        with pytest.raises(StreamBroken, match="reset"):
            await stream.read()

    run(loop, work())


def test_a_peer_that_was_reset_before_we_looked_never_passes_for_a_unix_socket(loop):
    made: list[SocketStream] = []

    async def work():
        client, server = tcp_sockets()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        running = asyncio.get_running_loop()
        server.setblocking(False)
        _, stream = await running.connect_accepted_socket(lambda: SocketStream(running, made.append), server)
        await stream.wait_closed()
        assert (stream.peer, made) == ("", [])
        with pytest.raises(StreamBroken):
            await stream.read()

    run(loop, work())


def test_lingering_ends_by_itself(loop, monkeypatch):
    monkeypatch.setattr("postroad.net.stream.LINGER_TIMEOUT", 0.02)

    async def work():
        client, server = tcp_sockets()
        stream = await adopt(server)
        stream.write_last(b"421 bye\r\n")
        await stream.wait_closed()  # the client neither sends nor closes
        client.close()

    run(loop, work())


def test_lingering_ends_by_itself_also_where_somebody_was_reading(loop, monkeypatch):
    """As at an idle time-out: the session reads, the sweep says 421, and the client neither sends nor closes."""
    monkeypatch.setattr("postroad.net.stream.LINGER_TIMEOUT", 0.02)

    async def work():
        client, server = tcp_sockets()
        stream = await adopt(server)
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        stream.write_last(b"421 bye\r\n")
        assert await reading == b""
        try:
            async with asyncio.timeout(10):
                await stream.wait_closed()
        finally:
            client.close()

    run(loop, work())


def test_a_peer_that_never_reads_does_not_hold_a_closed_stream(loop, monkeypatch):
    monkeypatch.setattr("postroad.net.stream.LINGER_TIMEOUT", 0.02)

    async def work():
        client, server = tcp_sockets()
        stream = await adopt(server)
        stream.write_last(bytes(8 * 1024 * 1024))
        await stream.wait_closed()
        client.close()

    run(loop, work())


def test_many_small_pieces_before_one_read_are_joined(loop):
    async def work():
        client, server = tcp_sockets()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = await adopt(server)
        for number in range(100):
            client.sendall(b"%02d" % number)
            while len(stream._held) < 2 * number + 2:
                await asyncio.sleep(0)
        assert await stream.read() == b"".join(b"%02d" % number for number in range(100))
        client.close()
        assert await stream.read() == b""
        stream.close()
        await stream.wait_closed()

    run(loop, work())


def test_two_readers_are_a_bug(loop):
    async def work():
        async with tcp() as (client, _):
            first = asyncio.ensure_future(client.read())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="two tasks"):
                await client.read()
            first.cancel()

    run(loop, work())
