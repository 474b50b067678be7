"""What is due, sorted by destination: the flow from the spool to the lanes.

Owns: which claimed deliveries are in memory, how many, and for which destination. Does not own: claims (spool),
routes and times (policy), attempts (lane.py), what an outcome means (trouble.py).

Nobody may fill the memory alone: a destination gets at most a quarter of what is still free, so that however many slow
ones there are, there is room for the others (the dynamic threshold of shared-memory switches).
A destination that is down or suspended gives its jobs back and has its domains paused until its next probe, or the end
of the suspension: a dead domain with a million messages due costs a few hundred rows a probe, a suspended one none.
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
from postroad.outbound.destinations import Destinations
from postroad.outbound.hops import Target
from postroad.outbound.house import OutboundHouse
from postroad.outbound.job import Job
from postroad.outbound.lookups import Lookup, Lookups
from postroad.outbound.planner import Planner, Step
from postroad.outbound.settle import Settler, is_report
from postroad.outbound.stalled import Stalled
from postroad.outbound.wanted_back import WaitingJobs
from postroad.policy.route import RouteChoice
from postroad.policy.steered import Steered, SuspensionRule
from postroad.spool.face import Delivery, QueuedMessage, Ruling

LOADED_MAX: Final = 20_000
"""Deliveries claimed into memory, in all. About 1 KiB each without content."""
CLAIM_MAX: Final = 200
"""Deliveries of one domain claimed at a time."""
CONTENT_MAX: Final = 32 * MIB
"""Octets of content kept in memory for deliveries that wait; more is read back from the spool."""
RESUME_MAX: Final = 200
"""Paused domains looked at again when a destination wants work."""
FULL_PAUSE: Final = 30.0
"""Seconds for which a domain is left alone when its destination is full; the destination ends that earlier."""
BROKEN_PAUSE: Final = 60.0
"""Seconds for which a domain is left alone whose mail met an error of ours."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at what is due, at most: asking is from memory, and rulings become due on their own."""
FOR_EVER: Final = float("inf")


