"""What a delivery report says to people: the first part of it, and its subject.

Owns: the sentences, how hostile text (addresses, other hosts' replies) is made harmless and
folded. Does not own: the part for machines (dsn_fields.py), putting the parts together (dsn.py). Every
line ends up printable and at most LINE_MAX columns wide, unless one word is longer.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from postroad.core.address import Mailbox, to_ascii
from postroad.core.envelope import Recipient
from postroad.core.outcome import Deferred, Delivered, Failed, Stage
from postroad.core.reply import Reply
from postroad.mail.received import format_date

LINE_MAX: Final = 76
"""Columns, as RFC 5322 section 2.1.1 recommends (78 with CRLF)."""
REPLY_MAX: Final = 512
"""Characters of a reply that are repeated: one reply line of RFC 5321 section 4.5.3.1.5."""
_WORD_MAX: Final = 256  # longer ones are broken, far below the 998 octets of a line
_STAGES_OF_OURS: Final = frozenset({Stage.ROUTE, Stage.DNS, Stage.CONNECT, Stage.TLS, Stage.STORE})


class Action(StrEnum):
    """RFC 3464 section 2.3.3. In the order in which a report tells of them."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


class Told(msgspec.Struct, frozen=True):
    """One recipient of a report, and what became of it."""

    recipient: Recipient
    outcome: Delivered | Deferred | Failed
    """Deferred makes the report say "delayed"."""
    attempted_at: float | None = None
    """Of the last attempt, seconds since the epoch, UTC."""
    retry_until: float | None = None
    """For Deferred: when we give up."""

    @property
    def action(self) -> Action:
        match self.outcome:
            case Failed():
                return Action.FAILED
            case Deferred():
                return Action.DELAYED
            case Delivered(relayed=relayed):
                return Action.RELAYED if relayed else Action.DELIVERED

    @property
    def remote_host(self) -> str:
        """The host that gave the reply; empty where the reply is our own."""
        outcome = self.outcome
        if isinstance(outcome, Delivered) or outcome.stage not in _STAGES_OF_OURS:
            return outcome.host
        return ""


_ASKED: Final = {
    Stage.HELLO: " (in reply to EHLO)",
    Stage.AUTH: " (in reply to AUTH)",
    Stage.MAIL: " (in reply to MAIL FROM)",
    Stage.RCPT: " (in reply to RCPT TO)",
    Stage.DATA: " (in reply to DATA)",
    Stage.DOT: " (in reply to the end of the content)",
}
_SUBJECTS: Final = {
    Action.FAILED: "Your message could not be delivered",
    Action.DELAYED: "Your message is delayed",
    Action.DELIVERED: "Your message was delivered",
    Action.RELAYED: "Your message was passed on",
}
_SENTENCES: Final = {
    Action.FAILED: "Your message could not be delivered to {whom}. It will not be tried again.",
    Action.DELAYED: "Your message could not be delivered yet to {whom}. You need not send it again: "
    "delivery will be tried until {until}.",
    Action.DELIVERED: "Your message was delivered to {whom}.",
    Action.RELAYED: "Your message was passed on to a system that sends no reports of delivery, for {whom}. "
    "It may have been delivered; you will only hear of it if that fails.",
}


def subject(told: Sequence[Told]) -> str:
    """Return the subject of a report. Nothing of the message is in it: that is somebody else's text."""
    actions = {one.action for one in told}
    return _SUBJECTS[actions.pop()] if len(actions) == 1 else "Delivery report for your message"


def explanation(told: Sequence[Told], *, hostname: str, is_ascii: bool) -> list[str]:
    """Return the lines for people: what happened, to whom, who said so."""
    lines = [f"This is the relay {hostname}."]
    for action in Action:
        group = [one for one in told if one.action is action]
        if not group:
            continue
        until = max((one.retry_until for one in group if one.retry_until is not None), default=None)
        whom = "this recipient" if len(group) == 1 else f"these {len(group)} recipients"
        shown_until = format_date(until) if until is not None else "its time is up"
        lines += ["", *fold(_SENTENCES[action].format(whom=whom, until=shown_until))]
        for one in group:
            lines += ["", f"<{shown_address(one.recipient.mailbox, is_ascii=is_ascii)}>"]
            lines += fold(_reason(one, is_ascii=is_ascii), indent="    ")
    return lines


def _reason(one: Told, *, is_ascii: bool) -> str:
    host = one.remote_host
    said = shown_reply(one.outcome.reply, is_ascii=is_ascii)
    expired = "Its time was up. The last answer: " if isinstance(one.outcome, Failed) and one.outcome.expired else ""
    if not host:
        return f"{expired}{said}"
    asked = "" if isinstance(one.outcome, Delivered) else _ASKED.get(one.outcome.stage, "")
    return f"{expired}{clean(host, is_ascii=is_ascii)} said: {said}{asked}"


def shown_reply(reply: Reply, *, is_ascii: bool) -> str:
    """Return a reply in one line: code, enhanced code if there was one, text."""
    status = f"{reply.status} " if reply.detail else ""
    return clean(f"{reply.code} {status}{reply.text}"[:REPLY_MAX], is_ascii=is_ascii)


def shown_address(mailbox: Mailbox, *, is_ascii: bool) -> str:
    """Return an address for a report; one that cannot be ASCII with \\x{...} as RFC 6533 section 3 writes it."""
    if not is_ascii or mailbox.is_ascii:
        return clean(str(mailbox), is_ascii=is_ascii)
    domain = to_ascii(mailbox.domain) if mailbox.domain else ""
    return embedded(clean(str(Mailbox(mailbox.local_part, domain)), is_ascii=False))


def embedded(text: str) -> str:
    """Return ``text`` in ASCII, every other character as EmbeddedUnicodeChar of RFC 6533 section 3."""
    return text if text.isascii() else _WIDE.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", text)


_WIDE: Final = re.compile(r"[^\x00-\x7f]")


def clean(text: str, *, is_ascii: bool) -> str:
    """Return ``text`` in one line that can do no harm: newlines become spaces, what does not print ``?``."""
    line = " ".join(text.split())
    if is_ascii:
        line = line.encode("ascii", "replace").decode("ascii")
    return line if line.isprintable() else "".join(shown if shown.isprintable() else "?" for shown in line)


def fold(text: str, *, indent: str = "", first: str = "") -> list[str]:
    """Return ``text`` in lines; ``first`` stands before the first one, ``indent`` before the others (and it)."""
    broken = re.sub(rf"(\S{{{_WORD_MAX}}})(?=\S)", r"\1 ", text)
    return textwrap.wrap(
        broken,
        LINE_MAX,
        initial_indent=first or indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [(first or indent).rstrip()]
