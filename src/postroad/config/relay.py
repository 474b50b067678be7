"""Settings of who may send where: [relay], [[auth]], [operations.NAME].

One line a setting: default, meaning, unit, bounds. Does not own: granting anything
(access). No setting here may open the relay to strangers by accident: the checks
below are the promise "closed unless told".
The reference page comes from these lines: run `postroad config docs` after a change.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

from pydantic import field_validator

from postroad.config.addresses import IPNetwork, parse_network
from postroad.config.kinds import (
    LATER,
    LATER_BUT_DEFAULT,
    Duration,
    Kind,
    Network,
    Table,
    setting,
)
from postroad.config.patterns import Pattern, parse_domain_pattern
from postroad.core.units import DAY, MINUTE

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

_PREFIX_MIN: Final = {4: 8, 6: 16}
"""A shorter prefix takes in more than any one organisation has."""
_PRIVATE_IPV6: Final = ipaddress.IPv6Network("fc00::/7")


def parse_relay_network(text: str) -> IPNetwork:
    """Return a network that may relay.

    Raises:
        ValueError: none, or one that takes in strangers.
    """
    network = parse_network(text)
    is_private = isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_PRIVATE_IPV6)
    if network.prefixlen < _PREFIX_MIN[network.version] and not is_private:
        raise ValueError(
            f'"{text}" takes in strangers: an open relay, which is not in this version. Name your own networks, none '
            "wider than /8 (IPv6: /16)."
        )
    return network


def parse_relay_domain(text: str) -> Pattern:
    """Return a pattern of domains that anyone may send to.

    Raises:
        ValueError: none, or all of them.
    """
    pattern = parse_domain_pattern(text)
    if pattern.is_any:
        raise ValueError(
            '"*" would let anyone send anywhere: an open relay, which is not in this version. Name your domains.'
        )
    return pattern


RelayNetwork = Annotated[IPNetwork, Kind("network", parse_relay_network, (*IPNetwork.__args__,), "10.0.0.0/8")]
RelayDomain = Annotated[Pattern, Kind("pattern", parse_relay_domain, (Pattern,), "*.example.org")]


class AfterPop(Table):
    """SMTP after POP."""

    enabled: bool = setting(False, "A login by POP lets its address relay for a while.", later=LATER)
    valid_for: Duration = setting(20 * MINUTE, "How long it may.", least=MINUTE, most=DAY, later=LATER)


class Relay(Table):
    """Who may send where."""

    networks: tuple[RelayNetwork, ...] = setting(LOOPBACK, "Clients that may relay anywhere without credentials.")
    domains: tuple[RelayDomain, ...] = setting(
        (), 'Domains that anyone may send to; "*.example.org" for subdomains.', example='["example.org"]'
    )
    recipients: str = setting("", "File or map of valid recipients of these; empty: all.", later=LATER_BUT_DEFAULT)
    senders: tuple[str, ...] = setting(
        (), "Envelope senders a trusted network is limited to; empty: any.", later=LATER_BUT_DEFAULT
    )
    client_certificates: tuple[str, ...] = setting(
        (), "SHA-256 fingerprints or subject names that may relay.", later=LATER_BUT_DEFAULT
    )
    open: bool = setting(False, "The open relay; true needs open_to.", later=LATER_BUT_DEFAULT)
    open_to: tuple[Network, ...] = setting((), "Networks the open relay serves.", later=LATER_BUT_DEFAULT)
    after_pop: AfterPop = setting(AfterPop(), "SMTP after POP.", later=LATER)


class Auth(Table):
    """One place to ask about credentials. Without any: the built-in users."""

    backend: str = setting(..., "users: the built-in ones, `postroad user add`.", example='"users"')
    socket: str = setting("", "Unix socket of dovecot.", later=LATER)
    url: str = setting("", "Server of ldap.", later=LATER)
    user_dn: str = setting("", "Name to bind as at ldap; {user} is the user.", later=LATER)
    issuer: str = setting("", "Issuer of the tokens of oauth.", later=LATER)
    audience: str = setting("", "Audience the tokens of oauth must name.", later=LATER)

    @field_validator("backend", mode="after")
    @classmethod
    def _see_backend(cls, backend: str) -> str:
        if backend in ("dovecot", "ldap", "oauth"):
            raise ValueError(f'"{backend}" is not in this version. There is "users".')
        if backend != "users":
            raise ValueError(f'There is no backend "{backend}". Write "users".')
        return backend


class Operation(Table):
    """How many different credentials an operation needs."""

    credentials: int = setting(1, "Different credentials needed.", unit="credentials", least=0)
    over_recipients: int = setting(0, "Counts as this operation above so many recipients.", unit="recipients", least=0)
