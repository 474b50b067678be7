"""One question to one DNS server: by UDP, by TCP where the answer does not fit.

Owns: sockets of a query, which datagrams count as its answer. Does not own: which server, how often, what the answer
means (net/resolve.py). Messages are dnspython's; the transport is ours, so that it costs one socket and no thread,
keeps the event loop's time, and runs on a simulated loop.

Against forged answers (RFC 5452 section 9.1): each query has a socket of its own, so a source port of the kernel's
choice, connected to the server, and an unguessable id; whatever else arrives is ignored and does not end the wait.
"""

from __future__ import annotations

import asyncio
from typing import Final

import dns.exception
import dns.flags
import dns.message

from postroad.config.addresses import TcpAddress
from postroad.net.connect import connect
from postroad.net.errors import StreamBroken

PAYLOAD_MAX: Final = 1232
"""Octets of an answer by UDP that we take: fits every path unfragmented (DNS flag day 2020)."""


class QueryFailed(Exception):
    """The server did not answer this query, or not so that it can be read."""


async def ask(server: TcpAddress, query: dns.message.Message, *, timeout: float) -> dns.message.Message:
    """Return the server's response to ``query``, whatever it says.

    Raises:
        QueryFailed: none within ``timeout`` seconds, or none that can be read.
    """
    try:
        async with asyncio.timeout(timeout):
            response = await _ask_udp(server, query)
            if response is None:
                response = await _ask_tcp(server, query, timeout)
            return response
    except TimeoutError:
        raise QueryFailed(f"no answer from {server} within {timeout:g} s") from None
    except OSError as error:
        raise QueryFailed(f"{server}: {error.strerror or error}") from error
    except dns.exception.DNSException as error:
        raise QueryFailed(f"{server} answered what cannot be read: {error}") from error


async def _ask_udp(server: TcpAddress, query: dns.message.Message) -> dns.message.Message | None:
    """Return the response, or None if it did not fit."""
    loop = asyncio.get_running_loop()
    transport, waiting = await loop.create_datagram_endpoint(
        lambda: _Waiting(query, loop), remote_addr=(server.host, server.port)
    )
    try:
        transport.sendto(query.to_wire())
        return await waiting.response
    finally:
        transport.close()


async def _ask_tcp(server: TcpAddress, query: dns.message.Message, timeout: float) -> dns.message.Message:
    stream = await connect([server.host], server.port, timeout=timeout)
    try:
        await stream.write(query.to_wire(prepend_length=True))
        octets = b""
        while len(octets) < 2 or len(octets) < 2 + int.from_bytes(octets[:2]):
            piece = await stream.read()
            if not piece:
                raise StreamBroken("closed before the answer was whole")
            octets += piece
    finally:
        stream.abort()
    response = dns.message.from_wire(octets[2 : 2 + int.from_bytes(octets[:2])])
    if not query.is_response(response):
        raise QueryFailed(f"{server} answered another question")
    return response


class _Waiting(asyncio.DatagramProtocol):
    """Waits for the one datagram that answers."""

    def __init__(self, query: dns.message.Message, loop: asyncio.AbstractEventLoop) -> None:
        self._query = query
        self.response: asyncio.Future[dns.message.Message | None] = loop.create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.response.done() or len(data) < 12 or int.from_bytes(data[:2]) != self._query.id:
            return
        if int.from_bytes(data[2:4]) & dns.flags.TC:  # perhaps cut in the middle of a record, so not read at all
            self.response.set_result(None)
            return
        try:
            response = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return  # not from our server, or of no use: a good answer may still come
        if self._query.is_response(response):
            self.response.set_result(response)

    def error_received(self, exc: Exception) -> None:
        if not self.response.done():  # nobody listens on that port
            self.response.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.response.done():
            self.response.cancel()
