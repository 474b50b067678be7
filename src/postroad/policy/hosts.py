"""From MX and address answers to the hosts to try, in order (RFC 5321 section 5.1).

Owns: the order, the limits, null MX, loops to ourselves, address literals, the name of a site. Does not own: asking
DNS (a Resolver, in between), IPv4 before IPv6 or the reverse (net, RFC 8305), connecting.

Two steps, since names are looked up between them: rank_hosts orders what MX said, plan_hosts joins the
addresses. Both answer Unroutable where there is nothing to try. All MX hosts have their addresses looked
up, also the worst: only so a loop to ourselves by address is seen. Cases: tests/cases/mx.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from postroad.core.address import literal_address
from postroad.core.faces import Dice, MxHost, NameNotFound, NameTrouble
from postroad.core.outcome import AttemptError, Scope, Stage
from postroad.core.reply import Reply

HOSTS_MAX: Final = 50
"""MX hosts of one domain that are looked at, the best first. The largest sites publish about ten."""
ADDRESSES_MAX: Final = 100
"""Addresses in one plan. Postfix tries 5 (smtp_mx_address_limit); time is what really bounds an attempt."""
ADDRESSES_PER_HOST_MAX: Final = 16
"""Addresses of one host, IPv6 and IPv4 by turns, so that neither crowds the other out."""
SITE_MAX: Final = 200
"""Characters in the name of a site; a longer one ends in a hash."""

NULL_MX: Final = Reply(556, (1, 10), "The domain takes no mail (null MX)")
"""RFC 7505 section 4.1 and RFC 7504 section 4."""
NO_SUCH_DOMAIN: Final = Reply(550, (1, 2), "The domain does not exist")
NO_HOST: Final = Reply(550, (4, 4), "No host for the domain has an address")
"""5.4.4, as Postfix has it: the domain exists, but there is no way to it."""
LOOP: Final = Reply(554, (4, 6), "Mail for the domain loops back to this host")
LOOKUP_TROUBLE: Final = Reply(451, (4, 3), "No answer from DNS now")
BEST_UNKNOWN: Final = Reply(
    451, (4, 4), "The better hosts of the domain have no address now; this host is only a backup"
)
BAD_LITERAL: Final = Reply(550, (1, 2), "No such kind of address literal")

Found = Sequence[str] | NameNotFound | NameTrouble
"""What looking up the addresses of one host gave."""


class Ourselves(msgspec.Struct, frozen=True):
    """By what a loop is recognised: names in lower case, IP addresses as text in their normal form."""

    names: frozenset[str]
    addresses: frozenset[str] = frozenset()

    def has(self, address: str) -> bool:
        """True for an address of ours; always for the unspecified one, which connects to this machine."""
        return address in self.addresses or address in ("0.0.0.0", "::")  # noqa: S104


class Host(msgspec.Struct, frozen=True, gc=False):
    """One host to try."""

    name: str
    """As MX names it; for a literal, the IP address."""
    preference: int
    addresses: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """Hosts in the order to try them: never empty, each with an address."""

    hosts: tuple[Host, ...]
    cut: bool = False
    """True if we are an MX of the domain ourselves, and only better hosts are left."""


class Unroutable(msgspec.Struct, frozen=True):
    """There is nothing to try: for good, or (reply 4yz) now."""

    reply: Reply

    def to_error(self) -> AttemptError:
        """Return it as what a delivery raises: no host of the site is to blame, so the scope is the site."""
        return AttemptError(Scope.SITE, self.reply, Stage.DNS)


def rank_hosts(domain: str, records: Sequence[MxHost], dice: Dice) -> tuple[MxHost, ...] | Unroutable:
    """Return the MX hosts of a domain by preference, equal ones shuffled, each once, at most HOSTS_MAX.

    Without any MX the domain itself is the one host (implicit MX, RFC 5321 section 5.1).

    Args:
        records: what ``Resolver.mx`` gave. For NameNotFound and NameTrouble see ``without_answer``.
    """
    if not records:
        return (MxHost(0, domain),)
    if not any(record.host for record in records):
        return Unroutable(NULL_MX)
    # A null MX beside others breaks RFC 7505 section 3: the others count.
    mixed = [MxHost(record.preference, record.host.lower().rstrip(".")) for record in records if record.host]
    dice.shuffle(mixed)
    mixed.sort(key=lambda record: record.preference)  # stable: equals stay shuffled
    best: dict[str, MxHost] = {}
    for record in mixed:
        if record.host and len(best) < HOSTS_MAX:
            best.setdefault(record.host, record)
    return tuple(best.values()) or Unroutable(NULL_MX)


def without_answer(error: NameNotFound | NameTrouble) -> Unroutable:
    """Return what it means that asking for the MX of a domain raised."""
    return Unroutable(NO_SUCH_DOMAIN if isinstance(error, NameNotFound) else LOOKUP_TROUBLE)


def names_to_look_up(ranked: Sequence[MxHost]) -> list[str]:
    """Return the names whose addresses ``plan_hosts`` needs: all that are not addresses themselves."""
    return [record.host for record in ranked if _normal(record.host) is None]


def plan_hosts(ranked: Sequence[MxHost], found: Mapping[str, Found], ourselves: Ourselves) -> Plan | Unroutable:
    """Return the hosts to try: those with an address, and better than ourselves.

    Args:
        found: by name, what looking it up gave; a name that is missing counts as trouble.
    """
    limit = _own_preference(ranked, found, ourselves)
    hosts: list[Host] = []
    room = ADDRESSES_MAX
    for record in ranked:
        if limit is not None and record.preference >= limit:
            break
        if addresses := _addresses(record.host, found)[:room]:
            hosts.append(Host(record.host, record.preference, addresses))
            room -= len(addresses)
    if hosts:
        return Plan(tuple(hosts), cut=limit is not None)
    return Unroutable(_nothing_left(ranked, found, limit))


def plan_literal(domain: str, ourselves: Ourselves) -> Plan | Unroutable:
    """Return the plan for an address literal, RFC 5321 section 4.1.3: that one address, no DNS."""
    address = literal_address(domain)
    if address is None:
        return Unroutable(BAD_LITERAL)
    text = str(_unmapped(address))
    return Unroutable(LOOP) if ourselves.has(text) else Plan((Host(text, 0, (text,)),))


def without_dead(plan: Plan, dead: Collection[str]) -> Plan:
    """Return the plan without addresses that are known not to answer now; whole if none would be left.

    Better a slow try than none: whoever keeps the list of the dead may be wrong.
    """
    if not dead:
        return plan
    hosts = []
    for host in plan.hosts:
        alive = tuple(address for address in host.addresses if address not in dead)
        if alive:
            hosts.append(Host(host.name, host.preference, alive))
    return Plan(tuple(hosts), plan.cut) if hosts else plan


def site_of(ranked: Sequence[MxHost]) -> str:
    """Return the name of the site: equal for domains whose mail goes to the same hosts, at most SITE_MAX characters.

    Preferences do not count: many domains of one provider list the same hosts with other figures.
    """
    names = sorted(record.host for record in ranked)
    site = "mx:" + ",".join(names)
    if len(site) <= SITE_MAX:
        return site
    digest = hashlib.sha256(site.encode()).hexdigest()[:16]
    return f"{site[: SITE_MAX - 17]}#{digest}"


def _own_preference(ranked: Sequence[MxHost], found: Mapping[str, Found], ourselves: Ourselves) -> int | None:
    """Return the best preference at which we stand ourselves, by name or by address; None: nowhere."""
    for record in ranked:
        if record.host in ourselves.names or any(map(ourselves.has, _addresses(record.host, found))):
            return record.preference
    return None


def _nothing_left(ranked: Sequence[MxHost], found: Mapping[str, Found], limit: int | None) -> Reply:
    if any(isinstance(_answer(record.host, found), NameTrouble) for record in ranked):
        return LOOKUP_TROUBLE
    if limit is None:
        return NO_HOST
    # Better hosts that exist in MX but not in DNS must not make us say "loop" (so has Postfix decided).
    return LOOP if limit == ranked[0].preference else BEST_UNKNOWN


def _answer(name: str, found: Mapping[str, Found]) -> Found:
    numeric = _normal(name)
    if numeric is not None:
        return (numeric,)
    return found.get(name, _NOT_ASKED)


_NOT_ASKED: Final = NameTrouble("not looked up")


def _addresses(name: str, found: Mapping[str, Found]) -> tuple[str, ...]:
    """Return the addresses of one host in normal form, by turns of the families, at most ADDRESSES_PER_HOST_MAX."""
    answer = _answer(name, found)
    if isinstance(answer, NameNotFound | NameTrouble):
        return ()
    families: tuple[list[str], list[str]] = ([], [])
    for text in answer:
        if (normal := _normal(text)) is not None:
            families[":" not in normal].append(normal)
    if not (families[0] and families[1]):
        return tuple(dict.fromkeys(families[0] or families[1]))[:ADDRESSES_PER_HOST_MAX]
    longest = max(map(len, families))
    turns = [family[place] for place in range(longest) for family in families if place < len(family)]
    return tuple(dict.fromkeys(turns))[:ADDRESSES_PER_HOST_MAX]


def _normal(text: str) -> str | None:
    """Return an IP address in its normal form, IPv4 in IPv6 unwrapped; None if it is none."""
    if not text or text[0] not in _FIRST_OF_ADDRESS:
        return None
    try:
        return str(_unmapped(ipaddress.ip_address(text)))
    except ValueError:
        return None


_FIRST_OF_ADDRESS: Final = frozenset("0123456789abcdefABCDEF:")


def _unmapped(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    # ::ffff:127.0.0.1 reaches what 127.0.0.1 reaches.
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
