"""A DNS server on loopback that answers from a Zone: by UDP, and by TCP what does not fit.

Owns: packets. For tests of whole relays, which bring their own DNS (``[dns] servers``), and for net/resolve.py. Can
misbehave as a zone says, and as an attacker would (``forge``).
"""

from __future__ import annotations

import asyncio
import socket

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from postroad.config.addresses import TcpAddress
from postroad.testing.zone import Found, Zone

_PLAIN_UDP_MAX = 512
"""Octets of an answer without EDNS, RFC 1035 section 4.2.1."""


class DnsServer:
    """Answers on one port, UDP and TCP. Use as an async context."""

    def __init__(self, zone: Zone, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.zone = zone
        self.asked: list[tuple[str, str, str]] = []
        """Name, type and transport (``udp``, ``tcp``) of every question, in order."""
        self.forge = False
        """Send a forged answer with a wrong id, and one to another question, before each true one."""
        self.edns = True
        """Answer FORMERR to EDNS, when False."""
        self._host = host
        self._port = port
        self._udp: asyncio.DatagramTransport
        self._tcp: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> TcpAddress:
        """Where it listens, for ``[dns] servers``."""
        return TcpAddress(self._host, self._port)

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        listening, datagrams = _bind_both(self._host, self._port)
        self._port = listening.getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
        self._tcp = await asyncio.start_server(self._serve_tcp, sock=listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take_datagram(self, octets: bytes, peer: tuple[str, int]) -> None:
        """Answer one datagram, now or after its delay."""
        task = asyncio.ensure_future(self._answer_udp(octets, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_udp(self, octets: bytes, peer: tuple[str, int]) -> None:
        query = _read(octets)
        if query is None:
            return
        response = await self._answer(query, "udp")
        if response is None:
            return
        if self.forge:
            for forged in _forged(query):
                self._udp.sendto(forged, peer)
        most = query.payload if query.edns >= 0 else _PLAIN_UDP_MAX
        if len(response) > most:
            cut = dns.message.make_response(query)
            cut.flags |= dns.flags.TC
            response = cut.to_wire()
        self._udp.sendto(response, peer)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                octets = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                query = _read(octets)
                response = None if query is None else await self._answer(query, "tcp")
                if response is None:
                    break
                writer.write(len(response).to_bytes(2) + response)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, query: dns.message.Message, transport: str) -> bytes | None:
        """Return the response in full, or None for silence."""
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, transport))
        if delay := self.zone.delays.get(name, 0.0):
            await asyncio.sleep(delay)
        found = self.zone.find(name, kind)
        if found.rcode == "SILENT":
            return None
        if found.rcode == "GARBAGE":
            return query.to_wire()[:2] + b"\x81\x80" + b"\xff" * 20
        if query.edns >= 0 and not self.edns:
            found = Found("FORMERR")
        return self._response(query, found).to_wire(max_size=65_535)

    def _response(self, query: dns.message.Message, found: Found) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        response.set_rcode(dns.rcode.from_text(found.rcode))
        for name, kind, records in found.chain:
            owner = dns.name.from_text(name)
            response.answer.append(dns.rrset.from_text_list(owner, self.zone.ttl, "IN", kind, list(records)))
        question = query.question[0]
        if found.rcode in ("NOERROR", "NXDOMAIN") and not any(
            kind == dns.rdatatype.to_text(question.rdtype) for _, kind, _ in found.chain
        ):
            soa = f"ns.invalid. root.invalid. 1 3600 600 86400 {self.zone.ttl}"
            response.authority.append(dns.rrset.from_text(dns.name.root, self.zone.ttl, "IN", "SOA", soa))
        return response


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.take_datagram(data, addr)


def _read(octets: bytes) -> dns.message.Message | None:
    try:
        query = dns.message.from_wire(octets)
    except dns.exception.DNSException:
        return None
    return query if len(query.question) == 1 else None


def _forged(query: dns.message.Message) -> list[bytes]:
    """Return answers that an attacker would send who cannot see the query."""
    wrong_id = dns.message.make_response(query)
    wrong_id.id = (query.id + 1) % 65_536
    wrong_id.set_rcode(dns.rcode.NXDOMAIN)
    wrong_name = dns.message.make_response(dns.message.make_query("forged.example.", "A", id=query.id))
    wrong_name.set_rcode(dns.rcode.NXDOMAIN)
    return [wrong_id.to_wire(), wrong_name.to_wire(), query.id.to_bytes(2) + b"\x81\x83" + b"\0" * 7]


def _bind_both(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Return a TCP and a UDP socket of the same port, one that is free for both if ``port`` is 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(100):
        listening = socket.socket(family, socket.SOCK_STREAM)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen()
            datagrams.bind((host, listening.getsockname()[1]))
        except OSError:
            listening.close()
            datagrams.close()
            if port:
                raise
            continue
        listening.setblocking(False)
        datagrams.setblocking(False)
        return listening, datagrams
    raise OSError("no port is free for both UDP and TCP")
