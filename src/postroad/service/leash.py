"""The leash: how the supervisor, the nursery and the other processes speak with each other.

Owns: the messages, and sending them with descriptors over a SOCK_SEQPACKET pair without ever blocking. Does not own:
what follows from a message (supervisor.py, nursery.py, child.py). End of file means that the other process is gone,
whatever became of it; nothing else is needed to know.

The supervisor believes nothing of what comes but its type: messages are small, decoded strictly, and a child that sends
anything else is killed.
"""

from __future__ import annotations

import array
import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

MESSAGE_MAX: Final = 65_536
"""Octets of one message."""
DESCRIPTORS_MAX: Final = 253
"""Of one message: SCM_MAX_FD of the kernel."""
WAITING_MAX: Final = 1_000
"""Messages that wait for a process that does not read."""
BEAT_EVERY: Final = 1.0
"""Seconds between two heartbeats."""
READ_MAX: Final = 50
"""Messages taken at once."""
WHO_MAX: Final = 200
WHY_MAX: Final = 4_000
KEYS_MAX: Final = 100
"""Characters of a name and of a reason, keys in an answer: all of it fits into a message."""
ROLES: Final = ("worker", "ledger", "front")


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    pass


# --- supervisor to nursery ---


class Begin(Message, frozen=True, kw_only=True, tag="begin"):
    """Get ready to fork. Descriptor: the configuration. ``user`` empty: stay who we are."""

    data_dir: str
    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]


class Fork(Message, frozen=True, kw_only=True, tag="fork"):
    """Make a child. Descriptors: its leash, the configuration it starts with, the one that the relay started with
    (which says what the sockets are), then sockets, then secrets."""

    role: str
    slot: int
    workers: int
    data_dir: str
    sockets: tuple[str, ...]
    """What each socket is: ``listener:0``, ``steering``, ``ledger``, ``control``, ``http``."""
    secrets: tuple[str, ...]
    """The path of each secret."""
    adopt: tuple[int, ...] = ()
    """Shards that a worker adopts."""


# --- nursery to supervisor ---


class Forked(Message, frozen=True, kw_only=True, tag="forked"):
    role: str
    slot: int
    pid: int


class Ended(Message, frozen=True, kw_only=True, tag="ended"):
    """A child ended; ``why`` says how: ``exit 1``, ``SIGKILL``."""

    pid: int
    why: str


# --- child to supervisor ---


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    """It serves (the nursery: it can fork). A worker says on what, once the kernel has chosen ports."""

    listeners: tuple[str, ...] = ()
    waiting: int = 0
    """Recipients found in the queue."""


class Failed(Message, frozen=True, kw_only=True, tag="failed"):
    """It cannot start. The text is a sentence for a person."""

    text: str


class Beat(Message, frozen=True, kw_only=True, tag="beat"):
    """It lives: sent every BEAT_EVERY from its event loop."""


class Prepared(Message, frozen=True, kw_only=True, tag="prepared"):
    """Answer to Prepare: empty if it can switch, else why not."""

    number: int
    why: str = ""


class Switched(Message, frozen=True, kw_only=True, tag="switched"):
    number: int


class AskReload(Message, frozen=True, kw_only=True, tag="ask-reload"):
    """The front: a person wants the configuration read again. The answer names the same ``request``."""

    who: str
    request: int


# --- supervisor to child ---


class Prepare(Message, frozen=True, kw_only=True, tag="prepare"):
    """Make ready to switch to the configuration that comes along; change nothing yet. Descriptors: it, then secrets."""

    number: int
    secrets: tuple[str, ...]


class Switch(Message, frozen=True, kw_only=True, tag="switch"):
    number: int


class Abandon(Message, frozen=True, kw_only=True, tag="abandon"):
    number: int


class Secrets(Message, frozen=True, kw_only=True, tag="secrets"):
    """Files have changed: here they are again. Descriptors: one for each path."""

    secrets: tuple[str, ...]


class Drain(Message, frozen=True, kw_only=True, tag="drain"):
    """Stop: accept nothing more, finish what is in hand within ``patience`` seconds, end."""

    patience: float
    why: str


class ReloadDone(Message, frozen=True, kw_only=True, tag="reload-done"):
    """To the front: what became of a reload."""

    who: str = ""
    """All who asked for it: persons, or ``SIGHUP``."""
    requests: tuple[int, ...] = ()
    """Of those who asked by the front."""
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    why: str = ""


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    process: str
    slot: int
    pid: int
    started_at: float
    restarts: int
    is_ready: bool


