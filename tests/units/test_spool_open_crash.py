"""A spool that is opened, migrated or not, while syncs fail, and is cut off before every single operation of the disk.

First, maybe, a sync fails; the system then takes for clean what the medium lacks. Then an opening is broken off by a
kill or a power cut. Whatever was left where: the next opening finds every message that was accepted, in a database that
is well.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator, Set
from contextlib import suppress

import pytest

from postroad.core.address import parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.ids import MessageId
from postroad.spool import migrations
from postroad.spool.batch import Batch, PutEntry
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import NewMessage
from postroad.spool.recovery import COPY, Found, reopen
from postroad.spool.store import Store, StoreOptions
from postroad.testing.fake_clock import NOON as NOW
from postroad.testing.fault_vfs import FaultVfs
from postroad.testing.memory_disk import MemoryDisk
from postroad.testing.seeded_dice import SeededDice

SHARD = "/data/shard-0"
CRASHES = ("kill", "power", "power with dice")
STEPS = migrations.MIGRATIONS
TEXT = b"Subject: x\r\n\r\nhello\r\n" * 100
_names = itertools.count()
_ALIVE: list[FaultVfs] = []
"""SQLite lets go of a connection that could not be closed well when it pleases: its VFS must be there still."""
Files = list[tuple[str, bytes]]


def vfs_on(disk: MemoryDisk) -> StoreOptions:
    name = f"open-{next(_names)}"
    _ALIVE.append(FaultVfs(name, disk))
    return StoreOptions(vfs=name, exclusive=True)


def opened(disk: MemoryDisk) -> Found:
    return reopen(SHARD, vfs_on(disk), disk, (), NOW, 10)


def put(store: Store, message: int) -> None:
    """Return when it is durable: what is told 250."""
    batch = Batch()
    envelope = Envelope(parse_mailbox("a@x.example"), (Recipient(parse_mailbox("b@y.example")),))
    batch.puts.append(PutEntry(NewMessage(MessageId(message), envelope, TEXT, NOW), (), None))  # type: ignore[arg-type]
    store.write.apply(batch, NOW)
    store.commit()


def ids(store: Store) -> set[int]:
    return {message for (message,) in store.read.execute("SELECT id FROM message")}


def fresh() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_directories(SHARD)
    return disk


def copy_of(files: Files) -> MemoryDisk:
    """Return a disk that holds those files durably."""
    disk = fresh()
    for path, octets in files:
        file = disk.create(path)
        file.write(octets)
        file.sync()
        file.close()
    disk.sync_directory(SHARD)
    return disk


def files_before(monkeypatch: pytest.MonkeyPatch, steps: int, *, is_closed: bool) -> Files:
    """Return a spool of that schema with messages 1 to 20: all in the database, or half of them in the WAL."""
    disk = fresh()
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", STEPS[:steps])
        store = opened(disk).store
        for message in range(1, 11):
            put(store, message)
        store.checkpoint()
        for message in range(11, 21):
            put(store, message)
        store.close(checkpoint=is_closed)
    return disk.contents()


def fail_syncs(disk: MemoryDisk, first: int, count: int) -> Callable[[], bool]:
    """Have so many syncs fail, from the one of that number on; return what tells whether any did."""
    syncs = 0

    def look(operation: str, path: str) -> None:
        nonlocal syncs
        if operation in ("sync", "sync_directory"):
            syncs += 1
            if first <= syncs < first + count:
                raise OSError(errno.EIO, "told to fail", path)

    disk.on_operation = look
    return lambda: syncs >= first


def crash_at(disk: MemoryDisk, operation: int, kind: str, seed: int) -> None:
    """Have it all end before so many more operations; all that follow fail."""
    wanted = disk.operations + operation

    def look(*_: object) -> None:
        if disk.operations >= wanted and not disk.is_off:
            if kind == "kill":
                disk.kill()
                disk.is_off = True
            else:
                disk.power_off(SeededDice(seed + 1_000 * operation) if kind == "power with dice" else None)

    disk.on_operation = look


def after_crash(disk: MemoryDisk, kind: str) -> bool:
    """The disk works again; True if it did not before."""
    was_off, disk.on_operation = disk.is_off, None
    _ALIVE[-1]._disk = MemoryDisk()  # what the dead process still deletes, it deletes elsewhere
    if was_off and kind != "kill":
        disk.power_on()
    disk.is_off = False
    return was_off


def close(found: Found) -> None:
    with suppress(OSError):
        found.store.close(checkpoint=False)


def broken_off(disk: MemoryDisk, operation: int, kind: str, seed: int = 0) -> bool:
    """Open until the disk stops at that operation; False if there were not so many."""
    crash_at(disk, operation, kind, seed)
    with suppress(StoreTrouble, OSError):
        close(opened(disk))
    return after_crash(disk, kind)


def assert_well(disk: MemoryDisk, messages: set[int], doubtful: Set[int] = frozenset()) -> None:
    found = opened(disk)
    assert found.damaged_at == ""
    execute = found.store.read.execute
    assert execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    assert execute("SELECT number FROM migration").fetchall() == [(number,) for number, _, _ in STEPS]
    assert messages <= ids(found.store) <= messages | doubtful
    assert found.totals.messages == len(ids(found.store))
    assert not [path for path, _ in disk.contents() if path.endswith(COPY)]
    found.store.close(checkpoint=False)
    after_crash(disk, "kill")


def failures() -> Iterator[tuple[int, int]]:
    """Which syncs of the opening before fail: none, one, all from there on."""
    yield 0, 0
    for first in itertools.count(1):
        yield first, 1
        yield first, 1_000


def play(files: Files, kind: str, messages: set[int]) -> int:
    """Fail any sync of one opening, break the next off anywhere; return how many cases there were."""
    cases = 0
    for first, count in failures():
        has_failed = False
        for operation in itertools.count(1):
            disk = copy_of(files)
            if count:
                failed = fail_syncs(disk, first, count)
                with suppress(StoreTrouble, OSError):
                    close(opened(disk))
                has_failed = failed()
                after_crash(disk, "kill")
            is_broken = broken_off(disk, operation, kind, first)
            assert_well(disk, messages)
            cases += 1
            if not is_broken:
                break
        if count and not has_failed:
            return cases
    raise AssertionError


@pytest.mark.parametrize("kind", CRASHES)
def test_a_first_opening_may_be_broken_off_anywhere(kind: str) -> None:
    assert play([], kind, set()) > 100


def test_an_opening_that_cannot_use_a_wal_fails() -> None:
    """The mode is changed when the pragma's statement ends, after its row: an error then must not be passed over."""
    refused = 0
    for first in itertools.count(1):
        disk = fresh()
        has_failed = fail_syncs(disk, first, 1)
        try:
            found = opened(disk)
        except StoreTrouble:
            refused += 1
        else:
            assert found.store.read.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
            close(found)
        after_crash(disk, "kill")
        if not has_failed():
            break
    assert refused == first - 1


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("kind", CRASHES)
def test_a_migration_broken_off_anywhere_loses_nothing(
    kind: str, is_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_before(monkeypatch, 1, is_closed=is_closed)
    assert play(files, kind, set(range(1, 21))) > 100


@pytest.mark.parametrize(
    ("kind", "seed"), [*((kind, 0) for kind in CRASHES), *((CRASHES[-1], seed) for seed in range(1, 6))]
)
def test_after_a_failed_commit_the_next_opening_may_be_broken_off_anywhere(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames of a commit that failed can be read and are not on the medium: a database must not rest on them."""
    files = files_before(monkeypatch, len(STEPS), is_closed=True)
    for first in itertools.count(1):
        for operation in itertools.count(1):
            disk = copy_of(files)
            found = opened(disk)
            has_failed = fail_syncs(disk, first, 1)
            accepted = set(range(1, 21))
            with suppress(StoreTrouble):
                for message in range(21, 25):
                    put(found.store, message)
                    accepted.add(message)
            close(found)
            after_crash(disk, "kill")
            is_broken = broken_off(disk, operation, kind, seed)
            assert_well(disk, accepted, {21, 22, 23, 24})
            if not is_broken:
                break
        assert operation > 2
        if not has_failed():
            break
    assert first > 4  # the header of the WAL, its name, one for each message


WAL = f"{SHARD}/spool.db-wal"


def steps_of(disk: MemoryDisk, *failing: str, code: int = 0) -> list[str]:
    """Open; return what was done to the WAL, its copy and their directory, in short. Those steps fail."""
    steps = list[str]()

    def look(operation: str, path: str) -> None:
        step = f"{operation} {path.rpartition('/')[2]}"
        if "-wal" in step or operation == "sync_directory":
            if step not in steps[-1:]:
                steps.append(step)
            if step in failing:
                raise OSError(code, "told to fail", path)

    disk.on_operation = look
    try:
        close(opened(disk))
    finally:
        disk.on_operation = None
    return steps


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> MemoryDisk:
    """Half of 20 messages are in the WAL."""
    return copy_of(files_before(monkeypatch, len(STEPS), is_closed=False))


def test_the_frames_of_a_wal_stay_until_there_is_a_durable_copy(killed: MemoryDisk) -> None:
    """They stand for accepted mail: the power may be cut while they are written over themselves."""
    killed.create(f"{WAL}{COPY}").write(b"left from a crash")
    copied = ["create spool.db-wal.copy", "write spool.db-wal.copy", "sync spool.db-wal.copy"]
    expected = ["unlink spool.db-wal.copy", *copied, "rename spool.db-wal", "sync_directory shard-0"]
    assert steps_of(killed)[:6] == expected
    assert_well(killed, set(range(1, 21)))


def test_a_wal_without_frames_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = copy_of(files_before(monkeypatch, len(STEPS), is_closed=True))
    assert not disk.exists(WAL)
    disk.create(WAL)
    disk.create(f"{WAL}{COPY}")
    assert [step for step in steps_of(disk) if COPY in step] == ["unlink spool.db-wal.copy"]


@pytest.mark.parametrize("step", ["create", "write", "sync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_wal_is_settled_where_there_is_no_room_for_a_copy(killed: MemoryDisk, step: str, code: int) -> None:
    """Any other error means that the disk does not work now, and the WAL is left as it is."""
    before = dict(killed.contents())[WAL]
    if code == errno.ENOSPC:
        steps = steps_of(killed, f"{step} spool.db-wal.copy", code=code)
        at = steps.index("write spool.db-wal")
        assert steps[at : at + 3] == ["write spool.db-wal", "sync spool.db-wal", "sync_directory shard-0"]
    else:
        with pytest.raises(StoreTrouble, match="told to fail"):
            steps_of(killed, f"{step} spool.db-wal.copy", code=code)
        assert dict(killed.contents())[WAL] == before
    assert_well(killed, set(range(1, 21)))
