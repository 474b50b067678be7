"""Names of the simulated world: MX sets that change, lives that end, questions nobody answers.

Owns: answers made of the peers of the story. Does not own: net/resolve.py, whose packets have tests of their own; the
product meets this one by the face (core/faces.py Resolver).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from postroad.core.faces import Answer, Dice, MxHost, NameNotFound, NameTrouble
from postroad.testing.sim.kernel import START, Kernel
from postroad.testing.sim.story import Peer

NO_SUCH_DOMAIN: Final = "nx.example"
NULL_MX: Final = "nullmx.example"
CHANGE_EVERY: Final = 240.0
"""Seconds after which the order of a domain's MX hosts changes."""


class SimResolver:
    """Implements faces.Resolver."""

    def __init__(self, kernel: Kernel, dice: Dice, peers: Sequence[Peer]) -> None:
        self._kernel = kernel
        self._dice = dice
        self._by_domain: dict[str, list[Peer]] = {}
        for peer in peers:
            for domain in peer.domains:
                self._by_domain.setdefault(domain, []).append(peer)
        self._by_name = {peer.name: peer for peer in peers}

    async def mx(self, domain: str) -> tuple[Sequence[MxHost], Answer]:
        peers = self._by_domain.get(domain, [])
        await self._ask(domain, peers)
        if slow := max((peer.names_slow for peer in peers), default=0.0):
            await asyncio.sleep(slow * self._dice.random())
        if domain == NULL_MX:
            return (MxHost(0, ""),), self._answer()
        if not peers:
            raise NameNotFound(f"{domain} does not exist")
        turn = int((self._kernel.now - START) / CHANGE_EVERY) % len(peers)
        ordered = [*peers[turn:], *peers[:turn]]
        return tuple(MxHost(10 * place, peer.name) for place, peer in enumerate(ordered)), self._answer()

    async def addresses(self, host: str) -> tuple[Sequence[str], Answer]:
        peer = self._by_name.get(host)
        await self._ask(host, [] if peer is None else [peer])
        if peer is None:
            raise NameNotFound(f"{host} does not exist")
        return (peer.address,), self._answer()

    async def names(self, address: str) -> tuple[Sequence[str], Answer]:
        raise NameNotFound(address)

    async def texts(self, name: str) -> tuple[Sequence[bytes], Answer]:
        raise NameNotFound(name)

    async def close(self) -> None:
        """There is nothing to give up."""

    def _answer(self) -> Answer:
        return Answer(5.0 + 120.0 * self._dice.random())

    async def _ask(self, name: str, peers: list[Peer]) -> None:
        await asyncio.sleep(0.001 + 0.05 * self._dice.random())
        for peer in peers:
            if self._kernel.now - START < peer.well_after and self._dice.random() < peer.names_fail:
                if self._dice.random() < 0.5:
                    await asyncio.sleep(5.0)
                    raise NameTrouble(f"{name}: no answer")
                raise NameTrouble(f"{name}: SERVFAIL")
