"""All destinations of a worker: made, remembered, forgotten; how many lanes they have together.

Owns: which Destination stands for which key, what a new plan keeps of them (what their windows have learned), the bound
on all lanes. Does not own: a destination's queue (destination.py), what is due and where it goes (scheduler.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from postroad.core.faces import Dice
from postroad.outbound.attempt import Attempt
from postroad.outbound.control import DestinationState
from postroad.outbound.destination import Destination, Owner
from postroad.outbound.gate import Gate
from postroad.outbound.hops import Target, hosts_of
from postroad.outbound.house import OutboundHouse
from postroad.outbound.job import Job
from postroad.outbound.steered_words import words_of
from postroad.policy.steered import Steered, SuspensionRule
from postroad.policy.window import Phase, Window

LANES_MAX: Final = 1_000
"""Connections outward, in all."""
DESTINATIONS_MAX: Final = 20_000
"""Destinations remembered, about; those without work are forgotten first."""
_STATUS: Final = {Phase.OPEN: "open", Phase.DEAD: "down", Phase.PROBING: "probing"}


class Destinations:
    """See the module's header. ``owner``: what each of them asks (the scheduler)."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._known: dict[str, Destination] = {}
        self._learned: dict[str, Window] = {}
        """Windows of the plan before this, for destinations that come again."""
        self._starving: dict[str, Destination] = {}
        self.lanes = 0

    def __iter__(self) -> Iterator[Destination]:
        return iter(list(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Destination | None:
        return self._known.get(key)

    def of(self, target: Target, domain: str, house: OutboundHouse, steered: Steered) -> Destination:
        """Return the destination of a target, made if need be."""
        destination = self._known.get(target.key)
        if destination is None:
            limits = house.limits_for(target, domain)
            self._forget_unused()
            window = self._learned.pop(target.key, None) or Window(limits.connections)
            window.configure(limits.connections, first=limits.retry.first, longest=limits.retry.longest)
            gate = Gate(house.limits, target.key, house.time)
            destination = Destination(target, limits, window, self._owner, house.make_lane, gate, house.time, domain)
            if steered.suspends:
                destination.suspension = steered.suspension_of_key(target.key, hosts_of(target))
            self._known[target.key] = destination
        return destination

    def _forget_unused(self) -> None:
        """Forget what was learnt about destinations without work, the oldest first, where there are too many."""
        if len(self._known) < DESTINATIONS_MAX:
            return
        for key in [key for key, one in self._known.items() if one.is_unused][: DESTINATIONS_MAX // 10]:
            del self._known[key]

    def steer(self, steered: Steered, house: OutboundHouse, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Have other suspensions and limits hold; return the jobs that waited and may not be sent now."""
        jobs: list[Job] = []
        for destination in self:
            target = destination.target
            jobs += destination.suspend(steered.suspension_of_key(target.key, hosts_of(target)))
            limits = house.limits_for(target, destination.domain)
            if limits != destination.limits:
                destination.configure(limits)
            if steered.suspends:
                jobs += destination.take_away(unwanted)
        return jobs

    def retire(self) -> list[Job]:
        """Begin anew: lanes end after the job in hand, what was learnt is kept. Returns the jobs that waited."""
        jobs: list[Job] = []
        for destination in self:
            jobs += destination.empty()
            destination.stop()
        windows = self._learned | {key: one.window for key, one in self._known.items()}
        self._learned = {key: window for key, window in windows.items() if window.has_learned}
        self._known = {}
        self._starving = {}
        return jobs

    def learned(self, destination: Destination, attempt: Attempt, dice: Dice) -> None:
        """Let the destination's window learn from an attempt; a destination found dead gives its jobs back."""
        # One that a new plan has retired shares its window with the one that has come in its place.
        destination = self._known.get(destination.key) or destination
        window, now = destination.window, destination.time()
        if why := attempt.trouble:
            window.on_trouble(now, begun_at=attempt.begun_at, why=why, spread=dice.random())
            if destination.down_until(self._owner.now()):
                destination.closed()
            return
        if attempt.has_delivered:
            window.on_success(now)
        else:
            window.on_answer(now)
        destination.start_lanes()

    # --- lanes ---

    def may_start_lane(self, destination: Destination) -> bool:
        """Count one more lane, or return False if there are as many as there may be; it is told later."""
        if self.lanes >= LANES_MAX:
            self._starving[destination.key] = destination
            for other in self._known.values():
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
            self._starving.pop(key).try_again()
        if destination.is_idle and self._known.get(destination.key) is destination:
            del self._known[destination.key]

    # --- for people ---

    def describe(self, destination: Destination | None, suspension: SuspensionRule | None) -> DestinationState | None:
        """Return the state of a destination. ``suspension``: of the domain that was asked for."""
        if destination is None:
            return None if suspension is None else DestinationState("", "suspended", words_of(suspension))
        if (rule := suspension or destination.suspension) is not None:
            return DestinationState(destination.key, "suspended", words_of(rule))
        window = destination.window
        status = _STATUS[window.phase(destination.time())]
        if status == "open" and window.why:
            status = "slow"
        return DestinationState(destination.key, status, window.why)
