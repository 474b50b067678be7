"""Whether a message fits a server, by what the server offered; decided before a word is said.

Owns: SIZE, 8BITMIME, BINARYMIME, SMTPUTF8, CHUNKING as questions about one message. Does not
own: conversion to what the server takes (there is none: it fails with 5.6.3, 5.6.7, 5.3.4),
reading the content (outbound/content.py answers the questions asked here).

The content is looked at only where the offers make it matter, so that nearly every message
costs nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from typing import Final

import msgspec

from postroad.core.envelope import Body, Envelope
from postroad.core.reply import Reply
from postroad.smtp.client_commands import needs_utf8
from postroad.smtp.offers import Offers

TOO_BIG_FOR_NEXT_HOP: Final = Reply(552, (3, 4), "Message is larger than the next hop takes")
EIGHT_BIT_NOT_OFFERED: Final = Reply(554, (6, 3), "The next hop takes no 8-bit content (8BITMIME)")
BINARY_NOT_OFFERED: Final = Reply(554, (6, 3), "The next hop takes no binary content (BINARYMIME)")
SMTPUTF8_NOT_OFFERED: Final = Reply(553, (6, 7), "The next hop takes no internationalised addresses (SMTPUTF8)")
"""RFC 6531 section 3.5 has this status for such a message."""


class Question(IntFlag):
    """What must be known of the content."""

    NONE = 0
    EIGHT_BIT = 1  # are there octets above 127?
    EIGHT_BIT_HEADER = 2  # ... in the header?
    FINAL_CRLF = 4  # does it end with CRLF?


class Traits(msgspec.Struct, frozen=True):
    """The answers; what was not asked keeps its default."""

    eight_bit: bool = False
    eight_bit_header: bool = False
    final_crlf: bool = True


PLAIN: Final = Traits()


class Fit(msgspec.Struct, frozen=True):
    """How the message goes to this server, and to whom it cannot."""

    refused: dict[int, Reply]
    """Recipient number -> our verdict."""
    utf8: bool = False
    """Say SMTPUTF8."""
    by_chunk: bool = False
    """Send by BDAT, RFC 3030 section 2: DATA would change the content."""


def questions(envelope: Envelope, offers: Offers) -> Question:
    """Return what must be known of the content before ``fit`` can judge."""
    asked = Question.FINAL_CRLF if offers.chunking and envelope.body is not Body.BINARY else Question.NONE
    if envelope.body is Body.EIGHT_BIT and not offers.eight_bit:
        asked |= Question.EIGHT_BIT
    if envelope.smtputf8 and not offers.smtputf8:
        asked |= Question.EIGHT_BIT_HEADER
    return asked


def fit(envelope: Envelope, numbers: Sequence[int], offers: Offers, size: int, traits: Traits) -> Fit:
    """Judge the message for the recipients ``numbers``. ``size``: octets of content."""
    whole = _refuse_whole(envelope, offers, size, traits)
    if whole is not None:
        return Fit(dict.fromkeys(numbers, whole))
    by_chunk = envelope.body is Body.BINARY or (offers.chunking and not traits.final_crlf)
    recipients = envelope.recipients
    if offers.smtputf8:
        utf8 = envelope.smtputf8 or _is_international(envelope, numbers)
        return Fit({}, utf8, by_chunk)
    refused = {number: SMTPUTF8_NOT_OFFERED for number in numbers if needs_utf8(recipients[number].mailbox)}
    return Fit(refused, False, by_chunk)


def _refuse_whole(envelope: Envelope, offers: Offers, size: int, traits: Traits) -> Reply | None:
    if offers.size_max and size > offers.size_max:
        return TOO_BIG_FOR_NEXT_HOP
    if envelope.body is Body.BINARY and not offers.binary:
        return BINARY_NOT_OFFERED
    if envelope.body is Body.EIGHT_BIT and not offers.eight_bit and traits.eight_bit:
        return EIGHT_BIT_NOT_OFFERED
    if not offers.smtputf8:
        # What was announced with SMTPUTF8 and needs none of it may go without: it is an ordinary message.
        if envelope.smtputf8 and traits.eight_bit_header:
            return SMTPUTF8_NOT_OFFERED
        if envelope.sender is not None and needs_utf8(envelope.sender):
            return SMTPUTF8_NOT_OFFERED
    return None


def _is_international(envelope: Envelope, numbers: Sequence[int]) -> bool:
    if envelope.sender is not None and not envelope.sender.is_ascii:
        return True
    recipients = envelope.recipients
    return any(not recipients[number].mailbox.is_ascii for number in numbers)
