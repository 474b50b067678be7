"""A Resolver that answers from a Zone, without packets.

Owns: turning a zone's records into the values of the face. Passes tests/contracts/test_resolver.py, as net/resolve.py
does against testing/dns_server.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
from dns.rdtypes.ANY.TXT import TXT

from postroad.core.faces import Answer, MxHost, NameNotFound, NameTrouble
from postroad.testing.zone import Zone


class FakeResolver:
    """Answers at once, or after the zone's delay on the event loop's clock."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: list[tuple[str, str]] = []
        """Name and type of every question, in order."""

    async def mx(self, domain: str) -> tuple[Sequence[MxHost], Answer]:
        if _is_localhost(domain):
            return (), self._answer()
        records = await self._find(domain, "MX")
        pairs = [record.split() for record in records]
        return tuple(MxHost(int(preference), host.rstrip(".").lower()) for preference, host in pairs), self._answer()

    async def addresses(self, host: str) -> tuple[Sequence[str], Answer]:
        if _is_localhost(host):
            return ("::1", "127.0.0.1"), self._answer()
        found = await asyncio.gather(self._find(host, "AAAA"), self._find(host, "A"), return_exceptions=True)
        addresses = [address for records in found if not isinstance(records, BaseException) for address in records]
        for records in found:
            if isinstance(records, BaseException) and not addresses:
                raise records
        return tuple(addresses), self._answer()

    async def names(self, address: str) -> tuple[Sequence[str], Answer]:
        try:
            name = dns.reversename.from_address(address).to_text()
        except dns.exception.SyntaxError:
            raise NameNotFound(f"{address!r} is not an IP address") from None
        records = await self._find(name, "PTR")
        return tuple(record.rstrip(".").lower() for record in records), self._answer()

    async def texts(self, name: str) -> tuple[Sequence[bytes], Answer]:
        records = await self._find(name, "TXT")
        return tuple(_text(record) for record in records), self._answer()

    def _answer(self) -> Answer:
        return Answer(float(max(5, min(self.zone.ttl, 3600))))

    async def _find(self, name: str, kind: str) -> Sequence[str]:
        self.asked.append((name, kind))
        if not name.isascii() or len(name) > 253 or any(not 0 < len(part) < 64 for part in name.rstrip(".").split(".")):
            raise NameNotFound(f"{name!r} is no name that the DNS can hold")
        if delay := self.zone.delays.get(name, 0.0):
            await asyncio.sleep(delay)
        found = self.zone.find(name, kind)
        if found.rcode == "NXDOMAIN":
            raise NameNotFound(f"{name} does not exist")
        if found.rcode != "NOERROR":
            raise NameTrouble(f"{name}: {found.rcode}")
        return next((records for _, of, records in found.chain if of == kind), ())[:100]


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _text(record: str) -> bytes:
    parsed = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, record)
    assert isinstance(parsed, TXT)
    return b"".join(parsed.strings)
