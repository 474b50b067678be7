"""Where a route sends: "mx", "smtp://h:p", "lmtp+unix:///path", "maildir:PATH", "discard:" and so on.

Owns: the values that `via` and [next_hop.NAME] address become, parsing and
printing. Does not own: choosing among them (policy), going there (outbound).
A bare name stays a NextHopName until the settings as a whole are known, which
replace it by what its [next_hop.NAME] says (config/model.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from postroad.config.addresses import bracketed, is_ip, parse_host_name, parse_unix_path, split_host_port

SMTP_PORT: Final = 25
"""RFC 5321 section 4.5.4.2."""
LMTP_PORT: Final = 24
"""The port that IANA lists for private mail systems, where Dovecot and Cyrus listen by custom."""
REJECT_TEXT_MAX: Final = 400
"""Octets: with code and CRLF it fits the reply line of RFC 5321 section 4.5.3.1.5."""
PLACEHOLDERS: Final = ("user", "domain", "address", "detail")
"""What a maildir template may name."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]+")
_KINDS: Final = "mx, smtp://HOST, lmtp://HOST, lmtp+unix:///PATH, maildir:PATH, discard: or reject:TEXT"


@dataclass(frozen=True, slots=True)
class Mx:
    """The hosts of the recipient's domain, by DNS (RFC 5321 section 5.1)."""

    def __str__(self) -> str:
        return "mx"


@dataclass(frozen=True, slots=True)
class Smtp:
    """One host by SMTP. ``host``: a name as A-labels or an IP address without brackets.

    ``next_hop`` names the [next_hop.NAME] with further settings, or is None.
    """

    host: str
    port: int = SMTP_PORT
    next_hop: str | None = None

    def __str__(self) -> str:
        return self.next_hop or f"smtp://{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Lmtp:
    """One host by LMTP (RFC 2033). Fields as of Smtp."""

    host: str
    port: int = LMTP_PORT
    next_hop: str | None = None

    def __str__(self) -> str:
        return self.next_hop or f"lmtp://{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class LmtpUnix:
    """An LMTP server on a Unix socket of this machine."""

    path: str

    def __str__(self) -> str:
        return f"lmtp+unix://{self.path}"


@dataclass(frozen=True, slots=True)
class Maildir:
    """A Maildir on this machine. ``template`` is an absolute path with {user} {domain} {address} {detail}.

    ``parts`` is the template taken apart: literal text at even indexes, placeholder names at odd ones.
    Whoever fills it in escapes what comes from the message.
    """

    template: str
    parts: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(_PLACEHOLDER.split(self.template)))

    def __str__(self) -> str:
        return f"maildir:{self.template}"


@dataclass(frozen=True, slots=True)
class Discard:
    """Nowhere: the message is dropped, with a fact that names the route."""

    def __str__(self) -> str:
        return "discard:"


@dataclass(frozen=True, slots=True)
class Reject:
    """Refused: the recipient fails with this text."""

    text: str

    def __str__(self) -> str:
        return f"reject:{self.text}"


@dataclass(frozen=True, slots=True)
class NextHopName:
    """A [next_hop.NAME] not yet looked up. Never in loaded settings."""

    name: str

    def __str__(self) -> str:
        return self.name


Via = Mx | Smtp | Lmtp | LmtpUnix | Maildir | Discard | Reject
VIA_TYPES: Final = (Mx, Smtp, Lmtp, LmtpUnix, Maildir, Discard, Reject)


def parse_via(text: str) -> Via | NextHopName:
    """Return where ``text`` sends, or the name of a next hop.

    Raises:
        ValueError: neither; the text says what would be right.
    """
    scheme, colon, rest = text.partition(":")
    if not colon:
        return _parse_word(text)
    if "@" in rest and scheme not in ("maildir", "lmtp+unix", "reject"):  # before any message could repeat them
        raise ValueError("Credentials do not belong here. Leave out what stands before the @.")
    match scheme:
        case "smtp":
            return Smtp(*_parse_host(text, SMTP_PORT))
        case "lmtp":
            return Lmtp(*_parse_host(text, LMTP_PORT))
        case "lmtp+unix":
            return LmtpUnix(_parse_socket(rest))
        case "maildir":
            return _parse_maildir(rest)
        case "discard":
            return _parse_discard(rest)
        case "reject":
            return _parse_reject(rest)
        case "smtps":
            raise ValueError(f'"{text}": smtps: is not in this version. Write "smtp:{rest}" with tls = "required".')
    return _refuse_unknown(text)


def parse_next_hop(text: str) -> Smtp | Lmtp:
    """Return the address of a [next_hop.NAME].

    Raises:
        ValueError: not smtp:// or lmtp://, the two that have settings of their own.
    """
    value = parse_via(text)
    if isinstance(value, (Smtp, Lmtp)):
        return value
    raise ValueError(f'"{text}" has no settings of its own. A next hop is smtp://HOST:PORT or lmtp://HOST:PORT.')


