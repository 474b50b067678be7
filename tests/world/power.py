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

from tests.world import mounts, volatile_disk
from tests.world.mounts import END_MAX


def make_image(image: Path, octets: int) -> Path:
    """Make an ext4 with a journal in a file."""
    with image.open("wb") as file:
        file.truncate(octets)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0", str(image)], check=True)
    return image


class PoweredDisk:
    """``with PoweredDisk(image, mount) as disk``: mounted at ``mount``; ``image`` itself is only read."""

    def __init__(self, image: Path, mount: Path, *, patience: float = END_MAX) -> None:
        self._image = image
        self._patience = patience
        self._mount = mount
        self._outer = mount.with_name(f"{mount.name}-fuse")
        self._file = self._outer / volatile_disk.NAME
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
            mounts.mount(self._file, self._mount)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Take it down. AssertionError: it was busy; then it is down all the same."""
        troubles = self.close()
        assert not troubles, troubles

    def close(self) -> list[str]:
        """Unmount, and end the disk. What had not been written by then goes the way of everything.

        Each step is done whatever became of those before it. Returns what was wrong.
        """
        server, self._server = self._server, None
        if server is None:
            return []
        assert server.stdin is not None
        assert server.stdout is not None
        patience = self._patience
        troubles = [mounts.unmount_loop(self._file, self._mount, patience), mounts.unmount(self._outer, patience)]
        server.stdin.close()
        try:
            server.wait(END_MAX)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            troubles.append("the disk's process did not end")
        finally:
            server.stdout.close()
        return [trouble for trouble in troubles if trouble]

    def cut(self, image: Path, seed: int) -> tuple[float, int]:
        """Write to ``image`` what a power cut now would leave.

        Returns the moment of the cut (time.monotonic(), which all processes share) and how many sectors the cache lost.
        """
        assert self._server is not None
        assert self._server.stdin is not None
        self._server.stdin.write(f"cut {image} {seed}\n")
        self._server.stdin.flush()
        moment, sectors = self._heard().split()
        return float(moment), int(sectors)

    def _heard(self) -> str:
        assert self._server is not None
        assert self._server.stdout is not None
        if not (line := self._server.stdout.readline()):
            raise AssertionError("the disk's process has ended")
        return line.strip()
