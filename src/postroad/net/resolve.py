"""The Resolver face: names become addresses, MX hosts, texts; asked of recursive servers, and remembered.

Owns: the cache, sharing lookups in flight, tries over servers, what each kind of answer means. Does not own: packets
(net/dns_query.py), which servers (net/name_servers.py), what an MX answer means for mail (policy/hosts.py).

A lookup costs about half a millisecond of CPU, so each is done once: whoever asks while it is under way waits for the
same answer, also when the first to ask has gone. Passes tests/contracts/test_resolver.py, as does the shipped fake.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename

from postroad.core.faces import Answer, Dice, MxHost, NameNotFound, NameTrouble
from postroad.core.units import HOUR, MINUTE
from postroad.net.dns_query import PAYLOAD_MAX, QueryFailed, ask
from postroad.net.name_servers import NameServers

TTL_MIN: Final = 5.0
"""Seconds that any answer is kept, so that a TTL of 0 does not mean a lookup per message."""
TTL_MAX: Final = 1 * HOUR
"""Seconds that any answer is kept at most: a mistake somebody mends in the DNS reaches us within the hour."""
NEGATIVE_TTL_MAX: Final = 5 * MINUTE
"""Seconds that "no such name" and "no such records" are kept at most; RFC 2308 section 5 allows more."""
FAILURE_TTL: Final = 5.0
"""Seconds that a failure is kept, so that a dead zone does not cost a time-out per message."""
CACHE_MAX: Final = 10_000
"""Answers kept; about 1 KiB each."""
IN_FLIGHT_MAX: Final = 200
"""Lookups under way at once, a socket each; further ones wait their turn."""
RECORDS_MAX: Final = 100
"""Records of one answer that count: nobody needs more, and what follows from them stays bounded."""
ROUNDS: Final = 2
"""How often each server is asked."""
_TRY_MIN: Final = 1.0
"""Seconds that one try waits at least: a server that has to ask around needs some."""

Record = Any
"""One of dnspython's rdata; its fields are typed by the kind that was asked for."""


class _Found(NamedTuple):
    """What a lookup brought. ``missing`` and ``trouble`` say why there are no records, where that is no answer."""

    records: tuple[Record, ...]
    expires_at: float
    missing: bool = False
    trouble: str = ""


