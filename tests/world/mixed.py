"""Mail of all sorts, from clients that note what got its 250 to a next hop that notes what came, and who compares them.

Owns: the sorts (small, large, several recipients, put off for now, refused with a report), a token and a hash for each
message, what is owed for a 250, what of it is missing, duplicates and how far from a break. Does not own: the relay and
what is done to it; connections (load.py, counting.py).

What is owed comes from the recipients' names alone: ``nobody.`` is refused for good and owed a report to the sender,
``later.`` is put off a few times, all others are taken at once; all that is not refused must arrive, as it was sent.
"""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.world.counting import Arrived, CountingSink
from tests.world.load import Generator, heard

CONFIG: Final = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[retry]
first = "1s"
longest = "2s"
[facts]
disk_max = "64MiB"
[spool]
min_free = "10MiB"
body_file_above = "16KiB"
"""
LARGE: Final = (20_000, 60_000)
SMALL: Final = (50, 6_000)
PUT_OFF: Final = 2
"""How often a ``later.`` recipient is put off."""
PROMISED: Final = 0.05
"""Seconds before a break within which a delivery may not yet be noted as done (docs/durability.md)."""
RECENT: Final = 0.2
"""The same with what a machine adds that has too much to do: only some of those that come twice may be that old."""
LATE_SHARE: Final = 0.2
"""Share of those that come twice that may be older than promised; a tenth was seen at a load of 12 to 19."""
LATE_FEW: Final = 5
"""So few may be in any case."""
_TRACE: Final = re.compile(rb"Received:.*?\r\n(?![ \t])", re.DOTALL)
_FAILED: Final = re.compile(rb"^Final-Recipient: rfc822; *(\S+)\r$", re.MULTILINE)
_LINES: Final = [b"." * (n % 3) + b"%x\r\n" % random.Random(n).getrandbits(280) for n in range(1_000)]

Key = tuple[str, str]
"""A token and one of its recipients."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What the test keeps of a message."""

    recipients: tuple[str, ...]
    digest: bytes


class MixedSink(CountingSink):
    """A next hop of all the recipients, and of the reports."""

    def __init__(self) -> None:
        super().__init__(rcpt=self._decide)
        self.came: dict[Key, list[float]] = {}
        """When, each time that it came."""
        self.digests: dict[str, set[bytes]] = {}
        self.reports: dict[Key, list[float]] = {}
        self._put_off: Counter[str] = Counter()

    def _decide(self, recipient: str) -> str:
        if recipient.startswith("nobody."):
            return "550 5.1.1 no such user"
        if recipient.startswith("later.") and self._put_off[recipient] < PUT_OFF:
            self._put_off[recipient] += 1
            return "451 4.2.1 come again"
        return "250 2.1.5 Ok"

    def keep(self, message: Arrived) -> None:
        """Note a message in place of keeping it."""
        with self._lock:
            if not message.sender:
                token = _token(message.recipients[0])
                for recipient in _FAILED.findall(message.content):
                    self.reports.setdefault((token, recipient.decode()), []).append(message.at)
                return
            token = message.field(b"X-Token")
            content = _TRACE.sub(b"", message.content, count=1)
            self.digests.setdefault(token, set()).add(hashlib.sha256(content).digest())
            for recipient in message.recipients:
                self.came.setdefault((token, recipient), []).append(message.at)

    def forget_since(self, moment: float) -> None:
        """Forget what came after a moment, with everybody gone who sent it: in the world of the test it never did."""
        with self._lock:
            for seen in (self.came, self.reports):
                for key, times in list(seen.items()):
                    seen[key] = [at for at in times if at <= moment]
                    if not seen[key]:
                        del seen[key]

    @property
    def is_alone(self) -> bool:
        """True if nobody is connected."""
        return not self._connections


