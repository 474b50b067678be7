"""The ledger's book of connections: who holds how many under which key. Pure; the time is an argument.

Owns: counting, fair shares, who waits, whom to tell. Does not own: rates (rates.py), the wire (server.py), what a
share is (shares.py).

A worker may take more than its share of a key while others do not need theirs. Then the shares it takes from are
*lent*, and their owners are told before the taker is answered: while the ledger is away, what a worker may still take
is its share less what it holds and what is lent of it, and all together never exceed the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from postroad.core.units import SECOND
from postroad.ledger.shares import share_of
from postroad.ledger.wire import Answer, Freed, Lent, Wanted

PROMISE: Final = 0.5 * SECOND
"""Seconds for which a connection that came free is kept for somebody who waits below the fair share. Lanes ask again
every 0.2 s."""
WAITING: Final = 3 * SECOND
"""Seconds after which somebody who does not ask again waits no more. Clients ask again every second."""
WANTED_EVERY: Final = 0.5 * SECOND
"""Seconds between two times that a holder is told that others wait."""

Tell = Callable[[int, Answer], None]


class _Key:
    """One key. In the dictionaries: slot -> ..."""

    __slots__ = ("held", "lent", "most", "promised", "told", "total", "waiting")

    def __init__(self, most: int) -> None:
        self.most = most
        self.total = 0
        self.held: dict[int, int] = {}
        self.lent: dict[int, int] = {}
        self.waiting: dict[int, float] = {}  # since it last asked
        self.promised: dict[int, float] = {}  # until
        self.told: dict[int, float] = {}  # when a holder was last told that others wait


class Leases:
    """All keys. Its size is that of what workers hold: nobody waits for a key that nobody holds."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._keys: dict[str, _Key] = {}
        self._of: dict[int, set[str]] = {}  # slot -> keys it holds
        self.workers = 1
        self.absent: frozenset[int] = frozenset()
        """Workers of whom it is not known what they hold: at least their share, it must be supposed."""
        self._owed: dict[str, dict[int, int]] = {}  # key -> slot -> of its share, others' under an earlier ledger

    def take(self, slot: int, key: str, most: int, now: float) -> bool:
        """Count one more connection, or return False and note that the worker waits."""
        entry = self._keys.get(key)
        if entry is None:
            if most <= self._reserved(key, most):
                return False
            entry = self._keys[key] = _Key(most)
        entry.most = most
        free = most - entry.total
        if self.absent:
            free -= self._reserved(key, most)
        if entry.promised:
            free -= self._promised_to_others(entry, slot, now)
        if free <= 0:
            self._wait(entry, key, slot, now)
            return False
        entry.waiting.pop(slot, None)
        entry.promised.pop(slot, None)
        self._count(entry, key, slot, 1)
        return True

    def hold(self, slot: int, key: str, most: int, count: int) -> None:
        """Count what a worker holds in any case."""
        if count > 0:
            entry = self._keys.get(key)
            if entry is None:
                entry = self._keys[key] = _Key(most)
            entry.most = most
            self._count(entry, key, slot, count)

    def replace(self, slot: int, holds: Iterable[tuple[str, int, int]], now: float) -> None:
        """A worker holds this (key, most, count) and nothing else, whatever we believed."""
        before = [(key, self._keys[key].held[slot]) for key in self._of.get(slot, ())]
        for key, most, count in holds:
            self.hold(slot, key, most, count)
        for key, count in before:
            self._release(self._keys[key], key, slot, count, now)
        for key, entry in self._keys.items():  # what could be lent by nobody while this one was absent is lent by it
            self._lend(entry, key)

    def owe(self, slot: int, owed: dict[str, int]) -> None:
        """Note what an earlier ledger has lent of a worker's shares: perhaps to one that is absent.

        It adds to what was noted: who lent it says so once, and whoever has it may be absent for longer than that.
        """
        for key, count in owed.items():
            self._owed.setdefault(key, {})[slot] = count

    def forget_owed(self) -> None:
        """All have been here: what they hold is known, and with it what is lent."""
        self._owed.clear()

    def give(self, slot: int, key: str, now: float) -> None:
        """Count one less; whoever waits is told."""
        entry = self._keys.get(key)
        if entry is not None and slot in entry.held:
            self._release(entry, key, slot, 1, now)

    def drop(self, slot: int, now: float) -> None:
        """All that a worker holds is free, and it waits for nothing: it is dead."""
        for key in self._of.pop(slot, set()):
            entry = self._keys[key]
            self._release(entry, key, slot, entry.held[slot], now)
        for entry in self._keys.values():
            entry.waiting.pop(slot, None)
            entry.promised.pop(slot, None)

    def tell_lent(self, slot: int) -> None:
        """Tell a worker all that is lent of its shares."""
        for key, entry in self._keys.items():
            if slot in entry.lent:
                self._tell(slot, Lent(key, entry.lent[slot]))

    def held(self, key: str) -> int:
        """Return how many connections are held under a key."""
        entry = self._keys.get(key)
        return 0 if entry is None else entry.total

    def __len__(self) -> int:
        return len(self._keys)

    # --- counting ---

    def _count(self, entry: _Key, key: str, slot: int, count: int) -> None:
        entry.total += count
        entry.held[slot] = entry.held.get(slot, 0) + count
        self._of.setdefault(slot, set()).add(key)
        self._lend(entry, key)

    def _release(self, entry: _Key, key: str, slot: int, count: int, now: float) -> None:
        entry.total -= count
        entry.held[slot] -= count
        if not entry.held[slot]:
            del entry.held[slot]
            self._of.get(slot, set()).discard(key)
        self._lend(entry, key)
        self._wake(entry, key, now)
        if not entry.total:
            del self._keys[key]

    def _lend(self, entry: _Key, key: str) -> None:
        """See that what workers hold above their shares is lent of others', and tell those."""
        if self.workers == 1:
            return
        shares = [share_of(key, entry.most, slot, self.workers) for slot in range(self.workers)]
        excess = sum(count - share for slot, share in enumerate(shares) if (count := entry.held.get(slot, 0)) > share)
        if not excess and not entry.lent:
            return
        lent: dict[int, int] = {}
        for settled in (True, False):  # first what is lent already, so that few need to be told
            for slot, share in enumerate(shares):
                room = share - entry.held.get(slot, 0) - lent.get(slot, 0)
                if settled or slot in self.absent:  # who is away knows of what was lent, and can be told of no more
                    room = min(room, entry.lent.get(slot, 0))
                if room > 0 and excess:
                    more = min(room, excess)
                    lent[slot] = lent.get(slot, 0) + more
                    excess -= more
        for slot in lent.keys() | entry.lent.keys():
            if lent.get(slot, 0) != entry.lent.get(slot, 0):
                self._tell(slot, Lent(key, lent.get(slot, 0)))
        entry.lent = lent

    # --- waiting ---

    def _wait(self, entry: _Key, key: str, slot: int, now: float) -> None:
        if not entry.total:
            return
        entry.waiting[slot] = now
        fair = self._fair(entry, slot, now)
        if entry.held.get(slot, 0) >= fair:
            return
        for holder, count in entry.held.items():
            if count > fair and now - entry.told.get(holder, -WANTED_EVERY) >= WANTED_EVERY:
                entry.told[holder] = now
                self._tell(holder, Wanted(key))

    def _wake(self, entry: _Key, key: str, now: float) -> None:
        if not entry.waiting or entry.total >= entry.most:
            return
        for slot, since in list(entry.waiting.items()):  # _fair forgets who waits no more
            if now - since <= WAITING:
                if entry.held.get(slot, 0) < self._fair(entry, slot, now):
                    entry.promised[slot] = now + PROMISE
                self._tell(slot, Freed(key))
        entry.waiting.clear()

    def _fair(self, entry: _Key, slot: int, now: float) -> int:
        """Return how many each would have if all who hold or wait had the same, rounded up."""
        for gone in [waiter for waiter, since in entry.waiting.items() if now - since > WAITING]:
            del entry.waiting[gone]
        interested = len(entry.held.keys() | entry.waiting.keys() | entry.promised.keys() | {slot})
        return -(-entry.most // interested)

    def _promised_to_others(self, entry: _Key, slot: int, now: float) -> int:
        """Return how many are kept for others than ``slot``: none, if it has less than its share itself."""
        for late in [whom for whom, until in entry.promised.items() if until <= now]:
            del entry.promised[late]
        if entry.held.get(slot, 0) < self._fair(entry, slot, now):
            return 0
        return len(entry.promised.keys() - {slot})

    def _reserved(self, key: str, most: int) -> int:
        """Return how many more must be supposed to be held than are known to be.

        Those who are absent hold their shares, and what was lent of the others': whether one that is known was lent it
        does not count, since what it holds above its share may be granted since.
        """
        entry = self._keys.get(key)
        held = entry.held if entry else {}
        shares = sum(max(0, share_of(key, most, slot, self.workers) - held.get(slot, 0)) for slot in self.absent)
        return shares + sum(count for slot, count in self._owed.get(key, {}).items() if slot not in self.absent)
