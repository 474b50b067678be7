"""What many stories came to: counts, duplicates by cause, where crashes fell, which seeds broke a law.

Owns: adding up, writing the sum down so that several runs make one, the tables for people. Does not own: verdicts
(judge.py).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from postroad.testing.sim.judge import Verdict
from postroad.testing.sim.world import Played

MOMENTS = ("before", "in", "after")


class Summary(msgspec.Struct):
    """A sum over stories. All counters by name."""

    seeds: int = 0
    messages: int = 0
    """Transactions of clients that named a recipient."""
    seconds: float = 0.0
    """Of processor time."""
    world_seconds: float = 0.0
    operations: int = 0
    kept: dict[str, int] = {}
    """accepted, refused, unknown."""
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

    def add(self, played: Played, verdict: Verdict, seconds: float) -> None:
        """Add one story."""
        book, plan = played.book, played.plan
        self.seeds += 1
        self.messages += len(book.sent)
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
        for name in ("seeds", "messages", "seconds", "world_seconds", "operations"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("kept", "ends", "duplicates", "crashes", "between", "shares", "laws", "passed", "fell"):
            _add(getattr(self, name), getattr(other, name))
        self.broken |= other.broken

    def write(self, path: Path) -> None:
        """Write it down, added to what is there."""
        whole = Summary()
        if path.exists():
            whole.add_sum(msgspec.json.decode(path.read_bytes(), type=Summary))
        whole.add_sum(self)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(whole)))

    # --- for people ---

    def lines(self, *, places: bool = True) -> list[str]:
        """Return the tables."""
        crashes = sum(self.crashes.values())
        aimed = crashes - self.between.get("neither", 0)
        seconds = max(self.seconds, 0.001)
        lost = self.laws.get("LOST", 0)
        lines = [
            f"{self.seeds} seeds, {self.messages} messages, {crashes} crashes, {lost} lost",
            f"seeds that broke a law: {len(self.broken)}",
            f"{self.seconds:.0f} s of processor time",
            f"a second: {self.messages / seconds:.0f} messages, {crashes / seconds:.1f} crashes",
            f"{self.world_seconds / 86_400:.1f} days of the world, {self.operations} operations of its disks",
            f"messages: {_shown(self.kept)}",
            f"ends of recipients that got 250: {_shown(self.ends)}",
            f"duplicates by cause: {_shown(self.duplicates) or 'none'}",
            f"crashes: {_shown(self.crashes)}",
            f"between final dot and 250, or delivery and record: {100 * aimed / max(crashes, 1):.0f} %",
            f"in detail: {_shown(self.between)}",
            *(f"seeds with {name}: {100 * count / max(self.seeds, 1):.0f} %" for name, count in self.shares.items()),
        ]
        if places:
            lines += ["", *self._place_lines()]
        for seed, laws in self.broken.items():
            lines += [f"seed {seed} broke: {law}" for law in laws]
        return lines

    def _place_lines(self) -> list[str]:
        lines = [f"{'passed':>9} {'before':>7} {'in':>7} {'after':>7}  place"]
        for place in sorted(self.passed, key=lambda one: -self.passed[one]):
            fell = [self.fell.get(f"{moment}|{place}", 0) for moment in MOMENTS]
            lines.append(f"{self.passed[place]:>9} {fell[0]:>7} {fell[1]:>7} {fell[2]:>7}  {place}")
        return lines


def _add(sums: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        sums[name] = sums.get(name, 0) + count


def _shown(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{count} {name}" for name, count in ordered)
