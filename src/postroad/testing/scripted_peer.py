"""A server that says what a transcript says: the next hop of our own tests, and of plugins' and simulations'.

Owns: the format of client transcripts, hearing and speaking by it. Does not own: our side, which is the real
outbound session; transcripts of our server (play.py).

A transcript is lines of text, one step each; blank lines and lines that begin with # are for the reader:

    O: to=bob@b.example,eve@b.example content=Hi\\r\\n    what is to be delivered; see ``Order``
    S: 250 Ok                     the server says it, CRLF added; W: the same with escapes, as it is
    C: MAIL FROM:<a@a.example>    the client must say exactly this, CRLF added; X: the same with escapes
    Z:                            the server closes; A: it resets the connection; E: the client must have closed
    R: 0 dot 250 2.0.0 Ok         what a recipient must get (number, stage, reply); R: error mail Closed, for the rest

Lines of C that follow each other must come without waiting for an answer; where S follows, nothing more may have come.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, Literal

import msgspec

from postroad.core.address import parse_forward_path, parse_reverse_path
from postroad.core.envelope import Body, Envelope, Notify, OriginalRecipient, Recipient, Ret
from postroad.net.stream import Stream, StreamBroken
from postroad.testing.play import DialogError

_ESCAPE: Final = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([rn0s\\]))")
_NAMED: Final = {b"r": b"\r", b"n": b"\n", b"0": b"\0", b"s": b" ", b"\\": b"\\"}
_TURNS: Final = 4
"""Turns of the loop in which a client that speaks too early would be heard."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The O: lines: one message to deliver, words ``key=value``. A value with escapes (\\r \\n \\0 \\s \\xHH \\\\) is
    UTF-8; ``content`` is octets. Several O: lines: one message after the other, over the same session."""

    to: tuple[str, ...]
    sender: str = "a@a.example"
    content: bytes = b"Subject: x\r\n\r\n.dot\r\n"
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str | None = None
    notify: int = 0
    orcpt: str | None = None

    @property
    def envelope(self) -> Envelope:
        """The envelope; all recipients have the same NOTIFY and ORCPT."""
        kind, semicolon, address = (self.orcpt or "").partition(";")
        original = OriginalRecipient(kind, address) if semicolon else None
        return Envelope(
            parse_reverse_path(self.sender),
            tuple(Recipient(parse_forward_path(address), self.notify, original) for address in self.to),
            body=self.body,
            smtputf8=self.smtputf8,
            ret=self.ret,
            envelope_id=self.envid,
        )


class Step(msgspec.Struct, frozen=True):
    """One line of a transcript."""

    number: int
    kind: Literal["C", "S", "Z", "A", "E"]
    octets: bytes = b""
    """What C and S mean; X and W have become them."""


class Transcript(msgspec.Struct, frozen=True):
    """One transcript."""

    orders: tuple[Order, ...]
    steps: tuple[Step, ...]
    results: tuple[str, ...]
    """The R: lines, for whoever plays our side to compare, sorted."""
    protocol: Literal["smtp", "lmtp"] = "smtp"


def parse_transcript(text: str) -> Transcript:
    """Read a transcript. It is LMTP if the client says LHLO.

    Raises:
        DialogError: a line that is none of those above.
    """
    orders, steps, results = [], [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        kind, colon, rest = line[:1], line[1:2], line[2:].removeprefix(" ")
        if colon != ":" or kind not in "OCXSWZAER":
            raise DialogError(f"line {number}: {line!r} is no step")
        if kind == "O":
            orders.append(_parse_order(rest, number))
        elif kind == "R":
            results.append(rest.strip())
        elif kind in "CS":
            steps.append(Step(number, kind, rest.encode() + b"\r\n"))  # type: ignore[arg-type]
        elif kind in "XW":
            steps.append(Step(number, "C" if kind == "X" else "S", _unescape(rest.encode())))
        else:
            steps.append(Step(number, kind))  # type: ignore[arg-type]
    is_lmtp = any(step.octets.startswith(b"LHLO") for step in steps)
    return Transcript(tuple(orders), tuple(steps), tuple(sorted(results)), "lmtp" if is_lmtp else "smtp")


def _parse_order(text: str, number: int) -> Order:
    values: dict[str, object] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        octets = _unescape(value.encode())
        match key:
            case "content":
                values[key] = octets
            case "to":
                values[key] = tuple(octets.decode().split(","))
            case "notify":
                values[key] = sum(Notify[name] for name in value.split(","))
            case _:
                values[key] = octets.decode()
    try:
        return msgspec.convert(values, Order, strict=False)
    except msgspec.ValidationError as error:
        raise DialogError(f"line {number}: {error}") from error


def _unescape(octets: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else _NAMED[match[2]], octets)


class ScriptedPeer:
    """Plays the server's part of a transcript over a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._heard = b""

    async def play(self, steps: tuple[Step, ...]) -> None:
        """Play it to the end. Whoever calls sets a time for it: a client that waits for ever is waited for.

        Raises:
            DialogError: the client says something else, too early, or closes where it should not.
        """
        for step in steps:
            match step.kind:
                case "C":
                    await self._hear(step)
                case "S":
                    await self._check_silence(step)
                    await self._stream.write(step.octets)
                case "Z":
                    self._stream.close()
                case "A":
                    self._stream.abort()
                case "E":
                    await self._hear_end(step)

    async def _hear(self, step: Step) -> None:
        while len(self._heard) < len(step.octets) and step.octets.startswith(self._heard):
            octets = await self._read()
            if not octets:
                raise DialogError(f"line {step.number}: expected {step.octets!r}, heard {self._heard!r} and the end")
            self._heard += octets
        if not self._heard.startswith(step.octets):
            raise DialogError(f"line {step.number}: expected {step.octets!r}, heard {self._heard!r}")
        self._heard = self._heard[len(step.octets) :]

    async def _check_silence(self, step: Step) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if self._stream.unread:
            self._heard += await self._read()
        if self._heard:
            raise DialogError(f"line {step.number}: the client has spoken too early: {self._heard!r}")

    async def _hear_end(self, step: Step) -> None:
        if octets := self._heard or await self._read():
            raise DialogError(f"line {step.number}: expected the end, heard {octets!r}")

    async def _read(self) -> bytes:
        try:
            return await self._stream.read()
        except StreamBroken:
            return b""
