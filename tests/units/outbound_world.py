"""All of outbound as the house builds it, in simulated time: settings, a spool in memory, receivers in memory.

The wall clock goes with the loop's. Receivers are found by the port of a route's ``via``; what they saw is theirs to
tell: connections at once, and when each message came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from postroad.config.load import load_text
from postroad.config.model import Settings
from postroad.core.address import Mailbox, parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.faces import Limits
from postroad.core.ids import MessageId
from postroad.ledger.local import LocalLimits
from postroad.net.stream import SocketStream, StreamBroken
from postroad.outbound.relay import Override, Suspension
from postroad.outbound.rules import rules_of
from postroad.service.build_outbound import Outbound, OutboundWorld
from postroad.spool.face import NewMessage, QueuedMessage, Spool
from postroad.testing.fake_clock import NOON
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.fake_resolver import FakeResolver
from postroad.testing.inline_threads import InlineThreads
from postroad.testing.memory_disk import MemoryDisk
from postroad.testing.memory_spool import MemorySpool
from postroad.testing.memory_stream import stream_pair
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.simulated_loop import passes, run_simulated
from postroad.testing.zone import Records, Zone

ALICE = Mailbox("alice", "example.org")
UNTIL_MAX = 60.0
"""Simulated seconds until a condition holds, at most: each is a thousand looks."""
CONTENT = b"Subject: x\r\n\r\nbody\r\n"


class LoopClock:
    """The wall clock of a simulation: noon, and what the loop has slept since."""

    def now(self) -> float:
        return NOON + asyncio.get_running_loop().time()


class Receiver:
    """Takes everything, each message after ``seconds``; says what it saw."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.open = 0
        self.open_max = 0
        self.connections = 0
        self.at: list[float] = []
        """When each message was complete, by the loop's clock."""
        self.recipients: list[str] = []
        self.hellos: list[str] = []
        self.refuses_connections = False
        self.greets_after = 0.0
        """Seconds; new connections are greeted as it is when they come."""
        self.puts_off = ""
        """A recipient who is told to come later."""
        self.go = asyncio.Event()
        """While clear, no message is answered."""
        self.go.set()

    def accept(self) -> SocketStream:
        self.connections += 1
        if self.refuses_connections:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = stream_pair()
        self._task = asyncio.ensure_future(self._serve(theirs))
        return ours

    async def _serve(self, stream: SocketStream) -> None:
        self.open += 1
        self.open_max = max(self.open, self.open_max)
        try:
            await self._talk(stream)
        except StreamBroken:
            pass
        finally:
            self.open -= 1
            stream.close()

    async def _talk(self, stream: SocketStream) -> None:
        if self.greets_after:
            await passes(self.greets_after)
        await stream.write(b"220 mx\r\n")
        buffer, in_data = b"", False
        while True:
            mark = b"\r\n.\r\n" if in_data else b"\r\n"
            while mark not in buffer:
                if not (octets := await stream.read()):
                    return
                buffer += octets
            line, _, buffer = buffer.partition(mark)
            if in_data:
                in_data = False
                await passes(self.seconds)
                await self.go.wait()
                self.at.append(asyncio.get_running_loop().time())
                await stream.write(b"250 2.0.0 Queued\r\n")
            elif line == b"DATA":
                in_data = True
                await stream.write(b"354 Go\r\n")
            elif line == b"QUIT":
                await stream.write(b"221 Bye\r\n")
                return
            else:
                if line.startswith(b"RCPT"):
                    self.recipients.append(line.decode().partition("<")[2].partition(">")[0])
                if line.startswith(b"EHLO"):
                    self.hellos.append(line.decode().partition(" ")[2])
                is_put_off = line.startswith(b"RCPT") and self.recipients[-1] == self.puts_off
                await stream.write(b"450 4.2.1 Later\r\n" if is_put_off else b"250 2.0.0 Ok\r\n")

    def per_second(self) -> list[int]:
        """Return how many messages came in each full second since the first."""
        first, last = self.at[0], self.at[-1]
        return [sum(first + n <= at < first + n + 1 for at in self.at) for n in range(int(last - first))]


