"""A fleet of two queues is one queue: whatever is in them, listed, counted and changed, in whatever order and pages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from postroad.core.address import parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.ids import IdMaker, MessageId
from postroad.observe.outlet import FactOutlet
from postroad.outbound.control import NO_DESTINATIONS, About, Control
from postroad.outbound.fleet import Fleet
from postroad.outbound.steering import Change, MessageRow, QueueStats, Steering
from postroad.spool.face import NewMessage, Selection
from postroad.testing.fake_clock import NOON as NOW
from postroad.testing.fake_clock import FakeClock
from postroad.testing.memory_spool import MemorySpool

ABOUT = About("0.1.0", 4242, NOW - 3600, ())
ADDRESSES = ["b@y.example", "c@y.example", "b@sub.y.example", "d@z.example", "Postmaster@z.example"]
SENDERS = ["a@x.example", "a@sub.x.example", ""]

messages = st.lists(
    st.tuples(
        st.sampled_from([0, 1]),
        st.sampled_from(SENDERS),
        st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=4, unique=True),
    ),
    max_size=12,
)
selections = st.builds(
    lambda numbers, to, sender, domain, state: (numbers, Selection(to=to, sender=sender, domain=domain, state=state)),
    st.lists(st.integers(0, 14), max_size=4),
    st.sampled_from(["", "", "*", "y.example", "*.y.example", "b@y.example"]),
    st.sampled_from(["", "", "<>", "x.example", "a@x.example"]),
    st.sampled_from(["", "", "z.example"]),
    st.sampled_from(["", "", "due", "deferred", "held", "report"]),
)
changes = st.tuples(st.sampled_from(list(Change)), selections, st.booleans())


class Both:
    """The same messages in one spool, and shared out among two."""

    def __init__(self) -> None:
        self.outlet = FactOutlet()
        spools = [MemorySpool(FakeClock()) for _ in range(3)]
        faces = [
            Control(spool, FakeClock(), self.outlet, None, NO_DESTINATIONS, ABOUT).on_behalf_of("p") for spool in spools
        ]
        self.whole, self.one, *self.shares = faces[0], spools[0], *spools[1:]
        self.fleet = Fleet({"0": faces[1], "1": faces[2]})
        self.ids: list[MessageId] = []

    async def put(self, drawn: Sequence[tuple[int, str, list[str]]]) -> None:
        ids = IdMaker(0)
        for share, sender, to in drawn:
            recipients = tuple(Recipient(parse_mailbox(address)) for address in to)
            envelope = Envelope(parse_mailbox(sender) if sender else None, recipients)
            new = NewMessage(MessageId(ids.next_id(NOW)), envelope, b"x" * len(self.ids), NOW + len(self.ids))
            await self.one.put(new)
            await self.shares[share].put(new)
            self.ids.append(new.id)

    def meant(self, drawn: tuple[list[int], Selection]) -> Selection:
        numbers, selection = drawn
        known = [self.ids[number] if number < len(self.ids) else MessageId(number + 1) for number in numbers]
        return Selection(
            ids=tuple(known),
            to=selection.to,
            sender=selection.sender,
            domain=selection.domain,
            state=selection.state,
        )


async def listed(steering: Steering, selection: Selection, limit: int) -> list[MessageRow]:
    rows: list[MessageRow] = []
    after = None
    while True:
        page = await steering.list_messages(selection, after=after, limit=limit)
        assert len(page.messages) <= limit
        rows += page.messages
        if page.after is None:
            return rows
        after = page.after


def numbers(stats: QueueStats) -> object:
    rows = [(row.domain, row.due, row.held, row.reports, row.oldest_at, row.next_at) for row in stats.destinations]
    return (stats.messages, stats.recipients, stats.held, stats.reports, stats.octets, stats.oldest_at, sorted(rows))


@given(messages, st.lists(changes, max_size=4), selections, st.integers(1, 5))
def test_a_fleet_is_one_queue(
    drawn: list[tuple[int, str, list[str]]],
    asked: list[tuple[Change, tuple[list[int], Selection], bool]],
    looked: tuple[list[int], Selection],
    limit: int,
) -> None:
    async def law() -> None:
        both = Both()
        await both.put(drawn)
        for change, meant, dry_run in asked:
            selection = both.meant(meant)
            expected = await both.whole.change(change, selection, dry_run=dry_run)
            assert await both.fleet.change(change, selection, dry_run=dry_run) == expected
        for selection in (Selection(), both.meant(looked)):
            assert await listed(both.fleet, selection, limit) == await listed(both.whole, selection, limit + 1)
        assert numbers(await both.fleet.stats(50)) == numbers(await both.whole.stats(50))
        for message in both.ids:
            assert await both.fleet.drops(message) == await both.whole.drops(message)
        await both.outlet.close()

    asyncio.run(law())
