"""The supervisor: opens everything, starts the other processes, restarts what dies, ends the relay.

Owns: the life of the relay as a whole, signals, the service manager's messages, the exit status. Reads nothing that
comes from a network, imports nothing that reads mail or configuration: it may be root. Does not own: reloading
(reload.py), sockets (open_sockets.py), privileges (privileges.py).

If you change the order of start or stop, read docs/processes.md.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from postroad.core.facts import AnyFact, ProcessEnded, ProcessStarted, Started, Stopped, Trouble
from postroad.net.errors import ListenError
from postroad.service.children import Child
from postroad.service.data_dir import lock_data_dir, make_data_dir, unusable
from postroad.service.failures import StartFailed
from postroad.service.kennel import Kennel
from postroad.service.leash import (
    WHO_MAX,
    AnyMessage,
    AskReload,
    Drain,
    Failed,
    Prepared,
    Processes,
    ProcessState,
    Ready,
    Switched,
)
from postroad.service.notify import Notifier
from postroad.service.open_sockets import Sockets
from postroad.service.plan import Plan, check_descriptors, read_memory
from postroad.service.privileges import identity_of, name_process, set_file_limit
from postroad.service.processes import adopt_orphans, reap, reap_all, shown_status
from postroad.service.reload import Reload
from postroad.service.secrets import SecretFiles
from postroad.service.voice import Voice
from postroad.service.wall_clock import WallClock

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at heartbeats and at what is to be started again."""
END_PATIENCE: Final = 5.0
"""Seconds beside [process] drain that processes may take to end."""
OTHERS_PATIENCE: Final = 1.0
"""Seconds for what ledger and front have in hand."""
SECRETS_EVERY: Final = 5.0
"""Seconds between two looks whether certificates and keys have changed."""


