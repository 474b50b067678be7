"""A whole relay in memory: RelaySteering over a MemorySpool, for tests of what stands in front of it.

Owns: suspensions, overrides, the audit, stored facts, counters and health of a relay that has no processes; steering
its queue is outbound/control.py, as in a worker. Does not own: how a real one does it (outbound/fleet.py, records,
observe). Passes tests/contracts/test_relay_steering.py. ``reload_answer`` and ``gauges`` are set by the test.

Facts are kept when they are emitted, at once and without end: not for a long run.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final

import msgspec

from postroad import __version__
from postroad.access.book import UserBook
from postroad.access.user import UserRow
from postroad.config.units import parse_rate
from postroad.core.address import AddressError, parse_mailbox
from postroad.core.faces import Clock
from postroad.core.facts import (
    AnyFact,
    Bounced,
    Deferred,
    Delivered,
    Dropped,
    Received,
    Refused,
    Reloaded,
    Steered,
)
from postroad.core.ids import MessageId, parse_id
from postroad.observe.outlet import Subscriber
from postroad.outbound.control import NO_DESTINATIONS, About, Control
from postroad.outbound.relay import (
    AuditRow,
    ConfigRow,
    Override,
    ProcessRow,
    RelayHealth,
    RelaySteering,
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
from postroad.outbound.users_by_hand import UsersByHand, checked_user_name
from postroad.policy.destination_name import parse_destination_name
from postroad.spool.face import Changed, Selection
from postroad.testing.memory_records import MemoryRecords
from postroad.testing.memory_spool import MemorySpool
from postroad.testing.seeded_dice import SeededDice

AUDIT_PAGE_MAX: Final = 500
PID: Final = 4242
"""Of the only process."""
_COUNTED: Final = {
    Received: "messages_received_total",
    Refused: "refusals_total",
    Delivered: "deliveries_total",
    Deferred: "deferrals_total",
    Bounced: "bounces_total",
    Dropped: "drops_total",
}
"""The names of observe/kinds.py, without labels."""


class MemoryFacts:
    """An Outlet and a FactStream: keeps every fact, and hands it on at once."""

    def __init__(self) -> None:
        self.facts: list[AnyFact] = []
        self._subscribers: list[Subscriber] = []
        self._arrived = asyncio.Event()
        self.is_followed = False
        """True once somebody has waited for more."""

    def emit(self, fact: AnyFact) -> None:
        self.facts.append(fact)
        self._arrived.set()
        for subscriber in tuple(self._subscribers):
            subscriber.take([fact])

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def flush(self) -> None:
        """Nothing waits here."""

    async def after(self, count: int) -> Sequence[AnyFact]:
        """Return the facts behind the first ``count``, when there are any."""
        self.is_followed = True
        while len(self.facts) <= count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.facts[count:]


class MemoryRelay:
    """What all who steer see of one relay. ``on_behalf_of`` gives the face for one person."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.facts = MemoryFacts()
        self.spool = MemorySpool(clock, self.facts)
        about = About(__version__, PID, clock.now(), ("127.0.0.1:2525",))
        self.control = Control(self.spool, clock, self.facts, self.facts, NO_DESTINATIONS, about)
        self.started_at = clock.now()
        self.suspended: dict[str, Suspension] = {}
        self.overridden: dict[str, Override] = {}
        self.users = UserBook(MemoryRecords(clock), clock, SeededDice(1))
        self.audit: list[AuditRow] = []
        """The oldest first."""
        self.gauges: tuple[WorkerCounter, ...] = ()
        self.config: tuple[ConfigRow, ...] = (ConfigRow(key="workers", value="1", source="default"),)
        self.reload_answer: ReloadResult | ControlRefused = ReloadResult(changed=(), needs_restart=())

    def on_behalf_of(self, who: str) -> RelaySteering:
        return MemoryPerson(self, who)

    def note(self, who: str, what: str, about: str, result: str) -> None:
        row = AuditRow(at=self.clock.now(), who=who, what=what, about=about, result=result)
        self.audit.append(row)


