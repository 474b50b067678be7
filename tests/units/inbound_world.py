"""An inbound server in memory: clients by stream pairs, and a spool that only keeps or refuses.

Owns: the least that a session needs of the relay. Does not own: being a spool: nothing is claimed or delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from postroad.config.load import load_text
from postroad.core.ids import IdMaker, MessageId
from postroad.inbound.server import InboundServer
from postroad.ledger.local import LocalLimits
from postroad.net.stream import SocketStream
from postroad.service.build_inbound import build_house, profile_of, server_limits
from postroad.spool.face import BodyWriter, NewMessage, Spool, SpoolFile, SpoolRefused, Why
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.memory_stream import stream_pair

SETTINGS = """
hostname = "relay.example.org"
[relay]
networks = ["10.0.0.0/8"]
domains = ["example.org"]
[[listener]]
address = "127.0.0.1:0"
"""
STRANGER, TRUSTED = "192.0.2.1", "10.0.0.1"


class KeepingSpool:
    """Keeps what is put. ``why`` set: refuses. ``gate`` cleared: lets puts wait."""

    def __init__(self) -> None:
        self.kept: list[NewMessage] = []
        self.bodies: list[Body] = []
        self.why: Why | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._ids = IdMaker(0)

    def new_id(self) -> MessageId:
        return MessageId(self._ids.next_id(1_800_000_000.0))

    def begin_body(self, message: MessageId) -> BodyWriter:
        self.bodies.append(Body())
        return self.bodies[-1]

    def refusing(self) -> Why | None:
        return None

    async def put(
        self, message: NewMessage, *, replaces: Sequence[object] = (), told: Callable[[], None] | None = None
    ) -> None:
        await self.gate.wait()
        if self.why is not None:
            raise SpoolRefused(self.why)
        self.kept.append(message)
        if told is not None:
            told()


class Body:
    """A content in a file."""

    def __init__(self) -> None:
        self.octets = b""
        self.discarded = False

    async def write(self, octets: bytes) -> None:
        self.octets += octets

    async def finish(self) -> SpoolFile:
        return SpoolFile("body", len(self.octets), b"")

    async def discard(self) -> None:
        self.discarded = True


class World:
    """One server with one listener. Made within a running loop."""

    def __init__(self, listener: str = 'role = "mx"', limits: str = "", **server_limits_set: float) -> None:
        self.settings = load_text(f"{SETTINGS}{listener}\n[limits]\n{limits}").settings
        self.spool, self.clock, self.outlet = KeepingSpool(), FakeClock(), FakeOutlet()
        time = asyncio.get_running_loop().time
        spool = cast(Spool, self.spool)
        house = build_house(self.settings, spool, self.clock, self.outlet, LocalLimits(time), time)
        bounds = msgspec.structs.replace(server_limits(self.settings), **server_limits_set)
        self.server = InboundServer(house, bounds, tls=None)
        self._profile = profile_of(self.settings.listener[0], self.settings)
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, address: str = STRANGER) -> Talker:
        """Return a client that has heard the greeting."""
        client, server = stream_pair(names=(address, "192.0.2.25"))
        self._tasks.append(asyncio.ensure_future(self.server.serve(self._profile, server)))
        talker = Talker(client)
        talker.greeting = await talker.hear()
        return talker

    async def ended(self) -> None:
        """Return when all sessions are over."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self._tasks)


class Talker:
    """A client."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self.greeting = ""
        self._unread = b""

    async def hear(self) -> str:
        """Return the next reply without its line ends, or "" at the end."""
        lines: list[str] = []
        while True:
            while b"\r\n" not in self._unread:
                octets = await self.stream.read(timeout=10)
                if not octets:
                    return ""
                self._unread += octets
            line, _, self._unread = self._unread.partition(b"\r\n")
            lines.append(line.decode())
            if line[3:4] != b"-":
                return "\n".join(lines)

    async def say(self, line: str) -> str:
        """Send a line and return the reply."""
        await self.stream.write(f"{line}\r\n".encode())
        return await self.hear()

    async def hand_in(self, content: bytes, *to: str, hello: str = "EHLO c.example") -> str:
        """Send one message; return the reply to its content, or to what was refused before."""
        for line in (hello, "MAIL FROM:<a@sender.example>", *(f"RCPT TO:<{one}>" for one in to), "DATA"):
            answer = await self.say(line)
            if answer[0] not in "23":
                return answer
        await self.stream.write(content + b".\r\n")
        return await self.hear()
