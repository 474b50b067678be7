"""Mailboxes and domains: parse, compare, print, all in one place.

Owns: the grammar of addresses (RFC 5321 section 4.1.2, widened to UTF-8 by
RFC 6531 section 3.3), their limits (RFC 5321 section 4.5.3.1), how two of them
compare, A-labels (RFC 5890 section 2.3.2.1). Does not own: addresses in header
fields (mail), whether we serve a domain (access, policy).

A mailbox is kept in its shortest form: local-part without needless quotes, domain in
lower case. RFC 5321 section 4.1.2 calls the quoted and unquoted forms equivalent and
asks sending systems for the shorter one.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

import idna
import msgspec

LOCAL_PART_MAX: Final = 64
"""Octets. RFC 5321 section 4.5.3.1.1."""
DOMAIN_MAX: Final = 255
"""Octets. RFC 5321 section 4.5.3.1.2."""
LABEL_MAX: Final = 63
"""Octets in one label of a domain. RFC 1035 section 2.3.4."""
PATH_MAX: Final = 256
"""Octets, angle brackets included. RFC 5321 section 4.5.3.1.3."""

# The ABNF of RFC 5321 section 4.1.2 in its own names; UTF8-non-ascii of RFC 6531 section 3.3 joins atext and qtextSMTP.
# The C1 controls and the line and paragraph separators are left out: somebody downstream takes them as line ends.
_UTF8 = r"\u00A0-\u2027\u202A-\U0010FFFF"
_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_UTF8}-]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED_STRING = rf'"(?:[\x20\x21\x23-\x5B\x5D-\x7E{_UTF8}]|\\[\x20-\x7E])*"'
_SUB_DOMAIN = rf"[A-Za-z0-9{_UTF8}](?:[A-Za-z0-9{_UTF8}-]*[A-Za-z0-9{_UTF8}])?"
_DOMAIN = rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*"
_LITERAL = r"\[[\x21-\x5A\x5E-\x7E]+\]"
_AT_DOMAIN_LIST = rf"(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"

_MAILBOX: Final = re.compile(rf"({_DOT_STRING}|{_QUOTED_STRING})@({_DOMAIN}|{_LITERAL})")
_PLAIN_MAILBOX: Final = re.compile(r"([A-Za-z0-9_+=-]+(?:\.[A-Za-z0-9_+=-]+)*+)@([A-Za-z0-9.-]++)")
_SOURCE_ROUTE: Final = re.compile(_AT_DOMAIN_LIST)
_DOT_STRING_ONLY: Final = re.compile(_DOT_STRING)
_DOMAIN_ONLY: Final = re.compile(_DOMAIN)
_LITERAL_ONLY: Final = re.compile(_LITERAL)
_ESCAPED: Final = re.compile(r"\\(.)")
_TO_ESCAPE: Final = re.compile(r'(["\\])')


class AddressError(ValueError):
    """Not an address. The text says what is wrong with it, for a person."""


class Mailbox(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One mailbox, RFC 5321 section 2.3.11.

    ``local_part`` has its quotes and backslashes taken off. ``domain`` is in lower
    case, perhaps with U-labels, perhaps an address literal in brackets; it is empty only for the
    bare ``<Postmaster>`` of RFC 5321 section 4.1.1.3, which means ours.
    """

    local_part: str
    domain: str

    def __str__(self) -> str:
        if not self.domain:
            return format_local_part(self.local_part)
        return f"{format_local_part(self.local_part)}@{self.domain}"

    @property
    def ascii_domain(self) -> str:
        """The domain as A-labels in lower case: what DNS, routes and limits compare."""
        return self.domain if self.domain.isascii() else to_ascii(self.domain)

    @property
    def key(self) -> tuple[str, str]:
        """Equal for two mailboxes exactly when they are the same one, as far as we may know.

        Only the host that delivers may fold the case of a local-part (RFC 5321
        section 2.4), except that postmaster has no case (section 4.5.1).
        """
        folded = self.local_part.lower()
        return (folded if folded == "postmaster" else self.local_part, self.ascii_domain)

    @property
    def is_ascii(self) -> bool:
        """True if the address can travel without SMTPUTF8."""
        return self.local_part.isascii() and self.domain.isascii()

    @property
    def is_literal(self) -> bool:
        """True if the domain is an address literal, RFC 5321 section 4.1.3."""
        return is_literal_domain(self.domain)


Path = Mailbox | None
"""A reverse-path: a mailbox, or ``NULL_PATH``."""
NULL_PATH: Final = None
"""The null reverse-path ``<>`` of RFC 5321 section 4.5.5: what reports carry, and what is never reported to."""


def format_local_part(local_part: str) -> str:
    """Return the local-part with quotes only where the grammar needs them."""
    if _DOT_STRING_ONLY.fullmatch(local_part):
        return local_part
    return '"' + _TO_ESCAPE.sub(r"\\\1", local_part) + '"'


