"""What outbound needs of the rest, in one value that the house fills.

Owns: the names of those things, so that a test or a simulation can put others in their place. Does not own: any
of them; whoever made one closes it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Protocol

import msgspec

from postroad.core.faces import Clock, Dice, Disk, Limits, Outlet, Resolver, Threads
from postroad.outbound.hops import DestinationLimits, Target, TlsPolicy
from postroad.policy.schedule import Schedule
from postroad.spool.face import Spool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroad.net.stream import Stream
    from postroad.outbound.destination import Destination


class Connect(Protocol):
    """Opens a stream to the first address that answers (RFC 8305), or to a Unix socket."""

    async def __call__(
        self, addresses: Sequence[str], port: int, *, timeout: float, source_ip: str | None = None
    ) -> Stream: ...


ConnectUnix = Callable[[str, float], "Coroutine[object, object, Stream]"]
"""Opens a stream to a Unix socket by its path, within so many seconds."""


class OutboundHouse(msgspec.Struct):
    """The rest of the relay, as outbound sees it."""

    spool: Spool
    clock: Clock
    dice: Dice
    outlet: Outlet
    resolver: Resolver
    limits: Limits
    disk: Disk
    threads: Threads
    hostname: str
    retry: Schedule
    connect: Connect
    connect_unix: ConnectUnix
    tls_context: Callable[[TlsPolicy], ssl.SSLContext]
    limits_for: Callable[[Target, str], DestinationLimits]
    """What [[destination]] says of a target and a recipient domain."""
    domain_rule: Callable[[str], str]
    """Names the [[destination]] that singles out a domain, e.g. ``@2``; empty for nearly all."""
    time: Callable[[], float]
    """The event loop's clock, for durations."""
    make_lane: Callable[[Destination], Coroutine[object, object, None]] = None  # type: ignore[assignment]
    """Set by the house once there are lanes."""
    report_due: Callable[[], None] = lambda: None
    """Called when a report has become due."""
