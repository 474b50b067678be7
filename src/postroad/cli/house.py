"""What the commands need of the floors above them, in one value that ``__main__`` fills, or a test.

Owns: the names of those things. Does not own: any of them. Everything heavy is behind a function, so that a command
imports only what it needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typer import Context

if TYPE_CHECKING:
    from pathlib import Path

    from postroad.config.addresses import TcpAddress
    from postroad.config.load import Loaded
    from postroad.config.model import Settings
    from postroad.core.faces import Clock
    from postroad.outbound.relay import RelaySteering
    from postroad.spool.salvage import Salvaged


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The rest of Postroad, as the command line sees it."""

    clock: Clock
    serve: Callable[[Loaded], int]
    """Run the relay until it is told to stop; return the exit status."""
    open_queue: Callable[[Settings], AbstractAsyncContextManager[RelaySteering]]
    """Steer the relay that runs, or what lies in its data_dir where none does. Raises ControlRefused."""
    salvage: Callable[[Settings, Path], Salvaged]
    """Put what can be read of a damaged database back into the queue. Raises ControlRefused."""
    ask_relay: Callable[[Settings], RelaySteering]
    """Steer through the relay that runs. Its calls raise NoRelay where none does."""
    resolve: Callable[[TcpAddress, str, float], Awaitable[tuple[str, ...]]]
    """Ask one DNS server for the addresses of a name, within so many seconds.

    Raises NameTrouble and NameNotFound.
    """


def house_of(context: Context) -> House:
    """Return the house that this run of the command line was given."""
    house = context.find_object(House)
    assert house is not None
    return house
