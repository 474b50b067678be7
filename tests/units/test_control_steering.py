"""What steering does to the queue, refuses, tells as a fact, and shows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec import structs
from tests.units.spool_world import BUSY, ListSpool, queued
from tests.units.steering_world import NOW, SetClock, message_id

from postroad.core import reply
from postroad.core.facts import Bounced, Held, Released, Steered
from postroad.core.facts import Dropped as FactDropped
from postroad.core.outcome import DeliveryState, Dropped, Failed
from postroad.outbound import control as control_module
from postroad.outbound.adopting import NO_ADOPTIONS, PATIENCE, Adopting
from postroad.outbound.control import About, Control, DestinationState, format_selection
from postroad.outbound.steering import PAGE_MAX, Change, ControlRefused
from postroad.spool.face import Changed, DomainStats, Selection
from postroad.testing.fake_outlet import FakeOutlet

ABOUT = About("0.1.0", 4242, NOW - 3600, ("127.0.0.1:2525",))


class Known:
    """A scheduler that knows one destination, and counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def describe(self, domain: str) -> DestinationState | None:
        return DestinationState("mx:mx1.example.com", "down", "connection refused") if domain == "example.com" else None


class Moved:
    """Shards on their way: what is left of them changes while somebody waits."""

    def __init__(self, *missing: int) -> None:
        self.left = missing
        self.waited: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def missing(self) -> tuple[int, ...]:
        return self.left

    async def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.meanwhile()


class World:
    """A control on a spool of a few messages."""

    def __init__(self, adopting: Adopting = NO_ADOPTIONS) -> None:
        self.spool = ListSpool()
        self.outlet = FakeOutlet()
        self.destinations = Known()
        self.control = Control(self.spool, SetClock(), self.outlet, None, self.destinations, ABOUT, adopting=adopting)  # type: ignore[arg-type]
        self.steering = self.control.on_behalf_of("postmaster")

    def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        return run(self.steering.change(change, selection, dry_run=dry_run))  # type: ignore[no-any-return]

    def states(self) -> dict[str, str]:
        page = run(self.steering.list_messages(Selection(), after=None, limit=100))
        return {one.address: one.state for row in page.messages for one in row.recipients}


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


# --- seeing --------------------------------------------------------------------------------------------


def test_a_row_says_what_waits_for_what_and_why() -> None:
    row = run(World().steering.show(message_id(2)))
    assert (row.id, row.sender, row.size, row.received_at) == ("0ca9vy9nw0002", "alice@example.org", 2000, NOW - 120)
    assert (row.client, row.user, row.listener, row.envelope_id) == ("192.0.2.7", "alice", "outside", "QQ314159")
    assert row.recipients_total == 2
    carol, dave = row.recipients
    assert (carol.address, carol.state, carol.attempts, carol.next_at) == ("carol@example.com", "deferred", 3, NOW + 10)
    assert (carol.reason, carol.host) == ("450 4.2.1 Busy", "mx1.example.com")
    assert (dave.number, dave.state, dave.next_at) == (1, "held", None)


def test_the_null_path_and_reports_have_their_words() -> None:
    row = run(World().steering.show(message_id(3)))
    assert row.sender == "<>"
    (eve,) = row.recipients
    assert (eve.address, eve.state, eve.next_at, eve.reason) == (
        "eve@bücher.example",
        "report",
        None,
        "550 5.1.1 No such user",
    )


def test_a_listing_goes_on_page_by_page() -> None:
    world = World()
    first = run(world.steering.list_messages(Selection(), after=None, limit=3))
    assert [row.id[-1] for row in first.messages] == ["1", "2", "3"]
    second = run(world.steering.list_messages(Selection(), after=first.after, limit=3))
    assert ([row.id[-1] for row in second.messages], second.after) == (["4"], None)


def test_a_page_has_its_bounds() -> None:
    world = World()
    asked: list[int] = []
    original = world.spool.list

    async def listed(selection: Selection, *, after: Any, limit: int) -> Any:
        asked.append(limit)
        return await original(selection, after=after, limit=limit)

    world.spool.list = listed  # type: ignore[method-assign]
    for limit in (10**9, -1):
        run(world.steering.list_messages(Selection(), after=None, limit=limit))
    assert asked == [PAGE_MAX, 1]


def test_a_message_that_is_not_there() -> None:
    with pytest.raises(ControlRefused, match="0ca9vy9nw0009 is not in the queue") as refused:
        run(World().steering.show(message_id(9)))
    assert refused.value.status == 1


def test_statistics_join_the_counts_the_oldest_and_what_the_scheduler_knows() -> None:
    found = run(World().steering.stats(10))
    assert (found.at, found.messages, found.recipients, found.held, found.reports) == (NOW, 4, 5, 1, 1)
    com, net, book = found.destinations
    assert (com.domain, com.due, com.held, com.oldest_at) == ("example.com", 2, 1, NOW - 120)
    assert (com.destination, com.status, com.reason) == ("mx:mx1.example.com", "down", "connection refused")
    assert (net.destination, net.status, net.reason, net.oldest_at) == ("", "", "", NOW - 60)
    assert (book.domain, book.reason) == ("xn--bcher-kva.example", "550 5.1.1 No such user")
    assert len(run(World().steering.stats(1)).destinations) == 1


