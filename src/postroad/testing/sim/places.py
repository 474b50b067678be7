"""Every place of the product that touches the disk in a simulated world, and the moments at which a crash may fall.

Owns: the list at which blows are aimed (aims.py) and against which a sum is read (summary.py); a test (tests/sim) sees
that no story passes a place that is not here. Does not own: how a place gets its name (chaos.py). Not here, since no
story gets there: what is done with a damaged database (set_aside, salvage), since no disk of a story rots; copying a
content where no link can be made (content.copy_file); what SQLite would do with a hot journal beside a WAL in
Store._connect and Store._truncate_wal, since the WAL is settled before. A sum names what was passed and is not here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MOMENTS: Final = ("before", "in", "after")
_DIVISIBLE: Final = frozenset({"write", "sync", "sync_directory", "make_directories"})
"""Operations that a crash can cut short: some octets are written, some of what waits is durable, the outer directories
are made. A name that is made, changed or taken away, and a file that is cut, is so or is not: the journal of the file
system sees to it. There a blow in the middle is one just after."""


class Place(NamedTuple):
    """How blows are aimed at it."""

    weight: float = 1.0
    """How often, compared with others: more where many blows never fall."""
    needs: str = ""
    """What has to be set up in a story so that it is passed (aims.py)."""
    is_frequent: bool = False
    """Passed again and again: some passages are let go before the blow falls."""
    is_rare: bool = False
    """Passed in few stories, whatever is set up: most stories have a blow that waits there."""


def _places(function: str, operations: str, place: Place) -> dict[str, Place]:
    return {f"{one.strip()} in {function}": place for one in operations.split(",")}


_OFTEN: Final = Place(1.6, is_frequent=True)
_LOCAL: Final = Place(2.5, "local", True)
_DIRECTORY: Final = "sync_directory directory"
_JOURNAL: Final = "create journal, write journal, sync journal, unlink journal"

PLACES: Final[dict[str, Place]] = {
    **_places("WriteStore.commit", "write WAL, sync WAL", _OFTEN),
    **_places("WriteStore.commit", _DIRECTORY, Place(3.0)),
    **_places("WriteStore.commit", "truncate WAL", Place(is_rare=True)),
    **_places("Store.checkpoint", "write database, sync WAL, sync database", Place(2.0, is_frequent=True)),
    **_places("Store.checkpoint", "truncate database", Place(3.0, "", True)),
    **_places(
        "Store._truncate_wal", "write database, sync WAL, truncate WAL, truncate database, sync database", Place(2.0)
    ),
    **_places("Store._truncate_wal", f"{_DIRECTORY}, create WAL", Place(1.5)),
    **_places(
        "Store.empty_wal",
        "sync WAL, write database, truncate database, sync database, truncate WAL",
        Place(6.0, "scarce", is_rare=True),
    ),
    **_places("migrate", f"write WAL, sync WAL, {_DIRECTORY}", Place(2.0)),
    **_places("Store.open", f"{_JOURNAL}, {_DIRECTORY}, write database, sync database", Place()),
    **_places("Store.open", "truncate database", Place(4.0, "failing birth")),
    **_places("Store._connect", "create database", Place(2.0)),
    **_places("Store._connect", "create WAL", Place(4.0, "birth")),
    **_places("Store._connect", "unlink WAL", Place(6.0, "birth", is_rare=True)),
    **_places("Store._connect", "write journal, sync journal, unlink journal", Place(4.0, "birth")),
    **_places("Store._connect", "truncate database, sync database", Place(3.0, "birth")),
    **_places("Store.close", "write database, sync WAL, truncate database, sync database, unlink WAL", Place(5.0)),
    **_places("Store.close", f"sync journal, unlink journal, {_DIRECTORY}", Place(5.0, "failing birth")),
    **_places("WriteStore.forget", "write WAL, sync WAL", Place(10.0, "failing syncs")),
    **_places("WriteStore.forget", _DIRECTORY, Place(14.0, "failing syncs", is_rare=True)),
    **_places("_settle_wal", f"rename WAL, {_DIRECTORY}", Place(1.5)),
    **_places("_settle_wal", "write WAL, sync WAL", Place(14.0, is_rare=True)),
    **_places("_unlink_if_there", "unlink file, unlink content", Place(2.0, "failing syncs", is_rare=True)),
    **_places("copy_file", "create file, write file, sync file", Place(1.5)),
    **_places("_open", _DIRECTORY, Place(1.5)),
    **_places("Shard.take", "make_directories content", Place(3.0)),
    **_places("FileBodyWriter._append", "create content, write content", _OFTEN),
    **_places("FileBodyWriter._sync", "sync content, sync_directory content", _OFTEN),
    **_places("FileBodyWriter._remove", "unlink content", Place(4.0, "failing syncs")),
    **_places("Shard._drop_body", "unlink content", Place(4.0, "syncs dense slow", is_rare=True)),
    **_places("Counting._on_committed", "unlink content", _OFTEN),
    **_places("Counting._unlink_if_there", "unlink content", Place(4.0, "syncs dense", is_rare=True)),
    **_places("collect_orphans", "unlink content", Place(2.0)),
    **_places("take_files", "link content, sync_directory content", Place(7.0, "adoption")),
    **_places("take_files", "unlink content", Place(9.0, "adoption naming", is_rare=True)),
    **_places("remove_shard", f"remove_directory content, unlink database, {_DIRECTORY}", Place(4.0, "adoption")),
    **_places("remove_shard", "remove_directory directory", Place(4.0, "adoption")),
    **_places("remove_shard", "unlink content, unlink WAL", Place(8.0, "adoption unlinking", is_rare=True)),
    **_places(
        "MaildirFile.begin", "make_directories Maildir, unlink Maildir, create Maildir", Place(2.5, "local", True)
    ),
    **_places("MaildirFile.begin", "write Maildir", _LOCAL),
    **_places("MaildirFile.begin", "sync_directory Maildir", Place(3.0, "broken local")),
    **_places("MaildirFile.write", "write Maildir", _LOCAL),
    **_places("MaildirFile.finish", "sync Maildir, rename Maildir, sync_directory Maildir", _LOCAL),
    **_places("MaildirFile.give_up", "unlink Maildir", Place(3.0, "failing local", is_rare=True)),
}


def has_moment(place: str, moment: str) -> bool:
    """Return if a crash may fall at that moment of that place."""
    return moment != "in" or place.partition(" ")[0] in _DIVISIBLE


def moments_of(place: str) -> tuple[str, ...]:
    """Return the moments at which a crash may fall there."""
    return tuple(moment for moment in MOMENTS if has_moment(place, moment))
