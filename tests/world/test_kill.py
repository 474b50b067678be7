"""Killed at any moment, the relay loses nothing that it answered with 250.

Clients that reconnect and note each id that got its 250; a next hop that is down for a while in the middle; the relay
killed by SIGKILL while messages are between their final dot and 250, and started again. What arrives twice was in
flight when a kill, or the fall of the next hop, broke off the delivery.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running
from tests.world.waiting import is_listening, until

MESSAGES = 5000
MESSAGES_MIN = 2000
PATIENCE = 60.0
"""Seconds of load; a machine too slow for all messages in them must at least manage MESSAGES_MIN, in whatever time."""
LOAD_MAX = 300.0
CLIENTS = 12
KILLS = 6
RECENT = 0.5
"""Seconds before a break within which a delivery may not yet be noted as done: 50 ms, and what a busy machine adds."""
CONFIG = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[retry]
first = "1s"
longest = "2s"
"""


class Generator:
    """Clients that send one message after the other, each under an id of its own that is never used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._next = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]
        self.taken: set[str] = set()
        self.doubtful: set[str] = set()
        """Final dot sent, and no reply heard before the connection broke."""
        self.awaiting: set[str] = set()
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
                until(lambda: is_listening(self._port) or self._is_done(), 120, what="the relay for a client")
                with suppress(OSError, EOFError):
                    self._session()
        except BaseException as error:
            self.errors.append(error)
            raise

    def _is_done(self) -> bool:
        return self._stop.is_set() or len(self.taken) >= MESSAGES

    def _session(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as sock, sock.makefile("rb") as replies:
            _heard(replies.readline)
            _said(sock, b"EHLO client.example\r\n", replies.readline)
            while not self._is_done():
                self._message(sock, replies.readline)
            _said(sock, b"QUIT\r\n", replies.readline)

    def _message(self, sock: socket.socket, readline: object) -> None:
        with self._lock:
            self._next += 1
            number = f"k{self._next}"
        for command in (b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<b@next.example>\r\n", b"DATA\r\n"):
            if (reply := _said(sock, command, readline))[:1] not in (b"2", b"3"):
                self.refused.append(reply)
                raise EOFError(reply)
        sock.sendall(f"X-Number: {number}\r\nSubject: kept or not\r\n\r\nHello\r\n".encode())
        self.awaiting.add(number)
        try:
            reply = _said(sock, b".\r\n", readline)
        except (OSError, EOFError):
            self.doubtful.add(number)
            raise
        finally:
            self.awaiting.discard(number)
        if reply.startswith(b"250"):
            self.taken.add(number)
        else:
            self.refused.append(reply)


def _said(sock: socket.socket, command: bytes, readline: object) -> bytes:
    sock.sendall(command)
    return _heard(readline)


def _heard(readline: object) -> bytes:
    assert callable(readline)
    while (line := readline())[3:4] == b"-":
        pass
    if not line.endswith(b"\n"):
        raise EOFError("the relay has gone")
    return bytes(line)


def kill_in_doubt(relay: Relay, generator: Generator) -> float:
    """SIGKILL while messages wait for their 250, until the clients show that some did. Returns the moment."""
    until(lambda: len(generator.awaiting) > 1, 60, what="messages between final dot and 250")
    moment = time.monotonic()
    relay.kill()
    return moment


def test_what_got_its_250_arrives_although_the_relay_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kills: list[float] = []
    started = time.monotonic()
    with CountingSink() as sink:
        relay = Relay(tmp_path, config=CONFIG.format(port=sink.port))
        with running(relay), Generator(relay.port) as generator:
            caught = 0
            while caught < KILLS and not generator.is_idle():
                generator.until_taken(MESSAGES // (KILLS + 3))
                if len(kills) == KILLS // 2:
                    sink.down()
                before = len(generator.doubtful)
                kills.append(kill_in_doubt(relay, generator))
                until(lambda: not generator.awaiting, 60, what="clients that saw the kill")
                caught += len(generator.doubtful) > before
                relay.start()
                if len(kills) == KILLS // 2 + 2:
                    sink.up()
            loaded_enough(generator, started)
            taken = set(generator.taken)
            until(lambda: taken <= numbers(sink), 120, what="the arrival of each message that got its 250")
            until(lambda: relay.queue_length() == 0, 60, what="an empty queue")
            assert relay.stop() == 0
    assert not generator.errors
    assert caught >= 5
    assert len(taken) >= MESSAGES_MIN
    first: dict[str, float] = {}
    doubles: list[tuple[str, float]] = []
    for message in sink.arrived:
        number = message.field(b"X-Number")
        if number in first:
            doubles.append((number, first[number]))
        first.setdefault(number, message.at)
    stray = numbers(sink) - taken - generator.doubtful
    ages = [min((brk - at for brk in kills + sink.went_down if brk >= at - RECENT), default=9e9) for _, at in doubles]
    with capsys.disabled():
        print(
            f"\n{len(taken)} with 250, {len(kills)} kills ({caught} between dot and 250), "
            f"{len(generator.doubtful)} doubtful, {len(doubles)} doubles, "
            f"the oldest {max(ages, default=0) * 1000:.0f} ms before a break, {time.monotonic() - started:.1f} s"
        )
    assert not stray, "what was never sent, or was refused, has arrived"
    assert all(age < RECENT for age in ages), "a delivery was forgotten that was done long before the kill"
    near = sum(any(abs(brk - message.at) < RECENT for brk in kills + sink.went_down) for message in sink.arrived)
    assert len(doubles) <= near


def loaded_enough(generator: Generator, started: float) -> None:
    """Wait for the end of the load: all messages, or fewer on a machine too slow for them."""
    until(
        lambda: generator.is_idle() or (time.monotonic() - started > PATIENCE and len(generator.taken) >= MESSAGES_MIN),
        LOAD_MAX,
        what="the end of the load",
    )
    generator.stop()
    until(generator.is_idle, 120, what="the end of the clients")


def numbers(sink: CountingSink) -> set[str]:
    """Return the ids that have arrived."""
    return {message.field(b"X-Number") for message in list(sink.arrived)}
