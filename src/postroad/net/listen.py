"""Accepts connections: each becomes a stream and a task that serves it.

Owns: the accept loop, its pauses (descriptors or sessions used up), healing, the drain. Does not own: opening the
socket (net/sockets.py), limits of clients and what is said (inbound).

Connections are accepted by the event loop's own server, a fifth cheaper than a loop of ours. uvloop has two habits that
must not be relied on: without descriptors it takes connections and drops them in silence, and after any other error of
accept(2) it closes the listener in silence. So we pause before descriptors run out, and look every WATCH_EVERY
seconds whether the kernel still listens. To pause, the loop's server is closed; the socket stays open in our hands, and
clients wait in its backlog.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Coroutine
from typing import Final

from postroad.core.faces import Clock, Outlet
from postroad.core.facts import Trouble
from postroad.core.units import SECOND
from postroad.net.sockets import BACKLOG, name_of
from postroad.net.stream import SocketStream

FILES_SPARE: Final = 64
"""Descriptors kept free for what is under way: body files, deliveries, the log."""
WATCH_EVERY: Final = 2 * SECOND
"""Seconds between two looks whether the listener lives, or may go on after a pause."""
LOOK_AGAIN: Final = 32
"""Connections accepted between two looks at the number of a descriptor, at most: a look costs as much as a reply."""
RESUME_BELOW: Final = 0.9
"""Share of ``connections_max`` below which a pause ends, where there is no surplus."""

Serve = Callable[[SocketStream], Coroutine[object, object, None]]


class Listening:
    """One listening socket. ``serve`` runs as a task for each connection; whatever it leaves open is closed."""

    def __init__(
        self,
        sock: socket.socket,
        serve: Serve,
        *,
        connections_max: int,
        surplus: int = 0,
        outlet: Outlet,
        clock: Clock,
        owns_file: bool = True,
    ) -> None:
        """``surplus``: connections taken beyond ``connections_max`` to be told in words that there is no place.

        ``owns_file``: the file of a Unix socket is ours to unlink at the end (false where others hold the
        socket)."""
        self.name = name_of(sock)
        self._sock = sock
        self._serve = serve
        self.connections_max = connections_max
        """Sessions above which, and ``surplus`` more, nothing is accepted for a while; may be changed at any time."""
        self._surplus = surplus
        self._outlet = outlet
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._served: socket.socket | None = None  # the duplicate that the loop's server holds
        self._watcher: asyncio.Task[None] | None = None
        self._paused = ""  # why
        self._files_usable = 0  # descriptors, as many as were allowed at the last look
        self._unlooked = 0  # connections to accept until the next look at their descriptors
        is_ours = owns_file and sock.family == socket.AF_UNIX
        self._inode = os.stat(sock.getsockname()).st_ino if is_ours else 0

    @property
    def connections(self) -> int:
        """Connections being served."""
        return len(self._tasks)

    async def start(self) -> None:
        """Begin to accept."""
        await self._accept()
        self._watcher = self._loop.create_task(self._watch())

    async def drain(self) -> None:
        """Accept what already waits, then listen no more. Connections go on; ``wait_idle`` waits for them."""
        if self._sock.fileno() < 0:
            return
        if self._watcher is not None:
            self._watcher.cancel()
        self._stop_accepting()
        while True:
            try:
                accepted, _ = self._sock.accept()
            except OSError:  # none left (BlockingIOError), or nothing that could be done about it now
                break
            accepted.setblocking(False)
            await self._loop.connect_accepted_socket(self._new_stream, accepted)
        self._remove_file()
        self._sock.close()

    async def wait_idle(self) -> None:
        """Return when no connection is served any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Stop listening, cancel what still runs, and wait for its end."""
        await self.drain()
        for task in self._tasks:
            task.cancel()
        await self.wait_idle()

    # --- accepting ---

    async def _accept(self) -> None:
        self._learn_limit()
        self._served = self._sock.dup()
        if self._sock.family == socket.AF_UNIX:
            self._server = await self._loop.create_unix_server(self._new_stream, sock=self._served, backlog=BACKLOG)
        else:
            self._server = await self._loop.create_server(self._new_stream, sock=self._served, backlog=BACKLOG)

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _new_stream(self) -> SocketStream:
        return SocketStream(self._loop, self._on_stream)

    def _on_stream(self, stream: SocketStream) -> None:
        task = self._loop.create_task(self._run(stream))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        if not self._paused and self._server is not None:
            if len(self._tasks) >= self.connections_max + self._surplus:
                self._pause(f"{len(self._tasks)} connections are open")
            elif self._unlooked > 0:
                self._unlooked -= 1
            else:
                self._look_at_files(stream)

    def _look_at_files(self, stream: SocketStream) -> None:
        """Pause if descriptors run out; else look again before a sixteenth of what is left can be taken by us."""
        number = stream.fileno()
        left = self._files_usable - number
        if left <= 0:
            self._pause(f"file descriptors are used up ({_files_max()}, see [process] file_limit)")
        elif number >= 0:  # else it is gone, and tells nothing
            self._unlooked = min(left // 16, LOOK_AGAIN)

    async def _run(self, stream: SocketStream) -> None:
        try:
            await self._serve(stream)
        finally:
            stream.close()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": f"a connection of {self.name} broke", "exception": error})

    # --- pauses ---

    def _pause(self, why: str) -> None:
        """Leave further clients in the backlog for a while."""
        self._paused = why
        self._stop_accepting()
        self._tell(why)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            self._learn_limit()
            try:
                await self._look_after()
            except OSError as error:  # no descriptor or no memory for the server itself: again at the next look
                self._stop_accepting()
                if not self._paused:
                    self._pause(str(error))

    @property
    def _resume_below(self) -> float:
        # Those within connections_max may stay for hours: who comes next is to be told so meanwhile.
        return self.connections_max + self._surplus / 2 if self._surplus else self.connections_max * RESUME_BELOW

    async def _look_after(self) -> None:
        if self._paused:
            if len(self._tasks) < self._resume_below and _files_free(self._sock):
                await self._accept()
                self._tell(self._paused, over=True)
                self._paused = ""
        elif self._served is None or self._served.fileno() < 0 or not _listens(self._sock):
            self._stop_accepting()
            self._tell("the listener had closed")
            self._sock.listen(BACKLOG)
            await self._accept()
            self._tell("the listener had closed", over=True)

    def _learn_limit(self) -> None:
        self._files_usable, self._unlooked = _files_max() - _files_spare(), 0

    def _tell(self, why: str, *, over: bool = False) -> None:
        self._outlet.emit(Trouble(at=self._clock.now(), what="accept", why=f"{self.name}: {why}", over=over))

    def _remove_file(self) -> None:
        """Unlink the Unix socket, if it is still ours and not a successor's."""
        if self._inode:
            path = self._sock.getsockname()
            try:
                if os.stat(path).st_ino == self._inode:
                    os.unlink(path)
            except OSError:
                pass  # gone already, or the directory is no longer ours to write: nobody answers there


def _files_max() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _files_spare() -> int:
    return min(FILES_SPARE, _files_max() // 8)


def _files_free(sock: socket.socket) -> bool:
    """True if there are descriptors again, with as many to spare as would begin a pause."""
    with sock.dup() as lowest:  # the kernel gives the lowest that is free
        return lowest.fileno() < _files_max() - 2 * _files_spare()


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
