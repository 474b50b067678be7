"""Reading the configuration again: checked whole, prepared by every process, then taken over by all, or by none.

Owns: the order of a reload, its one answer, who waits for it. Does not own: reading (reading.py, in a process of its
own), what a process prepares (worker.py, ledger.py, front.py), which keys need a restart (plan.py).

A process that dies meanwhile counts as agreed: it starts again with whichever configuration is in force then.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from postroad.core.facts import Reloaded
from postroad.service.failures import StartFailed
from postroad.service.leash import KEYS_MAX, WHO_MAX, WHY_MAX, Abandon, Prepare, Prepared, ReloadDone, Switch, Switched
from postroad.service.plan import Plan, changed_keys, check_descriptors, in_force, in_memory, restart_keys
from postroad.service.processes import spawn
from postroad.service.reading import ReadAgain
from postroad.service.secrets import SecretFiles

if TYPE_CHECKING:
    from postroad.service.children import Child
    from postroad.service.supervisor import Supervisor

WAITING_MAX: Final = 100
"""Who may wait for the next reload at once."""
READER: Final = "postroad.service.reading"
READ_TIMEOUT: Final = 60.0
PREPARE_TIMEOUT: Final = 30.0
"""Seconds for the reader, and for all processes to say whether they can switch."""
ANSWER_MAX: Final = 64 * 1024 * 1024


class Reload:
    """One reload at a time; whoever asks meanwhile gets the answer of the next."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._task: asyncio.Task[None] | None = None
        self._next: list[tuple[str, int]] = []
        self._number = 0
        self._awaited: dict[tuple[str, int], str | None] = {}
        self._asked: dict[tuple[str, int], int] = {}  # the process that was asked, by its number
        self._all_said: asyncio.Event = asyncio.Event()
        self._reader = 0

    def begin(self, who: str, request: int = 0) -> None:
        """Reload, on behalf of somebody: a person's name, or ``SIGHUP``. ``request``: the front's number for it."""
        if self._supervisor.is_stopping or len(self._next) >= WAITING_MAX:
            return
        self._next.append((who, request))
        self.resume()

    def resume(self) -> None:
        """Do what was asked for, once the relay is up."""
        if self._task is None and self._next and self._supervisor.is_up:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._next and not self._supervisor.is_stopping:
                asked, self._next = self._next, []
                self._supervisor.notifier.reloading()
                try:
                    done = await self._reload()
                except StartFailed as failed:
                    done = ReloadDone(why=str(failed))
                if not self._supervisor.is_stopping:
                    self._supervisor.notifier.ready("The reload was refused" if done.why else "Reloaded")
                self._answer(done, asked)
        finally:
            self._task = None

    def _answer(self, done: ReloadDone, asked: list[tuple[str, int]]) -> None:
        """Tell who asked, and the facts. Bounded: what changed may be thousands of routes."""
        who = ", ".join(dict.fromkeys(name for name, _ in asked))[:WHO_MAX]
        done = msgspec.structs.replace(
            done,
            who=who,
            requests=tuple(request for _, request in asked if request),
            changed=_bounded(done.changed),
            needs_restart=_bounded(done.needs_restart),
            why=done.why[:WHY_MAX],
        )
        self._supervisor.kennel.send("front", done)
        self._supervisor.tell(
            Reloaded(
                at=self._supervisor.clock.now(),
                who=who,
                changed=done.changed,
                needs_restart=done.needs_restart,
                why=done.why,
            )
        )

    async def _reload(self) -> ReloadDone:
        """Do it all. Raises StartFailed with what is wrong; then nothing has changed."""
        supervisor = self._supervisor
        found = await self._read()
        if found.plan is None:
            raise StartFailed(found.problem)
        old, plan = supervisor.plan, found.plan
        if plan.version != old.version:
            text = f"Postroad {plan.version} is installed, and {old.version} runs. Restart it: the two are not mixed."
            raise StartFailed(text)
        check_descriptors(plan)
        configuration = in_memory("postroad configuration", found.loaded)
        try:
            secrets = supervisor.secrets.with_paths(plan.secrets)
        except StartFailed:
            os.close(configuration)
            raise
        try:
            await self._prepare_all(configuration, secrets)
        except StartFailed:
            os.close(configuration)
            secrets.close()
            raise
        self._switch(plan, configuration, secrets)
        needs_restart, now = restart_keys(old.keys, plan.keys), in_force(old.keys, plan.keys)
        changed = changed_keys(supervisor.in_force, now)
        supervisor.in_force = now
        return ReloadDone(changed=changed, needs_restart=needs_restart)

    # --- reading ---

    async def _read(self) -> ReadAgain:
        """Have a process of its own read the files: the supervisor stays small."""
        loop = asyncio.get_running_loop()
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        octets = bytearray()
        ended = asyncio.Event()

        def read() -> None:
            try:
                piece = os.read(ours, 1 << 16)
            except BlockingIOError:
                return
            octets.extend(piece)
            if not piece or len(octets) > ANSWER_MAX:
                loop.remove_reader(ours)
                ended.set()

        self._reader = spawn(READER, [theirs], ["3", self._supervisor.plan.config_file])
        os.close(theirs)
        loop.add_reader(ours, read)
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                await ended.wait()
            return msgspec.msgpack.decode(octets, type=ReadAgain)
        except (TimeoutError, msgspec.DecodeError) as error:
            raise StartFailed("The configuration could not be read: the reader broke or took too long.") from error
        finally:
            loop.remove_reader(ours)
            os.close(ours)
            if self._reader:  # not buried yet, so the number is its own
                with suppress(ProcessLookupError):
                    os.kill(self._reader, signal.SIGKILL)

    def on_reaped(self, pid: int) -> None:
        """A child of ours was buried."""
        if pid == self._reader:
            self._reader = 0

    # --- all prepare, all switch, or none ---

    async def _prepare_all(self, configuration: int, secrets: SecretFiles) -> None:
        self._number += 1
        kennel = self._supervisor.kennel
        there = [child for child in kennel.children.values() if child.leash is not None and child.is_ready]
        self._awaited = {(child.role, child.slot): None for child in there}
        self._asked = {(child.role, child.slot): child.pid for child in there}
        self._all_said.clear()
        for child in there:
            assert child.leash is not None
            mine = secrets.of(child.role)
            message = Prepare(number=self._number, secrets=tuple(mine))
            child.leash.send(message, [configuration, *mine.values()])
        try:
            async with asyncio.timeout(PREPARE_TIMEOUT):
                await self._said_all()
        except TimeoutError:
            late = ", ".join(f"{role} {slot}" for (role, slot), why in self._awaited.items() if why is None)
            self._abandon()
            raise StartFailed(f"Nothing was changed: no answer from {late}. Try again.") from None
        if why := next(filter(None, self._awaited.values()), ""):
            self._abandon()
            raise StartFailed(why)

    async def _said_all(self) -> None:
        while any(why is None for why in self._awaited.values()):
            self._all_said.clear()
            await self._all_said.wait()

    def _abandon(self) -> None:
        for role in ("worker", "ledger", "front"):
            self._supervisor.kennel.send(role, Abandon(number=self._number))

    def _switch(self, plan: Plan, configuration: int, secrets: SecretFiles) -> None:
        supervisor, kennel = self._supervisor, self._supervisor.kennel
        old_configuration = kennel.configuration
        kennel.configuration = configuration
        kennel.generation += 1
        for child in kennel.children.values():
            if self._asked.get((child.role, child.slot)) == child.pid:
                child.generation = kennel.generation
            elif child.is_ready:  # it came while the others prepared, with the configuration of before
                child.kill()
        if old_configuration != kennel.first_configuration:
            os.close(old_configuration)
        old_secrets, supervisor.secrets = supervisor.secrets, secrets
        old_secrets.close()
        supervisor.drain_patience = plan.drain
        for role in ("worker", "ledger", "front"):
            kennel.send(role, Switch(number=self._number))

    def on_answer(self, child: Child, message: Prepared | Switched) -> None:
        """A process has prepared, or not."""
        if isinstance(message, Prepared) and message.number == self._number:
            self._awaited[child.role, child.slot] = message.why
            self._all_said.set()

    def on_ended(self, child: Child) -> None:
        """A process is gone: nobody waits for it."""
        if self._awaited.get((child.role, child.slot), "") is None:
            self._awaited[child.role, child.slot] = ""
            self._all_said.set()

    def on_ready(self, child: Child) -> None:
        """A process has come that was born before the switch, with the configuration of then: it starts once more."""
        if child.generation != self._supervisor.kennel.generation:
            child.kill()


def _bounded(keys: tuple[str, ...]) -> tuple[str, ...]:
    if len(keys) <= KEYS_MAX:
        return keys
    return (*keys[:KEYS_MAX], f"and {len(keys) - KEYS_MAX} more")