def test_recipients_without_a_domain_are_not_taken_for_all() -> None:
    """A bare Postmaster has no domain; a selection without one means any."""
    world = World()
    world.spool.domain_stats = lambda limit: [DomainStats("", 1, 0, 0, None)]  # type: ignore[method-assign]
    (row,) = run(world.steering.stats(10)).destinations
    assert (row.domain, row.oldest_at, row.reason) == ("", None, "")


def test_statistics_do_not_wait_for_the_oldest_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "OLDEST_SECONDS", 0.01)
    world = World()

    async def slow(*_: object, **__: object) -> Any:
        await asyncio.Event().wait()

    world.spool.list = slow  # type: ignore[method-assign]
    assert [row.oldest_at for row in run(world.steering.stats(10)).destinations] == [None, None, None]


def test_health() -> None:
    health = run(World().steering.health())
    assert (health.version, health.pid, health.started_at, health.at) == ("0.1.0", 4242, NOW - 3600, NOW)
    assert (health.listeners, health.accepting, health.messages, health.recipients) == (("127.0.0.1:2525",), True, 4, 5)


# --- changing ------------------------------------------------------------------------------------------


def test_hold_and_release() -> None:
    world = World()
    assert world.change(Change.HOLD, Selection(domain="example.com", state="due")) == Changed(2, 2, 0)
    assert world.states()["carol@example.com"] == "held"
    assert world.states()["bob@example.net"] == "due"
    assert world.change(Change.RELEASE, Selection(state="held")) == Changed(3, 2, 0)
    assert "held" not in world.states().values()
    (message,) = [message for message in world.spool.messages if message.id == message_id(2)]
    assert [(one.state, one.due_at) for one in message.deliveries] == [(DeliveryState.DUE, NOW)] * 2


def test_flush_makes_due_now_and_wakes_the_scheduler() -> None:
    world = World()
    assert world.change(Change.FLUSH, Selection(ids=(message_id(1),))) == Changed(1, 1, 0)
    assert world.spool.messages[0].deliveries[0].due_at == NOW
    assert world.destinations.woken == 1


def test_delete_names_the_person_in_the_spool() -> None:
    world = World()
    assert world.change(Change.DELETE, Selection(to="*@example.com")) == Changed(3, 2, 0)
    rule = Dropped("queue delete by postmaster")
    assert world.spool.ended == [(f"{name}@example.com", rule) for name in ("carol", "dave", "frank")]


def test_bounce_fails_for_good() -> None:
    world = World()
    assert world.change(Change.BOUNCE, Selection(sender="alice@example.org", state="held")) == Changed(1, 1, 0)
    ((address, outcome),) = world.spool.ended
    assert address == "dave@example.com"
    assert isinstance(outcome, Failed)
    assert outcome.reply == reply.RETURNED_BY_HAND
    assert outcome.reply.is_permanent


@pytest.mark.parametrize("change", list(Change))
def test_every_change_is_a_fact_that_names_who_and_what(change: Change) -> None:
    world = World()
    world.change(change, Selection(domain="example.com", state="due"))
    *_, fact = world.outlet.facts
    assert fact == Steered(
        at=NOW, who="postmaster", verb=change.value, recipients=2, selection="domain=example.com state=due"
    )


def test_each_recipient_has_its_fact_with_the_person() -> None:
    world = World()
    for change, kind, text in (
        (Change.HOLD, Held, "postmaster"),
        (Change.RELEASE, Released, "postmaster"),
        (Change.BOUNCE, Bounced, "550 5.0.0 Returned to the sender by the administrator of this relay (postmaster)"),
        (Change.DELETE, FactDropped, "queue delete by postmaster"),
    ):
        world.outlet.facts.clear()
        world.change(change, Selection(ids=(message_id(2),)))
        carol, dave, steered = world.outlet.facts
        assert isinstance(steered, Steered)
        for number, fact in enumerate((carol, dave)):
            assert isinstance(fact, kind)
            assert (fact.message, fact.number, fact.at) == (message_id(2), number, NOW)
            assert fact.recipient == ("carol@example.com", "dave@example.com")[number]
            said = str(fact.reply) if isinstance(fact, Bounced) else getattr(fact, "who", None) or fact.rule  # type: ignore[union-attr]
            assert said == text
        world = World()


def test_a_bounce_that_nobody_wants_to_hear_of_is_a_drop() -> None:
    world = World()
    world.spool.messages = [queued(5, ("bob@example.net", DeliveryState.DUE, 3, BUSY), sender=None)]
    world.change(Change.BOUNCE, Selection())
    fact, _ = world.outlet.facts
    assert isinstance(fact, FactDropped)
    assert fact.rule == "queue bounce by postmaster, no report wanted"
    assert fact.reply == BUSY.reply