class CountingSpool(MemorySpool):
    """Knows how often it was asked to claim."""

    claims = 0

    async def claim(self, domain: str, now: float, limit: int) -> Sequence[QueuedMessage]:
        """As a database does, it takes its time: much may happen between a claim and its answer."""
        self.claims += 1
        found = await super().claim(domain, now, limit)
        await passes(0.002)
        return found

    @property
    def claimed(self) -> int:
        """Deliveries that are in somebody's hands."""
        return sum(len(kept.claimed) for kept in self._kept.values())

    @property
    def left(self) -> int:
        return self.stats().recipients

    def rows(self) -> list[QueuedMessage]:
        return [kept.queued(kept.rows.values()) for kept in self._kept.values()]


class World:
    """A worker's way out. ``receivers`` by port."""

    def __init__(
        self,
        settings: str,
        receivers: Mapping[int, Receiver],
        *,
        limits: Limits | None = None,
        zone: Mapping[str, Records] | None = None,
        spool: Spool | None = None,
    ) -> None:
        time = asyncio.get_running_loop().time
        self.receivers = dict(receivers)
        self.clock, self.outlet = LoopClock(), FakeOutlet()
        self.spool = spool or CountingSpool(self.clock, self.outlet)
        self.zone = Zone(dict(zone or {}))
        self.limits = limits or LocalLimits(time)
        self.resolvers = 0
        world = OutboundWorld(
            spool=self.spool,
            clock=self.clock,
            dice=SeededDice(),
            outlet=self.outlet,
            limits=self.limits,
            disk=MemoryDisk(),
            threads=InlineThreads(),
            time=time,
            connect=self._connect,
            make_resolver=self._make_resolver,
        )
        self.outbound = Outbound(settings_of(settings), world)

    def _make_resolver(self, _: Settings) -> FakeResolver:
        self.resolvers += 1
        return _Resolver(self.zone)

    async def _connect(
        self, addresses: object, port: int, *, timeout: float, source_ip: str | None = None
    ) -> SocketStream:
        return self.receivers[port].accept()

    async def put(self, *recipients: str) -> MessageId:
        envelope = Envelope(ALICE, tuple(Recipient(parse_mailbox(address)) for address in recipients))
        message = self.spool.new_id()
        await self.spool.put(NewMessage(message, envelope, CONTENT, self.clock.now()))
        return message

    def suspend(self, *names: str, until: float | None = None) -> None:
        """Have these and no others be suspended. ``until``: seconds from now."""
        now = self.clock.now()
        end = None if until is None else now + until
        self.suspensions = [
            Suspension(destination=name, since=now, until=end, who="root", why="their wish") for name in names
        ]
        self.steer()

    suspensions: list[Suspension] = []
    overrides: list[Override] = []

    def steer(self) -> None:
        rules = rules_of(self.suspensions, self.overrides)
        assert not rules.troubles
        self.outbound.steer(rules.suspensions, rules.overrides)

    def override(self, name: str, **limits: object) -> None:
        self.overrides = [Override(destination=name, since=0.0, until=None, who="root", **limits)]  # type: ignore[arg-type]
        self.steer()

    def reload(self, settings: str) -> None:
        self.outbound.switch(self.outbound.prepare(settings_of(settings)))

    async def until(self, condition: Callable[[], bool]) -> float:
        """Return the loop's time when the condition holds; it is looked at every millisecond of simulated time."""
        time = asyncio.get_running_loop().time
        end = time() + UNTIL_MAX
        while not condition():
            assert time() < end, self.outlet.facts[-5:]
            await passes(0.001)
        return time()


class _Resolver(FakeResolver):
    async def close(self) -> None:
        """Nothing is open."""


def settings_of(text: str) -> Settings:
    return load_text(text).settings


def run(make: Callable[[], World], work: Callable[[World], Awaitable[None]]) -> None:
    """Run ``work`` in a world, in simulated time: at most a simulated day."""

    async def bounded() -> None:
        async with asyncio.timeout(86_400.0):
            world = make()
            world.outbound.start()
            try:
                await work(world)
            finally:
                await world.outbound.drain(60.0)
                await world.outbound.close()

    run_simulated(bounded())
