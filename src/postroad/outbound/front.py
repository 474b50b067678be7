"""Steering a whole relay: the queues of all workers, destinations, users, stories, configuration, processes.

Owns: ``FrontSteering``, the one face behind the control API and, where no relay runs, behind the command line; that no
change is made without a row in the audit. Does not own: the queues (fleet.py), the rows of the records (by_hand.py,
audit.py), stories (trace.py), the relay's processes and configuration, which the house answers by callables.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from postroad.access.book import UserBook
from postroad.access.user import UserRow
from postroad.core.faces import Clock, Dice, Outlet, Records, RecordsTrouble
from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId
from postroad.outbound.adopting import format_shards
from postroad.outbound.audit import Audit
from postroad.outbound.by_hand import OVERRIDES, SUSPENSIONS, ByHand, normal_name, shown_limits, shown_until
from postroad.outbound.control import checked, format_selection
from postroad.outbound.fleet import Fleet
from postroad.outbound.merge import merge_counters
from postroad.outbound.relay import (
    AuditRow,
    ConfigRow,
    Override,
    ProcessRow,
    RelayHealth,
    ReloadResult,
    Suspension,
    WorkerCounter,
)
from postroad.outbound.steering import (
    Change,
    ControlRefused,
    Counter,
    DropRow,
    Health,
    MessagePage,
    MessageRow,
    QueueStats,
)
from postroad.outbound.trace import Stories, Tracing
from postroad.outbound.users_by_hand import UsersByHand, checked_user_name, shown_user
from postroad.spool.face import Changed, Selection

FRONT = "front"
"""Where others have the number of a worker, in counters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontHouse:
    """What the steering of a whole relay is built on. One for all who steer."""

    fleet_for: Callable[[str], Fleet]
    """Give the queues of all workers, as steered by a person."""
    records: Records
    users: UserBook
    stories: Stories
    """Read stored facts: observe/stories.py."""
    clock: Clock
    dice: Dice
    outlet: Outlet
    version: str
    processes: Callable[[], tuple[ProcessRow, ...]]
    configuration: Callable[[], tuple[ConfigRow, ...]]
    reload: Callable[[str], Awaitable[ReloadResult]]
    """Read the configuration again, on behalf of a person. Raises ControlRefused with what is wrong."""
    own: Callable[[], Sequence[Counter]] = tuple
    """Give what this process has counted, and the supervisor through it."""


