"""Patterns of addresses: "example.org", "*.example.org", "user@example.org", "*@example.org", "*".

Owns: their grammar, their meaning, and a table that finds the first of many by
dict lookups. Does not own: networks (config/networks.py), what a match leads to.
PatternTable must agree with trying each Pattern in turn: tests/laws/test_config_patterns.py.

A domain is compared as A-labels in lower case (Mailbox.ascii_domain). A
local-part is compared without case: only the last host knows whether case
matters (RFC 5321 section 2.4), and a rule that Bob@ slips past would surprise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from postroad.core.address import AddressError, format_local_part, parse_domain, parse_mailbox, to_ascii

ANY = "*"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern. ``local_part`` None: any, else in lower case.

    ``domain`` None: any, else a domain, or with ``subdomains`` what its subdomains
    end in (itself not among them).
    """

    local_part: str | None
    domain: str | None
    subdomains: bool = False

    def matches(self, local_part: str, domain: str) -> bool:
        """True if the address is meant. ``domain``: A-labels in lower case, or a literal in brackets."""
        if self.local_part is not None and self.local_part != local_part.lower():
            return False
        if self.domain is None:
            return True
        if self.subdomains:
            return domain.endswith("." + self.domain)
        return domain == self.domain

    @property
    def is_any(self) -> bool:
        return self.local_part is None and self.domain is None

    def __str__(self) -> str:
        if self.local_part == "" and self.domain == "":
            return "<>"
        domain = ANY if self.domain is None else f"*.{self.domain}" if self.subdomains else self.domain
        if self.local_part is None:
            return domain
        return f"{format_local_part(self.local_part)}@{domain}"


def parse_pattern(text: str) -> Pattern:
    """Return the pattern of addresses that ``text`` writes; "<>" is the null reverse-path.

    Raises:
        ValueError: no pattern; the text says what would be right.
    """
    if text == "<>":
        return Pattern("", "")
    before, at, domain = text.rpartition("@")
    if not at:
        return parse_domain_pattern(text)
    host = parse_domain_pattern(domain)
    if before == ANY:
        return host
    try:
        # The domain has been looked at: any valid one serves to have the local-part parsed.
        local_part = parse_mailbox(f"{before}@example.org").local_part
    except AddressError as error:
        raise ValueError(f'"{text}": "{before}" is not a local-part. Write "user@{domain}" or "*@{domain}".') from error
    if "*" in local_part:
        raise ValueError(f'"{text}": a "*" stands for a whole local-part. Write "user@{domain}" or "*@{domain}".')
    return Pattern(local_part.lower(), host.domain, host.subdomains)


def parse_domain_pattern(text: str) -> Pattern:
    """Return the pattern of domains that ``text`` writes: "example.org", "*.example.org" or "*".

    Raises:
        ValueError: no pattern, or one with a local-part.
    """
    if text == ANY:
        return Pattern(None, None)
    if "@" in text:
        raise ValueError(f'"{text}" is an address. A domain is meant: write "{text.rpartition("@")[2]}".')
    name = text.removeprefix("*.")
    if not name:
        raise ValueError('The pattern is empty. Write a domain, "*.domain" for its subdomains, or "*" for all.')
    if "*" in name or (text != name and name.startswith("[")):
        raise ValueError(f'"{text}": a "*" stands alone or before a dot at the start, as in "*.example.org".')
    try:
        domain = parse_domain(name.removesuffix("."))
        ascii_domain = domain if domain.isascii() else to_ascii(domain)
    except AddressError as error:
        advice = f'Write "*{text}" for its subdomains.' if name.startswith(".") else 'Write one such as "example.org".'
        raise ValueError(f'"{text}" is not a domain name. {advice}') from error
    return Pattern(None, ascii_domain, subdomains=text != name)


class PatternTable:
    """Finds which of many entries an address matches; each entry has one or more patterns.

    The cost of a question grows with the labels of the domain, not with the entries.
    Immutable, picklable, safe to share.
    """

    __slots__ = ("_any", "_domains", "_has_local_parts", "_local_parts", "_suffixes")

    def __init__(self, entries: Iterable[Iterable[Pattern]]) -> None:
        any_domain: list[int] = []
        domains: dict[str, list[int]] = {}
        suffixes: dict[str, list[int]] = {}
        # The same three for entries with a local-part, told apart by the second half of the key.
        local_parts: dict[tuple[str, str], list[int]] = {}
        for index, patterns in enumerate(entries):
            for pattern in patterns:
                if pattern.local_part is not None:
                    places = local_parts.setdefault((pattern.local_part, _domain_key(pattern)), [])
                elif pattern.domain is None:
                    places = any_domain
                else:
                    places = (suffixes if pattern.subdomains else domains).setdefault(pattern.domain, [])
                if not places or places[-1] != index:
                    places.append(index)
        self._any = tuple(any_domain)
        self._domains = {domain: tuple(places) for domain, places in domains.items()}
        self._suffixes = {domain: tuple(places) for domain, places in suffixes.items()}
        self._local_parts = {key: tuple(places) for key, places in local_parts.items()}
        self._has_local_parts = bool(local_parts)

    def first_match(self, local_part: str, domain: str) -> int | None:
        """Return the index of the first entry that matches, or None. Arguments as of Pattern.matches."""
        return min((places[0] for places in self._found(local_part, domain)), default=None)

    def candidates(self, local_part: str, domain: str) -> Sequence[int]:
        """Return the indexes of all entries that match, in their order, each once."""
        found = self._found(local_part, domain)
        if len(found) == 1:
            return found[0]
        return sorted({index for places in found for index in places})

    def _found(self, local_part: str, domain: str) -> list[tuple[int, ...]]:
        found = [self._any] if self._any else []
        if places := self._domains.get(domain):
            found.append(places)
        if self._suffixes:
            for suffix in _suffixes_of(domain):
                if places := self._suffixes.get(suffix):
                    found.append(places)
        if self._has_local_parts:
            folded = local_part.lower()
            for key in (ANY, domain, *("*." + suffix for suffix in _suffixes_of(domain))):
                if places := self._local_parts.get((folded, key)):
                    found.append(places)
        return found


def _domain_key(pattern: Pattern) -> str:
    if pattern.domain is None:
        return ANY
    return f"*.{pattern.domain}" if pattern.subdomains else pattern.domain


def _suffixes_of(domain: str) -> list[str]:
    """Return what remains of ``a.b.c`` as labels go from the left: ``b.c``, ``c``."""
    suffixes = []
    dot = domain.find(".")
    while dot >= 0:
        suffixes.append(domain[dot + 1 :])
        dot = domain.find(".", dot + 1)
    return suffixes
