"""A whole relay by script, for tests of the command line: the rows of steering_world, all else on a MemoryRelay.

Owns: ``ScriptedRelay``; ``fill``, a day on which something of everything happened. Does not own: what a MemoryRelay
does (testing/memory_relay.py, tests/contracts/test_relay_steering.py).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from tests.units.steering_world import NOW, ScriptedSteering, SetClock, message_id

from postroad.access.user import UserRow
from postroad.core.facts import (
    AnyFact,
    Attempted,
    Deferred,
    Delivered,
    Received,
    Said,
    Started,
    Steered,
)
from postroad.core.ids import SessionId
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.outbound.relay import (
    AuditRow,
    ConfigRow,
    Override,
    RelayHealth,
    ReloadResult,
    Suspension,
    WorkerCounter,
)
from postroad.testing.memory_relay import MemoryRelay

BUSY = Reply(450, (2, 1), "The mailbox is busy, try again later")
TAKEN = Reply(250, (0, 0), "Taken")
HOUR = 3600.0
HOST = "mx1.example.net"


class ScriptedRelay(ScriptedSteering):
    """RelaySteering: the queue by script, the rest in memory. ``refuse`` holds for both."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = MemoryRelay(SetClock())
        self.person = self.relay.on_behalf_of("alice")

    async def trace(self, wanted: str, *, follow: bool = False, limit: int = 100) -> AsyncGenerator[AnyFact, None]:
        self._note("trace", wanted, follow)
        async for fact in self.person.trace(wanted, follow=follow, limit=limit):
            yield fact

    async def suspend(self, destination: str, *, until: float | None, why: str = "") -> Suspension:
        self._note("suspend", destination)
        return await self.person.suspend(destination, until=until, why=why)

    async def resume(self, destination: str) -> bool:
        self._note("resume", destination)
        return await self.person.resume(destination)

    async def suspensions(self) -> tuple[Suspension, ...]:
        self._note("suspensions")
        return await self.person.suspensions()

    async def override(self, destination: str, **limits: object) -> Override:
        self._note("override", destination)
        return await self.person.override(destination, **limits)  # type: ignore[arg-type]

    async def restore(self, destination: str) -> bool:
        self._note("restore", destination)
        return await self.person.restore(destination)

    async def overrides(self) -> tuple[Override, ...]:
        self._note("overrides")
        return await self.person.overrides()

    async def add_user(self, name: str, credential: str, **said: Any) -> UserRow:
        self._note("add_user", name)
        return await self.person.add_user(name, credential, **said)

    async def change_user(self, name: str, **changes: Any) -> UserRow:
        self._note("change_user", name)
        return await self.person.change_user(name, **changes)

    async def remove_user(self, name: str) -> bool:
        self._note("remove_user", name)
        return await self.person.remove_user(name)

    async def users(self, *, after: str, limit: int) -> tuple[tuple[UserRow, ...], str]:
        self._note("users", after, limit)
        return await self.person.users(after=after, limit=min(limit, 2))

    async def audit(self, *, after: str, limit: int) -> tuple[tuple[AuditRow, ...], str]:
        self._note("audit", after, limit)
        return await self.person.audit(after=after, limit=min(limit, 2))

    async def counters(self) -> tuple[WorkerCounter, ...]:
        self._note("counters")
        return await self.person.counters()

    async def relay_health(self) -> RelayHealth:
        self._note("relay_health")
        return await self.person.relay_health()

    async def configuration(self) -> tuple[ConfigRow, ...]:
        self._note("configuration")
        return await self.person.configuration()

    async def reload(self) -> ReloadResult:
        self._note("reload")
        return await self.person.reload()


def fill(relay: MemoryRelay) -> None:
    """Let something of everything have happened."""
    relay.suspended["example.com"] = Suspension(
        destination="example.com", since=NOW - HOUR, until=NOW + 2 * HOUR, who="alice", why="they asked us to wait"
    )
    relay.suspended["mx:*.example.net"] = Suspension(
        destination="mx:*.example.net", since=NOW - 60, until=None, who="root"
    )
    relay.overridden["example.org"] = Override(
        destination="example.org", connections=3, rate="20/s", since=NOW - HOUR, until=None, who="alice", why="a test"
    )
    relay.overridden["*"] = Override(
        destination="*", messages_per_connection=5, rate="none", since=NOW - 60, until=NOW + 60, who="root"
    )
    relay.audit += [
        AuditRow(at=NOW - HOUR, who="alice", what="suspend", about="example.com", result="until 1795410731"),
        AuditRow(
            at=NOW - 120, who="root", what="flush", about="domain=example.org", result="3 recipients of 2 messages"
        ),
        AuditRow(at=NOW - 60, who="root", what="reload", about="", result="refused: postroad.toml:3: \x1b[31m"),
    ]
    for fact in (*story(1, "bob@example.net"), *story(2, "carol@example.com")):
        relay.facts.emit(fact)
    relay.facts.emit(Started(at=NOW, version="0.1.0", listeners=("127.0.0.1:2525",), waiting=0))


def story(number: int, recipient: str) -> list[AnyFact]:
    """A message that was deferred, flushed by a person, and delivered."""
    message, at = message_id(number), NOW - HOUR + number
    destination = f"mx:mx1.{recipient.partition('@')[2]}"
    one = {"message": message, "number": 0, "recipient": recipient, "destination": destination, "host": HOST}
    deferred = Deferred(at=at + 1, stage=Stage.RCPT, reply=BUSY, attempts=1, retry_at=at + 301, **one)  # type: ignore[arg-type]
    flushed = Steered(at=at + 60, who="alice", verb="flush", recipients=2, selection="all")
    delivered = Delivered(at=at + 61, sender="alice@example.org", reply=TAKEN, delay=61.0, **one)  # type: ignore[arg-type]
    return [received(number, recipient, at), attempted(number, recipient, at + 1), deferred, flushed, delivered]


def received(number: int, recipient: str, at: float) -> Received:
    return Received(
        at=at,
        message=message_id(number),
        session=SessionId(message_id(77)),
        listener="outside",
        client="192.0.2.7",
        hello="client.example.org",
        protocol="ESMTPS",
        tls="TLSv1.3",
        sender="alice@example.org",
        recipients=(recipient,),
        size=4300,
        seconds=0.01,
        rule="relay.networks",
    )


def attempted(number: int, recipient: str, at: float) -> Attempted:
    said = (
        Said(0.012, False, "220 mx1 ESMTP"),
        Said(0.013, True, f"MAIL FROM:<alice@example.org> | RCPT TO:<{recipient}>"),
        Said(0.021, False, "250 2.1.0 ok | 450 4.2.1 The mailbox is busy \x1b[31m"),
    )
    return Attempted(
        at=at,
        message=message_id(number),
        destination=f"mx:mx1.{recipient.partition('@')[2]}",
        host=HOST,
        address="192.0.2.25",
        tls="TLSv1.3",
        recipients=1,
        stage=Stage.RCPT,
        reply=BUSY,
        seconds=0.021,
        dialogue=said,
    )
