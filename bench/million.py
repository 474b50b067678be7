"""A million deferred messages: how long a start takes and how much memory, and what steering does to new mail's 250.

Run: ``python bench/million.py DIRECTORY [--count N] [--dead] [--only NAME]``. DIRECTORY should be on a disk that syncs
(ext4 on a loop device will do); it is filled once, through Shard.put and record, and used again: 5.5 GB for a million
of 5 KiB. ``--dead``: all of them due, behind one domain; else deferred over 350,000 domains. Prints the start (time,
resident memory), then for each thing a person may ask the latency of ``put`` at a steady 300 a second from 8 clients,
how late the event loop was at worst, and how long the asking took. Bounded: ROUND_MAX a round, whatever is asked.

Not measured: the network. What else runs on the machine adds to every figure: compare with the round "nothing".
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import uvloop

from postroad.config.load import load_text
from postroad.core import outcome, reply
from postroad.core.address import Mailbox
from postroad.core.envelope import Client, Envelope, Recipient
from postroad.core.outcome import DeliveryState
from postroad.core.units import KIB, MIB
from postroad.outbound.control import NO_DESTINATIONS, About, Control
from postroad.service.shards import Adoption, open_shard
from postroad.service.threads import WorkerThreads
from postroad.service.wall_clock import WallClock
from postroad.spool.face import Changed, NewMessage, QueuedMessage, Ruling, Selection
from postroad.spool.ground import ShardSettings
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard
from postroad.testing.fake_outlet import FakeOutlet

DOMAINS = 50_000
"""Times 7, which has no factor in common with it."""
CONTENT = b"Subject: a million\r\n\r\n" + b"The quick brown fox jumps over the lazy dog, and so on.\r\n" * 89
FILLERS = 400
PUTTERS = 8
PUTS_PER_SECOND = 300.0
ROUND_MIN, ROUND_MAX = 15.0, 180.0
"""Seconds a round takes: what is shorter is asked again and again, what is longer is broken off and said to be."""
HOUR = 3_600.0
EVERY = Selection()


@asynccontextmanager
async def opened(directory: Path):
    threads = WorkerThreads()
    shard = await Shard.take(
        str(directory / "shard-0"),
        number=0,
        clock=WallClock(),
        outlet=FakeOutlet(),
        disk=OsDisk(),
        threads=threads,
        settings=ShardSettings(min_free=64 * MIB),
    )
    try:
        yield shard
    finally:
        await shard.close()
        threads.close()


def new_message(shard: Shard, number: int, *, dead: bool) -> NewMessage:
    domain = "dead.example" if dead else f"d{number % DOMAINS}.g{number % 7}.example"
    recipient = Recipient(Mailbox(f"user{number}", domain))
    sender = Mailbox(f"list{number % 100}", "sender.example")
    envelope = Envelope(sender, (recipient,), Client("192.0.2.7", listener="inside"))
    return NewMessage(shard.new_id(), envelope, CONTENT[: 5 * KIB - number % 512], time.time())


async def fill(directory: Path, count: int, *, dead: bool) -> None:
    """Put what is missing. Each is attempted once, or left as it came behind the dead domain."""
    async with opened(directory) as shard:
        there = shard.stats().messages
        numbers = iter(range(there, count))

        def defer(kept: QueuedMessage) -> bool:
            due_at = time.time() + 24 * HOUR + kept.id % 1000
            answer = reply.Reply(451, (4, 7), "Greylisted, please come back later")
            later = outcome.Deferred(answer, due_at, "mx.example", outcome.Stage.RCPT)
            shard.record(kept.id, [Ruling(0, later, DeliveryState.DUE, due_at)])
            return True

        if not dead:
            shard.on_kept(defer)
        began = time.perf_counter()

        async def work() -> None:
            for number in numbers:
                await shard.put(new_message(shard, number, dead=dead))
                if number % 50_000 == 0:
                    print(f"  {number:,} put", flush=True)

        await asyncio.gather(*(work() for _ in range(FILLERS)))
        await shard.flush_records()
        if there < count:
            seconds = time.perf_counter() - began
            print(f"filled with {count - there:,} in {seconds:.0f} s: {(count - there) / seconds:,.0f}/s")


def resident(field: str) -> float:
    """Return a field of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise AssertionError(field)


async def start(directory: Path) -> None:
    """Open and close the shard, as a process of its own, and say what it took."""
    before, began = resident("VmRSS"), time.perf_counter()
    async with opened(directory) as shard:
        seconds = time.perf_counter() - began
        gc.collect()
        print(
            f"start: {seconds:.2f} s for {shard.stats().messages:,} messages; "
            f"resident {before:.0f} MiB before, {resident('VmRSS'):.0f} after, {resident('VmHWM'):.0f} at most"
        )


