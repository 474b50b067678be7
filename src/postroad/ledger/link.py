"""A process's connection to the ledger: made again whenever it ends, and never waited for longer than said.

Owns: connecting, back-off, heartbeats, questions and their answers. Does not own: what is asked and what an answer
means (client.py, remote_records.py, remote_marks.py).

The supervisor holds the ledger's socket, so connecting succeeds while no ledger runs: it *is there* from its Welcome
on, and away when the connection ends or no octet comes for 3 s. Then every question is answered with None.

A silent ledger may be alive, and wake: what it lends of our shares before it reads that we left, it says on the
connection that we left. That is listened to until the ledger ends it (as the kernel does if it dies) or LEFT_MAX.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from postroad.core.units import SECOND
from postroad.ledger import wire

PAUSE_FIRST: Final = 0.05 * SECOND
PAUSE_LONGEST: Final = 1 * SECOND
"""Seconds between two attempts to connect: doubled from the first to the longest."""
CONNECT_MAX: Final = 5 * SECOND
TICK: Final = 0.25 * SECOND
"""Seconds between two looks at what is late. In a process that hangs itself no ticks pass, so that it does not take its
own silence for the ledger's."""
TICKS_TO_PING: Final = 4
TICKS_OF_SILENCE_MAX: Final = 12
"""3 s without an octet, though the ledger answers a ping every second."""
LEFT_MAX: Final = 5 * SECOND
"""Seconds for which a connection that was left is listened to. All others leave the same silent ledger within 2 s of
us, a ping and its ticks; after that nobody is there to use what it grants when it wakes."""
ASKED_MAX: Final = 50_000
"""Questions without an answer yet; one more is answered with None at once."""
_COUNTER: Final = itertools.count()


class Asked:
    """A question that has no answer yet."""

    __slots__ = ("answer", "question", "until")

    def __init__(self, question: wire.Question, until: float) -> None:
        self.question = question
        self.until = until
        self.answer: asyncio.Future[wire.Answer | None] = asyncio.get_running_loop().create_future()


class Listener(Protocol):
    """What the owner of a link is told, on the loop."""

    def on_welcome(self) -> None:
        """The ledger is there: announce. What is said here goes out before anything else."""

    def on_away(self, why: str) -> None:
        """It is away; why, if it was we who ended the connection."""

    def on_answer(self, question: wire.Question, answer: wire.Answer, *, is_wanted: bool) -> None:
        """An answer came; ``is_wanted`` if somebody still waits for it, and will get it right after."""

    def on_told(self, answer: wire.Answer) -> None:
        """The ledger said something unasked."""


