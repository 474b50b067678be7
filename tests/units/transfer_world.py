"""Two shards on a disk in memory that can be cut off at any operation, for tests of transfers.

Owns: opening them (SQLite on testing/fault_vfs.py, one connection each, no threads, no real time), the crash, what the
two hold. Does not own: what is done to them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress

from postroad.core.address import parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.faces import Dice
from postroad.core.ids import MessageId
from postroad.spool.face import Delivery, NewMessage, Selection
from postroad.spool.ground import ShardSettings
from postroad.spool.shard import Shard
from postroad.spool.store import StoreOptions
from postroad.testing.fake_clock import NOON as NOW
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.fault_vfs import FaultVfs
from postroad.testing.inline_threads import InlineThreads
from postroad.testing.memory_disk import MemoryDisk

SOURCE, TARGET = 1, 0
LARGE = bytes(range(256)) * 64
SMALL = b"Subject: x\r\n\r\nhello\r\n"
Key = tuple[MessageId, int]
_names = itertools.count()
_ALIVE: list[FaultVfs] = []
"""SQLite lets go of a connection that could not be closed well when it pleases: its VFS must be there still."""


class _NoOwner:
    def release(self) -> None:
        """Nobody else is there."""


class World:
    """``open`` before anything else, and again after ``crash``."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.clock = FakeClock(NOW)
        self.outlet = FakeOutlet()
        self.shards: dict[int, Shard] = {}

    async def open(self) -> None:
        name = f"transfer-{next(_names)}"
        _ALIVE.append(FaultVfs(name, self.disk))
        for number in (TARGET, SOURCE):
            self.shards[number] = await Shard.take(
                f"/data/shard-{number}",
                number=number,
                clock=self.clock,
                outlet=self.outlet,
                disk=self.disk,
                threads=InlineThreads(),
                settings=ShardSettings(min_free=0, store=StoreOptions(vfs=name, exclusive=True)),
                owner=_NoOwner(),
            )

    @property
    def source(self) -> Shard:
        return self.shards[SOURCE]

    @property
    def target(self) -> Shard:
        return self.shards[TARGET]

    def crash_at(self, operation: int, crash: Callable[[], None]) -> None:
        """Have ``crash`` happen before so many more operations of the disk; all that follow fail."""
        wanted = self.disk.operations + operation

        def look(*_: object) -> None:
            if self.disk.operations >= wanted and not self.disk.is_off:
                self.disk.is_off = True
                crash()

        self.disk.on_operation = look

    def killed(self) -> None:
        """The process dies; what the kernel has stays."""
        self.disk.kill()
        self.disk.is_off = True

    def cut(self, dice: Dice | None = None) -> None:
        """The power goes."""
        self.disk.power_off(dice)

    def after_crash(self, *, is_power: bool) -> None:
        """Let go of what the dead process held; the disk works again."""
        self.disk.is_off = True
        self.disk.on_operation = None
        for shard in self.shards.values():
            with suppress(OSError):
                shard.writer.store.close(checkpoint=False)
        self.shards = {}
        _ALIVE[-1]._disk = MemoryDisk()  # what the dead process still deletes, it deletes elsewhere
        _ALIVE[-1]._disk.is_off = True
        if is_power:
            self.disk.power_on()
        self.disk.is_off = False

    async def put(self, number: int, *to: str, content: bytes = SMALL) -> MessageId:
        shard = self.shards[number]
        recipients = tuple(Recipient(parse_mailbox(address)) for address in to or ("b@y.example",))
        new = NewMessage(shard.new_id(), Envelope(parse_mailbox("a@x.example"), recipients), content, NOW)
        if len(content) >= len(LARGE):
            writer = shard.begin_body(new.id)
            await writer.write(content)
            new = NewMessage(new.id, new.envelope, await writer.finish(), NOW)
        await shard.put(new)
        return new.id

    async def held(self, number: int) -> dict[Key, Delivery]:
        """Return the deliveries that a shard holds; what it counts agrees."""
        shard = self.shards[number]
        page = await shard.list(Selection(), after=None, limit=10_000)
        found = {(one.message, one.number): one for message in page.messages for one in message.deliveries}
        stats = shard.stats()
        assert (stats.messages, stats.recipients) == (len(page.messages), len(found))
        assert stats.octets == sum(message.size for message in page.messages)
        return found

    async def content(self, number: int, message: MessageId) -> bytes:
        reader = await self.shards[number].open(message)
        octets = await reader.read(0, 10 * len(LARGE))
        reader.close()
        return octets
