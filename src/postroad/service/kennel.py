"""All processes below the supervisor: the nursery, the places for the others, what is sent to them and what comes.

Owns: starting the nursery and, by it, the others; heartbeats; starting again. Does not own: what a message means
(supervisor.py, reload.py), what there is to hand on (open_sockets.py, secrets.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from postroad.core.facts import ProcessEnded
from postroad.service.children import RESTART_FIRST, RESTART_LONGEST, Child
from postroad.service.leash import (
    AnyMessage,
    Beat,
    Begin,
    Ended,
    Failed,
    Fork,
    Forked,
    Leash,
    ProcessState,
    Ready,
    Secrets,
    close_all,
    pair,
)
from postroad.service.privileges import Identity
from postroad.service.processes import spawn

if TYPE_CHECKING:
    from postroad.service.supervisor import Supervisor

LATE: Final = 2.0
"""Seconds between two looks above which it was the supervisor that stood still."""
FORK_MAX: Final = 20.0
"""Seconds that the nursery may take to fork; then it is taken for hung, and killed."""
REAP_PATIENCE: Final = 1.0
"""Seconds to hear how a process ended; after that it is told without."""
NURSERY: Final = "postroad.service.nursery"
SHARD_PREFIX: Final = "shard-"


class Kennel:
    """The processes of one relay."""

    def __init__(self, supervisor: Supervisor, configuration: int) -> None:
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self.first_configuration = configuration
        self.configuration = configuration
        """The one in force: another than the first after a reload."""
        self.generation = 0
        """How many configurations have been in force before."""
        self.children: dict[tuple[str, int], Child] = {}
        self._nursery: Leash | None = None
        self._nursery_pid = 0
        self._nursery_is_ready = False
        self._nursery_again_at: float | None = None
        self._nursery_wait = 0.0
        self._nursery_at = 0.0
        self._looked_at = 0.0
        self._nursery_starts = 0
        self._lock = -1
        self._identity: Identity | None = None
        self._changes: list[asyncio.Future[None]] = []
        self._reaped: dict[int, str] = {}  # how processes ended, until that has been told
        self._untold: dict[int, Child] = {}  # processes that have ended, until it is known how
        self._told: deque[int] = deque(maxlen=100)

    def places(self, workers: int) -> list[Child]:
        """Make a place for each process; return them in the order of their start."""
        made = [Child("ledger"), *(Child("worker", slot) for slot in range(workers)), Child("front")]
        self.children = {(child.role, child.slot): child for child in made}
        return made

    def of_role(self, role: str) -> Iterable[Child]:
        return [child for child in self.children.values() if child.role == role]

    async def changed(self) -> None:
        """Return when a process has said something or ended."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._changes.append(future)
        await future

    def _has_changed(self) -> None:
        changes, self._changes = self._changes, []
        for future in changes:
            if not future.done():
                future.set_result(None)

    # --- the nursery ---

    def start_nursery(self, lock: int, identity: Identity | None) -> None:
        """Start it. It keeps the lock on data_dir, and so does everything it forks."""
        self._lock, self._identity = lock, identity
        ours, theirs = pair()
        self._nursery_is_ready, self._nursery_again_at = False, None
        self._nursery = Leash(ours, self._on_nursery, self._on_nursery_end)
        self._nursery_at = self._supervisor.clock.now()
        self._nursery_starts += 1
        self._nursery_pid = spawn(NURSERY, [theirs.fileno(), lock])
        theirs.close()
        who = identity or Identity("", 0, 0, ())
        begin = Begin(
            data_dir=self._supervisor.plan.data_dir, user=who.name, uid=who.uid, gid=who.gid, groups=who.groups
        )
        self._nursery.send(begin, [self.configuration])

    def nursery_state(self) -> ProcessState:
        """Return how the nursery does."""
        return ProcessState(
            process="nursery",
            slot=0,
            pid=self._nursery_pid,
            started_at=self._nursery_at,
            restarts=self._nursery_starts - 1,
            is_ready=self._nursery_is_ready,
        )

    def _on_nursery(self, message: AnyMessage, descriptors: list[int]) -> None:
        close_all(descriptors)
        match message:
            case Ready():
                self._nursery_is_ready = True
                self._nursery_wait = 0.0
                self._start_wanted(self._loop.time())
                if self._supervisor.is_up:
                    self._supervisor.publish()
            case Forked():
                child = self.children[message.role, message.slot]
                child.born(message.pid)
            case Ended():
                self.on_reaped(message.pid, message.why)
            case Failed():
                if self._nursery_is_ready or not self.children:
                    return
                self._supervisor.on_message(next(iter(self.children.values())), message)
            case _:
                pass

    def _on_nursery_end(self, why: str) -> None:
        self._nursery = None
        if self._supervisor.is_stopping:
            return
        if not self._supervisor.is_up:
            self._supervisor.fail_start(f"The nursery ended at once ({why}): see what it said above.")
            return
        now = self._loop.time()
        self._nursery_again_at = now + self._nursery_wait
        self._nursery_wait = min(max(self._nursery_wait * 2.0, RESTART_FIRST), RESTART_LONGEST)
        self._supervisor.tell(
            ProcessEnded(at=self._supervisor.clock.now(), process="nursery", slot=0, pid=self._nursery_pid, why=why)
        )

    # --- the others ---

    def ask_for(self, child: Child) -> None:
        """Have a process forked for a place, now or as soon as there is a nursery."""
        now = self._loop.time()
        if self._nursery is None or not self._nursery_is_ready:
            child.again_at = now
            child.forked = child.forked or now
            return
        supervisor = self._supervisor
        ours, theirs = pair()
        leash = Leash(
            ours,
            lambda message, descriptors: self._on_message(child, message, descriptors),
            lambda why: self._on_end(child, why),
        )
        child.forked = child.forked or now
        child.begun(leash, now, supervisor.clock.now())
        child.generation = self.generation
        sockets = list(supervisor.sockets.of(child.role, child.slot))
        secrets = supervisor.secrets.of(child.role)
        message = Fork(
            role=child.role,
            slot=child.slot,
            workers=supervisor.plan.workers,
            data_dir=supervisor.plan.data_dir,
            sockets=tuple(name for name, _ in sockets),
            secrets=tuple(secrets),
            adopt=self._to_adopt(child),
        )
        descriptors = [theirs.fileno(), self.configuration, self.first_configuration]
        descriptors += [sock.fileno() for _, sock in sockets] + list(secrets.values())
        self._nursery.send(message, descriptors)
        theirs.close()

    def _to_adopt(self, child: Child) -> tuple[int, ...]:
        """Return the shards without a worker of their own that this one takes over."""
        if child.role != "worker":
            return ()
        workers = self._supervisor.plan.workers
        return tuple(
            number
            for number in shard_numbers(Path(self._supervisor.plan.data_dir))
            if number >= workers and number % workers == child.slot
        )

    def _on_message(self, child: Child, message: AnyMessage, descriptors: list[int]) -> None:
        close_all(descriptors)  # nobody sends us any
        child.heard = self._loop.time()
        if isinstance(message, Ready):
            child.is_ready = True
        self._supervisor.on_message(child, message)
        if not isinstance(message, Beat):
            self._has_changed()

    def _on_end(self, child: Child, why: str) -> None:
        """Its leash is at an end: that is its death, whatever else is to be heard of it."""
        child.ended(self._loop.time())
        if child.pid in self._reaped:
            self._tell_end(child, child.pid)
        else:  # how it ended is heard from who reaps it
            self._untold[child.pid] = child
            self._loop.call_later(REAP_PATIENCE, self._tell_end, child, child.pid)
        if child.again_at is not None and self._supervisor.is_up:
            self._loop.call_at(child.again_at, lambda: self._start_wanted(self._loop.time()))
        self._has_changed()

    def _tell_end(self, child: Child, pid: int) -> None:
        why = self._reaped.pop(pid, "it went away")
        if self._untold.pop(pid, child) is child and pid not in self._told:
            self._told.append(pid)
            self._supervisor.on_ended(child, pid, child.why.pop(pid, why))
            self._has_changed()

    def on_reaped(self, pid: int, why: str) -> None:
        """A process has ended, says the nursery, or the kernel where the nursery had gone."""
        if any(child.pid == pid for child in self.children.values()) or pid in self._untold:
            self._reaped[pid] = why
            if pid in self._untold:
                self._tell_end(self._untold[pid], pid)
            for child in self.children.values():
                if child.pid == pid and child.leash is not None:  # somebody else may hold its end of the leash
                    child.leash.close()
                    self._on_end(child, why)

    def look_after(self, now: float) -> None:
        """Kill what hangs, start again what died."""
        late = now - self._looked_at - LATE
        if late > 0 and self._looked_at:  # all of us stood still, not they alone: a pause, a snapshot of the machine
            for child in self.children.values():
                child.heard += late
        self._looked_at = now
        if any(child.is_there and not child.pid and now - child.heard > FORK_MAX for child in self.children.values()):
            self._kill_nursery()
        for child in self.children.values():
            if child.is_silent(now):
                child.why[child.pid] = "it had not been heard of for 30 s, and was killed"
                child.kill()
        if self._nursery is None and self._nursery_again_at is not None and now >= self._nursery_again_at:
            self.start_nursery(self._lock, self._identity)
        self._start_wanted(now)

    def _start_wanted(self, now: float) -> None:
        if self._supervisor.is_stopping:
            return
        for child in self.children.values():
            if not child.is_there and child.again_at is not None and now >= child.again_at:
                if child.pid:
                    child.restarts += 1
                self.ask_for(child)

    # --- to all ---

    def send(self, role: str, message: AnyMessage) -> None:
        """Send to every process of that role that is there."""
        for child in self.of_role(role):
            if child.leash is not None:
                child.leash.send(message)

    def hand_secrets(self, changed: dict[str, int]) -> None:
        """Give every process those of its files that have changed."""
        for child in self.children.values():
            mine = {path: changed[path] for path in self._supervisor.secrets.of(child.role) if path in changed}
            if mine and child.leash is not None:
                child.leash.send(Secrets(secrets=tuple(mine)), list(mine.values()))

    def is_serving(self, role: str) -> bool:
        return any(child.is_ready for child in self.of_role(role))

    # --- the end ---

    async def wait_gone(self, role: str, patience: float) -> None:
        """Return when all processes of a role have ended; what has not by then is killed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while any(child.is_there for child in self.of_role(role)):
                    await self.changed()
        for child in self.of_role(role):
            if child.is_there:
                child.kill()

    def kill_all(self) -> None:
        """End everything at once."""
        for child in self.children.values():
            child.kill()
        self._kill_nursery()

    def _kill_nursery(self) -> None:
        """End the nursery at once. It is our own child: nobody else can have its number before we bury it."""
        if self._nursery is not None:
            with suppress(ProcessLookupError):
                os.kill(self._nursery_pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the nursery go: it ends when nobody is there any more."""
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None


def shard_numbers(data_dir: Path) -> list[int]:
    """Return the numbers of the shards that there are."""
    found = []
    with suppress(OSError):
        for entry in os.listdir(data_dir):
            number = entry.removeprefix(SHARD_PREFIX)
            if entry.startswith(SHARD_PREFIX) and number.isascii() and number.isdecimal():
                found.append(int(number))
    return sorted(found)
