"""The real resolver with a DNS server of its own.

Owns: how the two are put together for tests of net/resolve.py and its contract.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from postroad.net.name_servers import NameServers
from postroad.net.resolve import DnsResolver
from postroad.testing.dns_server import DnsServer
from postroad.testing.zone import Zone


class Dice:
    def random(self) -> float:
        return random.random()

    def shuffle(self, items) -> None:
        random.shuffle(items)

    def token(self, octets: int) -> bytes:
        return os.urandom(octets)


@asynccontextmanager
async def resolving(
    zone: Zone, *, timeout: float = 0.1, time: Callable[[], float] | None = None
) -> AsyncIterator[tuple[DnsResolver, DnsServer]]:
    async with DnsServer(zone) as server:
        time = time or asyncio.get_running_loop().time
        resolver = DnsResolver(NameServers([server.address], time=time), timeout=timeout, dice=Dice(), time=time)
        try:
            yield resolver, server
        finally:
            await resolver.close()
