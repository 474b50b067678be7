"""What people have said of destinations for a while: suspended, or other limits. Which of it holds for what mail.

Owns: the rules as values, which of several wins, when the next of them ends. Does not own: names and their grammar
(destination_name.py), where rules are kept (records, read by outbound/rules.py), what follows (outbound, the house). A
``Steered`` never changes: when a rule comes or ends, another takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from postroad.core.faces import Rate
from postroad.policy.destination_name import DestinationName

REMEMBERED_MAX: Final = 10_000
"""Answers about domains that are remembered; past it they are forgotten together."""


class SuspensionRule(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is sent there."""

    name: DestinationName
    until: float | None
    """Seconds since the epoch, UTC; None: until it is lifted."""
    who: str
    why: str = ""


class OverrideRule(msgspec.Struct, frozen=True, kw_only=True):
    """Other limits than the configuration's. None: as configured."""

    name: DestinationName
    until: float | None
    """Seconds since the epoch, UTC; None: until it is lifted."""
    connections: int | None = None
    messages_per_connection: int | None = None
    rate: Rate | None = None
    is_unlimited: bool = False
    """True: no rate holds, whatever is configured."""


class Steered:
    """All rules in force."""

    def __init__(self, suspensions: Sequence[SuspensionRule] = (), overrides: Sequence[OverrideRule] = ()) -> None:
        self._suspensions = tuple(sorted(suspensions, key=_end, reverse=True))  # the one that lasts longest first
        self._overrides = tuple(sorted(overrides, key=lambda rule: rule.name.rank))  # what says most comes last
        self._by_domain = tuple(rule for rule in self._suspensions if rule.name.is_of_domain)
        self._by_key = tuple(rule for rule in self._suspensions if not rule.name.is_of_domain)
        self._singling = [rule.name for rule in reversed(self._overrides) if _singles_out(rule.name)]
        self._remembered: dict[str, SuspensionRule | None] = {}

    @property
    def suspends(self) -> bool:
        """True if anything is suspended: on the path of a message, nothing more is asked otherwise."""
        return bool(self._suspensions)

    @property
    def singling(self) -> frozenset[str]:
        """The names that give domains a destination of their own: ``domain_rule`` changes only where these do."""
        return frozenset(map(str, self._singling))

    @property
    def ends_at(self) -> float | None:
        """When the next rule ends; None: none does."""
        ends = [rule.until for rule in self._suspensions] + [rule.until for rule in self._overrides]
        return min((end for end in ends if end is not None), default=None)

    def at(self, now: float) -> Steered:
        """Return what is left at ``now`` of the rules."""
        return Steered(
            [rule for rule in self._suspensions if rule.until is None or rule.until > now],
            [rule for rule in self._overrides if rule.until is None or rule.until > now],
        )

    def suspension_of_domain(self, domain: str) -> SuspensionRule | None:
        """Return what suspends all mail to a domain, or None."""
        if not self._by_domain:
            return None
        try:
            return self._remembered[domain]
        except KeyError:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            found = next((rule for rule in self._by_domain if rule.name.matches(domain, "")), None)
            self._remembered[domain] = found
            return found

    def suspension_of_key(self, key: str, hosts: Iterable[str]) -> SuspensionRule | None:
        """Return what suspends a destination, by its key or its MX hosts; None if nothing does."""
        hosts = tuple(hosts)
        return next((rule for rule in self._by_key if rule.name.matches("", key, hosts)), None)

    def domain_rule(self, domain: str) -> str:
        """Name the override that singles out a domain, e.g. ``@*.example.org``; empty for nearly all.

        It becomes a part of the destination's key: a limit for one domain is not one for all that share its hosts.
        """
        for name in self._singling:
            if name.matches(domain, ""):
                return f"@{name}"
        return ""

    def overridden(self, domain: str, key: str, hosts: Iterable[str]) -> OverrideRule | None:
        """Return in one rule what holds instead of the configuration's limits; None: nothing does.

        Of two that say something of the same limit the one whose name says more wins.
        """
        hosts = tuple(hosts)
        found: OverrideRule | None = None
        for rule in self._overrides:
            if rule.name.matches(domain, key, hosts):
                found = rule if found is None else _over(found, rule)
        return found


def _over(under: OverrideRule, rule: OverrideRule) -> OverrideRule:
    has_rate = rule.rate is not None or rule.is_unlimited
    return OverrideRule(
        name=rule.name,
        until=rule.until,
        connections=under.connections if rule.connections is None else rule.connections,
        messages_per_connection=(
            under.messages_per_connection if rule.messages_per_connection is None else rule.messages_per_connection
        ),
        rate=rule.rate if has_rate else under.rate,
        is_unlimited=rule.is_unlimited if has_rate else under.is_unlimited,
    )


def _singles_out(name: DestinationName) -> bool:
    return name.is_of_domain and not name.is_any


def _end(rule: SuspensionRule) -> float:
    return float("inf") if rule.until is None else rule.until
