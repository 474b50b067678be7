"""Pairs of connected streams, one kind for each implementation that test_stream.py holds to the contract.

Owns: how a pair is made. To add an implementation, add its maker to PAIRS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any

import trustme
import uvloop

from postroad.net.stream import SocketStream, Stream
from postroad.testing.memory_stream import WINDOW, stream_pair

Pair = Callable[[], AbstractAsyncContextManager[tuple[Stream, Stream]]]
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def run(loop: str, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` on that kind of event loop; nothing may take 20 s."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("relay.example.org").configure_cert(context)
    return context


@cache
def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


async def adopt(sock: socket.socket) -> SocketStream:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    _, stream = await loop.connect_accepted_socket(lambda: SocketStream(loop), sock)
    return stream


def tcp_sockets() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    return client, server


@asynccontextmanager
async def pair_of(client: socket.socket, server: socket.socket) -> AsyncIterator[tuple[SocketStream, SocketStream]]:
    streams = await adopt(client), await adopt(server)
    try:
        yield streams
    finally:
        for stream in streams:
            stream.abort()
            await stream.wait_closed()


def tcp() -> AbstractAsyncContextManager[tuple[Stream, Stream]]:
    return pair_of(*tcp_sockets())


def unix() -> AbstractAsyncContextManager[tuple[Stream, Stream]]:
    return pair_of(*socket.socketpair())


async def secure(client: Stream, server: Stream) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(server.start_tls(server_context(), server_side=True, timeout=5, implicit=True))
        group.create_task(
            client.start_tls(client_context(), server_side=False, server_hostname="relay.example.org", timeout=5)
        )


@asynccontextmanager
async def tls() -> AsyncIterator[tuple[Stream, Stream]]:
    async with tcp() as (client, server):
        await secure(client, server)
        yield client, server


@asynccontextmanager
async def memory(piece: int = WINDOW) -> AsyncIterator[tuple[Stream, Stream]]:
    streams = stream_pair(piece=piece, names=("127.0.0.1", "127.0.0.1"))
    yield streams
    for stream in streams:
        stream.abort()
        await stream.wait_closed()


def memory_in_pieces() -> AbstractAsyncContextManager[tuple[Stream, Stream]]:
    return memory(1000)


PAIRS: dict[str, Pair] = {
    "tcp": tcp,
    "unix": unix,
    "tls": tls,
    "memory": memory,
    "memory-in-pieces": memory_in_pieces,
}
