"""Our trace field: what every message we take carries on top.

Owns: the Received field of RFC 5321 section 4.4, its protocol types, the date of RFC 5322
section 3.3. Does not own: counting the fields of others (headers.py), Return-Path (the
final delivery writes it).

What the client called itself, and what DNS calls it, are hostile: neither may end the line, close
the comment or pass for something we say. Shown by tests/cases/received and tests/laws/test_mail_received.py.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from postroad.core.address import Mailbox, to_ascii
from postroad.core.envelope import LOCAL_CLIENT, Envelope
from postroad.core.ids import MessageId, format_id

HELLO_SHOWN_MAX: Final = 255
"""Octets of a hello name that we repeat: a domain's length, RFC 5321 section 4.5.3.1.2."""

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Wider than Domain by the underscore, which real clients use and which can do no harm.
_NAME: Final = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_LITERAL: Final = re.compile(r"(?=.{1,255}\Z)\[[A-Za-z0-9:.-]+\]")
# In a comment (RFC 5322 section 3.2.2) only printable ASCII stands. What the client said loses brackets and spaces too,
# which could pass for our own words.
_UNSHOWN: Final = re.compile(r"[^ -~]")
_UNTRUE: Final = re.compile(r"[^!-~]|[\[\]]")
_TO_QUOTE: Final = re.compile(r"([()\\])")


def protocol_type(*, lmtp: bool, extended: bool, tls: bool, authenticated: bool, smtputf8: bool) -> str:
    """Return the WITH protocol type: RFC 3848 section 2, RFC 6531 section 4.3.

    Args:
        extended: EHLO rather than HELO. Plain SMTP has no registered variants.
        smtputf8: MAIL carried SMTPUTF8.
    """
    if not (lmtp or extended):
        return "SMTP"
    base = "LMTP" if lmtp else "SMTP"
    prefix = "UTF8" if smtputf8 else "" if lmtp else "E"
    return f"{prefix}{base}{'S' if tls else ''}{'A' if authenticated else ''}"


def format_date(now: float) -> str:
    """Return ``now`` (seconds since the epoch, UTC) as RFC 5322 section 3.3 writes it, with offset +0000."""
    return _date_of(int(now))


def format_received(
    envelope: Envelope, message: MessageId, *, hostname: str, now: float, reverse_name: str = ""
) -> bytes:
    """Return our trace field for one message, folded, the final CRLF included.

    ``for`` names the recipient only where there is one: several would tell each of the others (RFC 5321 section 7.2).

    Args:
        hostname: ours, from the settings.
        now: seconds since the epoch, UTC.
        reverse_name: what DNS calls the client's address; empty if unknown.
    """
    client, recipients = envelope.client, envelope.recipients
    start = _start(client.address, client.hello, reverse_name, client.protocol, client.tls, hostname)
    whom = _for_clause(recipients[0].mailbox, hostname, envelope.smtputf8) if len(recipients) == 1 else ""
    return f"{start}id {format_id(message)}{whom};\r\n\t{_date_of(int(now))}\r\n".encode()


@lru_cache(maxsize=1024)
def _start(address: str, hello: str, reverse_name: str, protocol: str, tls: str, hostname: str) -> str:
    """Return the field up to its id: the same for all messages of a session, and often of a client."""
    if address == LOCAL_CLIENT.address:  # nobody gave it to us: RFC 5322 section 3.6.7 asks for no "from"
        return f"Received: by {hostname} (Postroad) "
    secured = f" ({_commented(tls, _UNSHOWN)})" if tls else ""
    came_from = _from_clause(address, hello, reverse_name)
    return f"Received: from {came_from}\r\n\tby {hostname} (Postroad) with {protocol}{secured}\r\n\t"


def _from_clause(address: str, hello: str, reverse_name: str) -> str:
    if address == "unix":
        stated, where = "localhost", "local socket"
    else:
        stated = _literal(address)
        where = f"{reverse_name if _NAME.fullmatch(reverse_name) else 'unknown'} {stated}"
    if _NAME.fullmatch(hello) or _LITERAL.fullmatch(hello):
        return f"{hello} ({where})"
    # No Domain: it cannot stand where one must, so the comment quotes it.
    return f"{stated} (hello={_commented(hello, _UNTRUE)} {where})" if hello else f"{stated} ({where})"


def _literal(address: str) -> str:
    plain = _commented(address.partition("%")[0], _UNTRUE)  # RFC 5321 section 4.1.3 has no zones
    return f"[IPv6:{plain}]" if ":" in plain else f"[{plain}]"


def _commented(text: str, replaced: re.Pattern[str]) -> str:
    return _TO_QUOTE.sub(r"\\\1", replaced.sub("?", text[:HELLO_SHOWN_MAX]))


def _for_clause(mailbox: Mailbox, hostname: str, smtputf8: bool) -> str:
    domain = mailbox.domain or hostname  # a bare Postmaster is ours
    shown = Mailbox(mailbox.local_part, domain)
    if not (smtputf8 or shown.is_ascii):
        if not shown.local_part.isascii():
            return ""
        shown = Mailbox(shown.local_part, to_ascii(domain))
    return f" for <{shown}>"


@lru_cache(maxsize=16)
def _date_of(second: int) -> str:
    when = datetime.fromtimestamp(second, UTC)
    return (
        f"{_DAYS[when.weekday()]}, {when.day} {_MONTHS[when.month - 1]} {when.year:04d} "
        f"{when.hour:02d}:{when.minute:02d}:{when.second:02d} +0000"
    )
