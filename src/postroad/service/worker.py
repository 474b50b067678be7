"""A worker: mail in and out of one shard, in one process, on one event loop.

Owns: the order in which its parts are opened and closed, its drain, adopting shards that have no worker any more,
switching to another configuration. Does not own: what settings mean (build_inbound.py, build_outbound.py), the life of
the process (child.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from socket import socket
from typing import Final

from postroad import __version__
from postroad.access.users import Users
from postroad.config.listeners import Listener
from postroad.config.load import Loaded
from postroad.config.model import Settings
from postroad.core.facts import Trouble
from postroad.http.control_server import ControlServer
from postroad.inbound.login import Logins
from postroad.net.listen import Listening
from postroad.outbound.control import About, Control
from postroad.outbound.relay import Override, Suspension
from postroad.outbound.rules import rules_of
from postroad.service.adoptions import Adoptions
from postroad.service.build_inbound import Inbound
from postroad.service.build_outbound import Outbound, OutboundWorld
from postroad.service.child import Birth, SecretPaths
from postroad.service.connected import ledger_client
from postroad.service.leash import AnyMessage, Leash, Ready
from postroad.service.seeing import Seeing
from postroad.service.shards import Adoption, open_shard
from postroad.service.steered import SteeredDestinations
from postroad.service.system_dice import SystemDice
from postroad.spool.face import Spool
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard

RECORDS_PATIENCE: Final = 2.0
"""Seconds that a start waits to hear of suspensions: longer, and mail would wait for what is seldom there."""
REFUSING_MAX: Final = 64
"""Connections that a listener takes beyond ``[limits] connections``: each waits for the ledger's word and is told 421.
Past that they wait in the backlog, and are told nothing."""


class Worker:
    """All parts of one worker."""

    def __init__(self, birth: Birth, leash: Leash) -> None:
        self._birth = birth
        self._settings = self._with_listeners(birth.settings)
        self._time = asyncio.get_running_loop().time
        self._seeing = Seeing(self._settings, str(birth.slot))
        self._clock = self._seeing.clock
        self._outlet = self._seeing.outlet
        self._ledger = ledger_client(birth, self._seeing, birth.slot)
        self._open = AsyncExitStack()  # what is closed at the end, the last opened first
        self._open.push_async_callback(self._seeing.close)
        self._open.push_async_callback(self._ledger.close)
        self._listening: list[Listening] = []

    async def start(self) -> Ready:
        """Open everything, then take mail."""
        settings = self._settings
        self._ledger.start()
        self._spool = await self._open.enter_async_context(
            open_shard(settings, self._clock, self._outlet, self._seeing.threads, number=self._birth.slot)
        )
        self._adoptions = self._build_adoptions(self._spool)
        self._inbound = Inbound(
            settings,
            spool=self._spool,
            clock=self._clock,
            outlet=self._outlet,
            limits=self._ledger,
            time=self._time,
            slot=self._birth.slot,
            read=self._birth.secrets,
            logins=self._build_logins(),
        )
        self._outbound = self._build_outbound(self._spool)
        await self._start_steering()
        self._outbound.start()
        self._inbound.server.start()
        await self._listen()
        await self._start_control(self._spool, self._birth.sockets["steering"])
        self._adoptions.start()  # serving comes first
        self._open.push_async_callback(self._adoptions.stop)
        names = tuple(listening.name for listening in self._listening)
        return Ready(listeners=names, waiting=self._spool.stats().recipients)

    def prepare(self, loaded: Loaded, secrets: SecretPaths) -> Callable[[], None]:
        settings = self._with_listeners(self._birth.fit(loaded))
        inbound = self._inbound.prepare(settings, secrets)
        outbound = self._outbound.prepare(settings)

        def switch() -> None:
            self._settings = settings
            self._seeing.switch(settings)
            self._inbound.switch(inbound)
            self._outbound.switch(outbound)
            for listening in self._listening:
                listening.connections_max = settings.limits.connections

        return switch

    def hear(self, message: AnyMessage) -> None:
        """Nothing is said to workers alone."""

    async def drain(self, patience: float, why: str) -> None:
        """Take no more connections, and end what is under way within so many seconds."""
        await self._adoptions.stop()
        await asyncio.gather(*(listening.drain() for listening in self._listening))
        # Both at once: what still comes in meanwhile is kept for the next start, not sent on.
        await asyncio.gather(self._inbound.server.drain(patience), self._outbound.drain(patience))
        await self._spool.flush_records()

    async def close(self) -> None:
        """Close whatever is open, in order."""
        for listening in self._listening:
            await listening.close()
        await self._open.aclose()

    # --- in and out ---

    async def _listen(self) -> None:
        for index, listener in enumerate(self._settings.listener):
            listening = Listening(
                self._birth.sockets[f"listener:{index}"],
                self._inbound.serve_of(listener),
                connections_max=self._settings.limits.connections,
                surplus=REFUSING_MAX,
                outlet=self._outlet,
                clock=self._clock,
                owns_file=False,
            )
            await listening.start()
            self._listening.append(listening)

    def _build_logins(self) -> Logins:
        """Return who is asked about credentials: the built-in users."""
        dice = SystemDice()
        users = Users(self._ledger.records, self._seeing.threads, dice, self._time)
        self._ledger.on_records_changed(users.changed)
        return Logins(users, self._ledger.marks, dice)

    def _with_listeners(self, settings: Settings) -> Settings:
        """Return the settings with the listeners of the sockets that the relay started with, in their order.

        One whose address these settings do not have is as it was: the address needs a restart.
        """
        left = list(settings.listener)
        found: list[Listener] = []
        for first in self._birth.first.settings.listener:
            same = next((one for one in left if one.address == first.address), None)
            if same is not None:
                left.remove(same)
            found.append(same or first)
        return settings.model_copy(update={"listener": tuple(found)})

    def _build_outbound(self, spool: Spool) -> Outbound:
        world = OutboundWorld(
            spool=spool,
            clock=self._clock,
            dice=SystemDice(),
            outlet=self._outlet,
            limits=self._ledger,
            disk=OsDisk(),
            threads=self._seeing.threads,
            time=self._time,
        )
        outbound = Outbound(self._settings, world)
        self._open.push_async_callback(outbound.close)
        return outbound

    # --- shards without a worker ---

    def _build_adoptions(self, into: Shard) -> Adoptions:
        """Return what takes over the shards that have no worker any more."""
        return Adoptions(
            Adoption(
                number,
                into,
                settings=self._settings,
                clock=self._clock,
                outlet=self._outlet,
                threads=self._seeing.threads,
            )
            for number in self._birth.adopt
        )

    # --- steering ---

    async def _start_steering(self) -> None:
        steered = SteeredDestinations(self._ledger.records, self._steer, self._outlet, self._clock)
        self._open.push_async_callback(steered.close)
        self._ledger.on_records_changed(steered.changed)
        await steered.start(RECORDS_PATIENCE)

    def _steer(self, suspensions: list[Suspension], overrides: list[Override]) -> None:
        rules = rules_of(suspensions, overrides)
        self._outbound.steer(rules.suspensions, rules.overrides)
        for why in rules.troubles:
            self._outlet.emit(Trouble(at=self._clock.now(), what="records", why=why))

    async def _start_control(self, spool: Spool, bound: socket) -> None:
        names = tuple(listening.name for listening in self._listening)
        about = About(__version__, os.getpid(), self._clock.now(), names)
        control = Control(
            spool,
            self._clock,
            self._outlet,
            self._outlet,
            self._outbound,
            about,
            counters=self._seeing.counters.rows,
            adopting=self._adoptions,
        )
        server = ControlServer(control, self._clock, self._outlet)
        self._open.push_async_callback(server.close)
        await server.start(bound)
