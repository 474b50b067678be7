"""Unix sockets of the simulated machine: what somebody who died had said, and who hears it."""

from __future__ import annotations

import asyncio

from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim.kernel import START, Kernel, Process
from postroad.testing.sim.local import LocalSockets
from postroad.testing.sim.network import Network, Weather


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def data_received(self, data: bytes) -> None:
        self.heard.append(data.decode())

    def connection_lost(self, error: Exception | None) -> None:
        self.heard.append("the end")


def heard(seed: int, *, hears_last_words: bool) -> list[str]:
    """What a client hears that goes on speaking to one who says a last word and dies."""
    kernel = Kernel()
    network = Network(kernel, SeededDice(seed), Weather(latency=0.5, pieces=0.0, last_words=1.0))
    sockets, client, server = LocalSockets(network), Process(kernel, "client"), Process(kernel, "server")
    bound = sockets.bind("ledger.sock")
    bound.hears_last_words = hears_last_words
    talks = Client()

    async def ask() -> None:
        near, _ = await sockets.connect(client, lambda: talks, "/ledger.sock")
        for _ in range(20):
            near.write(b"a question")
            await asyncio.sleep(0.1)

    async def answer() -> None:
        accepted, _ = await sockets.accept(server, bound)
        sockets.begin(accepted, asyncio.Protocol)
        accepted.wire.write(b"the last word")

    def die() -> None:
        server.die()
        network.process_died(server, silently=False)

    kernel.enter(client, lambda: client.loop.create_task(ask()))
    kernel.enter(server, lambda: server.loop.create_task(answer()))
    kernel.after(0.24, die)
    kernel.run(lambda: False, START + 60.0)
    return talks.heard


def test_a_last_word_is_heard_before_the_end_by_whoever_reads_it_after_a_failed_write():
    assert all(heard(seed, hears_last_words=True) == ["the last word", "the end"] for seed in range(50))
    outcomes = {tuple(heard(seed, hears_last_words=False)) for seed in range(50)}
    assert outcomes == {("the last word", "the end"), ("the end",)}
