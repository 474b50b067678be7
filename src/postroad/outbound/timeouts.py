"""How long a next hop may take for what.

Owns: the time-outs of a conversation with a next hop and which command waits by which. Does not own: the waiting
(session.py), the time-out of the connection itself (connection.py).
"""

from __future__ import annotations

from typing import Final

import msgspec

from postroad.core.units import MINUTE, SECOND
from postroad.smtp.client import Command


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. The least that RFC 5321 section 4.5.3.2 asks of a client, where it says anything."""

    greeting: float = 5 * MINUTE  # RFC 5321 section 4.5.3.2.1
    hello: float = 5 * MINUTE
    tls: float = 1 * MINUTE
    """The handshake: no person and no queue stands between, and a stuck one has a clear-text way out."""
    auth: float = 5 * MINUTE
    mail: float = 5 * MINUTE  # RFC 5321 section 4.5.3.2.2
    rcpt: float = 5 * MINUTE  # RFC 5321 section 4.5.3.2.3
    data: float = 2 * MINUTE  # RFC 5321 section 4.5.3.2.4
    block: float = 3 * MINUTE  # RFC 5321 section 4.5.3.2.5
    dot: float = 10 * MINUTE  # RFC 5321 section 4.5.3.2.6
    quit: float = 5 * SECOND
    """RFC 5321 section 4.1.1.10 wants us to wait for the answer; nothing depends on it."""


WAITS: Final = {
    Command.GREETING: "greeting",
    Command.EHLO: "hello",
    Command.HELO: "hello",
    Command.LHLO: "hello",
    Command.STARTTLS: "hello",
    Command.AUTH: "auth",
    Command.RSET: "mail",
    Command.MAIL: "mail",
    Command.RCPT: "rcpt",
    Command.DATA: "data",
    Command.BDAT: "dot",
    Command.DOT: "dot",
    Command.QUIT: "quit",
}
"""The field of Timeouts for the reply to each command."""
RFC_TIMEOUTS: Final = Timeouts()
