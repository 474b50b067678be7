"""A next hop of ours, written apart from the product's engine: what arrives is judged by other code than sent it.

Owns: taking mail by SMTP on threads and plain sockets; the command lines as they came, the octets, SHA-256 and trace
fields of each content. Does not own: what is right (the tests). It takes what it is told to take and offers what it is
told to offer; only CRLF ends a line, only CRLF.CRLF a DATA content, so it shows what was on the wire.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from tests.world.waiting import until

EXTENSIONS: Final = (
    "PIPELINING",
    "8BITMIME",
    "SIZE",
    "DSN",
    "CHUNKING",
    "BINARYMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
)
PIECE: Final = 256 * 1024
KEPT: Final = 1024 * 1024
"""Octets of a content that are kept, to be looked at; the digest is of all."""
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")


class Content:
    """A content as it comes in: ``traces`` Received fields are taken off its top, the rest goes into the hash."""

    def __init__(self, traces: int) -> None:
        self._awaited = traces
        self._held = b""
        self._hash = hashlib.sha256()
        self.traces: list[bytes] = []
        self.octets = 0
        self.start = b""

    def take(self, octets: bytes, *, last: bool = False) -> None:
        self._held += octets
        while self._awaited and (end := _FIELD_END.search(self._held)) and (end.end() < len(self._held) or last):
            if not self._held.startswith(b"Received:"):
                break
            self.traces.append(self._held[: end.end()])
            self._held = self._held[end.end() :]
            self._awaited -= 1
        if self._awaited and not last and len(self._held) < 64 * 1024:
            return
        self._awaited = 0
        self._hash.update(self._held)
        self.octets += len(self._held)
        self.start += self._held[: max(0, KEPT - len(self.start))]
        self._held = b""

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


@dataclass
class Message:
    """One transaction that ended with a content. ``mail`` and ``rcpt`` are what stood behind the colon, as sent."""

    mail: str
    rcpt: list[str]
    by: str
    """``DATA``, or ``BDAT``."""
    chunks: list[int]
    content: Content
    hello: str

    @property
    def sha256(self) -> str:
        return self.content.sha256


@dataclass
class Sink:
    """Listens at once, on a free port. Use it as a context manager."""

    extensions: tuple[str, ...] = EXTENSIONS
    refuse: dict[str, str] = field(default_factory=dict)
    """Pattern of a recipient (searched in the RCPT line), and the reply it gets."""
    traces: int = 1
    """Trace fields to take off each content: as many as there are relays on the way."""
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.messages: list[Message] = []
        self.refused: list[str] = []
        self.commands: list[str] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((self.host, 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        self._listener.close()
        self._acceptor.join(10)
        with self._lock:
            for one in self._open:
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    @property
    def route(self) -> str:
        """Configuration that sends everything here."""
        return f'\n[[route]]\nto = "*"\nvia = "smtp://{self.host}:{self.port}"\n'

    def wait_for(self, count: int, deadline: float = 30.0) -> list[Message]:
        """Return the messages once there are ``count``."""
        until(lambda: len(self.messages) >= count, deadline, what=f"{count} messages; commands: {self.commands[-20:]}")
        return list(self.messages)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with connection.makefile("rb", buffering=PIECE) as reader:
                _Session(self, connection, reader).run()
        except OSError:
            pass  # the client has gone; what it left is in ``commands``
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


class _Session:
    def __init__(self, sink: Sink, connection: socket.socket, reader: BinaryIO) -> None:
        self._sink = sink
        self._connection = connection
        self._reader = reader
        self._hello = ""
        self._reset()

    def _reset(self) -> None:
        self._mail: str | None = None
        self._rcpt: list[str] = []
        self._chunks: list[int] = []
        self._content = Content(self._sink.traces)

    def _say(self, *lines: str) -> None:
        self._connection.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def run(self) -> None:
        self._say("220 sink.test.example ESMTP")
        while line := self._reader.readline(65536):
            if not line.endswith(b"\r\n"):
                return self._say("500 only CRLF ends a line")
            text = line[:-2].decode("utf-8", "surrogateescape")
            self._sink.commands.append(text)
            verb, _, rest = text.partition(" ")
            if verb.upper() == "QUIT":
                return self._say("221 2.0.0 bye")
            self._answer(verb.upper(), rest)
        return None

    def _answer(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO":
                self._reset()
                self._hello = rest
                lines = ["sink.test.example", *self._sink.extensions]
                self._say(*[f"250-{line}" for line in lines[:-1]], f"250 {lines[-1]}")
            case "HELO" | "RSET" | "NOOP":
                if verb != "NOOP":
                    self._reset()
                self._say("250 2.0.0 ok")
            case "MAIL":
                self._mail = rest.partition(":")[2]
                self._say("250 2.1.0 ok")
            case "RCPT":
                self._take_recipient(rest.partition(":")[2])
            case "DATA":
                self._take_data()
            case "BDAT":
                self._take_chunk(rest)
            case _:
                self._say("500 5.5.2 not known")

    def _take_recipient(self, rest: str) -> None:
        for pattern, reply in self._sink.refuse.items():
            if re.search(pattern, rest):
                self._sink.refused.append(rest)
                return self._say(reply)
        self._rcpt.append(rest)
        return self._say("250 2.1.5 ok")

    def _take_data(self) -> None:
        if self._mail is None or not self._rcpt:
            return self._say("503 5.5.1 no recipients")
        self._say("354 go on")
        after_crlf, before = True, b""
        pieces: list[bytes] = []
        held = 0
        while piece := self._reader.readline(PIECE):
            if after_crlf:
                if piece == b".\r\n":
                    self._content.take(b"".join(pieces), last=True)
                    return self._finish("DATA")
                piece = piece.removeprefix(b".")
            pieces.append(piece)
            held += len(piece)
            after_crlf = (before + piece).endswith(b"\r\n")
            before = piece[-1:]
            if held > PIECE:
                self._content.take(b"".join(pieces))
                pieces, held = [], 0
        raise OSError("the content broke off")

    def _take_chunk(self, rest: str) -> None:
        size, _, last = rest.partition(" ")
        left = int(size)
        self._chunks.append(left)
        while left:
            piece = self._reader.read(min(left, PIECE))
            if not piece:
                raise OSError("the chunk broke off")
            left -= len(piece)
            self._content.take(piece)
        if self._mail is None or not self._rcpt:
            return self._say("503 5.5.1 no recipients")
        if last.upper() != "LAST":
            return self._say("250 2.0.0 go on")
        self._content.take(b"", last=True)
        return self._finish("BDAT")

    def _finish(self, by: str) -> None:
        assert self._mail is not None
        self._sink.messages.append(Message(self._mail, self._rcpt, by, self._chunks, self._content, self._hello))
        self._reset()
        self._say("250 2.0.0 taken")
