"""What was said to a next hop and heard of it in one attempt, short, for the fact ``Attempted``.

Owns: what of a dialogue is kept, its bounds, and that no secret and no content gets into it. Does not own: the saying
(session.py), how it is shown (observe/telling.py escapes what a stranger wrote).

Bounds: ENTRIES_MAX entries, TEXT_MAX characters. Where more is said, the beginning and the end are kept, and how many
lines lie between. bench/client_engine.py measures what it costs.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final

from postroad.core.facts import Said

ENTRIES_MAX: Final = 40
TEXT_MAX: Final = 2048
"""Characters of all entries together: with MessagePack's framing the dialogue of a stored fact stays below 4 KiB."""
ENTRY_MAX: Final = 400
"""Characters of one entry. The answer to EHLO of a large provider has about 250."""
LINE_MAX: Final = 120
"""Characters of a line in an entry that has to be cut."""
HEAD_LINES: Final = 3
"""Lines at the beginning of an entry that are kept when it is cut."""
NOTES_MAX: Final = 8
"""Notes of which no entries are made yet."""
NOTE_MAX: Final = 4096
"""Octets of one read that are kept; of more, half at the beginning and half at the end."""
_LAST: Final = 4  # entries that are kept of the end
_ROOM: Final = TEXT_MAX - _LAST * 2 * LINE_MAX - 20  # characters for the beginning

_JOINT: Final = " | "
_HIDDEN: Final = "(hidden)"
_is_verdict: Final = re.compile(rb"[245][0-9][0-9][ -]").match

_Note = tuple[float, str | bytes]
"""When, and what: text of ours, or octets that were heard."""


class Dialogue:
    """Notes what is said over one connection for one message. ``time``: the event loop's clock.

    Noting only appends to a list; the words are made when they are asked for, or when NOTES_MAX notes have come.
    """

    __slots__ = ("_began_at", "_entries", "_hides", "_last", "_left_out", "_notes", "_room", "_time")

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self.restart()

    def restart(self) -> None:
        """Begin anew: another message on the same connection, or another connection."""
        self._began_at = self._time()
        self._notes: list[_Note] = []
        self._entries: list[Said] = []
        self._room = _ROOM
        self._last: deque[tuple[Said, int]] | None = None  # the end, with the lines of each, once there is no room
        self._left_out = 0
        self._hides = False  # an exchange of RFC 4954 section 4 is under way: what we say is secret

    def say(self, octets: bytes, content: int = 0) -> None:
        """Note commands as they go out, line ends included. The last ``content`` octets are content."""
        if content:
            octets = octets[:-content]
        text = _HIDDEN if self._hides else octets.decode("utf-8", "replace").replace("\r\n", _JOINT)[: -len(_JOINT)]
        if "auth" in text.lower():
            text = self._without_secrets(text)
        self.remark(f"{text}{_JOINT}({content} octets)" if content else text)

    def content(self, octets: int) -> None:
        """Note that so many octets of content go out."""
        self.remark(f"({octets} octets)")

    def remark(self, text: str) -> None:
        """Note what nobody said, in parentheses: a handshake, a silence."""
        if len(self._notes) >= NOTES_MAX:
            self._write()
        self._notes.append((self._time(), text))

    def hear(self, octets: bytes) -> None:
        """Note what one read has brought."""
        if len(octets) > NOTE_MAX:
            octets = octets[: NOTE_MAX // 2] + b"\r\n" + octets[-NOTE_MAX // 2 :]
        if self._hides:
            octets = self._without_challenge(octets)
        if len(self._notes) >= NOTES_MAX:
            self._write()
        self._notes.append((self._time(), octets))

    def take(self) -> tuple[Said, ...]:
        """Return what was noted."""
        self._write()
        if self._last is None:
            return tuple(self._entries)
        last = [said for said, _ in self._last]
        if self._left_out:
            last.insert(0, Said(last[0].seconds, last[0].by_us, f"... {self._left_out} more"))
        return (*self._entries, *last)

    def _write(self) -> None:
        """Make entries of the notes: what one side says in one go is one."""
        notes = self._notes
        if not notes:
            return
        at, whole = notes[0]
        for time, note in notes[1:]:
            if isinstance(whole, str) and isinstance(note, str):
                whole = f"{whole}{_JOINT}{note}"
            elif isinstance(whole, bytes) and isinstance(note, bytes):
                whole += note  # a reply may come in pieces
            else:
                self._keep(at, whole)
                at, whole = time, note
        self._keep(at, whole)
        notes.clear()

    def _keep(self, at: float, whole: str | bytes) -> None:
        if isinstance(whole, str):
            text, by_us = whole, True
        else:
            text, by_us = whole.decode("utf-8", "replace").rstrip("\r\n").replace("\r\n", _JOINT), False
        said = Said(at - self._began_at, by_us, text if len(text) <= ENTRY_MAX else _cut(text, ENTRY_MAX))
        if self._last is None and len(self._entries) < ENTRIES_MAX - _LAST - 1 and len(said.text) <= self._room:
            self._entries.append(said)
            self._room -= len(said.text)
        else:
            self._keep_last(said, text.count(_JOINT) + 1)

    def _without_secrets(self, text: str) -> str:
        """Hide what stands behind AUTH in a line of its own, and all that follows. RFC 4954 section 4: the initial
        response is as secret as those after it. (AUTH= of MAIL, section 5, names an identity, not a secret.)"""
        lines = text.split(_JOINT)
        for number, line in enumerate(lines):
            words = line.split()
            if words and words[0].upper() == "AUTH":
                self._hides = True
                return _JOINT.join([*lines[:number], " ".join([*words[:2], _HIDDEN])])
        return text

    def _without_challenge(self, octets: bytes) -> bytes:
        """Hide what is asked of us (334) until a verdict is heard: what is no reply's beginning may be either."""
        if _is_verdict(octets):
            self._hides = False
            return octets
        return b"334 (challenge)\r\n" if octets.startswith(b"334") else b""

    def _keep_last(self, said: Said, lines: int) -> None:
        if self._last is None:
            self._last = deque()
        elif len(self._last) == _LAST:
            self._left_out += self._last.popleft()[1]
        if len(said.text) > 2 * LINE_MAX:
            said = Said(said.seconds, said.by_us, _cut(said.text, 2 * LINE_MAX))
        self._last.append((said, lines))


def _cut(text: str, most: int) -> str:
    """Shorten an entry: its first lines, how many lie between, its last line."""
    lines = [line if len(line) <= LINE_MAX else f"{line[: LINE_MAX - 3]}..." for line in text.split(_JOINT)]
    if len(lines) > HEAD_LINES + 2:
        lines = [*lines[:HEAD_LINES], f"... {len(lines) - HEAD_LINES - 1} more", lines[-1]]
    text = _JOINT.join(lines)
    return text if len(text) <= most else f"{text[: most - 3]}..."
