"""The envelope: who a message is from and for, and what was asked about it.

Owns: sender, recipients and the parameters of MAIL and RCPT as values, and what we
know of the client that gave them. Does not own: how parameters are written
(smtp/commands.py), how an envelope is stored (spool; it writes this struct as msgpack,
so fields are only ever added at the end, with a default).
"""

from __future__ import annotations

from enum import IntFlag, StrEnum
from typing import Final

import msgspec

from postroad.core.address import Mailbox, Path


class Body(StrEnum):
    """The BODY parameter: RFC 6152 section 2, RFC 3030 section 3."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class Ret(StrEnum):
    """The RET parameter: how much a failure report returns, RFC 3461 section 4.3."""

    FULL = "FULL"
    HEADERS = "HDRS"


class Notify(IntFlag):
    """The NOTIFY parameter, RFC 3461 section 4.1. UNSAID differs from every set: failures, and delays if we like."""

    UNSAID = 0
    NEVER = 1
    SUCCESS = 2
    FAILURE = 4
    DELAY = 8


class OriginalRecipient(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The ORCPT parameter, RFC 3461 section 4.2: address type and address, xtext undone."""

    address_type: str
    address: str


class Recipient(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One recipient as RCPT named it."""

    mailbox: Mailbox
    notify: int = 0
    """A set of ``Notify`` flags, as a plain integer for speed."""
    original: OriginalRecipient | None = None

    @property
    def wants_failure(self) -> bool:
        """True if a failure is to be reported to the sender (the default, RFC 3461 section 4.1)."""
        return not self.notify or bool(self.notify & Notify.FAILURE)

    @property
    def wants_delay(self) -> bool:
        """True if a delay may be reported: by default, or when asked for."""
        return not self.notify or bool(self.notify & Notify.DELAY)

    @property
    def wants_success(self) -> bool:
        return bool(self.notify & Notify.SUCCESS)


class Client(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who gave us the message. For routes, trace fields, facts; never a permission by itself."""

    address: str
    """IP address, or ``unix`` for a Unix socket, or ``local`` for what we made ourselves."""
    hello: str = ""
    """What it called itself in EHLO, HELO or LHLO."""
    protocol: str = "ESMTP"
    """The WITH protocol type: RFC 3848 section 2, RFC 6531 section 4.3."""
    listener: str = ""
    """Name of the listener."""
    user: str = ""
    """Authenticated identity; empty without AUTH."""
    tls: str = ""
    """Version and cipher, e.g. ``TLSv1.3 TLS_AES_256_GCM_SHA384``; empty in clear."""


LOCAL_CLIENT: Final = Client("local", protocol="LOCAL")
"""The client of messages that we make ourselves: reports."""


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """All that is known of a message besides its content. Recipients keep their place for ever: the
    spool, facts and reports name them by index."""

    sender: Path
    recipients: tuple[Recipient, ...]
    client: Client = LOCAL_CLIENT
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    """True if MAIL carried SMTPUTF8 (RFC 6531 section 3.4): the next hop must offer it too."""
    ret: Ret | None = None
    envelope_id: str | None = None
    """The ENVID parameter, xtext undone. RFC 3461 section 4.4."""
    size_declared: int = 0
    """The SIZE parameter, octets; 0 if none. RFC 1870 section 3."""
    priority: int = 0
    """-9 to 9, RFC 6710 section 3; reports of ours have 0 too."""