class Scheduler:
    """Moves due deliveries to their destinations, and outcomes back."""

    def __init__(self, house: OutboundHouse, planner: Planner, settler: Settler) -> None:
        self._house = house
        self._planner = planner
        self._settler = settler
        self.destinations = Destinations(self)
        self._steered = Steered()
        self._stalled = Stalled(house.spool)
        self._lookups = Lookups()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.loaded = 0
        self._content_held = 0
        self._stopping = False

    # --- life ---

    def start(self) -> None:
        """Begin to move mail."""
        self._house.spool.on_kept(self.on_kept)
        self._house.spool.on_wanted_back(WaitingJobs(self.destinations, self._lookups, self._return))
        self.run(self._run())

    async def drain(self, patience: float) -> None:
        """Let attempts under way finish within ``patience`` seconds; start no new ones."""
        self._stopping = True
        self._wake.set()
        self._retire()
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
        for destination in self.destinations:
            destination.window.wake(now)
        self._wake.set()

    def steer(self, steered: Steered) -> None:
        """Take over what people say of destinations: at once for what waits, after the attempt for what is in hand."""
        self._steered = steered
        self._return(self.destinations.steer(steered, self._house, self._is_suspended))
        if steered.suspends:
            self._return(self._lookups.take_away(lambda domain: steered.suspension_of_domain(domain) is not None))
        # What was paused for a rule that is over is woken; what is still suspended, or down, goes to sleep again.
        self._stalled.wake_all()
        self._wake.set()

    def switch(self, house: OutboundHouse, planner: Planner, settler: Settler) -> None:
        """Go on by another plan: what waits is planned anew, attempts in hand finish as they began."""
        self._house, self._planner, self._settler = house, planner, settler
        self._retire()

    def _retire(self) -> None:
        self._return(self.destinations.retire())
        self._return(self._lookups.take_away(lambda _: True))
        self._stalled.wake_all()

    def _return(self, jobs: Sequence[Job]) -> None:
        """Give jobs back; they are looked at again at once."""
        for job in jobs:
            self._house.spool.unclaim(job.id, job.numbers)
            self._forget(job)
        self._wake.set()

    def _is_suspended(self, job: Job) -> bool:
        of_domain = self._steered.suspension_of_domain
        return any(of_domain(delivery.domain) is not None for delivery in job.deliveries)

    def now(self) -> float:
        return self._house.clock.now()

    def run(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- from the spool: what is due ---

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                woken = self._stalled.wake_some(self.now())
                moved = await self._load_due() or woken
            except Exception as error:  # noqa: BLE001 - boundary: claims not handed on are freed by the next start
                self.broke("the scheduler broke", error)
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
        """Claim what is due and has room; True if there may be more to look at."""
        spool = self._house.spool
        domains = spool.due_domains(self.now(), RESUME_MAX)
        moved = len(domains) == RESUME_MAX
        for domain in domains:
            room = self._room(domain)
            if room <= 0 or self._stopping:
                continue
            for message in await self._claim(domain, min(room, CLAIM_MAX)):
                moved = True
                try:
                    self._take(message)
                except Exception as error:  # noqa: BLE001 - boundary: one message that breaks us must not stop the others
                    self.broke("a message could not be sorted", error)
                    spool.unclaim(message.id, [delivery.number for delivery in message.deliveries])
                    spool.pause(domain, self.now() + BROKEN_PAUSE)
        return moved

    async def _claim(self, domain: str, limit: int) -> Sequence[QueuedMessage]:
        messages = await self._house.spool.claim(domain, self.now(), limit)
        if not self._stopping:
            return messages
        for message in messages:
            self._house.spool.unclaim(message.id, [delivery.number for delivery in message.deliveries])
        return []

    def _room(self, domain: str) -> int:
        """Return how many deliveries of a domain may be claimed now; 0 leaves it paused."""
        now = self.now()
        self._stalled.looked_at(domain)
        if (rule := self._steered.suspension_of_domain(domain)) is not None:
            self._suspended(domain, rule, now)
            return 0
        free = LOADED_MAX - self.loaded
        if free < 4:
            self._house.spool.pause(domain, now + 1.0)
            return 0
        share = min(WAITING_MAX, free // 4)
        destination = self._known_destination(domain)
        if destination is None:
            # While a domain is looked up, a few of its messages are enough: they tell when to come again if that fails.
            if self._lookups.are_full or self._lookups.has_domain(domain):
                self._house.spool.pause(domain, now + 1.0)
                return 0
            return min(share, CLAIM_MAX)
        if until := destination.down_until(now):
            self._stalled.pause(domain, until, now)
            return 0
        room = share - len(destination.waiting)
        if room <= 0 or (len(destination.waiting) > WAITING_LOW and destination.paused_domains):
            self._stalled.pause(domain, now + FULL_PAUSE, now)
            destination.paused_domains.add(domain)
            return 0
        return room

    def _known_destination(self, domain: str) -> Destination | None:
        target = self._planner.known_by_domain(domain)
        return None if target is None else self.destinations.get(target.key)

    def _suspended(self, domain: str, rule: SuspensionRule, now: float) -> None:
        self._stalled.pause(domain, FOR_EVER if rule.until is None else rule.until, now)

    # --- from inbound, by way of the spool: what has just become durable ---

    def on_kept(self, message: QueuedMessage) -> bool:
        """Take a message that has just been kept, if its destinations are open and have room."""
        if self._stopping or LOADED_MAX - self.loaded < 4 * len(message.deliveries):
            return False
        share = min(WAITING_MAX, (LOADED_MAX - self.loaded) // 4)
        now, steered = self.now(), self._steered
        for delivery in message.deliveries:
            if steered.suspends and steered.suspension_of_domain(delivery.domain) is not None:
                return False
            choice, target = self._planner.known(message.envelope, delivery)
            if target is None:
                waiting = self._lookups.waiting(choice, delivery.domain)
                if waiting >= share if waiting is not None else self._lookups.are_full:
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
        if self._steered.suspends:
            message = self._without_suspended(message)
        self.loaded += len(message.deliveries)
        if len(message.deliveries) == 1:
            delivery = message.deliveries[0]
            choice, target = self._planner.known(message.envelope, delivery)
            message = self._hold_content(message, 1)
            retry = self._planner.retry(choice, target, delivery.domain)
            self._hand_on(Job(message, message.deliveries, retry), choice, target)
            return
        groups: dict[tuple[int | None, str], tuple[RouteChoice[Step], Target | None, list[Delivery]]] = {}
        for delivery in message.deliveries:
            choice, target = self._planner.known(message.envelope, delivery)
            name = (choice.index, delivery.domain if target is None else target.key)  # a route has its own retry
            groups.setdefault(name, (choice, target, []))[2].append(delivery)
        message = self._hold_content(message, len(groups))
        for choice, target, deliveries in groups.values():
            retry = self._planner.retry(choice, target, deliveries[0].domain)
            self._hand_on(Job(message, tuple(deliveries), retry), choice, target)

    def _without_suspended(self, message: QueuedMessage) -> QueuedMessage:
        """Give deliveries back that were suspended while they were being claimed."""
        of_domain, now = self._steered.suspension_of_domain, self.now()
        left = []
        for delivery in message.deliveries:
            if (rule := of_domain(delivery.domain)) is None:
                left.append(delivery)
            else:
                self._house.spool.unclaim(message.id, [delivery.number])
                self._suspended(delivery.domain, rule, now)
        return msgspec.structs.replace(message, deliveries=tuple(left))

    def _hold_content(self, message: QueuedMessage, jobs: int) -> QueuedMessage:
        """Keep the content in memory for so many jobs if there is room; counted once a job."""
        if message.content is None:
            return message
        if self._content_held + len(message.content) * jobs > CONTENT_MAX:
            return msgspec.structs.replace(message, content=None)
        self._content_held += len(message.content) * jobs
        return message

    def _hand_on(self, job: Job, choice: RouteChoice[Step], target: Target | None) -> None:
        job.route = choice.rule
        if target is not None:
            self.destination(target, job.deliveries[0].domain).put(job)
            return
        lookup = self._lookups.add(choice, job.deliveries[0].domain, job)
        if lookup is not None:
            self.run(self._look_up(lookup, self._planner))

    async def _look_up(self, lookup: Lookup, planner: Planner) -> None:
        """Find the hosts of a domain, then hand its jobs on, or settle them if there are none."""
        error: AttemptError | None = None
        target: Target | None = None
        domain = lookup.domain
        try:
            target = await planner.find(lookup.choice, domain)
        except AttemptError as problem:
            error = problem
        except Exception as problem:  # noqa: BLE001 - boundary: an error of ours; the jobs go back, nothing is lost
            self.broke("a lookup broke", problem)
        jobs = self._lookups.end(lookup)
        if not jobs:
            return  # taken away meanwhile: by a new plan, or a suspension
        now = self.now()
        for waiting in jobs:
            if error is not None:
                self.settle_error(waiting, f"mx:{domain}", error)
            elif target is not None:
                waiting.retry = planner.retry(lookup.choice, target, domain)
                self.destination(target, domain).put(waiting)
            else:
                self.give_back([waiting], now + BROKEN_PAUSE)
        # Nothing is remembered of a failed lookup: without this the next few hundred would be asked for at once.
        if error is not None and not error.is_permanent:
            self._stalled.pause(domain, now + jobs[0].retry.first, now)
        elif error is not None or target is not None:  # else it was ours, and has its pause
            self._house.spool.pause(domain, now)
        self._wake.set()

    def broke(self, what: str, error: Exception) -> None:
        self._house.outlet.emit(facts.Trouble(at=self.now(), what="scheduler", why=f"{type(error).__name__}: {error}"))
        asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})

    def destination(self, target: Target, domain: str) -> Destination:
        """Return the destination of a target, made if need be."""
        return self.destinations.of(target, domain, self._house, self._steered)

    def describe(self, domain: str) -> DestinationState | None:
        """Return what is known of the destination of a domain; None if nothing is. From memory."""
        suspension = self._steered.suspension_of_domain(domain)
        return self.destinations.describe(self._known_destination(domain), suspension)

    # --- what lanes and destinations tell us ---

    def learned(self, destination: Destination, attempt: Attempt) -> None:
        """Let the destination's window learn from an attempt; a destination found dead gives its jobs back."""
        self.destinations.learned(destination, attempt, self._house.dice)

    def lost(self, job: Job) -> None:
        """Forget a job whose message the spool has set aside, deliveries and all."""
        self._forget(job)

    def may_start_lane(self, destination: Destination) -> bool:
        if self._stopping:
            return False
        return self.destinations.may_start_lane(destination)

    def lane_ended(self, destination: Destination) -> None:
        self.destinations.lane_ended(destination)

    def wanted(self, key: str) -> None:
        """Another worker waits for a connection to the destination of that key."""
        if (destination := self.destinations.get(key)) is not None:
            destination.wanted()

    def wants_work(self, destination: Destination) -> None:
        now = self.now()
        for _ in range(min(RESUME_MAX, len(destination.paused_domains))):
            self._house.spool.pause(destination.paused_domains.pop(), now)
        self._wake.set()

    def give_back(self, jobs: Sequence[Job], until: float) -> None:
        now = self.now()
        self._return(jobs)
        for delivery in (delivery for job in jobs for delivery in job.deliveries):
            self._stalled.pause(delivery.domain, until, now)

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
