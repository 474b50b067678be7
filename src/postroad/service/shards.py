"""Opens the one shard of a relay, and closes it in order.

Owns: where it is (``data_dir/shard-0``) and what it is opened with. Does not own: the shard (spool/shard.py), what is
said when it cannot be opened (service/offline.py for commands, service/start.py for the relay).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from postroad.config.model import Settings
from postroad.core.faces import Clock, Outlet
from postroad.service.threads import WorkerThreads
from postroad.spool.face import Spool
from postroad.spool.ground import ShardSettings
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard


@asynccontextmanager
async def open_shard(
    settings: Settings, clock: Clock, outlet: Outlet, threads: WorkerThreads | None = None
) -> AsyncIterator[Spool]:
    """Give the spool, ours until the block ends. Without ``threads`` it has its own, which end with it.

    Raises:
        ShardOwned: another process has it.
        OSError, StoreTrouble, StoreTooNew: it cannot be opened.
    """
    mine = WorkerThreads() if threads is None else threads
    try:
        shard = await Shard.take(
            str(settings.data_dir / "shard-0"),
            number=0,
            clock=clock,
            outlet=outlet,
            disk=OsDisk(),
            threads=mine,
            settings=ShardSettings(min_free=settings.spool.min_free),
        )
        try:
            yield shard
        finally:
            await shard.close()
    finally:
        if threads is None:
            mine.close()
