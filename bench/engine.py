"""How much CPU the server engine takes: a transaction's five commands and 5 KiB of content, and content alone.

Run: ``python bench/engine.py``. Prints microseconds for one session of one transaction, with the commands
pipelined and one by one, the part of it that is content, and GB/s of 1 MiB buffers.

The replies are real ones and their octets are counted; parsing, state, replies and content are in the figure, sockets
and the event loop are not. The best of several runs counts: what else runs on the machine only ever adds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from postroad.core import reply
from postroad.core.units import KIB, MIB
from postroad.smtp.data import DataReader
from postroad.smtp.events import Content, DataEnd, DataStart, Hello, MailFrom, Quit, RcptTo, Signal
from postroad.smtp.extensions import Offer, ehlo_reply
from postroad.smtp.server import ServerConnection

OFFER = Offer(size_max=50 * MIB)
GREETING = reply.Reply(220, None, "relay.example.org ESMTP Postroad")
LINE = b"The quick brown fox jumps over the lazy dog, and the dog does not mind.\r\n"
CONTENT = LINE * (5 * KIB // len(LINE))
DOTTED = CONTENT.replace(b"\r\n", b"\r\n..", 1)
ENVELOPE = [
    b"MAIL FROM:<bounces+1234@newsletter.example.com> SIZE=5120\r\n",
    b"RCPT TO:<someone.or-other@example.org>\r\n",
    b"DATA\r\n",
]
SESSION = [b"EHLO client.example.com\r\n", *ENVELOPE, CONTENT + b".\r\n", b"QUIT\r\n"]
PIPELINED = [SESSION[0], b"".join(ENVELOPE), CONTENT + b".\r\nQUIT\r\n"]


def converse(pieces: list[bytes]) -> int:
    """Serve one session; return how many octets were answered."""
    engine = ServerConnection(OFFER)
    answers = {
        Hello: ehlo_reply("relay.example.org", OFFER),
        MailFrom: reply.SENDER_OK,
        RcptTo: reply.RECIPIENT_OK,
        DataStart: reply.READY_FOR_DATA,
        DataEnd: reply.QUEUED,
        Quit: reply.BYE,
    }
    said = len(engine.send_greeting(GREETING))
    for piece in pieces:
        engine.receive_data(piece)
        while not isinstance(event := engine.next_event(), Signal):
            if type(event) is not Content:
                said += len(engine.send_reply(answers[type(event)]))
    return said


def read(wire: bytes, piece: int) -> int:
    """Take one message through the reader of DATA, ``piece`` octets at a time."""
    reader = DataReader(OFFER.size_max)
    return sum(len(reader.feed(wire[start : start + piece])) for start in range(0, len(wire), piece))


def best(work: Callable[[], int], times: int, repeats: int = 80) -> float:
    """Return the seconds of CPU that one ``work()`` takes."""
    found = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        for _ in range(times):
            work()
        found = min(found, (time.process_time() - begun) / times)
    return found


def main() -> None:
    for name, pieces in (("one by one", SESSION), ("pipelined", PIPELINED)):
        print(f"session of one 5 KiB message, {name}: {best(lambda p=pieces: converse(p), 200) * 1e6:.1f} us")
    for name, content in (("no dots", CONTENT), ("a stuffed dot", DOTTED)):
        seconds = best(lambda wire=content + b".\r\n": read(wire, MIB), 500)
        print(f"content of 5 KiB, {name}: {seconds * 1e6:.1f} us")
    for name, line in (
        ("lines of 74", LINE),
        ("every line stuffed", b".." + LINE),
        ("lines of 20,000", b"x" * 19998 + b"\r\n"),
    ):
        wire = line * (8 * MIB // len(line)) + b".\r\n"
        for piece in (64 * KIB, MIB):
            seconds = best(lambda wire=wire, piece=piece: read(wire, piece), 1, 20)
            print(f"content of 8 MiB, {name}, {piece // KIB} KiB at a time: {len(wire) / seconds / 1e9:.2f} GB/s")


if __name__ == "__main__":
    main()
