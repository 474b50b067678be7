"""What inbound needs of the rest, in one value that the house fills.

Owns: the names of those things. Does not own: any of them. A reload makes a new
InboundHouse; sessions keep the one they began with.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import msgspec

from postroad.core.faces import Clock, Limits, Outlet, Rate
from postroad.core.ids import IdMaker
from postroad.inbound.content import ContentRoom
from postroad.inbound.login import Logins
from postroad.policy.relay import Role
from postroad.smtp.extensions import Offer
from postroad.spool.face import Spool


class ListenerProfile(msgspec.Struct, frozen=True):
    """What a listener's sessions have in common."""

    name: str
    role: Role
    offer: Offer
    """Extensions in clear."""
    offer_secured: Offer
    """Extensions under TLS."""
    bare_newline: Literal["refuse", "normalize"]
    tls: Literal["off", "starttls", "implicit"] = "off"


class InboundHouse(msgspec.Struct):
    """The rest of the relay, as inbound sees it."""

    spool: Spool
    clock: Clock
    outlet: Outlet
    limits: Limits
    is_trusted: Callable[[str], bool]
    """Whether a client's address is in [relay] networks; what comes over a Unix socket of ours is."""
    is_ours: Callable[[str], bool]
    """Whether a domain (A-labels in lower case, or a literal) is in [relay] domains."""
    session_ids: IdMaker
    hostname: str
    postmaster_domain: str
    """Where a bare ``<Postmaster>`` is: the first of [relay] domains; empty where there is none."""
    recipients_max: int
    hops_max: int
    body_file_above: int
    client_rate: Rate | None
    time: Callable[[], float]
    """The event loop's clock, for durations."""
    logins: Logins | None = None
    """Who is asked about credentials; None: no listener offers AUTH."""
    room: ContentRoom = msgspec.field(default_factory=ContentRoom)
    """What incoming contents hold in memory, all together."""

    @staticmethod
    def client_key(address: str) -> str:
        """Return what limits count as one client: an IPv4 address, an IPv6 /64."""
        return client_key(address)


@lru_cache(maxsize=4096)
def client_key(address: str) -> str:
    """Return the key by which limits count a client: the address, for IPv6 its /64."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
