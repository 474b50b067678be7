"""MAIL and RCPT as a client writes them, with the parameters that the server offered to take.

Owns: how an envelope becomes command lines. Does not own: what the server offered
(offers.py), whether the message fits it at all (client_fit.py), the order of commands
(client.py). The other direction, lines to values, is commands.py: keep the two in step.
"""

from __future__ import annotations

from typing import Final

from postroad.core.address import Mailbox, Path, format_local_part
from postroad.core.envelope import Body, Envelope, Notify, OriginalRecipient, Recipient
from postroad.smtp.grammar import format_utf8_address, format_xtext
from postroad.smtp.offers import Offers

_NOTIFY: Final = (Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.DELAY)


def format_mail(envelope: Envelope, offers: Offers, size: int, *, utf8: bool) -> str:
    """Return the MAIL command without its CRLF.

    ``size``: octets of content. ``utf8``: the transaction is to use SMTPUTF8, which the server offered.
    """
    line = f"MAIL FROM:{_format_path(envelope.sender, utf8)}"
    if offers.size:
        line += f" SIZE={size}"  # RFC 1870 section 5
    if (envelope.body is Body.EIGHT_BIT and offers.eight_bit) or (envelope.body is Body.BINARY and offers.binary):
        line += f" BODY={envelope.body.value}"
    if utf8:
        line += " SMTPUTF8"
    if offers.dsn and (envelope.ret is not None or envelope.envelope_id is not None):
        if envelope.ret is not None:
            line += f" RET={envelope.ret.value}"
        if envelope.envelope_id is not None:
            line += f" ENVID={format_xtext(envelope.envelope_id)}"
    return line


def format_rcpt(recipient: Recipient, offers: Offers, *, utf8: bool) -> str:
    """Return the RCPT command without its CRLF. RFC 3461 section 5.2.1: what was asked of us is asked of the next."""
    line = f"RCPT TO:{_format_path(recipient.mailbox, utf8)}"
    if offers.dsn and (recipient.notify or recipient.original is not None):
        if recipient.notify:
            line += f" NOTIFY={','.join(str(flag.name) for flag in _NOTIFY if recipient.notify & flag)}"
        if recipient.original is not None:
            line += f" ORCPT={format_original_recipient(recipient.original, utf8=utf8)}"
    return line


def format_original_recipient(original: OriginalRecipient, *, utf8: bool) -> str:
    """Return the value of ORCPT, RFC 3461 section 4.2; type utf-8 is written as RFC 6533 section 3 has it."""
    if original.address_type.lower() == "utf-8":
        return f"{original.address_type};{format_utf8_address(original.address, ascii_only=not utf8)}"
    return f"{original.address_type};{format_xtext(original.address)}"


def _format_path(path: Path, utf8: bool) -> str:
    if path is None:
        return "<>"
    if utf8 or path.domain.isascii():
        return f"<{path}>"
    # Without SMTPUTF8 a domain can still be said, as A-labels (RFC 5890 section 2.3.2.1); a local-part cannot.
    return f"<{format_local_part(path.local_part)}@{path.ascii_domain}>"


def needs_utf8(mailbox: Mailbox) -> bool:
    """True if only SMTPUTF8 can carry the address: its local-part is not ASCII."""
    return not mailbox.local_part.isascii()
