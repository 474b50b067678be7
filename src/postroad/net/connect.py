"""Connects to a host by its addresses: the first that answers wins (happy eyeballs, RFC 8305).

Owns: the order of families, the delays between attempts, giving up. Does not own: which addresses there are and in
what order (policy, net/resolve.py). Ours because uvloop's create_connection has none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from postroad.net.errors import ConnectFailed, Try, why_os
from postroad.net.stream import SocketStream

ATTEMPT_DELAY: Final = 0.25
"""Seconds after which the next address is tried beside those that have not answered, RFC 8305 section 5."""


async def connect(
    addresses: Sequence[str],
    port: int,
    *,
    timeout: float,
    source_ip: str | None = None,
    attempt_delay: float = ATTEMPT_DELAY,
) -> SocketStream:
    """Return a stream to the first of ``addresses`` (IP addresses as text, best first) that answers.

    ``timeout`` (seconds) covers all of them. With ``source_ip`` only addresses of its family are tried.

    Raises:
        ConnectFailed: none answered; it tells of each address why.
    """
    order, tries = _usable(interleave(addresses), port, source_ip)
    race = _Race(order, tries, port, source_ip)
    try:
        async with asyncio.timeout(timeout):
            return await race.run(attempt_delay)
    except TimeoutError:
        raise ConnectFailed((*race.tries, *race.unanswered(f"no answer within {timeout:g} s"))) from None
    finally:
        await race.end()


async def connect_unix(path: str, timeout: float) -> SocketStream:
    """Return a stream to a Unix socket.

    Raises:
        ConnectFailed: nobody answers there within ``timeout`` seconds.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            _, stream = await loop.create_unix_connection(lambda: SocketStream(loop), path)
    except TimeoutError:
        raise ConnectFailed((Try(f"unix:{path}", 0, f"no answer within {timeout:g} s"),)) from None
    except OSError as error:
        raise ConnectFailed((Try(f"unix:{path}", 0, why_os(error)),)) from error
    return stream


def interleave(addresses: Sequence[str]) -> list[str]:
    """Return the addresses with families in turn, that of the first one first, RFC 8305 section 4."""
    first = [address for address in addresses if _is_ipv6(address) == _is_ipv6(addresses[0])]
    other = [address for address in addresses if _is_ipv6(address) != _is_ipv6(addresses[0])]
    both = min(len(first), len(other))
    pairs = [address for pair in zip(first, other, strict=False) for address in pair]
    return pairs + first[both:] + other[both:]


def _usable(order: list[str], port: int, source_ip: str | None) -> tuple[list[str], list[Try]]:
    if source_ip is None:
        return order, []
    fits = [address for address in order if _is_ipv6(address) == _is_ipv6(source_ip)]
    why = f"not reachable from source_ip {source_ip}, which is of the other family"
    return fits, [Try(address, port, why) for address in order if address not in fits]


def _is_ipv6(address: str) -> bool:
    return ":" in address


class _Race:
    """Attempts at one host. ``end`` must be called: it closes those that lost."""

    def __init__(self, order: list[str], tries: list[Try], port: int, source_ip: str | None) -> None:
        self._waiting = deque(order)
        self._running: dict[asyncio.Task[SocketStream], str] = {}
        self._port = port
        self._local = None if source_ip is None else (source_ip, 0)
        self.tries = tries

    async def run(self, attempt_delay: float) -> SocketStream:
        """Return the winner's stream. Raises ConnectFailed when there is none."""
        if len(self._waiting) == 1:
            return await self._run_alone(self._waiting[0])
        while self._waiting or self._running:
            if self._waiting:
                address = self._waiting.popleft()
                self._running[asyncio.ensure_future(self._attempt(address))] = address
            delay = attempt_delay if self._waiting else None
            done, _ = await asyncio.wait(self._running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in self._running if task in done]:  # in the order in which they began
                if (error := task.exception()) is None:
                    del self._running[task]
                    return task.result()
                self.tries.append(Try(self._running.pop(task), self._port, why_os(error)))
        raise ConnectFailed(tuple(self.tries))

    def unanswered(self, why: str) -> list[Try]:
        """Return those that were under way, or not begun."""
        return [Try(address, self._port, why) for address in (*self._running.values(), *self._waiting)]

    async def end(self) -> None:
        """Cancel and close what is still under way."""
        running = list(self._running)
        for task in running:
            task.cancel()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(outcome, SocketStream):
                outcome.abort()

    async def _run_alone(self, address: str) -> SocketStream:
        try:
            return await self._attempt(address)
        except OSError as error:
            self.tries.append(Try(address, self._port, why_os(error)))
            raise ConnectFailed(tuple(self.tries)) from error

    async def _attempt(self, address: str) -> SocketStream:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(
            lambda: SocketStream(loop), address, self._port, local_addr=self._local
        )
        return stream