class MemoryPerson:
    """RelaySteering of one person, on a MemoryRelay."""

    def __init__(self, relay: MemoryRelay, who: str) -> None:
        self._relay = relay
        self._who = who
        self._queue = relay.control.on_behalf_of(who)
        self._users = UsersByHand(relay.users, relay.clock, relay.facts, who)

    # --- the queue ---

    async def list_messages(self, selection: Selection, *, after: MessageId | None, limit: int) -> MessagePage:
        return await self._queue.list_messages(selection, after=after, limit=limit)

    async def show(self, message: MessageId) -> MessageRow:
        return await self._queue.show(message)

    async def stats(self, limit: int) -> QueueStats:
        found = await self._queue.stats(limit)
        rows = tuple(
            msgspec.structs.replace(row, status="suspended") if row.domain in self._alive_suspensions() else row
            for row in found.destinations
        )
        return msgspec.structs.replace(found, destinations=rows)

    async def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        changed = await self._queue.change(change, selection, dry_run=dry_run)
        if not dry_run:
            result = f"{changed.recipients} recipients of {changed.messages} messages"
            self._relay.note(self._who, change.value, str(selection.domain or "a selection"), result)
        return changed

    def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        return self._queue.watch(message, everything=everything)

    async def health(self) -> Health:
        return await self._queue.health()

    async def own_counters(self) -> tuple[Counter, ...]:
        return await self._queue.own_counters()

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        return await self._queue.drops(message)

    # --- destinations ---

    async def suspend(self, destination: str, *, until: float | None, why: str = "") -> Suspension:
        name, now = _normal(destination), self._relay.clock.now()
        made = Suspension(destination=name, since=now, until=until, who=self._who, why=why)
        self._relay.suspended[name] = made
        self._steered("suspend", name, "until it is resumed" if until is None else f"until {until:.0f}")
        return made

    async def resume(self, destination: str) -> bool:
        name = _normal(destination)
        was = name in self._alive_suspensions()
        self._relay.suspended.pop(name, None)
        if was:
            self._steered("resume", name, "resumed")
        return was

    async def suspensions(self) -> tuple[Suspension, ...]:
        return tuple(self._alive_suspensions().values())

    def _alive_suspensions(self) -> dict[str, Suspension]:
        now = self._relay.clock.now()
        return {
            name: row for name, row in sorted(self._relay.suspended.items()) if row.until is None or row.until > now
        }

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
        name = _normal(destination)
        if rate is not None and rate != "none":
            try:
                parse_rate(rate)
            except ValueError as error:
                raise ControlRefused(str(error), 2) from error
        made = Override(
            destination=name,
            connections=connections,
            messages_per_connection=messages_per_connection,
            rate=rate,
            since=self._relay.clock.now(),
            until=until,
            who=self._who,
            why=why,
        )
        self._relay.overridden[name] = made
        self._steered("override", name, "until it is restored" if until is None else f"until {until:.0f}")
        return made

    async def restore(self, destination: str) -> bool:
        name = _normal(destination)
        was = name in self._alive_overrides()
        self._relay.overridden.pop(name, None)
        if was:
            self._steered("restore", name, "as configured")
        return was

    async def overrides(self) -> tuple[Override, ...]:
        return tuple(self._alive_overrides().values())

    def _alive_overrides(self) -> dict[str, Override]:
        now = self._relay.clock.now()
        rows = sorted(self._relay.overridden.items())
        return {name: row for name, row in rows if row.until is None or row.until > now}

    def _steered(self, verb: str, name: str, result: str) -> None:
        now = self._relay.clock.now()
        self._relay.facts.emit(Steered(at=now, who=self._who, verb=verb, recipients=0, selection=name))
        self._relay.note(self._who, verb, name, result)

    # --- users ---

    async def add_user(
        self, name: str, credential: str, *, scopes: tuple[str, ...] = (), send_as: tuple[str, ...] = ()
    ) -> UserRow:
        row = await self._users.add(checked_user_name(name), credential, scopes, send_as)
        self._relay.note(self._who, "user-add", row.name, row.scheme)
        return row

    async def change_user(self, name: str, **changes: Any) -> UserRow:
        given = (changes.get(what) for what in ("credential", "scopes", "send_as"))
        row = await self._users.change(checked_user_name(name), *given)
        self._relay.note(self._who, "user-change", row.name, row.scheme)
        return row

    async def remove_user(self, name: str) -> bool:
        name = checked_user_name(name)
        was = await self._users.remove(name)
        self._relay.note(self._who, "user-remove", name, "done" if was else "there was none of that name")
        return was

    async def users(self, *, after: str, limit: int) -> tuple[tuple[UserRow, ...], str]:
        return await self._users.page(after, limit)

    # --- seeing ---

    async def trace(self, wanted: str, *, follow: bool = False, limit: int = 100) -> AsyncGenerator[AnyFact, None]:
        facts = self._relay.facts
        seen = len(facts.facts)
        concerns = _Concerns(wanted)
        for fact in sorted(facts.facts[:seen], key=lambda fact: fact.at) if wanted else ():
            if concerns(fact):
                yield fact
        while follow:
            for fact in await facts.after(seen):
                seen += 1
                if concerns(fact):
                    yield fact

    async def audit(self, *, after: str, limit: int) -> tuple[tuple[AuditRow, ...], str]:
        rows = self._relay.audit
        end = len(rows) if not after else max(0, min(len(rows), int(after)))
        start = max(0, end - max(1, min(limit, AUDIT_PAGE_MAX)))
        return tuple(reversed(rows[start:end])), str(start) if start else ""

    async def counters(self) -> tuple[WorkerCounter, ...]:
        tally = Tally(_COUNTED[type(fact)] for fact in self._relay.facts.facts if type(fact) in _COUNTED)
        counted = [Counter(name=name, labels=(), value=float(tally[name])) for name in _COUNTED.values()]
        return (*(WorkerCounter(worker="worker-0", counter=counter) for counter in counted), *self._relay.gauges)

    async def relay_health(self) -> RelayHealth:
        totals = self._relay.spool.stats()
        started_at = self._relay.started_at
        process = ProcessRow(
            process="worker", slot=0, pid=PID, started_at=started_at, restarts=0, is_ready=totals.accepting
        )
        return RelayHealth(
            version=__version__,
            at=self._relay.clock.now(),
            started_at=started_at,
            is_well=totals.accepting,
            troubles=() if totals.accepting else (f"worker-0 takes no mail: {totals.trouble}.",),
            listeners=("127.0.0.1:2525",),
            processes=(process,),
            messages=totals.messages,
            recipients=totals.recipients,
        )

    async def configuration(self) -> tuple[ConfigRow, ...]:
        return self._relay.config

    async def reload(self) -> ReloadResult:
        answer, now = self._relay.reload_answer, self._relay.clock.now()
        if isinstance(answer, ControlRefused):
            self._relay.facts.emit(Reloaded(at=now, who=self._who, why=answer.text))
            self._relay.note(self._who, "reload", "", f"refused: {answer.text}")
            raise answer
        restart = answer.needs_restart
        self._relay.facts.emit(Reloaded(at=now, who=self._who, changed=answer.changed, needs_restart=restart))
        self._relay.note(self._who, "reload", "", f"{len(answer.changed)} changed")
        return answer


