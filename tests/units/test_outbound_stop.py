"""What becomes of an attempt that is broken off since the relay stops."""

from __future__ import annotations

from tests.units.outbound_world import Receiver, World, run

from postroad.core.facts import Deferred, Delivered

TWO_HOSTS = """
[[route]]
to = "d.example"
via = ["smtp://192.0.2.1:1001", "smtp://192.0.2.1:1002"]
"""


def test_what_a_host_has_taken_is_recorded_though_the_next_one_lets_us_wait() -> None:
    first, second = Receiver(), Receiver()
    first.puts_off, second.greets_after = "carol@d.example", 200.0

    async def work(world: World) -> None:
        await world.put("bob@d.example", "carol@d.example")
        await world.until(lambda: second.connections == 1)
        await world.outbound.drain(1.0)
        assert [fact.recipient for fact in world.outlet.facts if isinstance(fact, Delivered)] == ["bob@d.example"]
        assert [fact.recipient for fact in world.outlet.facts if isinstance(fact, Deferred)] == ["carol@d.example"]
        assert world.spool.stats().recipients == 1

    run(lambda: World(TWO_HOSTS, {1001: first, 1002: second}), work)