class MixedGenerator(Generator):
    """Clients that send all sorts, and keep of each message what is owed for it."""

    def __init__(self, port: int, messages: int, *, seed: int, clients: int = 8, pause: float = 0.0) -> None:
        super().__init__(port, messages, clients=clients, pause=pause, name="m")
        self.letters: dict[str, Letter] = {}
        self.put_back: set[str] = set()
        """Content sent, and answered 4xx."""
        self._dice = random.Random(seed)

    def slow(self, pause: float) -> None:
        """From the next message on a client waits so many seconds between two."""
        self._pause = pause

    def _message(self, sock: socket.socket, readline: object) -> None:
        with self._lock:
            self._next += 1
            token = f"{self._name}{self._next}"
            letter, content = self._write(token)
            self.letters[token] = letter
        commands = [f"MAIL FROM:<s.{token}@client.example>", *(f"RCPT TO:<{to}>" for to in letter.recipients), "DATA"]
        sock.sendall("".join(f"{command}\r\n" for command in commands).encode())
        for _ in commands:
            if (reply := heard(readline))[:1] not in (b"2", b"3"):
                self.refused.append(reply)
                raise EOFError(reply)
        self.awaiting.add(token)
        try:
            sock.sendall(content)
            reply = heard(readline)
        except (OSError, EOFError):
            self.doubtful.add(token)
            raise
        finally:
            self.awaiting.discard(token)
        if reply.startswith(b"250"):
            self.taken.add(token)
        else:
            self.put_back.add(token)
            self.refused.append(reply)
            raise EOFError(reply)

    def _write(self, token: str) -> tuple[Letter, bytes]:
        """Return a message of some sort: what is kept of it, and its octets on the wire."""
        dice = self._dice
        sort = dice.random()
        names = [f"one.{token}@next.example"]
        if sort < 0.10:
            names = [f"{name}.{token}@{name}.example" for name in ("one", "two", "three")]
        elif sort < 0.17:
            names = [f"later.{token}@later.example"]
        elif sort < 0.22:
            names = [f"nobody.{token}@next.example"]
        elif sort < 0.25:
            names = [f"{name}.{token}@next.example" for name in ("one", "later", "nobody")]
        size = dice.randint(*(LARGE if dice.random() < 0.08 else SMALL))
        start = dice.randrange(len(_LINES) - size // 70)
        body = b"".join(_LINES[start : start + size // 70])
        content = f"X-Token: {token}\r\nSubject: kept or not\r\n\r\n".encode() + body
        letter = Letter(tuple(names), hashlib.sha256(content).digest())
        return letter, content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


@dataclass
class Findings:
    """What came of it all."""

    taken: int
    lost: list[Key]
    stray: list[str]
    """Came, and was never sent, or was refused."""
    spoilt: list[str]
    """Came with another content."""
    without_cause: list[Key]
    """Reported, and not refused."""
    doubles: int = 0
    reports_twice: int = 0
    ages: list[float] = field(default_factory=list)
    """Of each double: how long before a break the delivery was that was repeated; seconds, 0 for in flight."""

    def __str__(self) -> str:
        def within(milliseconds: float) -> int:
            return sum(age * 1000 <= milliseconds for age in self.ages)

        wrong = f"{len(self.lost)} lost, {len(self.spoilt)} spoilt, {len(self.stray)} stray"
        ages = f"{within(0)} in flight at a break, {within(50) - within(0)} up to 50 ms before it"
        oldest = f"the oldest {max(self.ages, default=0) * 1000:.0f} ms"
        return (
            f"{self.taken} with 250, {wrong}; {self.doubles} doubles ({ages}, {oldest}; {self.reports_twice} reports)"
        )

    def assert_kept(self) -> None:
        """Fail for a loss, and for anything else that may never be."""
        assert not self.lost, self.lost[:20]
        assert not self.spoilt, self.spoilt[:20]
        assert not self.stray, self.stray[:20]
        assert not self.without_cause, self.without_cause[:20]

    def assert_doubles_lawful(self) -> None:
        """Fail for a delivery that was repeated although it was over long before any break, and for many a bit late."""
        old = [age for age in self.ages if age > RECENT]
        assert not old, f"{len(old)} deliveries were forgotten that were done long before a break: {old[:20]}"
        late = sorted(age for age in self.ages if age > PROMISED)
        most = max(LATE_FEW, int(LATE_SHARE * len(self.ages)))
        assert len(late) <= most, f"{len(late)} of {len(self.ages)} doubles are older than promised: {late[-20:]}"


def owed(generator: MixedGenerator, tokens: Iterable[str]) -> list[Key]:
    """Return what is owed for these messages."""
    return [(token, to) for token in tokens for to in generator.letters[token].recipients]


def missing(sink: MixedSink, keys: Iterable[Key]) -> list[Key]:
    """Return what of it has neither arrived nor been reported."""
    return [key for key in keys if key not in (sink.reports if key[1].startswith("nobody.") else sink.came)]


def compare(generator: MixedGenerator, sink: MixedSink, breaks: list[tuple[float, float]]) -> Findings:
    """Compare what was answered with what came. ``breaks``: begin and end of what may have broken off a delivery."""
    may = generator.taken | generator.doubtful
    came = {token for token, _ in sink.came} | {token for token, _ in sink.reports}
    found = Findings(
        taken=len(generator.taken),
        lost=missing(sink, owed(generator, generator.taken)),
        stray=sorted(came - may),
        spoilt=[token for token, digests in sink.digests.items() if digests != {generator.letters[token].digest}],
        without_cause=[key for key in sink.reports if not key[1].startswith("nobody.")],
    )
    for times in (*sink.came.values(), *sink.reports.values()):
        found.ages += [age_of(at, breaks) for at in sorted(times)[:-1]]
    found.reports_twice = sum(len(times) - 1 for times in sink.reports.values())
    found.doubles = len(found.ages)
    return found


def age_of(at: float, breaks: list[tuple[float, float]]) -> float:
    """Return how long before the next break this was, 0 during one and for a moment after: it lay in a buffer."""
    return min((max(0.0, begin - at) for begin, end in breaks if at <= end + RECENT), default=float("inf"))


def _token(address: str) -> str:
    return address.partition("@")[0].partition(".")[2]