class FrontSteering:
    """``RelaySteering`` of one person."""

    def __init__(self, house: FrontHouse, who: str) -> None:
        self._house = house
        self._who = who
        self._fleet = house.fleet_for(who)
        self._by_hand = ByHand(house.records, house.clock, house.outlet, who)
        self._users = UsersByHand(house.users, house.clock, house.outlet, who)
        self._audit = Audit(house.records, house.clock, house.dice, house.outlet)

    # --- the queues ---

    async def list_messages(self, selection: Selection, *, after: MessageId | None, limit: int) -> MessagePage:
        return await self._fleet.list_messages(selection, after=after, limit=limit)

    async def show(self, message: MessageId) -> MessageRow:
        return await self._fleet.show(message)

    async def stats(self, limit: int) -> QueueStats:
        return await self._fleet.stats(limit)

    async def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        meant = checked(selection)
        if dry_run:
            return await self._fleet.change(change, meant, dry_run=True)
        async with self._audit.noted(self._who, change.value, format_selection(meant)) as entry:
            changed = await self._fleet.change(change, meant)
            left = f", {changed.in_flight} in flight left alone" if changed.in_flight else ""
            left += f", {format_shards(changed.unreached)} not reached" if changed.unreached else ""
            entry.result = f"{changed.recipients} recipients of {changed.messages} messages{left}"
        return changed

    def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        return self._fleet.watch(message, everything=everything)

    async def health(self) -> Health:
        found = await self._fleet.health()
        supervisor = next((row.pid for row in self._house.processes() if row.process == "supervisor"), found.pid)
        return msgspec.structs.replace(found, version=self._house.version, pid=supervisor)

    async def own_counters(self) -> tuple[Counter, ...]:
        return merge_counters([await self._fleet.own_counters(), self._house.own()])

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        return await self._fleet.drops(message)

    # --- stories ---

    def trace(self, wanted: str, *, follow: bool = False, limit: int = 100) -> AsyncGenerator[AnyFact, None]:
        return Tracing(self._fleet, self._house.stories, self._house.clock).trace(wanted, follow=follow, limit=limit)

    # --- destinations ---

    async def suspend(self, destination: str, *, until: float | None, why: str = "") -> Suspension:
        name = normal_name(destination)
        async with self._audit.noted(self._who, "suspend", name) as entry:
            row = await self._by_hand.suspend(name, until, why)
            entry.result = shown_until(row.until)
        return row

    async def resume(self, destination: str) -> bool:
        return await self._end(SUSPENSIONS, "resume", destination)

    async def suspensions(self) -> tuple[Suspension, ...]:
        return await self._by_hand.suspensions()

    async def override(
        self,
        destination: str,
        *,
        connections: int | None,
        messages_per_connection: int | None,
        rate: str | None,
        until: float | None,
        why: str = "",
    ) -> Override:
        asked = Override(
            destination=normal_name(destination),
            connections=connections,
            messages_per_connection=messages_per_connection,
            rate=rate,
            since=0.0,
            until=until,
            who="",
            why=why,
        )
        async with self._audit.noted(self._who, "override", asked.destination) as entry:
            row = await self._by_hand.override(asked)
            entry.result = f"{shown_limits(row)} {shown_until(row.until)}"
        return row

    async def restore(self, destination: str) -> bool:
        return await self._end(OVERRIDES, "restore", destination)

    async def overrides(self) -> tuple[Override, ...]:
        return await self._by_hand.overrides()

    async def _end(self, table: str, verb: str, destination: str) -> bool:
        name = normal_name(destination)
        async with self._audit.noted(self._who, verb, name) as entry:
            was_there = await self._by_hand.end(table, verb, name)
            entry.result = "done" if was_there else "there was none of that name"
        return was_there

    # --- users ---

    async def add_user(
        self, name: str, credential: str, *, scopes: tuple[str, ...] = (), send_as: tuple[str, ...] = ()
    ) -> UserRow:
        name = checked_user_name(name)
        async with self._audit.noted(self._who, "user-add", name) as entry:
            row = await self._users.add(name, credential, scopes, send_as)
            entry.result = shown_user(row)
        return row

    async def change_user(
        self,
        name: str,
        *,
        credential: str | None = None,
        scopes: tuple[str, ...] | None = None,
        send_as: tuple[str, ...] | None = None,
    ) -> UserRow:
        name = checked_user_name(name)
        async with self._audit.noted(self._who, "user-change", name) as entry:
            row = await self._users.change(name, credential, scopes, send_as)
            entry.result = f"{'' if credential is None else 'new password, '}{shown_user(row)}"
        return row

    async def remove_user(self, name: str) -> bool:
        name = checked_user_name(name)
        async with self._audit.noted(self._who, "user-remove", name) as entry:
            was_there = await self._users.remove(name)
            entry.result = "done" if was_there else "there was none of that name"
        return was_there

    async def users(self, *, after: str, limit: int) -> tuple[tuple[UserRow, ...], str]:
        return await self._users.page(after, limit)

    # --- the relay ---

    async def audit(self, *, after: str, limit: int) -> tuple[tuple[AuditRow, ...], str]:
        try:
            return await self._audit.page(after, limit)
        except RecordsTrouble as error:
            raise ControlRefused(f"The records cannot be read now: {error}. Try again.") from error

    async def counters(self) -> tuple[WorkerCounter, ...]:
        own = (WorkerCounter(worker=FRONT, counter=counter) for counter in self._house.own())
        return (*await self._fleet.worker_counters(), *own)

    async def relay_health(self) -> RelayHealth:
        healths, missing = await self._fleet.healths()
        processes = self._house.processes()
        troubles = [f"{self._fleet.named(name)}: {one.trouble}" for name, one in healths.items() if one.trouble]
        troubles += [
            f"{self._fleet.named(name)} takes no mail."
            for name, one in healths.items()
            if not one.accepting and not one.trouble
        ]
        troubles += missing
        troubles += [f"{row.process} {row.slot} is not ready." for row in processes if not row.is_ready]
        now = self._house.clock.now()
        started = [row.started_at for row in processes if row.process == "supervisor"]
        started = started or [one.started_at for one in healths.values()]
        return RelayHealth(
            version=self._house.version,
            at=now,
            started_at=min(started, default=now),
            is_well=not troubles,
            troubles=tuple(troubles),
            listeners=tuple(dict.fromkeys(name for one in healths.values() for name in one.listeners)),
            processes=processes,
            messages=sum(one.messages for one in healths.values()),
            recipients=sum(one.recipients for one in healths.values()),
            workers_answering=len(healths),
        )

    async def configuration(self) -> tuple[ConfigRow, ...]:
        return self._house.configuration()

    async def reload(self) -> ReloadResult:
        async with self._audit.noted(self._who, "reload", "configuration") as entry:
            result = await self._house.reload(self._who)
            entry.result = f"changed: {', '.join(result.changed) or 'nothing'}"
            if result.needs_restart:
                entry.result += f"; needs a restart: {', '.join(result.needs_restart)}"
        return result