def _normal(destination: str) -> str:
    """Return the name of a destination in normal form. Raises ControlRefused."""
    try:
        return str(parse_destination_name(destination))
    except ValueError as error:
        raise ControlRefused(str(error), 2) from error


class _Concerns:
    """Whether a fact belongs to the story of a message, or of the messages that an address sent or was sent."""

    def __init__(self, wanted: str) -> None:
        self._all = not wanted
        self._messages: set[int] = set()
        self._address: tuple[str, str] | None = None
        if not wanted:
            return
        try:
            self._messages.add(parse_id(wanted))
        except ValueError:
            try:
                self._address = parse_mailbox(wanted).key
            except AddressError as error:
                raise ControlRefused(f'"{wanted}" is neither the id of a message nor an address.', 2) from error

    def __call__(self, fact: AnyFact) -> bool:
        message = getattr(fact, "message", None)
        if self._all or message in self._messages:
            return True
        if self._address is None or not any(_key(text) == self._address for text in _addresses(fact)):
            return False
        if message is not None:
            self._messages.add(message)
        return True


def _addresses(fact: AnyFact) -> list[str]:
    single = [getattr(fact, name, None) for name in ("sender", "recipient")]
    many = fact.recipients if isinstance(fact, Received) else ()
    return [text for text in (*single, *many) if isinstance(text, str)]


def _key(text: str) -> tuple[str, str] | None:
    try:
        return parse_mailbox(text).key
    except AddressError:
        return None
