"""What is due, sorted by destination: the flow from the spool to the lanes.

Owns: which claimed deliveries are in memory, how many, and for which destination. Does not own: claims (spool),
routes and times (policy), attempts (lane.py), what an outcome means (trouble.py).

Nobody may fill the memory alone: a destination gets at most a quarter of what is still free, so that however many slow
ones there are, there is room for the others (the dynamic threshold of shared-memory switches).
A destination that is down gives its jobs back and has its domains paused until its next probe: a dead domain
with a million messages due costs a few hundred rows a probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Final

import msgspec

from postroad.core import facts
from postroad.core.outcome import AttemptError
from postroad.core.units import MIB
from postroad.outbound.attempt import Attempt
from postroad.outbound.control import DestinationState
from postroad.outbound.destination import WAITING_LOW, WAITING_MAX, Destination
from postroad.outbound.hops import Target
from postroad.outbound.house import OutboundHouse
from postroad.outbound.job import Job
from postroad.outbound.planner import Planner, Step
from postroad.outbound.settle import Settler, is_report
from postroad.policy.route import RouteChoice
from postroad.policy.window import Phase, Window
from postroad.spool.face import Delivery, QueuedMessage, Ruling

LOADED_MAX: Final = 20_000
"""Deliveries claimed into memory, in all. About 1 KiB each without content."""
CLAIM_MAX: Final = 200
"""Deliveries of one domain claimed at a time."""
CONTENT_MAX: Final = 32 * MIB
"""Octets of content kept in memory for deliveries that wait; more is read back from the spool."""
LANES_MAX: Final = 1_000
"""Connections outward, in all."""
LOOKUPS_MAX: Final = 100
"""Domains being looked up at once; others wait in the spool."""
RESUME_MAX: Final = 200
"""Paused domains looked at again when a destination wants work."""
FULL_PAUSE: Final = 30.0
"""Seconds for which a domain is left alone when its destination is full; the destination ends that earlier."""
DESTINATIONS_MAX: Final = 20_000
"""Destinations remembered, about; those without work are forgotten first."""
BROKEN_PAUSE: Final = 60.0
"""Seconds for which a domain is left alone whose mail met an error of ours."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at what is due, at most: asking is from memory, and rulings become due on their own."""
_STATUS: Final = {Phase.OPEN: "open", Phase.DEAD: "down", Phase.PROBING: "probing"}


