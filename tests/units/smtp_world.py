"""A small SMTP server in a thread, for tests of clients that block.

Owns: answering one session after another with set replies, and remembering what was said. Does not own: being a good
server (smtp/server.py is that).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ScriptedServer:
    """Answers by the first word of a command; ``replies`` may be changed before a session, per recipient for RCPT."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.commands: list[str] = []
        self.content = b""
        self.replies = {
            "": "220 scripted ESMTP",
            "EHLO": "250-scripted\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250 SMTPUTF8",
            "MAIL": "250 2.1.0 Ok",
            "RCPT": "250 2.1.5 Ok",
            "DATA": "354 Go on",
            ".": "250 2.6.0 Queued as 0ca9vy9nw0001",
            "QUIT": "221 Bye",
        }

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def serve(self) -> None:
        """Serve until the listening socket is shut down."""
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                connection.settimeout(20)
                self._session(connection, lines)

    def _session(self, connection: socket.socket, lines: object) -> None:
        connection.sendall(self.replies[""].encode() + b"\r\n")
        for line in lines:  # type: ignore[attr-defined]
            command = line.decode().rstrip("\r\n")
            self.commands.append(command)
            word = command.split(" ")[0].upper()
            reply = self.replies.get(command, self.replies.get(word, "500 What?"))
            if not reply:
                return
            connection.sendall(reply.encode() + b"\r\n")
            if word == "DATA" and reply.startswith("354"):
                self.content = b""
                while (content := next(lines)) != b".\r\n":  # type: ignore[call-overload]
                    self.content += content
                connection.sendall(self.replies["."].encode() + b"\r\n")
            if word == "QUIT":
                return


@contextmanager
def scripted_server(family: int = socket.AF_INET, address: object = ("127.0.0.1", 0)) -> Iterator[ScriptedServer]:
    """Run one on a free port of this machine, or where told."""
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.bind(address)  # type: ignore[arg-type]
        listening.listen()
        server = ScriptedServer(listening)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(20)
