"""Where a recipient's mail goes next: the first [[route]] that matches, else MX.

Owns: the order of rules, their conditions, the memory of decisions. Does not own: patterns and their
tables, the meaning of ``via`` (config; the house builds the values used here), hosts (hosts.py). Never
stored: a route is chosen at each claim, so that a reload of the configuration holds for mail in the queue too.

Router must agree with trying each rule in turn: tests/laws/test_policy_route.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from postroad.core.address import Mailbox, Path
from postroad.core.envelope import Client
from postroad.policy.schedule import Schedule

V = TypeVar("V")
"""What ``via`` holds: for this module, anything."""

REMEMBERED_MAX: Final = 10_000
"""Recipient domains whose matching rules are remembered; the oldest is forgotten first."""


class RouteChoice(msgspec.Struct, Generic[V], frozen=True):
    """Where to, and how."""

    index: int | None
    """Place of the [[route]] in the configuration; None: none matched."""
    via: tuple[V, ...]
    """Next hops, in the order to try them. Never empty."""
    tls: str = "auto"
    retry: Schedule | None = None
    """The route's own schedule; None: that of [retry]."""

    @property
    def rule(self) -> str:
        """The name of what decided, for facts: ``route:2`` counts from 1, as a person does."""
        return "route:default" if self.index is None else f"route:{self.index + 1}"


class RouteRule(msgspec.Struct, Generic[V], frozen=True):
    """What else a [[route]] asks for, besides its ``to``. All conditions must hold."""

    choice: RouteChoice[V]
    to_has_local_part: bool = False
    """True if a pattern of ``to`` looks at the local-part."""
    sender: Callable[[Path], bool] | None = None
    """The route's ``from``; None: any, the null path too."""
    client: Callable[[str], bool] | None = None
    """The route's ``client``, asked with an IP address as text, ``unix`` or ``local``; None: any."""
    users: frozenset[str] | None = None
    """The route's ``user``; None: any, also nobody."""

    @property
    def is_unconditional(self) -> bool:
        return self.sender is None and self.client is None and self.users is None

    def admits(self, sender: Path, client: Client) -> bool:
        """True if the conditions besides ``to`` hold."""
        return (
            (self.users is None or client.user in self.users)
            and (self.sender is None or self.sender(sender))
            and (self.client is None or self.client(client.address))
        )


class Router(Generic[V]):
    """Chooses routes. Built once for each loaded configuration.

    Args:
        rules: one for each [[route]], in their order.
        candidates: gives the indexes of the rules whose ``to`` matches a local-part and a domain (A-labels in lower
            case, or a literal), in rising order: PatternTable.candidates.
        default: the choice where no rule matches: MX.
    """

    def __init__(
        self,
        rules: Sequence[RouteRule[V]],
        candidates: Callable[[str, str], Sequence[int]],
        default: RouteChoice[V],
    ) -> None:
        self._rules = tuple(rules)
        self._candidates = candidates
        self._last = RouteRule(default)
        self._by_domain_only = not any(rule.to_has_local_part for rule in rules)
        self._remembered: dict[str, tuple[RouteRule[V], ...]] = {}

    def choose(self, recipient: Mailbox, sender: Path, client: Client) -> RouteChoice[V]:
        """Return the choice for one recipient of a message. A bare Postmaster has the domain ""."""
        domain = recipient.ascii_domain
        matching = self._remembered.get(domain)
        if matching is None:
            matching = self._matching(recipient.local_part, domain)
        for rule in matching:
            if rule.is_unconditional or rule.admits(sender, client):
                return rule.choice
        raise AssertionError("the last rule is unconditional")

    def choose_for_domain(self, domain: str) -> RouteChoice[V] | None:
        """Return the choice for all mail to a domain, or None where it takes more than the domain to tell."""
        if not self._by_domain_only:
            return None
        matching = self._remembered.get(domain) or self._matching("", domain)
        return matching[0].choice if matching[0].is_unconditional else None

    def _matching(self, local_part: str, domain: str) -> tuple[RouteRule[V], ...]:
        """Return the rules whose ``to`` matches, up to the first that has no further condition."""
        matching = []
        for index in self._candidates(local_part, domain):
            matching.append(self._rules[index])
            if matching[-1].is_unconditional:
                break
        else:
            matching.append(self._last)
        found = tuple(matching)
        if self._by_domain_only:
            if len(self._remembered) >= REMEMBERED_MAX:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[domain] = found
        return found
