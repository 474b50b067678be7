"""The life of the relay in one process: start, run until a signal, drain, end.

Owns: the event loop and its settings, the order in which everything is opened and closed, signals, the exit status.
Does not own: what settings mean (build_inbound.py, build_outbound.py), what a failed start says (start.py).

Stopping is a courtesy: what is killed at any moment loses nothing that was answered with 250. So a second signal ends
the process at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from contextlib import AsyncExitStack
from socket import socket
from typing import Final

import uvloop

from postroad import __version__
from postroad.config.load import Loaded
from postroad.config.model import Settings
from postroad.core.facts import Started, Stopped
from postroad.http.control_server import ControlServer
from postroad.inbound.house import ListenerProfile
from postroad.inbound.server import InboundServer
from postroad.ledger.local import LocalLimits
from postroad.net.listen import Listening, Serve
from postroad.net.local import bind_private
from postroad.net.sockets import open_listening
from postroad.observe.log import Level, LogLines
from postroad.observe.outlet import FactOutlet
from postroad.observe.writer import LogWriter
from postroad.outbound.control import About, Control
from postroad.service.build_inbound import build_house, build_tls, profile_of, server_limits
from postroad.service.build_outbound import Outbound, OutboundWorld
from postroad.service.offline import SOCKET_NAME
from postroad.service.shards import open_shard
from postroad.service.start import StartFailed, make_data_dir, starting
from postroad.service.system_dice import SystemDice
from postroad.service.threads import WorkerThreads
from postroad.service.wall_clock import WallClock
from postroad.spool.face import Spool
from postroad.spool.real_disk import OsDisk

SWITCH_INTERVAL: Final = 0.0005
"""Seconds a thread may keep the interpreter while another waits for it. The event loop waits whenever the writer of the
spool computes; with the default of 5 ms each commit could cost every session 5 ms."""
STANDARD_ERROR: Final = 2


def serve(loaded: Loaded) -> int:
    """Run the relay until SIGTERM or SIGINT. Returns the exit status."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_live(loaded.settings))
        except StartFailed as failed:
            sys.stderr.write(f"{failed}\n")
            return 1
    return 0


async def _live(settings: Settings) -> None:
    worker = Worker(settings)
    try:
        with starting(settings):
            await worker.start()
        signal_name = await _wait_for_signal()
        await worker.drain(signal_name)
    finally:
        await worker.close()


async def _wait_for_signal() -> str:
    """Return the name of the first signal that asks us to stop. The next one ends the process as if it had no say."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[str] = loop.create_future()
    wanted = (signal.SIGTERM, signal.SIGINT)

    def on_signal(number: signal.Signals) -> None:
        for one in wanted:
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)
        asked.set_result(number.name)

    for one in wanted:
        loop.add_signal_handler(one, on_signal, one)
    return await asked


class Worker:
    """All parts of one relay. ``start``, then ``drain``; ``close`` in any case, also after a failed start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._time = asyncio.get_running_loop().time
        self._clock = WallClock()
        self._dice = SystemDice()
        self._disk = OsDisk()
        self._threads = WorkerThreads()
        lines = LogLines(settings.log.format, Level[settings.log.level.upper()])
        self._outlet = FactOutlet(LogWriter(STANDARD_ERROR, lines, self._threads))
        self._limits = LocalLimits(self._time)
        self._open = AsyncExitStack()  # what is closed at the end, the last opened first
        self._open.callback(self._threads.close)
        self._open.push_async_callback(self._outlet.close)
        self._listening: list[Listening] = []

    async def start(self) -> None:
        """Open everything, then take mail. Raises what service/start.py words."""
        settings = self._settings
        make_data_dir(settings.data_dir)
        self._spool = await self._open.enter_async_context(
            open_shard(settings, self._clock, self._outlet, self._threads)
        )
        tls = build_tls(settings, self._clock, self._outlet, self._time)
        sockets = [self._open.enter_context(open_listening(listener.address)) for listener in settings.listener]
        control_socket = self._open.enter_context(bind_private(settings.data_dir / SOCKET_NAME))
        house = build_house(settings, self._spool, self._clock, self._outlet, self._limits, self._time)
        self._inbound = InboundServer(house, server_limits(settings), tls=tls)
        self._outbound = self._build_outbound(self._spool)
        self._outbound.start()
        self._inbound.start()
        await self._listen(sockets)
        await self._start_control(self._spool, control_socket)
        waiting = self._spool.stats().recipients
        names = tuple(listening.name for listening in self._listening)
        self._outlet.emit(Started(at=self._clock.now(), version=__version__, listeners=names, waiting=waiting))
        gc.collect()
        gc.freeze()  # what lives as long as the process is not looked at again by every full collection

    async def drain(self, why: str) -> None:
        """Take no more connections, and end what is under way within [process] drain."""
        patience = self._settings.process.drain
        await asyncio.gather(*(listening.drain() for listening in self._listening))
        # Both at once: what still comes in meanwhile is kept for the next start, not sent on.
        await asyncio.gather(self._inbound.drain(patience), self._outbound.drain(patience))
        await self._spool.flush_records()
        self._outlet.emit(Stopped(at=self._clock.now(), why=why))

    async def close(self) -> None:
        """Close whatever is open, in order."""
        for listening in self._listening:
            await listening.close()
        await self._open.aclose()

    async def _listen(self, sockets: list[socket]) -> None:
        for sock, listener in zip(sockets, self._settings.listener, strict=True):
            listening = Listening(
                sock,
                self._server_of(profile_of(listener, self._settings)),
                connections_max=self._settings.limits.connections,
                outlet=self._outlet,
                clock=self._clock,
            )
            await listening.start()
            self._listening.append(listening)

    def _server_of(self, profile: ListenerProfile) -> Serve:
        return lambda stream: self._inbound.serve(profile, stream)

    def _build_outbound(self, spool: Spool) -> Outbound:
        world = OutboundWorld(
            spool=spool,
            clock=self._clock,
            dice=self._dice,
            outlet=self._outlet,
            limits=self._limits,
            disk=self._disk,
            threads=self._threads,
            time=self._time,
        )
        outbound = Outbound(self._settings, world)
        self._open.push_async_callback(outbound.close)
        return outbound

    async def _start_control(self, spool: Spool, bound: socket) -> None:
        names = tuple(listening.name for listening in self._listening)
        about = About(__version__, os.getpid(), self._clock.now(), names)
        control = Control(spool, self._clock, self._outlet, self._outlet, self._outbound, about)
        server = ControlServer(control, self._clock, self._outlet)
        self._open.push_async_callback(server.close)
        self._open.callback((self._settings.data_dir / SOCKET_NAME).unlink, missing_ok=True)
        await server.start(bound)
