"""From a command line to an event, RFC 5321 section 4.1.1.

Owns: what each command and each parameter of MAIL and RCPT may look like, and the reply if
it does not. Does not own: whether the command is in sequence (server.py), whether the message
is welcome (inbound). The grammar itself is in grammar.py.

A new parameter: a line in _MAIL_PARAMETERS or _RCPT_PARAMETERS, its keyword in extensions.py.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from postroad.core import reply
from postroad.core.address import AddressError, Mailbox, Path, parse_forward_path, parse_reverse_path
from postroad.core.envelope import Body, Notify, OriginalRecipient, Recipient, Ret
from postroad.core.reply import Reply
from postroad.smtp import grammar
from postroad.smtp.errors import PeerError
from postroad.smtp.events import (
    Auth,
    AuthResponse,
    DataStart,
    Event,
    Expand,
    Hello,
    HelloVerb,
    Help,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Refused,
    Reset,
    StartTls,
    Verify,
)
from postroad.smtp.extensions import ENVELOPE_ID_MAX, ORIGINAL_RECIPIENT_MAX, Offer


class ChunkStart(msgspec.Struct, frozen=True, gc=False):
    """BDAT: ``size`` octets follow at once. The engine takes it in itself, the driver hears of its content."""

    size: int


class LastChunkStart(msgspec.Struct, frozen=True, gc=False):
    """BDAT with LAST."""

    size: int


Command = Event | ChunkStart | LastChunkStart


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What a client may say now: it depends on what it was offered."""

    offer: Offer
    is_extended: bool = True
    """False after HELO: nothing was offered, so no parameter may be used."""
    smtputf8: bool = False
    """True if MAIL of this transaction said SMTPUTF8."""


class _Refusal(Exception):
    def __init__(self, answer: Reply) -> None:
        self.answer = answer


def parse_command(line: bytes, terms: Terms) -> Command:
    """Return what the line says; ``Refused`` if it cannot be right. Its CRLF has been taken off.

    Raises:
        PeerError: a BDAT whose octets cannot be counted: nobody knows where the next command begins.
    """
    if (event := _WHOLE.get(line)) is not None:
        return event
    verb = line[:4].upper()
    try:
        if b"\0" in line:
            _refuse(reply.NUL_IN_COMMAND)
        if (parse := _PARSERS.get(verb)) is None:
            _refuse(reply.UNKNOWN_COMMAND)
        return parse(line, terms)
    except _Refusal as refusal:
        return Refused(refusal.answer, verb.decode("ascii") if verb in _PARSERS else "")


def parse_response(line: bytes) -> AuthResponse | Refused:
    """Return what a line after 334 says, RFC 4954 section 4. An empty line is an empty response."""
    if line == b"*":
        return AuthResponse(None)
    try:
        return AuthResponse(_base64(line))
    except _Refusal as refusal:
        return Refused(refusal.answer, "AUTH")


# --- commands, in the order of RFC 5321 section 4.1.1 --------------------------------------------------


def _hello(line: bytes, terms: Terms) -> Hello:
    match = grammar.HELLO.fullmatch(line)
    if match is None:
        _refuse(reply.BAD_DOMAIN_NAME if line[4:5] in b" " else reply.UNKNOWN_COMMAND)
    return Hello(match[1].decode("ascii"), _HELLO_VERBS[line[:4].upper()])


_HELLO_VERBS: Final = {verb.encode("ascii"): verb for verb in HelloVerb}


def _mail(line: bytes, terms: Terms) -> MailFrom:
    if match := grammar.PLAIN_MAIL.fullmatch(line):
        path, size, is_eight_bit = match.groups()
        if terms.is_extended or (size is None and is_eight_bit is None):
            sender = _reverse_path(path.decode("ascii"))
            body = _EIGHT_BIT if is_eight_bit else _SEVEN_BIT
            return MailFrom(sender, body, size=_within(int(size), terms) if size else 0)
    text = _text(line)
    full = grammar.MAIL.fullmatch(text)
    if full is None:
        _refuse(reply.BAD_SYNTAX)
    values = _parameters(full[2], _MAIL_PARAMETERS, terms)
    sender = _reverse_path(full[1])
    if sender is not None and not sender.is_ascii and "smtputf8" not in values:
        _refuse(reply.NEEDS_SMTPUTF8)
    values.pop("auth", None)
    return MailFrom(sender, **values)


_SEVEN_BIT: Final = Body.SEVEN_BIT
_EIGHT_BIT: Final = Body.EIGHT_BIT


def _rcpt(line: bytes, terms: Terms) -> RcptTo:
    if match := grammar.PLAIN_RCPT.fullmatch(line):
        return RcptTo(Recipient(_forward_path(match[1].decode("ascii"))))
    full = grammar.RCPT.fullmatch(_text(line))
    if full is None:
        _refuse(reply.BAD_SYNTAX)
    values = _parameters(full[2], _RCPT_PARAMETERS, terms)
    mailbox = _forward_path(full[1])
    if not mailbox.is_ascii and not terms.smtputf8:
        _refuse(reply.NEEDS_SMTPUTF8)
    return RcptTo(Recipient(mailbox, **values))


