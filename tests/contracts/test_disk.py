"""The contract of the Disk face."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroad.core.faces import Disk
from postroad.spool.real_disk import OsDisk


@pytest.fixture
def disk() -> Disk:
    return OsDisk()


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


def test_free_space_is_told(disk: Disk, tmp_path: Path) -> None:
    assert disk.free(str(tmp_path)) > 0
