"""One destination: its queue of jobs, its window, its lanes (connections) and what is wrong with it.

Owns: which job a lane takes next, when a lane is started, when jobs go back to the spool because the
destination is down or suspended. Does not own: the conversation (lane.py), the arithmetic of the window
(policy/window.py), leases and tokens (gate.py), which domains lead here (scheduler.py).

One asker a destination, a task while it has something to ask for, gets what jobs need besides a lane: a lane begins
with a lease, and a job is handed out with its token, so that none is held by a lane that only waits. All else
never waits: methods are called by lanes and the scheduler, on the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from postroad.outbound.gate import Gate, token_wait
from postroad.outbound.hops import DestinationLimits, Target, ToHops
from postroad.outbound.job import Job
from postroad.policy.steered import SuspensionRule
from postroad.policy.window import Window

if TYPE_CHECKING:
    from collections.abc import Coroutine

WAITING_MAX: Final = 1_000
"""Jobs that wait in memory for one destination; more stay in the spool. Enough for a second at full speed."""
WAITING_LOW: Final = 250
"""Jobs below which the destination asks for more."""
IDLE_KEEP: Final = 5.0
"""Seconds for which a connection is kept without work: long enough for the next message of a burst, short enough
that it is no nuisance to a next hop (Postfix keeps one for 2 s, RFC 5321 section 4.5.3.2.7 allows 5 minutes)."""
SPARE_KEEP: Final = 1.0
"""Seconds for which a lease without a connection is kept while tokens are waited for."""
PLACE_WAIT: Final = 0.5
"""Seconds until a lane is asked for again where the worker has as many as it may; told earlier as a rule."""
BROKEN_WAIT: Final = 1.0
"""Seconds until the asker tries again after an error of ours."""
ALL: Final = 1_000_000
FOR_EVER: Final = float("inf")


class Owner(Protocol):
    """What a destination asks of the scheduler."""

    def may_start_lane(self, destination: Destination) -> bool:
        """True if one more connection fits into the bound of the whole worker; else it is told later."""

    def lane_ended(self, destination: Destination) -> None:
        """A lane is over."""

    def give_back(self, jobs: list[Job], until: float) -> None:
        """Unclaim jobs; their domains are not looked at before ``until`` (seconds since the epoch)."""

    def wants_work(self, destination: Destination) -> None:
        """Fewer than WAITING_LOW jobs wait, and domains were left waiting for it."""

    def run(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run a lane as a task of its own."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""

    def broke(self, what: str, error: Exception) -> None:
        """Tell of an error of ours."""


class Destination:
    """A queue in front of one place, and the connections to it."""

    def __init__(
        self,
        target: Target,
        limits: DestinationLimits,
        window: Window,
        owner: Owner,
        lane: Callable[[Destination], Coroutine[object, object, None]],
        gate: Gate,
        time: Callable[[], float],
        domain: str = "",
    ) -> None:
        """``time``: the event loop's clock, which the window counts by. ``domain``: one whose mail goes here."""
        self.target = target
        self.limits = limits
        self.window = window
        self.domain = domain
        self.suspension: SuspensionRule | None = None
        """What suspends it by its key or its hosts; jobs that wait are the scheduler's to take away then."""
        self._owner = owner
        self._lane = lane
        self._gate = gate
        self.time = time
        self._leases = isinstance(target, ToHops)  # what ends here has no connections
        self.waiting: deque[Job] = deque()
        self.lanes = 0
        self._idle: list[asyncio.Future[Job | None]] = []
        self._is_stopping = False
        self._is_to_yield = False  # a lane ends after its job, for another worker
        self._is_asking = False
        self._waits_for_lease = False
        self._poke = asyncio.Event()
        self.paused_domains: set[str] = set()
        self.in_work = 0
        """Jobs that lanes have in hand, or are being handed."""

    @property
    def key(self) -> str:
        return self.target.key

    @property
    def is_idle(self) -> bool:
        """True if the destination can be forgotten: no work, no connection, nothing wrong."""
        return self.is_unused and self.window.probe_at is None and not self.window.why and self.suspension is None

    @property
    def is_unused(self) -> bool:
        """True if there is no work and no connection."""
        return not (self.waiting or self.lanes or self.paused_domains or self._is_asking)

    def down_until(self, now: float) -> float:
        """Return until when nothing is sent there, or 0.0 if something may be. Both: seconds since the epoch."""
        if (rule := self.suspension) is not None:
            return FOR_EVER if rule.until is None else rule.until
        probe_at, time = self.window.probe_at, self.time()
        return 0.0 if probe_at is None or probe_at <= time else now + (probe_at - time)

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= WAITING_MAX

    # --- work in ---

    def put(self, job: Job) -> None:
        """Take a job: to a lane that waits, to a new lane, or into the queue; back to the spool if we are down."""
        if until := self.down_until(self._owner.now()):
            self._owner.give_back([job], until)
            return
        if self._idle and not self.waiting and (self.limits.rate is None or self._gate.use_token()):
            while self._idle:
                idle = self._idle.pop()  # the one used last: the others may time out
                if not idle.done():
                    self.in_work += 1
                    idle.set_result(job)
                    return
        self.waiting.append(job)
        self.start_lanes()

    def start_lanes(self) -> None:
        """Have the asker get as many lanes as the window allows and the waiting jobs need, and tokens for idle ones."""
        if not self._is_asking and self._wants_more():
            self._is_asking = True
            self._owner.run(self._ask())

    def _wants_more(self) -> bool:
        if not self.waiting or self._is_stopping:
            return False
        return bool(self._idle) or self._wants_lane()

    def _wants_lane(self) -> bool:
        return len(self.waiting) > self.lanes - self.in_work and self.window.room(self.time(), self.lanes) > 0

    # --- the asker ---

    async def _ask(self) -> None:
        """Ask for leases and tokens, and hand out what they allow, until lanes go on by themselves."""
        gate = self._gate
        try:
            while self._wants_more():
                self._poke.clear()
                try:
                    wait = await self._get_ready() or self._hand_out()
                except Exception as error:  # noqa: BLE001 - boundary: jobs wait on, and it is tried again
                    self._owner.broke("a destination could not ask for leave", error)
                    wait = BROKEN_WAIT
                if wait > 0:
                    if wait > SPARE_KEEP or self._is_stopping:
                        gate.give_spare()
                    await self._pause(wait)
        finally:
            self._is_asking = False
            gate.give_spare()

    async def _get_ready(self) -> float:
        """Get what the next job needs; return 0.0, or the seconds to wait for it."""
        rate = self.limits.rate
        self._waits_for_lease = not self._idle and self._leases
        if self._waits_for_lease:
            if wait := await self._gate.lease(self.limits.connections):
                return wait
            self._waits_for_lease = False
        if rate is not None and not self._gate.has_token and self._wants_more():
            return await self._gate.take_tokens(rate, len(self.waiting))
        return 0.0

    def _hand_out(self) -> float:
        """Give jobs to idle lanes, or start one; return the seconds to wait where the worker has no place for one."""
        while self._idle and self._wants_more():
            idle = self._idle.pop()
            if not idle.done():
                if self.limits.rate is not None and not self._gate.use_token():
                    self._idle.append(idle)
                    return 0.0
                idle.set_result(self._next())
        if self._idle or not self._wants_more() or (self._leases and not self._gate.spare):
            return 0.0
        if not self._owner.may_start_lane(self):
            self._gate.give_spare()
            return PLACE_WAIT
        if self._leases:
            self._gate.hand_over()
        self.lanes += 1
        self._owner.run(self._lane(self))
        return 0.0

    async def _pause(self, seconds: float) -> None:
        if self._is_stopping:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._poke.wait()
        except TimeoutError:
            return

    # --- work out: called by lanes ---

    def take(self) -> Job | None:
        """Return the next job, or None; who gets one says ``done`` after it."""
        if not self.waiting:
            return None
        if self.limits.rate is not None and not self._gate.use_token():
            self.start_lanes()
            return None
        return self._next()

    def _next(self) -> Job:
        job = self.waiting.popleft()
        self.in_work += 1
        if self.paused_domains and len(self.waiting) in (WAITING_LOW, 0):
            self._owner.wants_work(self)
        return job

    def done(self) -> None:
        """A lane has no longer a job in hand."""
        self.in_work -= 1

    def has_room_for_me(self) -> bool:
        """True if a lane that has finished a job may go on; False if the window has closed under it."""
        if self._is_to_yield:
            self._is_to_yield = False
            self._gate.hold_off()
            return False
        return self.window.room(self.time(), self.lanes - 1) > 0

    def is_too_late(self, taken_at: float) -> bool:
        """True if a job was taken so long ago that its MAIL needs another token: its lane gives it back.

        ``taken_at``: by the event loop's clock.
        """
        rate = self.limits.rate
        return rate is not None and self._gate.is_too_late(rate, taken_at, self.lanes + self.limits.connections)

    @property
    def token_keep(self) -> float:
        """Seconds for which a connection is kept whose job was too late."""
        return IDLE_KEEP if self.limits.rate is None else IDLE_KEEP + token_wait(self.limits.rate)

    async def wait_for_job(self, keep: float = IDLE_KEEP) -> Job | None:
        """Return the next job that comes within ``keep`` seconds, or None. For a lane with an open connection."""
        if self._is_stopping or self.suspension is not None:
            return None
        loop = asyncio.get_running_loop()
        idle: asyncio.Future[Job | None] = loop.create_future()
        timer = loop.call_later(keep, _give_up, idle)
        self._idle.append(idle)
        if self.waiting:
            self._lane_is_free()
        try:
            return await idle
        finally:
            timer.cancel()
            if idle in self._idle:
                self._idle.remove(idle)

    def stop(self) -> None:
        """Ask all idle lanes to end, and those at work once they have finished: no job will come any more."""
        self._is_stopping = True
        self._poke.set()
        self.let_idle_go()

    def let_idle_go(self, count: int = ALL) -> None:
        """Ask up to ``count`` idle lanes to end: others need their place."""
        while self._idle and count:
            idle = self._idle.pop(0)
            if not idle.done():
                idle.set_result(None)
                count -= 1

    @property
    def idle_lanes(self) -> int:
        return len(self._idle)

    def lane_ended(self) -> None:
        """A lane is over, its connection closed; another may take its place."""
        self.lanes -= 1
        if self._leases:
            self._gate.give()
        self._owner.lane_ended(self)
        if self.down_until(self._owner.now()):
            self.closed()
        elif self.waiting:
            self._lane_is_free()
        elif self.paused_domains:
            self._owner.wants_work(self)

    def try_again(self) -> None:
        """There is a place for a lane now, where there was none."""
        self._poke.set()
        self.start_lanes()

    def _lane_is_free(self) -> None:
        """What the asker waits for may be at hand now; where it waits for tokens, only time brings them."""
        if self._waits_for_lease:
            self._poke.set()
        self.start_lanes()

    # --- what changes while we run ---

    def wanted(self) -> None:
        """Another worker waits for a connection, and we hold more than our share: give one back, soon."""
        if self._idle:
            self.let_idle_go(1 if self.waiting else ALL)
            self._gate.hold_off()
        elif self._gate.spare:
            self._gate.give_spare()
            self._gate.hold_off()
        elif self.lanes:
            self._is_to_yield = True

    def configure(self, limits: DestinationLimits) -> None:
        """Take other limits over, at once: lanes above a lowered one end, after the job in hand."""
        if limits.rate != self.limits.rate:
            self._gate.forget_tokens()
        self.limits = limits
        self.window.configure(limits.connections, first=limits.retry.first, longest=limits.retry.longest)
        self.let_idle_go(max(0, self.lanes - limits.connections))
        self._poke.set()
        self.start_lanes()

    def suspend(self, rule: SuspensionRule | None) -> list[Job]:
        """Send nothing while ``rule`` holds (None: none does); return the jobs that wait, for the spool."""
        self.suspension = rule
        return [] if rule is None else self.empty()

    def take_away(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Return those of the waiting jobs that are ``unwanted``; the others keep their order."""
        jobs = [job for job in self.waiting if unwanted(job)]
        if jobs:
            self.waiting = deque(job for job in self.waiting if not unwanted(job))
            if self.paused_domains and len(self.waiting) <= WAITING_LOW:
                self._owner.wants_work(self)
        return jobs

    def empty(self) -> list[Job]:
        """Take the jobs that wait away and let idle lanes go."""
        self.paused_domains.clear()
        jobs = list(self.waiting)
        self.waiting.clear()
        self._gate.forget_tokens()
        self._poke.set()
        self.let_idle_go()
        return jobs

    # --- trouble ---

    def closed(self) -> None:
        """The window has closed: what waits goes back to the spool, untouched, until the next probe."""
        jobs = list(self.waiting)
        self.waiting.clear()
        self.paused_domains.clear()
        self._owner.give_back(jobs, self.down_until(self._owner.now()))


def _give_up(idle: asyncio.Future[Job | None]) -> None:
    if not idle.done():
        idle.set_result(None)
