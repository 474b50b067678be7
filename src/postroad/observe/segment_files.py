"""Which segments there are, and which go: by age, then the oldest while all together are too large.

Owns: the names of segments, what pruning takes. Blocking. Does not own: what is in a segment (segment.py), when it is
looked at (segments.py).

A segment is ``DATE-WRITER.db``, its later parts of the same day ``DATE-WRITER.1.db`` and so on; the date is UTC. Every
process prunes all of them, by the same rule, so that it does not matter who comes first and nobody needs to be there.
The last part of each writer of today or yesterday is never taken: it may be open. So is what was set aside as damaged
counted, and taken in its turn.
"""

from __future__ import annotations

import os
import re
import time
from calendar import timegm
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from postroad.core.units import DAY

_NAME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})-([a-z0-9]{1,32})(?:\.([0-9]{1,9}))?\.db")
_ANY: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})-[a-z0-9.-]+\.db(?:-wal|-shm|-journal)?")
_BESIDE: Final = re.compile(r"-(?:wal|shm|journal)$")


class SegmentName(NamedTuple):
    """One segment. They sort by time."""

    date: str
    part: int
    writer: str

    @property
    def file(self) -> str:
        return f"{self.date}-{self.writer}{f'.{self.part}' if self.part else ''}.db"

    @property
    def begins_at(self) -> float:
        """When its day begins, seconds since the epoch, UTC."""
        return _begin_of(self.date)


def date_of(now: float) -> str:
    """Return the UTC date of a time."""
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def parse_name(file: str) -> SegmentName | None:
    """Return the segment that a file is, or None."""
    match = _NAME.fullmatch(file)
    return SegmentName(match[1], int(match[3] or 0), match[2]) if match and _begin_of(match[1]) >= 0 else None


def list_segments(directory: str) -> list[SegmentName]:
    """Return all segments, the oldest first. No directory: none."""
    try:
        files = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name for file in files if (name := parse_name(file)) is not None)


def prune(directory: str, *, now: float, keep: float, disk_max: int, is_open: str = "") -> list[str]:
    """Delete what is too old, and the oldest of what is too much. Returns what went. ``is_open``: a file to leave."""
    sizes = _sizes(directory)
    spared = _maybe_open(sizes, now) | {is_open}
    total = sum(size for size, _ in sizes.values())
    gone = []
    for file in sorted(sizes, key=lambda file: (file[:10], sizes[file][1], file)):
        is_old = _begin_of(file[:10]) + DAY + keep < now
        if file in spared or not (is_old or total > disk_max):
            continue
        total -= sizes[file][0]
        for beside in (f"{file}-wal", f"{file}-shm", f"{file}-journal", file):  # the segment last: no orphan is left
            with suppress(FileNotFoundError):
                os.unlink(f"{directory}/{beside}")
        gone.append(file)
    return gone


def _sizes(directory: str) -> dict[str, tuple[int, float]]:
    """Return each segment, damaged ones too, with the octets of all its files and when it was last written."""
    found: dict[str, tuple[int, float]] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if (match := _ANY.fullmatch(entry.name)) is None or _begin_of(match[1]) < 0:
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                file = _BESIDE.sub("", entry.name)
                size, written_at = found.get(file, (0, 0.0))
                # What is taken on the disk, not what the file says: a tail not yet written is no room used.
                found[file] = (size + status.st_blocks * 512, max(written_at, status.st_mtime))
    return found


def _maybe_open(files: Iterable[str], now: float) -> set[str]:
    """Return the last part of each writer, of today or yesterday."""
    last: dict[str, SegmentName] = {}
    for name in sorted(name for file in files if (name := parse_name(file)) is not None):
        last[name.writer] = name
    return {name.file for name in last.values() if name.begins_at >= now - 2 * DAY}


def _begin_of(date: str) -> float:
    try:
        return float(timegm(time.strptime(date, "%Y-%m-%d")))
    except ValueError:  # the 31st of February: not ours
        return -1.0
