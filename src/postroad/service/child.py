"""The life of a process of the relay: begun by the nursery, on a leash to the supervisor, until told to stop.

Owns: its event loop and its settings, what came with it (``Birth``), heartbeats, the messages of the leash, the orphan
rule: when the supervisor is gone, it drains shortly and ends. Does not own: what its part does (worker.py, ledger.py,
front.py).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import uvloop

from postroad.config.load import Loaded
from postroad.config.model import Settings
from postroad.service.failures import StartFailed
from postroad.service.leash import (
    BEAT_EVERY,
    Abandon,
    AnyMessage,
    Beat,
    Drain,
    Failed,
    Fork,
    Leash,
    Prepare,
    Prepared,
    Ready,
    Secrets,
    Switch,
    Switched,
    close_all,
)
from postroad.service.plan import read_memory
from postroad.service.reading import unpack
from postroad.service.start import starting

SWITCH_INTERVAL: Final = 0.0005
"""Seconds a thread may keep the interpreter while another waits for it. The event loop waits whenever the writer of the
spool computes; with the default of 5 ms each commit could cost every session 5 ms."""
GARBAGE_MAX: Final = 5_000
"""New objects, those given up again not counted, after which the interpreter looks for cycles among them. Fifty
sessions have some thousands at a time: with its default of 700 it looked all the time, and found nothing. What cycles
hold meanwhile is bounded by this: those of an attempt that failed are some dozens of objects."""
ORPHAN_PATIENCE: Final = 3.0
"""Seconds for what is in hand once the supervisor is gone: a new one wants to start."""
CLOSE_PATIENCE: Final = 1.5
"""Seconds beside the patience of a drain in which everything is closed; then the kernel ends the process
(setitimer(2)), whatever it waits for: a disk that never answers must not hold data_dir. That is a crash, and loses
what a crash loses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a process is given."""

    role: str
    slot: int
    workers: int
    data_dir: Path
    loaded: Loaded
    first: Loaded
    """The configuration that the relay started with: its listeners are the sockets, by index."""
    sockets: Mapping[str, socket.socket]
    secrets: SecretPaths
    adopt: tuple[int, ...]

    @property
    def settings(self) -> Settings:
        return self.fit(self.loaded)

    def fit(self, loaded: Loaded) -> Settings:
        """Return settings as they hold in this process: what shapes the processes is as it was at the start."""
        return loaded.settings.model_copy(update={"data_dir": self.data_dir, "workers": self.workers})


class SecretPaths:
    """Where the secrets are read: the file itself, or the memory that the supervisor put it in."""

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        self._descriptors = dict(descriptors)
        self._before: dict[str, int] = {}

    def __call__(self, path: str) -> str:
        """Return the path to open for a secret that is named by ``path``."""
        descriptor = self._descriptors.get(path)
        return path if descriptor is None else f"/proc/self/fd/{descriptor}"

    def exchange(self, changed: Mapping[str, int]) -> None:
        """Take what has changed, under the number it had, so that whoever reads it by that sees the change."""
        for path, descriptor in changed.items():
            old = self._descriptors.get(path)
            if old is None:
                self._descriptors[path] = descriptor
            else:
                os.dup2(descriptor, old, inheritable=False)
                os.close(descriptor)

    def joined(self, others: Mapping[str, int]) -> SecretPaths:
        """Return these with others, which take the place of their like once ``settle`` is called."""
        joined = SecretPaths({**self._descriptors, **others})
        joined._before = dict(self._descriptors)
        return joined

    def forget(self) -> None:
        """Close what was to take the place of others, and does not."""
        kept = set(self._before.values())
        close_all([new for new in self._descriptors.values() if new not in kept])

    def settle(self) -> None:
        """Have others under the numbers that their like had before: whoever reads by those sees what is new."""
        for path, old in self._before.items():
            new = self._descriptors[path]
            if new != old:
                os.dup2(new, old, inheritable=False)
                os.close(new)
                self._descriptors[path] = old
        self._before = {}


class Part(Protocol):
    """What a process does."""

    async def start(self) -> Ready:
        """Open everything and serve. Raises what service/start.py words."""

    def prepare(self, loaded: Loaded, secrets: SecretPaths) -> Callable[[], None]:
        """Make ready for another configuration without changing anything; what is returned switches, and cannot fail.

        Raises:
            StartFailed: it cannot be; the text says why.
        """

    def hear(self, message: AnyMessage) -> None:
        """Hear what is meant for this role alone."""

    async def drain(self, patience: float, why: str) -> None:
        """Take nothing more, finish what is in hand within so many seconds."""

    async def close(self) -> None:
        """Close whatever is open, also after a failed start."""


MakePart = Callable[[Birth, Leash], Part]


def live(message: Fork, descriptors: list[int]) -> int:
    """Be the process that was asked for; return its exit status."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C at a terminal reaches all: the supervisor decides
    leash, birth = _born(message, descriptors)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(leash, birth))


