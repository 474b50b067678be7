"""Delivery reports: a multipart/report of three parts (RFC 3464, RFC 6522 section 3, RFC 6533 section 4).

Owns: the header of a report, its parts, how much of the message goes back, transfer encodings, the boundary.
Does not own: the sentences (dsn_text.py), the fields (dsn_fields.py), who is due a report and
whether there may be one (outbound: never to the null path), putting it into the spool.

What goes back: the header, except that RET=FULL returns the whole of a message that failed if it has at most
RETURNED_MAX octets and can travel as it is (RFC 3461 section 4.3 allows less when it is too large).
Without RET it is the header alone: senders are forged, and whole messages would make us carry
somebody's junk to a stranger. Any content gives a valid report: tests/laws/test_mail_dsn.py.
"""

from __future__ import annotations

import binascii
import re
from typing import Final, NamedTuple

import msgspec

from postroad.core.address import Mailbox, to_ascii
from postroad.core.envelope import Body, Envelope, Recipient, Ret
from postroad.core.ids import MessageId
from postroad.core.units import KIB
from postroad.mail.dsn_fields import status_lines
from postroad.mail.dsn_text import Action, Told, explanation, subject
from postroad.mail.headers import find_field, iterate_fields
from postroad.mail.received import format_date, format_received
from postroad.mail.submission import new_message_id

RETURNED_MAX: Final = 64 * KIB
"""Octets of the original that a report returns at most. Postfix: bounce_size_limit, 50,000."""
LINE_MAX: Final = 998
"""Octets in a line without its CRLF: RFC 5322 section 2.1.1."""

