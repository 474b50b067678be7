"""A process that adopts a shard, to be killed in the middle: ``python -m tests.units.adopting DATA_DIR NUMBER INTO``.

Owns: that process. Prints ``begun`` once it has opened its own shard, ``done`` when the other is gone. Does not own:
when it dies (test_service_shards.py).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from postroad.config.load import load_text
from postroad.service.shards import adopt, open_shard
from postroad.service.threads import WorkerThreads
from postroad.service.wall_clock import WallClock
from postroad.testing.fake_outlet import FakeOutlet


async def main(data_dir: Path, number: int, into: int) -> None:
    settings = load_text(f'data_dir = "{data_dir}"\n[spool]\nmin_free = "0B"\n').settings
    clock, outlet, threads = WallClock(), FakeOutlet(), WorkerThreads()
    async with open_shard(settings, clock, outlet, threads, number=into) as shard:
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        await adopt(number, shard, settings=settings, clock=clock, outlet=outlet, threads=threads)
        sys.stdout.write("done\n")
    threads.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
