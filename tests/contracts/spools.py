"""The spools that test_spool.py and test_spool_steer.py hold to the contract, and what is put into them.

Owns: how each is made. To add an implementation, add its maker to KINDS.
"""

from __future__ import annotations

from contextlib import asynccontextmanager

from tests.contracts.streams import run

from postroad.core import outcome, reply
from postroad.core.address import parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.service.threads import WorkerThreads
from postroad.spool.face import NewMessage, Ruling, Selection, Why
from postroad.spool.ground import ShardSettings
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard
from postroad.spool.store import StoreOptions
from postroad.testing.fake_clock import NOON as NOW
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.memory_spool import MemorySpool

DONE = Ruling(0, outcome.Delivered(reply.OK), None)
FAILED = outcome.Failed(reply.RELAY_DENIED)
EVERY = Selection()
LARGE = bytes(range(256)) * 1024
LAST = MessageId(2**63 - 1)


def shard_with(*, exclusive):
    @asynccontextmanager
    async def shard(path, *, full=False):
        threads = WorkerThreads()
        spool = await Shard.take(
            str(path / "shard-0"),
            number=0,
            clock=FakeClock(),
            outlet=FakeOutlet(),
            disk=OsDisk(),
            threads=threads,
            settings=ShardSettings(min_free=2**62 if full else 0, store=StoreOptions(exclusive=exclusive)),
        )
        try:
            yield spool
        finally:
            await spool.close()
            threads.close()

    return shard


@asynccontextmanager
async def memory(path, *, full=False):
    spool = MemorySpool(FakeClock(), FakeOutlet())
    spool.refuse = Why.FULL if full else None
    yield spool
    await spool.close()


KINDS = {"shard": shard_with(exclusive=False), "exclusive": shard_with(exclusive=True), "memory": memory}


def player(kind, path):
    """Return what runs a script on a spool of that kind."""

    def play(script, **how):
        async def work():
            async with KINDS[kind](path, **how) as spool:
                await script(spool)

        run("uvloop", work())

    return play


def made(spool, *to, sender="a@x.example", priority=0, at=NOW, content=b"Subject: x\r\n\r\nhello\r\n", notify=0):
    recipients = tuple(Recipient(parse_mailbox(address), notify) for address in to or ("b@y.example",))
    envelope = Envelope(parse_mailbox(sender) if sender else None, recipients, priority=priority)
    return NewMessage(spool.new_id(), envelope, content, at)


async def kept(spool, *to, **more):
    new = made(spool, *to, **more)
    await spool.put(new)
    return new.id


async def content_of(spool, message):
    reader = await spool.open(message)
    assert reader.size >= 0
    octets = b""
    while piece := await reader.read(len(octets), 100_000):
        octets += piece
    assert len(octets) == reader.size
    reader.close()
    return octets


def named(messages):
    return [(one.id, [delivery.number for delivery in one.deliveries]) for one in messages]


def later(seconds, number=0):
    return Ruling(number, outcome.Deferred(reply.LOCAL_TROUBLE, NOW + seconds), DeliveryState.DUE, NOW + seconds)


async def ruled(spool, message, *rulings):
    spool.record(message, rulings)
    await spool.flush_records()


async def failed(spool):
    """Put a message and have it fail: a report is due."""
    message = await kept(spool)
    await spool.claim("y.example", NOW, 10)
    await ruled(spool, message, Ruling(0, FAILED, DeliveryState.REPORT_FAILED))
    return message
