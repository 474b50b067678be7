"""The front of the simulated relay, and the reloads of its supervisor.

Owns: the front's process: the product's own steering of a whole relay over the control sockets of the workers, and its
records by way of the ledger (as service/front.py builds it; keep in step); a reload as service/reload.py orders it:
all workers prepare, then all switch, or none. Does not own: HTTP before the front, reading files, what people ask
(people.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from postroad.access.book import UserBook
from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId
from postroad.http.control_client import RemoteSteering
from postroad.ledger.client import LedgerClient
from postroad.outbound.fleet import Fleet, Silences
from postroad.outbound.front import FrontHouse, FrontSteering
from postroad.outbound.relay import ReloadResult
from postroad.outbound.steering import ControlRefused
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim.book import Crash
from postroad.testing.sim.kernel import Process
from postroad.testing.sim.story import Terms

if TYPE_CHECKING:
    from postroad.testing.sim.house import Worker
    from postroad.testing.sim.machine import Machine

LEASH_DELAY: Final = 0.002
"""Seconds that a word of the supervisor takes to a process, and back, at most."""
READ_MAX: Final = 0.3
"""Seconds that reading a configuration takes at most."""


class Front:
    """The front's process. ``steering`` is what people have of it."""

    def __init__(self, machine: Machine, incarnation: int) -> None:
        from postroad.testing.sim.house import LEDGER_SOCKET, SimOutlet

        self.process = process = Process(machine.kernel, f"front#{incarnation}")
        process.broke = lambda why: machine.book.broken.append(f"{process.name}: {why}")
        process.loop.local = machine.sockets
        outlet = SimOutlet(process, machine.learn)
        self._ledger = ledger = LedgerClient(
            Path("/") / LEDGER_SOCKET,
            slot=-1,
            workers=machine.count,
            reader=machine.records,
            clock=machine.clock,
            outlet=outlet,
            time=process.loop.time,
        )
        silences, count = Silences(), machine.count
        dice = SeededDice(machine.plan.seed * 1_000_003 + 900_000 + incarnation)
        self._house = FrontHouse(
            fleet_for=lambda who: Fleet(
                {str(slot): RemoteSteering(Path("/") / f"worker-{slot}.sock", who) for slot in range(count)},
                silences=silences,
            ),
            records=ledger.records,
            users=UserBook(ledger.records, machine.clock, dice),
            stories=_no_stories,
            clock=machine.clock,
            dice=dice,
            outlet=outlet,
            version="sim",
            processes=tuple,
            configuration=tuple,
            reload=self._reload,
        )
        self._machine = machine
        self.wanted: dict[str, tuple[Terms, bool]] = {}
        """By person: what the configuration's file holds when he asks for a reload, and whether a worker refuses it."""

    def start(self) -> None:
        self._ledger.start()

    def steering(self, who: str) -> FrontSteering:
        return FrontSteering(self._house, who)

    async def _reload(self, who: str) -> ReloadResult:
        """Ask the supervisor, and wait for its word. Raises ControlRefused."""
        terms, fails = self.wanted[who]
        answer = self.process.loop.create_future()

        def answered(why: str) -> None:
            if not answer.done():
                self._machine.kernel.enter(self.process, answer.set_result, why)

        self._machine.reloads.begin(terms, answered, fails=fails)
        if why := await answer:
            raise ControlRefused(why)
        return ReloadResult(changed=(), needs_restart=())


async def _no_stories(
    wanted: MessageId | str, *, since: float | None = None, limit: int = 0, skipped: object = None
) -> AsyncGenerator[AnyFact, None]:
    facts: tuple[AnyFact, ...] = ()
    for fact in facts:
        yield fact


class Reloads:
    """The supervisor's reloads, one at a time. A power cut ends the one that is under way, unanswered."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._dice = SeededDice(machine.plan.seed * 7 + 3)
        self._turn = asyncio.Lock()
        self.generation = 0
        """How often another configuration came into force."""
        self.lives = 0
        """Of the supervisor: how often the machine was switched on."""

    def begin(self, terms: Terms, answered: Callable[[str], None], *, fails: bool) -> None:
        """Reload; ``answered`` hears why not, or "" when all that switch have been told to."""
        loop = self._machine.kernel.outside.loop
        loop.create_task(self._run(terms, answered, self.lives, fails=fails), name="reload")

    def may_serve(self, worker: Worker) -> bool:
        """False if a worker that is ready has the configuration of before: it is killed, and starts once more."""
        if worker.generation == self.generation:
            return True
        self._machine.kernel.after(0.0, self._kill, worker)
        return False

    async def _run(self, terms: Terms, answered: Callable[[str], None], life: int, *, fails: bool) -> None:
        from postroad.testing.sim.house import settings_of

        machine = self._machine
        async with self._turn:
            await asyncio.sleep(READ_MAX * self._dice.random())
            if life != self.lives or machine.is_off or machine.is_stopping:
                return
            settings = settings_of(machine.plan, terms)
            asked = [one for _, one in sorted(machine.workers.items()) if one.is_serving]
            switches: dict[str, Callable[[], None]] = {}
            for worker in asked:
                await asyncio.sleep(LEASH_DELAY * self._dice.random())

                def prepare(worker: Worker = worker) -> None:
                    switches[worker.process.name] = worker.prepare(settings)

                machine.kernel.enter(worker.process, prepare)
            machine.book.reloads += 1
            machine.book.on_reload(machine.book.reloads)
            await asyncio.sleep(LEASH_DELAY * self._dice.random())
            if life != self.lives or machine.is_off or machine.is_stopping:
                return
            if fails:
                machine.book.note("a worker cannot follow: nothing is reloaded")
                answered("a certificate cannot be read")
                return
            machine.book.note(f"reloaded: {terms}")
            machine.settings = settings
            self.generation += 1
            for worker in list(machine.workers.values()):
                if worker in asked:
                    worker.generation = self.generation
                    delay = LEASH_DELAY * self._dice.random()
                    switch = switches[worker.process.name]
                    machine.kernel.after(delay, machine.kernel.enter, worker.process, switch)
                elif worker.is_serving:  # it came while the others prepared
                    self._kill(worker)
            answered("")

    def _kill(self, worker: Worker) -> None:
        machine = self._machine
        if machine.workers.get(worker.slot) is not worker:
            return
        name = worker.process.name
        machine.book.crashes.append(Crash(machine.kernel.now, "reload", "with settings of before", (name,), ""))
        machine.book.note(f"{name} has settings of before a reload: it is killed")
        machine.end(worker, silently=False)
        machine.kernel.after(0.05, machine.start, worker.slot)
