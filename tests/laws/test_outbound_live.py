"""Law: whatever people do while mail flows, what is claimed is recorded or given back, and sent once.

Suspensions, overrides, reloads, flushes, receivers that go and come back, in simulated time. At the end everything
is lifted: then all mail arrives, once, no claim is left, and every connection's lease is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.units.outbound_world import Receiver, World, run

from postroad.ledger.local import LocalLimits
from postroad.spool.face import Selection
from postroad.testing.simulated_loop import passes

DOMAINS = ("a.example", "b.example", "mx.example")
ZONE = {"mx.example": {"MX": ["10 host.example."]}, "host.example": {"A": ["192.0.2.7"]}}
NAMES = ("a.example", "*.example", "*", "mx:host.example", "smtp:192.0.2.1:1001", "smtp:192.0.2.1:1002@2", "b.example")
PORTS = (25, 1001, 1002)

CONFIGURATIONS = [
    '[[route]]\nto = ["a.example", "b.example"]\nvia = "smtp://192.0.2.1:1001"\n',
    '[[route]]\nto = ["a.example", "b.example"]\nvia = "smtp://192.0.2.1:1002"\n',
    """
[[route]]
to = "a.example"
via = "smtp://192.0.2.1:1001"
[[route]]
to = "b.example"
via = "mx"
[[destination]]
domain = "a.example"
connections = 1
rate = "50/s"
[[destination]]
domain = "mx.example"
connections = 2
""",
]

actions = st.one_of(
    st.tuples(st.just("put"), st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=2, unique=True)),
    st.tuples(st.just("many"), st.sampled_from(DOMAINS)),
    st.tuples(st.just("suspend"), st.lists(st.sampled_from(NAMES), max_size=2, unique=True)),
    st.tuples(st.just("suspend for a second"), st.lists(st.sampled_from(NAMES), max_size=2, unique=True)),
    st.tuples(st.just("override"), st.sampled_from(NAMES)),
    st.tuples(st.just("restore"), st.none()),
    st.tuples(st.just("reload"), st.sampled_from(CONFIGURATIONS)),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("refuse"), st.sampled_from(PORTS)),
    st.tuples(st.just("accept"), st.sampled_from(PORTS)),
    st.tuples(st.just("want"), st.sampled_from(NAMES)),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.001, 0.02, 0.3, 2.0])),
)


class Counted(LocalLimits):
    """Knows what is held, and can want it back."""

    listener: Callable[[str], None]

    def on_wanted(self, listener: Callable[[str], None]) -> None:
        self.listener = listener

    @property
    def held(self) -> int:
        return sum(self._connections.values())


async def act(world: World, limits: Counted, action: tuple[str, object], number: int) -> int:
    """Do one thing; return how many recipients were put."""
    what, about = action
    match what, about:
        case "put", list(domains):
            await world.put(*(f"u{number}@{domain}" for domain in domains))
            return len(domains)
        case "many", str(domain):
            for other in range(30):
                await world.put(f"u{number}.{other}@{domain}")
            return 30
        case "suspend", list(names):
            world.suspend(*names)
        case "suspend for a second", list(names):
            world.suspend(*names, until=1.0)
        case "override", str(name):
            world.override(name, connections=1, messages_per_connection=2, rate="20/s")
        case "restore", _:
            world.overrides = []
            world.steer()
        case "reload", str(text):
            world.reload(text)
        case "flush", _:
            await world.spool.flush(Selection(), world.clock.now())
            world.outbound.wake()
        case "refuse" | "accept", int(port):
            world.receivers[port].refuses_connections = what == "refuse"
        case "want", str(name):
            limits.listener(f"to:{name}")
        case "pass", float(seconds):
            await passes(seconds)
    return 0


@settings(max_examples=60, deadline=None)
@given(st.lists(actions, max_size=25))
def test_nothing_claimed_is_lost(todo: list[tuple[str, object]]) -> None:
    limits: list[Counted] = []

    def make() -> World:
        limits.append(Counted(asyncio.get_running_loop().time))
        receivers = {port: Receiver(0.01) for port in PORTS}
        zone = {**ZONE, "b.example": {"MX": ["10 host.example."]}}
        return World(CONFIGURATIONS[0], receivers, limits=limits[0], zone=zone)

    async def work(world: World) -> None:
        put = 0
        for number, action in enumerate(todo):
            put += await act(world, limits[0], action, number)
        for receiver in world.receivers.values():
            receiver.refuses_connections = False
        world.overrides = []
        world.suspend()
        for _ in range(20):
            await act(world, limits[0], ("flush", None), 0)
            await passes(1.0)
        assert world.spool.left == 0
        taken = [one for receiver in world.receivers.values() for one in receiver.recipients]
        assert len(taken) == len(set(taken)) == put
        await world.outbound.drain(5.0)
        assert (world.spool.claimed, limits[0].held) == (0, 0)

    run(make, work)
