"""A world of names for tests: what exists, what fails, what is slow.

Owns: the content, and how a question is answered from it. FakeResolver answers from it directly, DnsServer by packets,
so one zone serves unit tests, simulations and whole relays. A name that is not declared does not exist: a test never
reaches the real DNS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Trouble = Literal["SERVFAIL", "REFUSED", "FORMERR", "SILENT", "GARBAGE"]
"""What a broken name brings: a failing answer, none at all, or octets that are no answer."""
Records = Mapping[str, Sequence[str]]
"""Type -> records in their text form: ``{"MX": ["10 mx.example.org."], "TXT": ['"v=spf1 -all"']}``."""

CNAMES_MAX: Final = 8


@dataclass
class Found:
    """How one question is answered."""

    rcode: str
    """NOERROR, NXDOMAIN, or a Trouble."""
    chain: list[tuple[str, str, Sequence[str]]] = field(default_factory=list)
    """Names with the type and records each has: aliases first."""


class Zone:
    """Names and what they have. May be changed at any time."""

    def __init__(self, names: Mapping[str, Records | Trouble] | None = None, *, ttl: int = 300) -> None:
        self.ttl = ttl
        self.delays: dict[str, float] = {}
        """Seconds until the answer about a name."""
        self._names: dict[str, Records | Trouble] = {}
        for name, records in (names or {}).items():
            self.set(name, records)

    def set(self, name: str, records: Records | Trouble) -> None:
        """Declare a name, over what it had."""
        self._names[_plain(name)] = records

    def remove(self, name: str) -> None:
        """Let a name not exist."""
        del self._names[_plain(name)]

    def find(self, name: str, kind: str) -> Found:
        """Answer a question as a recursive server does: aliases followed."""
        name = _plain(name)
        found = Found("NOERROR")
        for _ in range(CNAMES_MAX):
            records = self._names.get(name)
            if records is None:
                # An empty non-terminal exists without records, RFC 8020 section 2.
                above = any(other.endswith(f".{name}") for other in self._names)
                found.rcode = "NOERROR" if above else "NXDOMAIN"
                return found
            if isinstance(records, str):
                return Found(records)
            if kind in records:
                found.chain.append((name, kind, records[kind]))
                return found
            if "CNAME" not in records:
                return found
            found.chain.append((name, "CNAME", records["CNAME"]))
            name = _plain(records["CNAME"][0])
        return Found("SERVFAIL")  # aliases in a circle


def _plain(name: str) -> str:
    return name.rstrip(".").lower()
