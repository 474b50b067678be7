"""The messages of a world: made so that whoever meets one again knows which it is, and whether it is whole.

Owns: content from a token, reading a token and a delivery report back from octets, by plain parsing of our own. Does
not own: who sends what (story.py). Imports nothing of the product: the judge rests on it.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(rb"^X-Sim: ([a-z0-9]+)\.([0-9]+)\r?$", re.MULTILINE)
_FINAL: Final = re.compile(rb"^Final-Recipient: *rfc822; *(\S+)\r?$", re.MULTILINE | re.IGNORECASE)
_ACTION: Final = re.compile(rb"^Action: *(\S+)\r?$", re.MULTILINE | re.IGNORECASE)
_NAME: Final = re.compile(rb"^Message-ID: *(\S+)\r?$", re.MULTILINE | re.IGNORECASE)
_WORDS: Final = (b"post", b"road", b"..", b".", b"relay", b"\tstation", b"=20", b"RSET", b"QUIT", b"250 ok", b"From x")


def content_of(token: str, attempt: int, size: int, *, ends_bare: bool = False) -> bytes:
    """Return a message of about ``size`` octets; lines begin with dots now and then, as real ones do not.

    ``ends_bare``: its last line ends without CRLF, which BDAT alone can carry.
    """
    head = (
        b"From: <s%s@client.example>\r\nTo: undisclosed\r\nDate: Thu, 1 Jan 2026 12:00:00 +0000\r\n"
        b"Message-ID: <%s.%d@client.example>\r\nSubject: a letter\r\nX-Sim: %s.%d\r\n\r\n"
    ) % (token.encode(), token.encode(), attempt, token.encode(), attempt)
    seed = hashlib.sha256(b"%s.%d" % (token.encode(), attempt)).digest()
    begin = FILLER.find(b"\r\n", int.from_bytes(seed[:2], "big") % 40_000) + 2
    body = FILLER[begin : max(begin, FILLER.rfind(b"\r\n", begin, begin + max(0, size - len(head))) + 2)]
    content = head + seed.hex().encode() + b"\r\n" + body
    return content.removesuffix(b"\r\n") if ends_bare else content


def stuffed(content: bytes) -> bytes:
    """Return the content as it goes over the wire after DATA, the final dot included (RFC 5321 section 4.5.2)."""
    doubled = content.replace(b"\r\n.", b"\r\n..")
    if doubled.startswith(b"."):
        doubled = b"." + doubled
    return doubled + b".\r\n"


def unstuffed(octets: bytes) -> bytes:
    """Return the content of what came over the wire, without its final dot."""
    if octets.startswith(b"."):
        octets = octets[1:]
    return octets.replace(b"\r\n.", b"\r\n")  # whatever follows the dot: that is how one that was not doubled is seen


def hash_of(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=12).digest()


def _filler() -> bytes:
    """Return lines of all sorts, of which each message has its own part."""
    lines = (_WORDS[n * n % len(_WORDS)] + b" %x" % (n * 7_919) * (1 + n % 5) for n in range(6_000))
    return b"\r\n".join(lines) + b"\r\n"


FILLER: Final = _filler()


class Seen(NamedTuple):
    """What somebody can tell of a message that arrived."""

    token: str
    """Empty for a message that is none of the clients'."""
    attempt: int
    hash: bytes
    """Of the content without the trace fields on top."""
    report: tuple[tuple[str, str], ...]
    """For a delivery report: (recipient in lower case, action) of each that it tells of."""
    name: str = ""
    """Its Message-ID, for a report."""


def see(content: bytes) -> Seen:
    """Look at a message."""
    body = _without_trace(content)
    reported = b"multipart/report" in body[:4_096]
    found = None if reported else _TOKEN.search(body[:4_096])
    if found is not None:
        return Seen(found[1].decode(), int(found[2]), hash_of(body), ())
    if not reported:
        return Seen("", 0, hash_of(body), ())
    about = _TOKEN.search(body)
    names = [name.decode().lower().strip("<>") for name in _FINAL.findall(body)]
    actions = [action.decode().lower() for action in _ACTION.findall(body)]
    pairs = tuple(zip(names, actions, strict=False))
    named = _NAME.search(body[:4_096])
    name = named[1].decode("ascii", "replace") if named else ""
    return Seen(about[1].decode() if about else "", int(about[2]) if about else 0, b"", pairs, name)


def _without_trace(content: bytes) -> bytes:
    """Return the content after the Received fields on top."""
    at = 0
    while content[at : at + 9].lower() == b"received:":
        at = content.find(b"\r\n", at) + 2
        while content[at : at + 1] in (b" ", b"\t"):
            at = content.find(b"\r\n", at) + 2
    return content[at:]
