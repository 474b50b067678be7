"""A disk with a volatile cache, for a loop device: one file, served by FUSE, that knows what of it was flushed.

Owns: FUSE's protocol as far as one file needs it (fuse.h of Linux, protocol 7.31); what the disk holds for sure and
what only its cache does; the image that a power cut leaves. A process of its own: mail must not wait for a test's lock.
Does not own: mounting (power.py) and when the power is cut.

What was written and not flushed since is kept in part, by dice, sector by sector, in any order: a disk may do so. What
was flushed (FUSE_FSYNC: the loop device's FLUSH, FUA and journal barriers) is always kept. One request after the other
is served, and a cut is one of them: an image is what the disk held at one moment.

usage: python volatile_disk.py MOUNT_POINT IMAGE      then on standard input: cut PATH SEED, for as long as it is open,
and each is answered with the moment of the cut (time.monotonic(), one clock for all processes) and the sectors lost
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import select
import stat
import struct
import subprocess
import sys
import time
from enum import IntEnum
from pathlib import Path
from typing import Final

NAME: Final = "disk.img"
SECTOR: Final = 4096
"""Octets that are written whole or not at all: a sector of today's disks."""
WRITE_MAX: Final = 128 * 1024
EMPTY: Final = bytes(1 << 20)
ROOT, FILE = 1, 2
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22
HEADER: Final = struct.Struct("<IIQQIIIHH")
FOREVER: Final = 1 << 30
"""Seconds that the kernel may remember what it was told of the file."""


class Op(IntEnum):
    """The requests that are answered; any other gets ENOSYS, which the kernel knows how to do without."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


class Disk:
    """The octets: ``seen`` by whoever reads, ``stable`` whatever happens."""

    def __init__(self, image: Path) -> None:
        self.size = image.stat().st_size
        self.seen = mmap.mmap(-1, self.size)
        self.stable = mmap.mmap(-1, self.size)
        self.cached: dict[int, list[bytes]] = {}
        """Sector -> what was written to it since the last flush, one after the other."""
        with image.open("rb") as file:
            for at in range(0, self.size, len(EMPTY)):
                if (octets := file.read(len(EMPTY))) != EMPTY:
                    self.seen[at : at + len(octets)] = self.stable[at : at + len(octets)] = octets

    def write(self, offset: int, octets: bytes) -> None:
        self.seen[offset : offset + len(octets)] = octets
        for at in range(offset - offset % SECTOR, offset + len(octets), SECTOR):
            self.cached.setdefault(at, []).append(self.seen[at : at + SECTOR])

    def flush(self) -> None:
        for at, versions in self.cached.items():
            self.stable[at : at + SECTOR] = versions[-1]
        self.cached.clear()

    def cut(self, path: Path, seed: int) -> int:
        """Write what a power cut leaves: nothing of the cache, all of it, or any part. Returns the sectors lost."""
        dice = random.Random(seed)
        part = dice.choice([0.0, 0.5, 0.9, 1.0])
        left = {at: dice.choice(versions) for at, versions in self.cached.items() if dice.random() < part}
        with path.open("wb") as file:
            file.truncate(self.size)
            for at in range(0, self.size, len(EMPTY)):
                octets = self.stable[at : at + len(EMPTY)]
                if octets != EMPTY:
                    file.seek(at)
                    file.write(octets)
            for at, version in left.items():
                file.seek(at)
                file.write(version)
        return len(self.cached) - len(left)


class Server:
    """Answers the kernel, one request at a time."""

    def __init__(self, disk: Disk, fuse: int) -> None:
        self.disk = disk
        self.fuse = fuse

    def serve(self) -> bool:
        """Answer one request; False when the file system was unmounted."""
        try:
            request = os.read(self.fuse, WRITE_MAX + SECTOR)
        except OSError as error:
            return error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN)  # taken back before we read it
        _, code, unique, node, *_ = HEADER.unpack_from(request)
        if code in (Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT):
            return True
        answer = self._answer(code, node, memoryview(request)[HEADER.size :])
        failed, octets = (answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(self.fuse, struct.pack("<IiQ", 16 + len(octets), -failed, unique) + octets)
        return code != Op.DESTROY

    def _answer(self, code: int, node: int, rest: memoryview) -> bytes | int:
        """Return the octets of the answer, or an errno."""
        match code:
            case Op.INIT:
                _, _, readahead, _ = struct.unpack_from("<IIII", rest)
                return struct.pack(
                    "<IIIIHHIIHHI28x", 7, 31, readahead, BIG_WRITES | MAX_PAGES, 16, 12, WRITE_MAX, 1,
                    WRITE_MAX // mmap.PAGESIZE, 0, 0,
                )  # fmt: skip
            case Op.LOOKUP:
                if bytes(rest).rstrip(b"\0") != NAME.encode():
                    return errno.ENOENT
                return struct.pack("<QQQQII", FILE, 0, FOREVER, FOREVER, 0, 0) + self._attributes(FILE)
            case Op.GETATTR | Op.SETATTR:
                return struct.pack("<QII", FOREVER, 0, 0) + self._attributes(node)
            case Op.OPEN:
                return struct.pack("<QIi", 1, 0, 0)
            case Op.READ:
                _, offset, size = struct.unpack_from("<QQI", rest)
                return self.disk.seen[offset : offset + size]
            case Op.WRITE:
                _, offset, size = struct.unpack_from("<QQI", rest)
                self.disk.write(offset, bytes(rest[40 : 40 + size]))
                return struct.pack("<II", size, 0)
            case Op.FSYNC:
                self.disk.flush()
                return b""
            case Op.STATFS:
                return struct.pack("<QQQQQIIII24x", self.disk.size // SECTOR, 0, 0, 1, 0, SECTOR, 255, SECTOR, 0)
            case Op.FLUSH | Op.RELEASE | Op.DESTROY:
                return b""
            case _:
                return errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        mode, size = (stat.S_IFDIR | 0o700, 0) if node == ROOT else (stat.S_IFREG | 0o600, self.disk.size)
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, SECTOR, 0)


def main(mount_point: str, image: str) -> None:
    disk = Disk(Path(image))
    fuse = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,max_read={WRITE_MAX}"
    mounting = subprocess.Popen(["mount", "-i", "-t", "fuse", "-o", options, "disk", mount_point], pass_fds=[fuse])
    server = Server(disk, fuse)
    server.serve()
    assert mounting.wait() == 0
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([fuse, 0], [], [])
        if fuse in ready and not server.serve():
            return
        if 0 in ready:
            line = sys.stdin.buffer.raw.readline().decode()  # type: ignore[union-attr]
            if not line:
                return  # whoever started us has gone
            _, path, seed = line.split()
            moment = time.monotonic()  # from here on nothing is served until the image is written
            print(repr(moment), disk.cut(Path(path), int(seed)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
