"""tests/world/mounts.py: what is mounted is taken down also while somebody has a file open there."""

from __future__ import annotations

from pathlib import Path

from tests.world import mounts, volatile_disk
from tests.world.power import PoweredDisk, make_image
from tests.world.waiting import until

SIZE = 32 << 20


def test_what_nobody_uses_goes_at_once(tmp_path: Path) -> None:
    image, place = make_image(tmp_path / "disk.img", SIZE), tmp_path / "disk"
    place.mkdir()
    mounts.mount(image, place)
    assert len(mounts.loops_of(image)) == 1
    assert mounts.unmount_loop(image, place) == ""
    assert not place.is_mount()
    until(lambda: not mounts.loops_of(image), what="the end of the loop device")
    assert mounts.unmount_loop(image, place) == ""


def test_what_is_busy_leaves_the_tree_and_is_told(tmp_path: Path) -> None:
    image, place = make_image(tmp_path / "disk.img", SIZE), tmp_path / "disk"
    place.mkdir()
    mounts.mount(image, place)
    with (place / "held").open("wb"):
        assert mounts.unmount_loop(image, place, 0.1).startswith(f"{place} was busy")
        assert not place.is_mount()
    until(lambda: not mounts.loops_of(image), what="the end of the loop device")


def test_a_busy_disk_does_not_keep_its_process(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    with PoweredDisk(make_image(tmp_path / "disk.img", SIZE), place, patience=0.1) as disk:
        held = (place / "held").open("wb")
        file = place.with_name("disk-fuse") / volatile_disk.NAME
        assert len(mounts.loops_of(file)) == 1
        troubles = disk.close()
    held.close()
    assert troubles[0].startswith(f"{place} was busy")
    assert not place.is_mount()
    assert not file.parent.is_mount()