async def _live(leash: socket.socket, birth: Birth) -> int:
    return await _Life(leash, birth).run()


def _born(message: Fork, descriptors: list[int]) -> tuple[socket.socket, Birth]:
    leash = socket.socket(fileno=descriptors[0])
    leash.setblocking(False)
    loaded, first = (unpack(read_memory(descriptor)) for descriptor in descriptors[1:3])
    close_all(descriptors[1:3])
    rest = descriptors[3:]
    sockets = {name: socket.socket(fileno=number) for name, number in zip(message.sockets, rest, strict=False)}
    for sock in sockets.values():
        sock.setblocking(False)
    secrets = dict(zip(message.secrets, rest[len(sockets) :], strict=True))
    birth = Birth(
        role=message.role,
        slot=message.slot,
        workers=message.workers,
        data_dir=Path(message.data_dir),
        loaded=loaded,
        first=first,
        sockets=sockets,
        secrets=SecretPaths(secrets),
        adopt=message.adopt,
    )
    return leash, birth


def _maker(role: str) -> MakePart:
    if role == "worker":
        from postroad.service.worker import Worker

        return Worker
    if role == "ledger":
        from postroad.service.ledger import Ledger

        return Ledger
    from postroad.service.front import Front

    return Front


class _Life:
    """One process, from its start to its end."""

    def __init__(self, leash: socket.socket, birth: Birth) -> None:
        self._birth = birth
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[Drain] = self._loop.create_future()
        self._leash = Leash(leash, self._on_message, self._on_orphaned)
        self._prepared: dict[int, tuple[Callable[[], None], SecretPaths]] = {}
        self._secrets = birth.secrets
        self._part: Part | None = None

    async def run(self) -> int:
        beating = self._loop.create_task(self._beat())
        self._loop.add_signal_handler(signal.SIGTERM, self._on_term)
        self._part = part = _maker(self._birth.role)(self._birth, self._leash)
        try:
            with starting(self._birth.data_dir):
                ready = await part.start()
            gc.collect()
            gc.freeze()  # what lives as long as the process is not looked at again by every full collection
            gc.set_threshold(GARBAGE_MAX)
            self._leash.send(ready)
            drain = await self._end
            await part.drain(drain.patience, drain.why)
        except StartFailed as failed:
            self._leash.send(Failed(text=str(failed)))
            return 1
        finally:
            await part.close()
            beating.cancel()
            self._leash.close()
        return 0

    async def _beat(self) -> None:
        while True:
            self._leash.send(Beat())
            await asyncio.sleep(BEAT_EVERY)

    def _finish(self, drain: Drain) -> None:
        if not self._end.done():
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, drain.patience + CLOSE_PATIENCE)
            self._end.set_result(drain)

    def _on_term(self) -> None:
        """Somebody means this process alone: it ends in good order, and the supervisor starts another."""
        self._finish(Drain(patience=self._birth.settings.process.drain, why="SIGTERM"))

    def _on_orphaned(self, why: str) -> None:
        self._finish(Drain(patience=ORPHAN_PATIENCE, why="the supervisor is gone"))

    def _on_message(self, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case Drain():
                self._finish(message)
            case Prepare():
                self._prepare(message, descriptors)
            case Switch():
                self._switch(message.number)
            case Abandon():
                if (prepared := self._prepared.pop(message.number, None)) is not None:
                    prepared[1].forget()
            case Secrets():
                self._secrets.exchange(dict(zip(message.secrets, descriptors, strict=True)))
            case _:
                close_all(descriptors)
                if self._part is not None:
                    self._part.hear(message)

    def _prepare(self, message: Prepare, descriptors: list[int]) -> None:
        why = ""
        try:
            loaded = unpack(read_memory(descriptors[0]))
            secrets = self._secrets.joined(dict(zip(message.secrets, descriptors[1:], strict=True)))
            assert self._part is not None
            with starting(self._birth.data_dir):
                self._prepared[message.number] = self._part.prepare(loaded, secrets), secrets
        except StartFailed as failed:
            why = str(failed)
            close_all(descriptors[1:])
        except Exception as error:  # noqa: BLE001 - boundary: a reload that breaks is refused, everything stays as it is
            why = f"The {self._birth.role} could not prepare for it: {type(error).__name__}: {error}"
            close_all(descriptors[1:])
            self._loop.call_exception_handler({"message": "a reload could not be prepared", "exception": error})
        finally:
            close_all(descriptors[:1])
        self._leash.send(Prepared(number=message.number, why=why))

    def _switch(self, number: int) -> None:
        if (prepared := self._prepared.pop(number, None)) is not None:
            switch, self._secrets = prepared
            self._secrets.settle()
            switch()
            self._leash.send(Switched(number=number))
