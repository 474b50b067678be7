"""What a server offered in its answer to EHLO or LHLO, RFC 5321 section 4.1.1.1.

Owns: reading that answer. Does not own: what we offer ourselves (extensions.py), what is
done with the offers (client_fit.py, client_commands.py). After STARTTLS all is forgotten
and asked again (RFC 3207 section 4.2).
"""

from __future__ import annotations

from typing import Final

import msgspec

from postroad.core.reply import Reply

SIZE_DIGITS_MAX: Final = 20
"""Digits in the value of SIZE, RFC 1870 section 4."""
MECHANISMS_MAX: Final = 32
"""SASL mechanisms that we remember of one server; more are dropped. Real ones offer up to about ten."""


class Offers(msgspec.Struct, frozen=True, kw_only=True):
    """The extensions of one server. All False and 0 after HELO."""

    name: str = ""
    """What the server calls itself."""
    is_extended: bool = False
    """True if it took EHLO or LHLO."""
    pipelining: bool = False  # RFC 2920 section 3
    size: bool = False  # RFC 1870 section 3
    size_max: int = 0
    """Octets that it takes at most; 0: it did not say, or there is no fixed limit (RFC 1870 section 4)."""
    eight_bit: bool = False  # RFC 6152 section 2
    smtputf8: bool = False  # RFC 6531 section 3.1
    dsn: bool = False  # RFC 3461 section 4
    chunking: bool = False  # RFC 3030 section 2
    binary: bool = False  # RFC 3030 section 3; nothing without chunking
    starttls: bool = False  # RFC 3207 section 4
    mechanisms: tuple[str, ...] = ()
    """Of AUTH, RFC 4954 section 3."""


NO_OFFERS: Final = Offers()


def parse_offers(reply: Reply, *, is_extended: bool) -> Offers:
    """Return what a positive answer to EHLO, LHLO or (nothing then) HELO says."""
    first, *lines = reply.text.split("\n")
    name = first.partition(" ")[0]
    if not is_extended:
        return Offers(name=name)
    offered: dict[str, str] = {}
    for line in lines:
        # "AUTH=PLAIN" is how servers wrote it before RFC 4954; some still say both.
        keyword, _, values = line.replace("=", " ", 1).partition(" ")
        offered.setdefault(keyword.upper(), values)
    size = offered.get("SIZE", "").strip()
    return Offers(
        name=name,
        is_extended=True,
        pipelining="PIPELINING" in offered,
        size="SIZE" in offered,
        size_max=int(size) if size.isascii() and size.isdigit() and len(size) <= SIZE_DIGITS_MAX else 0,
        eight_bit="8BITMIME" in offered,
        smtputf8="SMTPUTF8" in offered,
        dsn="DSN" in offered,
        chunking="CHUNKING" in offered,
        binary="BINARYMIME" in offered and "CHUNKING" in offered,
        starttls="STARTTLS" in offered,
        mechanisms=tuple(offered.get("AUTH", "").upper().split()[:MECHANISMS_MAX]),
    )
