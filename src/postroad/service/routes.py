"""From settings to routes: their steps, their conditions, and who we are.

Owns: what [[route]], [next_hop.NAME] and [names] mean to outbound. Does not own: limits of destinations
(limits.py), choosing (policy/route.py), the parts that move mail (build_outbound.py).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import Final, cast

from postroad.config.addresses import TcpAddress, bracketed
from postroad.config.model import Settings
from postroad.config.networks import NetworkSet
from postroad.config.patterns import Pattern, PatternTable
from postroad.config.routes import Route
from postroad.config.via import Discard, Lmtp, LmtpUnix, Maildir, Mx, Reject, Smtp, Via
from postroad.core.address import Path
from postroad.outbound.hops import Hop, TlsPolicy, ToHops, ToMaildir, ToNothing, ToRefusal
from postroad.outbound.planner import AskMx, Step
from postroad.policy.hosts import Ourselves
from postroad.policy.route import RouteChoice, Router, RouteRule
from postroad.service.limits import schedule_of

DEFAULT_TLS: Final[TlsPolicy] = "opportunistic"


def build_router(settings: Settings) -> Router[Step]:
    """Return what chooses routes; what matches none goes by MX."""
    rules = [_rule_of(index, route, settings) for index, route in enumerate(settings.route)]
    table = PatternTable(route.to for route in settings.route)
    default = RouteChoice[Step](None, (AskMx(DEFAULT_TLS),), DEFAULT_TLS)
    return Router(rules, table.candidates, default)


def _rule_of(index: int, route: Route, settings: Settings) -> RouteRule[Step]:
    retry = None if route.retry is None else schedule_of(settings.retry.changed(route.retry))
    steps = tuple(step_of(via, index, route, settings) for via in route.via)
    return RouteRule(
        RouteChoice(index, steps, route.tls, retry),
        to_has_local_part=any(pattern.local_part is not None for pattern in route.to),
        sender=_sender_test(route.from_) if route.from_ else None,
        client=_client_test(NetworkSet(route.client)) if route.client else None,
    )


def _sender_test(patterns: tuple[Pattern, ...]) -> Callable[[Path], bool]:
    def admits(sender: Path) -> bool:
        local_part, domain = ("", "") if sender is None else (sender.local_part, sender.ascii_domain)
        return any(pattern.matches(local_part, domain) for pattern in patterns)

    return admits


def _client_test(networks: NetworkSet) -> Callable[[str], bool]:
    @lru_cache(maxsize=4096)
    def admits(address: str) -> bool:
        return address not in ("unix", "local") and ipaddress.ip_address(address) in networks

    return admits


def step_of(via: Via, index: int, route: Route, settings: Settings) -> Step:
    """Return what one ``via`` of the route number ``index`` (from 0) means."""
    tls = cast(TlsPolicy, route.tls)  # "auto" and "dane" are refused with the settings, by name
    match via:
        case Mx():
            return AskMx(tls)
        case Smtp() | Lmtp():
            return _hops_of(via, tls, settings)
        case LmtpUnix(path):
            return ToHops(f"lmtp:unix:{path}", (Hop("lmtp", path, 0, tls="off"),))
        case Maildir(template):
            return ToMaildir(f"maildir:{template}", template)
        case Discard():
            return ToNothing(f"discard:{index + 1}", f"route:{index + 1}")
        case Reject(text):
            return ToRefusal(f"reject:{index + 1}", text)


def _hops_of(via: Smtp | Lmtp, tls: TlsPolicy, settings: Settings) -> ToHops:
    named = settings.next_hop[via.next_hop] if via.next_hop is not None else None
    if named is not None and named.tls is not None:
        tls = named.tls
    hop = Hop(
        "smtp" if isinstance(via, Smtp) else "lmtp",
        via.host,
        via.port,
        tls=tls,
        hello_name="" if named is None else named.helo,
        source_ip="" if named is None or named.source_ip is None else str(named.source_ip),
    )
    return ToHops(hop_key(via, tls), (hop,))


def hop_key(via: Smtp | Lmtp, tls: TlsPolicy) -> str:
    """Name the destination of one next hop: what is told apart by name or TLS has connections of its own."""
    key = f"{'smtp' if isinstance(via, Smtp) else 'lmtp'}:{bracketed(via.host)}:{via.port}"
    if via.next_hop is not None:
        key += f"#{via.next_hop}"
    return key if tls == DEFAULT_TLS else f"{key}!{tls}"


def hop_names(settings: Settings) -> dict[str, str]:
    """Return the name of the [next_hop.NAME] behind each key of a destination that has one."""
    names: dict[str, str] = {}
    for index, route in enumerate(settings.route):
        for via in route.via:
            if isinstance(via, Smtp | Lmtp) and via.next_hop is not None:
                step = step_of(via, index, route, settings)
                assert isinstance(step, ToHops)
                names[step.key] = via.next_hop.lower()
    return names


def destination_keys(settings: Settings) -> frozenset[str]:
    """Return the keys of all destinations that the configuration names, so that they are counted by name."""
    steps = (step_of(via, index, route, settings) for index, route in enumerate(settings.route) for via in route.via)
    return frozenset(step.key for step in steps if not isinstance(step, AskMx))


def ourselves(settings: Settings) -> Ourselves:
    """Return by what a loop to this relay is recognised."""
    names = {settings.hostname, *settings.names.other_hostnames}
    addresses = {str(address) for address in settings.names.other_addresses}
    for listener in settings.listener:
        if isinstance(listener.address, TcpAddress):
            address = ipaddress.ip_address(listener.address.host)
            if not address.is_unspecified:
                addresses.add(str(address))
    return Ourselves(frozenset(name.lower() for name in names), frozenset(addresses))
