"""What we mend in a message that its author hands in (role submission), and nothing more.

Owns: the fix-ups of RFC 6409 section 8 that we make: a missing Date or Message-ID is added
(sections 8.2 and 8.3), Bcc and Resent-Bcc are taken away (RFC 5322 section 3.6.3). Does not own: when they apply
(inbound), any other rewriting. Every octet that is not one of these fields stays as it came.

New fields go on top, where they are fields whatever stands below: also above content without any header.
(Only a first line that starts with white space stays above them: it would continue the last of them.)
A field that is there but wrong stays: the author may have signed it. A Bcc is taken away wherever a
reader could take it for one: up to the blank line, even behind lines that are no fields.
"""

from __future__ import annotations

import re
from typing import Final

from postroad.core.ids import MessageId, format_id
from postroad.mail.headers import HEADER_MAX, find_fields, find_header_end
from postroad.mail.received import format_date

_BLIND: Final = (b"bcc", b"resent-bcc")
_PLAIN: Final = rb"(?:(date)|(message-id)|(?:resent-)?(bcc))[ \t]*:"
_FIRST: Final = re.compile(_PLAIN, re.IGNORECASE)
_WANTED: Final = re.compile(rb"\r\n" + _PLAIN, re.IGNORECASE)
_ORPHAN: Final = re.compile(rb"[ \t][^\r]*(?:\r(?!\n(?![ \t]))[^\r]*)*\r\n")


class HeaderTooLong(ValueError):
    """The header has no end within headers.HEADER_MAX: a blind copy behind it would be left in. Refuse: 552 5.3.4."""


def mend(octets: bytes, message: MessageId, *, hostname: str, now: float) -> bytes:
    """Return the message, or its beginning, with the fix-ups made.

    Args:
        octets: the content, or any beginning of it that holds the whole header.
        message: our id of it, of which a missing Message-ID is made.
        now: seconds since the epoch, UTC, for a missing Date.

    Raises:
        HeaderTooLong: there are HEADER_MAX octets and the header goes on.
    """
    end = find_header_end(octets)
    if end < 0:
        if len(octets) >= HEADER_MAX:
            raise HeaderTooLong(f"no blank line within {HEADER_MAX} octets")
        end = len(octets)
    seen = {match.lastindex for match in _WANTED.finditer(octets, 0, end)}
    if first := _FIRST.match(octets, 0, end):
        seen.add(first.lastindex)
    added = b""
    if 1 not in seen:
        added = f"Date: {format_date(now)}\r\n".encode("ascii")
    if 2 not in seen:
        added += b"Message-ID: " + new_message_id(message, hostname) + b"\r\n"
    if 3 in seen:
        octets = _without_blind(octets, end)
    if not added:
        return octets
    at = orphan.end() if (orphan := _ORPHAN.match(octets, 0, end)) else 0
    return octets[:at] + added + octets[at:]


def new_message_id(message: MessageId, hostname: str) -> bytes:
    """Return a msg-id (RFC 5322 section 3.6.4), unique because our ids are."""
    return f"<{format_id(message)}@{hostname}>".encode("ascii")


def _without_blind(octets: bytes, end: int) -> bytes:
    spans = sorted((found.start, found.end) for name in _BLIND for found in find_fields(octets, name, end))
    kept, at = [], 0
    for start, stop in spans:
        kept.append(octets[at:start])
        at = stop
    kept.append(octets[at:])
    return b"".join(kept)
