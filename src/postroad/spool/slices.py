"""What of a slice of the queue a person may change: all that nobody has in hand.

Owns: reading a slice until what was read is what holds; asking back those claims that only wait in memory; marking what
is taken as changing, so that nobody claims it before the change is committed. Does not own: what is then done to it
(steer.py), which claims only wait (the listener of ``on_wanted_back``), the rule by which a delivery is given out
(agenda.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.spool.agenda import Key, Watch
from postroad.spool.counting import Counting
from postroad.spool.face import Delivery, SpoolRefused, WantedBack, Why
from postroad.spool.rows import Head, HeadRow, WaitingRow
from postroad.spool.selection import Filter, Search
from postroad.spool.store_read import Place, ReadStore, Scanned

LOOKS_MAX: Final = 3
"""Times that a slice is read at most, where something of it changed while it was read; what is in doubt even then
counts as in flight."""
END: Final = 2**63 - 1
"""Above every id."""

Found = tuple[Head, list[Delivery]]
Pairs = list[tuple[Head, Delivery]]


class Slice(NamedTuple):
    """What was found, each in the order of ids."""

    free: Pairs
    """Nobody has it in hand. If it was to be taken, it is marked as changing."""
    waiting: Pairs
    """It is claimed, and only waits in memory: whoever claims it was not asked to give it back."""
    in_flight: int
    at: Place | None
    """Where the next slice begins; None: this was the last."""


def scan(after: Place, before: int, wanted: Filter, limit: int, by_domain: bool = False) -> Callable[..., Scanned]:
    """Return what reads up to ``limit`` rows behind a place."""
    return lambda store: store.scan(after, before, wanted, limit, by_domain=by_domain)


class Slices(Counting):
    """The part of a shard that finds what is free."""

    _wanted_back: WantedBack | None = None

    async def _check_rows(self, rows: list[WaitingRow], heads: list[HeadRow]) -> list[Found]:
        raise AssertionError("the shard checks")

    def on_wanted_back(self, listener: WantedBack) -> None:
        self._wanted_back = listener

    async def _answer(self, work: Callable[[ReadStore], Any]) -> Any:
        """Read for a person. What cannot be read is no "there is none": raises SpoolRefused."""
        read = await self._read(work)
        if read is None:
            raise SpoolRefused(Why.TROUBLE, "it cannot be read now")
        return read

    def _by_domain(self, search: Search) -> bool:
        """True if the index of domains is the shorter way."""
        domain = search.filter.domain
        return domain is not None and self.agenda.is_few(domain)

    async def _slice(self, search: Search, after: Place, size: int, *, takes: bool, wants_back: bool) -> Slice:
        """Find up to ``size`` deliveries that are meant. ``takes``: what is free is marked as changing, by its key.

        ``wants_back``: what only waits in memory is free as well; if it is taken, its claim has ended.
        """
        agenda = self.agenda
        for look in range(1, LOOKS_MAX + 1):
            watch = agenda.watch()
            try:
                rows, heads, at = await self._answer(scan(after, END, search.filter, size, self._by_domain(search)))
                meant = [
                    (head, delivery)
                    for head, deliveries in await self._check_rows(rows, heads)
                    for delivery in deliveries
                    if search.matches(delivery, head.envelope)
                ]
                if look == LOOKS_MAX or not any(self._is_in_doubt(delivery, watch) for _, delivery in meant):
                    break
            finally:
                agenda.unwatch(watch)
        free = [pair for pair in meant if agenda.may_give(pair[1], watch)]
        back = self._only_waiting(map(_place, meant), takes=takes and wants_back)
        known = [(head, back[key]) for head, one in meant if (key := (one.message, one.number)) in back]
        known = [pair for pair in known if search.admits(pair[1])]  # its row may have been read before the claim
        in_flight = len(meant) - len(free) - len(back)
        if wants_back and known:
            free, known = sorted([*free, *known], key=_place), []
        if takes:
            agenda.changing.update((delivery.message, delivery.number) for _, delivery in free)
        return Slice(free, known, in_flight, at)

    def _is_in_doubt(self, delivery: Delivery, watch: Watch) -> bool:
        """True if another look may find a delivery free: nobody has it, and it may not be what was read."""
        agenda, message = self.agenda, delivery.message
        if agenda.is_claimed(message, delivery.number) or (message, delivery.number) in agenda.changing:
            return False
        return message in watch.touched or message in agenda.arriving

    def _only_waiting(self, keys: Iterable[Key], *, takes: bool) -> dict[Key, Delivery]:
        """Return those of the deliveries whose claims only wait in memory, as they were claimed: so their rows are now.

        ``takes``: the claims end.
        """
        if self._wanted_back is None:
            return {}
        wanted: dict[MessageId, set[int]] = {}
        for message, number in keys:
            claim = self.agenda.claims.get(MessageId(message))
            if claim is None or claim.stale:
                continue
            delivery = claim.open.get(number)
            if delivery is not None and delivery.state == DeliveryState.DUE:
                wanted.setdefault(claim.id, set()).add(number)
        found = self._wanted_back(wanted, takes) if wanted else ()
        return {(delivery.message, delivery.number): delivery for delivery in found}


def _place(pair: tuple[Head, Delivery]) -> Key:
    return pair[1].message, pair[1].number
