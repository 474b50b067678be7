"""From the spool to the next hop and back: scheduler, lane, session, settler and reporter on a real shard.

The next hop is played over streams in memory; all domains lead to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw

from postroad.core import facts
from postroad.core.address import Mailbox, parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.outcome import Stage
from postroad.ledger.local import LocalLimits
from postroad.net.stream import SocketStream
from postroad.outbound.aging import Aging
from postroad.outbound.destination import Destination
from postroad.outbound.hops import DestinationLimits, Hop, ToHops
from postroad.outbound.house import OutboundHouse
from postroad.outbound.lane import Lane
from postroad.outbound.planner import Planner, Step
from postroad.outbound.report import Reporter
from postroad.outbound.scheduler import Scheduler
from postroad.outbound.settle import Settler
from postroad.policy.hosts import Ourselves
from postroad.policy.route import RouteChoice, Router, RouteRule
from postroad.policy.schedule import Schedule
from postroad.service.threads import WorkerThreads
from postroad.spool.face import NewMessage, Selection
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard, ShardSettings
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.memory_stream import stream_pair
from postroad.testing.seeded_dice import SeededDice

ALICE = Mailbox("alice", "example.org")
HOP = ToHops("smtp:mx.example.net:25", (Hop("smtp", "mx.example.net", 25, tls="off", addresses=("192.0.2.25",)),))


class NextHop:
    """Takes everything but what is for carol; keeps the contents."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.connections = 0
        self.refuses_connections = False
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(
        self, addresses: object, port: int, *, timeout: float, source_ip: str | None = None
    ) -> SocketStream:
        self.connections += 1
        if self.refuses_connections:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = stream_pair()
        self._tasks.append(asyncio.ensure_future(self._serve(theirs)))
        return ours

    async def _serve(self, stream: SocketStream) -> None:
        await stream.write(b"220 mx.example.net\r\n")
        buffer = b""
        in_data = False
        while True:
            mark = b"\r\n.\r\n" if in_data else b"\r\n"
            while mark not in buffer:
                octets = await stream.read()
                if not octets:
                    stream.close()
                    return
                buffer += octets
            line, _, buffer = buffer.partition(mark)
            if in_data:
                in_data = False
                self.contents.append(line)
                await stream.write(b"250 2.0.0 Queued\r\n")
            elif line == b"DATA":
                in_data = True
                await stream.write(b"354 Go\r\n")
            elif b"carol" in line:
                await stream.write(b"550 5.1.1 No such user\r\n")
            else:
                await stream.write(b"250 2.0.0 Ok\r\n")


class World:
    """A shard and outbound on it."""

    def __init__(
        self, shard: Shard, outlet: FakeOutlet, clock: FakeClock, threads: WorkerThreads, *rules: RouteRule[Step]
    ) -> None:
        """``rules``: the first of them is for dave."""
        loop = asyncio.get_running_loop()
        self.shard, self.outlet, self.clock, self.hop = shard, outlet, clock, NextHop()
        limits = DestinationLimits(5, 100, None, Schedule())
        house = OutboundHouse(
            spool=shard,
            clock=clock,
            dice=SeededDice(),
            outlet=outlet,
            resolver=None,  # type: ignore[arg-type] - the hop's addresses are known
            limits=LocalLimits(loop.time),
            disk=OsDisk(),
            threads=threads,
            hostname="relay.example.org",
            retry=Schedule(),
            connect=self.hop.connect,
            connect_unix=None,  # type: ignore[arg-type]
            tls_context=None,  # type: ignore[arg-type]
            limits_for=lambda _target, _domain: limits,
            domain_rule=lambda _domain: "",
            time=loop.time,
        )
        router = Router(rules, lambda local, _domain: [0] if local == "dave" else [], RouteChoice[Step](None, (HOP,)))
        planner = Planner(house, router, Ourselves(frozenset()))
        self.house, self.planner, self.settler = house, planner, Settler(house)
        settler = self.settler
        self.scheduler = Scheduler(house, planner, settler)

        async def make_lane(destination: Destination) -> None:
            await Lane(house, self.scheduler, settler, destination).run()

        house.make_lane = make_lane
        self.reporter = Reporter(house, settler)

    async def put(self, *recipients: str, sender: Mailbox | None = ALICE) -> None:
        envelope = Envelope(sender, tuple(Recipient(parse_mailbox(address)) for address in recipients))
        content = b"Subject: x\r\n\r\nbody\r\n"
        await self.shard.put(NewMessage(self.shard.new_id(), envelope, content, self.clock.now()))


