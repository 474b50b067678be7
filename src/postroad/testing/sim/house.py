"""The house of the simulation: one worker of the relay, built of the real parts with other hands.

Owns: plugging simulated time, chance, names, disk, threads, network and TLS into Shard, InboundServer and Outbound, as
service/worker.py plugs in the real ones (keep in step with it). Does not own: when a worker starts and dies
(machine.py). No line of production code is changed for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from postroad.config.load import load_text
from postroad.config.model import Settings
from postroad.core.facts import AnyFact
from postroad.http.control_server import ControlServer
from postroad.inbound.house import ListenerProfile
from postroad.inbound.server import InboundServer
from postroad.ledger.client import LedgerClient
from postroad.ledger.local import LocalLimits
from postroad.ledger.server import LedgerServer
from postroad.net.stream import SocketStream
from postroad.outbound.control import About, Control
from postroad.outbound.relay import Override, Suspension
from postroad.outbound.rules import rules_of
from postroad.service.adoptions import Adoptions
from postroad.service.build_inbound import build_house, profile_of, server_limits
from postroad.service.build_outbound import Outbound, OutboundWorld
from postroad.service.shards import Adoption, Hands
from postroad.service.steered import SteeredDestinations
from postroad.service.worker import RECORDS_PATIENCE
from postroad.spool.ground import ShardSettings
from postroad.spool.owner import ShardOwned
from postroad.spool.shard import Shard
from postroad.spool.store import StoreOptions
from postroad.testing.fault_vfs import FaultVfs
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim.chaos import MIN_FREE
from postroad.testing.sim.disk import ProcessDisk
from postroad.testing.sim.kernel import START, Process
from postroad.testing.sim.resolver import SimResolver
from postroad.testing.sim.story import Plan, Terms
from postroad.testing.sim.threads import SimThreads
from postroad.testing.sim.tls import SimContext, context_of

if TYPE_CHECKING:
    from socket import socket

    from postroad.testing.sim.machine import Machine

RELAY: Final = "192.0.2.1"
TLS_PORT: Final = 465
"""Where TLS is spoken from the first octet."""
DATA: Final = "/data"
LOCAL: Final = "local.example"
VOID: Final = "void.example"
REFUSED: Final = "no.example"
LEDGER_SOCKET: Final = "ledger.sock"
EPOCH: Final = 1_767_268_800.0
"""Wall-clock time at which a world begins: 2026-01-01 12:00 UTC."""


_ROUTES: Final = {"maildir": f"maildir:{DATA}/mail/{{address}}", "discard": "discard:", "reject": "reject:No"}
"""What a route is written as. As a rule only these have one, each the first of its kind:"""
ROUTES: Final = {LOCAL: "maildir", VOID: "discard", REFUSED: "reject"}


def settings_of(plan: Plan, terms: Terms | None = None) -> Settings:
    """Return the relay's settings; ``terms``: by a reload."""
    terms = terms or plan.terms
    routes = "".join(
        f'[[route]]\nto = "{domain}"\nvia = "{_ROUTES[kind]}"\n'
        for domain, kind in {**ROUTES, **dict(terms.routes)}.items()
    )
    if plan.unwarned:
        routes += f'[[route]]\nto = "{plan.unwarned}"\nvia = "mx"\nretry = {{ warn = "never" }}\n'
    limits = f"connections = {plan.places}\n" if plan.places else ""
    limits += f"connections_per_ip = {plan.places_per_ip}\n" if plan.places_per_ip else ""
    ours = sorted({one for peer in plan.peers for one in peer.domains})
    rate = f'rate = "{plan.rate}/min"' if plan.rate else ""
    text = f"""
data_dir = "{DATA}"
[[listener]]
name = "in"
address = "{RELAY}:25"
role = "mx"
[[listener]]
name = "tls"
address = "{RELAY}:{TLS_PORT}"
role = "mx"
tls = "implicit"
[relay]
networks = ["10.0.0.0/8"]
domains = {json.dumps(ours)}
[limits]
{limits}[spool]
body_file_above = "{plan.file_above}B"
min_free = "{MIN_FREE}B"
[retry]
first = "{terms.retry_first:.0f}s"
longest = "{terms.retry_longest:.0f}s"
expire = "{terms.expire:.0f}s"
warn = "{plan.warn:.0f}s"
[[destination]]
domain = "*"
connections = {terms.connections}
messages_per_connection = {terms.messages_per_connection}
{rate}
{routes}"""
    return load_text(text).settings


def _profiles_of(settings: Settings) -> dict[int, ListenerProfile]:
    """Return the listeners by their ports."""
    plain, tls = (profile_of(listener, settings) for listener in settings.listener)
    return {25: plain, TLS_PORT: tls}


