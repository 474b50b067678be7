"""From the face's values to rows and back, and the hashes that tell whether a row is what we wrote.

Owns: how an envelope and an outcome are encoded, what each hash covers, which damage a row can show.
Does not own: SQL (store_*.py), what follows when a row is damaged (recovery.py).

Keep in step with schema.sql: the tuples here are its columns in their order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from postroad.core.envelope import Envelope
from postroad.core.ids import MessageId, format_id
from postroad.core.outcome import DeliveryState, Outcome
from postroad.spool.face import Delivery, NewMessage, QueuedMessage, SpoolFile

HASH_OCTETS: Final = 16
"""Length of a BLAKE2b digest here: chance damage goes unseen once in 2**128."""

_encode_envelope: Final = msgspec.msgpack.Encoder().encode
_decode_envelope: Final = msgspec.msgpack.Decoder(Envelope).decode
encode_outcome: Final = msgspec.msgpack.Encoder().encode
_decode_outcome: Final = msgspec.msgpack.Decoder(Outcome).decode
_pack_head: Final = struct.Struct(">qdqq").pack
_DUE: Final = DeliveryState.DUE
_STATES: Final = {int(state): state for state in DeliveryState}

MessageRow = tuple[int, float, int, int, bytes, bytes, bytes]
DeliveryRow = tuple[int, int, str, int, float, int]
"""Columns of a new delivery: the others are constants."""


class RowDamaged(Exception):
    """A row does not hold what we wrote. The text says what is wrong."""


class HeadRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of table message as store_read.py reads it: binary columns in hexadecimal."""

    id: int
    received_at: float
    size: int
    in_file: int
    content_hash: str
    head_hash: str
    envelope: str


class WaitingRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of table delivery as store_read.py reads it: text and binary columns in hexadecimal."""

    message: int
    number: int
    domain: str
    priority: int
    state: int
    attempts: int
    due_at: float
    warned: int
    last: str


class Head(msgspec.Struct, frozen=True):
    """A message without its deliveries, checked."""

    id: MessageId
    received_at: float
    size: int
    in_file: bool
    content_hash: bytes
    envelope: Envelope


def hash_of(octets: bytes) -> bytes:
    return blake2b(octets, digest_size=HASH_OCTETS).digest()


def body_name(message: int) -> str:
    """Return the name of the message's content file."""
    return format_id(message)


def _head_hash(
    message: int, received_at: float, size: int, in_file: int, content_hash: bytes, envelope: bytes
) -> bytes:
    return blake2b(
        _pack_head(message, received_at, size, in_file) + content_hash + envelope, digest_size=HASH_OCTETS
    ).digest()


def message_row(message: NewMessage) -> MessageRow:
    """Return the row of table message."""
    content = message.content
    if isinstance(content, SpoolFile):
        size, in_file, content_hash = content.size, 1, content.hash
    else:
        size, in_file, content_hash = len(content), 0, blake2b(content, digest_size=HASH_OCTETS).digest()
    envelope = _encode_envelope(message.envelope)
    head_hash = _head_hash(message.id, message.received_at, size, in_file, content_hash, envelope)
    return (message.id, message.received_at, size, in_file, content_hash, head_hash, envelope)


def new_deliveries(message: NewMessage) -> tuple[Delivery, ...]:
    """Return the deliveries of a message that has just come in: all due at once.

    Where a delay may not be reported (NOTIFY without DELAY, null reverse-path) they count as warned.
    """
    envelope, identifier, due_at = message.envelope, message.id, message.received_at
    never_warned = envelope.sender is None
    return tuple(
        Delivery(
            identifier,
            number,
            recipient.mailbox.ascii_domain,
            envelope.priority,
            _DUE,
            0,
            due_at,
            never_warned or not recipient.wants_delay,
            None,
        )
        for number, recipient in enumerate(envelope.recipients)
    )


def delivery_row(delivery: Delivery) -> DeliveryRow:
    """Return the columns of a new row of table delivery."""
    return (
        delivery.message,
        delivery.number,
        delivery.domain,
        delivery.priority,
        delivery.due_at,
        1 if delivery.warned else 0,
    )


def read_head(row: HeadRow) -> Head:
    """Return the message that a row of table message holds.

    Raises:
        RowDamaged: it is not what we wrote.
    """
    envelope, content_hash = bytes.fromhex(row.envelope), bytes.fromhex(row.content_hash)
    if bytes.fromhex(row.head_hash) != _head_hash(
        row.id, row.received_at, row.size, row.in_file, content_hash, envelope
    ):
        raise RowDamaged("the hash of the message's row and envelope differs")
    try:
        decoded = _decode_envelope(envelope)
    except msgspec.MsgspecError as error:
        raise RowDamaged(f"the envelope cannot be read: {error}") from error
    return Head(MessageId(row.id), row.received_at, row.size, bool(row.in_file), content_hash, decoded)


def read_delivery(row: WaitingRow, envelope: Envelope) -> Delivery:
    """Return the delivery that a row of table delivery holds, checked against its message's envelope.

    Raises:
        RowDamaged: it is not what we wrote.
    """
    if not 0 <= row.number < len(envelope.recipients):
        raise RowDamaged(f"recipient {row.number} is not in the envelope")
    domain = envelope.recipients[row.number].mailbox.ascii_domain
    if bytes.fromhex(row.domain) != domain.encode() or row.priority != envelope.priority:
        raise RowDamaged(f"domain or priority of recipient {row.number} is not that of the envelope")
    state = _STATES.get(row.state)
    if state is None or row.attempts < 0:
        raise RowDamaged(f"recipient {row.number} is in a state that does not exist")
    try:
        last = _decode_outcome(bytes.fromhex(row.last)) if row.last else None
    except msgspec.MsgspecError as error:
        raise RowDamaged(f"the last outcome of recipient {row.number} cannot be read: {error}") from error
    return Delivery(
        MessageId(row.message),
        row.number,
        domain,
        row.priority,
        state,
        row.attempts,
        row.due_at,
        bool(row.warned),
        last,
    )


def queued(head: Head, deliveries: Sequence[Delivery]) -> QueuedMessage:
    return QueuedMessage(head.id, head.envelope, head.received_at, head.size, tuple(deliveries))
