"""Clients that send mail and write down every reply they hear.

Owns: their side of SMTP, reconnecting, giving up, sending again what was not taken. Does not own: what they send
(story.py). A letter that is sent again is a message of its own, with recipients of its own: what was refused must
never arrive, and it must be seen if it does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from postroad.core.faces import Dice
from postroad.testing.sim import mail
from postroad.testing.sim.book import Book, Sent, Silence
from postroad.testing.sim.house import TLS_PORT
from postroad.testing.sim.kernel import START, Kernel
from postroad.testing.sim.network import Network
from postroad.testing.sim.story import Letter, Sender
from postroad.testing.sim.talk import Talk

Reply = tuple[int, str]
PIECE_AFTER: Final = 0.3
"""Seconds after which what was sent before has come in, whatever the network does with it."""


class Gone(Exception):
    """The connection is gone, or the client's patience."""


class Unanswered(Gone):
    """It is the patience that is gone: the connection stands."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self.patience = patience


class ClientTalk(Talk):
    """Replies, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._text: list[str] = []

    def heard(self) -> None:
        while b"\r\n" in self.buffer:
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            text = line.decode("ascii", "replace")
            self._text.append(text[4:])
            if text[3:4] != "-":
                self.replies.append((int(text[:3]) if text[:3].isdigit() else 0, " ".join(self._text)))
                self._text = []
        self._wake()

    def secured(self) -> None:
        self._wake()

    def ended(self) -> None:
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def reply(self, patience: float) -> Reply:
        """Return the next reply. Raises Gone."""
        while not self.replies:
            await self._wait(patience)
        return self.replies.popleft()

    async def _wait(self, patience: float) -> None:
        if not self.is_open:
            raise Gone
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(patience, self._wake_late, self._waiter, patience)
        try:
            await self._waiter
        finally:
            timer.cancel()

    def _wake_late(self, waiter: asyncio.Future[None], patience: float) -> None:
        if not waiter.done():
            waiter.set_exception(Unanswered(patience))

    async def tls(self, patience: float) -> None:
        self.begin_tls(server_side=False)
        while not self.is_secure:
            await self._wait(patience)


