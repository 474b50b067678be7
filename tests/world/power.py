"""An ext4 whose power can be cut: what is left is what its disk held at that moment, and nothing that only memory did.

Owns: mounting a file system on a disk with a volatile cache (volatile_disk.py), cutting it, mounting what a cut left
(ext4 replays its journal), and taking all of it down again, also after a failure. Does not own: the relay on it.

Why an image is one that a power cut can leave: the inner file system's dirty pages are never in it, only what ext4
wrote to its device; of that, all that was flushed, and any part of the rest; and it is of one moment, since the disk
serves nothing while it is taken.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.world import volatile_disk
from tests.world.waiting import until

END_MAX = 30.0


def make_image(image: Path, octets: int) -> Path:
    """Make an ext4 with a journal in a file."""
    with image.open("wb") as file:
        file.truncate(octets)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0", str(image)], check=True)
    return image


class PoweredDisk:
    """``with PoweredDisk(image, mount) as disk``: mounted at ``mount``; ``image`` itself is only read."""

    def __init__(self, image: Path, mount: Path) -> None:
        self._image = image
        self._mount = mount
        self._outer = mount.with_name(f"{mount.name}-fuse")
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> PoweredDisk:
        self._mount.mkdir(parents=True, exist_ok=True)
        self._outer.mkdir(exist_ok=True)
        self._server = subprocess.Popen(
            [sys.executable, volatile_disk.__file__, str(self._outer), str(self._image)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert self._heard() == "ready"
            file = self._outer / volatile_disk.NAME
            subprocess.run(["mount", "-o", "loop", str(file), str(self._mount)], check=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Unmount, and end the disk. What had not been written by then goes the way of everything."""
        server = self._server
        assert server is not None
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            for place in (self._mount, self._outer):  # the loop device goes by itself, a moment after the first
                until(lambda place=place: is_unmounted(place), END_MAX, what=f"umount {place}")
        finally:
            server.stdin.close()
            try:
                server.wait(END_MAX)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise
            finally:
                server.stdout.close()

    def cut(self, image: Path, seed: int) -> int:
        """Write to ``image`` what a power cut now would leave; return how many sectors the cache lost."""
        assert self._server is not None
        assert self._server.stdin is not None
        self._server.stdin.write(f"cut {image} {seed}\n")
        self._server.stdin.flush()
        return int(self._heard())

    def _heard(self) -> str:
        assert self._server is not None
        assert self._server.stdout is not None
        if not (line := self._server.stdout.readline()):
            raise AssertionError("the disk's process has ended")
        return line.strip()


def is_unmounted(place: Path) -> bool:
    """Try to unmount; True if nothing is mounted there."""
    if not place.is_mount():
        return True
    return subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0
