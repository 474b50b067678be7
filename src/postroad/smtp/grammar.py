"""The grammar of commands and their parameters, as regular expressions under the ABNF they implement.

Owns: RFC 5321 section 4.1.1 and 4.1.2 in RFC names, xtext (RFC 3461 section 4), the
addresses of type utf-8 (RFC 6533 section 3); parse_x and format_x of these two stand
side by side. Does not own: addresses (core/address.py), what a parameter means (commands.py).

No expression here takes more than linear time: repeated groups are possessive.
"""

from __future__ import annotations

import re
from typing import Final

# mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF, RFC 5321 section 4.1.1.2
# rcpt = "RCPT TO:" ( "<Postmaster>" / Forward-path ) [SP Rcpt-parameters] CRLF, section 4.1.1.3
#
# Spaces after the colon are not in the grammar and "must not" be there (section 3.3), but programs and people who type
# send them, Postfix and Exim take them, and no other reading of such a line exists: taken.
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_PATH: Final = rf'<((?:[^"<>]|{_QUOTED})*+)>'
MAIL: Final = re.compile(rf"MAIL FROM: *{_PATH}(?: (.*))?", re.IGNORECASE)
RCPT: Final = re.compile(rf"RCPT TO: *{_PATH}(?: (.*))?", re.IGNORECASE)


def _any_case(text: bytes) -> bytes:
    """Return a pattern for ``text`` in any case: half the time that re.IGNORECASE takes."""
    return b"".join(b"[%c%c]" % (letter, letter + 32) if 65 <= letter <= 90 else b"%c" % letter for letter in text)


# The same for nearly all mail, on octets: nothing quoted, nothing but SIZE and 8BITMIME.
_PLAIN_PATH: Final = rb"<([!#-;=?-\[\]-~]*+)>"
PLAIN_MAIL: Final = re.compile(
    _any_case(b"MAIL FROM:")
    + _PLAIN_PATH
    + rb"(?: %s([0-9]{1,20}))?( %s)?" % (_any_case(b"SIZE="), _any_case(b"BODY=8BITMIME"))
)
PLAIN_RCPT: Final = re.compile(_any_case(b"RCPT TO:") + _PLAIN_PATH)

# esmtp-param   = esmtp-keyword ["=" esmtp-value]                     section 4.1.2
# esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
# esmtp-value   = 1*(%d33-60 / %d62-126), and UTF-8 by RFC 6531 section 3.3
PARAMETER: Final = re.compile("([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\x80-\U0010ffff]+))?")

# ehlo = "EHLO" SP ( Domain / address-literal ) CRLF. Section 4.1.4 forbids to refuse mail for a name that is wrong, and
# names with underscores and worse are everywhere: any printable ASCII, as long as a domain may be.
HELLO: Final = re.compile(rb"[A-Z]{4} +([!-~]{1,255}) *", re.IGNORECASE)

# bdat-cmd = "BDAT" SP chunk-size [ SP "LAST" ] CRLF                   RFC 3030 section 2
BDAT: Final = re.compile(rb"BDAT +([0-9]{1,18})( +LAST)? *", re.IGNORECASE)

# auth-command = "AUTH" SP sasl-mech [SP initial-response]             RFC 4954 section 8
# sasl-mech    = 1*20mech-char                                         RFC 4422 section 3.1
AUTH: Final = re.compile(rb"AUTH +([A-Z0-9_-]{1,20})(?: +([!-~]+))? *", re.IGNORECASE)

# size-value = 1*20DIGIT                                               RFC 1870 section 3
SIZE: Final = re.compile("[0-9]{1,20}")
# addr-type = atom                                                     RFC 3461 section 4.2
ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")

# xtext   = *( xchar / hexchar )                                       RFC 3461 section 4
# hexchar = "+" and two upper case hexadecimal digits
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*+")
_HEXCHAR: Final = re.compile(r"\+([0-9A-F]{2})")
_HEXCHAR_OCTET: Final = re.compile(rb"\+([0-9A-F]{2})")
_NOT_XCHAR: Final = re.compile(r"[^!-*,-<>-~]")

# utf-8-addr-xtext   = 1*(QCHAR / EmbeddedUnicodeChar)                 RFC 6533 section 3
# utf-8-addr-unitext = 1*(QUCHAR / EmbeddedUnicodeChar)
# EmbeddedUnicodeChar = "\x{" HEXPOINT "}"
_UNITEXT: Final = re.compile(r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-Fa-f]{2,6}\})++")
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-Fa-f]+)\}")
_NOT_QCHAR: Final = re.compile(r"[^!-*,-<>-\[\]-~]")
_NOT_QUCHAR: Final = re.compile("[^!-*,-<>-\\[\\]-~\u0080-\U0010ffff]")


def parse_xtext(text: str) -> str:
    """Return what the xtext means.

    Raises:
        ValueError: not xtext, or it hides something else than printable ASCII and spaces, which
            neither ENVID nor ORCPT may carry (RFC 3461 section 4.2 and 4.4): a line end in there would end in a report.
    """
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    plain = _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text)
    if not (plain.isascii() and plain.isprintable()):
        raise ValueError("not printable ASCII")
    return plain


def parse_xtext_utf8(text: str) -> str:
    """Return what the xtext means if its octets are UTF-8. No RFC has it; under SMTPUTF8 Postfix writes ORCPT so.

    Raises:
        ValueError: not xtext, or not UTF-8 that can be printed.
    """
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    plain = _HEXCHAR_OCTET.sub(lambda match: bytes([int(match[1], 16)]), text.encode()).decode()
    if not plain.isprintable():
        raise ValueError("not printable")
    return plain


def format_xtext(plain: str) -> str:
    """Return printable ASCII as xtext, RFC 3461 section 4."""
    return _NOT_XCHAR.sub(lambda match: f"+{ord(match[0]):02X}", plain)


def parse_utf8_address(text: str) -> str:
    """Return the address that an ORCPT of type utf-8 means, RFC 6533 section 3.

    Raises:
        ValueError: not of that grammar, or of characters that do not exist or cannot be printed.
    """
    if not _UNITEXT.fullmatch(text):
        raise ValueError("not a utf-8 address")
    address = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
    if not address.isprintable():  # nor is a surrogate, which is no character and which no encoding takes
        raise ValueError("not printable")
    return address


def format_utf8_address(address: str, *, ascii_only: bool) -> str:
    """Return the address for an ORCPT of type utf-8: utf-8-addr-xtext if ``ascii_only``, else utf-8-addr-unitext."""
    special = _NOT_QCHAR if ascii_only else _NOT_QUCHAR
    return special.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address)