class DnsResolver:
    """A caching stub resolver. ``timeout``: seconds for one answer of one server; a lookup takes twice that at most."""

    def __init__(self, servers: NameServers, *, timeout: float, dice: Dice, time: Callable[[], float]) -> None:
        """``time`` is the event loop's."""
        self._servers = servers
        self._timeout = timeout
        self._dice = dice
        self._time = time
        self._cache: OrderedDict[tuple[dns.name.Name, dns.rdatatype.RdataType], _Found] = OrderedDict()
        self._in_flight: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], asyncio.Task[_Found]] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def mx(self, domain: str) -> tuple[Sequence[MxHost], Answer]:
        if is_localhost(domain):
            return (), Answer(TTL_MAX)
        records, answer = await self._records(_parse(domain), dns.rdatatype.MX)
        return tuple(MxHost(record.preference, _text(record.exchange)) for record in records), answer

    async def addresses(self, host: str) -> tuple[Sequence[str], Answer]:
        if is_localhost(host):
            return ("::1", "127.0.0.1"), Answer(TTL_MAX)  # RFC 6761 section 6.3: never asked
        name = _parse(host)
        asked = self._begin(name, dns.rdatatype.AAAA), self._begin(name, dns.rdatatype.A)  # both are under way now
        six, four = await _finish(asked[0]), await _finish(asked[1])
        found = [*six.records, *four.records]
        if not found:
            for one in (six, four):
                _raise_unless_answer(host, one)
        # One family in trouble does not take the other away; it is looked up again soon.
        expires_at = min(six.expires_at, four.expires_at)
        return tuple(record.address for record in found), Answer(self._left(expires_at))

    async def names(self, address: str) -> tuple[Sequence[str], Answer]:
        try:
            name = dns.reversename.from_address(str(ipaddress.ip_address(address)))
        except (ValueError, dns.exception.DNSException):
            raise NameNotFound(f"{address!r} is not an IP address") from None
        records, answer = await self._records(name, dns.rdatatype.PTR)
        return tuple(_text(record.target) for record in records), answer

    async def texts(self, name: str) -> tuple[Sequence[bytes], Answer]:
        records, answer = await self._records(_parse(name), dns.rdatatype.TXT)
        return tuple(b"".join(record.strings) for record in records), answer

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the cache ---

    async def _records(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> tuple[tuple[Record, ...], Answer]:
        found = await _finish(self._begin(name, kind))
        _raise_unless_answer(_text(name), found)
        return found.records, Answer(self._left(found.expires_at))

    def _left(self, expires_at: float) -> float:
        return max(0.0, expires_at - self._time())

    def _begin(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> _Found | asyncio.Task[_Found]:
        """Return what is known, or the lookup that is under way now."""
        key = (name, kind)
        found = self._cache.get(key)
        if found is not None and found.expires_at > self._time():
            self._cache.move_to_end(key)
            return found
        task = self._in_flight.get(key)
        if task is None:
            task = self._in_flight[key] = asyncio.ensure_future(self._look_up(name, kind))
            task.add_done_callback(lambda done: self._on_found(key, done))
        return task

    def _on_found(self, key: tuple[dns.name.Name, dns.rdatatype.RdataType], task: asyncio.Task[_Found]) -> None:
        del self._in_flight[key]
        if not task.cancelled() and task.exception() is None:
            self._cache[key] = task.result()
            self._cache.move_to_end(key)
            if len(self._cache) > CACHE_MAX:
                self._cache.popitem(last=False)

    # --- asking ---

    async def _look_up(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> _Found:
        async with self._slots:
            servers = self._servers.current()
            patience = min(self._timeout, max(_TRY_MIN, self._timeout / len(servers)))
            why = ""
            for _ in range(ROUNDS):
                silent = False
                for server in servers:
                    try:
                        response = await self._ask(server, name, kind, patience)
                        return self._read(response)
                    except QueryFailed as error:
                        why, silent = str(error), True
                    except _Unhelpful as error:
                        why = f"{server} says {error}"
                if not silent:  # all have answered; to ask again at once brings the same
                    break
        return _Found((), self._time() + FAILURE_TTL, trouble=why)

    async def _ask(
        self, server: Any, name: dns.name.Name, kind: dns.rdatatype.RdataType, patience: float
    ) -> dns.message.Message:
        response = await ask(server, self._query(name, kind, edns=True), timeout=patience)
        if response.rcode() == dns.rcode.FORMERR:  # a server from before EDNS, RFC 6891 section 7
            response = await ask(server, self._query(name, kind, edns=False), timeout=patience)
        return response

    def _query(self, name: dns.name.Name, kind: dns.rdatatype.RdataType, *, edns: bool) -> dns.message.Message:
        # An id of 16 bits that nobody can guess, of the house's dice so that a simulation repeats itself.
        query = dns.message.make_query(name, kind, id=int.from_bytes(self._dice.token(2)))
        if edns:
            query.use_edns(0, payload=PAYLOAD_MAX)
        return query

    def _read(self, response: dns.message.Message) -> _Found:
        """Return what the response says.

        Raises:
            _Unhelpful: nothing about the name.
        """
        rcode = response.rcode()
        if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(response, dns.message.QueryMessage):
            raise _Unhelpful(dns.rcode.to_text(rcode))
        try:
            chain = response.resolve_chaining()
        except dns.exception.DNSException as error:  # aliases in a circle, records for a name that does not exist
            raise _Unhelpful(f"what makes no sense: {error}") from error
        records = tuple(chain.answer)[:RECORDS_MAX] if chain.answer is not None else ()
        seconds = max(TTL_MIN, min(float(chain.minimum_ttl), TTL_MAX if records else NEGATIVE_TTL_MAX))
        return _Found(records, self._time() + seconds, missing=rcode == dns.rcode.NXDOMAIN)


class _Unhelpful(Exception):
    """A response that says nothing about the name: SERVFAIL, REFUSED."""


async def _finish(begun: _Found | asyncio.Task[_Found]) -> _Found:
    # Shielded: others may wait for the same lookup, and its answer is kept in any case.
    return begun if isinstance(begun, _Found) else await asyncio.shield(begun)


def is_localhost(name: str) -> bool:
    """True for ``localhost`` and what is under it, RFC 6761 section 6.3."""
    return name == "localhost" or name.endswith(".localhost")


def _parse(name: str) -> dns.name.Name:
    try:
        return dns.name.from_text(name) if name.isascii() else _no_name(name)
    except dns.exception.DNSException:
        return _no_name(name)


def _no_name(name: str) -> dns.name.Name:
    raise NameNotFound(f"{name!r} is no name that the DNS can hold")


def _text(name: dns.name.Name) -> str:
    """Return a name as faces give it; the root is empty."""
    return name.to_text(omit_final_dot=True).lower() if len(name) > 1 else ""


def _raise_unless_answer(name: str, found: _Found) -> None:
    if found.trouble:
        raise NameTrouble(f"{name}: {found.trouble}")
    if found.missing:
        raise NameNotFound(f"{name} does not exist")
