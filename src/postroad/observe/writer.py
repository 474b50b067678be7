"""Writes log lines to a descriptor, a batch at a time, and never lets a slow reader stop the relay.

Owns: what waits to be written, its bound, what is left out when the bound is reached. Does not own: the form of lines
(log.py), the descriptor (the house opened it, or it is standard output or error).

All processes of a relay write to one descriptor, and lines stay whole: on a pipe each write is of whole lines and at
most PIPE_BUF, on a file it is a whole batch. A pipe whose reader stands still blocks its writer, so all writing is in a
lane of its own; while one batch is written, the next ones wait here. Past PENDING_MAX the oldest of the least level are
dropped, and a line tells how many.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import Sequence
from typing import Final

from postroad.core.faces import Threads
from postroad.core.facts import AnyFact, Trouble
from postroad.core.units import KIB, MIB
from postroad.observe.log import Level, LogLines, level_of

PENDING_MAX: Final = 4 * MIB
"""Octets of lines that wait, beside those being written."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the end waits for a slow reader."""
_PIECE: Final = 4 * KIB
"""PIPE_BUF: a pipe that is ready takes as much without blocking, and in one piece (pipe(7))."""
_LANE: Final = "log"


class LogWriter:
    """A Subscriber that writes lines to ``descriptor``, which stays open."""

    def __init__(self, descriptor: int, lines: LogLines, threads: Threads) -> None:
        self._descriptor = descriptor
        self.lines = lines
        self._threads = threads
        self._pending: list[tuple[Level, bytes]] = []
        self._octets = 0
        self._lost = 0
        self._last_at = 0.0
        self._closing = False
        self._writing: asyncio.Future[int] | None = None

    def take(self, facts: Sequence[AnyFact]) -> None:
        for fact in facts:
            line = self.lines.line(fact)
            if line is not None:
                self._pending.append((level_of(fact), line))
                self._octets += len(line) + 1
        if self._octets > PENDING_MAX:
            self._drop()
        if self._pending:
            self._last_at = facts[-1].at
            self._write()

    async def close(self) -> None:
        self._write()
        while self._writing is not None and not self._closing:
            done, _ = await asyncio.wait([self._writing], timeout=CLOSE_TIMEOUT)
            if not done:
                self._closing = True  # the lane looks at it between two pieces

    def _write(self) -> None:
        if self._writing is not None or not self._pending:
            return
        lines = [line for _, line in self._pending]
        if self._lost:
            lost = Trouble(
                at=self._last_at, what="log", why=f"{self._lost} lines left out: whoever reads the log is too slow"
            )
            lines.insert(0, self.lines.line(lost) or b"")
            self._lost = 0
        self._pending, self._octets = [], 0
        lines.append(b"")  # so that the last line ends too
        self._writing = self._threads.run_blocking(self._write_all, b"\n".join(lines), lane=_LANE)
        self._writing.add_done_callback(self._on_written)

    def _on_written(self, written: asyncio.Future[int]) -> None:
        self._writing = None
        if not written.cancelled():
            self._lost += written.result()
        self._write()

    def _write_all(self, octets: bytes) -> int:
        """Write in the lane's thread. Returns how many lines could not be written."""
        position, size = 0, len(octets)
        try:
            is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            while position < size:
                if is_file:
                    position += os.write(self._descriptor, memoryview(octets)[position:])
                elif self._is_ready():
                    position += self._write_piece(octets, position)
                elif self._closing:
                    break
        except OSError:  # the reader has gone, the disk is full: mail goes on without its log, and the count tells
            pass
        return octets.count(b"\n", position)

    def _write_piece(self, octets: bytes, position: int) -> int:
        """Write as many whole lines as go in one piece; return how many octets went."""
        end = octets.rfind(b"\n", position, position + _PIECE) + 1
        try:
            return os.write(self._descriptor, octets[position : end or position + _PIECE])
        except BlockingIOError:  # somebody has made the pipe non-blocking, and somebody else has just filled it
            return 0

    def _is_ready(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(100))

    def _drop(self) -> None:
        """Make room by a quarter: the oldest lines of the least level first."""
        excess = self._octets - PENDING_MAX * 3 // 4
        for level in Level:
            kept: list[tuple[Level, bytes]] = []
            for of, line in self._pending:
                if of is level and excess > 0:
                    excess -= len(line) + 1
                    self._octets -= len(line) + 1
                    self._lost += 1
                else:
                    kept.append((of, line))
            self._pending = kept
