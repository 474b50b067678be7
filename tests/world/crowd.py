"""A queue of very many deferred messages, made before the relay starts; and a disk with a journal to put it on.

Owns: filling ``shard-N`` directories through the product's own Shard, one process a shard; an ext4 image on a loop
device (root). Does not own: the relay (harness.py), the load (steady.py), what is measured (crowded.py).

Run as a program it is one of those processes: ``python -m tests.world.crowd DATA_DIR NUMBER COUNT``. Each message has
5 KiB and one recipient of the crowd's many domains, was attempted once, and is due in a day.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.world import mounts

from postroad.core import outcome, reply
from postroad.core.address import Mailbox
from postroad.core.envelope import Client, Envelope, Recipient
from postroad.core.outcome import DeliveryState
from postroad.core.units import DAY, KIB, MIB
from postroad.service.threads import WorkerThreads
from postroad.service.wall_clock import WallClock
from postroad.spool.face import NewMessage, QueuedMessage, Ruling
from postroad.spool.ground import ShardSettings
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard
from postroad.testing.fake_outlet import FakeOutlet

TOP: Final = "crowd.example"
"""All of the crowd's domains are below it: one route takes them where nobody listens."""
DOMAINS: Final = 50_000
GROUPS: Final = 7
"""Each has a part of the domains."""
CONTENT: Final = b"Subject: a crowd\r\n\r\n" + b"The quick brown fox jumps over the lazy dog, and so on.\r\n" * 89
FILLERS: Final = 400
FILL_TIMEOUT: Final = 3600.0
SOURCES: Final = Path(__file__).resolve().parents[2]


@contextmanager
def ext4_disk(directory: Path, size: str) -> Iterator[Path]:
    """Mount an ext4 of its own below ``directory``: its journal and its syncs are real. Gone at the end."""
    image, mount = directory / "disk.img", directory / "disk"
    mount.mkdir(parents=True)
    with image.open("wb"):
        subprocess.run(["truncate", "-s", size, str(image)], check=True)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(image)], check=True)
        mounts.mount(image, mount)
        try:
            yield mount
        finally:
            trouble = mounts.unmount_loop(image, mount)
        assert not trouble, trouble
    finally:
        image.unlink()


def fill(data_dir: Path, count: int, *, shards: int = 2) -> float:
    """Put ``count`` messages, shared evenly by so many shards; return how many seconds that took."""
    began = time.monotonic()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = os.pathsep.join([str(SOURCES / "src"), str(SOURCES)])
    fillers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.world.crowd", str(data_dir), str(number), str(count // shards)],
            env={**os.environ, "PYTHONPATH": path},
            cwd=SOURCES,
        )
        for number in range(shards)
    ]
    try:
        assert [filler.wait(FILL_TIMEOUT) for filler in fillers] == [0] * shards
    finally:
        for filler in fillers:
            if filler.poll() is None:
                filler.kill()
                filler.wait()
    return time.monotonic() - began


def domain_of(number: int) -> str:
    domain = number % DOMAINS
    return f"d{domain}.g{domain % GROUPS}.{TOP}"


def _new_message(shard: Shard, number: int) -> NewMessage:
    recipient = Recipient(Mailbox(f"user{number}", domain_of(number)))
    sender = Mailbox(f"list{number % 100}", "sender.example")
    envelope = Envelope(sender, (recipient,), Client("192.0.2.7", listener="in"))
    return NewMessage(shard.new_id(), envelope, CONTENT[: 5 * KIB - number % 512], time.time())


async def _fill(data_dir: Path, shard_number: int, count: int) -> None:
    threads = WorkerThreads()
    shard = await Shard.take(
        str(data_dir / f"shard-{shard_number}"),
        number=shard_number,
        clock=WallClock(),
        outlet=FakeOutlet(),
        disk=OsDisk(),
        threads=threads,
        settings=ShardSettings(min_free=64 * MIB),
    )
    numbers = iter(range(shard_number * count, (shard_number + 1) * count))

    def defer(kept: QueuedMessage) -> bool:
        due_at = time.time() + DAY + kept.id % 1000
        answer = reply.Reply(451, (4, 7), "Greylisted, please come back later")
        later = outcome.Deferred(answer, due_at, "mx.example", outcome.Stage.RCPT)
        shard.record(kept.id, [Ruling(0, later, DeliveryState.DUE, due_at)])
        return True

    async def work() -> None:
        for number in numbers:
            await shard.put(_new_message(shard, number))

    shard.on_kept(defer)
    await asyncio.gather(*(work() for _ in range(FILLERS)))
    await shard.flush_records()
    await shard.close()
    threads.close()


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    asyncio.run(_fill(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
