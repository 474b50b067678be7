"""What goes in comes out: every octet, any line, any size, by DATA and by BDAT, to a sink of ours and into a Maildir.

Owns: the hash of awkward contents from end to end, and what memory a large one takes. Does not own: the wire format
piece by piece (tests/dialogs), clients and servers of others (the files beside this).
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from tests.world.harness import Relay, pss_kib, running
from tests.world.sink import EXTENSIONS, Message, Sink
from tests.world.waiting import until

LARGE = 50 * 1024 * 1024
GROWTH_MAX_KIB = 2 * 4 * 1024
"""4 MiB a connection: one that it comes in by, one that it goes out by."""
HEADER = b"From: <a@test.example>\r\nTo: <b@far.example>\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\n\r\n"
FIELD_END = re.compile(rb"\n(?![ \t])")
LIMIT = '\n[limits]\nmessage_size = "60MiB"\n'

ALL_OCTETS = bytes(octet for octet in range(256) if octet not in b"\r\n")
CONTENTS = {
    "every octet": HEADER + b"".join(bytes([octet]) * 3 + b"\r\n" for octet in ALL_OCTETS) + ALL_OCTETS * 5 + b"\r\n",
    "every octet without header": ALL_OCTETS + b"\r\n" + ALL_OCTETS[::-1] + b"\r\n",
    "line of 998": HEADER + b"x" * 998 + b"\r\n" + b"y" * 998 + b"\r\n",
    "line of 20000": HEADER + bytes(range(14, 255)) * 83 + b"\r\n" + b"." * 20_000 + b"\r\n",
    "leading dots": HEADER + b".\r\n..\r\n...\r\n.x\r\n..x\r\n\r\n.\r\n.\r\n\r\n..\r\n",
    "blank lines at the end": HEADER + b"x\r\n\r\n\r\n",
    "nothing": b"",
    "one blank line": b"\r\n",
    "above the size kept in the database": HEADER + (b".\r\n" + ALL_OCTETS + b"\r\n") * 2000,
}
TAKES_IT = {
    "all": EXTENSIONS,
    "no CHUNKING": tuple(set(EXTENSIONS) - {"CHUNKING", "BINARYMIME"}),
    "no PIPELINING": tuple(set(EXTENSIONS) - {"PIPELINING"}),
}


class Wire:
    """The barest client: what it says is what is on the wire."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._lines = self._socket.makefile("rb")
        assert self.reply() == "220"
        self.say("EHLO client.test.example", "250")

    def reply(self) -> str:
        while (line := self._lines.readline())[3:4] == b"-":
            pass
        self.last = line
        return line[:3].decode()

    def say(self, line: str, code: str) -> None:
        self.send(line.encode() + b"\r\n", code)

    def send(self, octets: bytes, code: str = "") -> None:
        self._socket.sendall(octets)
        if code:
            assert self.reply() == code, self.last

    def envelope(self, recipient: str, parameters: str = " BODY=8BITMIME") -> None:
        self.say(f"MAIL FROM:<a@test.example>{parameters}", "250")
        self.say(f"RCPT TO:<{recipient}>", "250")

    def close(self) -> None:
        self.say("QUIT", "221")
        self._lines.close()
        self._socket.close()


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    client = Wire(port)
    yield client
    client.close()


def send_data(client: Wire, content: bytes) -> None:
    client.say("DATA", "354")
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    client.send(stuffed + b".\r\n", "250")


def send_one_chunk(client: Wire, content: bytes) -> None:
    client.send(b"BDAT %d LAST\r\n" % len(content) + content, "250")