@pytest.mark.parametrize("change", list(Change))
def test_a_dry_run_counts_and_does_nothing(change: Change) -> None:
    world = World()
    before = list(world.spool.messages)
    assert world.change(change, Selection(domain="example.com"), dry_run=True) == Changed(3, 2, 0)
    assert (world.spool.messages, world.spool.ended, world.outlet.facts, world.destinations.woken) == (
        before,
        [],
        [],
        0,
    )


def test_what_is_being_attempted_is_left_alone_and_counted() -> None:
    world = World()
    world.spool.in_flight = {(message_id(2), 0)}
    assert world.change(Change.DELETE, Selection(domain="example.com")) == Changed(2, 2, 1)
    assert [address for address, _ in world.spool.ended] == ["dave@example.com", "frank@example.com"]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("change", list(Change))
def test_a_change_waits_for_shards_that_are_moved_here(change: Change, dry_run: bool) -> None:
    """What came while it waited is meant like all else; then nothing is missing, and nothing said of it."""
    moved = Moved(3)
    world = World(moved)
    everything, world.spool.messages = world.spool.messages, []

    def arrive() -> None:
        world.spool.messages, moved.left = everything, ()

    moved.meanwhile = arrive
    changed = world.change(change, Selection(), dry_run=dry_run)
    assert changed == World().change(change, Selection(), dry_run=dry_run)
    assert changed.recipients
    assert moved.waited == [PATIENCE]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("change", list(Change))
def test_shards_that_have_not_come_are_named(change: Change, dry_run: bool) -> None:
    moved = Moved(3, 5)
    world = World(moved)
    whole = World().change(change, Selection(), dry_run=dry_run)
    assert world.change(change, Selection(), dry_run=dry_run) == structs.replace(whole, unreached=(3, 5))
    assert moved.waited == [PATIENCE]


def test_a_shard_that_comes_in_the_middle_of_a_change_is_not_reached() -> None:
    """What arrived behind the place where the change already was has been passed over."""
    moved = Moved(3)
    world = World(moved)
    hold = world.spool.hold

    async def held(selection: Selection, **more: Any) -> Changed:
        changed = await hold(selection, **more)
        moved.left = ()
        return changed

    world.spool.hold = held  # type: ignore[method-assign]
    assert world.change(Change.HOLD, Selection()).unreached == (3,)


def test_what_is_wrong_is_refused_without_waiting() -> None:
    moved = Moved(3)
    with pytest.raises(ControlRefused):
        World(moved).change(Change.HOLD, Selection(state="late"))
    assert moved.waited == []


def test_statistics_say_what_is_not_counted() -> None:
    moved = Moved(3, 5)
    world = World(moved)
    found = run(world.steering.stats(10))
    assert found.trouble == "mail of shard-3, shard-5 is not counted, since it is not yet moved to a worker"
    assert (found.accepting, found.messages, moved.waited) == (True, 4, [])
    assert run(world.steering.health()).trouble == ""
    moved.left = ()
    assert run(world.steering.stats(10)).trouble == ""


def test_nothing_changed_is_no_fact() -> None:
    world = World()
    assert world.change(Change.HOLD, Selection(domain="example.invalid")) == Changed(0, 0, 0)
    assert world.outlet.facts == []


# --- what is meant -------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["Example.COM", "example.com.", "bücher.example", "BÜCHER.example"])
def test_a_domain_is_meant_however_it_is_written(domain: str) -> None:
    assert World().change(Change.HOLD, Selection(domain=domain)).recipients > 0


@pytest.mark.parametrize(
    ("selection", "text"),
    [
        (Selection(state="sleepy"), '"sleepy" is not a state. There are due, deferred, held, report'),
        (Selection(to="a*@example.org"), "stands for a whole local-part"),
        (Selection(sender="@"), "pattern is empty"),
        (Selection(domain="-x-"), '"-x-" is not a domain'),
        (Selection(ids=(message_id(1),) * 10_001), "too many at once"),
    ],
)
def test_what_cannot_be_understood_is_refused_before_anything_is_done(selection: Selection, text: str) -> None:
    world = World()
    with pytest.raises(ControlRefused, match=text) as refused:
        world.change(Change.DELETE, selection)
    assert refused.value.status == 2
    assert (world.spool.ended, world.outlet.facts) == ([], [])
    with pytest.raises(ControlRefused):
        run(world.steering.list_messages(selection, after=None, limit=1))


def test_a_selection_is_told_in_one_short_line() -> None:
    assert format_selection(Selection()) == "all"
    assert (
        format_selection(Selection(to="*", sender="<>", domain="d", state="due")) == "to=* from=<> domain=d state=due"
    )
    many = format_selection(Selection(ids=tuple(message_id(number) for number in range(1000))))
    assert many.startswith("0ca9vy9nw0000 0ca9vy9nw0001 ")
    assert many.endswith(" and 990 more")
    assert len(format_selection(Selection(to="x" * 400, sender="y" * 400))) == 300
