"""A damaged database that is set aside, broken off before every single operation of the disk, and once more after that.

Half of its mail is in the WAL alone. Whatever was left where: in the end database and WAL lie together, as they were,
or nothing had begun yet; the new database never meets the old WAL.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest
from tests.units.test_spool_open_crash import (
    CRASHES,
    NOW,
    SHARD,
    STEPS,
    Files,
    after_crash,
    close,
    copy_of,
    crash_at,
    files_before,
    ids,
    opened,
    put,
    vfs_on,
)

from postroad.spool.errors import StoreTrouble
from postroad.spool.recovery import Found, damaged_beside, reopen, set_aside
from postroad.testing.memory_disk import MemoryDisk

ALL = set(range(1, 21))
STEPS_MAX = 20
"""Setting aside has fewer; what follows is the opening of a new database: test_spool_open_crash.py."""


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """A database with messages 1 to 10, a WAL with 11 to 20."""
    return files_before(monkeypatch, len(STEPS), is_closed=False)


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> Files:
    """What SQLite sees at once to be none."""
    [(path, octets)] = [one for one in files_before(monkeypatch, len(STEPS), is_closed=True) if one[1]]
    return [(path, b"\xff" * 100 + octets[100:])]


def broken_off(disk: MemoryDisk, operation: int, kind: str, *, is_damaged: bool) -> bool:
    """Open, the database known to be damaged or not, until the disk stops; False if there were not so many steps."""
    crash_at(disk, operation, kind, 0)
    with suppress(StoreTrouble, OSError):
        close(reopen(SHARD, vfs_on(disk), disk, (), NOW, 10, is_damaged))
    return after_crash(disk, kind)


def salvaged(disk: MemoryDisk, where: str) -> set[int]:
    """Return the messages in a database that was set aside: it alone, and its WAL."""
    inside = [(f"{SHARD}{path.removeprefix(where)}", octets) for path, octets in disk.contents() if where in path]
    found = opened(copy_of(inside))
    assert found.damaged_at == ""
    messages = ids(found.store)
    close(found)
    return messages


def assert_whole(disk: MemoryDisk, files: Files) -> None:
    """All the mail is where it was, or in one database that was set aside whole; what is new is kept."""
    found = opened(disk)
    beside = damaged_beside(SHARD, disk)
    assert [found.damaged_at] in ([""], beside)
    put(found.store, 99)
    close(found)
    after_crash(disk, "kill")
    again = opened(disk)
    assert (again.damaged_at, damaged_beside(SHARD, disk)) == ("", beside)
    assert ids(again.store) == {99} | (set() if beside else ALL)
    close(again)
    if beside:
        [where] = beside
        kept = dict(disk.contents())
        assert [(path, kept[path.replace(SHARD, where)]) for path, _ in files] == files
    assert not [path for path, _ in disk.contents() if path.startswith(f"{SHARD}/damaged-")]


def cases(files: Files, kind: str, *, is_damaged: bool) -> Iterator[MemoryDisk]:
    """Yield disks on which it was broken off at any operation, and then, at the next start, at any of the next."""
    for first in range(1, STEPS_MAX):
        for second in range(1, STEPS_MAX):
            disk = copy_of(files)
            is_broken = broken_off(disk, first, kind, is_damaged=is_damaged)
            is_broken_again = broken_off(disk, second, kind, is_damaged=False)
            yield disk
            if not is_broken_again:
                break
        assert is_broken


@pytest.mark.parametrize("kind", CRASHES)
def test_setting_aside_may_be_broken_off_anywhere(kind: str, files: Files) -> None:
    """SQLite found the damage while it worked; the next process knows nothing of that, and may see none."""
    set_aside = 0
    for disk in cases(files, kind, is_damaged=True):
        assert_whole(disk, files)
        if beside := damaged_beside(SHARD, disk):
            set_aside += 1
            assert salvaged(disk, beside[0]) == ALL
    assert set_aside > 100


@pytest.mark.parametrize("kind", CRASHES)
def test_setting_aside_what_is_no_database_may_be_broken_off_anywhere(kind: str, no_database: Files) -> None:
    for disk in cases(no_database, kind, is_damaged=False):
        assert_whole(disk, no_database)
        assert len(damaged_beside(SHARD, disk)) == 1


@pytest.mark.parametrize("is_known", [True, False])
def test_setting_aside_goes_on_after_an_error_of_the_disk(files: Files, no_database: Files, is_known: bool) -> None:
    """In the same process: one operation fails, all others work."""

    def attempt(disk: MemoryDisk, moved: str = "") -> Found:
        """As a shard does it."""
        return reopen(SHARD, vfs_on(disk), disk, (), NOW, 10, is_known and not moved, moved)

    files = files if is_known else no_database
    for operation in count(1):
        disk = copy_of(files)
        wanted = disk.operations + operation

        def look(what: str, path: str, disk: MemoryDisk = disk, wanted: int = wanted) -> None:
            if disk.operations == wanted:
                raise OSError(errno.EIO, "told to fail", path)

        disk.on_operation = look
        moved = told = ""
        try:
            found = attempt(disk)
        except StoreTrouble as error:
            moved, told = getattr(error, "moved", ""), str(error)
            found = attempt(disk, moved)
        assert moved in told
        assert [found.damaged_at] == damaged_beside(SHARD, disk)
        close(found)
        disk.on_operation = None
        if disk.operations < wanted:
            break
        after_crash(disk, "kill")
        assert_whole(disk, files)
    assert operation > 10


def test_each_step_is_durable_before_the_next(files: Files) -> None:
    """More than a disk needs that keeps the order of what happens in one directory; others may not."""
    disk, steps = copy_of(files), list[tuple[str, str]]()
    disk.on_operation = lambda operation, path: steps.append((operation, path.rpartition("/")[2]))
    where = set_aside(SHARD, disk, NOW)
    target = where.rpartition("/")[2]
    mark, synced = target.removeprefix("shard-0."), [("sync_directory", target), ("sync_directory", "shard-0")]
    assert steps == [
        ("create", mark),
        ("sync_directory", "shard-0"),
        ("sync_directory", ""),
        ("make_directories", target),
        ("sync_directory", "data"),
        ("rename", "spool.db-wal"),
        *synced,
        ("rename", "spool.db"),
        *synced,
        ("unlink", mark),
        ("sync_directory", "shard-0"),
    ]


@pytest.mark.parametrize("kind", CRASHES[1:])
def test_a_mark_that_is_found_may_not_be_durable_yet(kind: str, files: Files) -> None:
    """A process was killed before it could sync it; then, while the next goes on, the power is cut."""
    for operation in range(1, STEPS_MAX):
        disk = copy_of(files)
        broken_off(disk, 2, "kill", is_damaged=True)
        assert disk.exists(f"{SHARD}/damaged-{int(NOW)}")
        is_broken = broken_off(disk, operation, kind, is_damaged=False)
        assert_whole(disk, files)
    assert is_broken
