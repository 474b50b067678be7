"""SMTP replies as values, and every reply that we ever send, by name.

Owns: the shape of a reply, how it becomes octets, the constants.
Does not own: which reply answers which command (smtp/server.py, inbound), how the
replies of others are read (smtp/replies.py).

To change what a client is told, change it here: docs and tests read this file.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

LINE_MAX: Final = 512
"""Octets in one reply line, code and CRLF included. RFC 5321 section 4.5.3.1.5."""
LINES_MAX: Final = 100
"""Lines in one reply that we keep of a peer's; more are read and dropped. Large EHLO answers have about 25."""


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """One complete SMTP reply, RFC 5321 section 4.2.

    ``detail`` holds subject and detail of the enhanced status code (RFC 3463
    section 2). Its class digit is not stored: RFC 2034 section 4 says it equals the
    first digit of ``code``, so it is derived and the two cannot disagree. None for 3xx
    replies, the greeting and EHLO. Lines of ``text`` are separated by newlines.
    """

    code: int
    detail: tuple[int, int] | None
    text: str

    @property
    def is_positive(self) -> bool:
        return self.code < 400

    @property
    def is_transient(self) -> bool:
        """True if the client should try the same thing later (4yz)."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    @property
    def status(self) -> str:
        """The enhanced status code, e.g. ``5.1.1``; ``5.0.0`` where none was said (RFC 3463 section 3.1)."""
        subject, detail = self.detail or (0, 0)
        return f"{self.code // 100}.{subject}.{detail}"

    def __str__(self) -> str:
        """The reply in one line, as logs and reports show it."""
        prefix = f"{self.status} " if self.detail else ""
        return f"{self.code} {prefix}{self.text}".replace("\n", " / ")

    def to_wire(self) -> bytes:
        """Return the octets of the reply, the final CRLF included; no line is longer than LINE_MAX."""
        return _wire(self)

    def with_text(self, text: str) -> Reply:
        """Return the same verdict in other words."""
        return Reply(self.code, self.detail, text)


@lru_cache(maxsize=512)
def _wire(reply: Reply) -> bytes:
    # Nearly all replies are one of the constants below or an answer to EHLO, said again and again.
    prefix = f"{reply.status} " if reply.detail is not None else ""
    *first, last = reply.text.split("\n")
    lines = [_line(reply.code, "-", prefix, line) for line in first]
    return b"".join((*lines, _line(reply.code, " ", prefix, last)))


def _line(code: int, separator: str, prefix: str, text: str) -> bytes:
    # Text may quote what a client sent. CR, LF and NUL must not break out of the line; UTF-8 is for SMTPUTF8 clients
    # only (RFC 6531 section 3.7.4.1), and a question mark serves everybody.
    line = f"{code}{separator}{prefix}{text}".encode("ascii", "replace").translate(_CONTROLS_SHOWN)
    return line[: LINE_MAX - 2] + b"\r\n"


_CONTROLS_SHOWN: Final = bytes(octet if 32 <= octet < 127 else ord("?") for octet in range(256))

# --- positive --------------------------------------------------------------------------------------
OK: Final = Reply(250, (0, 0), "Ok")
SENDER_OK: Final = Reply(250, (1, 0), "Sender ok")
RECIPIENT_OK: Final = Reply(250, (1, 5), "Recipient ok")
QUEUED: Final = Reply(250, (6, 0), "Queued")
READY_FOR_DATA: Final = Reply(354, None, "End data with <CR><LF>.<CR><LF>")
AUTHENTICATED: Final = Reply(235, (7, 0), "Authentication successful")
READY_FOR_TLS: Final = Reply(220, (0, 0), "Ready to start TLS")
BYE: Final = Reply(221, (0, 0), "Bye")
CANNOT_VERIFY: Final = Reply(252, (5, 2), "Cannot verify the user, but will take mail and try to deliver it")
HELP: Final = Reply(214, (0, 0), "This is Postroad, an SMTP relay. See RFC 5321")

# --- the client's commands are wrong -----------------------------------------------------------------
UNKNOWN_COMMAND: Final = Reply(500, (5, 2), "Command not recognised")
LINE_TOO_LONG: Final = Reply(500, (5, 6), "Line too long")
BAD_SYNTAX: Final = Reply(501, (5, 4), "Syntax error in parameters")
BAD_ADDRESS: Final = Reply(501, (1, 3), "Bad address syntax")
BAD_SENDER_ADDRESS: Final = Reply(501, (1, 7), "Bad sender address syntax")
BAD_DOMAIN_NAME: Final = Reply(501, (5, 2), "EHLO needs a domain name or an address literal")
NOT_SUPPORTED: Final = Reply(502, (5, 1), "Command not supported")
BAD_SEQUENCE: Final = Reply(503, (5, 1), "Command out of sequence")
NO_VALID_RECIPIENTS: Final = Reply(554, (5, 1), "No valid recipients")
UNKNOWN_PARAMETER: Final = Reply(555, (5, 4), "Parameter not recognised or not supported")
NEEDS_SMTPUTF8: Final = Reply(553, (6, 7), "A non-ASCII address needs SMTPUTF8 in MAIL")
NUL_IN_COMMAND: Final = Reply(500, (5, 2), "A command must not contain NUL")
TLS_ALREADY: Final = Reply(503, (5, 1), "TLS is already active")
TLS_NOT_AVAILABLE: Final = Reply(454, (7, 0), "TLS is not available now")
TLS_FIRST: Final = Reply(530, (7, 0), "Must issue a STARTTLS command first")
AUTH_NOT_OFFERED: Final = Reply(503, (5, 1), "AUTH is not offered here")
UNKNOWN_MECHANISM: Final = Reply(504, (5, 4), "Authentication mechanism not offered")
BAD_BASE64: Final = Reply(501, (5, 2), "Cannot decode that as base64")
AUTH_CANCELLED: Final = Reply(501, (7, 0), "Authentication cancelled")
BAD_SASL_RESPONSE: Final = Reply(501, (5, 2), "Cannot understand that response of the mechanism")
SASL_RESPONSE_TOO_LONG: Final = Reply(500, (5, 6), "Authentication response too long")
# One answer to a wrong password, an unknown user and all else that concerns a person (RFC 4954 section 6).
BAD_CREDENTIALS: Final = Reply(535, (7, 8), "Authentication credentials invalid")
BINDING_DOWNGRADED: Final = Reply(535, (7, 8), "Channel binding is offered here, but the client was told otherwise")
BINDING_NOT_KNOWN: Final = Reply(
    535, (7, 8), "The only channel binding here is tls-server-end-point, with a -PLUS mechanism"
)
BINDING_WRONG: Final = Reply(
    535, (7, 8), "Channel binding does not match: this TLS is not the one that the client sees"
)
# 521 and close. RFC 5321 section 3.8 names 421 for a close, but a 4yz would have the same broken
# message come back for days.
BARE_NEWLINE: Final = Reply(521, (5, 2), "Bare CR or LF refused, see RFC 5321 section 2.3.8")
OCTETS_BEFORE_TLS: Final = Reply(554, (5, 1), "Octets sent before TLS was ready")
CHUNK_TOO_EARLY: Final = Reply(503, (5, 1), "BDAT needs MAIL and RCPT first")
CHUNK_AFTER_FAILURE: Final = Reply(503, (5, 1), "A chunk of this message was refused, send RSET")
# 521 and close, as Postfix does: how many octets follow is not known.
BAD_CHUNK_SIZE: Final = Reply(521, (5, 4), "BDAT needs a size and perhaps LAST")
BINARY_NEEDS_BDAT: Final = Reply(503, (6, 1), "BODY=BINARYMIME needs BDAT, not DATA")

# --- the message or its envelope is not wanted -------------------------------------------------------------
TOO_BIG: Final = Reply(552, (3, 4), "Message is larger than this server takes")
TOO_MANY_RECIPIENTS: Final = Reply(452, (5, 3), "Too many recipients in one transaction")
AUTH_NEEDS_TLS: Final = Reply(538, (7, 11), "Encryption required: issue STARTTLS first")
NOT_YOUR_ADDRESS: Final = Reply(553, (7, 1), "This user may not send as that address")
RELAY_DENIED: Final = Reply(550, (7, 1), "Relaying denied: this server is not responsible for that domain")
AUTH_REQUIRED: Final = Reply(530, (7, 0), "Authentication required")
NOT_HERE: Final = Reply(550, (1, 2), "That domain is not delivered here")
NO_POSTMASTER: Final = Reply(550, (1, 1), "No domain is delivered here, so there is no postmaster")
LOOP: Final = Reply(554, (4, 6), "Too many hops: the message loops")
# Never on the wire: the end of an attempt that we put off ourselves.
TURN_PASSED: Final = Reply(451, (4, 5), "Not sent yet: its turn under the rate passed before the next hop was ready")
# Never on the wire: the outcome of `postroad queue bounce`, told in the report.
RETURNED_BY_HAND: Final = Reply(550, (0, 0), "Returned to the sender by the administrator of this relay")

# --- later, perhaps --------------------------------------------------------------------------------
LOCAL_TROUBLE: Final = Reply(451, (3, 0), "Local trouble, try again later")
DISK_FULL: Final = Reply(452, (3, 1), "Not enough disk space now, try again later")
TOO_MANY_ERRORS: Final = Reply(421, (7, 0), "Too many errors, closing")
TOO_MANY_CONNECTIONS: Final = Reply(421, (7, 0), "Too many connections, try again later")
TOO_MUCH_MAIL: Final = Reply(450, (7, 1), "Too many messages in too short a time, try again later")
IDLE_TOO_LONG: Final = Reply(421, (4, 2), "Waited too long for you, closing")
TOO_MANY_LOGINS: Final = Reply(421, (7, 0), "Too many failed logins, try again later")
AUTH_TROUBLE: Final = Reply(454, (7, 0), "Cannot check credentials now, try again later")
SHUTTING_DOWN: Final = Reply(421, (3, 2), "Shutting down, try again later")
SESSION_TROUBLE: Final = Reply(421, (3, 0), "Local trouble, closing")