class Processes(Message, frozen=True, kw_only=True, tag="processes"):
    """To the front: which processes there are, whenever that changes."""

    rows: tuple[ProcessState, ...]
    listeners: tuple[str, ...]
    started_at: float


class Tell(Message, frozen=True, kw_only=True, tag="tell"):
    """To the ledger: write this fact with yours (msgpack of core/facts.py); to the front: count it. The supervisor has
    no outlet of its own."""

    fact: bytes


AnyMessage = (
    Begin | Fork | Forked | Ended | Ready | Failed | Beat | Prepared | Switched | AskReload
    | Prepare | Switch | Abandon | Secrets | Drain | ReloadDone | Processes | Tell
)  # fmt: skip

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(AnyMessage).decode


class LeashBroken(Exception):
    """The other process is gone, or sent what is no message."""


def send(sock: socket.socket, message: AnyMessage, descriptors: Sequence[int] = ()) -> None:
    """Send one message.

    Raises BlockingIOError where the socket does not block and is full, other OSErrors if nobody is there.
    """
    octets = _encode(message)
    if len(octets) > MESSAGE_MAX or len(descriptors) > DESCRIPTORS_MAX:
        raise ValueError(f"a message of {len(octets)} octets and {len(descriptors)} descriptors is too large")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([octets], rights, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[AnyMessage, list[int]]:
    """Return one message with its descriptors (close-on-exec, the receiver's).

    Raises:
        LeashBroken: end of file, or nonsense.
        BlockingIOError: nothing there, on a socket that does not block.
    """
    ints = array.array("i")
    try:
        octets, ancillary, flags, _ = sock.recvmsg(
            MESSAGE_MAX, socket.CMSG_SPACE(DESCRIPTORS_MAX * ints.itemsize), socket.MSG_CMSG_CLOEXEC
        )
    except (BlockingIOError, InterruptedError):
        raise
    except OSError as error:
        raise LeashBroken(str(error)) from error
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            ints.frombytes(content[: len(content) - len(content) % ints.itemsize])
    try:
        if not octets:
            raise LeashBroken("end of file")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise LeashBroken("a message was cut")
        return _decode(octets), list(ints)
    except (LeashBroken, msgspec.DecodeError) as error:
        close_all(list(ints))
        raise LeashBroken(str(error)) from error


def close_all(descriptors: Sequence[int]) -> None:
    """Close what was received and is not wanted."""
    import os

    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a new leash, non-blocking and close-on-exec."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    return ends[0], ends[1]


class Leash:
    """One end, on an event loop. ``on_end`` is called once, when nothing more can come."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[AnyMessage, list[int]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[AnyMessage, tuple[int, ...]]] = deque()
        self._is_open = True
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: AnyMessage, descriptors: Sequence[int] = ()) -> None:
        """Send now, or as soon as the other side reads. The descriptors stay the caller's.

        Never raises for the other side: its end is told by ``on_end``.
        """
        if not self._is_open:
            return
        if not self._waiting:
            try:
                send(self._sock, message, descriptors)
            except BlockingIOError:
                pass
            except OSError as error:
                self._end(str(error))
                return
            else:
                return
        if len(self._waiting) >= WAITING_MAX:
            self._end("it reads nothing")
            return
        import os

        self._waiting.append((message, tuple(map(os.dup, descriptors))))
        self._loop.add_writer(self._sock.fileno(), self._write)

    def close(self) -> None:
        """Let go of this end, without a word to anybody here."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            while self._waiting:
                close_all(self._waiting.popleft()[1])

    def _write(self) -> None:
        while self._waiting and self._is_open:
            message, descriptors = self._waiting[0]
            try:
                send(self._sock, message, descriptors)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(str(error))
                return
            self._waiting.popleft()
            close_all(descriptors)
        if self._is_open:
            self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        for _ in range(READ_MAX):  # then others have their turn
            if not self._is_open:
                return
            try:
                message, descriptors = receive(self._sock)
            except (BlockingIOError, InterruptedError):
                return
            except LeashBroken as broken:
                self._end(str(broken))
                return
            self._on_message(message, descriptors)

    def _end(self, why: str) -> None:
        if self._is_open:
            self.close()
            self._on_end(why)
