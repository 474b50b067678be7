"""``postroad`` and ``python -m postroad``: gives the command line what it needs of the house, and runs it.

Owns: the House of the command line. Does not own: the commands (cli/main.py), what the functions here lead to
(service). Everything is imported when it is needed, so that ``postroad version`` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from postroad.cli.sendmail import program_of, sendmail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from postroad.config.addresses import TcpAddress
    from postroad.config.load import Loaded
    from postroad.config.model import Settings
    from postroad.core.faces import Clock, Outlet
    from postroad.outbound.relay import RelaySteering
    from postroad.spool.face import Spool
    from postroad.spool.salvage import Salvaged


def serve(loaded: Loaded) -> int:
    from postroad.service.launch import serve as serve_relay

    serve_relay(loaded)


def open_queue(settings: Settings) -> AbstractAsyncContextManager[RelaySteering]:
    from postroad.service import offline
    from postroad.service.wall_clock import WallClock

    return offline.open_queue(settings, WallClock(), open_spools)


def open_spools(settings: Settings, clock: Clock, outlet: Outlet) -> AbstractAsyncContextManager[Sequence[Spool]]:
    from postroad.service.shards import open_all_shards

    return open_all_shards(settings, clock, outlet)


def salvage(settings: Settings, damaged: Path) -> Salvaged:
    from postroad.service import offline
    from postroad.service.wall_clock import WallClock

    return offline.salvage_queue(settings, WallClock(), damaged)


def ask_relay(settings: Settings) -> RelaySteering:
    from postroad.service import offline

    return offline.ask_relay(settings)


async def resolve(server: TcpAddress, name: str, seconds: float) -> tuple[str, ...]:
    from postroad.service import offline

    return await offline.resolve(server, name, seconds)


def main() -> None:
    """Run one command and exit. Called by a name of sendmail's, be that program."""
    program = program_of(sys.argv[0])
    if program or (sys.argv[1:2] == ["sendmail"] and "--help" not in sys.argv):
        sys.exit(sendmail(sys.argv[1 if program else 2 :], run, program or "sendmail"))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    from postroad.cli import main as commands
    from postroad.cli.house import House
    from postroad.service.wall_clock import WallClock

    house = House(
        clock=WallClock(), serve=serve, open_queue=open_queue, salvage=salvage, ask_relay=ask_relay, resolve=resolve
    )
    return commands.run(house, arguments)


if __name__ == "__main__":
    main()
