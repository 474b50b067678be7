"""One destination: its queue of jobs, its window, its lanes (connections) and what is wrong with it.

Owns: which job a lane takes next, when a lane is started, when jobs go back to the spool because the
destination is down. Does not own: the conversation (lane.py), the arithmetic of the window
(policy/window.py), which domains lead here (scheduler.py).

Nothing here waits: methods are called by lanes and the scheduler, on the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from postroad.outbound.hops import DestinationLimits, Target
from postroad.outbound.job import Job
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


class Owner(Protocol):
    """What a destination asks of the scheduler."""

    def may_start_lane(self, destination: Destination) -> bool:
        """True if one more connection fits into the bound of the whole worker; else it is told later."""

    def lane_ended(self, destination: Destination) -> None:
        """A lane is over."""

    def give_back(self, destination: Destination, jobs: list[Job], until: float) -> None:
        """Unclaim jobs; their domains are not looked at before ``until`` (seconds since the epoch)."""

    def wants_work(self, destination: Destination) -> None:
        """Fewer than WAITING_LOW jobs wait, and domains were left waiting for it."""

    def run(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run a lane as a task of its own."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""


class Destination:
    """A queue in front of one place, and the connections to it."""

    def __init__(
        self,
        target: Target,
        limits: DestinationLimits,
        window: Window,
        owner: Owner,
        lane: Callable[[Destination], Coroutine[object, object, None]],
        time: Callable[[], float],
    ) -> None:
        """``time``: the event loop's clock, which the window counts by."""
        self.target = target
        self.limits = limits
        self.window = window
        self._owner = owner
        self._lane = lane
        self._time = time
        self.waiting: deque[Job] = deque()
        self.lanes = 0
        self._idle: list[asyncio.Future[Job | None]] = []
        self._is_stopping = False
        self.paused_domains: set[str] = set()
        self.in_work = 0
        """Jobs that lanes have in hand."""

    @property
    def key(self) -> str:
        return self.target.key

    @property
    def is_idle(self) -> bool:
        """True if the destination can be forgotten: no work, no connection, nothing wrong."""
        return self.is_unused and self.window.probe_at is None and not self.window.why

    @property
    def is_unused(self) -> bool:
        """True if there is no work and no connection."""
        return not (self.waiting or self.lanes or self.paused_domains)

    def down_until(self, now: float) -> float:
        """Return until when nothing is sent there, or 0.0 if something may be. Both: seconds since the epoch."""
        probe_at, time = self.window.probe_at, self._time()
        return 0.0 if probe_at is None or probe_at <= time else now + (probe_at - time)

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= WAITING_MAX

    # --- work in ---

    def put(self, job: Job) -> None:
        """Take a job: to a lane that waits, to a new lane, or into the queue; back to the spool if we are down."""
        if until := self.down_until(self._owner.now()):
            self._owner.give_back(self, [job], until)
            return
        while self._idle:
            idle = self._idle.pop()  # the one used last: the others may time out
            if not idle.done():
                idle.set_result(job)
                return
        self.waiting.append(job)
        self.start_lanes()

    def start_lanes(self) -> None:
        """Start as many lanes as the window allows and the waiting jobs need."""
        room = self.window.room(self._time(), self.lanes)
        while room > 0 and len(self.waiting) > self.lanes - self.in_work:
            room -= 1
            if not self._owner.may_start_lane(self):
                return
            self.lanes += 1
            self._owner.run(self._lane(self))

    # --- work out: called by lanes ---

    def take(self) -> Job | None:
        """Return the next job, or None."""
        if not self.waiting:
            return None
        job = self.waiting.popleft()
        if self.paused_domains and len(self.waiting) in (WAITING_LOW, 0):
            self._owner.wants_work(self)
        return job

    def has_room_for_me(self) -> bool:
        """True if a lane that has finished a job may go on; False if the window has closed under it."""
        return self.window.room(self._time(), self.lanes - 1) > 0

    async def wait_for_job(self) -> Job | None:
        """Return the next job that comes within IDLE_KEEP, or None. For a lane with an open connection."""
        if self._is_stopping:
            return None
        loop = asyncio.get_running_loop()
        idle: asyncio.Future[Job | None] = loop.create_future()
        timer = loop.call_later(IDLE_KEEP, _give_up, idle)
        self._idle.append(idle)
        try:
            return await idle
        finally:
            timer.cancel()
            if idle in self._idle:
                self._idle.remove(idle)

    def stop(self) -> None:
        """Ask all idle lanes to end, and those at work once they have finished: no job will come any more."""
        self._is_stopping = True
        self.let_idle_go()

    def let_idle_go(self, count: int = 1_000_000) -> None:
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
        """A lane is over; another may take its place."""
        self.lanes -= 1
        self._owner.lane_ended(self)
        if self.down_until(self._owner.now()):
            self.closed()
        elif self.waiting:
            self.start_lanes()
        elif self.paused_domains:
            self._owner.wants_work(self)

    # --- trouble ---

    def closed(self) -> None:
        """The window has closed: what waits goes back to the spool, untouched, until the next probe."""
        jobs = list(self.waiting)
        self.waiting.clear()
        self.paused_domains.clear()
        self._owner.give_back(self, jobs, self.down_until(self._owner.now()))


def _give_up(idle: asyncio.Future[Job | None]) -> None:
    if not idle.done():
        idle.set_result(None)
