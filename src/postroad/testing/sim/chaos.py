"""What goes wrong with a machine, and when: crashes at every operation of its disk, and a disk in trouble.

Owns: blows (a crash that waits for its moment), spells of trouble, counting how often a crash fell just before, in and
just after each place of the product that touches the disk. Does not own: the disk (disk.py), what a crash means for
processes and connections (machine.py). A blow's moment is counted in operations, so the same story repeats itself.
"""

from __future__ import annotations

import errno
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Final, Literal

import msgspec

from postroad.core.faces import Dice
from postroad.core.units import MIB
from postroad.testing.sim.kernel import START, Kernel, Process
from postroad.testing.sim.places import has_moment

BLOW_PATIENCE: Final = 0.08
"""Seconds after which a blow that waits for an operation falls without one: about as long as a record may take."""
_PRODUCT: Final = f"{os.sep}postroad{os.sep}"
_TESTING: Final = f"{os.sep}postroad{os.sep}testing{os.sep}"

_KIND_OF_TROUBLE: Final = {
    **dict.fromkeys(("sync", "sync_directory"), "sync"),
    **dict.fromkeys(("write", "create", "unlink", "rename", "link"), "write"),
}

MIN_FREE: Final = MIB
"""Octets that must be free on a disk of a story."""
LEDGER: Final = 3
"""The worker that a blow names when it means the ledger."""
FRONT: Final = 4
"""Likewise the front."""
COMMAND_STEP: Final = 0.001
"""Seconds that stand for an operation where a blow that falls on ledger or front waits for a person's command."""

How = Literal["process", "power"]
When = Literal["before", "in", "after"]
Ill = Literal["write", "sync", "commit", "sync_directory", "unlink", "read", "full", "scarce", "slow", "hang"]


class Blow(msgspec.Struct, frozen=True):
    """One crash."""

    waits_for: Literal["time", "dot", "reply", "place", "start", "command", "switch"]
    """Time of the world; the n-th final dot of a client; the n-th 250 of a next hop; a place; a start of the relay; the
    n-th command of a person; the n-th reload, between prepare and switch."""
    n: float
    """Seconds, or the count of dots, replies, passages of the place, or starts."""
    operations: int
    """Further operations of the disk to let pass."""
    how: How = "process"
    when: When = "before"
    place: str = ""
    worker: int = 0
    loses_all: bool = False
    """Power: nothing that was not synced is left; else any part of it may be."""
    down: float = 2.0
    """Seconds until the machine, or the process, is back."""


class Spell(msgspec.Struct, frozen=True):
    """Trouble with the disk for some time."""

    kind: Ill
    at: float
    seconds: float
    share: float = 1.0
    """Of operations that fail, or are slow; of what must be free at least, where free space is scarce."""
    path: str = ""
    """Where operations fail: on paths that have this in them; empty: on all."""


def place_of(depth: int) -> str:
    """Return the function of the product that is at work, e.g. ``Store.checkpoint``; empty if none is."""
    frame: FrameType | None = sys._getframe(depth)  # noqa: SLF001 - there is no other way to ask who calls
    while frame is not None:
        code = frame.f_code
        if _PRODUCT in code.co_filename and _TESTING not in code.co_filename:
            return code.co_qualname
        frame = frame.f_back
    return ""


def _is_commit(operation: str, path: str) -> str:
    """Return the trouble that befalls nothing else than commits, if this is a part of one."""
    return "commit" if operation == "sync" and kind_of(path) == "WAL" else ""


def kind_of(path: str) -> str:
    """Return what sort of file it is."""
    if path.endswith("spool.db-wal"):
        return "WAL"
    if path.endswith("spool.db"):
        return "database"
    if path.endswith("spool.db-journal"):
        return "journal"
    if "/bodies" in path:
        return "content"
    if "/mail/" in path:
        return "Maildir"
    return "file" if "." in path.rsplit("/", 1)[-1] else "directory"


