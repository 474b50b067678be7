"""A scripted relay for tests of what stands in front of it: the control socket and the command line.

Owns: ``ScriptedSteering``, which answers with rows that are set by hand and remembers what it was asked; a set of rows
with everything that a row can show. Does not own: what the real one does (tests/units/test_control_steering.py).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import msgspec

from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId, format_id, parse_id
from postroad.outbound.steering import (
    Change,
    Counter,
    DestinationRow,
    DropRow,
    Health,
    MessagePage,
    MessageRow,
    NotThere,
    QueueStats,
    RecipientRow,
)
from postroad.spool.face import Changed, Selection

NOW = 1_795_403_531.0  # 2026-11-23 03:12:11 UTC
MINUTE = 60.0


class SetClock:
    """A clock that stands where it was set."""

    def __init__(self, now: float = NOW) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


def message_id(number: int) -> MessageId:
    """The ids of this world, in order: ``0ca9vy9nw0001`` and so on."""
    return MessageId(parse_id("0ca9vy9nw0000") + number)


def recipient(number: int, address: str, state: str = "due", **more: object) -> RecipientRow:
    fields = {"attempts": 0, "next_at": None, "reason": "", "host": ""} | more
    return RecipientRow(number=number, address=address, state=state, **fields)  # type: ignore[arg-type]


def message(number: int, *recipients: RecipientRow, **more: object) -> MessageRow:
    fields: dict[str, object] = {
        "received_at": NOW - 3 * MINUTE * number,
        "size": 4300 * number,
        "sender": "alice@example.org",
        "client": "192.0.2.7",
        "user": "",
        "listener": "outside",
        "envelope_id": "",
        "recipients_total": len(recipients),
    }
    return MessageRow(id=format_id(message_id(number)), recipients=recipients, **(fields | more))  # type: ignore[arg-type]


BUSY = "450 4.2.1 The mailbox is busy, try again later"
MESSAGES = (
    message(1, recipient(0, "bob@example.net", next_at=NOW)),
    message(
        2,
        recipient(
            0, "carol@example.com", "deferred", attempts=3, next_at=NOW + 290, reason=BUSY, host="mx1.example.com"
        ),
        recipient(2, "dave@example.com", "held", attempts=1, reason=BUSY, host="mx1.example.com"),
        recipients_total=3,
        envelope_id="QQ314159",
        user="alice",
    ),
    message(
        300,
        recipient(0, '"a b"@bücher.example', "report", attempts=9, reason="550 5.1.1 No such user \x1b[31m", host=""),
        sender="<>",
        client="local",
        listener="",
    ),
)
STATS = QueueStats(
    at=NOW,
    messages=1_203,
    recipients=12_345,
    held=1,
    reports=1,
    octets=50_000_000,
    oldest_at=NOW - 54_000,
    accepting=True,
    trouble="",
    destinations=(
        DestinationRow(
            domain="example.com",
            destination="mx:mx1.example.com",
            status="down",
            due=12_000,
            held=1,
            reports=0,
            oldest_at=NOW - 54_000,
            next_at=NOW + 290,
            reason=BUSY,
        ),
        DestinationRow(
            domain="",
            destination="",
            status="",
            due=344,
            held=0,
            reports=1,
            oldest_at=None,
            next_at=None,
            reason="",
        ),
    ),
)
HEALTH = Health(
    version="0.1.0",
    pid=4242,
    started_at=NOW - 3600,
    at=NOW,
    listeners=("127.0.0.1:2525",),
    accepting=True,
    trouble="",
    messages=3,
    recipients=4,
)
COUNTERS = (
    Counter(name="messages_received_total", labels=(("listener", "outside"),), value=12.0),
    Counter(name="connections", labels=(), value=3.0, is_gauge=True),
)


class ScriptedSteering:
    """``Steering`` by script: ``messages`` in pages of ``page_size``, ``changed`` for every change."""

    def __init__(self, messages: Sequence[MessageRow] = MESSAGES, *, page_size: int = 2) -> None:
        self.messages = messages
        self.page_size = page_size
        self.changed = Changed(3, 2, 0)
        self.stats_answer = STATS
        self.facts: list[AnyFact] = []
        self.dropped: tuple[DropRow, ...] = (
            DropRow(at=NOW, number=0, recipient="bob@example.net", rule="queue delete by alice", reply=BUSY),
        )
        self.asked: list[tuple[object, ...]] = []
        self.refuse: Exception | None = None

    def _note(self, *asked: object) -> None:
        self.asked.append(asked)
        if self.refuse is not None:
            raise self.refuse

    async def list_messages(self, selection: Selection, *, after: MessageId | None, limit: int) -> MessagePage:
        self._note("list", selection, after, limit)
        rows = [row for row in self.messages if after is None or row.id > format_id(after)]
        rows = [row for row in rows if not selection.ids or row.id in map(format_id, selection.ids)]
        size = min(limit, self.page_size)
        last = MessageId(parse_id(rows[size - 1].id)) if len(rows) > size else None
        return MessagePage(tuple(rows[:size]), last)

    async def show(self, message: MessageId) -> MessageRow:
        self._note("show", message)
        for row in self.messages:
            if row.id == format_id(message):
                return row
        raise NotThere(f"{format_id(message)} is not in the queue.")

    async def stats(self, limit: int) -> QueueStats:
        self._note("stats", limit)
        return msgspec.structs.replace(self.stats_answer, destinations=self.stats_answer.destinations[:limit])

    async def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        self._note(change, selection, dry_run)
        return self.changed

    async def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        self._note("everything" if everything else "watch", message)
        for fact in self.facts:
            yield fact

    async def health(self) -> Health:
        self._note("health")
        return HEALTH

    async def own_counters(self) -> tuple[Counter, ...]:
        self._note("counters")
        return COUNTERS

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        self._note("drops", message)
        return self.dropped
