"""Directories of the operating system: which names are synced when they are made, or found.

Does not own: what all disks have in common (tests/contracts/test_disk.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from postroad.spool import real_disk
from postroad.spool.owner import LockOwner
from postroad.spool.real_disk import OsDisk


class Syncs:
    """Which directories were synced since it was last asked; before the one of ``stop_at`` its process dies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._synced: list[int] = []
        self._fsync = os.fsync
        self.stop_at: Path | None = None
        monkeypatch.setattr(os, "fsync", self.sync)

    def sync(self, descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        if self.stop_at is not None and self.stop_at.stat().st_ino == inode:
            raise KeyboardInterrupt
        self._synced.append(inode)
        self._fsync(descriptor)

    def of(self, *places: Path) -> list[bool]:
        """Return which of them were."""
        synced, self._synced = self._synced, []
        return [place.stat().st_ino in synced for place in places]


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    return Syncs(monkeypatch)


def test_each_directory_is_durable_in_the_one_above(tmp_path: Path, syncs: Syncs) -> None:
    a, b, c = tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"
    OsDisk().make_directories(str(c))
    assert syncs.of(tmp_path, a, b, c) == [True, True, True, False]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_directory_whose_maker_died_before_its_sync_is_synced(tmp_path: Path, syncs: Syncs, depth: int) -> None:
    chain = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    innermost = tmp_path / "a" / "b" / "c"
    if depth:
        chain[1].mkdir()
    syncs.stop_at = chain[depth]
    if depth == 2:
        chain[2].mkdir()
    with pytest.raises(KeyboardInterrupt):
        OsDisk().make_directories(str(innermost))
    syncs.stop_at = None
    syncs.of()
    OsDisk().make_directories(str(innermost))
    assert syncs.of(chain[depth]) == [True]


def test_a_directory_that_is_known_to_be_durable_is_not_synced_for_each_message(
    tmp_path: Path, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_disk, "_MADE_MAX", 2)
    disk, a = OsDisk(), tmp_path / "a"
    for expected in (True, False):
        disk.make_directories(str(a))
        assert syncs.of(tmp_path) == [expected]
    a.rmdir()
    disk.make_directories(str(a))
    assert syncs.of(tmp_path) == [True], "it was taken away meanwhile"
    for name in "bc":
        disk.make_directories(str(tmp_path / name))
    syncs.of()
    disk.make_directories(str(a))
    assert syncs.of(tmp_path) == [True], "only so many are remembered"


def test_the_directory_of_a_new_shard_is_durable(tmp_path: Path, syncs: Syncs) -> None:
    for _ in range(2):  # its owner may have been killed just after it was made
        LockOwner(str(tmp_path / "data" / "shard-0")).release()
        assert syncs.of(tmp_path / "data") == [True]


def test_the_place_of_a_directory_need_not_be_ours_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /home may be: whoever made what is in it, we did not."""

    def refuse(path: str, *arguments: object, **more: object) -> int:
        raise PermissionError(path)

    (tmp_path / "a").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        OsDisk().make_directories(str(tmp_path / "a"))
