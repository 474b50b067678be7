"""How much CPU it takes to hand one message to a next hop over a kept connection: engine and session.

Run: ``python bench/client_engine.py``. Prints microseconds for a message of 5 KiB with one recipient, pipelined: the
engine alone (flight, four replies, content with its dot), and the session over a stream that answers at once.

What is in the figures: MAIL, RCPT and DATA written, replies read and matched, dots, results, time-outs, the coroutines.
What is not: sockets and the event loop's own work. The best of several runs counts: what else runs on the machine
only ever adds. The number of reads and writes is counted and printed, since each costs a system call in the relay.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from postroad.core.address import Mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.units import KIB
from postroad.outbound.content import ContentSource
from postroad.outbound.session import open_session
from postroad.smtp.client import Answer, ClientConnection, Command
from postroad.smtp.client_content import stuff_whole
from postroad.smtp.client_fit import PLAIN, fit
from postroad.smtp.client_transaction import Transaction

LINE = b"The quick brown fox jumps over the lazy dog, and the dog does not mind.\r\n"
CONTENT = LINE * (5 * KIB // len(LINE))
ENVELOPE = Envelope(Mailbox("bounces+1234", "newsletter.example.com"), (Recipient(Mailbox("someone", "example.org")),))
GREETING = b"220 mx.example.org ESMTP\r\n"
HELLO = (
    b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-ENHANCEDSTATUSCODES\r\n"
    b"250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
)
FLIGHT = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
QUEUED = b"250 2.0.0 Ok: queued as 4bXyZw0T2mz1Q\r\n"


class InstantStream:
    """As much of a Stream as a session needs: each write is answered by the next of the replies."""

    peer, tls, unread = "192.0.2.1", "", False

    def __init__(self) -> None:
        self.waiting = GREETING
        self.reads = self.writes = 0

    async def read(self, timeout: float | None = None) -> bytes:
        self.reads += 1
        octets, self.waiting = self.waiting, b""
        return octets

    async def write(self, octets: bytes) -> None:
        self.writes += 1
        self.waiting = HELLO if octets.startswith(b"EHLO") else FLIGHT if octets.startswith(b"MAIL") else QUEUED

    def abort(self) -> None:
        pass


def connected() -> ClientConnection:
    connection = ClientConnection()
    connection.receive_data(GREETING)
    connection.next_event()
    connection.send(Command.EHLO, "EHLO relay.example.org")
    connection.receive_data(HELLO)
    connection.next_event()
    return connection


def transact(connection: ClientConnection) -> int:
    """Hand over one message; return how many octets were said."""
    transaction = Transaction(
        connection, ENVELOPE, (0,), size=len(CONTENT), fit=fit(ENVELOPE, (0,), connection.offers, len(CONTENT), PLAIN)
    )
    said = len(transaction.take_octets())
    connection.receive_data(FLIGHT)
    while isinstance(event := connection.next_event(), Answer):
        transaction.hear(event)
        if transaction.wants_content:
            break
    said += len(stuff_whole(CONTENT))
    transaction.content_sent()
    connection.receive_data(QUEUED)
    while not transaction.is_over and isinstance(event := connection.next_event(), Answer):
        transaction.hear(event)
    assert transaction.has_delivered
    return said


def time_engine(messages: int) -> float:
    connection = connected()
    started = time.process_time()
    for _ in range(messages):
        transact(connection)
    return (time.process_time() - started) / messages


async def time_session(messages: int) -> tuple[float, float, float]:
    """Return seconds, reads and writes for one message."""
    stream = InstantStream()
    session = await open_session(stream, hello_name="relay.example.org")  # type: ignore[arg-type]
    stream.reads = stream.writes = 0
    started = time.process_time()
    for _ in range(messages):
        result = await session.deliver(ENVELOPE, (0,), ContentSource(CONTENT))
        assert result.error is None
    seconds = time.process_time() - started
    return seconds / messages, stream.reads / messages, stream.writes / messages


def main() -> None:
    engine = min(time_engine(2000) for _ in range(7))
    sessions = [asyncio.run(time_session(2000)) for _ in range(7)]
    seconds, reads, writes = min(sessions)
    print(f"engine   {engine * 1e6:6.1f} us a message of {len(CONTENT)} octets, one recipient, pipelined")
    print(f"session  {seconds * 1e6:6.1f} us, engine included; {reads:g} reads, {writes:g} writes")


if __name__ == "__main__":
    main()
