"""File systems on loop devices, taken down whatever happens: nothing stays mounted, no loop device stays taken.

Owns: mounting a file, unmounting with patience and then without, giving the loop device back. Does not own: what is in
the file (crowd.py, power.py).
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.world.waiting import until

END_MAX: Final = 30.0
"""Seconds that whoever still has a file open there may take to end."""


def mount(file: Path, place: Path) -> None:
    """Mount what is in a file, by a loop device that goes by itself, a moment after it is unmounted."""
    subprocess.run(["mount", "-o", "loop", str(file), str(place)], check=True)


def unmount(place: Path, patience: float = END_MAX) -> str:
    """Unmount, if it is mounted; return what was wrong, empty if nothing. Never raises: the next is taken down too.

    Where it stays busy it leaves the tree at once, and the file system ends with whoever has it open.
    """
    with suppress(TimeoutError):
        until(lambda: _is_unmounted(place), patience, what=f"umount {place}")
        return ""
    done = subprocess.run(["umount", "-l", str(place)], capture_output=True, text=True, check=False)
    return f"{place} was busy for {patience} s. {done.stderr}".strip()


def unmount_loop(file: Path, place: Path, patience: float = END_MAX) -> str:
    """The same for what ``mount`` mounted; its loop device is given back, also where it did not go by itself."""
    trouble = unmount(place, patience)
    for device in loops_of(file):
        subprocess.run(["losetup", "-d", device], capture_output=True, check=False)  # it may just have gone
    return trouble


def loops_of(file: Path) -> list[str]:
    """Return the loop devices that stand on a file."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # gone meanwhile
            if backing.read_text().strip().removesuffix(" (deleted)") == str(file):
                found.append(f"/dev/{backing.parts[3]}")
    return found


def _is_unmounted(place: Path) -> bool:
    """Try to unmount; True if nothing is mounted there."""
    if not place.is_mount():
        return True
    return subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0
