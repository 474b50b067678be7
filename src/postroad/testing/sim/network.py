"""A network between simulated processes: transports for the product's own streams, and everything that befalls them.

Owns: latency, octets that arrive in pieces, windows and back-pressure, resets, connections that are half open after a
power cut, partitions, hosts that come and go. Does not own: what is said. The product sees asyncio transports, so
net/stream.py and net/connect.py run as they are.
"""

# ruff: noqa: SLF001 - the two ends of one wire reach into each other: they are one thing

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from postroad.core.faces import Dice
from postroad.core.units import KIB
from postroad.testing.sim.kernel import Kernel, Process

WINDOW: Final = 64 * KIB
"""Octets that arrive at once at most."""
Served = tuple[Process, Callable[[], asyncio.Protocol]]
"""Who takes a connection, and what talks there."""


class Weather(msgspec.Struct, frozen=True):
    """How a network behaves in one world."""

    latency: float = 0.02
    """Seconds one way, twice that at most."""
    pieces: float = 0.1
    """Share of deliveries that are cut at a random place."""
    resets: float = 0.0
    """Share of deliveries at which the connection is reset instead."""
    last_words: float = 0.7
    """Share of processes that die at which what they had given to the system still arrives."""


class Host:
    """One address of the world, and what listens there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_up = True
        self.accept: Callable[[int], Served | None] = lambda port: None
        self.wires: dict[int, Wire] = {}


class Network:
    """All hosts and all connections."""

    def __init__(self, kernel: Kernel, dice: Dice, weather: Weather) -> None:
        self.kernel = kernel
        self.dice = dice
        self.weather = weather
        self.hosts: dict[str, Host] = {}
        self.cut: set[tuple[str, str]] = set()
        """Pairs of addresses that do not reach each other now; both ways round."""
        self._ports = 40_000

    def host(self, address: str) -> Host:
        return self.hosts.setdefault(address, Host(address))

    def partition(self, one: str, other: str, *, heal: bool = False) -> None:
        for pair in ((one, other), (other, one)):
            (self.cut.discard if heal else self.cut.add)(pair)

    def delay(self) -> float:
        return self.weather.latency * (0.5 + self.dice.random())

    async def open(
        self, process: Process, factory: Callable[[], asyncio.Protocol], source: str, address: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect; raises OSError as the system would. A host that is down says nothing."""
        future = process.loop.create_future()
        self.kernel.after(self.delay(), self._arrive, process, future, factory, source, address, port)
        wire: Wire = await future
        assert wire.protocol is not None
        return wire, wire.protocol

    def _arrive(
        self,
        process: Process,
        future: asyncio.Future[Wire],
        factory: Callable[[], asyncio.Protocol],
        source: str,
        address: str,
        port: int,
    ) -> None:
        host = self.hosts.get(address)
        if host is None or not host.is_up or (source, address) in self.cut:
            return  # nobody answers
        self._ports += 1
        served = host.accept(port)
        if served is None or not served[0].is_alive:
            error = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            self.kernel.after(self.delay(), self._answer, process, future, error)
            return
        near, far = Wire(self, process, (source, self._ports)), Wire(self, served[0], (address, port))
        near.other, far.other = far, near
        for wire in (near, far):
            self.host(wire.name[0]).wires[wire.number] = wire
        self.kernel.enter(served[0], lambda: far.begin(served[1]()))
        self.kernel.after(self.delay(), self._answer, process, future, (near, factory))

    def _answer(self, process: Process, future: asyncio.Future[Wire], found: Any) -> None:
        if isinstance(found, OSError):
            if process.is_alive and not future.done():
                self.kernel.enter(process, future.set_exception, found)
            return
        near, factory = found
        if not process.is_alive or future.done():  # nobody waits for it any more
            near.protocol = asyncio.Protocol()
            if process.is_alive:
                near.abort()
            else:
                near.die(silently=False)
            return
        self.kernel.enter(process, lambda: near.begin(factory()))
        future.set_result(near)

    def process_died(self, process: Process, *, silently: bool) -> None:
        """Its kernel closes its connections; after a power cut (``silently``) nobody is told."""
        for host in self.hosts.values():
            for wire in [wire for wire in host.wires.values() if wire.process is process]:
                wire.die(silently=silently)


