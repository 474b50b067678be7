"""The SMTP client of ``postroad sendmail``: one message to the relay of this machine.

Owns: one conversation on a blocking socket, its time-outs, what a reply means as an exit status, ``-bs``. Does not own:
the relay's own client engine (smtp/client.py), which serves the world; where to connect (nearby.py).

All recipients or none: where one is refused nothing is sent, so that the caller may mend the list and try again without
sending anybody a message twice.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final, NamedTuple

from postroad.cli.nearby import Nearby, Place

CONNECT_TIMEOUT: Final = 10.0
"""Seconds."""
REPLY_TIMEOUT: Final = 60.0
"""Seconds for one reply: the relay is near."""
DOT_TIMEOUT: Final = 600.0
"""Seconds for the reply to the content. RFC 5321 section 4.5.3.2.6."""
LINE_MAX: Final = 4096
LINES_MAX: Final = 200

# Exit statuses of sysexits(3).
OK: Final = 0
USAGE: Final = 64
DATA_ERROR: Final = 65
NO_USER: Final = 67
NO_HOST: Final = 68
UNAVAILABLE: Final = 69
TEMPORARY: Final = 75
NOT_PERMITTED: Final = 77


class Envelope(NamedTuple):
    """What MAIL and RCPT say."""

    sender: str
    """Empty: the null reverse-path."""
    recipients: Sequence[str]
    notify: str = ""
    returned: str = ""
    envelope_id: str = ""
    body: str = ""


class Trouble(Exception):
    """It was not taken. The text is a sentence, ``status`` the exit status."""

    def __init__(self, text: str, status: int = TEMPORARY) -> None:
        super().__init__(text)
        self.status = status


def submit(nearby: Nearby, envelope: Envelope, content: bytes, show: Callable[[str], None] | None = None) -> str:
    """Hand the message over; return the relay's last reply. Raises Trouble."""
    place, connected = connect(nearby)
    with connected:
        try:
            conversation = _Conversation(connected, str(place), show)
            said = conversation.run(nearby.hostname, envelope, content)
        except (OSError, EOFError) as error:
            what = "did not answer in time" if isinstance(error, TimeoutError) else f"broke off: {error}"
            raise Trouble(f"The relay at {place} {what}.") from error
    return said


def connect(nearby: Nearby) -> tuple[Place, socket.socket]:
    """Return a connection to the first place that takes one. Raises Trouble."""
    reasons = []
    for place in nearby.places:
        try:
            return place, _connect(place)
        except OSError as error:
            reasons.append(f"{place}: {error.strerror or error}")
    raise Trouble(f"No relay answers here ({'; '.join(reasons) or 'there is no configuration'}).")


def _connect(place: Place) -> socket.socket:
    if place.path:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(CONNECT_TIMEOUT)
            connected.connect(place.path)
        except BaseException:
            connected.close()
            raise
    else:
        connected = socket.create_connection((place.host, place.port), timeout=CONNECT_TIMEOUT)
    if not place.tls:
        return connected
    import ssl

    # Without a verified name: it is our own listener on this machine, its pair may be self-signed.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connected)