class SimClock:
    """The machine's wall clock: may be set."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self.offset = EPOCH - START

    def now(self) -> float:
        return self._time() + self.offset


class SimOutlet:
    """Facts of one process, kept by the machine."""

    def __init__(self, process: Process, emit: Callable[[AnyFact], None]) -> None:
        self._process = process
        self._emit = emit

    def emit(self, fact: AnyFact) -> None:
        if self._process.is_alive:
            self._emit(fact)


class SimOwner:
    """The right to a shard's directory: held by a living process."""

    def __init__(self, owners: dict[str, Process], directory: str, process: Process) -> None:
        holder = owners.get(directory)
        if holder is not None and holder.is_alive and holder is not process:
            raise ShardOwned(f"{directory} is held by {holder.name}")
        self._owners = owners
        self._directory = directory
        self._process = process
        owners[directory] = process

    def release(self) -> None:
        if self._owners.get(self._directory) is self._process:
            del self._owners[self._directory]


class Worker:
    """One worker, from its start to its death."""

    def __init__(self, machine: Machine, slot: int, incarnation: int) -> None:
        self.machine = machine
        self.slot = slot
        kernel = machine.kernel
        self.process = process = Process(kernel, f"worker-{slot}#{incarnation}")
        process.broke = self._broke
        process.loop.network = machine.network
        process.loop.address = RELAY
        self.disk = ProcessDisk(machine.disk, process, machine.chaos)
        self._vfs_name = f"sim-{id(machine):x}-{slot}-{incarnation}"
        self.vfs: FaultVfs | None = FaultVfs(self._vfs_name, self.disk)
        self.threads = SimThreads(process, machine.chaos)
        self.hands = Hands(
            disk=self.disk,
            owner=lambda directory: SimOwner(machine.owners, directory, process),
            store=StoreOptions(vfs=self._vfs_name, exclusive=True, checkpoint_octets=machine.plan.checkpoint),
        )
        self.dice = SeededDice(machine.plan.seed * 1_000_003 + slot * 1_009 + incarnation)
        self.outlet = SimOutlet(process, machine.learn)
        self.limits: LocalLimits | LedgerClient = LocalLimits(process.loop.time)
        if machine.has_ledger:
            process.loop.local = machine.sockets
            self.limits = LedgerClient(
                Path("/") / LEDGER_SOCKET,
                slot=slot,
                workers=machine.count,
                reader=machine.records,
                clock=machine.clock,
                outlet=self.outlet,
                time=process.loop.time,
            )
        self.adoptions = Adoptions(())
        self.shard: Shard | None = None
        self.inbound: InboundServer | None = None
        self.outbound: Outbound | None = None
        self.is_serving = False
        self.has_stopped = False
        """True once a stop in order has come to its end."""
        self.settings = machine.settings
        self.generation = machine.reloads.generation
        self._steered: SteeredDestinations | None = None
        self._control: ControlServer | None = None

    def _broke(self, why: str) -> None:
        self.machine.book.broken.append(f"{self.process.name}: {why}")
        self.machine.book.note(f"{self.process.name} broke: {why}")

    async def start(self) -> None:
        """Take the shard and serve. Raises what Shard.take raises."""
        machine, plan = self.machine, self.machine.plan
        settings, time = self.settings, self.process.loop.time
        if isinstance(self.limits, LedgerClient):
            self.limits.start()
        self.shard = await self.take(self.slot)
        self.adoptions = self._build_adoptions(self.shard)
        house = self._house = build_house(settings, self.shard, machine.clock, self.outlet, self.limits, time)
        self.inbound = InboundServer(house, server_limits(settings), tls=context_of)
        self.outbound = Outbound(
            settings,
            OutboundWorld(
                spool=self.shard,
                clock=machine.clock,
                dice=self.dice,
                outlet=self.outlet,
                limits=self.limits,
                disk=self.disk,
                threads=self.threads,
                time=time,
                tls_context=context_of,
                make_resolver=lambda _: SimResolver(machine.kernel, self.dice, plan.peers),
            ),
        )
        await self._start_steering()
        self.outbound.start()
        self.inbound.start()
        self._profiles = _profiles_of(settings)
        await self._start_control()
        if not machine.reloads.may_serve(self):
            return
        self.is_serving = True
        self.adoptions.start()

    def prepare(self, settings: Settings) -> Callable[[], None]:
        """As service/worker.py's: make all that settings mean; return what puts it in force."""
        machine, time = self.machine, self.process.loop.time
        assert self.shard is not None
        assert self.inbound is not None
        assert self.outbound is not None
        house = build_house(settings, self.shard, machine.clock, self.outlet, self.limits, time)
        inbound, outbound, prepared = self.inbound, self.outbound, self.outbound.prepare(settings)

        def switch() -> None:
            self.settings = settings
            house.session_ids = self._house.session_ids
            self._house = house
            self._profiles = _profiles_of(settings)
            inbound.switch(house, server_limits(settings), tls=context_of)
            outbound.switch(prepared)

        return switch

    async def _start_steering(self) -> None:
        if isinstance(self.limits, LedgerClient):
            steered = SteeredDestinations(self.limits.records, self._steer, self.outlet, self.machine.clock)
            self._steered = steered
            self.limits.on_records_changed(steered.changed)
            await steered.start(RECORDS_PATIENCE)

    def _steer(self, suspensions: list[Suspension], overrides: list[Override]) -> None:
        rules = rules_of(suspensions, overrides)
        assert self.outbound is not None
        assert not rules.troubles
        self.outbound.steer(rules.suspensions, rules.overrides)

    async def _start_control(self) -> None:
        """Be steered by people, where a story has any."""
        machine = self.machine
        if not machine.plan.steps:
            return
        assert self.shard is not None
        assert self.outbound is not None
        about = About("sim", self.slot, machine.clock.now(), ("in",))
        control = Control(self.shard, machine.clock, self.outlet, None, self.outbound, about, adopting=self.adoptions)
        self._control = ControlServer(control, machine.clock, self.outlet)
        self.process.loop.local = machine.sockets
        await self._control.start(cast("socket", machine.sockets.bind(f"worker-{self.slot}.sock")))

    async def take(self, number: int) -> Shard:
        """Take a shard."""
        machine, hands = self.machine, self.hands
        directory = f"{DATA}/shard-{number}"
        return await Shard.take(
            directory,
            number=number,
            clock=machine.clock,
            outlet=self.outlet,
            disk=self.disk,
            threads=self.threads,
            settings=ShardSettings(min_free=self.settings.spool.min_free, store=hands.store),
            owner=hands.owner(directory),
        )

    def _build_adoptions(self, into: Shard) -> Adoptions:
        """Return what takes over the shards that have no worker any more."""
        machine = self.machine
        return Adoptions(
            Adoption(
                number,
                into,
                settings=self.settings,
                clock=machine.clock,
                outlet=self.outlet,
                threads=self.threads,
                hands=self.hands,
            )
            for number in machine.to_adopt(self.slot)
        )

    @property
    def spare_places(self) -> int:
        """Places for clients that it keeps in hand."""
        return 0 if self.inbound is None else self.inbound._places.spare  # noqa: SLF001 - nobody else needs to know

    @property
    def holds(self) -> dict[str, int]:
        """What is taken of Limits and not given back."""
        if isinstance(self.limits, LedgerClient):
            return self.limits._held.connections  # noqa: SLF001 - nobody else needs to know
        return self.limits._connections  # noqa: SLF001

    def new_stream(self, port: int) -> SocketStream:
        """Return what talks with a client that has just connected."""
        return SocketStream(self.process.loop, partial(self._on_stream, port))

    def _on_stream(self, port: int, stream: SocketStream) -> None:
        self.process.loop.create_task(self._serve(port, stream), name="session")

    async def _serve(self, port: int, stream: SocketStream) -> None:
        assert self.inbound is not None
        try:
            await self.inbound.serve(self._profiles[port], stream)
        finally:
            stream.close()

    async def stop(self) -> None:
        """Stop in order: drain, write what is recorded, close."""
        self.is_serving = False
        await self.adoptions.stop()
        assert self.inbound is not None
        assert self.outbound is not None
        assert self.shard is not None
        patience = self.settings.process.drain
        await asyncio.gather(self.inbound.drain(patience), self.outbound.drain(patience))
        await self.shard.flush_records()
        if self._control is not None:
            await self._control.close()
        if self._steered is not None:
            await self._steered.close()
        await self.outbound.close()
        await self.shard.close()
        if isinstance(self.limits, LedgerClient):
            await self.limits.close()

    def forget(self) -> None:
        """The process is gone: let go of what it held in this one."""
        if self.vfs is not None:
            self.vfs.unregister()
            self.vfs = None


class Ledger:
    """The ledger's process."""

    def __init__(self, machine: Machine, incarnation: int) -> None:
        self.process = process = Process(machine.kernel, f"ledger#{incarnation}")
        process.broke = lambda why: machine.book.broken.append(f"{process.name}: {why}")
        process.loop.local = machine.sockets
        outlet = SimOutlet(process, machine.learn)
        self._server = LedgerServer(machine.records, clock=machine.clock, outlet=outlet, time=process.loop.time)
        self._bound = machine.sockets.bind(LEDGER_SOCKET)
        self._bound.hears_last_words = True

    async def start(self) -> None:
        await self._server.start(cast("socket", self._bound))

    @property
    def holds(self) -> dict[int, dict[str, int]]:
        """What it believes that each worker holds."""
        leases = self._server._leases  # noqa: SLF001 - nobody else needs to know
        held = {key: entry.held for key, entry in leases._keys.items()}  # noqa: SLF001
        return {slot: {key: held[key][slot] for key in sorted(keys)} for slot, keys in sorted(leases._of.items())}  # noqa: SLF001


__all__ = ["DATA", "LOCAL", "REFUSED", "RELAY", "VOID", "Ledger", "SimContext", "Worker", "settings_of"]
