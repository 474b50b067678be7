"""What a person calls a destination, to suspend it or to give it other limits: a domain, an MX host, a key.

Owns: the grammar of such names, their normal form, what they match. Does not own: what a match leads to (steered.py),
how keys come about (outbound/hops.py, policy/hosts.py), patterns of addresses (config/patterns.py).

| name | means |
|---|---|
| ``example.org``, ``*.example.org``, ``*`` | mail to recipients of that domain, of its subdomains, of any |
| ``mx:HOST``, HOST a name or ``*.name`` | destinations one of whose MX hosts is, or ends in, that |
| ``smtp:...``, ``maildir:...``, any other | the destination of that very key, as ``queue stats`` shows it |
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from postroad.core.address import AddressError, parse_domain, to_ascii

NAME_MAX: Final = 1_000
"""Characters of a name: the longest key of a site and then some."""
ANY: Final = "*"

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.ASCII)
_MORE_THAN_A_HOST: Final = re.compile(r"[,!@# ]")
"""What the key of a site has and a host has not: several hosts, TLS of its own, a [[destination]] of its own."""


class NameKind(StrEnum):
    """What a name is compared with."""

    DOMAIN = "domain"
    MX = "mx"
    KEY = "key"


class DestinationName(msgspec.Struct, frozen=True):
    """One name in its normal form: ``str`` of it is the key of the records."""

    kind: NameKind
    name: str
    """A domain or host in A-labels and lower case, or a key; "" with ``subdomains``: any domain."""
    subdomains: bool = False
    """True if what ends in ``name`` is meant, and not ``name`` itself."""

    def __str__(self) -> str:
        if self.kind is NameKind.KEY:
            return self.name
        host = self.name
        if self.subdomains:
            host = f"*.{host}" if host else ANY
        return f"mx:{host}" if self.kind is NameKind.MX else host

    @property
    def is_of_domain(self) -> bool:
        """True if the recipient's domain alone tells whether it matches."""
        return self.kind is NameKind.DOMAIN

    @property
    def is_any(self) -> bool:
        """True for ``*``."""
        return self.kind is NameKind.DOMAIN and self.subdomains and not self.name

    @property
    def rank(self) -> tuple[int, int]:
        """The higher, the more is said by it: a key before MX hosts before domains, a longer name before a shorter."""
        order = (NameKind.DOMAIN, NameKind.MX, NameKind.KEY).index(self.kind)
        return order, 2 * len(self.name) + (not self.subdomains)

    def matches(self, domain: str, key: str, hosts: Iterable[str] = ()) -> bool:
        """True if mail to ``domain`` that goes by the destination ``key`` is meant.

        Args:
            domain: of the recipient: A-labels in lower case, a literal, or "" for a bare Postmaster.
            key: of the destination; "" while it is not known.
            hosts: its MX hosts, where known: the key of a site of very many names only the first.
        """
        match self.kind:
            case NameKind.KEY:
                return key == self.name
            case NameKind.DOMAIN:
                return self._means(domain)
            case NameKind.MX:
                return any(self._means(host.lower()) for host in (*hosts_in(key), *hosts))

    def _means(self, host: str) -> bool:
        if not self.subdomains:
            return host == self.name
        return not self.name or host.endswith(f".{self.name}")


def parse_destination_name(text: str) -> DestinationName:
    """Return the name that ``text`` writes.

    Raises:
        ValueError: no such name; the text is a sentence that says what would be right.
    """
    if not text:
        raise ValueError('The name is empty. Write a domain, "mx:HOST", or the key that "postroad queue stats" shows.')
    if len(text) > NAME_MAX or not text.isprintable():
        raise ValueError(f"A name of a destination has at most {NAME_MAX} characters, all of them printable.")
    if text.startswith("[") or not (scheme := _SCHEME.match(text)):
        if "@" in text:
            raise ValueError(f'"{text}" is an address. A domain is meant: write "{text.rpartition("@")[2]}".')
        return _parse_host(NameKind.DOMAIN, text, text)
    rest = text[scheme.end() :]
    if not rest:
        raise ValueError(f'"{text}" names nothing. Write what follows the colon, as in "mx:mx.example.org".')
    if scheme[0] != "mx:" or _MORE_THAN_A_HOST.search(rest):
        return DestinationName(NameKind.KEY, text)
    return _parse_host(NameKind.MX, rest, text)


def hosts_in(key: str) -> list[str]:
    """Return the MX hosts that the key of a destination names, of all its sites."""
    if "mx:" not in key:
        return []
    sites = [part[len("mx:") :] for part in key.split(" ") if part.startswith("mx:")]
    return [host for site in sites for host in re.split("[!@#]", site, maxsplit=1)[0].split(",")]


def _parse_host(kind: NameKind, host: str, text: str) -> DestinationName:
    if host == ANY and kind is NameKind.DOMAIN:
        return DestinationName(kind, "", subdomains=True)
    name = host.removeprefix("*.")
    if "*" in name or (name != host and name.startswith("[")):
        raise ValueError(f'"{text}": a "*" stands alone or before a dot at the start, as in "*.example.org".')
    try:
        domain = parse_domain(name.removesuffix("."))
        ascii_domain = domain if domain.isascii() else to_ascii(domain)
    except AddressError as error:
        wanted = '"mx:mx.example.org"' if kind is NameKind.MX else '"example.org"'
        raise ValueError(f'"{text}" names no destination. Write one such as {wanted}.') from error
    return DestinationName(kind, ascii_domain, subdomains=name != host)
