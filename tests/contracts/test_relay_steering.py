"""The contract of RelaySteering beyond the queue: destinations, the audit, traces, reload.

Run on the shipped fake, and on the client of the control API with the fake behind its server: what one says the other
must say too. The queue's part is tests/contracts/test_steering.py. Whoever builds another one adds a maker to MAKERS.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path

import pytest
from tests.units.relay_world import fill
from tests.units.steering_world import message_id
from tests.world.waiting import soon

from postroad.core.facts import AnyFact
from postroad.core.ids import format_id
from postroad.http.api_client import ApiSteering
from postroad.http.app import make_app
from postroad.http.serve import HttpServer
from postroad.net.local import bind_private, user_name
from postroad.outbound.relay import RelaySteering, ReloadResult
from postroad.outbound.steering import ControlRefused, NotThere
from postroad.testing.fake_clock import FakeClock
from postroad.testing.memory_relay import MemoryRelay


class Made:
    """A RelaySteering, who asks by it, and what a test may look at and set behind it."""

    def __init__(self, steering: RelaySteering, who: str, relay: MemoryRelay, clock: FakeClock) -> None:
        self.steering = steering
        self.who = who
        self.relay = relay
        self.clock = clock


@asynccontextmanager
async def in_memory(_: Path) -> AsyncIterator[Made]:
    clock = FakeClock()
    relay = MemoryRelay(clock)
    yield Made(relay.on_behalf_of("alice"), "alice", relay, clock)


@asynccontextmanager
async def over_http(path: Path) -> AsyncIterator[Made]:
    """The client and the server of the control API, with the fake behind them."""
    clock = FakeClock()
    relay = MemoryRelay(clock)
    socket = path / "control.sock"
    server = HttpServer(make_app(relay.on_behalf_of), bind_private(socket), None, outlet=relay.facts, clock=clock)
    await server.start()
    try:
        yield Made(ApiSteering(socket), user_name(os.geteuid()), relay, clock)
    finally:
        await server.close()


Maker = Callable[[Path], AbstractAsyncContextManager[Made]]
MAKERS: tuple[Maker, ...] = (in_memory, over_http)
Test = Callable[..., Coroutine[None, None, None]]


def played(test: Test) -> Callable[..., None]:
    """Run the test on each maker, on a loop of its own."""

    @pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
    def play(maker: Maker, tmp_path: Path) -> None:
        async def run() -> None:
            async with asyncio.timeout(60), maker(tmp_path) as made:
                await test(made)

        asyncio.run(run())

    play.__doc__ = test.__doc__
    return play


@played
async def test_a_suspension_ends_by_itself_or_by_hand(made: Made) -> None:
    steering, clock = made.steering, made.clock
    row = await steering.suspend("Example.ORG", until=clock.now() + 60, why="asked")
    assert (row.destination, row.who, row.why, row.since) == ("example.org", made.who, "asked", clock.now())
    assert await steering.suspensions() == (row,)
    clock.advance(60)
    assert await steering.suspensions() == ()
    assert await steering.resume("example.org") is False
    await steering.suspend("example.org", until=None)
    clock.advance(1e6)
    assert await steering.resume("EXAMPLE.org") is True
    assert await steering.suspensions() == ()


@played
async def test_the_later_suspension_of_a_name_holds(made: Made) -> None:
    steering, clock = made.steering, made.clock
    await steering.suspend("example.org", until=clock.now() + 60)
    later = await steering.suspend("example.org", until=None)
    assert await steering.suspensions() == (later,)


@played
async def test_an_override_ends_by_itself_or_by_hand(made: Made) -> None:
    steering, clock = made.steering, made.clock
    row = await steering.override("*", connections=3, messages_per_connection=None, rate="20/s", until=clock.now() + 60)
    assert (row.destination, row.connections, row.messages_per_connection, row.rate) == ("*", 3, None, "20/s")
    assert await steering.overrides() == (row,)
    clock.advance(60)
    assert await steering.overrides() == ()
    assert await steering.restore("*") is False
    await steering.override("*", connections=1, messages_per_connection=None, rate=None, until=None)
    assert await steering.restore("*") is True
    assert await steering.overrides() == ()


@played
async def test_what_names_no_destination_is_refused(made: Made) -> None:
    steering = made.steering
    for name in ("not a name", "exa mple.org", "*.*.org"):
        with pytest.raises(ControlRefused) as refused:
            await steering.suspend(name, until=None)
        assert refused.value.status == 2
    assert await steering.suspensions() == ()


@played
async def test_a_wrong_rate_is_refused(made: Made) -> None:
    steering = made.steering
    with pytest.raises(ControlRefused):
        await steering.override("*", connections=None, messages_per_connection=None, rate="fast", until=None)
    assert await steering.overrides() == ()


KEYS = (  # RFC 7677 section 3
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


@played
async def test_users_are_added_changed_and_removed(made: Made) -> None:
    steering, clock = made.steering, made.clock
    name = "j\u00fcrgen/shop@example.org?x=1#y%2f"
    row = await steering.add_user(name, KEYS, scopes=("relay", "bulk"), send_as=("Example.ORG",))
    assert (row.name, row.scheme, row.scopes, row.send_as) == (
        name,
        "SCRAM-SHA-256",
        ("relay", "bulk"),
        ("example.org",),
    )
    clock.advance(5)
    changed = await steering.change_user(name, scopes=("bulk",), send_as=())
    assert (changed.scopes, changed.send_as, changed.changed_at) == (("bulk",), (), row.created_at + 5)
    assert await steering.users(after="", limit=10) == ((changed,), "")
    assert await steering.remove_user(name) is True
    assert await steering.remove_user(name) is False
    assert await steering.users(after="", limit=10) == ((), "")
    rows, _ = await steering.audit(after="", limit=10)
    assert [(one.who, one.what, one.about) for one in rows[-3:]] == [
        (made.who, what, name) for what in ("user-remove", "user-change", "user-add")
    ]
    assert not any(secret in repr(rows) for secret in KEYS.split("$")[1:])


@played
async def test_users_come_in_pages(made: Made) -> None:
    steering = made.steering
    for name in ("c", "a", "b"):
        await steering.add_user(name, KEYS)
    first, after = await steering.users(after="", limit=2)
    rest, end = await steering.users(after=after, limit=2)
    assert ([row.name for row in (*first, *rest)], end) == (["a", "b", "c"], "")


@played
async def test_a_user_that_cannot_be_is_refused(made: Made) -> None:
    steering = made.steering
    await steering.add_user("alice", KEYS)
    with pytest.raises(ControlRefused, match="already") as refused:
        await steering.add_user("alice", KEYS)
    assert refused.value.status == 1
    with pytest.raises(NotThere, match="no user"):
        await steering.change_user("Alice", credential=KEYS)
    for name, credential in (("", KEYS), (" bob", KEYS), ("bob\n", KEYS), ("bob", "{PLAIN}password"), ("bob", "")):
        with pytest.raises(ControlRefused) as refused:
            await steering.add_user(name, credential)
        assert refused.value.status == 2
        assert "{PLAIN}password" not in refused.value.text
    with pytest.raises(ControlRefused):
        await steering.change_user("alice")
    assert [row.name for row in (await steering.users(after="", limit=9))[0]] == ["alice"]


@played
async def test_the_audit_has_the_newest_first_and_pages(made: Made) -> None:
    steering, clock = made.steering, made.clock
    for number in range(5):
        await steering.suspend(f"{number}.example", until=None)
        clock.advance(1)
    seen, after, pages = [], "", 0
    while pages == 0 or after:
        rows, after = await steering.audit(after=after, limit=2)
        assert 1 <= len(rows) <= 2
        seen += rows
        pages += 1
    assert [row.about for row in seen] == [f"{number}.example" for number in (4, 3, 2, 1, 0)]
    assert {(row.who, row.what) for row in seen} == {(made.who, "suspend")}


async def collect(steering: RelaySteering, wanted: str) -> list[AnyFact]:
    return [fact async for fact in steering.trace(wanted)]


@played
async def test_a_trace_has_the_facts_of_a_message_or_an_address_in_order(made: Made) -> None:
    steering, relay = made.steering, made.relay
    fill(relay)
    kinds = ["Received", "Attempted", "Deferred", "Delivered"]
    by_id = await collect(steering, format_id(message_id(1)))
    assert [type(fact).__name__ for fact in by_id] == kinds
    by_recipient = await collect(steering, "carol@example.com")
    assert [type(fact).__name__ for fact in by_recipient] == kinds
    by_sender = await collect(steering, "alice@example.org")
    assert sorted(fact.at for fact in by_sender) == [fact.at for fact in by_sender]
    assert len(by_sender) == 8
    assert await collect(steering, "nobody@example.com") == []


@played
async def test_what_is_followed_goes_on(made: Made) -> None:
    steering, relay = made.steering, made.relay
    fill(relay)
    story = list(relay.facts.facts)
    async with asyncio.timeout(10), aclosing(steering.trace("", follow=True)) as facts:
        first = asyncio.ensure_future(anext(facts))
        await soon(lambda: relay.facts.is_followed)
        relay.facts.emit(story[0])
        assert await first == story[0]  # nothing stored: only what happens
    async with asyncio.timeout(10), aclosing(steering.trace("carol@example.com", follow=True)) as facts:
        stored = [await anext(facts) for _ in range(4)]
        assert len({fact.message for fact in stored}) == 1  # type: ignore[union-attr]


@played
async def test_a_trace_of_nonsense_is_refused(made: Made) -> None:
    steering = made.steering
    with pytest.raises(ControlRefused) as refused:
        await collect(steering, "nonsense")
    assert refused.value.status == 2


@played
async def test_a_reload_is_done_or_refused_and_noted(made: Made) -> None:
    steering, relay = made.steering, made.relay
    assert await steering.reload() == ReloadResult(changed=(), needs_restart=())
    relay.reload_answer = ControlRefused("postroad.toml:1: wrong")
    with pytest.raises(ControlRefused):
        await steering.reload()
    rows, _ = await steering.audit(after="", limit=10)
    assert [(row.what, row.result) for row in rows] == [
        ("reload", "refused: postroad.toml:1: wrong"),
        ("reload", "0 changed"),
    ]


@played
async def test_counters_and_health_tell_of_one_relay(made: Made) -> None:
    steering, relay = made.steering, made.relay
    fill(relay)
    counted = {row.counter.name: row.counter.value for row in await steering.counters()}
    assert counted["messages_received_total"] == 2
    assert counted["deliveries_total"] == 2
    health = await steering.relay_health()
    assert health.is_well
    assert [process.process for process in health.processes] == ["worker"]