def run(place: Path, work: Callable[[World], Awaitable[None]], *rules: RouteRule[Step]) -> None:
    async def bounded() -> None:
        threads, outlet, clock = WorkerThreads(), FakeOutlet(), FakeClock()
        async with asyncio.timeout(20):
            shard = await Shard.take(
                str(place),
                number=0,
                clock=clock,
                outlet=outlet,
                disk=OsDisk(),
                threads=threads,
                settings=ShardSettings(min_free=0),
            )
            world = World(shard, outlet, clock, threads, *rules)
            world.scheduler.start()
            reports = asyncio.ensure_future(world.reporter.run())
            try:
                await work(world)
            finally:
                reports.cancel()
                await world.scheduler.drain(1.0)
                await shard.close()
                threads.close()

    asyncio.run(bounded())


def test_each_recipient_is_told_with_the_route_that_was_chosen_for_it(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.put("bob@example.net", "dave@example.net", "erna@example.net")
        async with asyncio.timeout(10):
            for name in ("bob", "dave", "erna"):
                await world.outlet.until(facts.Delivered, lambda fact, name=name: fact.recipient.startswith(name))
        routes = {fact.recipient: fact.route for fact in world.outlet.of(facts.Delivered)}
        assert routes == {
            "bob@example.net": "route:default",
            "dave@example.net": "route:2",
            "erna@example.net": "route:default",
        }
        assert sorted((fact.route, fact.recipients) for fact in world.outlet.of(facts.Attempted)) == [
            ("route:2", 1),
            ("route:default", 2),
        ]

    run(tmp_path, work, RouteRule(RouteChoice[Step](1, (HOP,)), to_has_local_part=True))


def test_delivered_refused_and_reported(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.put("bob@example.net", "carol@example.net")
        bounced = await world.outlet.until(facts.Bounced)
        assert (bounced.recipient, bounced.stage, bounced.reply.code) == ("carol@example.net", Stage.RCPT, 550)
        reported = await world.outlet.until(facts.Reported)
        assert (reported.action, reported.to, reported.recipients) == (
            "failed",
            "alice@example.org",
            ("carol@example.net",),
        )
        delivered = await world.outlet.until(facts.Delivered, lambda fact: fact.message == reported.report)
        assert delivered.recipient == "alice@example.org"
        tried = world.outlet.of(facts.Attempted)[0]
        assert [said.text for said in tried.dialogue][-2:] == ["(20 octets)", "250 2.0.0 Queued"]
        assert {fact.route for fact in (bounced, delivered, tried)} == {"route:default"}
        await world.shard.flush_records()
        assert world.shard.stats().recipients == 0
        original, report = world.hop.contents
        assert original == b"Subject: x\r\n\r\nbody"
        assert b"multipart/report" in report
        assert b"Final-Recipient: rfc822; carol@example.net" in report
        assert b"Subject: x" in report
        assert world.scheduler.loaded == 0

    run(tmp_path, work)


def test_a_dead_destination_keeps_its_mail_in_the_spool(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.hop.refuses_connections = True
        for number in range(12):
            await world.put(f"bob{number}@example.net")
        while (state := world.scheduler.describe("example.net")) is None or state.status != "down":
            await world.outlet.until(facts.Deferred)
            await asyncio.sleep(0)
        assert "Connection refused" in state.trouble
        while world.scheduler.loaded:
            await asyncio.sleep(0)
        await world.shard.flush_records()
        assert world.shard.stats().recipients == 12
        assert 1 <= world.hop.connections < 12
        assert world.outlet.of(facts.Delivered) == []
        first = world.outlet.of(facts.Deferred)[0]
        assert (first.reply.status, first.stage, first.attempts) == ("4.4.1", Stage.CONNECT, 1)
        # The host is back, and a person asks: all of it goes.
        world.hop.refuses_connections = False
        await world.shard.flush(Selection(), world.clock.now())
        world.scheduler.wake()
        while len(world.outlet.of(facts.Delivered)) < 12:
            await asyncio.sleep(0)
        await world.shard.flush_records()
        assert world.shard.stats().recipients == 0
        state = world.scheduler.describe("example.net")
        assert state is None or state.status in ("open", "slow")

    run(tmp_path, work)


def test_mail_that_waits_is_warned_of_once_and_then_expires(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.hop.refuses_connections = True
        aging = Aging(world.house, world.planner, world.settler, world.reporter, [Schedule()])
        await world.put("bob@example.net")
        deferred = await world.outlet.until(facts.Deferred)
        while world.scheduler.loaded:
            await asyncio.sleep(0)
        await world.shard.flush_records()
        world.clock.advance(4 * 3600.0 + 1.0)
        for _ in range(2):
            await aging.round()
            await world.shard.flush_records()
        [reported] = world.outlet.of(facts.Reported)
        assert (reported.action, reported.message) == ("delayed", deferred.message)
        world.clock.advance(5 * 86_400.0)
        await aging.round()
        expired = await world.outlet.until(facts.Expired, lambda fact: fact.message == deferred.message)
        assert expired.reply.status == "4.4.1"
        await world.outlet.until(facts.Reported, lambda fact: fact.action == "failed")

    run(tmp_path, work)


def test_what_cannot_be_returned_goes_to_the_postmaster_but_never_round(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.settler.failed_bounces_to = Mailbox("carol", "example.org")  # refused by the next hop as well
        await world.put("carol@example.net", sender=None)
        reported = await world.outlet.until(facts.Reported)
        assert reported.to == "carol@example.org"
        dropped = await world.outlet.until(facts.Dropped)
        assert (dropped.message, dropped.rule) == (reported.report, "null-sender")
        assert dropped.reply is not None
        assert len(world.outlet.of(facts.Reported)) == 1

    run(tmp_path, work)


def test_what_nobody_can_be_told_of_any_more_is_dropped_with_a_fact(tmp_path: Path) -> None:
    """The report was due to failed_bounces_to, which a reload has taken away before it was made."""

    async def work(world: World) -> None:
        world.settler.failed_bounces_to = ALICE
        await world.put("bob@example.net", "carol@example.net", sender=None)
        bounced = await world.outlet.until(facts.Bounced)
        world.settler.failed_bounces_to = None
        dropped = await world.outlet.until(facts.Dropped)
        assert (dropped.message, dropped.number, dropped.recipient) == (bounced.message, 1, "carol@example.net")
        assert (dropped.rule, dropped.reply) == ("null-sender", bounced.reply)
        await world.shard.flush_records()
        assert (world.shard.stats().messages, world.outlet.of(facts.Reported)) == (0, [])

    run(tmp_path, work)


def test_a_round_prunes_what_was_dropped_long_ago(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.hop.refuses_connections = True
        aging = Aging(world.house, world.planner, world.settler, world.reporter, [Schedule()])
        for days in (31.0, 1.0):
            await world.put("bob@example.net")
            await world.outlet.until(facts.Deferred)
            while world.scheduler.loaded:
                await asyncio.sleep(0)
            await world.shard.flush_records()
            assert (await world.shard.drop(Selection(), f"{days} days ago")).messages == 1
            world.clock.advance(days * 86_400.0 - 1.0)
        await aging.round()

    run(tmp_path, work)
    database = apsw.Connection(str(tmp_path / "spool.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert database.execute("SELECT rule FROM dropped").fetchall() == [("1.0 days ago",)]
    database.close()
