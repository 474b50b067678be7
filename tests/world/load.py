"""Clients that load a relay, and note each id that got its 250.

Owns: threads that reconnect after whatever happens, the ids they gave out, how long each 250 took. Does not own: what
arrives (counting.py), what is done to the relay meanwhile.
"""

from __future__ import annotations

import socket
import threading
import time

from tests.world.waiting import is_listening, until

LOAD_MAX = 300.0
CLIENTS = 12


class Generator:
    """Clients that send one message after the other, each under an id of its own that is never used again."""

    def __init__(
        self,
        port: int,
        messages: int,
        *,
        clients: int = CLIENTS,
        pause: float = 0.0,
        each: int = 0,
        name: str = "k",
    ) -> None:
        """``messages``: how many are enough; ``pause``: seconds between two of one client, for a steady load;
        ``each``: messages over one connection, 0: any number; ``name``: begins the ids, where there are several
        generators."""
        self.port = port
        self._messages = messages
        self._pause = pause
        self._each = each
        self._name = name
        self._lock = threading.Lock()
        self._next = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        self.taken: set[str] = set()
        self.doubtful: set[str] = set()
        """Final dot sent, and no reply heard before the connection broke."""
        self.awaiting: set[str] = set()
        self.seconds: list[float] = []
        """From the final dot to its 250, of each message taken."""
        self.resets = 0
        """Connections that broke before a greeting."""
        self.broken = 0
        """Connections that broke at any time, those included."""
        self.refused: list[bytes] = []
        self.errors: list[BaseException] = []

    def __enter__(self) -> Generator:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def is_idle(self) -> bool:
        """True when no client is at work any more."""
        return not any(thread.is_alive() for thread in self._threads)

    def until_taken(self, more: int) -> None:
        """Wait for so many more messages, or the end of the load."""
        mark = len(self.taken) + more
        until(lambda: len(self.taken) >= mark or self.is_idle(), LOAD_MAX, what=f"{mark} messages")

    def stop(self) -> None:
        """Have the clients end after the message in hand."""
        self._stop.set()

    def _run(self) -> None:
        try:
            while not self._is_done():
                until(lambda: is_listening(self.port) or self._is_done(), 120, what="the relay for a client")
                try:
                    self._session()
                except (OSError, EOFError):
                    self.broken += 1
        except BaseException as error:
            self.errors.append(error)
            raise

    def _is_done(self) -> bool:
        return self._stop.is_set() or len(self.taken) >= self._messages

    def _session(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock, sock.makefile("rb") as replies:
            try:
                heard(replies.readline)
            except (OSError, EOFError):
                self.resets += 1
                raise
            said(sock, b"EHLO client.example\r\n", replies.readline)
            sent = 0
            while not self._is_done() and (not self._each or sent < self._each):
                self._message(sock, replies.readline)
                sent += 1
                self._stop.wait(self._pause)
            said(sock, b"QUIT\r\n", replies.readline)

    def _message(self, sock: socket.socket, readline: object) -> None:
        with self._lock:
            self._next += 1
            number = f"{self._name}{self._next}"
        for command in (b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<b@next.example>\r\n", b"DATA\r\n"):
            if (reply := said(sock, command, readline))[:1] not in (b"2", b"3"):
                self.refused.append(reply)
                raise EOFError(reply)
        sock.sendall(f"X-Number: {number}\r\nSubject: kept or not\r\n\r\nHello\r\n".encode())
        self.awaiting.add(number)
        sent = time.monotonic()
        try:
            reply = said(sock, b".\r\n", readline)
        except (OSError, EOFError):
            self.doubtful.add(number)
            raise
        finally:
            self.awaiting.discard(number)
        if reply.startswith(b"250"):
            self.taken.add(number)
            self.seconds.append(time.monotonic() - sent)
        else:
            self.refused.append(reply)


class Client:
    """One connection that is kept: a greeting heard, EHLO said, then as many messages as the test wants."""

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        """Who is not greeted with 220 has heard why (``greeting``). Raises OSError or EOFError where nothing is."""
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))
        self._replies = self._sock.makefile("rb")
        try:
            self.greeting = heard(self._replies.readline)
            if self.is_served:
                self.say("EHLO client.example")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._replies.close()
        self._sock.close()

    @property
    def is_served(self) -> bool:
        """True if the relay said 220."""
        return self.greeting.startswith(b"220")

    def say(self, command: str) -> bytes:
        """Return the last line of the reply to a command."""
        return said(self._sock, command.encode() + b"\r\n", self._replies.readline)

    def send(self, recipient: str, number: str, *, body: str = "Hello", sender: str = "a@client.example") -> bytes:
        """Send one message, and return the reply to its content. AssertionError where an earlier command is refused."""
        for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            reply = self.say(command)
            assert reply[:1] in (b"2", b"3"), (command, reply)
        return self.say(f"X-Number: {number}\r\nSubject: kept or not\r\n\r\n{body}\r\n.")


def said(sock: socket.socket, command: bytes, readline: object) -> bytes:
    sock.sendall(command)
    return heard(readline)


def heard(readline: object) -> bytes:
    assert callable(readline)
    while (line := readline())[3:4] == b"-":
        pass
    if not line.endswith(b"\n"):
        raise EOFError("the relay has gone")
    return bytes(line)