def format_path(path: Path) -> str:
    """Return ``<user@domain>`` or ``<>``, as MAIL and RCPT write it."""
    return "<>" if path is None else f"<{path}>"


def parse_mailbox(text: str) -> Mailbox:
    """Return the mailbox that ``text`` (no angle brackets) names.

    Raises:
        AddressError: not a Mailbox of RFC 5321 section 4.1.2, or past its limits.
    """
    if (plain := _PLAIN_MAILBOX.fullmatch(text)) and len(text) <= LOCAL_PART_MAX:
        # The fast way for nearly all mail: too short for any limit but a label's.
        domain = plain[2].lower()
        if _is_plain_domain(domain):
            return Mailbox(plain[1], domain)
    match = _MAILBOX.fullmatch(text)
    if match is None:
        raise AddressError(f"{_shown(text)} is not a mailbox: it should look like user@domain")
    local_part = match[1]
    if local_part.startswith('"'):
        local_part = _ESCAPED.sub(r"\1", local_part[1:-1])
    if len(format_local_part(local_part).encode()) > LOCAL_PART_MAX:
        raise AddressError(f"the local-part is longer than {LOCAL_PART_MAX} octets")
    mailbox = Mailbox(local_part, parse_domain(match[2]))
    if len(str(mailbox).encode()) > PATH_MAX - 2:
        raise AddressError(f"the address is longer than {PATH_MAX - 2} octets")
    return mailbox


def parse_reverse_path(text: str) -> Path:
    """Return what stands between the brackets of MAIL FROM:<...>, a source route stripped.

    Raises:
        AddressError: neither empty nor a mailbox.
    """
    return NULL_PATH if not text else parse_mailbox(strip_source_route(text))


def parse_forward_path(text: str) -> Mailbox:
    """Return what stands between the brackets of RCPT TO:<...>, a source route stripped.

    The bare ``Postmaster`` of RFC 5321 section 4.1.1.3 has an empty domain.

    Raises:
        AddressError: not a mailbox.
    """
    if text.lower() == "postmaster":
        return Mailbox(text, "")
    return parse_mailbox(strip_source_route(text))


def strip_source_route(text: str) -> str:
    """Return ``text`` without a leading ``@a,@b:``, which must be accepted and ignored (RFC 5321 appendix C)."""
    if not text.startswith("@"):
        return text
    route = _SOURCE_ROUTE.match(text)
    return text[route.end() :] if route else text


def parse_domain(text: str) -> str:
    """Return a domain or address literal in its normal form: lower case, checked.

    Raises:
        AddressError: not a Domain or address-literal of RFC 5321 section 4.1.2.
    """
    if text.startswith("["):
        return _parse_literal(text)
    if not _DOMAIN_ONLY.fullmatch(text):
        raise AddressError(f"{_shown(text)} is not a domain name")
    domain = text.lower()
    ascii_form = domain if domain.isascii() else to_ascii(domain)
    if len(ascii_form) > DOMAIN_MAX:
        raise AddressError(f"the domain is longer than {DOMAIN_MAX} octets")
    if any(len(label) > LABEL_MAX for label in ascii_form.split(".")):
        raise AddressError(f"a label of the domain is longer than {LABEL_MAX} octets")
    return domain


@lru_cache(maxsize=4096)
def to_ascii(domain: str) -> str:
    """Return the domain as A-labels in lower case (RFC 5891 section 4.4), e.g. ``xn--bcher-kva.example``.

    Raises:
        AddressError: a label is not allowed by IDNA 2008.
    """
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressError(f"{_shown(domain)} is not a domain name: {error}") from error


def literal_address(domain: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address of an address literal, or None if ``domain`` is not one of IPv4 or IPv6."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return None
    inner = domain[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            return ipaddress.IPv6Address(inner[5:])
        return ipaddress.IPv4Address(inner)
    except ValueError:
        return None


def is_literal_domain(domain: str) -> bool:
    """True if ``domain`` is an address literal, RFC 5321 section 4.1.3."""
    return domain.startswith("[")


def format_literal(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the address literal of an IP address: ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``."""
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def _parse_literal(text: str) -> str:
    if not _LITERAL_ONLY.fullmatch(text) or len(text) > DOMAIN_MAX:
        raise AddressError(f"{_shown(text)} is not an address literal")
    if (address := literal_address(text)) is not None:
        # RFC 5321 section 4.1.3 has no zone identifiers.
        if "%" in text:
            raise AddressError(f"{_shown(text)} is not an address literal: no zone may be given")
        return format_literal(address)
    # General-address-literal: no tag but IPv6 has ever been registered, and nobody could deliver to another one.
    raise AddressError(f"{_shown(text)} is not an address literal: write [192.0.2.1] or [IPv6:2001:db8::1]")


@lru_cache(maxsize=4096)
def _is_plain_domain(domain: str) -> bool:
    return bool(_DOMAIN_ONLY.fullmatch(domain)) and all(len(label) <= LABEL_MAX for label in domain.split("."))


def _shown(text: str) -> str:
    return ascii(text[:60])