class _Conversation:
    """Command, reply, command, reply."""

    def __init__(self, connected: socket.socket, place: str, show: Callable[[str], None] | None) -> None:
        self._socket = connected
        self._place = place
        self._show = show
        self._held = b""
        connected.settimeout(REPLY_TIMEOUT)

    def run(self, hostname: str, envelope: Envelope, content: bytes) -> str:
        self._expect(*self._reply(), about="")
        extensions = self._hello(hostname)
        self._command(_mail(envelope, content, extensions), about=envelope.sender or "<>")
        for recipient in envelope.recipients:
            options = f" NOTIFY={envelope.notify}" if envelope.notify and "DSN" in extensions else ""
            self._command(f"RCPT TO:<{recipient}>{options}", about=recipient)
        self._command("DATA", about="", wanted=3)
        self._socket.settimeout(DOT_TIMEOUT)
        self._socket.sendall(stuffed(content) + b".\r\n")
        code, text = self._reply()
        self._expect(code, text, about="")
        self._socket.settimeout(1.0)
        try:
            self._say("QUIT")
            self._reply()
        except (OSError, EOFError):
            pass  # the message has been taken: what comes after does not matter
        return f"{code} {text}"

    def _hello(self, hostname: str) -> dict[str, str]:
        """Say EHLO; return the extensions that are offered, with their parameters."""
        name = hostname if hostname.isascii() and hostname.isprintable() and " " not in hostname else "localhost"
        self._say(f"EHLO {name}")
        code, text = self._reply()
        self._expect(code, text, about="")
        return {line.split(" ")[0].upper(): line.partition(" ")[2] for line in text.split("\n")[1:]}

    def _command(self, line: str, *, about: str, wanted: int = 2) -> None:
        self._say(line)
        code, text = self._reply()
        self._expect(code, text, about=about, wanted=wanted)

    def _say(self, line: str) -> None:
        if self._show is not None:
            self._show(f">>> {line}")
        self._socket.sendall(line.encode() + b"\r\n")

    def _reply(self) -> tuple[int, str]:
        """Return code and text of the next reply, its lines joined by LF. Raises EOFError, OSError."""
        lines: list[str] = []
        while len(lines) < LINES_MAX:
            line = self._line()
            lines.append(line[4:])
            if self._show is not None:
                self._show(line)
            if not line[:3].isdigit():
                raise OSError("what it says is no SMTP")
            if line[3:4] != "-":
                return int(line[:3]), "\n".join(lines)
        raise OSError("its reply does not end")

    def _line(self) -> str:
        while b"\n" not in self._held:
            if len(self._held) > LINE_MAX:
                raise OSError("a line of its reply does not end")
            octets = self._socket.recv(LINE_MAX)
            if not octets:
                raise EOFError("it closed the connection")
            self._held += octets
        line, _, self._held = self._held.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def _expect(self, code: int, text: str, *, about: str, wanted: int = 2) -> None:
        if code // 100 != wanted:
            said = f"{code} {text}".replace("\n", " / ")
            shown = "".join(letter if letter.isprintable() else "?" for letter in said)
            raise Trouble(f"{about}{': ' if about else ''}{shown}", exit_status(code, text))


def _mail(envelope: Envelope, content: bytes, extensions: dict[str, str]) -> str:
    """Return the MAIL command. Raises Trouble where the relay cannot take such a message."""
    options = ""
    if "SIZE" in extensions:
        most = int(size) if (size := extensions["SIZE"]).isdigit() else 0
        if 0 < most < len(content):
            raise Trouble(f"The message has {len(content)} octets; the relay takes {most}.", UNAVAILABLE)
        options += f" SIZE={len(content)}"
    needs_utf8 = not all(address.isascii() for address in (envelope.sender, *envelope.recipients))
    if needs_utf8 and "SMTPUTF8" not in extensions:
        raise Trouble("The relay does not offer SMTPUTF8, which an address with such letters needs.", UNAVAILABLE)
    if "8BITMIME" in extensions and (needs_utf8 or (envelope.body != "7BIT" and not content.isascii())):
        options += " BODY=8BITMIME"
    if needs_utf8:
        options += " SMTPUTF8"
    if "DSN" in extensions:
        options += f" RET={envelope.returned}" if envelope.returned else ""
        options += f" ENVID={xtext(envelope.envelope_id)}" if envelope.envelope_id else ""
    return f"MAIL FROM:<{envelope.sender}>{options}"


def xtext(text: str) -> str:
    """Return printable ASCII as RFC 3461 section 4 writes it."""
    return "".join(letter if "!" <= letter <= "~" and letter not in "+=" else f"+{ord(letter):02X}" for letter in text)


def stuffed(content: bytes) -> bytes:
    """Return the content with a dot before each line that begins with one. RFC 5321 section 4.5.2."""
    content = content.replace(b"\r\n.", b"\r\n..")
    return b"." + content if content.startswith(b".") else content


def exit_status(code: int, text: str) -> int:
    """Return the exit status of sysexits(3) that a refusal deserves."""
    detail = text.split(" ")[0].split("\n")[0]
    if code // 100 != 5:
        return TEMPORARY
    if detail in ("5.1.1", "5.1.6", "5.1.10"):
        return NO_USER
    if detail == "5.1.2":
        return NO_HOST
    if detail.startswith("5.1.") or code in (501, 553):
        return DATA_ERROR
    if detail.startswith("5.7.") or code in (530, 535):
        return NOT_PERMITTED
    return UNAVAILABLE


def pipe(nearby: Nearby, incoming: BinaryIO, outgoing: BinaryIO) -> int:
    """Be a wire between a program that speaks SMTP on our standard streams and the relay. Raises Trouble."""
    _, connected = connect(nearby)
    with connected:
        connected.settimeout(None)
        sources = [incoming.fileno(), connected.fileno()]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if connected.fileno() in ready:
                octets = connected.recv(65536)
                if not octets:
                    return OK
                outgoing.write(octets)
                outgoing.flush()
            if incoming.fileno() in ready:
                if octets := incoming.read1(65536):  # type: ignore[attr-defined]
                    connected.sendall(octets)
                else:
                    sources.remove(incoming.fileno())
                    connected.shutdown(socket.SHUT_WR)
