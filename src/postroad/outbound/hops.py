"""Where a message goes next, as values: hops, and the ways that end here.

Owns: Hop, Target and its keys. Does not own: how a route is chosen (policy/route.py), how
hosts of a domain are found (policy/hosts.py), what a user types (config/via.py).

A *destination* is what limits, windows and kept connections are counted by: a target's key.
Two domains with the same MX set have the same key.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from postroad.core.faces import Rate
from postroad.policy.schedule import Schedule

TlsPolicy = Literal["off", "opportunistic", "required", "verified"]


class Hop(msgspec.Struct, frozen=True):
    """One host to hand messages to, with what is set for it."""

    protocol: Literal["smtp", "lmtp"]
    host: str
    """Name (A-labels), IP address without brackets, or the path of a Unix socket."""
    port: int
    """0 for a Unix socket."""
    tls: TlsPolicy = "opportunistic"
    hello_name: str = ""
    """What to call ourselves; empty: our hostname."""
    source_ip: str = ""
    addresses: tuple[str, ...] = ()
    """IP addresses where they are known already (MX hosts looked up by the plan)."""
    preference: int = 0
    """Lower is tried first; equal ones in a random order, anew for each attempt (RFC 5321 section 5.1)."""

    @property
    def is_unix(self) -> bool:
        return self.host.startswith("/")

    def __str__(self) -> str:
        return self.host if self.is_unix else f"{self.host}:{self.port}"


class ToHops(msgspec.Struct, frozen=True):
    """Hand it to the first of these that works."""

    key: str
    """Names the destination, e.g. ``mx:mx1.example,mx2.example`` or ``smtp:relay.example:587``."""
    hops: tuple[Hop, ...]


class ToMaildir(msgspec.Struct, frozen=True):
    """Deliver into a Maildir here."""

    key: str
    template: str


class ToNothing(msgspec.Struct, frozen=True):
    """Drop it, by a route that says so (``discard:``)."""

    key: str
    rule: str


class ToRefusal(msgspec.Struct, frozen=True):
    """Fail it with a text of the administrator's (``reject:``)."""

    key: str
    text: str


Target = ToHops | ToMaildir | ToNothing | ToRefusal


def hosts_of(target: Target) -> tuple[str, ...]:
    """Return the names of a target's MX hosts: those whose addresses the plan has looked up."""
    if not isinstance(target, ToHops):
        return ()
    return tuple(hop.host for hop in target.hops if hop.addresses)


class DestinationLimits(msgspec.Struct, frozen=True):
    """What [[destination]] and [retry] say about one destination."""

    connections: int
    messages_per_connection: int
    rate: Rate | None
    retry: Schedule
