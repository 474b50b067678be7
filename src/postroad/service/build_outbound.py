"""From settings to outbound: the parts that move mail, tied together, steered and exchanged while they run.

Owns: the order in which its parts start and stop, what of them a new configuration replaces (``prepare`` and
``switch``), suspensions and overrides in force (``steer``) and their end. Does not own: what routes mean (routes.py),
limits of destinations (limits.py), choosing (policy/route.py), moving mail (outbound).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, Protocol

import msgspec

from postroad.config.model import Settings
from postroad.core.address import Mailbox, parse_mailbox
from postroad.core.faces import Clock, Dice, Disk, Limits, Outlet, Resolver, Threads
from postroad.core.facts import Trouble
from postroad.net.connect import connect, connect_unix
from postroad.net.name_servers import NameServers
from postroad.net.resolve import DnsResolver
from postroad.net.tls import ClientTls
from postroad.outbound.aging import Aging
from postroad.outbound.control import DestinationState
from postroad.outbound.destination import Destination
from postroad.outbound.hops import TlsPolicy
from postroad.outbound.house import Connect, ConnectUnix, OutboundHouse
from postroad.outbound.lane import Lane
from postroad.outbound.planner import Planner
from postroad.outbound.report import Reporter
from postroad.outbound.scheduler import Scheduler
from postroad.outbound.settle import Settler
from postroad.policy.schedule import Schedule
from postroad.policy.steered import OverrideRule, Steered, SuspensionRule
from postroad.service.limits import DestinationRules, schedule_of
from postroad.service.routes import build_router, hop_names, ourselves
from postroad.spool.face import Spool

LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether a suspension or override has ended."""
RESOLVER_GRACE: Final = 600.0
"""Seconds for which a resolver that a new configuration has replaced is kept for attempts that began before."""
KEY_PREFIX: Final = "to:"
"""What the keys of destinations begin with in Limits; others are of inbound."""


class ClosableResolver(Resolver, Protocol):
    """A resolver of ours."""

    async def close(self) -> None:
        """Give up what is under way."""


class OutboundWorld(msgspec.Struct, kw_only=True):
    """What outbound is built on: what no configuration changes."""

    spool: Spool
    clock: Clock
    dice: Dice
    outlet: Outlet
    limits: Limits
    disk: Disk
    threads: Threads
    time: Callable[[], float]
    """The event loop's clock, for durations."""
    connect: Connect = connect
    connect_unix: ConnectUnix = connect_unix
    tls_context: Callable[[TlsPolicy], ssl.SSLContext] = msgspec.field(default_factory=lambda: ClientTls().context)
    make_resolver: Callable[[Settings], ClosableResolver] | None = None
    """None: DNS by [dns]."""


class PreparedOutbound(msgspec.Struct, kw_only=True):
    """A plan made of settings: all that ``switch`` needs. Nothing of it is in force yet."""

    settings: Settings
    rules: DestinationRules
    house: OutboundHouse
    resolver: ClosableResolver
    planner: Planner
    settler: Settler
    schedules: list[Schedule]


