"""The zoo of next hops: servers that take, refuse, break off, dawdle and lie, and write down what they took.

Owns: their side of SMTP. Does not own: chances (story.Peer), what follows (judge.py). A peer writes a message down the
moment it takes it, whether or not its answer ever arrives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from postroad.core.faces import Dice
from postroad.testing.sim import mail
from postroad.testing.sim.book import Book, Take
from postroad.testing.sim.kernel import START, Kernel
from postroad.testing.sim.network import Wire
from postroad.testing.sim.story import Peer
from postroad.testing.sim.talk import Talk

_GARBAGE = (b"\x00\xff\x13 what\r\n", b"999 nine\r\n", b"250\r\n250\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"25")


class Zoo:
    """One peer as all its connections share it."""

    def __init__(self, kernel: Kernel, book: Book, dice: Dice, peer: Peer) -> None:
        self.kernel = kernel
        self.book = book
        self.dice = dice
        self.peer = peer
        self.first_seen: dict[str, float] = {}
        self.open: dict[int, Wire] = {}
        self.busy: set[int] = set()
        """Connections on which a message is under way."""
        self.crowd_max = 0
        self.connections = 1_000_000
        """How many the relay may hold here."""
        self.taken_at: list[float] = []
        self.on_take: Callable[[Take], None] = lambda take: None

    def count(self) -> None:
        """Count the connections that the relay holds here now."""
        held = sum(wire.is_held for wire in self.open.values())
        self.crowd_max = max(self.crowd_max, held)
        if held > self.connections:
            self.book.held.append((self.kernel.now, self.peer.name, held))

    @property
    def is_well(self) -> bool:
        return self.kernel.now - START >= self.peer.well_after

    def happens(self, share: float) -> bool:
        return share > 0.0 and not self.is_well and self.dice.random() < share


def share_of(text: str) -> float:
    """Return a number from 0.0 to below 1.0 that is the text's own, the attempt's number left aside."""
    name, _, domain = text.partition("@")
    key = ".".join(name.split(".")[:2]) + "@" + domain
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") / 2**32


class PeerTalk(Talk):
    """One connection of a peer."""

    def __init__(self, zoo: Zoo) -> None:
        super().__init__()
        self.zoo = zoo
        self.sender: str | None = None
        self._mail_at = 0.0
        self._mails = 0
        self.recipients: list[str] = []
        self._content: bytearray | None = None
        self._chunk = -1
        self._is_last = False
        self._is_silent = False
        self._has_refused_rset = False
        self._free_at = 0.0

    def begun(self) -> None:
        zoo = self.zoo
        zoo.open[self.wire.number] = self.wire
        zoo.count()
        self._is_silent = zoo.happens(zoo.peer.silent)
        if self._is_silent:
            return
        if zoo.happens(zoo.peer.garbage):
            self.answer(_GARBAGE[int(zoo.dice.random() * len(_GARBAGE))])
        else:
            self.answer(b"220 %s ESMTP\r\n" % zoo.peer.name.encode())

    def ended(self) -> None:
        self.zoo.open.pop(self.wire.number, None)
        self.zoo.busy.discard(self.wire.number)

    def answer(self, octets: bytes, when_carried: Callable[[], None] | None = None) -> None:
        zoo = self.zoo
        if zoo.peer.slow and not zoo.is_well:
            self._free_at = max(self._free_at, zoo.kernel.now + zoo.peer.slow * zoo.dice.random())
        if self._free_at > zoo.kernel.now:
            zoo.kernel.at(self._free_at, self.say, octets, when_carried)
        else:
            self.say(octets, when_carried)

    # --- what comes ---

    def heard(self) -> None:
        if self._is_silent:
            self.buffer = b""
            return
        while self.is_open and self._step():
            pass

    def _step(self) -> bool:
        """Take one line, or some content; False if there is none."""
        if self._chunk >= 0:
            return self._take_chunk()
        if self._content is not None:
            return self._take_content()
        line, end, rest = self.buffer.partition(b"\r\n")
        if not end:
            return False
        self.buffer = rest
        verb, _, more = line.decode("latin-1").partition(" ")
        self._command(verb.upper(), more)
        return True

    def _command(self, verb: str, more: str) -> None:
        match verb:
            case "EHLO" | "LHLO":
                self._hello()
            case "HELO":
                self.answer(b"250 hello\r\n")
            case "STARTTLS":
                self._start_tls()
            case "MAIL":
                self._mail(more)
            case "RCPT":
                self._rcpt(more)
            case "DATA":
                self._data()
            case "BDAT":
                self._bdat(more)
            case "RSET" if self.zoo.peer.refuses_rset and not self.zoo.is_well:
                self._has_refused_rset = True
                self.answer(b"502 5.5.1 What?\r\n")
            case "RSET":
                self.sender, self.recipients = None, []
                self.answer(b"250 ok\r\n")
            case "QUIT":
                self.answer(b"221 bye\r\n")
                self.hang_up() if self._free_at <= self.zoo.kernel.now else None
            case _:
                self.answer(b"500 what?\r\n")

    def _hello(self) -> None:
        peer = self.zoo.peer
        words = [peer.name]
        for wanted, word in (
            (peer.pipelining, "PIPELINING"),
            (peer.tls and not self.is_secure, "STARTTLS"),
            (peer.dsn, "DSN"),
            (peer.chunking, "CHUNKING"),
            (bool(peer.size_max), f"SIZE {peer.size_max}"),
        ):
            if wanted:
                words.append(word)
        words.append("8BITMIME")
        lines = [f"250{'-' if word is not words[-1] else ' '}{word}\r\n" for word in words]
        self.answer("".join(lines).encode())

    def _start_tls(self) -> None:
        zoo = self.zoo
        if zoo.happens(zoo.peer.breaks_tls):
            chance = zoo.dice.random()
            if chance < 0.3:
                self.answer(b"454 not now\r\n")
                return
            self.answer(b"220 go on\r\n")
            if chance < 0.6:
                self.say(b"this is no TLS\r\n")
            elif chance < 0.8:
                self.cut()
            else:
                self._is_silent = True
            return
        self.say(b"220 go on\r\n")
        self.begin_tls(server_side=True)

    def _mail(self, more: str) -> None:
        zoo = self.zoo
        self.sender = more.partition("<")[2].partition(">")[0]
        self.recipients = []
        self._mail_at = zoo.kernel.now
        self._mails += 1
        if self._mails > 1:
            zoo.book.reused.append((zoo.kernel.now, zoo.peer.name, self._mails))
        if zoo.happens(zoo.peer.rate_4xx):
            self.sender = None
            self.answer(b"451 4.7.1 Too much from you, slow down\r\n")
            return
        zoo.busy.add(self.wire.number)
        self.answer(b"250 2.1.0 ok\r\n")

    def _rcpt(self, more: str) -> None:
        zoo, peer = self.zoo, self.zoo.peer
        address = more.partition("<")[2].partition(">")[0].lower()
        if self.sender is None:
            self.answer(b"503 5.5.1 MAIL first\r\n")
            return
        code, text = 250, "2.1.5 ok"
        first = zoo.first_seen.setdefault(address, zoo.kernel.now)
        if share_of(address) < peer.rcpt_5xx:
            code, text = 550, "5.1.1 No such user"
        elif peer.greylists and not zoo.is_well and zoo.kernel.now < first + peer.greylists:
            code, text = 450, "4.7.1 Greylisted, come again"
        elif zoo.happens(peer.rcpt_4xx):
            code, text = 450, "4.2.1 Mailbox busy"
        told: Callable[[], None] | None = None
        if code == 250:
            self.recipients.append(address)
        else:
            refusal = zoo.book.refuse(address, code, "rcpt", peer.name)
            told = lambda: refusal.reply_at.append(zoo.kernel.now)  # noqa: E731
        self.answer(f"{code} {text}\r\n".encode(), told)

    def _data(self) -> None:
        if not self.recipients:
            self.answer(b"554 5.5.1 No valid recipients\r\n")
            return
        self.answer(b"354 go on\r\n")
        self._is_last = False
        self._content = bytearray()

    def _bdat(self, more: str) -> None:
        if self._has_refused_rset:
            self.zoo.book.unheard.append((self.zoo.kernel.now, self.zoo.peer.name))
        size, _, last = more.partition(" ")
        self._chunk = int(size)
        self._is_last = last.upper() == "LAST"
        if self._content is None:
            self._content = bytearray()

    def _take_content(self) -> bool:
        content = self._content
        assert content is not None
        before = max(0, len(content) - 4)
        content += self.buffer
        self.buffer = b""
        if content.startswith(b".\r\n"):
            end, skip = 0, 3
        else:
            at = content.find(b"\r\n.\r\n", before)
            end, skip = at + 2, 3
            if at < 0:
                return False
        self.buffer = bytes(content[end + skip :])
        self._content = None
        self._end(mail.unstuffed(bytes(content[:end])))
        return True

    def _take_chunk(self) -> bool:
        octets, self.buffer = self.buffer[: self._chunk], self.buffer[self._chunk :]
        assert self._content is not None
        self._content += octets
        self._chunk -= len(octets)
        if self._chunk:
            return False
        self._chunk = -1
        if not self._is_last:
            self.answer(b"250 ok\r\n")
            return True
        content, self._content = bytes(self._content), None
        if self.recipients:
            self._end(content)
        else:
            self.answer(b"554 5.5.1 No valid recipients\r\n")
        return True

    def _end(self, content: bytes) -> None:
        """The message is here."""
        zoo, peer = self.zoo, self.zoo.peer
        seen = mail.see(content)
        recipients, self.recipients = tuple(self.recipients), []
        sender, self.sender = self.sender or "", None
        zoo.busy.discard(self.wire.number)
        if zoo.happens(peer.drops_untaken):
            self.cut()
            return
        code = 250
        if peer.dot_5xx and share_of(f"x.{seen.token}@{peer.name}") < peer.dot_5xx and not seen.report:
            code = 554
        elif zoo.happens(peer.dot_4xx):
            code = 451
        if code != 250:
            refusals = [zoo.book.refuse(address, code, "dot", peer.name) for address in recipients]

            def refused() -> None:
                for one in refusals:
                    one.reply_at.append(zoo.kernel.now)

            self.answer(b"%d %d.3.0 Not this one\r\n" % (code, code // 100), refused)
            return
        self._take(content, seen, sender, recipients)

    def _take(self, content: bytes, seen: mail.Seen, sender: str, recipients: tuple[str, ...]) -> None:
        zoo = self.zoo
        worker = self.wire.other.process.name
        take = Take(
            seen.token,
            seen.attempt,
            zoo.peer.name,
            sender,
            recipients,
            zoo.kernel.now,
            seen.hash,
            seen.report,
            worker,
            seen.name,
            self._mail_at,
            by_chunks=self._is_last,
        )
        zoo.book.takes.append(take)
        zoo.on_take(take)
        what = f"report on {seen.token}.{seen.attempt}" if seen.report else f"{seen.token}.{seen.attempt}"
        zoo.book.note(f"{zoo.peer.name} takes {what} for {', '.join(recipients)} from {worker}")
        if zoo.happens(zoo.peer.drops_taken):
            take.code = 0
            zoo.book.note(f"{zoo.peer.name} breaks off without an answer")
            self.cut()
            return

        def carried() -> None:
            take.reply_at = zoo.kernel.now
            zoo.book.reply()

        self.answer(b"250 2.0.0 taken\r\n", carried)
