"""``postroad`` and ``python -m postroad``: gives the command line what it needs of the house, and runs it.

Owns: the House of the command line. Does not own: the commands (cli/main.py), what the functions here lead to
(service). Everything is imported when it is needed, so that ``postroad version`` is quick.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from postroad.cli.house import House
from postroad.cli.main import run
from postroad.service.wall_clock import WallClock

if TYPE_CHECKING:
    from pathlib import Path

    from postroad.config.addresses import TcpAddress
    from postroad.config.load import Loaded
    from postroad.config.model import Settings
    from postroad.core.faces import Clock, Outlet
    from postroad.outbound.steering import Steering
    from postroad.spool.face import Spool
    from postroad.spool.salvage import Salvaged


def serve(loaded: Loaded) -> int:
    from postroad.service.worker import serve as serve_relay

    return serve_relay(loaded)


def open_queue(settings: Settings) -> AbstractAsyncContextManager[Steering]:
    from postroad.service import offline

    return offline.open_queue(settings, WallClock(), open_spool)


def open_spool(settings: Settings, clock: Clock, outlet: Outlet) -> AbstractAsyncContextManager[Spool]:
    from postroad.service.shards import open_shard

    return open_shard(settings, clock, outlet)


def salvage(settings: Settings, damaged: Path) -> Salvaged:
    from postroad.service import offline

    return offline.salvage_queue(settings, WallClock(), damaged)


def ask_relay(settings: Settings) -> Steering:
    from postroad.service import offline

    return offline.ask_relay(settings)


async def resolve(server: TcpAddress, name: str, seconds: float) -> tuple[str, ...]:
    from postroad.service import offline

    return await offline.resolve(server, name, seconds)


def main() -> None:
    """Run one command and exit."""
    house = House(
        clock=WallClock(), serve=serve, open_queue=open_queue, salvage=salvage, ask_relay=ask_relay, resolve=resolve
    )
    sys.exit(run(house, sys.argv[1:]))


if __name__ == "__main__":
    main()