class Scheduler:
    """Moves due deliveries to their destinations, and outcomes back."""

    def __init__(self, house: OutboundHouse, planner: Planner, settler: Settler) -> None:
        self._house = house
        self._planner = planner
        self._settler = settler
        self.destinations: dict[str, Destination] = {}
        self._domains_looked_up: dict[str, int] = {}
        self._looking_up: dict[tuple[int | None, str], list[Job]] = {}
        self._starving: dict[str, Destination] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.loaded = 0
        self._content_held = 0
        self.lanes = 0
        self._stopping = False

    # --- life ---

    def start(self) -> None:
        """Begin to move mail."""
        self._house.spool.on_kept(self.on_kept)
        self._start_task(self._run())

    async def drain(self, patience: float) -> None:
        """Let attempts under way finish within ``patience`` seconds; start no new ones."""
        self._stopping = True
        self._wake.set()
        now = self.now()
        for destination in self.destinations.values():
            waiting, destination.waiting = list(destination.waiting), type(destination.waiting)()
            self.give_back(destination, waiting, now)
            destination.stop()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=patience)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5.0)

    def wake(self) -> None:
        """Look at the queue now: a person has made something due. Where that leads, even the dead are tried.

        Domains that were not asked for stay paused in the spool, so only theirs are probed.
        """
        now = self._house.time()
        for destination in self.destinations.values():
            destination.window.wake(now)
        self._wake.set()

    def now(self) -> float:
        return self._house.clock.now()

    def run(self, coroutine: Coroutine[object, object, None]) -> None:
        self._start_task(coroutine)

    def _start_task(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- from the spool: what is due ---

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                moved = await self._load_due()
            except Exception as error:  # noqa: BLE001 - boundary: claims not handed on are freed by the next start
                self._house.outlet.emit(
                    facts.Trouble(at=self.now(), what="scheduler", why=f"{type(error).__name__}: {error}")
                )
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "the scheduler broke", "exception": error}
                )
                moved = False
                await asyncio.sleep(1.0)
            if not moved:
                await self._sleep()
            else:
                await asyncio.sleep(0)

    async def _sleep(self) -> None:
        next_due = self._house.spool.next_due_at()
        wait = LOOK_EVERY if next_due is None else min(max(next_due - self.now(), 0.05), LOOK_EVERY)
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _load_due(self) -> bool:
        """Claim what is due and has room; True if anything was claimed."""
        spool, moved = self._house.spool, False
        for domain in spool.due_domains(self.now(), RESUME_MAX):
            room = self._room(domain)
            if room <= 0 or self._stopping:
                continue
            for message in await spool.claim(domain, self.now(), min(room, CLAIM_MAX)):
                moved = True
                try:
                    self._take(message)
                except Exception as error:  # noqa: BLE001 - boundary: one message that breaks us must not stop the others
                    self._broke("a message could not be sorted", error)
                    spool.unclaim(message.id, [delivery.number for delivery in message.deliveries])
                    spool.pause(domain, self.now() + BROKEN_PAUSE)
        return moved

    def _room(self, domain: str) -> int:
        """Return how many deliveries of a domain may be claimed now; 0 leaves it paused."""
        now = self.now()
        free = LOADED_MAX - self.loaded
        if free < 4:
            self._house.spool.pause(domain, now + 1.0)
            return 0
        share = min(WAITING_MAX, free // 4)
        destination = self._known_destination(domain)
        if destination is None:
            # While a domain is looked up, a few of its messages are enough: they tell when to come again if that fails.
            if len(self._looking_up) >= LOOKUPS_MAX or domain in self._domains_looked_up:
                self._house.spool.pause(domain, now + 1.0)
                return 0
            return min(share, CLAIM_MAX)
        if until := destination.down_until(now):
            self._house.spool.pause(domain, until)
            return 0
        room = share - len(destination.waiting)
        if room <= 0 or (len(destination.waiting) > WAITING_LOW and destination.paused_domains):
            self._house.spool.pause(domain, now + FULL_PAUSE)
            destination.paused_domains.add(domain)
            return 0
        return room

    def _known_destination(self, domain: str) -> Destination | None:
        target = self._planner.known_by_domain(domain)
        return None if target is None else self.destinations.get(target.key)

    # --- from inbound, by way of the spool: what has just become durable ---

    def on_kept(self, message: QueuedMessage) -> bool:
        """Take a message that has just been kept, if its destinations are open and have room."""
        if self._stopping or LOADED_MAX - self.loaded < 4 * len(message.deliveries):
            return False
        share = min(WAITING_MAX, (LOADED_MAX - self.loaded) // 4)
        now = self.now()
        for delivery in message.deliveries:
            choice, target = self._planner.known(message.envelope, delivery)
            if target is None:
                waiting = self._looking_up.get((choice.index, delivery.domain))
                if len(waiting) >= share if waiting is not None else len(self._looking_up) >= LOOKUPS_MAX:
                    return False
            elif (destination := self.destinations.get(target.key)) is not None and (
                destination.down_until(now) or len(destination.waiting) >= share
            ):
                return False
        self._take(message)
        return True

    # --- sorting ---

    def _take(self, message: QueuedMessage) -> None:
        """Sort the claimed deliveries of one message into jobs."""
        self.loaded += len(message.deliveries)
        if len(message.deliveries) == 1:
            delivery = message.deliveries[0]
            choice, target = self._planner.known(message.envelope, delivery)
            message = self._hold_content(message, 1)
            self._hand_on(
                Job(message, message.deliveries, self._planner.retry(choice, target, delivery.domain)), choice, target
            )
            return
        groups: dict[tuple[int | None, str], tuple[RouteChoice[Step], Target | None, list[Delivery]]] = {}
        for delivery in message.deliveries:
            choice, target = self._planner.known(message.envelope, delivery)
            name = (-1, target.key) if target is not None else (choice.index, delivery.domain)
            groups.setdefault(name, (choice, target, []))[2].append(delivery)
        message = self._hold_content(message, len(groups))
        for choice, target, deliveries in groups.values():
            retry = self._planner.retry(choice, target, deliveries[0].domain)
            self._hand_on(Job(message, tuple(deliveries), retry), choice, target)

    def _hold_content(self, message: QueuedMessage, jobs: int) -> QueuedMessage:
        """Keep the content in memory for so many jobs if there is room; counted once a job."""
        if message.content is None:
            return message
        if self._content_held + len(message.content) * jobs > CONTENT_MAX:
            return msgspec.structs.replace(message, content=None)
        self._content_held += len(message.content) * jobs
        return message

    def _hand_on(self, job: Job, choice: RouteChoice[Step], target: Target | None) -> None:
        if target is not None:
            self.destination(target, job.deliveries[0].domain).put(job)
            return
        domain = job.deliveries[0].domain
        if (waiting := self._looking_up.get((choice.index, domain))) is not None:
            waiting.append(job)
            return
        self._looking_up[choice.index, domain] = [job]
        self._domains_looked_up[domain] = self._domains_looked_up.get(domain, 0) + 1
        self._start_task(self._look_up(choice, domain))

    async def _look_up(self, choice: RouteChoice[Step], domain: str) -> None:
        """Find the hosts of a domain, then hand its jobs on, or settle them if there are none."""
        error: AttemptError | None = None
        target: Target | None = None
        try:
            target = await self._planner.find(choice, domain)
        except AttemptError as problem:
            error = problem
        except Exception as problem:  # noqa: BLE001 - boundary: an error of ours; the jobs go back, nothing is lost
            self._broke("a lookup broke", problem)
        finally:
            jobs = self._looking_up.pop((choice.index, domain), [])
            if not (left := self._domains_looked_up.pop(domain, 1) - 1) <= 0:
                self._domains_looked_up[domain] = left
        now = self.now()
        for waiting in jobs:
            if error is not None:
                self.settle_error(waiting, f"mx:{domain}", error)
            elif target is not None:
                waiting.retry = self._planner.retry(choice, target, domain)
                self.destination(target, domain).put(waiting)
            else:
                self._unclaim(waiting, now + BROKEN_PAUSE)
        # Nothing is remembered of a failed lookup: without this the next few hundred would be asked for at once.
        pause = jobs[0].retry.first if error is not None and jobs and not error.is_permanent else 0.0
        self._house.spool.pause(domain, now + pause)
        self._wake.set()

    def _unclaim(self, job: Job, until: float) -> None:
        self._house.spool.unclaim(job.id, job.numbers)
        self._forget(job)
        for delivery in job.deliveries:
            self._house.spool.pause(delivery.domain, until)

    def _broke(self, what: str, error: Exception) -> None:
        self._house.outlet.emit(facts.Trouble(at=self.now(), what="scheduler", why=f"{type(error).__name__}: {error}"))
        asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})

    def destination(self, target: Target, domain: str) -> Destination:
        """Return the destination of a target, made if need be."""
        destination = self.destinations.get(target.key)
        if destination is None:
            limits = self._house.limits_for(target, domain)
            self._forget_unused()
            window = Window(limits.connections, first=limits.retry.first, longest=limits.retry.longest)
            destination = Destination(target, limits, window, self, self._house.make_lane, self._house.time)
            self.destinations[target.key] = destination
        return destination

    def _forget_unused(self) -> None:
        """Forget what was learnt about destinations without work, the oldest first, where there are too many."""
        if len(self.destinations) < DESTINATIONS_MAX:
            return
        for key in [key for key, one in self.destinations.items() if one.is_unused][: DESTINATIONS_MAX // 10]:
            del self.destinations[key]

    def describe(self, domain: str) -> DestinationState | None:
        """Return what is known of the destination of a domain; None if nothing is. From memory."""
        destination = self._known_destination(domain)
        if destination is None:
            return None
        window = destination.window
        status = _STATUS[window.phase(self._house.time())]
        if status == "open" and window.why:
            status = "slow"
        return DestinationState(destination.key, status, window.why)

    # --- what lanes and destinations tell us ---

    def learned(self, destination: Destination, attempt: Attempt) -> None:
        """Let the destination's window learn from an attempt; a destination found dead gives its jobs back."""
        window, now = destination.window, self._house.time()
        if why := attempt.trouble:
            window.on_trouble(now, begun_at=attempt.begun_at, why=why, spread=self._house.dice.random())
            if destination.down_until(self.now()):
                destination.closed()
        elif attempt.has_delivered:
            window.on_success(now)
            destination.start_lanes()
        else:
            window.on_answer(now)
            destination.start_lanes()

    def lost(self, job: Job) -> None:
        """Forget a job whose message the spool has set aside, deliveries and all."""
        self._forget(job)

    def may_start_lane(self, destination: Destination) -> bool:
        if self._stopping:
            return False
        if self.lanes >= LANES_MAX:
            self._starving[destination.key] = destination
            for other in self.destinations.values():
                if other.idle_lanes:
                    other.let_idle_go(1)
                    break
            return False
        self.lanes += 1
        return True

    def lane_ended(self, destination: Destination) -> None:
        self.lanes -= 1
        if self._starving:
            key = next(iter(self._starving))
            self._starving.pop(key).start_lanes()
        if destination.is_idle:
            self.destinations.pop(destination.key, None)

    def wants_work(self, destination: Destination) -> None:
        now = self.now()
        for _ in range(min(RESUME_MAX, len(destination.paused_domains))):
            self._house.spool.pause(destination.paused_domains.pop(), now)
        self._wake.set()

    def give_back(self, destination: Destination, jobs: Sequence[Job], until: float) -> None:
        for job in jobs:
            self._unclaim(job, until)

    def settle(self, job: Job, rulings: Sequence[Ruling]) -> None:
        """Make the outcomes of a job durable; reports that have become due are made soon."""
        self._house.spool.record(job.id, rulings)
        self._forget(job)
        if any(map(is_report, rulings)):
            self._house.report_due()

    def settle_error(self, job: Job, key: str, error: AttemptError) -> None:
        """Settle a job whose attempt broke off before any recipient had an answer."""
        self.settle(job, self._settler.of_error(job, key, error))

    def _forget(self, job: Job) -> None:
        self.loaded -= len(job.deliveries)
        if job.message.content is not None:
            self._content_held -= len(job.message.content)
