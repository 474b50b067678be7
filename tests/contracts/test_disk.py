"""The contract of the Disk face: the operating system's, and the one in memory; and what only the latter can show."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroad.core.faces import Disk
from postroad.spool.real_disk import OsDisk
from postroad.testing.memory_disk import MemoryDisk
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim.chaos import Chaos
from postroad.testing.sim.disk import ProcessDisk
from postroad.testing.sim.kernel import Kernel, Process


def process_disk() -> ProcessDisk:
    kernel = Kernel()
    return ProcessDisk(MemoryDisk(), Process(kernel, "worker"), Chaos(kernel, SeededDice(), ()))


@pytest.fixture(params=[OsDisk, MemoryDisk, process_disk])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    made: Disk = request.param()
    made.make_directories(str(tmp_path))
    return made


def test_what_is_written_can_be_read_at_any_place(disk: Disk, tmp_path: Path) -> None:
    file = disk.create(str(tmp_path / "a"))
    file.write(b"hello ")
    file.write(memoryview(b"world"))
    file.sync()
    file.close()
    file.close()
    reading = disk.open(str(tmp_path / "a"))
    assert (reading.size(), reading.read_at(6, 100), reading.read_at(0, 5), reading.read_at(11, 5)) == (
        11,
        b"world",
        b"hello",
        b"",
    )
    reading.close()


def test_a_file_is_made_once(disk: Disk, tmp_path: Path) -> None:
    disk.create(str(tmp_path / "a")).close()
    with pytest.raises(FileExistsError):
        disk.create(str(tmp_path / "a"))


def test_what_is_written_again_is_what_it_was(disk: Disk, tmp_path: Path) -> None:
    octets = bytes(range(256)) * 10_000 + b"end"
    file = disk.create(str(tmp_path / "a"))
    file.write(octets)
    file.close()
    disk.create(str(tmp_path / "empty")).close()
    for name in ("a", "empty"):
        disk.write_again(str(tmp_path / name))
    assert disk.open(str(tmp_path / "a")).read_at(0, len(octets) + 1) == octets
    assert disk.open(str(tmp_path / "empty")).size() == 0
    with pytest.raises(FileNotFoundError):
        disk.write_again(str(tmp_path / "none"))


def test_names_come_and_go(disk: Disk, tmp_path: Path) -> None:
    disk.make_directories(str(tmp_path / "x" / "y"))
    disk.create(str(tmp_path / "x" / "y" / "a")).close()
    disk.link(str(tmp_path / "x" / "y" / "a"), str(tmp_path / "x" / "b"))
    with pytest.raises(FileExistsError):
        disk.link(str(tmp_path / "x" / "y" / "a"), str(tmp_path / "x" / "b"))
    disk.rename(str(tmp_path / "x" / "y" / "a"), str(tmp_path / "x" / "c"))
    disk.sync_directory(str(tmp_path / "x"))
    assert sorted(disk.list(str(tmp_path / "x"))) == ["b", "c", "y"]
    disk.unlink(str(tmp_path / "x" / "b"))
    assert not disk.exists(str(tmp_path / "x" / "b"))
    assert disk.exists(str(tmp_path / "x" / "c"))
    with pytest.raises(FileNotFoundError):
        disk.unlink(str(tmp_path / "x" / "b"))
    with pytest.raises(FileNotFoundError):
        disk.open(str(tmp_path / "x" / "b"))


def test_an_empty_directory_can_be_taken_away(disk: Disk, tmp_path: Path) -> None:
    place = str(tmp_path / "x")
    disk.make_directories(place)
    disk.create(f"{place}/a").close()
    with pytest.raises(OSError, match="not empty"):
        disk.remove_directory(place)
    disk.unlink(f"{place}/a")
    disk.remove_directory(place)
    assert not disk.exists(place)
    with pytest.raises(FileNotFoundError):
        disk.remove_directory(place)


def test_free_space_is_told(disk: Disk, tmp_path: Path) -> None:
    assert disk.free(str(tmp_path)) > 0


def test_a_file_stays_open_under_another_name_or_none(disk: Disk, tmp_path: Path) -> None:
    file = disk.create(str(tmp_path / "a"))
    file.write(b"kept")
    disk.rename(str(tmp_path / "a"), str(tmp_path / "b"))
    disk.unlink(str(tmp_path / "b"))
    assert file.read_at(0, 10) == b"kept"
    file.close()
    assert disk.list(str(tmp_path)) == []


def test_a_directory_must_be_there(disk: Disk, tmp_path: Path) -> None:
    for act in (disk.create, disk.open, disk.unlink, disk.list, disk.sync_directory):
        with pytest.raises(FileNotFoundError):
            act(str(tmp_path / "none" / "a"))
    disk.make_directories(str(tmp_path))  # that it is there already harms nobody


# --- what is lost with the power: only a disk of ours can tell ---


def made(disk: MemoryDisk, path: str, octets: bytes, *, sync: bool, name: bool) -> None:
    file = disk.create(path)
    file.write(octets)
    if sync:
        file.sync()
    if name:
        disk.sync_directory("/d")


@pytest.fixture
def memory() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_directories("/d")
    return disk


def test_content_and_name_are_lost_each_for_itself(memory: MemoryDisk) -> None:
    made(memory, "/d/neither", b"x", sync=False, name=False)
    made(memory, "/d/content", b"x", sync=True, name=False)
    memory.power_off()
    with pytest.raises(OSError, match="power is off"):
        memory.exists("/d/content")
    memory.power_on()
    assert memory.list("/d") == []
    made(memory, "/d/name", b"x", sync=False, name=True)
    made(memory, "/d/both", b"x", sync=True, name=True)
    memory.power_off()
    memory.power_on()
    assert memory.list("/d") == ["both", "name"]
    assert memory.open("/d/both").read_at(0, 9) == b"x"
    assert memory.open("/d/name").size() == 0


@pytest.mark.parametrize("again", [False, True])
def test_a_directory_is_lost_unless_the_one_above_was_synced(memory: MemoryDisk, again: bool) -> None:
    """With all that is in it; who finds it there and asks for it keeps it."""

    def die(operation: str, path: str) -> None:
        if (operation, path) == ("sync_directory", "/d"):
            raise OSError("told to fail")

    memory.on_operation = die
    with pytest.raises(OSError, match="told to fail"):
        memory.make_directories("/d/new")
    memory.on_operation = None
    if again:
        memory.make_directories("/d/new")
    memory.create("/d/new/a").sync()
    memory.sync_directory("/d/new")
    memory.power_off()
    memory.power_on()
    assert memory.list("/d") == (["new"] if again else [])
    assert memory.exists("/d/new/a") is again


def test_names_that_were_taken_away_come_back_unless_synced(memory: MemoryDisk) -> None:
    made(memory, "/d/a", b"x", sync=True, name=True)
    memory.rename("/d/a", "/d/b")
    memory.power_off()
    memory.power_on()
    assert memory.list("/d") == ["a"]
    memory.rename("/d/a", "/d/b")
    memory.sync_directory("/d")
    memory.power_off()
    memory.power_on()
    assert memory.list("/d") == ["b"]


def test_after_a_failed_sync_a_good_one_does_not_bring_it_back(memory: MemoryDisk) -> None:
    file = memory.create("/d/a")
    memory.sync_directory("/d")
    file.write(b"lost")

    def fail(operation: str, path: str) -> None:
        memory.on_operation = None
        raise OSError(5, "told to fail")

    memory.on_operation = fail
    with pytest.raises(OSError, match="told to fail"):
        file.sync()
    file.sync()
    assert file.read_at(0, 9) == b"lost"
    memory.power_off()
    memory.power_on()
    assert memory.open("/d/a").size() == 0


def test_after_a_failed_sync_what_is_written_again_is_kept(memory: MemoryDisk) -> None:
    file = memory.create("/d/a")
    memory.sync_directory("/d")
    file.write(b"kept")

    def fail(operation: str, path: str) -> None:
        memory.on_operation = None
        raise OSError(5, "told to fail")

    memory.on_operation = fail
    with pytest.raises(OSError, match="told to fail"):
        file.sync()
    memory.write_again("/d/a")
    memory.power_off()
    memory.power_on()
    assert memory.open("/d/a").read_at(0, 9) == b"kept"


def test_a_dead_process_keeps_what_it_wrote_but_not_its_files(memory: MemoryDisk) -> None:
    file = memory.create("/d/a")
    file.write(b"x")
    memory.kill()
    with pytest.raises(OSError, match="dead"):
        file.write(b"y")
    assert memory.open("/d/a").read_at(0, 9) == b"x"


def test_dice_say_what_part_of_the_unsynced_was_written(memory: MemoryDisk) -> None:
    found = set[bytes]()
    for seed in range(60):
        disk = MemoryDisk()
        disk.make_directories("/d")
        file = disk.create("/d/a")
        disk.sync_directory("/d")
        file.write(b"12")
        file.write(b"34")
        disk.power_off(SeededDice(seed))
        disk.power_on()
        found.add(disk.open("/d/a").read_at(0, 9))
    assert {b"", b"1234", b"12", b"\0\0" + b"34"} <= found
