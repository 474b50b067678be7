"""A next hop that counts: a small SMTP server in threads, which can go down and come back on its own port.

Owns: what arrived, with its envelope and the moment; answers chosen by the test. Does not own: waiting (waiting.py).
What is recorded was recorded before its 250 left, so a message that the relay believes delivered is always here.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

OFFERS = ("sink.example", "PIPELINING", "8BITMIME", "SMTPUTF8")
TCP_ESTABLISHED = 1
SILENCE_MAX = 120.0
"""Seconds after which a connection that says nothing is given up, so that no thread outlives a test for long."""


@dataclass(frozen=True)
class Arrived:
    """One message that was answered with 250, or was about to be."""

    at: float
    sender: str
    recipients: tuple[str, ...]
    content: bytes

    def field(self, name: bytes) -> str:
        """Return what a header field says, empty if there is none."""
        header = b"\r\n" + self.content.partition(b"\r\n\r\n")[0] + b"\r\n"
        _, found, rest = header.partition(b"\r\n" + name + b": ")
        return rest.partition(b"\r\n")[0].decode() if found else ""


class CountingSink:
    """``with CountingSink() as sink``: listens on a loopback address; ``down`` and ``up`` as often as wanted."""

    def __init__(
        self,
        *,
        rcpt: Callable[[str], str] = lambda recipient: "250 2.1.5 Ok",
        offers: tuple[str, ...] = OFFERS,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.arrived: list[Arrived] = []
        self.commands: list[str] = []
        self.went_down: list[float] = []
        self._rcpt = rcpt
        self._offers = offers
        self.connections_most = 0
        """Connections that were open at once, at most: ours, and not yet closed by the other side."""
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server: socket.socket | None = None
        self.is_up = False
        self.address = address
        self.port = port

    def __enter__(self) -> CountingSink:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        if self._server is not None:
            self._server.close()
            self._server = None

    def up(self) -> None:
        """Listen, on the port of the first time."""
        if self._server is None:
            self._server = socket.create_server((self.address, self.port), backlog=128)
            self.port = self._server.getsockname()[1]
        else:
            self._server.listen(128)
        self.is_up = True
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and break off those there are. The port stays ours: nobody else can bind it meanwhile."""
        if not self.is_up or self._server is None:
            return
        self.is_up = False
        self.went_down.append(time.monotonic())
        self._server.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._server.close()
        self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.bind((self.address, self.port))
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def to(self, recipient: str) -> list[Arrived]:
        """Return what came for a recipient."""
        return [message for message in list(self.arrived) if recipient in message.recipients]

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.settimeout(SILENCE_MAX)
            with self._lock:
                self._connections.add(connection)
                self.connections_most = max(self.connections_most, sum(map(_is_open, self._connections)))
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rwb") as stream, suppress(OSError, ValueError):
                _Session(self, stream.readline, stream.write, stream.flush).run()
        except OSError:
            return  # what was buffered could not be written: the other side has gone
        finally:
            with self._lock:
                self._connections.discard(connection)

    def greet(self) -> list[str]:
        """Return the lines of the answer to EHLO."""
        return [f"250{'-' if offer != self._offers[-1] else ' '}{offer}" for offer in self._offers]

    def answer_to(self, recipient: str) -> str:
        """Return the reply to RCPT."""
        return self._rcpt(recipient)

    def keep(self, message: Arrived) -> None:
        """Record a message."""
        with self._lock:
            self.arrived.append(message)


class _Session:
    """One connection, a command at a time; what was pipelined lies in the buffer meanwhile."""

    def __init__(
        self,
        sink: CountingSink,
        readline: Callable[[], bytes],
        write: Callable[[bytes], object],
        flush: Callable[[], object],
    ) -> None:
        self._sink = sink
        self._readline = readline
        self._write = write
        self._flush = flush
        self._sender = ""
        self._recipients: list[str] = []

    def run(self) -> None:
        self._say("220 sink.example ESMTP")
        while line := self._readline():
            command = line.decode().rstrip("\r\n")
            self._sink.commands.append(command)
            verb = command[:4].upper()
            if verb == "DATA" and self._recipients:
                self._data()
            elif verb == "QUIT":
                self._say("221 2.0.0 Bye")
                return
            else:
                self._say(*self._simple(verb, command))

    def _simple(self, verb: str, command: str) -> list[str]:
        match verb:
            case "EHLO":
                return self._sink.greet()
            case "MAIL" | "RSET":
                self._sender, self._recipients = _path(command), []
                return ["250 2.0.0 Ok"]
            case "RCPT":
                reply = self._sink.answer_to(_path(command))
                if reply.startswith("250"):
                    self._recipients.append(_path(command))
                return [reply]
            case "DATA":
                return ["503 5.5.1 No recipient was taken"]
            case _:
                return ["250 2.0.0 Ok"]

    def _data(self) -> None:
        self._say("354 Go on")
        lines: list[bytes] = []
        while (line := self._readline()) != b".\r\n":
            if not line:
                return
            lines.append(line[1:] if line.startswith(b".") else line)
        self._sink.keep(Arrived(time.monotonic(), self._sender, tuple(self._recipients), b"".join(lines)))
        self._say("250 2.0.0 Kept")
        self._recipients = []

    def _say(self, *lines: str) -> None:
        self._write("".join(f"{line}\r\n" for line in lines).encode())
        self._flush()


def _is_open(connection: socket.socket) -> bool:
    """True if the kernel has not heard yet that the other side closed: our thread may hear of it later."""
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED
    except OSError:
        return False  # its thread has closed it, and is about to say so


def _path(command: str) -> str:
    return command.partition("<")[2].partition(">")[0]
