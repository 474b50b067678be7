"""What a delivery report says to machines: the fields of message/delivery-status.

Owns: the fields of RFC 3464 section 2.2 and of section 2.3, their order (that of the RFC), the address type
utf-8 of RFC 6533 section 3. Does not own: the sentences (dsn_text.py), putting the parts together (dsn.py).
Whatever came from outside is made one printable line and folded before it stands in a field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from postroad.core.address import Mailbox
from postroad.core.envelope import Envelope, OriginalRecipient
from postroad.core.ids import MessageId, format_id
from postroad.core.reply import Reply
from postroad.mail.dsn_text import Action, Told, clean, embedded, fold, shown_address, shown_reply
from postroad.mail.received import format_date

_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}")
_DNS_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_IP_ADDRESS: Final = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*")
_CLASSES: Final = {
    Action.FAILED: "54",  # a 4yz whose time was up stays one: RFC 3463 section 2, "4.XXX.XXX"
    Action.DELAYED: "4",
    Action.DELIVERED: "2",
    Action.RELAYED: "2",
}


def message_fields(envelope: Envelope, received_at: float, *, hostname: str, is_ascii: bool) -> list[str]:
    """Return the lines of the per-message fields, RFC 3464 section 2.2."""
    lines = []
    if shown := _typed_text(envelope.envelope_id or "", is_ascii):
        lines += fold(shown, first="Original-Envelope-Id: ", indent=" ")
    lines.append(f"Reporting-MTA: dns; {hostname}")
    lines.append(f"Arrival-Date: {format_date(received_at)}")
    return lines


def recipient_fields(one: Told, message: MessageId, *, is_ascii: bool) -> list[str]:
    """Return the lines of the fields of one recipient, RFC 3464 section 2.3."""
    lines = []
    if one.recipient.original is not None:
        lines += fold(_original(one.recipient.original, is_ascii), first="Original-Recipient: ", indent=" ")
    lines += fold(_final(one.recipient.mailbox, is_ascii), first="Final-Recipient: ", indent=" ")
    lines += [f"Action: {one.action.value}", f"Status: {status(one.outcome.reply, one.action)}"]
    if host := one.remote_host:
        lines += fold(_remote(host), first="Remote-MTA: ", indent=" ")
    # RFC 3464 section 2.3.6: "smtp" is for what an SMTP server said; what we say has a type of our own.
    kind = "smtp" if one.remote_host else "x-postroad"
    said = shown_reply(one.outcome.reply, is_ascii=is_ascii)
    lines += fold(f"{kind}; {said}", first="Diagnostic-Code: ", indent=" ")
    if one.attempted_at is not None:
        lines.append(f"Last-Attempt-Date: {format_date(one.attempted_at)}")
    lines.append(f"Final-Log-Id: {format_id(message)}")
    if one.action is Action.DELAYED and one.retry_until is not None:
        lines.append(f"Will-Retry-Until: {format_date(one.retry_until)}")
    return lines


def status_lines(
    told: Sequence[Told], envelope: Envelope, message: MessageId, received_at: float, *, hostname: str, is_ascii: bool
) -> list[str]:
    """Return all lines of the part: the message's fields, then a blank line and the fields of each recipient."""
    lines = message_fields(envelope, received_at, hostname=hostname, is_ascii=is_ascii)
    for one in told:
        lines += ["", *recipient_fields(one, message, is_ascii=is_ascii)]
    return lines


def status(reply: Reply, action: Action) -> str:
    """Return the Status of RFC 3464 section 2.3.4: the enhanced code, with a class that fits the action."""
    allowed = _CLASSES[action]
    code = reply.status
    return code if code[0] in allowed else f"{allowed[0]}{code[1:]}"


def _final(mailbox: Mailbox, is_ascii: bool) -> str:
    kind = "rfc822" if mailbox.is_ascii or (mailbox.local_part.isascii() and is_ascii) else "utf-8"
    return f"{kind}; {shown_address(mailbox, is_ascii=is_ascii)}"


def _original(original: OriginalRecipient, is_ascii: bool) -> str:
    # The type is an atom, and the address was xtext: both may hold anything once decoded.
    kind = original.address_type if _ATOM.fullmatch(original.address_type) else "x-unknown"
    return f"{kind}; {_typed_text(original.address, is_ascii)}"


def _typed_text(text: str, is_ascii: bool) -> str:
    shown = clean(text, is_ascii=False)
    return embedded(shown) if is_ascii else shown


def _remote(host: str) -> str:
    if _IP_ADDRESS.fullmatch(host):
        return f"dns; [IPv6:{host}]" if ":" in host else f"dns; [{host}]"
    kind = "dns" if _DNS_NAME.fullmatch(host) else "x-postroad"
    return f"{kind}; {clean(host, is_ascii=True)}"
