"""What many stories came to: counts, duplicates by cause, where crashes fell, which seeds broke a law.

Owns: adding up, writing the sum down so that several runs make one, of which product it is, the tables for people. Does
not own: verdicts (judge.py), the list of places (places.py).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from postroad.testing.sim.book import ITSELF
from postroad.testing.sim.judge import Verdict
from postroad.testing.sim.places import MOMENTS, PLACES, has_moment, moments_of
from postroad.testing.sim.world import Played

CRASHES_MIN = 100
"""Crashes in each moment of each place that a run of 10,000 seeds has to show."""
SEEDS_MIN = 5_000
"""Seeds from which on places with fewer crashes than that are marked."""
PRODUCT: Final = Path(__file__).resolve().parents[2]


def version_of(product: Path = PRODUCT) -> str:
    """Return a hash over the sources of the product and of the simulation in it: names and octets."""
    found = hashlib.sha256()
    for path in sorted(product.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            octets = path.read_bytes()
            found.update(f"{path.relative_to(product).as_posix()} {len(octets)}\n".encode() + octets)
    return found.hexdigest()[:16]


class Summary(msgspec.Struct):
    """A sum over stories. All counters by name."""

    seeds: int = 0
    letters: int = 0
    """Of a story, about; 0: not said yet. Sums of different stories are not added."""
    version: str = ""
    """Of the product, as ``version_of`` tells; empty: not said yet. Sums of different products are not added."""
    played: list[tuple[int, int]] = []
    """The seeds in it: first and last of each row without a gap, in order."""
    seconds: float = 0.0
    """Of processor time."""
    world_seconds: float = 0.0
    operations: int = 0
    kept: dict[str, int] = {}
    """Transactions of clients by how they ended. accepted: with a 250, which is what a promise was given for; refused:
    by a reply, or without a final dot; unknown: no reply to the final dot was heard."""
    ends: dict[str, int] = {}
    duplicates: dict[str, int] = {}
    crashes: dict[str, int] = {}
    between: dict[str, int] = {}
    shares: dict[str, int] = {}
    """Seeds with several recipients in a message, destinations, workers."""
    laws: dict[str, int] = {}
    broken: dict[str, list[str]] = {}
    """Seed -> what it broke."""
    passed: dict[str, int] = {}
    fell: dict[str, int] = {}
    """``moment|place`` -> crashes."""
    traces: dict[str, str] = {}
    """Seed -> hash of all that happened. Of one seed only: a sum has none."""

    def begin(self, letters: int, version: str) -> None:
        """Say how long the stories are, and of which product. Raises ValueError: those in it are of others."""
        if self.letters not in (0, letters):
            raise ValueError(f"the sum is of stories with {self.letters} letters, not {letters}: name another file")
        if self.seeds and self.version != version:
            was = f"version {self.version}" if self.version else "a version that it does not tell"
            raise ValueError(
                f"the sum is of {was} of the product, and this is {version}: name another file, or remove that one"
            )
        self.letters, self.version = letters, version

    def has(self, seed: int) -> bool:
        """True if the seed is in it."""
        at = bisect_right(self.played, (seed, 1 << 62)) - 1
        return at >= 0 and self.played[at][0] <= seed <= self.played[at][1]

    def _note(self, seed: int) -> None:
        self.seeds += 1
        self.played = _joined([*self.played, (seed, seed)])

    def add_failure(self, seed: int, why: str) -> None:
        """Add a story that could not be played or judged."""
        self._note(seed)
        self.broken[str(seed)] = [f"{ITSELF}: {why}"]
        _add(self.laws, {ITSELF: 1})

    def add(self, played: Played, verdict: Verdict, seconds: float) -> None:
        """Add one story."""
        book, plan = played.book, played.plan
        self._note(plan.seed)
        self.traces[str(plan.seed)] = played.trace
        self.seconds += seconds
        self.world_seconds += played.seconds
        self.operations += played.operations
        _add(self.kept, {"accepted": verdict.accepted, "refused": verdict.refused, "unknown": verdict.unknown})
        _add(self.ends, verdict.ends)
        _add(self.duplicates, verdict.duplicates)
        _add(self.crashes, Counter(one.how for one in book.crashes))
        _add(self.between, Counter(one.between or "neither" for one in book.crashes))
        _add(self.passed, played.passed)
        _add(self.fell, {f"{moment}|{place}": count for (place, moment), count in played.crashed.items()})
        shares = {
            "two or more recipients in a message": any(len(one.recipients) > 1 for one in book.sent.values()),
            "two or more destinations": len({take.peer for take in book.takes}) > 1,
            "two or more workers": plan.workers > 1,
            "no crash at all": not book.crashes,
        }
        _add(self.shares, {name: int(is_so) for name, is_so in shares.items()})
        if verdict.broken:
            self.broken[str(plan.seed)] = verdict.broken[:5]
            _add(self.laws, Counter(text.partition(":")[0] for text in verdict.broken))

    def add_sum(self, other: Summary) -> None:
        """Add what another run came to."""
        for name in ("seeds", "seconds", "world_seconds", "operations"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("kept", "ends", "duplicates", "crashes", "between", "shares", "laws", "passed", "fell"):
            _add(getattr(self, name), getattr(other, name))
        self.broken |= other.broken
        self.played = _joined([*self.played, *other.played])

    @classmethod
    def read(cls, path: Path | None) -> Summary:
        """Return what is written down there; an empty one if nothing is."""
        if path is None or not path.exists():
            return cls()
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path | None) -> None:
        """Write it down, in place of what is there, whole or not at all."""
        if path is None:
            return
        new = path.with_name(f"{path.name}.new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        new.replace(path)

    # --- for people ---

    def lines(self, *, places: bool = True) -> list[str]:
        """Return the tables."""
        crashes = sum(self.crashes.values())
        aimed = crashes - self.between.get("neither", 0)
        seconds = max(self.seconds, 0.001)
        lost, accepted = self.laws.get("LOST", 0), self.kept.get("accepted", 0)
        lines = [
            f"{self.seeds} seeds, {accepted} messages accepted, {crashes} crashes, {lost} lost",
            f"version {self.version or 'not told'} of the product (a hash over its sources)",
            f"seeds that broke a law: {len(self.broken)}",
            f"{self.seconds:.0f} s of processor time",
            f"a second: {accepted / seconds:.0f} messages accepted, {crashes / seconds:.1f} crashes",
            f"{self.world_seconds / 86_400:.1f} days of the world, {self.operations} operations of its disks",
            f"messages begun: {sum(self.kept.values())}, of them {_shown(self.kept)}",
            f"ends of recipients that got 250: {_shown(self.ends)}",
            f"duplicates by cause: {_shown(self.duplicates) or 'none'}",
            f"crashes: {_shown(self.crashes)}",
            f"between final dot and 250, or delivery and record: {100 * aimed / max(crashes, 1):.0f} %",
            f"in detail: {_shown(self.between)}",
            *(f"seeds with {name}: {100 * count / max(self.seeds, 1):.0f} %" for name, count in self.shares.items()),
        ]
        if places:
            lines += ["", *self._place_lines()]
        lines += [f"not in the list of places: {name}" for name in self.passed if name not in PLACES]
        for seed, laws in self.broken.items():
            lines += [f"seed {seed} broke: {law}" for law in laws]
        return lines

    def _place_lines(self) -> list[str]:
        """Return how often a crash fell at each place. An asterisk: seldomer than a long run has to show."""
        seldom = self.seldom() if self.seeds >= SEEDS_MIN else set()
        lines = [f"{'passed':>9} {'before':>8} {'in':>8} {'after':>8}  place"]
        names = sorted(PLACES, key=lambda one: (-self.passed.get(one, 0), one))
        for name in names:
            cells = [self._cell(name, moment, seldom) for moment in MOMENTS]
            lines.append(f"{self.passed.get(name, 0):>9} {' '.join(cells)}  {name}")
        lines.append("(-: the operation happens whole or not at all, so there is no moment in the middle of it)")
        if self.seeds < SEEDS_MIN:
            enough = f"told from {SEEDS_MIN:,} seeds on (meant for 10,000)"
            lines.append(f"places: {len(names)}; which are seldom is {enough}")
        else:
            places = len({place for place, _ in seldom})
            lines.append(f"places: {len(names)}, of them under {CRASHES_MIN} in a moment: {places}")
        return lines

    def _cell(self, name: str, moment: str, seldom: set[tuple[str, str]]) -> str:
        if not has_moment(name, moment):
            return f"{'- ':>8}"
        return f"{self.fell.get(f'{moment}|{name}', 0):>7}{'*' if (name, moment) in seldom else ' '}"

    def seldom(self) -> set[tuple[str, str]]:
        """Return the places and moments at which fewer than CRASHES_MIN crashes fell."""
        return {
            (name, moment)
            for name in PLACES
            for moment in moments_of(name)
            if self.fell.get(f"{moment}|{name}", 0) < CRASHES_MIN
        }


def _joined(rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return rows of seeds in order, those without a gap made one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(rows):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _add(sums: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        sums[name] = sums.get(name, 0) + count


def _shown(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{count} {name}" for name, count in ordered)
