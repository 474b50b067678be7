"""Facts as rows of a segment, and back.

Owns: which facts stand in one row, how they are encoded, which addresses lead to a row. Pure. Does not own: the SQL
(segment.py), when rows are written (segments.py).

All facts of one message in one batch are one row: a MessagePack array of the tagged structs, in the order in which they
happened. What a newer version has written and this one does not know is skipped and counted, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from postroad.core import facts
from postroad.core.address import AddressError, parse_mailbox
from postroad.core.facts import AnyFact
from postroad.observe.kinds import KINDS

HASH_OCTETS: Final = 8
"""Of an address in the index. What is found by a hash is compared before it is shown."""
_REMEMBERED: Final = 8192  # addresses whose hash is remembered

_Addresses = Callable[[Any], Iterable[str]]


class Row(NamedTuple):
    """One row to be written."""

    message: int | None
    at: float
    """Of its first fact."""
    facts: bytes
    addresses: set[bytes]
    """Hashes of the addresses that lead here."""


class _Plan(NamedTuple):
    has_message: bool
    addresses: _Addresses


def _plan(kind: type[facts.Fact]) -> _Plan | None:
    """Return how facts of a kind become rows; None: they do not."""
    if not KINDS[kind].is_stored:
        return None
    names = {field.name for field in msgspec.structs.fields(kind)}
    if kind is facts.Received:
        return _Plan(True, lambda fact: (fact.sender, *fact.recipients))
    if {"sender", "recipient"} <= names:
        return _Plan("message" in names, lambda fact: (fact.sender, fact.recipient))
    if "recipient" in names:
        return _Plan("message" in names, lambda fact: (fact.recipient,))
    return _Plan("message" in names, lambda _: ())


_PLANS: Final = {kind: _plan(kind) for kind in facts.KINDS}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[AnyFact]).decode
_decode_one: Final = msgspec.msgpack.Decoder(AnyFact).decode
_split: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def rows_of(batches: Iterable[Sequence[AnyFact]]) -> list[Row]:
    """Return rows for facts, in the order of the first fact of each."""
    groups: dict[int, tuple[int | None, list[AnyFact], set[str]]] = {}
    for batch in batches:
        for fact in batch:
            plan = _PLANS[type(fact)]
            if plan is None:
                continue
            message: int | None = fact.message if plan.has_message else None  # type: ignore[union-attr]
            key = message if message is not None else -1 - len(groups)  # ids are positive
            group = groups.get(key)
            if group is None:
                group = groups[key] = (message, [], set())
            group[1].append(fact)
            group[2].update(plan.addresses(fact))
    return [
        Row(message, found[0].at, _encoded(found), {address_hash(address) for address in addresses if address})
        for message, found, addresses in groups.values()
    ]


def _encoded(found: list[AnyFact]) -> bytes:
    try:
        return _encode(found)
    except UnicodeEncodeError:  # half a surrogate, from a file name perhaps
        return _encode([_mended(msgspec.to_builtins(fact)) for fact in found])


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _mended(inner) for name, inner in value.items()}
    return [_mended(inner) for inner in value] if isinstance(value, list | tuple) else value


def addresses_of(fact: AnyFact) -> Iterable[str | None]:
    """Return the addresses by which a fact is found; None or empty: the null path."""
    plan = _PLANS.get(type(fact))
    return plan.addresses(fact) if plan is not None else ()


def address_key(address: str) -> str:
    """Return a text that is equal for two addresses exactly when they are the same mailbox (core/address.py)."""
    try:
        local_part, domain = parse_mailbox(address).key
    except AddressError:  # the bare Postmaster, or what a client wrote and we refused
        return address.casefold()
    return f"{local_part}@{domain}"


@lru_cache(maxsize=_REMEMBERED)
def address_hash(address: str) -> bytes:
    """Return HASH_OCTETS for an address; the same on every machine, for ever: it is stored."""
    return blake2b(address_key(address).encode("utf-8", "surrogatepass"), digest_size=HASH_OCTETS).digest()


def unpack(octets: bytes) -> tuple[list[AnyFact], int]:
    """Return the facts of a row, and how many more there are of which this version knows nothing."""
    try:
        return _decode(octets), 0
    except msgspec.DecodeError:
        pass
    known: list[AnyFact] = []
    try:
        parts = _split(octets)
    except msgspec.DecodeError:
        return [], 1
    for part in parts:
        try:
            known.append(_decode_one(part))
        except msgspec.DecodeError:
            continue
    return known, len(parts) - len(known)