class Load:
    """Clients that put mail at a steady rate, and a look at how late the loop is."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.latencies: list[float] = []
        self.lags: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._put(number)) for number in range(PUTTERS)]
        self._tasks.append(asyncio.create_task(self._look()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _put(self, client: int) -> None:
        loop = asyncio.get_running_loop()
        every = PUTTERS / PUTS_PER_SECOND
        due = loop.time() + every * client / PUTTERS
        number = client
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + every, loop.time() - every)  # who was held up does not make up for all of it
            new = new_message(self._shard, number, dead=False)
            number += PUTTERS
            began = time.perf_counter()
            await self._shard.put(new)
            self.latencies.append(time.perf_counter() - began)

    async def _look(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.lags.append(time.perf_counter() - began - 0.001)


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return 1_000 * ordered[min(len(ordered) - 1, int(len(ordered) * part))]


async def round_of(name: str, shard: Shard, ask: Callable[[], Awaitable[object]], longest: float = ROUND_MAX) -> None:
    """Ask under load, again and again for ROUND_MIN, and say what it did to the puts."""
    async with Load(shard) as load:
        began, times, slowest = time.perf_counter(), 0, 0.0
        said: object = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                while time.perf_counter() - began < ROUND_MIN:
                    asked = time.perf_counter()
                    said = await ask()
                    slowest = max(slowest, time.perf_counter() - asked)
                    times += 1
    seconds = time.perf_counter() - began
    p50, p99, worst = (percentile(load.latencies, part) for part in (0.5, 0.99, 1.0))
    lag99, lag = (percentile(load.lags, part) for part in (0.99, 1.0))
    took = f"{times} times, {slowest:.2f} s at most" if times else f"not done in {seconds:.0f} s"
    if isinstance(said, Changed):
        took += f", {said.recipients:,} recipients"
    print(
        f"{name:30} put p50 {p50:6.1f}  p99 {p99:6.1f}  max {worst:6.1f} ms   "
        f"loop late p99 {lag99:5.1f} max {lag:5.1f} ms   "
        f"{len(load.latencies) / seconds:4.0f}/s   {took}",
        flush=True,
    )


async def adoption(directory: Path) -> None:
    """Have a new shard adopt the filled one, for ROUND_MIN, under load, and say what it did to the puts."""
    clock, outlet, threads = WallClock(), FakeOutlet(), WorkerThreads()
    settings = load_text(f'data_dir = "{directory}"\n[spool]\nmin_free = "64MiB"\n').settings
    async with open_shard(settings, clock, outlet, threads, number=1) as shard:
        one = Adoption(0, shard, settings=settings, clock=clock, outlet=outlet, threads=threads)
        await round_of("adoption", shard, one.run, longest=ROUND_MIN)
        print(f"  {one.moved:,} messages moved")
    threads.close()


async def rounds(directory: Path, only: str) -> None:
    async with opened(directory) as shard:
        gc.collect()
        gc.freeze()
        control = Control(shard, WallClock(), FakeOutlet(), None, NO_DESTINATIONS, About("", 0, 0.0, ()))

        async def nothing() -> None:
            await asyncio.sleep(ROUND_MIN)

        async def stats() -> None:
            await control.stats(50)

        async def pages() -> int:
            after, seen = None, 0
            while True:
                page = await shard.list(EVERY, after=after, limit=200)
                seen, after = seen + len(page.messages), page.after
                if after is None:
                    return seen

        def dry(selection: Selection) -> Callable[[], Awaitable[object]]:
            return lambda: shard.drop(selection, "bench", dry_run=True)

        asked: dict[str, Callable[[], Awaitable[object]]] = {
            "nothing": nothing,
            "stats": stats,
            "list": pages,
            "dry all": dry(EVERY),
            "dry state=deferred": dry(Selection(state="deferred")),
            "dry to=*.g3.example": dry(Selection(to="*.g3.example")),
            "dry to=user77@*": dry(Selection(to="user77@*")),
            "dry from=list7@sender.example": dry(Selection(sender="list7@sender.example")),
            "list one of domain": lambda: shard.list(Selection(domain="d77.g0.example"), after=None, limit=1),
            "flush": lambda: shard.flush(EVERY, time.time()),
            "nothing, after": nothing,
        }
        for name, ask in asked.items():
            if only in name:
                await round_of(name, shard, ask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dead", action="store_true")
    parser.add_argument("--only", default="", help="rounds whose name contains this")
    parser.add_argument("--start", action="store_true", help="only open the shard once")
    parser.add_argument("--adopt", action="store_true", help="have another shard adopt it for ROUND_MIN; some is moved")
    parser.add_argument("--fill", action="store_true", help="only fill it")
    arguments = parser.parse_args()
    sys.setswitchinterval(0.0005)
    directory = arguments.directory.absolute()

    def run(work: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)  # type: ignore[arg-type]

    if arguments.start:
        run(start(directory))
        return
    if arguments.adopt:
        run(adoption(directory))
        return
    run(fill(directory, arguments.count, dead=arguments.dead))
    if arguments.fill:
        return
    subprocess.run([sys.executable, __file__, str(directory), "--start"], check=True, env=dict(os.environ))
    run(rounds(directory, arguments.only))


if __name__ == "__main__":
    main()