class Wire(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, process: Process, name: tuple[str, int]) -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.name = name
        self.number = network.kernel.number()
        self.protocol: asyncio.Protocol | None = None
        self.other: Wire
        self._outgoing: deque[bytes] = deque()
        self._waiting = 0
        self._high, self._low = 64 * KIB, 16 * KIB
        self._is_writer_paused = False
        self._is_reading = True
        self._eof = self._eof_told = False
        self._closing = self._is_gone = self._is_carrying = False
        self.socket: object = None
        """What a process asks who is at the other end; only of Unix sockets."""
        self.is_dead = False
        """True: its process is gone, and this end with it."""
        self.is_deaf = False
        """True: what is sent from here arrives nowhere (half open, since the other machine lost its power)."""
        self.hears_last_words = False
        """True: what a process that died had given to the system comes before its end is noticed, also by writing."""
        self.written = self.carried = 0
        """Octets given to this end, and octets that have reached the other one's process."""
        self._marks: deque[tuple[int, Callable[[], None]]] = deque()

    def begin(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        protocol.connection_made(self)
        if self._is_gone:  # it broke while its standing was still on the way
            self.network.kernel.enter(self.process, protocol.connection_lost, _reset())
        self.other._carry_soon()  # it may have spoken first

    # --- what a protocol asks of its transport ---

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": self.name, "peername": self.other.name, "socket": self.socket}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._is_gone or self._closing or self._eof or not self.process.is_alive:
            return
        self._outgoing.append(bytes(data))
        self._waiting += len(data)
        self.written += len(data)
        if self._waiting > self._high and not self._is_writer_paused:
            self._is_writer_paused = True
            assert self.protocol is not None
            self.protocol.pause_writing()
        self._carry_soon()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        self._carry_soon()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._carry_soon()

    def abort(self) -> None:
        if self._is_gone or not self.process.is_alive:
            return
        self._outgoing.clear()
        self._waiting = 0
        self._closing = True
        self.network.kernel.after(self.network.delay(), self.other.lose, _reset())
        self.process.loop.call_soon(self.lose, None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self.other._carry_soon()

    def is_reading(self) -> bool:
        return self._is_reading

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * KIB if high is None else high
        self._low = self._high // 4 if low is None else low

    # --- the wire ---

    def _carry_soon(self) -> None:
        if not self._is_carrying and not self._is_gone and not self.is_dead:
            self._is_carrying = True
            network = self.network
            network.kernel.after(network.delay(), self._carry)

    def _carry(self) -> None:
        """Have some octets arrive at the other end, then the end."""
        self._is_carrying = False
        network, other = self.network, self.other
        if self._is_gone or self.is_dead or (self.name[0], other.name[0]) in network.cut:
            if not (self._is_gone or self.is_dead):
                network.kernel.after(1.0, self._carry_soon)
            return
        if self.is_deaf:
            if self._closing and not self._outgoing:  # the system keeps what is left of it; the process is rid of it
                self.lose(None)
            return
        if other.is_dead and self.hears_last_words:
            return  # these are under way, and then the end
        if other.is_dead or other._is_gone:
            network.kernel.after(network.delay(), self.lose, _reset())
            return
        if self._outgoing and network.weather.resets and network.dice.random() < network.weather.resets:
            self.reset()
            return
        if other.protocol is None or (self._outgoing and not other._is_reading):
            return
        if self._outgoing:
            octets = self._take(WINDOW)
            if not other._closing:
                self.carried += len(octets)
                self._look_at_marks()
                network.kernel.enter(other.process, other.protocol.data_received, octets)
            self._resume_writer()
        if self._outgoing:
            self._carry_soon()
        elif self._closing or self._eof:
            self._tell_end()

    def when_carried(self, told: Callable[[], None]) -> None:
        """Call ``told`` when all that was written so far has reached the other end's process."""
        self._marks.append((self.written, told))

    def _look_at_marks(self) -> None:
        while self._marks and self._marks[0][0] <= self.carried:
            self._marks.popleft()[1]()

    def _take(self, most: int) -> bytes:
        octets = self._outgoing.popleft() if len(self._outgoing) == 1 else b"".join(self._outgoing)
        self._outgoing.clear()
        dice = self.network.dice
        if len(octets) > 1 and dice.random() < self.network.weather.pieces:
            most = min(most, 1 + int(dice.random() * (len(octets) - 1)))
        if len(octets) > most:
            self._outgoing.append(octets[most:])
            octets = octets[:most]
        self._waiting -= len(octets)
        return octets

    def _resume_writer(self) -> None:
        if self._is_writer_paused and self._waiting <= self._low:
            self._is_writer_paused = False
            assert self.protocol is not None
            self.network.kernel.enter(self.process, self.protocol.resume_writing)

    def _tell_end(self) -> None:
        other = self.other
        if not self._eof_told and not other._is_gone and not other.is_dead:
            self._eof_told = True
            assert other.protocol is not None
            self.network.kernel.enter(other.process, self._tell_eof)
        if self._closing:
            self.lose(None)

    def _tell_eof(self) -> None:
        other = self.other
        assert other.protocol is not None
        if not other.protocol.eof_received():
            other.close()

    @property
    def is_over(self) -> bool:
        return self._is_gone or self.is_dead

    @property
    def is_held(self) -> bool:
        """True if the other end's process lives and has not let go of the connection."""
        return self.other.process.is_alive and not (self.other._is_gone or self.other._closing or self.other._eof)

    def reset(self) -> None:
        """The connection breaks, and both ends hear of it."""
        self.lose(_reset())
        self.other.lose(_reset())

    def lose(self, error: Exception | None) -> None:
        if self._is_gone or self.is_dead:
            return
        self._is_gone = self._closing = True
        self._outgoing.clear()
        self._waiting = 0
        self._forget()
        if self.protocol is not None:
            self.network.kernel.enter(self.process, self.protocol.connection_lost, error)

    def die(self, *, silently: bool) -> None:
        """The process of this end is gone."""
        self.is_dead = True
        self._forget()
        self.protocol = None
        network = self.network
        if silently:
            self.other.is_deaf = True
            return
        last = b"".join(self._outgoing)  # the system still sends what it was given, if the other end reads
        self._outgoing.clear()
        network.kernel.after(
            network.delay(), self._end_of_the_dead, last if network.dice.random() < network.weather.last_words else b""
        )

    def _end_of_the_dead(self, last: bytes) -> None:
        other = self.other
        if last and not other._closing and not other.is_dead and other.protocol is not None:
            self.carried += len(last)
            self._look_at_marks()
            self.network.kernel.enter(other.process, other.protocol.data_received, last)
        other.lose(_reset())

    def wake_up(self) -> None:
        """The machine at the other end is back, and knows nothing of this connection."""
        if self.is_deaf:
            self.is_deaf = False
            self.network.kernel.after(self.network.delay() + 0.5, self.lose, _reset())

    def _forget(self) -> None:
        self.network.hosts[self.name[0]].wires.pop(self.number, None)


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
