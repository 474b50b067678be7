"""Gets out of a damaged database what can be read, into the shard that took its place.

Owns: which messages can be found, what counts as readable, putting each once. Works on a copy; what was set aside is
never touched. Blocking, and only while no relay runs: all shards are locked. Does not own: SQL (store_*.py).

A recipient whose delivery row cannot be read is due again: a duplicate may happen, a loss may not. What was put is
noted as settled, so that a second run does not send again what has been delivered meanwhile.
"""

from __future__ import annotations

import heapq
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from postroad.core.faces import Disk
from postroad.spool.batch import Batch
from postroad.spool.content import open_checked, take_files
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import ContentDamaged, Delivery, NewMessage, SpoolFile
from postroad.spool.owner import LockOwner
from postroad.spool.recovery import BODIES, reopen
from postroad.spool.rows import (
    Head,
    RowDamaged,
    body_name,
    hash_of,
    new_deliveries,
    read_delivery,
    read_head,
)
from postroad.spool.store import DATABASE_NAME, PAGE_SIZE, Store, StoreOptions
from postroad.spool.store_salvage import SOURCES, DamagedStore

FAILURES_MAX: Final = 4_096
"""Reads that may fail while the ids of one table are looked for: then what is left between them is given up."""
SLICE: Final = 200  # messages put in one transaction
_END: Final = 2**63 - 1
_Found = tuple[NewMessage, list[Delivery]]


class Salvaged(msgspec.Struct):
    """What became of the messages that a damaged database names."""

    salvaged: int = 0
    already_there: int = 0
    """In the queue, or ended since."""
    unreadable: int = 0


def salvage(damaged: str, directory: str, disk: Disk, now: float, *, others: Sequence[str] = ()) -> Salvaged:
    """Put what can be read of the database in ``damaged`` into the shard in ``directory``.

    ``others``: the other shards there are. A message may have moved into one of them, or ended there, since.

    Raises:
        ShardOwned: a relay runs.
        OSError, StoreTrouble, StoreTooNew: a shard cannot be opened, or cannot be written.
    """
    with ExitStack() as open_now:
        stores = [_open(open_now, each, disk, now) for each in (directory, *others)]
        source = open_now.enter_context(_copy(damaged, now))
        return _Salvage(source, stores, (f"{directory}/{BODIES}", f"{damaged}/{BODIES}"), disk, now).run()


def _open(open_now: ExitStack, directory: str, disk: Disk, now: float) -> Store:
    owner = LockOwner(directory)
    open_now.callback(owner.release)
    disk.make_directories(f"{directory}/{BODIES}")
    store = reopen(directory, StoreOptions(), disk, (), now, 0).store
    open_now.callback(store.close, checkpoint=True)
    return store


@contextmanager
def _copy(damaged: str, now: float) -> Iterator[DamagedStore]:
    """Give a copy of the damaged database, open; its first page made anew where that is what is broken."""
    with tempfile.TemporaryDirectory(dir=Path(damaged).parent, prefix=".salvage-") as place:
        for suffix in ("", "-wal"):
            original = Path(damaged) / f"{DATABASE_NAME}{suffix}"
            if original.exists() or not suffix:
                shutil.copyfile(original, Path(place) / original.name)
        source = DamagedStore(place)
        try:
            source.check()
        except StoreTrouble:
            source.close()
            _renew_first_page(Path(place), now)
            source = DamagedStore(place)
        try:
            yield source
        finally:
            source.close()


def _renew_first_page(place: Path, now: float) -> None:
    """Give the copy the first page of an empty database: the same steps made the same tables at the same pages."""
    empty = place / "empty"
    empty.mkdir()
    store = Store(str(empty), StoreOptions())
    store.open(now)
    store.close(checkpoint=True)
    page = bytearray((empty / DATABASE_NAME).read_bytes()[:PAGE_SIZE])
    page[92:96] = b"\0\0\0\0"  # not the change counter's value: SQLite then goes by the file's length
    with (place / DATABASE_NAME).open("r+b") as file:
        file.write(page)