class Outbound:
    """The parts that move mail out, as one. Also what steering sees of them (``control.Destinations``).

    While it runs: ``steer`` with the whole set of rules whenever the records have changed, once before ``start``;
    ``switch(prepare(settings))`` for a new configuration. At the end ``drain``, then ``close``.
    """

    def __init__(self, settings: Settings, world: OutboundWorld) -> None:
        """Raises nothing but what ``prepare`` does."""
        self._world = world
        self._steered = Steered()
        self._old_resolvers: dict[ClosableResolver, asyncio.Task[None]] = {}
        self._now: PreparedOutbound | None = None
        first = self._now = self.prepare(settings)
        self._reporter = Reporter(first.house, first.settler)
        self._aging = Aging(first.house, first.planner, first.settler, self._reporter, first.schedules)
        self._scheduler = Scheduler(first.house, first.planner, first.settler)
        self._tasks: list[asyncio.Task[None]] = []
        world.limits.on_wanted(self._on_wanted)

    # --- life ---

    def start(self) -> None:
        """Begin to move mail."""
        self._scheduler.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work) for work in (self._reporter.run(), self._aging.run(), self._end_rules())]
        for task in self._tasks:
            task.add_done_callback(self._on_ended)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """One of those that go on for ever has ended: cancelled, or by an error that nobody else would hear of."""
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._tell("outbound", error)

    def _tell(self, what: str, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._world.outlet.emit(Trouble(at=self._world.clock.now(), what=what, why=why))
        asyncio.get_running_loop().call_exception_handler({"message": f"{what} broke", "exception": error})

    async def drain(self, patience: float) -> None:
        """Let what is under way finish within ``patience`` seconds, start nothing new."""
        for task in self._tasks:
            task.cancel()
        await self._scheduler.drain(patience)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close the resolvers. Whatever still looks up a name then finds out nothing."""
        for task in self._old_resolvers.values():
            task.cancel()
        await asyncio.gather(self._plan.resolver.close(), *(old.close() for old in self._old_resolvers))

    # --- what steering sees ---

    def wake(self) -> None:
        """Look at the queue now: deliveries have become due."""
        self._scheduler.wake()

    def describe(self, domain: str) -> DestinationState | None:
        """Return what is known of the destination of a domain; None if nothing is. From memory."""
        return self._scheduler.describe(domain)

    # --- suspensions and overrides ---

    def steer(self, suspensions: Sequence[SuspensionRule], overrides: Sequence[OverrideRule]) -> None:
        """Have these rules hold and no others, at once. They end by themselves at their ``until``."""
        self._steer(Steered(suspensions, overrides).at(self._world.clock.now()))

    def _steer(self, steered: Steered) -> None:
        before, self._steered = self._steered, steered
        plan = self._plan
        plan.rules.steer(steered)
        plan.house.domain_rule = plan.rules.domain_rule
        if steered.singling != before.singling:
            # Other domains have destinations of their own: other keys, so that all that waits is planned anew.
            plan.planner = Planner(plan.house, build_router(plan.settings), ourselves(plan.settings))
            self._take_over(plan)
        self._scheduler.steer(steered)

    async def _end_rules(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now, ends_at = self._world.clock.now(), self._steered.ends_at
            if ends_at is not None and ends_at <= now:
                try:
                    self._steer(self._steered.at(now))
                except Exception as error:  # noqa: BLE001 - boundary: the rules that end next must end all the same
                    self._tell("rules", error)

    def _on_wanted(self, key: str) -> None:
        if key.startswith(KEY_PREFIX):
            self._scheduler.wanted(key[len(KEY_PREFIX) :])

    # --- another configuration ---

    def prepare(self, settings: Settings) -> PreparedOutbound:
        """Make all that a configuration means to outbound. Changes nothing; what cannot be done fails here.

        Nothing has to be undone where it is not switched to.
        """
        world = self._world
        rules = DestinationRules(settings, hop_names(settings), self._steered)
        house = OutboundHouse(
            spool=world.spool,
            clock=world.clock,
            dice=world.dice,
            outlet=world.outlet,
            resolver=(resolver := self._resolver_for(settings)),
            limits=world.limits,
            disk=world.disk,
            threads=world.threads,
            hostname=settings.hostname,
            retry=schedule_of(settings.retry),
            connect=world.connect,
            connect_unix=world.connect_unix,
            tls_context=world.tls_context,
            limits_for=rules.limits_for,
            domain_rule=rules.domain_rule,
            time=world.time,
        )
        settler = Settler(house, reports_nobody_takes(settings))
        own = [schedule_of(settings.retry.changed(route.retry)) for route in settings.route if route.retry is not None]
        prepared = PreparedOutbound(
            settings=settings,
            rules=rules,
            house=house,
            resolver=resolver,
            planner=Planner(house, build_router(settings), ourselves(settings)),
            settler=settler,
            schedules=[*rules.schedules, *own],
        )
        house.make_lane = lambda destination: self._make_lane(prepared, destination)
        return prepared

    def switch(self, prepared: PreparedOutbound) -> None:
        """Go on by what was prepared. Cannot fail.

        What waits in memory goes back to the spool and is planned anew; attempts in hand finish as they began, over
        their connections, which end then. What was learnt of a destination stays where its key stays.
        """
        old = self._plan
        prepared.rules.steer(self._steered)  # rules may have come or ended since it was prepared
        prepared.house.domain_rule = prepared.rules.domain_rule
        self._now = prepared
        self._take_over(prepared)
        self._scheduler.steer(self._steered)
        if old.resolver is not prepared.resolver:
            self._retire_resolver(old.resolver)

    def _take_over(self, plan: PreparedOutbound) -> None:
        self._reporter.switch(plan.house, plan.settler)
        self._aging.switch(plan.house, plan.planner, plan.settler, plan.schedules)
        self._scheduler.switch(plan.house, plan.planner, plan.settler)

    @property
    def _plan(self) -> PreparedOutbound:
        assert self._now is not None
        return self._now

    def _resolver_for(self, settings: Settings) -> ClosableResolver:
        if self._now is not None and self._now.settings.dns == settings.dns:
            return self._now.resolver
        world = self._world
        if world.make_resolver is not None:
            return world.make_resolver(settings)
        servers = NameServers(settings.dns.servers, time=world.time)
        return DnsResolver(servers, timeout=settings.dns.timeout, dice=world.dice, time=world.time)

    def _retire_resolver(self, resolver: ClosableResolver) -> None:
        async def close() -> None:
            await asyncio.sleep(RESOLVER_GRACE)
            await resolver.close()
            del self._old_resolvers[resolver]

        self._old_resolvers[resolver] = asyncio.get_running_loop().create_task(close())

    def _make_lane(self, plan: PreparedOutbound, destination: Destination) -> Coroutine[object, object, None]:
        return Lane(plan.house, self._scheduler, plan.settler, destination).run()


def reports_nobody_takes(settings: Settings) -> Mailbox | None:
    """Return who gets reports on messages of the null path; None: they are dropped, with a fact."""
    return parse_mailbox(settings.dsn.failed_bounces_to) if settings.dsn.failed_bounces_to else None
