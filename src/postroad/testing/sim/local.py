"""Unix sockets of the simulated machine: a bound name that outlives whoever listens on it.

Owns: connecting by name, a backlog in which connections wait while nobody accepts, accepting. Does not own: what goes
over a connection (network.Wire carries it, fast and whole). The ledger's server and its clients run on it as they are.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from postroad.testing.sim.kernel import Process
from postroad.testing.sim.network import Network, Wire


class SimSocket:
    """A bound, listening socket: what the product asks of one. All duplicates are the same."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.hears_last_words = False
        """Whoever talks there reads also what is left after a write has failed (ledger/wire.py)."""
        self.backlog: deque[Wire] = deque()
        """Ends that no process has taken yet."""
        self.waiting: asyncio.Future[None] | None = None

    def dup(self) -> SimSocket:
        return self

    def setblocking(self, _: bool) -> None:
        """Nothing blocks here."""

    def listen(self, _: int) -> None:
        """It listens from the beginning: the supervisor bound it."""

    def close(self) -> None:
        """The supervisor keeps it."""


class LocalServer:
    """A server as asyncio returns one."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def close(self) -> None:
        self._task.cancel()


class Credentials:
    """A connected socket: only who is at its other end can be asked."""

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """Return ``struct ucred``: the relay's own user."""
        return struct.pack("3i", 1, os.geteuid(), 0)


class Accepted:
    """A connection that was accepted, and nothing talks there yet."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def setblocking(self, _: bool) -> None:
        """Nothing blocks here."""


class LocalSockets:
    """All Unix sockets of the machine, by the last part of their path."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._bound: dict[str, SimSocket] = {}
        self._nobody = Process(network.kernel, "backlog")

    def bind(self, name: str) -> SimSocket:
        return self._bound.setdefault(name, SimSocket(name))

    async def connect(
        self, process: Process, factory: Callable[[], asyncio.Protocol], path: str
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect; also while nobody accepts. Raises FileNotFoundError where nothing is bound."""
        bound = self._bound.get(path.rsplit("/", 1)[-1])
        if bound is None:
            raise FileNotFoundError(path)
        near = Wire(self._network, process, ("client", process.kernel.number()))
        far = Wire(self._network, self._nobody, (bound.name, 0))
        near.other, far.other = far, near
        near.hears_last_words = far.hears_last_words = bound.hears_last_words
        for wire in (near, far):
            self._network.host(wire.name[0]).wires[wire.number] = wire
        bound.backlog.append(far)
        if bound.waiting is not None and not bound.waiting.done():
            bound.waiting.set_result(None)
        protocol = factory()
        near.begin(protocol)
        return near, protocol

    def serve(self, process: Process, bound: SimSocket, factory: Callable[[], asyncio.Protocol]) -> LocalServer:
        """Accept whoever comes, until it is closed."""

        async def run() -> None:
            while True:
                accepted, _ = await self.accept(process, bound)
                accepted.wire.socket = Credentials()
                self.begin(accepted, factory)

        return LocalServer(process.loop.create_task(run(), name="accept"))

    async def accept(self, process: Process, bound: SimSocket) -> tuple[Accepted, Any]:
        while True:
            while bound.backlog:
                wire = bound.backlog.popleft()
                if wire.other.process.is_alive and not wire.is_over:
                    wire.process = process
                    return Accepted(wire), ""
            bound.waiting = process.loop.create_future()
            await bound.waiting

    def begin(self, accepted: Accepted, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        protocol = factory()
        accepted.wire.begin(protocol)
        return protocol
