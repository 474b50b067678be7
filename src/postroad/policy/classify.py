"""What a refusal is about: rate, greylisting, reputation, mailbox, size, TLS or something else.

Owns: the kinds, the tables by which a reply is read, which kinds close a window. Does not own: what
follows (window.py, outbound/trouble.py): a kind never turns a 4yz into a 5yz or the reverse.

The enhanced code decides where it is precise; its common uses are not (4.7.1 is said of everything), so
well-known words come before the vague codes, and the first row that matches wins. To teach it a provider's
words, add a row, and the sentence to tests/units/test_policy_classify.py.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from postroad.core.reply import Reply

TEXT_MAX: Final = 1000
"""Characters of a reply that are read."""


class Kind(StrEnum):
    """What a refusal is about. Bounded, so it can label a metric."""

    RATE = "rate"  # too much, too fast, too many connections: less of it will do
    GREYLIST = "greylist"  # a stranger's first try: the next one will do
    REPUTATION = "reputation"  # our address or domain is not liked
    MAILBOX = "mailbox"  # one recipient: full, unknown, disabled
    SIZE = "size"  # this message is too large
    TLS = "tls"  # encryption is wanted, or failed
    OTHER = "other"

    @property
    def closes_window(self) -> bool:
        """True if sending less to this destination is the answer."""
        return self in (Kind.RATE, Kind.REPUTATION)


# Subject and detail that have one meaning, whatever the text: RFC 3463 section 3, RFC 7372 section 3.3, IANA's list.
_PRECISE: Final[dict[tuple[int, int], Kind]] = {
    (1, 1): Kind.MAILBOX,  # no such mailbox
    (1, 6): Kind.MAILBOX,  # moved
    (2, 1): Kind.MAILBOX,  # disabled
    (2, 2): Kind.MAILBOX,  # full
    (2, 3): Kind.SIZE,  # larger than the mailbox takes
    (3, 4): Kind.SIZE,  # larger than the system takes
    (4, 5): Kind.RATE,  # system congestion
    (7, 10): Kind.TLS,  # encryption needed
    (7, 25): Kind.REPUTATION,  # reverse DNS
    (7, 28): Kind.RATE,  # mail flood
}


def _row(kind: Kind, *words: str) -> tuple[Kind, re.Pattern[str]]:
    return kind, re.compile("|".join(words), re.IGNORECASE)


# In this order: what says "greylisted" or "rate" in so many words means it, whatever else it says.
_WORDS: Final = (
    _row(Kind.GREYLIST, r"gr[ea]y-?\s?list", r"\bpostgrey\b", r"try again in \d+ sec", r"first attempt"),
    _row(Kind.TLS, r"\bstarttls\b", r"\btls\b.{0,40}\b(?:required|needed|fail)", r"encryption (?:required|needed)"),
    _row(
        Kind.RATE,
        r"\brate[- ]?limit",
        r"throttl",
        r"too many (?:connections|messages|e?mails|concurrent|sessions|requests|recipients)",
        r"too (?:fast|quickly|frequent)",
        r"(?:connection|concurrency|message|sending|hourly|daily|rate|quota).{0,20} limit (?:exceeded|reached)",
        r"exceed(?:s|ed|ing)? .{0,40}(?:rate|connections|messages)",
        r"unusual rate of",
        r"\[TS0[1-4]\]",  # Yahoo
        r"\b(?:RP-00[1-3]|AC-00[1-3])\b",  # Outlook
        r"server (?:is )?(?:too )?busy",
    ),
    _row(
        Kind.REPUTATION,
        r"\breputation\b",
        r"block ?list|black ?list|deny ?list|\bDNSBL\b|\bRBL\b",
        r"spamhaus|spamcop|barracuda ?central|sorbs|senderbase|talos",
        r"(?:ip|address|host|domain|network|sender) .{0,60}\b(?:blocked|banned|listed)\b",
        r"blocked (?:using|by|because|due)",
        r"\bS3140\b|\bS3150\b",  # Outlook
        r"\[(?:TSS|PH)\d+\]",  # Yahoo
        r"unsolicited|suspicious|likely (?:spam|suspicious)",
        r"reverse (?:dns|hostname|lookup)|\bPTR record",
    ),
    _row(
        Kind.MAILBOX,
        r"over ?quota|quota exceeded|(?:mailbox|storage|inbox) .{0,40}full|out of storage",
        r"(?:user|recipient|mailbox|account|address) .{0,40}(?:unknown|not found|unavailable)",
        r"(?:user|recipient|mailbox|account|address) .{0,40}(?:disabled|inactive|suspended)",
        r"no such (?:user|recipient|mailbox)",
        r"mailbox (?:busy|locked)",
    ),
    _row(Kind.SIZE, r"(?:message|mail) .{0,30}(?:too (?:large|big)|size)", r"size limit|exceeds? .{0,30}size"),
)

# Codes that are vague, asked last.
_VAGUE: Final[dict[tuple[int, int], Kind]] = {
    (3, 2): Kind.RATE,  # "system not accepting network messages", said by busy ones
    (2, 0): Kind.MAILBOX,
    (7, 11): Kind.TLS,
}


def kind_of(reply: Reply) -> Kind:
    """Return what a 4yz or 5yz reply is about; OTHER where nothing tells."""
    if reply.detail is not None and (kind := _PRECISE.get(reply.detail)):
        return kind
    text = reply.text[:TEXT_MAX]
    for kind, words in _WORDS:
        if words.search(text):
            return kind
    if reply.detail is not None and (kind := _VAGUE.get(reply.detail)):
        return kind
    # RFC 5321 section 4.2.3: what the code alone says.
    return Kind.SIZE if reply.code == 552 and reply.detail is None else Kind.OTHER