class Link:
    """The connection. ``start`` it on the loop."""

    def __init__(self, path: Path, slot: int, workers: int, time: Callable[[], float], listener: Listener) -> None:
        self._path = path
        self._slot = slot
        self._workers = workers
        self._time = time
        self._listener = listener
        self.is_there = False
        self.was_there = False
        """True from the first Welcome on."""
        self.away_since = 0.0
        self._incarnation = f"{os.getpid()}.{time():.6f}.{next(_COUNTER)}"
        self._ids = itertools.count(1)
        self._asked: dict[int, Asked] = {}
        self._wire: wire.Wire | None = None
        self._left: wire.Wire | None = None  # silent; may still say what it lends
        self._left_at = 0.0
        self._ended: asyncio.Future[None] | None = None  # of the connection there is
        self._welcomes: set[asyncio.Future[None]] = set()  # who waits for the ledger to be there
        self._was_welcome = False  # on the connection there is
        self._silent_ticks = 0
        self._ticks = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to connect."""
        self.away_since = self._time()
        self._tasks = [asyncio.create_task(self._keep_connected()), asyncio.create_task(self._tick())]

    async def close(self) -> None:
        """Say what is unsaid and end it for good: the ledger frees what is held."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        self._forget_left()
        self.is_there = False
        self._answer_all_with_none()

    @property
    def is_leaving(self) -> bool:
        """True while a ledger that was silent has not ended our connection: what it lends meanwhile is not known."""
        return self._left is not None

    @property
    def away_for(self) -> float:
        """Seconds since the ledger went away, or we began; 0.0 while it is there."""
        return 0.0 if self.is_there else self._time() - self.away_since

    def say(self, value: wire.Value) -> None:
        """Say something that has no answer; to nobody while the ledger is away."""
        if self._wire is not None and self.is_there:
            self._wire.say(value)

    async def ask(self, make: Callable[[int], wire.Question], patience: float) -> wire.Answer | None:
        """Return the answer, or None if the ledger is away, goes away, or takes longer than ``patience`` seconds.

        An answer that comes later, or that nobody waits for any more, goes to ``on_answer`` alone.
        """
        if self._wire is None or not self.is_there or len(self._asked) >= ASKED_MAX:
            return None
        number = next(self._ids)
        asked = self._asked[number] = Asked(make(number), self._time() + patience)
        self._wire.say(asked.question)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            answer = asked.answer
            if not answer.cancelled() and (came := answer.result()) is not None:
                self._listener.on_answer(asked.question, came, is_wanted=False)  # it came in this very turn
            raise

    async def wait_there(self, seconds: float) -> bool:
        """Return True when the ledger is there, False if it is not within so many seconds."""
        if self.is_there:
            return True
        if seconds <= 0:
            return False
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._welcomes.add(waiting)
        try:
            async with asyncio.timeout(seconds):
                await waiting
        except TimeoutError:
            return self.is_there
        finally:
            self._welcomes.discard(waiting)
        return self.is_there

    # --- the connection ---

    async def _keep_connected(self) -> None:
        pause = PAUSE_FIRST
        while True:
            with suppress(OSError, TimeoutError):
                if await self._live_once():
                    pause = PAUSE_FIRST
            await asyncio.sleep(pause)
            pause = min(PAUSE_LONGEST, pause * 2)

    async def _live_once(self) -> bool:
        """Connect and return when that connection has ended: True if the ledger was there."""
        loop = asyncio.get_running_loop()
        ended = self._ended = loop.create_future()
        connection = wire.Wire(
            wire.ANSWERS,
            lambda answers: self._on_answers(connection, answers),
            lambda why: self._on_lost(connection, ended, why),
        )
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # by its directory's descriptor: a sockaddr_un holds 107 octets, and paths may be longer
            async with asyncio.timeout(CONNECT_MAX):
                await loop.create_unix_connection(lambda: connection, f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)
        self._wire = connection
        self._was_welcome = False
        connection.say(wire.Hello(self._slot, self._workers, self._incarnation, self._time()))
        await ended
        return self._was_welcome

    def _on_answers(self, connection: wire.Wire, answers: list[wire.Answer]) -> None:
        if connection is self._wire:
            self._silent_ticks = 0
        for answer in answers:
            if isinstance(answer, wire.Welcome):
                if connection is self._wire:  # one that we left has nothing to hear from us any more
                    self._on_welcome(connection)
            elif isinstance(answer, wire.Taken | wire.Granted | wire.Done | wire.Failed):
                asked = self._asked.pop(answer.id, None)
                if asked is not None:
                    is_wanted = not asked.answer.done()
                    self._listener.on_answer(asked.question, answer, is_wanted=is_wanted)
                    if is_wanted:
                        asked.answer.set_result(answer)
            else:
                self._listener.on_told(answer)

    def _on_welcome(self, connection: wire.Wire) -> None:
        self._forget_left()  # all that is lent is said anew here
        self.is_there = self.was_there = self._was_welcome = True
        self._listener.on_welcome()
        connection.say(wire.Announced())
        for waiting in self._welcomes:
            if not waiting.done():
                waiting.set_result(None)

    def _on_lost(self, connection: wire.Wire, ended: asyncio.Future[None], why: str) -> None:
        if self._wire is connection:
            self._wire = None
            self._go_away(why)
        if self._left is connection:
            self._left = None
        if not ended.done():
            ended.set_result(None)

    def _go_away(self, why: str) -> None:
        if self.is_there:
            self.is_there = False
            self.away_since = self._time()
            self._listener.on_away(why)
        self._answer_all_with_none()

    def _answer_all_with_none(self) -> None:
        asked, self._asked = self._asked, {}
        for one in asked.values():
            if not one.answer.done():
                one.answer.set_result(None)

    # --- time passes ---

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = self._time()
            for asked in self._asked.values():
                if asked.until <= now and not asked.answer.done():
                    asked.answer.set_result(None)
            if self._left is not None and now - self._left_at >= LEFT_MAX:
                self._forget_left()
            if self.is_there and self._wire is not None:
                self._ticks += 1
                self._silent_ticks += 1
                if self._silent_ticks > TICKS_OF_SILENCE_MAX:
                    self._part(self._wire)
                elif self._ticks % TICKS_TO_PING == 0:
                    self._wire.say(wire.Ping())

    def _part(self, connection: wire.Wire) -> None:
        """Leave a connection that is silent, and come back on another."""
        connection.say(wire.Leaving())
        self._wire = None
        self._left, self._left_at = connection, self._time()
        self._go_away(f"silent for {TICKS_OF_SILENCE_MAX * TICK:.0f} s")
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _forget_left(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left.close()