def _bdat(line: bytes, terms: Terms) -> ChunkStart | LastChunkStart:
    match = grammar.BDAT.fullmatch(line)
    if match is None:
        if line[4:5] not in b" ":
            _refuse(reply.UNKNOWN_COMMAND)
        # Octets follow, nobody knows how many. To take them as commands would let a message speak as its sender.
        raise PeerError(reply.BAD_CHUNK_SIZE)
    return (LastChunkStart if match[2] else ChunkStart)(int(match[1]))


def _bare(event: Event) -> Callable[[bytes, Terms], Event]:
    """Return the parser of a command that takes no argument; trailing spaces are tolerated (section 4.1.1)."""

    def parse(line: bytes, terms: Terms) -> Event:
        if line[4:].strip(b" "):
            _refuse(reply.BAD_SYNTAX if line[4:5] == b" " else reply.UNKNOWN_COMMAND)
        return event

    return parse


def _noop(line: bytes, terms: Terms) -> Noop:
    _argument(line)
    return Noop()


def _verify(line: bytes, terms: Terms) -> Verify:
    return Verify(_argument(line, least=1))


def _expand(line: bytes, terms: Terms) -> Expand:
    return Expand(_argument(line, least=1))


def _help(line: bytes, terms: Terms) -> Help:
    return Help(_argument(line))


def _starttls(line: bytes, terms: Terms) -> StartTls:
    verb, _, rest = line.partition(b" ")
    if verb.upper() != b"STARTTLS":
        _refuse(reply.UNKNOWN_COMMAND)
    if rest.strip(b" "):  # RFC 3207 section 4: no parameters, 501
        _refuse(reply.BAD_SYNTAX)
    return StartTls()


def _auth(line: bytes, terms: Terms) -> Auth:
    if line[4:5] not in b" ":
        _refuse(reply.UNKNOWN_COMMAND)
    if not (terms.offer.auth and terms.is_extended):
        _refuse(reply.AUTH_NEEDS_TLS if terms.offer.auth_after_tls else reply.AUTH_NOT_OFFERED)
    match = grammar.AUTH.fullmatch(line)
    if match is None:
        _refuse(reply.BAD_SYNTAX)
    mechanism = match[1].decode("ascii").upper()
    if mechanism not in terms.offer.auth:
        _refuse(reply.UNKNOWN_MECHANISM)
    if match[2] is None:
        return Auth(mechanism)
    return Auth(mechanism, b"" if match[2] == b"=" else _base64(match[2]))


_WHOLE: Final[dict[bytes, Event]] = {b"DATA": DataStart(), b"QUIT": Quit(), b"RSET": Reset(), b"NOOP": Noop()}
_PARSERS: Final[dict[bytes, Callable[[bytes, Terms], Command]]] = {
    b"EHLO": _hello,
    b"HELO": _hello,
    b"LHLO": _hello,
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _bare(DataStart()),
    b"BDAT": _bdat,
    b"RSET": _bare(Reset()),
    b"VRFY": _verify,
    b"EXPN": _expand,
    b"HELP": _help,
    b"NOOP": _noop,
    b"QUIT": _bare(Quit()),
    b"STAR": _starttls,
    b"AUTH": _auth,
}

# --- parameters ----------------------------------------------------------------------------------------


def _size(value: str, terms: Terms) -> int:
    if not grammar.SIZE.fullmatch(value):
        raise ValueError(value)
    return _within(int(value), terms)


def _within(size: int, terms: Terms) -> int:
    if size > terms.offer.size_max:  # RFC 1870 section 6.1: refuse now rather than after the content
        _refuse(reply.TOO_BIG)
    return size


def _body(value: str, terms: Terms) -> Body:
    body = Body(value.upper())
    if body is Body.BINARY and not terms.offer.has_binary:
        raise ValueError(value)
    return body


def _no_value(value: str, terms: Terms) -> bool:
    if value:
        raise ValueError(value)
    return True


def _ret(value: str, terms: Terms) -> Ret:
    return Ret(value.upper())


def _envelope_id(value: str, terms: Terms) -> str:
    if not 1 <= len(value) <= ENVELOPE_ID_MAX:
        raise ValueError(value)
    return grammar.parse_xtext(value)


def _auth_identity(value: str, terms: Terms) -> str:
    # RFC 4954 section 5: taken from anybody, believed of nobody unless trusted; we trust nobody, as it allows.
    if not value:
        raise ValueError(value)
    return value if value == "<>" else grammar.parse_xtext(value)


