"""A database whose schema is not what its record of steps says: set aside whole, and a new one takes its place."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from tests.units.test_spool_shard import NOW, message, opened, run

from postroad.spool import migrations
from postroad.spool.errors import StoreDamaged, StoreTrouble
from postroad.spool.real_disk import OsDisk
from postroad.spool.salvage import salvage
from postroad.spool.store import PAGE_SIZE, Store, StoreOptions


def fill(place: Path) -> None:
    async def work() -> None:
        async with opened(place) as shard:
            for _ in range(5):
                await shard.put(message(shard))

    run(work())


def change(place: Path, sql: str) -> None:
    connection = apsw.Connection(str(place / "shard-0" / "spool.db"))
    connection.execute(sql)
    connection.close()


def tear(place: Path, table: str) -> None:
    """Let the fragmentation of a table's page be wrong, as where old and new pages stand side by side."""
    path = place / "shard-0" / "spool.db"
    connection = apsw.Connection(str(path))
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get
    connection.close()
    octets = bytearray(path.read_bytes())
    octets[(root - 1) * PAGE_SIZE + 7] = 17
    path.write_bytes(octets)


def assert_set_aside_and_salvaged(place: Path) -> None:
    moved = place / f"shard-0.damaged-{int(NOW)}"

    async def work() -> None:
        async with opened(place) as shard:
            assert shard.stats().messages == 0
            assert shard.refusing() is None

    run(work())
    assert (moved / "spool.db").exists()
    assert salvage(str(moved), str(place / "shard-0"), OsDisk(), NOW).salvaged == 5


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("DELETE FROM migration WHERE number = 2", id="made, not recorded"),
        pytest.param("DELETE FROM migration", id="nothing recorded"),
        pytest.param("DROP TABLE arrived", id="recorded, not made"),
        pytest.param("DROP TABLE copied; DELETE FROM migration WHERE number = 2", id="half made"),
    ],
)
def test_a_schema_that_is_not_the_recorded_one_is_damage(tmp_path: Path, sql: str) -> None:
    fill(tmp_path)
    change(tmp_path, sql)
    assert_set_aside_and_salvaged(tmp_path)


def test_a_torn_page_under_a_step_that_fails_is_damage(tmp_path: Path) -> None:
    fill(tmp_path)
    change(tmp_path, "DELETE FROM migration WHERE number = 2")
    tear(tmp_path, "arrived")
    with pytest.raises(StoreDamaged, match=r"(?s)arrived already exists; .*page"):
        Store(str(tmp_path / "shard-0"), StoreOptions()).open(NOW)
    assert_set_aside_and_salvaged(tmp_path)


def test_a_step_that_is_wrong_itself_leaves_a_database_that_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    with monkeypatch.context() as patched:
        wrong = (3, "wrong", "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1)")
        patched.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, wrong))
        store = Store(str(tmp_path / "shard-0"), StoreOptions())
        with pytest.raises(StoreTrouble, match="nowhere") as trouble:
            store.open(NOW)
        assert not isinstance(trouble.value, StoreDamaged)
        store.close(checkpoint=False)

    async def work() -> None:
        async with opened(tmp_path) as shard:
            assert shard.stats().messages == 5

    run(work())
    connection = apsw.Connection(str(tmp_path / "shard-0" / "spool.db"))
    assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'half'").fetchall() == []
    connection.close()


def test_tables_and_indexes_of_somebody_else_are_no_damage(tmp_path: Path) -> None:
    fill(tmp_path)
    change(tmp_path, "ANALYZE; CREATE TABLE theirs (x)")

    async def work() -> None:
        async with opened(tmp_path) as shard:
            assert shard.stats().messages == 5

    run(work())
