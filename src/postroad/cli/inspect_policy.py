"""Inspects the sense of the settings: what makes an open relay, what sends mail in circles or into nothing.

Owns: the findings that need nothing but the settings (and whether a socket is there). Does not own: what the model
refuses outright (config/relay.py: trusted networks wider than /8, domains = ["*"]).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from postroad.cli.findings import Finding, error, note, warning
from postroad.config.addresses import TcpAddress
from postroad.config.via import Lmtp, LmtpUnix, Smtp

if TYPE_CHECKING:
    from postroad.config.addresses import IPNetwork
    from postroad.config.model import Settings

PUBLIC_PREFIX: Final = {4: 24, 6: 48}
"""The widest network of public addresses that one site commonly has; a wider one holds other people's machines."""


def inspect_relay(settings: Settings) -> Iterator[Finding]:
    """Who may send where without a credential?"""
    for network in settings.relay.networks:
        if _is_public(network):
            yield from _inspect_public(network)
    for domain in settings.relay.domains:
        if domain.domain and "." not in domain.domain:
            yield warning(
                "relay",
                f'[relay] domains has "{domain}": anyone may send to all of .{domain.domain} through this relay.',
                "Name the domains that are yours.",
            )
    if not settings.relay.networks:
        yield warning(
            "relay", "[relay] networks is empty: nobody may relay.", "Name the clients that may, as networks."
        )
    if not settings.relay.domains and any(listener.role == "mx" for listener in settings.listener):
        yield note("relay", "[relay] domains is empty: a listener of role mx takes no mail from strangers at all.")


def _inspect_public(network: IPNetwork) -> Iterator[Finding]:
    text = f"[relay] networks has {network}: {network.num_addresses:,} public addresses may relay anywhere."
    if network.prefixlen < PUBLIC_PREFIX[network.version]:
        yield warning("relay", text, "Anyone there can send as anyone: name only addresses that are yours alone.")
    elif network.num_addresses > 1:
        yield note("relay", text)


def _is_public(network: IPNetwork) -> bool:
    """True if strangers could have an address in it: any part of it is routed on the Internet."""
    return not (network.is_private or network.is_loopback or network.is_link_local or network in _SHARED)


_SHARED: Final = (ipaddress.ip_network("100.64.0.0/10"),)
"""RFC 6598 section 7: carriers' own; never seen on the Internet."""


def inspect_routes(settings: Settings) -> Iterator[Finding]:
    """Does a route lead back to ourselves, or to a socket that is not there?"""
    ours = {listener.address for listener in settings.listener if isinstance(listener.address, TcpAddress)}
    for number, route in enumerate(settings.route, start=1):
        for via in route.via:
            if isinstance(via, Smtp | Lmtp) and TcpAddress(via.host, via.port) in ours:
                text = f"Route {number} sends to {via}, which is a listener of this relay: mail would go in circles."
                yield error("route", text, "Send it elsewhere.")
            elif isinstance(via, LmtpUnix) and not _is_there(via.path):
                yield warning(
                    "route", f"Route {number} sends to {via.path}, and nothing is there.", "Is its server up?"
                )


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        return False
