"""What [[destination]] and [retry] say about a target, the first that matches, and what overrides say over it.

Owns: matching (by recipient domain, MX host, next hop), the schedules that result, the name of a rule that singles
out a domain. Does not own: which override wins (policy/steered.py), keeping the limits (outbound/destination.py),
the patterns (config/patterns.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from postroad.config.model import DEFAULT_DESTINATION, Settings
from postroad.config.patterns import Pattern, PatternTable
from postroad.config.routes import Destination, Retry
from postroad.core.faces import Rate
from postroad.outbound.hops import DestinationLimits, Hop, Target, ToHops, hosts_of
from postroad.policy.schedule import Schedule
from postroad.policy.steered import Steered

REMEMBERED_MAX: Final = 10_000
"""Answers remembered; the one longest unused is forgotten first."""


def schedule_of(retry: Retry) -> Schedule:
    """Return the settings of a [retry] as policy wants them."""
    warn = None if math.isinf(retry.warn) else retry.warn
    return Schedule(first=retry.first, longest=retry.longest, expire=retry.expire, warn=warn)


class DestinationRules:
    """The [[destination]] tables of one loaded configuration, and the overrides in force.

    ``hop_names``: the name of the [next_hop.NAME] that a target's key stands for.
    """

    def __init__(self, settings: Settings, hop_names: Mapping[str, str], steered: Steered | None = None) -> None:
        self._rules = settings.destination
        self._retry = settings.retry
        self._hop_names = dict(hop_names)
        self._limits = [self._limits_of(rule) for rule in self._rules]
        self._default = self._limits_of(DEFAULT_DESTINATION)
        singling: list[tuple[Pattern, ...]] = []
        for rule in self._rules:
            if rule.domain is not None and rule.domain.is_any:
                break  # it matches every domain, so that none further on has a say
            singling.append(() if rule.domain is None else (rule.domain,))
        self._by_domain = PatternTable(singling)
        # One Target value stands for its key; the domain matters by its rule, which is a part of that key.
        self._remembered: dict[str, DestinationLimits] = {}
        self.steer(steered or Steered())

    def steer(self, steered: Steered) -> None:
        """Have other overrides hold. Where they single out other domains than before, ``domain_rule`` is another."""
        self._steered = steered
        self._remembered.clear()
        self.domain_rule = lru_cache(maxsize=REMEMBERED_MAX)(self._domain_rule)
        """Names what singles out a domain, a [[destination]] or an override, e.g. ``@2``; empty for nearly all."""

    def limits_for(self, target: Target, domain: str) -> DestinationLimits:
        """Return the limits of a target for mail to a domain."""
        limits = self._remembered.get(target.key)
        if limits is None:
            limits = self._overridden(self._find(target, domain), target, domain)
            if len(self._remembered) >= REMEMBERED_MAX:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[target.key] = limits
        return limits

    @property
    def schedules(self) -> list[Schedule]:
        """All schedules that a destination can have."""
        return [limits.retry for limits in (self._default, *self._limits)]

    def _domain_rule(self, domain: str) -> str:
        index = self._by_domain.first_match("", domain)
        return ("" if index is None else f"@{index + 1}") + self._steered.domain_rule(domain)

    def _overridden(self, limits: DestinationLimits, target: Target, domain: str) -> DestinationLimits:
        rule = self._steered.overridden(domain, target.key, hosts_of(target))
        if rule is None:
            return limits
        return DestinationLimits(
            connections=rule.connections or limits.connections,
            messages_per_connection=rule.messages_per_connection or limits.messages_per_connection,
            rate=None if rule.is_unlimited else rule.rate or limits.rate,
            retry=limits.retry,
        )

    def _find(self, target: Target, domain: str) -> DestinationLimits:
        for rule, limits in zip(self._rules, self._limits, strict=True):
            if self._matches(rule, target, domain):
                return limits
        return self._default

    def _matches(self, rule: Destination, target: Target, domain: str) -> bool:
        if rule.domain is not None:
            return rule.domain.matches("", domain)
        if not isinstance(target, ToHops):
            return False
        if rule.mx is not None:
            return any(rule.mx.matches("", hop.host.lower()) for hop in target.hops if _is_mx(hop))
        assert rule.next_hop is not None
        names = {name for key in target.key.split() if (name := self._hop_names.get(key.partition("@")[0]))}
        names |= {hop.host.lower() for hop in target.hops if not _is_mx(hop)}
        return any(rule.next_hop.matches("", name) for name in names)

    def _limits_of(self, rule: Destination) -> DestinationLimits:
        return DestinationLimits(
            connections=rule.connections,
            messages_per_connection=rule.messages_per_connection,
            rate=None if rule.rate is None else Rate(rule.rate.count, rule.rate.seconds),
            retry=schedule_of(self._retry.changed(rule.retry)),
        )


def _is_mx(hop: Hop) -> bool:
    """True for a host that MX named: the plan has looked its addresses up."""
    return bool(hop.addresses)
