"""Plays transcripts of SMTP dialogs: tests/dialogs/*.smtp.

Owns: the file format, the check of what a server says, the way to the bare engine. Does not own: the
way to a running server; whoever has one writes a ``Transport`` for it and plays the same files.

A transcript is lines of text, one step each; blank lines and lines that begin with # are for the reader:

    O: protocol=lmtp size_max=40 auth=PLAIN no-chunking   how the server is set up; first, see ``Options``
    C: EHLO client.example                what the client sends, CRLF added
    X: MAIL FROM:<a@b.example>\\n          what it sends, as it is: \\r \\n \\0 \\xHH \\\\ mean octets
    S: 250 2.1.0 *                        the next line of a reply, an fnmatch pattern
    M: a line of the message              as it was kept, CRLF added; R: the same with escapes, as it is
    T:                                    the TLS handshake; E: the client sends no more; Z: the server has closed
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final, Literal, Protocol

import msgspec

from postroad.core import reply
from postroad.core.reply import Reply
from postroad.smtp.errors import PeerError
from postroad.smtp.events import (
    Auth,
    AuthResponse,
    ChunkEnd,
    Content,
    DataEnd,
    DataStart,
    Event,
    Expand,
    Hello,
    HelloVerb,
    Help,
    MailFrom,
    Quit,
    RcptTo,
    Refused,
    Signal,
    StartTls,
    Verify,
)
from postroad.smtp.extensions import Offer, ehlo_reply
from postroad.smtp.extensions import Protocol as SmtpProtocol
from postroad.smtp.server import ServerConnection, State

HOSTNAME: Final = "relay.example"
PASSWORD: Final = b"\0user\0secret"
"""The one response to AUTH that ``answer`` takes, as PLAIN writes it."""

_ESCAPE: Final = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([rn0\\]))")
_NAMED: Final = {b"r": b"\r", b"n": b"\n", b"0": b"\0", b"\\": b"\\"}


class DialogError(AssertionError):
    """The server did not keep to the transcript, or the transcript is wrong. The text names the line."""


class Options(msgspec.Struct, frozen=True):
    """The O: line. Words ``key=value``, or a name alone for true and ``no-`` before it for false."""

    protocol: SmtpProtocol = SmtpProtocol.SMTP
    size_max: int = 1000
    bare_newline: Literal["refuse", "normalize"] = "refuse"
    greeting: int = 220
    starttls: bool = False
    auth: tuple[str, ...] = ()
    auth_after_tls: bool = False
    smtputf8: bool = True
    chunking: bool = True
    binarymime: bool = True
    dsn: bool = True
    pipelining: bool = True

    @property
    def offer(self) -> Offer:
        return Offer(**{name: getattr(self, name) for name in Offer.__struct_fields__})


class Step(msgspec.Struct, frozen=True):
    """One line of a transcript."""

    number: int
    kind: str
    """The letter before the colon; C and M have become X and R."""
    octets: bytes
    """What X and R mean; the pattern of S."""


class Dialog(msgspec.Struct, frozen=True):
    """One transcript."""

    options: Options
    steps: tuple[Step, ...]


def parse_dialog(text: str) -> Dialog:
    """Read a transcript.

    Raises:
        DialogError: a line that is none of those above.
    """
    options, steps = Options(), []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        kind, colon, rest = line[:1], line[1:2], line[2:].removeprefix(" ")
        if colon != ":" or kind not in "OCXSMRTEZ":
            raise DialogError(f"line {number}: {line!r} is no step")
        if kind == "O":
            options = _parse_options(rest, number)
            continue
        octets = rest.encode()
        if kind in "CM":
            kind, octets = {"C": "X", "M": "R"}[kind], octets + b"\r\n"
        elif kind in "XR":
            octets = _ESCAPE.sub(
                lambda match: bytes.fromhex(match[1].decode()) if match[1] else _NAMED[match[2]], octets
            )
        steps.append(Step(number, kind, octets))
    return Dialog(options, tuple(steps))


def _parse_options(text: str, number: int) -> Options:
    values: dict[str, object] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            key, value = key.removeprefix("no-"), str(not key.startswith("no-"))
        values[key.replace("-", "_")] = tuple(value.split(",")) if key == "auth" else value
    try:
        if unknown := set(values) - set(Options.__struct_fields__):
            raise DialogError(f"line {number}: unknown options {', '.join(sorted(unknown))}")
        return msgspec.convert(values, Options, strict=False)
    except msgspec.ValidationError as error:
        raise DialogError(f"line {number}: {error}") from error


class Transport(Protocol):
    """The way to a server."""

    def send(self, octets: bytes) -> None:
        """Send them to the server."""

    def next_line(self) -> bytes | None:
        """Return the next line that the server says, its CRLF taken off; None if it says nothing more."""

    def next_content(self, size: int) -> bytes:
        """Return the next ``size`` octets of what was kept of messages, fewer if there are no more."""

    def start_tls(self) -> None:
        """Shake hands."""

    def end(self) -> None:
        """Send nothing more."""

    def has_closed(self) -> bool:
        """True if the server has closed the connection."""


def play(dialog: Dialog, transport: Transport) -> None:
    """Play a dialog; the greeting is the first thing to hear.

    Raises:
        DialogError: the server says or keeps something else, or more, or less.
    """
    for step in dialog.steps:
        match step.kind:
            case "X":
                transport.send(step.octets)
            case "S":
                line = transport.next_line()
                if line is None or not fnmatchcase(line.decode(), step.octets.decode()):
                    raise DialogError(f"line {step.number}: expected {step.octets!r}, heard {line!r}")
            case "R":
                content = transport.next_content(len(step.octets))
                if content != step.octets:
                    raise DialogError(f"line {step.number}: expected {step.octets!r} to be kept, found {content!r}")
            case "T":
                transport.start_tls()
            case "E":
                transport.end()
            case _:
                if not transport.has_closed():
                    raise DialogError(f"line {step.number}: the server has not closed")
    if (line := transport.next_line()) is not None:
        raise DialogError(f"at the end: heard {line!r} too")
    if content := transport.next_content(1000):
        raise DialogError(f"at the end: {content!r} was kept too")


def at_once(dialog: Dialog) -> Dialog:
    """Return the dialog of a client that sends all it has to say before it listens.

    The server must not say anything else because of it (RFC 2920 section 3.2).
    """
    sent = b"".join(step.octets for step in dialog.steps if step.kind == "X")
    others = tuple(step for step in dialog.steps if step.kind != "X")
    return Dialog(dialog.options, (Step(0, "X", sent), *others))


class EngineTransport:
    """The way to the bare engine: no socket, and ``answer`` in the place of a relay."""

    def __init__(self, options: Options, *, piece: int) -> None:
        self._piece = piece
        self._said = b""
        self._kept = b""
        self._unfinished = b""  # of a message or chunk that has not ended: it never counts
        self.engine = ServerConnection(options.offer, protocol=options.protocol, bare_newline=options.bare_newline)
        self._say(self.engine.send_greeting(Reply(options.greeting, None, f"{HOSTNAME} ESMTP")))

    def send(self, octets: bytes) -> None:
        """Give them to the engine, ``piece`` octets at a time."""
        for start in range(0, len(octets), self._piece):
            if self.engine.state is State.CLOSED:
                return  # as a socket does: what is sent to a closed one is lost
            self.engine.receive_data(octets[start : start + self._piece])
            self._serve()

    def next_line(self) -> bytes | None:
        """Return the next line that was said."""
        line, crlf, rest = self._said.partition(b"\r\n")
        self._said = rest
        return line if crlf else None

    def next_content(self, size: int) -> bytes:
        """Return the next of what was kept."""
        content, self._kept = self._kept[:size], self._kept[size:]
        return content

    def start_tls(self) -> None:
        """As if hands had been shaken."""
        self.engine.tls_started()

    def end(self) -> None:
        """Nothing more comes."""
        self.engine.receive_eof()
        self._serve()

    def has_closed(self) -> bool:
        """True if the engine is closed."""
        return self.engine.state is State.CLOSED

    def _serve(self) -> None:
        try:
            for event in self._events():
                if isinstance(event, Content):
                    self._unfinished += event.octets
                else:
                    if isinstance(event, DataEnd | ChunkEnd):
                        self._kept, self._unfinished = self._kept + self._unfinished, b""
                    answers = [answer(event, self.engine)] * self.engine.replies_due
                    self._say(self.engine.send_replies(answers))
        except PeerError as error:
            self._say(error.reply.to_wire())

    def _events(self) -> Iterator[Event]:
        while not isinstance(event := self.engine.next_event(), Signal):
            yield event

    def _say(self, octets: bytes) -> None:
        self._said += octets


def answer(event: Event, engine: ServerConnection) -> Reply:
    """Return what a simple server says: it takes all but senders and recipients with the local-part ``refused``."""
    match event:
        case Refused(known):
            return known
        case Hello(verb=HelloVerb.HELO):
            return Reply(250, None, HOSTNAME)
        case Hello():
            return ehlo_reply(HOSTNAME, engine.offer)
        case MailFrom(sender=sender):
            return reply.RELAY_DENIED if sender and sender.local_part == "refused" else reply.SENDER_OK
        case RcptTo(recipient=recipient):
            return reply.NOT_HERE if recipient.mailbox.local_part == "refused" else reply.RECIPIENT_OK
        case DataStart():
            return reply.READY_FOR_DATA
        case DataEnd(too_big=True) | ChunkEnd(too_big=True):
            return reply.TOO_BIG
        case ChunkEnd(size=size, last=False):
            return reply.OK.with_text(f"{size} octets so far")
        case DataEnd() | ChunkEnd():
            return reply.QUEUED
        case Quit():
            return reply.BYE
        case Verify():
            return reply.CANNOT_VERIFY
        case Expand():
            return reply.NOT_SUPPORTED
        case Help():
            return reply.HELP
        case StartTls():
            return reply.READY_FOR_TLS
        case Auth(initial=response) | AuthResponse(octets=response):
            return _answer_auth(event, response)
        case _:
            return reply.OK


def _answer_auth(event: Event, response: bytes | None) -> Reply:
    if response == PASSWORD:
        return Reply(235, (7, 0), "Authenticated")
    if response is not None:
        return Reply(535, (7, 8), "Authentication failed")
    return Reply(334, None, "") if isinstance(event, Auth) else reply.AUTH_CANCELLED