class Chaos:
    """The trouble of one machine."""

    def __init__(self, kernel: Kernel, dice: Dice, spells: tuple[Spell, ...]) -> None:
        self.kernel = kernel
        self.dice = dice
        self.spells = spells
        self.crash: Callable[[Process | None, Blow, str], None] = lambda process, blow, place: None
        """Lets a blow fall, unless enough have or nobody is there; the machine's, which counts it."""
        self.passed: Counter[str] = Counter()
        self.crashed: Counter[tuple[str, str]] = Counter()
        """Crashes that fell on an operation, by its place and the moment."""
        self.troubles: list[tuple[float, str]] = []
        """When an operation failed, or was slow, and why."""
        self.operations = 0
        self.asked_by = ""
        """The function of the product that gave a thread an operation of the disk as its whole work."""
        self.is_over = False
        self._armed: list[list[object]] = []  # [blow, operations left]
        self._places: list[list[object]] = []

    def arm(self, blow: Blow) -> None:
        """The blow's moment has come; it falls after so many operations more, or a little later without one."""
        one: list[object] = [blow, blow.operations]
        if blow.waits_for == "place":
            self._places.append([blow, int(blow.n)])
            return
        if blow.waits_for == "switch":
            self.strike(None, blow, "between prepare and switch")
            return
        if blow.waits_for == "time" and blow.how == "process" and blow.worker == LEDGER:
            self.strike(None, blow, "between operations")  # it has no disk
            return
        if blow.waits_for == "command" and blow.how == "process" and blow.worker >= LEDGER:
            self.kernel.after(COMMAND_STEP * blow.operations, self.strike, None, blow, "in a person's command")
            return
        self._armed.append(one)
        if blow.waits_for in ("dot", "reply", "command"):
            self.kernel.after(BLOW_PATIENCE * self.dice.random(), self._run_out, one)

    def _run_out(self, one: list[object]) -> None:
        if one in self._armed:
            self._armed.remove(one)
            blow = one[0]
            assert isinstance(blow, Blow)
            self.strike(None, blow, "between operations")

    def strike(self, process: Process | None, blow: Blow, place: str) -> None:
        """Let it fall. ``process``: whose operation of the disk it falls on, if it does."""
        self.crash(process, blow, place)

    def look(self, process: Process, operation: str, path: str) -> tuple[Blow | None, OSError | None, str]:
        """Return what befalls this operation: a blow, or an error, or neither; and its place."""
        place = f"{operation} {kind_of(path)} in {place_of(3) or self.asked_by}"
        self.operations += 1
        self.passed[place] += 1
        blow = self._due(place) if self._armed or self._places else None
        if blow is not None:
            if not has_moment(place, blow.when):
                blow = msgspec.structs.replace(blow, when="after")
            return blow, None, place
        return None, self._error(operation, path) if self.spells else None, place

    def _due(self, place: str) -> Blow | None:
        for waiting in (self._armed, self._places):
            for one in waiting:
                blow, left = one
                assert isinstance(blow, Blow)
                assert isinstance(left, int)
                if blow.place not in place:
                    continue
                if left <= 0:
                    waiting.remove(one)
                    return blow
                one[1] = left - 1
        return None

    def _spell(self, *kinds: str, path: str = "") -> Spell | None:
        if self.is_over:
            return None
        now = self.kernel.now - START
        for spell in self.spells:
            is_on = spell.kind in kinds and spell.at <= now < spell.at + spell.seconds
            if is_on and spell.path in path and (spell.share >= 1.0 or self.dice.random() < spell.share):
                return spell
        return None

    def _error(self, operation: str, path: str) -> OSError | None:
        code = 0
        if operation in ("write", "create", "link", "rename") and self._spell("full", path=path):
            code = errno.ENOSPC
        elif self._spell(_KIND_OF_TROUBLE.get(operation, ""), operation, _is_commit(operation, path), path=path):
            code = errno.EIO
        if not code:
            return None
        self.troubles.append((self.kernel.now, f"{operation} {path}: {os.strerror(code)}"))
        return OSError(code, os.strerror(code), path)

    def look_at_reading(self, path: str) -> None:
        """Raise what befalls reading a content, if anything does."""
        if self.spells and kind_of(path) == "content" and self._spell("read", path=path):
            self.troubles.append((self.kernel.now, f"read {path}: {os.strerror(errno.EIO)}"))
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    @property
    def is_full(self) -> bool:
        now = self.kernel.now - START
        is_full = any(one.kind == "full" and one.at <= now < one.at + one.seconds for one in self.spells)
        return is_full and not self.is_over

    @property
    def free_share(self) -> float:
        """Of what must be free at least, how much is: infinite where there is no want of room."""
        if not self.spells or self.is_over:
            return math.inf
        now = self.kernel.now - START
        shares = (one.share for one in self.spells if one.kind == "scarce" and one.at <= now < one.at + one.seconds)
        return 0.0 if self.is_full else min(shares, default=math.inf)

    def seconds(self) -> float:
        """Return how long a piece of blocking work takes."""
        dice = self.dice
        took = 0.0002 + 0.003 * dice.random() ** 3
        if self.spells and (spell := self._spell("slow", "hang")) is not None:
            if spell.kind == "hang":
                took = START + spell.at + spell.seconds - self.kernel.now + dice.random()
            else:
                took = 0.02 + dice.random() * 1.5
            self.troubles.append((self.kernel.now, f"slow for {took:.3f} s"))
            self.troubles.append((self.kernel.now + took, "slow until here"))
        return took