def send_chunks(client: Wire, content: bytes) -> None:
    """Cut everywhere within the first lines, then in thirds; the last chunk is empty."""
    cuts = sorted({*range(min(40, len(content))), len(content) // 3, 2 * len(content) // 3, len(content)})
    for start, end in pairwise(cuts):
        client.send(b"BDAT %d\r\n" % (end - start) + content[start:end], "250")
    client.send(b"BDAT 0 LAST\r\n", "250")


WAYS: dict[str, Callable[[Wire, bytes], None]] = {
    "DATA": send_data,
    "BDAT": send_one_chunk,
    "chunks": send_chunks,
}


@pytest.fixture(scope="module", params=list(TAKES_IT))
def sink(request: pytest.FixtureRequest) -> Iterator[Sink]:
    with Sink(extensions=TAKES_IT[request.param]) as sink:
        yield sink


@pytest.fixture(scope="module")
def relay(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with running(Relay(tmp_path_factory.mktemp("relay"), config=sink.route + LIMIT)) as relay:
        yield relay


def sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def carried(relay: Relay, sink: Sink, way: str, content: bytes) -> Message:
    before = len(sink.messages)
    with wire(relay.port) as client:
        client.envelope("b@far.example")
        WAYS[way](client, content)
    return sink.wait_for(before + 1)[before]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("content", list(CONTENTS))
def test_the_octets_arrive(relay: Relay, sink: Sink, way: str, content: str) -> None:
    octets = CONTENTS[content]
    message = carried(relay, sink, way, octets)
    assert len(message.content.traces) == 1
    assert (message.content.octets, message.sha256) == (len(octets), sha256(octets)), message.content.start[:2000]


def test_without_a_final_crlf(relay: Relay, sink: Sink) -> None:
    """By BDAT it arrives as it is; DATA cannot say so and ends it with one CRLF (RFC 5321 section 4.1.1.4)."""
    octets = HEADER + b"no end of line"
    message = carried(relay, sink, "BDAT", octets)
    expected = octets if "CHUNKING" in sink.extensions else octets + b"\r\n"
    assert message.by == ("BDAT" if "CHUNKING" in sink.extensions else "DATA")
    assert (message.content.start, message.sha256) == (expected, sha256(expected))


def large_content() -> bytes:
    """50 MiB of lines, every octet in them, some beginning with a dot; noise, so that nothing can be shared."""
    block = random.Random(5).randbytes(1024 * 1024).replace(b"\r", b".").replace(b"\n", b".")
    lines = b"".join(block[at : at + 510] + b"\r\n" for at in range(0, len(block), 510))
    body = lines * (LARGE // len(lines) + 1)
    return HEADER + body[: LARGE - len(HEADER) - 2].removesuffix(b"\r") + b"\r\n"


class Growth:
    """Samples a process's memory while something runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.samples: list[int] = []

    def __enter__(self) -> Growth:
        self.base = pss_kib(self._pid)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(0.01):
            self.samples.append(pss_kib(self._pid))

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def kib(self) -> int:
        return max(self.samples) - self.base


@pytest.mark.parametrize("extensions", list(TAKES_IT)[:2])
def test_fifty_mebioctets(tmp_path: Path, extensions: str) -> None:
    """The hash, and what memory one connection in and one out take at once."""
    content = large_content()
    assert len(content) >= LARGE - 2
    with (
        Sink(extensions=TAKES_IT[extensions]) as sink,
        running(Relay(tmp_path / "relay", config=sink.route + LIMIT)) as relay,
    ):
        for way in ("DATA", "BDAT"):  # a small one first: what the process takes once is not the connection's
            carried(relay, sink, way, CONTENTS["above the size kept in the database"])
        cases = [("DATA", content), ("BDAT", content), ("BDAT", content[:-2])]  # the last is not for DATA to say
        for way, octets in cases[: 3 if "CHUNKING" in sink.extensions else 2]:
            with Growth(relay.pid) as growth:
                message = carried(relay, sink, way, octets)
            print(f"50 MiB in by {way}, out by {message.by}: PSS {growth.base} KiB, grew by at most {growth.kib} KiB")
            assert (message.content.octets, message.sha256) == (len(octets), sha256(octets))
            assert len(growth.samples) > 10
            assert growth.kib <= GROWTH_MAX_KIB


@pytest.mark.parametrize("way", WAYS)
def test_a_maildir_holds_lf(tmp_path: Path, way: str) -> None:
    route = f'\n[[route]]\nto = "*"\nvia = "maildir:{tmp_path}/mail/{{user}}"\n'
    with running(Relay(tmp_path / "relay", config=route + LIMIT)) as relay:
        for number, octets in enumerate(CONTENTS.values()):
            with wire(relay.port) as client:
                client.envelope(f"user{number}@far.example")
                WAYS[way](client, octets)
            new = tmp_path / "mail" / f"user{number}" / "new"
            until(lambda new=new: new.is_dir() and os.listdir(new), 30, what=f"a message in {new}")
            (file,) = new.iterdir()
            stored = file.read_bytes()
            assert b"\r\n" not in stored
            assert stored.startswith(b"Return-Path: <a@test.example>\nDelivered-To: ")
            rest = stored.split(b"\n", 2)[2]
            assert rest.startswith(b"Received: ")
            rest = FIELD_END.split(rest, maxsplit=1)[1]
            assert sha256(rest.replace(b"\n", b"\r\n")) == sha256(octets)
