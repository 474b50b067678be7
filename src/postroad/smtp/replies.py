"""From the octets that a server sends to replies, RFC 5321 section 4.2.

Owns: the grammar of reply lines, what is tolerated in them, the bounds on them. Does not
own: which reply answers which command (client.py), what follows from it (outbound/trouble.py).

Servers may say things that no RFC foresees. Tolerated: a bare LF as line end, a code without
text, control characters and octets that are not UTF-8 (shown as "?"), lines far past the 512
octets of RFC 5321 section 4.5.3.1.5. Not tolerated, since then nobody knows which command is
answered: a line without a code, a code outside 200 to 599, two codes in one reply, no end.
"""

from __future__ import annotations

import re
from typing import Final

from postroad.core.reply import LINES_MAX, Reply
from postroad.core.units import KIB
from postroad.smtp.errors import PeerError

REPLY_LINE_MAX: Final = 2000
"""Octets of one line that are kept; the rest of the line is dropped."""
REPLY_OCTETS_MAX: Final = 32 * KIB
"""Octets of one whole reply, dropped ones counted. The longest answers to EHLO have about 1 KiB."""
BROKEN_REPLY: Final = Reply(451, (5, 0), "The next hop's reply makes no sense")
"""What becomes of an attempt whose peer cannot be followed: RFC 3463 section 3.6, other protocol status."""

# The plain one-line reply, which is nearly every one; whatever does not fit goes the long way.
_PLAIN: Final = re.compile(
    rb"([2-5])([0-9][0-9]) +(?:([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |(?=\r)))?([ -~]{0,1900})\r\n"
)
_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_STATUS: Final = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |$)")
_CONTROL: Final = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\U0010ffff]")


class ReplyReader:
    """Takes octets as they come, gives whole replies. How they come changes nothing."""

    __slots__ = ("_buffer", "_code", "_lines", "_octets", "_position")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0  # in _buffer: what stands before it has been taken
        self._octets = 0  # of the lines of the unfinished reply that have been taken
        self._code = 0  # of the unfinished reply; 0 between replies
        self._lines: list[str] = []

    @property
    def holds_octets(self) -> bool:
        """True if something came that is not part of a reply already given."""
        return self._position < len(self._buffer) or self._code != 0

    def feed(self, octets: bytes) -> None:
        """Take octets."""
        self._buffer = octets if self._position == len(self._buffer) else self._buffer[self._position :] + octets
        self._position = 0

    def next_reply(self) -> Reply | None:
        """Return the next whole reply, or None if more octets are needed.

        Raises:
            PeerError: what came is no reply, or one without end.
        """
        if self._code == 0 and (match := _PLAIN.match(self._buffer, self._position)):
            self._position = match.end()
            digit, more, status, subject, detail, text = match.groups()
            if status == digit:
                return Reply(int(digit + more), (int(subject), int(detail)), text.decode("ascii").strip())
            if status is None:
                return Reply(int(digit + more), None, text.decode("ascii").strip())
            # An enhanced code of another class than the reply's is no enhanced code (RFC 2034 section 4).
            return Reply(int(digit + more), None, match[0][4:].decode("ascii").strip())
        while (line := self._next_line()) is not None:
            if reply := self._take_line(line):
                return reply
        return None

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._position)
        size = (end + 1 if end >= 0 else len(self._buffer)) - self._position
        if self._octets + size > REPLY_OCTETS_MAX:
            raise PeerError(BROKEN_REPLY.with_text(f"A reply of more than {REPLY_OCTETS_MAX} octets"))
        if end < 0:
            return None
        line = self._buffer[self._position : end].rstrip(b"\r")
        self._position = end + 1
        self._octets += size
        return line

    def _take_line(self, line: bytes) -> Reply | None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise PeerError(BROKEN_REPLY.with_text(f"Not a reply: {_shown(line[:60])}"))
        code = int(match[1])
        if self._code not in (0, code):
            raise PeerError(BROKEN_REPLY.with_text(f"One reply with the codes {self._code} and {code}"))
        self._code = code
        if len(self._lines) < LINES_MAX:
            self._lines.append(_shown((match[3] or b"")[:REPLY_LINE_MAX]).strip())
        return None if match[2] == b"-" else self._finish()

    def _finish(self) -> Reply:
        code, lines = self._code, self._lines
        self._code, self._octets, self._lines = 0, 0, []
        status = _STATUS.match(lines[0])
        if status is None or int(status[1]) != code // 100:
            return Reply(code, None, "\n".join(lines))
        # Each line repeats the code (RFC 2034 section 4); in our own form it stands apart from the text.
        prefix = status[0].rstrip(" ")
        text = "\n".join(line.removeprefix(prefix).strip() for line in lines)
        return Reply(code, (int(status[2]), int(status[3])), text)


def _shown(octets: bytes) -> str:
    return _CONTROL.sub("?", octets.decode("utf-8", "replace").replace("\t", " "))
