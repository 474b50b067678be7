"""Makes a message and hands it to a relay by SMTP: the client half of ``postroad send``.

Owns: what the message says (email.message), which server it goes to, the conversation (smtplib), reading the id from
the 250. Does not own: the options (send.py), what becomes of the message afterwards. Blocking, with time-outs.
"""

from __future__ import annotations

import mimetypes
import re
import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from postroad.config.addresses import FdAddress, TcpAddress, UnixAddress
from postroad.core.address import Mailbox
from postroad.net.local import reachable

if TYPE_CHECKING:
    from postroad.config.model import Settings

CONNECT_TIMEOUT: Final = 10.0
"""Seconds."""
REPLY_TIMEOUT: Final = 60.0
"""Seconds to wait for one reply: the relay is near."""
_QUEUED: Final = re.compile(r"[Qq]ueued as ([0-9a-z]{13})\b")
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a listener on all addresses is reached


@dataclass(frozen=True, slots=True)
class Server:
    """Where to submit. ``tls`` from the first octet; STARTTLS only where it is not our own listener on this machine."""

    address: TcpAddress | UnixAddress
    tls: bool = False
    starttls: bool = False


@dataclass(slots=True)
class Submitted:
    """What the server said."""

    reply: str
    """To the content or to MAIL, in one line; empty if all recipients were refused."""
    is_taken: bool
    id: str = ""
    """As the 250 named it; empty if it named none."""
    taken: list[str] = field(default_factory=list)
    """Recipients that were accepted."""
    refused: dict[str, str] = field(default_factory=dict)
    """Recipient -> reply."""


class SubmitError(Exception):
    """No conversation: the server was not reached, or broke it off. The text is a sentence."""


def choose_server(settings: Settings) -> Server | None:
    """Return the listener on which this machine submits: role submission before mx, TCP before Unix sockets."""
    # Where a socket that was handed over listens, nobody but who made it knows.
    known = [listener for listener in settings.listener if not isinstance(listener.address, FdAddress)]
    suitable = [listener for listener in known if listener.role in ("submission", "mx")]
    if not suitable:
        return None
    best = min(suitable, key=lambda one: (one.role != "submission", isinstance(one.address, UnixAddress)))
    address = best.address
    assert not isinstance(address, FdAddress)
    if isinstance(address, TcpAddress):
        address = TcpAddress(_ANY_ADDRESS.get(address.host, address.host), address.port)
    return Server(address, tls=best.tls == "implicit")


def on_wire(mailbox: Mailbox) -> Mailbox:
    """Return the mailbox as MAIL and RCPT write it: with A-labels, unless its local-part needs SMTPUTF8 anyway."""
    return Mailbox(mailbox.local_part, mailbox.ascii_domain) if mailbox.local_part.isascii() else mailbox


def make_message(
    sender: Mailbox, recipients: Sequence[Mailbox], subject: str, body: str, attached: Sequence[Path], *, now: float
) -> EmailMessage:
    """Return the message. Raises OSError if an attachment cannot be read."""
    # 7bit: whatever the text, any server takes it. Addresses beyond ASCII need SMTPUTF8 and what comes with it.
    form = policy.SMTPUTF8 if _needs_utf8([sender, *recipients]) else policy.SMTP.clone(cte_type="7bit")
    message = EmailMessage(policy=form)
    message["From"] = str(sender)
    message["To"] = ", ".join(map(str, recipients))
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message.set_content(body if body.endswith("\n") else body + "\n")
    for path in attached:
        kind, encoding = mimetypes.guess_type(path.name)
        maintype, _, subtype = ("application/octet-stream" if kind is None or encoding else kind).partition("/")
        message.add_attachment(path.read_bytes(), maintype=maintype, subtype=subtype, filename=path.name)
    return message


def submit(server: Server, sender: Mailbox, recipients: Sequence[Mailbox], message: EmailMessage) -> Submitted:
    """Hand the message over. Raises SubmitError."""
    content = message.as_bytes()
    try:
        with _connect(server) as smtp:
            return _converse(smtp, server, sender, recipients, content)
    except (OSError, smtplib.SMTPException) as error:
        raise SubmitError(_why(server, error)) from error


def _converse(
    smtp: smtplib.SMTP, server: Server, sender: Mailbox, recipients: Sequence[Mailbox], content: bytes
) -> Submitted:
    smtp.ehlo_or_helo_if_needed()
    if server.starttls and smtp.has_extn("starttls"):
        smtp.starttls(context=_unverified())
        smtp.ehlo_or_helo_if_needed()
    options = [f"SIZE={len(content)}"] if smtp.has_extn("size") else []
    if _needs_utf8([sender, *recipients]):
        options += ["BODY=8BITMIME", "SMTPUTF8"]
    code, text = smtp.mail(str(sender), options)
    if code != 250:
        return Submitted(_shown(code, text), is_taken=False)
    result = Submitted("", is_taken=False)
    for recipient in recipients:
        code, text = smtp.rcpt(str(recipient))
        if code in (250, 251):
            result.taken.append(str(recipient))
        else:
            result.refused[str(recipient)] = _shown(code, text)
    if not result.taken:
        return result
    try:
        code, text = smtp.data(content)
    except smtplib.SMTPDataError as error:  # DATA itself was refused
        code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
    result.reply, result.is_taken = _shown(code, text), code == 250
    if result.is_taken and (found := _QUEUED.search(result.reply)):
        result.id = found[1]
    return result


def _connect(server: Server) -> smtplib.SMTP:
    if isinstance(server.address, UnixAddress):
        smtp: smtplib.SMTP = _UnixSmtp(Path(server.address.path))
    elif server.tls:
        host, port = server.address.host, server.address.port
        smtp = smtplib.SMTP_SSL(host, port, timeout=CONNECT_TIMEOUT, context=_unverified())
    else:
        smtp = smtplib.SMTP(server.address.host, server.address.port, timeout=CONNECT_TIMEOUT)
    assert smtp.sock is not None
    smtp.sock.settimeout(REPLY_TIMEOUT)
    return smtp


class _UnixSmtp(smtplib.SMTP):
    """SMTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__("localhost", timeout=CONNECT_TIMEOUT)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(timeout)
        try:
            with reachable(self._path) as name:
                connected.connect(name)
        except OSError:
            connected.close()
            raise
        return connected


def _unverified() -> ssl.SSLContext:
    """TLS without a verified name: the relay's own pair is self-signed at first, and no password is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _needs_utf8(mailboxes: Sequence[Mailbox]) -> bool:
    return any(not mailbox.local_part.isascii() for mailbox in mailboxes)


def _shown(code: int, text: bytes | str) -> str:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {said}".replace("\n", " / ")


def _why(server: Server, error: OSError | smtplib.SMTPException) -> str:
    match error:
        case ConnectionRefusedError() | FileNotFoundError():
            return f"No relay listens on {server.address}. Start one: postroad serve"
        case smtplib.SMTPNotSupportedError():
            return f"{server.address} does not offer SMTPUTF8, which an address with such letters needs."
        case smtplib.SMTPConnectError() | smtplib.SMTPHeloError():
            return f"{server.address} does not want us: {_shown(error.smtp_code, error.smtp_error)}"
        case smtplib.SMTPServerDisconnected():
            return f"{server.address} closed the connection."
        case TimeoutError():
            return f"{server.address} does not answer."
        case _:
            return f"{server.address}: {error}"