_BARE: Final = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n")
_MSG_ID: Final = re.compile(rb"\s*(<[!-;=?-~]{1,250}@[!-;=?-~]{1,250}>)\s*")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a report is made of."""

    envelope: Envelope
    """Of the message reported on; its sender gets the report and must not be the null path."""
    message: MessageId
    received_at: float
    told: tuple[Told, ...]
    """Who is told of, 1 or more."""
    content: bytes
    """The beginning of the message, RETURNED_MAX octets of it, or all if it has less."""
    size: int
    """Octets of the whole message."""
    hostname: str
    now: float
    id: MessageId
    """Of the report itself."""
    token: str
    """For the boundary: letters and digits that nobody could guess, 16 to 60 of them."""


class BuiltReport(NamedTuple):
    """A report, and what its envelope must say."""

    octets: bytes
    envelope: Envelope


class _Part(NamedTuple):
    content_type: str
    description: str
    body: bytes
    encoding: str


def build_report(report: Report) -> BuiltReport:
    """Return the report as a complete message, our trace field on top, and the envelope to send it with."""
    sender = report.envelope.sender
    if sender is None:
        raise ValueError("a report never goes to the null path (RFC 5321 section 6.1)")
    international = report.envelope.smtputf8
    parts = (_for_people(report, international), _for_machines(report, international), _returned(report, international))
    boundary = _boundary(report.token, parts)
    is_eight_bit = any(part.encoding == "8bit" for part in parts)
    needs_utf8 = not sender.local_part.isascii()
    envelope = Envelope(
        None,
        # RFC 3461 section 6.1: no RET, no NOTIFY of its own.
        (Recipient(sender),),
        body=Body.EIGHT_BIT if is_eight_bit or needs_utf8 else Body.SEVEN_BIT,
        smtputf8=needs_utf8,
    )
    octets = [_header(report, envelope, boundary, "8bit" if is_eight_bit else "7bit")]
    for part in parts:
        octets.append(_part_octets(part, boundary))
    octets.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    return BuiltReport(b"".join(octets), envelope)


def _header(report: Report, envelope: Envelope, boundary: str, encoding: str) -> bytes:
    to = envelope.recipients[0].mailbox
    shown = to if envelope.smtputf8 else Mailbox(to.local_part, to_ascii(to.domain) if to.domain else report.hostname)
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.hostname}>",
        f"To: <{shown}>",
        f"Subject: {subject(report.told)}",
        f"Date: {format_date(report.now)}",
        f"Message-ID: {new_message_id(report.id, report.hostname).decode('ascii')}",
        *_references(report.content),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
        "",
        "This is a report in MIME format.",
        "",
    ]
    trace = format_received(envelope, report.id, hostname=report.hostname, now=report.now)
    return trace + "\r\n".join(lines).encode()


def _references(content: bytes) -> list[str]:
    """Return the fields that tie the report to its message (RFC 3834 section 3.1.6), if it has a sound Message-ID."""
    field = find_field(content, b"message-id")
    if field is None:
        return []
    text = content[field.start : field.end].partition(b":")[2]
    found = _MSG_ID.fullmatch(text)
    return [f"{name}: {found[1].decode('ascii')}" for name in ("In-Reply-To", "References")] if found else []


def _part_octets(part: _Part, boundary: str) -> bytes:
    head = (
        f"\r\n--{boundary}\r\nContent-Type: {part.content_type}\r\nContent-Description: {part.description}\r\n"
        f"Content-Transfer-Encoding: {part.encoding}\r\n\r\n"
    )
    return head.encode("ascii") + part.body


def _for_people(report: Report, international: bool) -> _Part:
    lines = explanation(report.told, hostname=report.hostname, is_ascii=not international)
    text = "\r\n".join(lines) + "\r\n"
    charset = "us-ascii" if text.isascii() else "utf-8"
    return _Part(f"text/plain; charset={charset}", "Notification", text.encode(), _plain(text.encode()))


def _for_machines(report: Report, international: bool) -> _Part:
    lines = status_lines(
        report.told,
        report.envelope,
        report.message,
        report.received_at,
        hostname=report.hostname,
        is_ascii=not international,
    )
    body = ("\r\n".join(lines) + "\r\n").encode()
    kind = "global-delivery-status" if international else "delivery-status"
    return _Part(f"message/{kind}", "Delivery report", body, _plain(body))


def _returned(report: Report, international: bool) -> _Part:
    """Return what goes back of the message: see the header of this file."""
    content = report.content
    has_failed = any(one.action is Action.FAILED for one in report.told)
    is_whole = len(content) == report.size <= RETURNED_MAX
    if report.envelope.ret is Ret.FULL and has_failed and is_whole and _can_travel(content):
        kind = "message/global" if international else "message/rfc822"
        return _Part(kind, "Undelivered message", content, _plain(content))
    header = _header_of(content[:RETURNED_MAX])
    kind = "message/global-headers" if international else "text/rfc822-headers"
    if _can_travel(header) and (header.isascii() or international):
        return _Part(kind, "Message header", header, _plain(header))
    # RFC 6522 section 4 and RFC 6533 section 4: a header that is broken may be quoted-printable.
    return _Part(kind, "Message header", _quoted_printable(header), "quoted-printable")


def _header_of(content: bytes) -> bytes:
    """Return the fields from the top, up to the first line that is none: what follows may be the body."""
    end = 0
    for field in iterate_fields(content):
        if field.start != end:
            break
        end = field.end
    return content[:end]


def _can_travel(content: bytes) -> bool:
    """True if the content may stand in a message as it is: no NUL, no bare CR or LF, no line that is too long."""
    return not _BARE.search(content) and max(map(len, content.split(b"\r\n"))) <= LINE_MAX


def _plain(body: bytes) -> str:
    return "7bit" if body.isascii() else "8bit"


def _quoted_printable(content: bytes) -> bytes:
    lines = (binascii.b2a_qp(line, istext=False) for line in content.split(b"\r\n"))
    return b"\r\n".join(lines).replace(b"=\n", b"=\r\n")


def _boundary(token: str, parts: tuple[_Part, ...]) -> str:
    """Return a boundary that is in no part: guessed by nobody, and looked for all the same."""
    boundary = f"=_{token}"
    while any(boundary.encode("ascii") in part.body for part in parts):
        boundary += "."
    return boundary