class Supervisor:
    """One relay. ``run`` returns the exit status."""

    def __init__(self, plan: Plan, configuration: int) -> None:
        self.plan = plan
        self.clock = WallClock()
        self.notifier = Notifier(os.environ)
        self._loop = asyncio.get_running_loop()
        self._identity = identity_of(plan.user, plan.group)
        self.sockets = Sockets(plan, self._identity)
        self.secrets = SecretFiles(plan.secrets, is_needed=self._identity is not None)
        self.kennel = Kennel(self, configuration)
        self.voice = Voice(plan, self.kennel)
        self.reload = Reload(self)
        self.started_at = self.clock.now()
        self._stop: asyncio.Future[str] = self._loop.create_future()
        self._failed: asyncio.Future[str] = self._loop.create_future()
        self.is_up = False
        self.is_stopping = False
        self.in_force = plan.keys
        """What holds since the last reload; ``plan`` is the one of the start, which shapes the processes."""
        self.drain_patience = plan.drain
        self._files = 0

    async def run(self) -> int:
        """Start, run until a signal, stop."""
        self._handle_signals()
        try:
            await self._start()
            why = await self._live()
        except StartFailed as failed:
            await self._end_processes(1.0, "the start failed")
            sys.stderr.write(f"{failed}\n")
            return 1
        else:
            await self._end(why)
            return 0
        finally:
            self.sockets.close()

    # --- start ---

    async def _start(self) -> None:
        plan, data_dir = self.plan, Path(self.plan.data_dir)
        make_data_dir(data_dir, self._identity, for_group=bool(plan.group))
        lock = lock_data_dir(data_dir, self._identity)
        try:
            check_descriptors(plan)
            self.secrets.read()
            self.sockets.open()
        except ListenError as error:
            raise StartFailed(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
        except OSError as error:
            raise StartFailed(unusable(error, data_dir)) from error
        self._files = set_file_limit(plan.file_limit)
        self.kennel.start_nursery(lock, self._identity)
        children = self.kennel.places(plan.workers)
        for child in children:
            self.kennel.ask_for(child)
        while not all(child.is_ready for child in children):
            await self._changed_or_over()
        self.is_up = True
        waiting = sum(child.waiting for child in children)
        self.tell(Started(at=self.clock.now(), version=plan.version, listeners=self.sockets.names, waiting=waiting))
        if self._identity is None and os.geteuid() == 0:
            why = "everything runs as root; name a user of its own in [process] user"
            self.tell(Trouble(at=self.clock.now(), what="privileges", why=why))
        if self._files < plan.file_limit:
            why = f"each process may open {self._files} files, [process] file_limit is {plan.file_limit}"
            self.tell(Trouble(at=self.clock.now(), what="files", why=why))
        self.notifier.ready(f"Taking mail on {', '.join(self.sockets.names)}"[:200])
        self.publish()
        self.reload.resume()

    async def _changed_or_over(self) -> None:
        """Return when a process has said something; raises StartFailed if the start is over."""
        changed = asyncio.ensure_future(self.kennel.changed())
        waited_for: list[asyncio.Future[str] | asyncio.Future[None]] = [changed, self._stop, self._failed]
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        if self._failed.done():
            raise StartFailed(self._failed.result())
        if self._stop.done():
            raise StartFailed(f"Stopped by {self._stop.result()} before the start was done.")

    # --- life ---

    async def _live(self) -> str:
        """Look after the processes until we are told to stop; return by what."""
        secrets_at = self._loop.time() + SECRETS_EVERY
        alive_at = 0.0
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    return await asyncio.shield(self._stop)
            except TimeoutError:
                pass
            now = self._loop.time()
            self.kennel.look_after(now)
            if now >= secrets_at:
                secrets_at = now + SECRETS_EVERY
                if changed := self.secrets.read_changed():
                    self.kennel.hand_secrets(changed)
            if self.notifier.watchdog_every and now >= alive_at:
                alive_at = now + self.notifier.watchdog_every
                self.notifier.alive()

    def tell(self, fact: AnyFact) -> None:
        """Have a fact written with the others."""
        self.voice.tell(fact)

    def publish(self) -> None:
        """Tell the front which processes there are."""
        mine = ProcessState(
            process="supervisor", slot=0, pid=os.getpid(), started_at=self.started_at, restarts=0, is_ready=True
        )
        rows = (mine, self.kennel.nursery_state(), *(child.state() for child in self.kennel.children.values()))
        self.kennel.send("front", Processes(rows=rows, listeners=self.sockets.names, started_at=self.started_at))

    # --- what the processes say ---

    def on_message(self, child: Child, message: AnyMessage) -> None:
        """A process said something."""
        match message:
            case Ready():
                self._on_ready(child, message)
            case Failed():
                self._on_failed(child, message.text)
            case Prepared() | Switched():
                self.reload.on_answer(child, message)
            case AskReload() if child.role == "front":
                self.reload.begin(message.who[:WHO_MAX], message.request)
            case _:
                pass

    def _on_ready(self, child: Child, message: Ready) -> None:
        child.listeners, child.waiting = message.listeners, message.waiting
        self.reload.on_ready(child)
        if self.is_up:
            self.tell(
                ProcessStarted(
                    at=self.clock.now(),
                    process=child.role,
                    slot=child.slot,
                    pid=child.pid,
                    seconds=self._loop.time() - child.forked,
                )
            )
            self.publish()

    def _on_failed(self, child: Child, text: str) -> None:
        if not self.is_up:
            self.fail_start(text)
        else:
            why = f"{child.name} cannot start: {text}"
            self.tell(Trouble(at=self.clock.now(), what="process", why=why))

    def fail_start(self, text: str) -> None:
        """Give the start up, for the first reason that is told."""
        if not self._failed.done():
            self._failed.set_result(text)

    def on_ended(self, child: Child, pid: int, why: str) -> None:
        """A process is gone."""
        self.reload.on_ended(child)
        if self.is_stopping:
            return
        if not self.is_up:
            self.fail_start(f"The {child.name} ended at once ({why}): see what it said above.")
            return
        self.tell(ProcessEnded(at=self.clock.now(), process=child.role, slot=child.slot, pid=pid, why=why))
        self.publish()

    # --- signals, and the end ---

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_stop, number)
        self._loop.add_signal_handler(signal.SIGHUP, self.reload.begin, "SIGHUP")
        self._loop.add_signal_handler(signal.SIGCHLD, self._on_child)

    def _on_stop(self, number: signal.Signals) -> None:
        if self._stop.done():  # a second one: at once. Nothing that was answered with 250 is lost by it
            self.kennel.kill_all()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            self._stop.set_result(number.name)

    def _on_child(self) -> None:
        for pid, status in reap():
            self.reload.on_reaped(pid)
            self.kennel.on_reaped(pid, shown_status(status))

    async def _end(self, why: str) -> None:
        self.notifier.stopping()
        self.sockets.close_listeners()  # ours first: then those of the workers, which accept what waits, are the last
        self.tell(Stopped(at=self.clock.now(), why=why))
        await self._end_processes(self.drain_patience, why)

    async def _end_processes(self, patience: float, why: str) -> None:
        """End workers, then what they need, then the nursery; kill what does not end."""
        self.is_stopping = True
        for role in ("worker", "front", "ledger"):
            mine = patience if role == "worker" else OTHERS_PATIENCE
            self.kennel.send(role, Drain(patience=mine, why=why))
            await self.kennel.wait_gone(role, mine + END_PATIENCE)
        self.kennel.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_PATIENCE):
                while not reap_all():  # what they held (a mount, a port) is free when we have ended
                    await asyncio.sleep(0.01)


async def supervise(plan: Plan, configuration: int) -> int:
    """Run the relay; return the exit status."""
    try:
        supervisor = Supervisor(plan, configuration)
    except StartFailed as failed:
        sys.stderr.write(f"{failed}\n")
        return 1
    return await supervisor.run()


def main() -> int:
    """Run the relay whose plan and configuration are in the descriptors that the arguments name."""
    plan_at, configuration = map(int, sys.argv[1:3])
    plan = msgspec.msgpack.decode(read_memory(plan_at), type=Plan)
    os.close(plan_at)
    os.set_inheritable(configuration, False)
    for text in plan.listeners:
        if text.startswith("fd:"):  # ours to hand on, by message alone
            with suppress(OSError):  # not handed over: open_sockets.py says so
                os.set_inheritable(int(text.removeprefix("fd:")), False)
    adopt_orphans()
    name_process("postroad")
    os.umask(0o077)
    return asyncio.run(supervise(plan, configuration))


if __name__ == "__main__":
    sys.exit(main())
