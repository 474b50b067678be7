"""A message as programs hand it to sendmail(8), made fit to travel: line ends, missing fields, blind copies.

Owns: where the message ends, CRLF, From, Date and Message-ID where they are missing, taking Bcc away, recipients from
the header (``-t``). Does not own: the envelope's addresses (sendmail_address.py), dot-stuffing (sendmail_client.py).
Every octet that is neither a line end nor one of these fields stays as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

MESSAGE_MAX: Final = 512 * 1024 * 1024
"""Octets that are read: no relay takes more, and a runaway program must not fill the memory."""
PIECE: Final = 256 * 1024
_LINE_END: Final = re.compile(rb"\r*\n|\r")
"""Some write CR CR LF: one line end. A CR alone is one too: mail has no other use of it (RFC 5322 section 2.3)."""
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")
_ENVELOPE_LINE: Final = re.compile(rb">?From .*\r\n")
"""What mbox files have above a message."""
_BLIND: Final = frozenset({b"bcc", b"resent-bcc"})


class TooLargeError(Exception):
    """More than MESSAGE_MAX."""


def read_message(stream: BinaryIO, *, dot_ends: bool) -> bytes:
    """Return the message: to the end of the input, or to a line with a single dot. Raises TooLargeError, OSError."""
    pieces = []
    size = 0
    starts_line = True
    while piece := stream.readline(PIECE) if dot_ends else stream.read(PIECE):
        if dot_ends and starts_line and piece in (b".\n", b".\r\n", b"."):
            break
        starts_line = piece.endswith(b"\n")
        size += len(piece)
        if size > MESSAGE_MAX:
            raise TooLargeError
        pieces.append(piece)
    return b"".join(pieces)


class Message:
    """One message, taken apart: the fields of its header, and all the rest."""

    def __init__(self, octets: bytes) -> None:
        octets = _LINE_END.sub(b"\r\n", octets)
        if octets and not octets.endswith(b"\r\n"):
            octets += b"\r\n"
        if line := _ENVELOPE_LINE.match(octets):
            octets = octets[line.end() :]
        self.fields: list[tuple[bytes, bytes]] = []
        """Name in lower case, and the whole field with its line ends."""
        at = 0
        for name, start, end in _fields(octets):
            self.fields.append((name, octets[start:end]))
            at = end
        self.body = octets[at:].removeprefix(b"\r\n")

    def has(self, name: bytes) -> bool:
        return any(each == name for each, _ in self.fields)

    def values(self, *names: bytes) -> list[str]:
        """Return the unfolded values of the fields of these names, in order."""
        found = [field.partition(b":")[2] for name, field in self.fields if name in names]
        return [value.replace(b"\r\n", b"").decode("utf-8", "surrogateescape").strip() for value in found]

    def recipients(self) -> list[str]:
        """Return the values of the fields that name recipients: of a resent message those of the latest sending."""
        resent = [name for name, _ in self.fields if name.startswith(b"resent-")]
        prefix = b"resent-" if resent else b""
        return self.values(prefix + b"to", prefix + b"cc", prefix + b"bcc")

    def add(self, name: str, value: str) -> None:
        """Put a field on top, if there is none of that name."""
        key = name.lower().encode()
        if not self.has(key):
            self.fields.insert(0, (key, f"{name}: {value}\r\n".encode()))

    def as_bytes(self) -> bytes:
        """Return the message as it travels, blind copies left out."""
        kept = b"".join(field for name, field in self.fields if name not in _BLIND)
        return kept + b"\r\n" + self.body


def _fields(octets: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each field until the header ends: by a blank line, or a line that is no field."""
    at = 0
    while (field := _FIELD.match(octets, at)) is not None:
        end = octets.find(b"\r\n", at) + 2
        if not end - 2 > at:
            return
        while octets[end : end + 1] in (b" ", b"\t"):
            end = octets.find(b"\r\n", end) + 2
        yield field[1].lower(), at, end
        at = end