class Client:
    """One client; ``run`` is its life."""

    def __init__(self, kernel: Kernel, network: Network, book: Book, dice: Dice, sender: Sender, relay: str) -> None:
        self._kernel = kernel
        self._network = network
        self._book = book
        self._dice = dice
        self._sender = sender
        self.name = sender.name
        self._relay = relay
        self._talk: ClientTalk | None = None
        self._on_this = 0
        self.is_done = False

    async def run(self) -> None:
        for letter in self._sender.letters:
            await self._until(START + letter.at)
            await self._send(letter)
        await self._part()
        self.is_done = True

    async def _until(self, when: float) -> None:
        if when > self._kernel.now + 5.0:
            await self._part()
        if when > self._kernel.now:
            await asyncio.sleep(when - self._kernel.now)

    async def _send(self, letter: Letter) -> None:
        for attempt in range(1 + self._sender.tries):
            sent = self._begin(letter, attempt)
            try:
                await self._try(letter, sent, breaks_off=letter.breaks_off and attempt == 0)
            except Gone as gone:
                self._note_silence(gone)
                self._drop()
            except OSError:
                self._talk = None
            if sent.code // 100 == 2 or (sent.code // 100 == 5 and sent.dot_at):
                return
            await asyncio.sleep(1.0 + 20.0 * self._dice.random())

    def _note_silence(self, gone: Gone) -> None:
        if isinstance(gone, Unanswered) and self._talk is not None:
            now, worker = self._kernel.now, self._talk.wire.other.process.name
            self._book.silences.append(Silence(now - gone.patience, now, self.name, self._sender.address, worker))
            self._book.note(f"{self.name} has waited for {gone.patience:.0f} s for {worker} to answer")

    def _begin(self, letter: Letter, attempt: int) -> Sent:
        content = self._content_of(letter, attempt)
        sender = letter.sender.replace("#", f"{letter.token}.{attempt}")
        return Sent(
            token=letter.token,
            attempt=attempt,
            client=self._sender.name,
            sender=sender,
            notify=letter.notify,
            hash=mail.hash_of(content),
            size=len(content),
            hash_ended=mail.hash_of(content + b"\r\n") if self._ends_bare else b"",
        )

    @property
    def _ends_bare(self) -> bool:
        return bool(self._sender.chunk) and self._sender.ends_bare

    def _content_of(self, letter: Letter, attempt: int) -> bytes:
        return mail.content_of(letter.token, attempt, letter.size, ends_bare=self._ends_bare)

    async def _connect(self) -> ClientTalk:
        if self._talk is not None and self._talk.is_open and self._on_this < self._sender.per_connection:
            return self._talk
        await self._part()
        self._on_this = 0
        loop = asyncio.get_running_loop()
        port = TLS_PORT if self._sender.tls and self._sender.is_implicit else 25
        async with asyncio.timeout(30.0):
            _, talk = await self._network.open(
                self._kernel.outside, ClientTalk, self._sender.address, self._relay, port
            )
        assert isinstance(talk, ClientTalk)
        self._talk = talk
        assert loop is self._kernel.outside.loop
        patience = self._sender.patience
        if port != 25:
            if self._dice.random() < self._sender.breaks_tls:
                await self._break_tls(talk)
            await talk.tls(patience)
        code, _ = await talk.reply(patience)
        if code != 220:
            raise Gone
        await self._hello(talk)
        if self._sender.tls and not talk.is_secure:
            talk.say(b"STARTTLS\r\n")
            if (await talk.reply(patience))[0] == 220:
                await talk.tls(patience)
                await self._hello(talk)
        return talk

    async def _break_tls(self, talk: ClientTalk) -> None:
        """Do what no handshake comes of."""
        if self._dice.random() < 0.7:
            talk.say(b"EHLO what.example\r\n")
            await asyncio.sleep(1.0)
        raise Gone

    async def _hello(self, talk: ClientTalk) -> None:
        talk.say(b"EHLO %s.example\r\n" % self._sender.name.encode())
        if (await talk.reply(self._sender.patience))[0] != 250:
            raise Gone

    async def _try(self, letter: Letter, sent: Sent, *, breaks_off: bool) -> None:
        talk = await self._connect()
        self._on_this += 1
        patience = self._sender.patience
        self._book.sent[sent.key] = sent
        sent.worker = talk.wire.other.process.name
        wanted = [f"r{number}.{sent.token}.{sent.attempt}@{domain}" for number, domain in enumerate(letter.recipients)]
        commands = self._commands(letter, sent, wanted)
        if self._sender.chunk:
            await self._send_chunks(talk, letter, sent, wanted, commands, breaks_off=breaks_off)
            return
        replies = await self._exchange(talk, [*commands, b"DATA\r\n"])
        for address, (code, _) in zip(wanted, replies[1:-1], strict=True):
            (sent.recipients if code == 250 else sent.refused).append(address)
        if replies[0][0] != 250 or replies[-1][0] != 354 or not sent.recipients:
            sent.code = next((code for code, _ in replies if code >= 400), 451)
            sent.recipients.clear()
            if replies[-1][0] == 354:
                raise Gone
            talk.say(b"RSET\r\n")
            await talk.reply(patience)
            return
        octets = mail.stuffed(self._content_of(letter, sent.attempt))
        if breaks_off:
            talk.say(octets[: len(octets) // 2])
            await asyncio.sleep(0.1)
            sent.recipients.clear()
            raise Gone
        await self._say_content(talk, octets)
        await self._hear(talk, sent)

    async def _say_content(self, talk: ClientTalk, octets: bytes) -> None:
        """Say what ends with the final dot, all at once or in the pieces that this client makes of it."""
        sender = self._sender
        cuts = {len(octets) // 2: sender.pause} if sender.pause else {}
        cuts |= {len(octets) - sender.last_octets: PIECE_AFTER} if sender.last_octets else {}
        begin = 0
        for cut, seconds in cuts.items():
            talk.say(octets[begin:cut])
            begin = cut
            await asyncio.sleep(seconds)
        talk.say(octets[begin:])

    async def _send_chunks(
        self,
        talk: ClientTalk,
        letter: Letter,
        sent: Sent,
        wanted: list[str],
        commands: list[bytes],
        *,
        breaks_off: bool,
    ) -> None:
        """Send a letter by BDAT. What was said of recipients is known before the last chunk goes (RFC 3030)."""
        replies = await self._exchange(talk, commands)
        for address, (code, _) in zip(wanted, replies[1:], strict=True):
            (sent.recipients if code == 250 else sent.refused).append(address)
        octets = self._content_of(letter, sent.attempt)
        cuts = range(0, len(octets), self._sender.chunk)
        chunks = [octets[cut : cut + self._sender.chunk] for cut in cuts]
        firsts = [b"BDAT %d\r\n" % len(chunk) + chunk for chunk in chunks[: len(chunks) // 2 if breaks_off else -1]]
        if replies[0][0] == 250 and sent.recipients and firsts:
            replies = await self._exchange(talk, firsts)
        if breaks_off:
            sent.recipients.clear()
            raise Gone
        if replies[0][0] != 250 or replies[-1][0] != 250 or not sent.recipients:
            sent.code = next((code for code, _ in replies if code >= 400), 451)
            sent.recipients.clear()
            talk.say(b"RSET\r\n")
            await talk.reply(self._sender.patience)
            return
        if self._sender.pause:
            await asyncio.sleep(self._sender.pause)
        talk.say(b"BDAT %d LAST\r\n" % len(chunks[-1]) + chunks[-1])
        await self._hear(talk, sent)

    async def _hear(self, talk: ClientTalk, sent: Sent) -> None:
        """The content has gone, to its end: hear what becomes of it."""
        book = self._book
        sent.dot_at = self._kernel.now
        book.dot()
        try:
            if self._dice.random() * 100 < self._sender.hangs_up_at:
                raise Gone
            sent.code, text = await talk.reply(self._sender.patience)
            sent.told_at = self._kernel.now
            sent.name = text.rpartition(" ")[2] if sent.code == 250 else ""
            book.note(f"{sent.client} hears {sent.code} for {sent.token}.{sent.attempt} {text}")
        finally:
            book.waiting_dots -= 1

    def _commands(self, letter: Letter, sent: Sent, wanted: list[str]) -> list[bytes]:
        more = f" RET=HDRS ENVID={sent.token}" if letter.notify else ""
        notify = f" NOTIFY={letter.notify}" if letter.notify else ""
        return [
            f"MAIL FROM:<{sent.sender}>{more}\r\n".encode(),
            *(f"RCPT TO:<{address}>{notify}\r\n".encode() for address in wanted),
        ]

    async def _exchange(self, talk: ClientTalk, commands: list[bytes]) -> list[Reply]:
        patience = self._sender.patience
        if self._sender.pipelines:
            talk.say(b"".join(commands))
            return [await talk.reply(patience) for _ in commands]
        replies: list[Reply] = []
        for command in commands:
            talk.say(command)
            replies.append(await talk.reply(patience))
        return replies

    def _drop(self) -> None:
        if self._talk is not None:
            self._talk.cut()
        self._talk = None

    async def _part(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None and talk.is_open:
            talk.say(b"QUIT\r\n")
            with suppress(Gone):
                await talk.reply(10.0)
            talk.hang_up()