def find_ids(source: DamagedStore, table: str) -> set[int]:
    """Return the ids of a table, as far as they can be read.

    From both ends to where a read fails; what lies between is halved, the widest gap first.
    """
    found: set[int] = set()
    gaps = [(-_END, 0, _END)]
    failures = 0
    while gaps and failures < FAILURES_MAX:
        _, after, before = heapq.heappop(gaps)
        try:
            for message in source.ids(table, after, before, backwards=False):
                found.add(message)
                after = max(after, message)
            continue
        except StoreTrouble:
            failures += 1
        try:
            for message in source.ids(table, after, before, backwards=True):
                found.add(message)
                before = min(before, message)
        except StoreTrouble:
            failures += 1
        middle = (after + before) // 2
        if after < middle:
            heapq.heappush(gaps, (after - middle, after, middle + 1))
            heapq.heappush(gaps, (middle - before, middle, before))
    return found


class _Salvage:
    """The way of messages from ``source`` into the first of the stores."""

    def __init__(
        self, source: DamagedStore, stores: Sequence[Store], bodies: tuple[str, str], disk: Disk, now: float
    ) -> None:
        self._source = source
        self._store = stores[0]
        self._stores = stores
        self._bodies, self._spare = bodies
        """Where contents are, and where an adoption has put those of its shard's damaged databases."""
        self._disk = disk
        self._now = now

    def run(self) -> Salvaged:
        counts, source, write = Salvaged(), self._source, self._store.write
        there = set().union(*(store.read.ids() for store in self._stores))
        ids = iter(sorted(set().union(*(find_ids(source, table) for table in SOURCES))))
        while taken := list(islice(ids, SLICE)):
            write.apply(Batch(), self._now)
            for message in taken:
                if message in there:
                    counts.already_there += 1
                    continue
                if (found := self._read(message)) is None:
                    counts.unreadable += 1
                    continue
                new, deliveries = found
                settled = set().union(*(store.write.settled(message) for store in self._stores))
                if left := [delivery for delivery in deliveries if delivery.number not in settled]:
                    write.put_salvaged(new, left, self._now)
                    counts.salvaged += 1
                else:
                    counts.already_there += 1
            self._store.commit()
        return counts

    def _read(self, message: int) -> _Found | None:
        """Return a message with what is left to deliver; None if its row or content is not what was written."""
        try:
            heads = self._source.read.heads(message)
            if not heads:
                return None
            head = read_head(heads[0])
            if head.in_file:
                content: bytes | SpoolFile = self._file(head)
            else:
                octets = self._source.read.content(message)
                if octets is None or hash_of(octets) != head.content_hash:
                    return None
                content = octets
        except (RowDamaged, ContentDamaged, StoreTrouble):
            return None
        new = NewMessage(head.id, head.envelope, content, head.received_at)
        return new, _deliveries(self._source, head, new, self._now)

    def _file(self, head: Head) -> SpoolFile:
        """Return the content file, durable where the shard's are. Raises ContentDamaged."""
        name, disk = body_name(head.id), self._disk
        is_spare = not disk.exists(f"{self._bodies}/{name}")
        open_checked(disk, f"{self._spare if is_spare else self._bodies}/{name}", head.size, head.content_hash).close()
        if is_spare:
            take_files(disk, self._spare, self._bodies, [name])
        return SpoolFile(name, head.size, head.content_hash)


def _deliveries(source: DamagedStore, head: Head, new: NewMessage, now: float) -> list[Delivery]:
    anew = [msgspec.structs.replace(delivery, due_at=now) for delivery in new_deliveries(new)]
    try:
        rows = source.read.deliveries(head.id)
    except StoreTrouble:
        return anew
    left: list[Delivery] = []
    for row in rows:
        try:
            left.append(read_delivery(row, head.envelope))
        except RowDamaged:
            left += anew[row.number : row.number + 1] if row.number >= 0 else []
    return left or anew  # a message without any would not be there