def _notify(value: str, terms: Terms) -> int:
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return int(Notify.NEVER)
    notify = 0
    for word in words:
        notify |= _NOTIFY_WORDS[word]
    return notify


_NOTIFY_WORDS: Final = {word.name: int(word) for word in (Notify.SUCCESS, Notify.FAILURE, Notify.DELAY)}


def _original(value: str, terms: Terms) -> OriginalRecipient:
    address_type, semicolon, address = value.partition(";")
    if not (semicolon and address and len(value.encode()) <= ORIGINAL_RECIPIENT_MAX):
        raise ValueError(value)
    if not grammar.ADDRESS_TYPE.fullmatch(address_type):
        raise ValueError(value)
    if address_type.lower() == "rfc822" and terms.smtputf8:  # Postfix says so what RFC 6533 section 3 calls utf-8
        plain = grammar.parse_xtext_utf8(address)
        return OriginalRecipient(address_type if plain.isascii() else "utf-8", plain)
    if address_type.lower() != "utf-8":
        return OriginalRecipient(address_type, grammar.parse_xtext(address))
    if not (address.isascii() or terms.smtputf8):  # RFC 6533 section 3: utf-8-addr-unitext needs SMTPUTF8
        raise ValueError(value)
    return OriginalRecipient(address_type, grammar.parse_utf8_address(address))


class _Parameter(NamedTuple):
    field: str
    """Of the event."""
    is_offered: Callable[[Offer], bool]
    parse: Callable[[str, Terms], object]
    """Raises ValueError or KeyError for a bad value."""


_MAIL_PARAMETERS: Final = {
    "SIZE": _Parameter("size", lambda offer: True, _size),  # RFC 1870 section 3
    "BODY": _Parameter("body", lambda offer: True, _body),  # RFC 6152 section 2
    "SMTPUTF8": _Parameter("smtputf8", lambda offer: offer.smtputf8, _no_value),  # RFC 6531 section 3.4
    "RET": _Parameter("ret", lambda offer: offer.dsn, _ret),  # RFC 3461 section 4.3
    "ENVID": _Parameter("envelope_id", lambda offer: offer.dsn, _envelope_id),  # RFC 3461 section 4.4
    "AUTH": _Parameter("auth", lambda offer: bool(offer.auth), _auth_identity),  # RFC 4954 section 5
}
_RCPT_PARAMETERS: Final = {
    "NOTIFY": _Parameter("notify", lambda offer: offer.dsn, _notify),  # RFC 3461 section 4.1
    "ORCPT": _Parameter("original", lambda offer: offer.dsn, _original),  # RFC 3461 section 4.2
}


def _parameters(rest: str | None, known: Mapping[str, _Parameter], terms: Terms) -> dict[str, Any]:
    """Return the parameters of MAIL or RCPT by the fields of their event.

    Twice the same: 501 (RFC 3461 section 4.5). Unknown, or not offered to this client: 555 (RFC 5321 section 4.1.1.11).
    """
    values: dict[str, Any] = {}
    for word in (rest or "").split(" "):
        if not word:
            continue
        match = grammar.PARAMETER.fullmatch(word)
        if match is None:
            _refuse(reply.BAD_SYNTAX)
        keyword = match[1].upper()
        parameter = known.get(keyword)
        if parameter is None or not (terms.is_extended and parameter.is_offered(terms.offer)):
            _refuse(reply.UNKNOWN_PARAMETER.with_text(f"Parameter {keyword} not recognised or not offered"))
        if parameter.field in values:
            _refuse(reply.BAD_SYNTAX.with_text(f"Parameter {keyword} given twice"))
        try:
            values[parameter.field] = parameter.parse(match[2] or "", terms)
        except (ValueError, KeyError):
            _refuse(reply.BAD_SYNTAX.with_text(f"Syntax error in the value of {keyword}"))
    return values


# --- pieces -----------------------------------------------------------------------------------------


def _refuse(answer: Reply) -> NoReturn:
    raise _Refusal(answer)


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        _refuse(reply.BAD_SYNTAX)


def _argument(line: bytes, *, least: int = 0) -> str:
    if line[4:5] not in b" ":
        _refuse(reply.UNKNOWN_COMMAND)
    argument = _text(line[4:]).strip(" ")
    if len(argument) < least:
        _refuse(reply.BAD_SYNTAX)
    return argument


def _reverse_path(text: str) -> Path:
    try:
        return parse_reverse_path(text)
    except AddressError:
        _refuse(reply.BAD_SENDER_ADDRESS)


def _forward_path(text: str) -> Mailbox:
    try:
        return parse_forward_path(text)
    except AddressError:
        _refuse(reply.BAD_ADDRESS)


def _base64(octets: bytes) -> bytes:
    try:
        return a2b_base64(octets, strict_mode=True)
    except ValueError:  # RFC 4954 section 4: whatever is not base64 fails the command with 501
        _refuse(reply.BAD_BASE64)
