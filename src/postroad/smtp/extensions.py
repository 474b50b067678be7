"""The extensions that we offer, and what each adds to the length of a command.

Owns: the answer to EHLO and LHLO, the limits on command lines (RFC 5321 section 4.5.3.1.4
and what the extensions add to it). Does not own: what others offer (offers.py), the
parameters themselves (commands.py).

A new extension: a field of Offer, a line in ``keywords``, its octets in ``line_limits``.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from postroad.core.reply import Reply

COMMAND_LINE_MAX: Final = 512
"""Octets in a command line, CRLF included. RFC 5321 section 4.5.3.1.4."""
SIZE_PARAMETER: Final = 26
"""Octets that SIZE= adds to MAIL. RFC 1870 section 3."""
BODY_PARAMETER: Final = 17
"""Octets that BODY= adds to MAIL: RFC 6152 section 2; one more than RFC 3030 section 3 asks."""
SMTPUTF8_PARAMETER: Final = 10
"""Octets that SMTPUTF8 adds to MAIL. RFC 6531 section 3.1."""
AUTH_PARAMETER: Final = 500
"""Octets that AUTH= adds to MAIL. RFC 4954 section 3."""
ENVELOPE_ID_MAX: Final = 100
"""Octets of the value of ENVID, as written. RFC 3461 section 4.4."""
ORIGINAL_RECIPIENT_MAX: Final = 500
"""Octets of the value of ORCPT, as written. RFC 3461 section 4.2."""
DSN_MAIL_PARAMETERS: Final = len(" RET=FULL ENVID=") + ENVELOPE_ID_MAX
"""Octets that RET= and ENVID= add to MAIL; RFC 3461 bounds the values and leaves the sum to us."""
DSN_RCPT_PARAMETERS: Final = len(" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=") + ORIGINAL_RECIPIENT_MAX
"""Octets that NOTIFY= and ORCPT= add to RCPT."""
AUTH_LINE_MAX: Final = 12288
"""Octets in an AUTH command or a response to a challenge, CRLF included. RFC 4954 section 4."""


class Protocol(StrEnum):
    """Which of the two we speak."""

    SMTP = "smtp"
    LMTP = "lmtp"  # RFC 2033


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener offers. 8BITMIME (RFC 6152) and ENHANCEDSTATUSCODES (RFC 2034) always are."""

    size_max: int
    """Octets of the largest message taken, announced as SIZE."""
    starttls: bool = False
    auth: tuple[str, ...] = ()
    """SASL mechanisms in upper case; none: AUTH is not offered."""
    auth_after_tls: bool = False
    """AUTH is offered once there is TLS: whoever tries before hears that, 538."""
    smtputf8: bool = True
    chunking: bool = True
    binarymime: bool = True
    """Offered only together with ``chunking`` (RFC 3030 section 3)."""
    dsn: bool = True
    pipelining: bool = True

    @property
    def has_binary(self) -> bool:
        """True if BODY=BINARYMIME may be said."""
        return self.binarymime and self.chunking

    def keywords(self) -> list[str]:
        """Return the lines of the EHLO answer after the first, RFC 5321 section 4.1.1.1."""
        lines = [
            (self.pipelining, "PIPELINING"),  # RFC 2920 section 2
            (True, f"SIZE {self.size_max}"),  # RFC 1870 section 4
            (self.starttls, "STARTTLS"),
            (bool(self.auth), " ".join(("AUTH", *self.auth))),
            (True, "ENHANCEDSTATUSCODES"),  # RFC 2034 section 3
            (True, "8BITMIME"),
            (self.dsn, "DSN"),
            (self.smtputf8, "SMTPUTF8"),
            (self.chunking, "CHUNKING"),
            (self.has_binary, "BINARYMIME"),
        ]
        return [line for is_offered, line in lines if is_offered]


@lru_cache(maxsize=64)
def ehlo_reply(hostname: str, offer: Offer) -> Reply:
    """Return the positive answer to EHLO or LHLO. No enhanced code: RFC 2034 section 4."""
    return Reply(250, None, "\n".join((hostname, *offer.keywords())))


@lru_cache(maxsize=64)
def line_limits(offer: Offer) -> dict[bytes, int]:
    """Return the longest command lines, in octets, by the first four octets of the command; others COMMAND_LINE_MAX."""
    mail = COMMAND_LINE_MAX + SIZE_PARAMETER + BODY_PARAMETER
    mail += SMTPUTF8_PARAMETER * offer.smtputf8 + DSN_MAIL_PARAMETERS * offer.dsn + AUTH_PARAMETER * bool(offer.auth)
    limits = {b"MAIL": mail, b"RCPT": COMMAND_LINE_MAX + DSN_RCPT_PARAMETERS * offer.dsn}
    return limits | {b"AUTH": AUTH_LINE_MAX} if offer.auth else limits
