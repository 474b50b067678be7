"""Metrics of a process, counted from its facts.

Owns: the numbers, and that there is a bound on them whatever stands in a fact. Does not own: what is counted of which
kind (kinds.py), adding up over processes and the form of Prometheus (http).

A label that no enum bounds has at most VALUES_MAX values, each of at most VALUE_MAX characters; all others are
``other``. A destination has its own value only if the configuration names it. About 2 us for a fact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from postroad.core import facts
from postroad.core.counter import Counter
from postroad.core.facts import AnyFact
from postroad.observe.kinds import KINDS, Count, Label

VALUES_MAX: Final = 100
"""Values of an open label: rules and listeners of a large configuration have some dozens."""
VALUE_MAX: Final = 100
"""Characters."""
OTHER: Final = "other"

_Labels = tuple[tuple[str, str], ...]


class Counters:
    """A Subscriber that counts. All calls from the loop's thread."""

    def __init__(self, destinations: Collection[str] = ()) -> None:
        """``destinations``: keys of those that the configuration names, as facts call them."""
        self._destinations = set(destinations)
        self._tallies: dict[type, tuple[_Tally, ...]] = {
            kind: tuple(_Tally(count, self._destinations) for count in KINDS[kind].counts) for kind in facts.KINDS
        }

    def name_destinations(self, destinations: Collection[str]) -> None:
        """Hear of another configuration: these have a value of their own from now on."""
        self._destinations.clear()
        self._destinations.update(destinations)

    def take(self, facts: Sequence[AnyFact]) -> None:
        tallies = self._tallies
        for fact in facts:
            for tally in tallies[type(fact)]:
                tally.add(fact)

    async def close(self) -> None:
        """There is nothing to finish."""

    def rows(self) -> list[Counter]:
        """Return all numbers, in an order that does not change. A histogram is rows of ``_bucket`` (with ``le``),
        ``_sum`` and ``_count``."""
        return [row for tallies in self._tallies.values() for tally in tallies for row in tally.rows()]


class _Tally:
    """The numbers of one metric, by labels."""

    __slots__ = ("_bounds", "_buckets", "_labels", "_name", "_numbers", "_sum", "_value")

    def __init__(self, count: Count, destinations: Collection[str]) -> None:
        self._name = count.name
        self._labels = [(label.name, _reader(label, destinations)) for label in count.labels]
        self._value = count.value
        self._numbers: dict[tuple[str, ...], float] = {} if count.labels else {(): 0.0}
        self._bounds = count.buckets
        self._buckets = [0] * (len(count.buckets) + 1)
        self._sum = 0.0

    def add(self, fact: AnyFact) -> None:
        if self._bounds:
            assert self._value is not None
            value = self._value(fact)
            self._buckets[bisect_left(self._bounds, value)] += 1
            self._sum += value
            return
        key = tuple([read(fact) for _, read in self._labels])
        numbers = self._numbers
        numbers[key] = numbers.get(key, 0.0) + (1.0 if self._value is None else self._value(fact))

    def rows(self) -> list[Counter]:
        if self._bounds:
            return self._histogram()
        names = [name for name, _ in self._labels]
        return [
            Counter(name=self._name, labels=tuple(zip(names, key, strict=True)), value=number)
            for key, number in sorted(self._numbers.items())
        ]

    def _histogram(self) -> list[Counter]:
        rows, so_far = [], 0
        for bound, number in zip((*map(_shown, self._bounds), "+Inf"), self._buckets, strict=True):
            so_far += number
            rows.append(Counter(name=f"{self._name}_bucket", labels=(("le", bound),), value=so_far))
        rows.append(Counter(name=f"{self._name}_sum", labels=(), value=self._sum))
        rows.append(Counter(name=f"{self._name}_count", labels=(), value=so_far))
        return rows


def _reader(label: Label, destinations: Collection[str]) -> Callable[[Any], str]:
    """Return what gives the value of a label for a fact, bounded."""
    if label.is_destination:
        return lambda fact: value if (value := label.of(fact)) in destinations else OTHER
    if not label.is_open:
        return label.of
    seen: set[str] = set()

    def read(fact: Any) -> str:
        value = label.of(fact)
        if value in seen:
            return value
        if len(seen) >= VALUES_MAX or len(value) > VALUE_MAX or not value.isprintable():
            return OTHER
        seen.add(value)
        return value

    return read


def _shown(bound: float) -> str:
    return f"{bound:g}"
