"""What test_steering.py holds to the contract of Steering: each kind steers the same few spools, or one of them.

Owns: how each kind is made, and putting messages into what it steers. To add a kind, add its maker to KINDS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from postroad.core.address import parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.ids import IdMaker, MessageId
from postroad.http.control_client import RemoteSteering
from postroad.http.control_server import ControlServer
from postroad.net.local import bind_private
from postroad.observe.outlet import FactOutlet
from postroad.outbound.control import NO_DESTINATIONS, About, Control
from postroad.outbound.fleet import Fleet
from postroad.outbound.steering import Counter, Steering
from postroad.spool.face import NewMessage
from postroad.testing.fake_clock import NOON as NOW
from postroad.testing.fake_clock import FakeClock
from postroad.testing.memory_spool import MemorySpool

ABOUT = About("0.1.0", 4242, NOW - 3600, ("127.0.0.1:2525",))


def counted() -> Sequence[Counter]:
    return (Counter(name="messages_received_total", labels=(("listener", "outside"),), value=2.0),)


class Spools:
    """Some spools with a control each. Messages go to them in turn, and their ids grow."""

    def __init__(self, count: int) -> None:
        self.outlet = FactOutlet()
        self.spools = [MemorySpool(FakeClock(), self.outlet) for _ in range(count)]
        self.controls = [
            Control(spool, FakeClock(), self.outlet, self.outlet, NO_DESTINATIONS, ABOUT, counted)
            for spool in self.spools
        ]
        self._ids = IdMaker(0)
        self._turn = 0
        self.steering: Steering

    async def put(self, *to: str, sender: str = "a@x.example", at: int | None = None) -> MessageId:
        """Put a message into the next spool, or into the one with that number."""
        spool = self.spools[self._turn % len(self.spools) if at is None else at]
        self._turn += 1
        recipients = tuple(Recipient(parse_mailbox(address)) for address in to or ("b@y.example",))
        envelope = Envelope(parse_mailbox(sender) if sender else None, recipients)
        new = NewMessage(MessageId(self._ids.next_id(NOW)), envelope, b"Subject: x\r\n\r\nhello\r\n", NOW)
        await spool.put(new)
        return new.id

    async def close(self) -> None:
        for control in self.controls:
            control.close()
        await self.outlet.close()


@asynccontextmanager
async def _spools(count: int) -> AsyncIterator[Spools]:
    made = Spools(count)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def control(path: Path) -> AsyncIterator[Spools]:
    async with _spools(1) as made:
        made.steering = made.controls[0].on_behalf_of("alice")
        yield made


@asynccontextmanager
async def fleet(path: Path) -> AsyncIterator[Spools]:
    async with _spools(3) as made:
        made.steering = Fleet({str(number): one.on_behalf_of("alice") for number, one in enumerate(made.controls)})
        yield made


@asynccontextmanager
async def remote(path: Path) -> AsyncIterator[Spools]:
    async with _served(path, 1) as made:
        made.steering = RemoteSteering(path / "worker-0.sock", "alice")
        yield made


@asynccontextmanager
async def remote_fleet(path: Path) -> AsyncIterator[Spools]:
    """What the front has: sockets of several workers."""
    async with _served(path, 2) as made:
        made.steering = Fleet({str(n): RemoteSteering(path / f"worker-{n}.sock", "alice") for n in range(2)})
        yield made


@asynccontextmanager
async def _served(path: Path, count: int) -> AsyncIterator[Spools]:
    async with _spools(count) as made, AsyncExitStack() as stack:
        for number, one in enumerate(made.controls):
            server = ControlServer(one, FakeClock(), made.outlet)
            await server.start(bind_private(path / f"worker-{number}.sock"))
            stack.push_async_callback(server.close)
        yield made


@asynccontextmanager
async def api(path: Path) -> AsyncIterator[Spools]:
    """What the command line has: HTTP to the front, which has a fleet."""
    from tests.units.api_world import served  # it is built on this module

    async with served(path, who="alice") as made:
        yield made.front.spools


KINDS = {"control": control, "fleet": fleet, "remote": remote, "remote fleet": remote_fleet, "api": api}