def check_next_hop_name(name: str) -> None:
    """See that a route can name it.

    Raises:
        ValueError: it cannot.
    """
    if name in ("mx", "discard", "reject"):
        raise ValueError(f'A next hop cannot be called "{name}": in `via` the word means something else.')
    if not _NAME.fullmatch(name):
        raise ValueError(
            f'"{name}" is not a name for a next hop. Use letters, digits, "-" and "_", such as provider-a.'
        )


def anchor_via(text: str, base: PurePath) -> str:
    """Return "maildir:mail/{user}" and "lmtp+unix:run/x" with their paths taken from ``base``; others as they are."""
    for scheme in ("maildir:", "lmtp+unix:"):
        path = text.removeprefix(scheme)
        if path != text and path and not path.startswith("/"):
            return f"{scheme}{base / path}"
    return text


def _parse_word(text: str) -> Mx | NextHopName:
    if text == "mx":
        return Mx()
    if not text:
        raise ValueError(f"`via` is empty. Write {_KINDS}, or the name of a next hop.")
    if text in ("discard", "reject"):
        example = "discard:" if text == "discard" else "reject:No such user here"
        raise ValueError(f'"{text}" lacks its colon. Write "{example}".')
    if "." in text or text.startswith("["):
        raise ValueError(f'"{text}" looks like a host. Write "smtp://{text}".')
    check_next_hop_name(text)
    return NextHopName(text)


def _parse_host(text: str, port_default: int) -> tuple[str, int]:
    scheme, _, rest = text.partition(":")
    if not rest.startswith("//"):
        raise ValueError(f'"{text}" lacks its two slashes. Write "{scheme}://{rest.lstrip("/")}".')
    authority = rest[2:]
    if not authority:
        raise ValueError(f'"{text}" names no host. Write "{scheme}://mail.example.org".')
    if set(authority) & set("/?# "):
        raise ValueError(f'"{text}" has something after host and port. Write "{scheme}://HOST:PORT" and nothing more.')
    host, port = split_host_port(authority)
    if port == 0:
        raise ValueError(f'"{text}": 0 is not the port of a server.')
    return (host if is_ip(host) else parse_host_name(host)), port_default if port is None else port


def _parse_socket(rest: str) -> str:
    path = _absolute(rest, "lmtp+unix")
    try:
        return parse_unix_path(path)
    except ValueError as error:
        raise ValueError(str(error).replace("unix:/run/postroad.sock", "lmtp+unix:///run/dovecot/lmtp")) from None


def _parse_maildir(rest: str) -> Maildir:
    template = _absolute(rest, "maildir")
    if not template.strip("/") or "\0" in template:
        raise ValueError('maildir: names no directory. Write "maildir:///var/mail/{domain}/{user}".')
    for name in _PLACEHOLDER.findall(template):
        if name not in PLACEHOLDERS:
            known = " ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise ValueError(f"{{{name}}} is not a placeholder. There are {known}.")
    if set(_PLACEHOLDER.sub("", template)) & set("{}"):
        raise ValueError(f'"maildir:{rest}" has a brace without its partner.')
    return Maildir(template)


def _absolute(rest: str, scheme: str) -> str:
    """Return the path of ``scheme:/path`` or ``scheme:///path``."""
    if rest.startswith("//"):
        if not rest.startswith("///"):
            raise ValueError(f'"{scheme}:{rest}" names a host. Write "{scheme}:///{rest[2:]}", with three slashes.')
        rest = "/" + rest.lstrip("/")
    if rest and not rest.startswith("/"):
        raise ValueError(f'"{rest}" is not an absolute path.')
    return rest


def _parse_discard(rest: str) -> Discard:
    if rest:
        raise ValueError('Nothing may follow "discard:".')
    return Discard()


def _parse_reject(rest: str) -> Reject:
    text = rest.strip()
    if not text:
        raise ValueError('"reject:" lacks its text. Write what the sender is told, such as "reject:No such user here".')
    if not _PRINTABLE.fullmatch(text) or len(text) > REJECT_TEXT_MAX:
        raise ValueError(f"The text after reject: is one line of at most {REJECT_TEXT_MAX} printable ASCII characters.")
    return Reject(text)


def _refuse_unknown(text: str) -> NextHopName:
    host, _, port = text.partition(":")
    if port.isdecimal() or text.startswith("["):
        raise ValueError(f'"{text}" lacks its protocol. Write "smtp://{text}".')
    raise ValueError(f'"{host}:" is not a protocol. Write {_KINDS}, or the name of a next hop.')
