"""The relay's machine: its disk, its workers, its power switch.

Owns: starting workers, what a crash does to processes, disk and connections, starting again until the world is quiet.
Does not own: when a crash falls (chaos.py), what a worker is made of (house.py).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from postroad.core.facts import AnyFact
from postroad.spool.errors import StoreTrouble
from postroad.spool.owner import ShardOwned
from postroad.testing.memory_disk import MemoryDisk
from postroad.testing.memory_records import MemoryRecords
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim.book import Book, Crash
from postroad.testing.sim.chaos import FRONT, LEDGER, Blow, Chaos
from postroad.testing.sim.front import Front, Reloads
from postroad.testing.sim.house import DATA, RELAY, Ledger, SimClock, Worker, settings_of
from postroad.testing.sim.kernel import Kernel, Process
from postroad.testing.sim.local import LocalSockets
from postroad.testing.sim.network import Network, Served, Weather
from postroad.testing.sim.story import Plan

DOWN_MIN = 0.05
"""Seconds a process is away at least: its successor has to be started."""


STOPPED_LATER = 5.0
"""Seconds after which it is tried again to stop a relay that was stopping: nobody cuts a stop in order short."""


class Machine:
    """One machine with the relay on it."""

    def __init__(self, kernel: Kernel, network: Network, book: Book, plan: Plan) -> None:
        self.kernel = kernel
        self.network = network
        self.book = book
        self.plan = plan
        self.settings = settings_of(plan)
        self.dice = SeededDice(plan.seed * 7 + 5)
        self.disk = MemoryDisk()
        self.chaos = Chaos(kernel, SeededDice(plan.seed * 7 + 6), plan.spells)
        self.chaos.crash = self.crash
        self.clock = SimClock(lambda: kernel.now)
        self.owners: dict[str, Process] = {}
        self.workers: dict[int, Worker] = {}
        self.facts: list[tuple[float, AnyFact]] = []
        self.starts = 0
        self.crashes_max = 200
        self.is_busy: Callable[[], bool] = lambda: False
        """True while a next hop has a delivery in hand."""
        self.on_stopped: Callable[[Worker], None] = lambda worker: None
        """Called with who has stopped in order, before its process ends, to look at what it has left."""
        self.is_off = self.is_stopping = False
        self.count = plan.workers
        """How many workers there are now."""
        self.has_ledger = plan.workers > 1 or plan.has_ledger or bool(plan.steps)
        self.front: Front | None = None
        self.reloads = Reloads(self)
        self.ledger: Ledger | None = None
        calm = Weather(latency=0.0001 + plan.ledger_latency, pieces=0.0, last_words=1.0)
        self.local = Network(kernel, SeededDice(plan.seed * 7 + 4), calm)
        self.sockets = LocalSockets(self.local)
        self.records = MemoryRecords(self.clock)
        self._dead: list[Worker | Ledger | Front] = []
        network.host(RELAY).accept = self._accept

    def learn(self, fact: AnyFact) -> None:
        self.facts.append((self.kernel.now, fact))

    # --- life ---

    def switch_on(self) -> None:
        self.is_off = False
        self.reloads.lives += 1
        if self.disk.is_off:
            self.disk.power_on()
            for wire in self._wires_to_relay():
                wire.wake_up()
        self.start_ledger()
        for slot in range(self.count):
            self.start(slot)
        self.start_front()

    def start_front(self) -> None:
        """People need a front."""
        if self.is_off or self.is_stopping or not self.plan.steps or self.front is not None:
            return
        self.starts += 1
        self.front = front = Front(self, self.starts)
        self.book.note(f"{front.process.name} starts")
        self.kernel.enter(front.process, front.start)

    def start_ledger(self) -> None:
        if self.is_off or not self.has_ledger or self.ledger is not None:
            return
        self.starts += 1
        self.ledger = ledger = Ledger(self, self.starts)
        self.book.note(f"{ledger.process.name} starts")
        loop = ledger.process.loop
        self.kernel.enter(ledger.process, lambda: loop.create_task(ledger.start(), name="ledger"))

    def to_adopt(self, slot: int) -> list[int]:
        """Return the numbers of shards that this worker takes over."""
        names = {path.split("/")[2] for path, _ in self.disk.contents() if path.startswith(f"{DATA}/shard-")}
        numbers = sorted(int(name[6:]) for name in names if name[6:].isdigit())
        return [number for number in numbers if number >= self.count and number % self.count == slot]

    def resize(self, count: int) -> None:
        """Stop in order, and start with so many workers; where it stops already, when that is over."""
        if self.is_stopping:
            self.kernel.after(STOPPED_LATER, self.resize, count)
        elif not self.is_off:
            self.kernel.outside.loop.create_task(self._resize(count), name="resize")

    async def _resize(self, count: int) -> None:
        self.book.note(f"the relay stops, to start with {count} workers")
        self.is_stopping = True
        names = tuple(worker.process.name for worker in self.workers.values())
        self.book.stops.append(Crash(self.kernel.now, "stop", "in order", names, ""))  # also if a crash cuts it short
        await self.stop()
        self.is_stopping = False
        self.count = count
        if self.is_off:
            return
        for worker in list(self.workers.values()):
            self.on_stopped(worker)
            self.end(worker, silently=False)
        self.end_ledger(silently=False)
        self.end_front()
        self.switch_on()

    def start(self, slot: int) -> None:
        """Start a worker, as the supervisor does: again after a second where it cannot start."""
        if self.is_off or self.is_stopping or slot in self.workers or slot >= self.count:
            return
        self.starts += 1
        worker = self.workers[slot] = Worker(self, slot, self.starts)
        self.book.starts.append((self.kernel.now, worker.process.name))
        self.book.note(f"{worker.process.name} starts")
        for blow in self.plan.blows:
            if blow.waits_for == "start" and int(blow.n) == self.starts:
                self.chaos.arm(blow)
        loop = worker.process.loop
        self.kernel.enter(worker.process, lambda: loop.create_task(self._begin(worker), name="start"))

    async def _begin(self, worker: Worker) -> None:
        try:
            await worker.start()
        except (StoreTrouble, ShardOwned, OSError) as error:
            self.book.note(f"{worker.process.name} cannot start: {error}")
            self.end(worker, silently=False)
            self.kernel.after(1.0, self.start, worker.slot)

    def end(self, worker: Worker, *, silently: bool) -> None:
        """The process is gone, whatever it was at."""
        if self.workers.get(worker.slot) is worker:
            del self.workers[worker.slot]
        worker.is_serving = False
        worker.process.die()
        self.network.process_died(worker.process, silently=silently)
        self.local.process_died(worker.process, silently=False)
        worker.forget()
        self._dead.append(worker)

    def end_ledger(self, *, silently: bool) -> None:
        ledger, self.ledger = self.ledger, None
        if ledger is not None:
            ledger.process.die()
            self.local.process_died(ledger.process, silently=silently)
            self._dead.append(ledger)

    def hang_ledger(self, seconds: float) -> None:
        """Stop the ledger for so long: it lives, keeps its connections, and says nothing."""
        if (ledger := self.ledger) is not None and ledger.process.held is None:
            self.book.hangs.append((self.kernel.now, seconds))
            self.book.note(f"{ledger.process.name} hangs for {seconds:.3f} s")
            ledger.process.stop()
            self.kernel.after(seconds, ledger.process.go_on)

    def end_front(self) -> None:
        front, self.front = self.front, None
        if front is not None:
            front.process.die()
            self.local.process_died(front.process, silently=False)
            self._dead.append(front)

    # --- crashes ---

    def crash(self, process: Process | None, blow: Blow, place: str) -> None:
        """Let a blow fall on the worker that is at work, or on the one it names; a power cut falls on all.

        Nothing falls where nobody is there, or when so many crashes are enough.
        """
        if len(self.book.crashes) >= self.crashes_max or not self.workers:
            return
        if process is not None:
            self.chaos.crashed[place, blow.when] += 1
        if process is None and blow.how == "process" and blow.worker == LEDGER and self.ledger is not None:
            self.book.crashes.append(Crash(self.kernel.now, "ledger", "between operations", (), ""))
            self.book.note(f"CRASH of {self.ledger.process.name}")
            self.end_ledger(silently=False)
            self.kernel.after(max(DOWN_MIN, min(blow.down, 3.0)), self.start_ledger)
            return
        if process is None and blow.how == "process" and blow.worker == FRONT and self.front is not None:
            self.book.crashes.append(Crash(self.kernel.now, "front", place, (), ""))
            self.book.note(f"CRASH of {self.front.process.name} {place}")
            self.end_front()
            self.kernel.after(max(DOWN_MIN, min(blow.down, 3.0)), self.start_front)
            return
        if blow.how == "power":
            fallen = list(self.workers.values())
        else:
            fallen = [one for one in self.workers.values() if one.process is process]
            if not fallen:
                slots = sorted(self.workers)
                fallen = [self.workers[slots[blow.worker % len(slots)]]]
        names = tuple(one.process.name for one in fallen)
        between = ("dot" if self.book.waiting_dots else "") + ("record" if self._is_unrecorded() else "")
        self.book.crashes.append(Crash(self.kernel.now, blow.how, f"{blow.when} {place}", names, between))
        self.book.note(f"CRASH ({blow.how}) of {', '.join(names)} {blow.when} {place}")
        for one in fallen:
            self.end(one, silently=blow.how == "power")
        if blow.how == "power":
            self.end_ledger(silently=False)
            self.end_front()
            self.disk.power_off(None if blow.loses_all else self.dice)
            self.is_off = True
            self.kernel.after(blow.down, self.switch_on)
        else:
            for one in fallen:
                self.kernel.after(max(DOWN_MIN, min(blow.down, 3.0)), self.start, one.slot)

    def _is_unrecorded(self) -> bool:
        return self.is_busy() or self.kernel.now - self.book.last_reply_at <= 0.05

    def _wires_to_relay(self) -> list[Any]:
        return [
            wire
            for host in self.network.hosts.values()
            for wire in list(host.wires.values())
            if wire.other.name[0] == RELAY or wire.is_deaf
        ]

    # --- connections ---

    def _accept(self, port: int) -> Served | None:
        serving = [one for _, one in sorted(self.workers.items()) if one.is_serving]
        if not serving:
            return None
        worker = serving[int(self.network.dice.random() * len(serving))]
        return worker.process, partial(worker.new_stream, port)

    # --- the end ---

    def misbooked(self) -> list[str]:
        """Say where the ledger's book is not what workers hold: what nobody gives back is lost to all."""
        if self.ledger is None:
            return []
        held = {slot: worker.holds for slot, worker in self.workers.items()}
        return [
            f"worker-{slot} holds {held.get(slot, {}).get(key, 0)} connections of {key}, and the ledger says {count}"
            for slot, counts in self.ledger.holds.items()
            for key, count in counts.items()
            if held.get(slot, {}).get(key, 0) != count
        ]

    @property
    def is_quiet(self) -> bool:
        """True if everything is up and nothing waits."""
        if self.is_off or self.is_stopping or len(self.workers) != self.count:
            return False
        if self.has_ledger and self.ledger is None:
            return False
        for worker in self.workers.values():
            if not worker.is_serving or worker.shard is None or any(not task.done() for task in worker.adoptions.tasks):
                return False
            shard = worker.shard
            if shard.agenda.recipients or shard._messages or shard.writer.is_stopped:  # noqa: SLF001 - asking changes it
                return False
        return not self.network.host(RELAY).wires

    def start_anew(self) -> None:
        """After a stop that a crash fell into: whoever has stopped ends, and all start again."""
        if self.is_off:
            return
        for worker in [one for one in self.workers.values() if not one.is_serving]:
            self.end(worker, silently=False)
        self.switch_on()

    async def stop(self) -> None:
        """Stop all workers in order, each in its own process. Called outside; the dead are not waited for."""
        loop = self.kernel.outside.loop
        stopped: list[asyncio.Future[None]] = []
        for worker in list(self.workers.values()):
            done: asyncio.Future[None] = loop.create_future()
            stopped.append(done)
            worker.process.on_death.append(partial(_set, done))
            self.kernel.enter(worker.process, self._begin_stop, worker, done)
        for done in stopped:
            await done

    def _begin_stop(self, worker: Worker, done: asyncio.Future[None]) -> None:
        async def stop() -> None:
            if worker.is_serving:
                await worker.stop()
                worker.has_stopped = True
            self.kernel.outside.loop.call_soon(_set, done)

        worker.process.loop.create_task(stop(), name="stop")

    def close(self) -> None:
        """Let go of everything."""
        for worker in list(self.workers.values()):
            self.end(worker, silently=True)
        self.end_ledger(silently=True)
        self.end_front()
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            self._dead.clear()
        finally:
            sys.unraisablehook = hook


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


__all__ = ["DATA", "Machine"]
