"""Another configuration while mail flows: prepare changes nothing, switch takes all over, and no mail is lost."""

from __future__ import annotations

import asyncio

import pytest
from tests.units.outbound_world import Receiver, World, run, settings_of

from postroad.testing.simulated_loop import passes


def route(port: int, more: str = "") -> str:
    return f'{more}\n[[route]]\nto = "*"\nvia = "smtp://192.0.2.1:{port}"\n'


def play(work, text: str) -> None:
    receivers: dict[int, Receiver] = {}

    def make() -> World:
        receivers.update({port: Receiver() for port in (25, 1001, 1002)})
        return World(text, receivers)

    async def with_receivers(world: World) -> None:
        await work(world, receivers)

    run(make, with_receivers)


def test_what_waits_goes_by_the_new_route_and_what_is_in_hand_by_the_old() -> None:
    async def work(world: World, receivers: dict[int, Receiver]) -> None:
        receivers[1001].go.clear()
        for number in range(50):
            await world.put(f"bob{number}@a.example")
        await world.until(lambda: receivers[1001].open == 5)
        world.reload(route(1002, 'hostname = "new.example.org"'))
        await world.until(lambda: len(receivers[1002].at) == 45)
        assert receivers[1001].at == []
        assert world.spool.left == 5
        receivers[1001].go.set()
        await world.until(lambda: world.spool.left == 0)
        await passes(0.5)
        assert receivers[1001].open == 0  # nobody needs its connections any more
        assert len(receivers[1001].at) == 5
        assert set(receivers[1001].hellos) == {"old.example.org"}
        assert set(receivers[1002].hellos) == {"new.example.org"}
        both = receivers[1001].recipients + receivers[1002].recipients
        assert len(both) == len(set(both)) == 50
        assert world.spool.claimed == 0

    play(work, route(1001, 'hostname = "old.example.org"'))


def test_preparing_changes_nothing() -> None:
    async def work(world: World, receivers: dict[int, Receiver]) -> None:
        world.outbound.prepare(settings_of(route(1002)))
        await world.put("bob@a.example")
        await world.until(lambda: world.spool.left == 0)
        assert len(receivers[1001].at) == 1

    play(work, route(1001))


def test_what_was_learnt_of_a_destination_stays_where_its_key_does() -> None:
    async def work(world: World, receivers: dict[int, Receiver]) -> None:
        receivers[1001].refuses_connections = True
        for number in range(12):
            await world.put(f"bob{number}@a.example")

        def status() -> str:
            state = world.outbound.describe("a.example")
            return "" if state is None else state.status

        await world.until(lambda: status() == "down")
        tried = receivers[1001].connections
        world.reload(route(1001, '[dsn]\nfailed_bounces_to = "postmaster@example.org"'))
        await world.put("late@a.example")
        await passes(2.0)
        assert (status(), receivers[1001].connections) == ("down", tried)
        # Another route is another destination: what slept behind the dead one wakes for it.
        world.reload(route(1002))
        await world.until(lambda: len(receivers[1002].at) >= 1)
        await world.until(lambda: "late@a.example" in receivers[1002].recipients)

    play(work, route(1001))


def test_limits_and_retries_are_those_of_the_new_configuration() -> None:
    async def work(world: World, receivers: dict[int, Receiver]) -> None:
        world.reload(route(1001, '[[destination]]\nnext_hop = "192.0.2.1"\nrate = "1/s"'))
        for number in range(5):
            await world.put(f"bob{number}@a.example")
        await world.until(lambda: world.spool.left == 0)
        assert receivers[1001].at[-1] - receivers[1001].at[0] >= 4.0

    play(work, route(1001))


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_a_lookup_that_was_begun_for_the_old_plan_leads_nowhere(seconds: float) -> None:
    async def work(world: World, receivers: dict[int, Receiver]) -> None:
        world.zone.set("one.example", {"MX": ["10 mx.example."]})
        world.zone.set("mx.example", {"A": ["192.0.2.7"]})
        world.zone.delays["one.example"] = 2.0
        await world.put("bob@one.example")
        await passes(0.1)
        assert world.spool.claimed == 1
        world.reload(route(1002))
        await world.until(lambda: len(receivers[1002].at) == 1)
        await passes(seconds)
        assert (world.spool.left, receivers[25].connections) == (0, 0)

    play(work, "")


def test_the_resolver_is_another_only_where_dns_is() -> None:
    async def work(world: World, receivers: dict[int, Receiver]) -> None:
        assert world.resolvers == 1
        world.reload(route(1002))
        assert world.resolvers == 1
        world.reload(route(1002, '[dns]\ntimeout = "1s"'))
        assert world.resolvers == 2
        await passes(700.0)

    play(work, route(1001))


def test_rules_hold_on_after_a_reload_also_those_that_came_after_it_was_prepared() -> None:
    async def work(world: World, receivers: dict[int, Receiver]) -> None:
        prepared = world.outbound.prepare(settings_of(route(1002)))
        world.override("a.example", rate="1/min")
        world.suspend("b.example")
        world.outbound.switch(prepared)
        for number in range(5):
            await world.put(f"bob{number}@a.example", f"eve{number}@b.example")
        await passes(30.0)
        assert receivers[1002].recipients == ["bob0@a.example"]
        world.overrides = []
        world.suspend()
        start = asyncio.get_running_loop().time()
        assert await world.until(lambda: world.spool.left == 0) - start < 2.0

    play(work, route(1001))
