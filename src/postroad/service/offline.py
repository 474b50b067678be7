"""Steering for the command line: through the relay that runs, or on data_dir itself where none does.

Owns: telling the two apart, becoming the owner of data_dir so that no file ends up as root's, the sentences where
neither can be done. Does not own: steering (outbound/front.py), the locks (the spools take them and refuse a second
owner), what a relay does besides: nothing is delivered here, nothing expires.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from postroad.config.addresses import TcpAddress
from postroad.config.model import Settings
from postroad.core.faces import Clock, Outlet
from postroad.core.facts import AnyFact
from postroad.http.api_client import ApiSteering
from postroad.net.local import user_name
from postroad.net.name_servers import NameServers
from postroad.net.resolve import DnsResolver
from postroad.observe.kinds import Level, level_of
from postroad.observe.segments import FactStore
from postroad.observe.telling import tell
from postroad.outbound.relay import RelaySteering
from postroad.outbound.steering import ControlRefused, NoRelay, Steering
from postroad.service.data_dir import CONTROL, FACTS
from postroad.service.seeing import left_to_mail
from postroad.service.shards import number_of_damaged, shard_directory, shard_numbers
from postroad.service.system_dice import SystemDice
from postroad.service.threads import WorkerThreads
from postroad.spool.errors import StoreTooNew, StoreTrouble
from postroad.spool.face import Spool
from postroad.spool.owner import ShardOwned
from postroad.spool.real_disk import OsDisk
from postroad.spool.salvage import Salvaged, salvage
from postroad.spool.store import DATABASE_NAME

TOLD_AT_ONCE: Final = 1_000
"""Facts that a command keeps in memory before it has them stored."""
OpenSpools = Callable[[Settings, Clock, Outlet], AbstractAsyncContextManager[Sequence[Spool]]]
"""Takes the locks of all shards, opens them, and closes them in order. Raises ShardOwned and OSError."""


def ask_relay(settings: Settings) -> RelaySteering:
    """Return the steering of the relay that runs on these settings; its calls raise NoRelay where none does."""
    return ApiSteering(settings.data_dir / CONTROL)


@asynccontextmanager
async def open_queue(settings: Settings, clock: Clock, open_spools: OpenSpools) -> AsyncIterator[RelaySteering]:
    """Give the steering of the relay that runs, else of what lies in data_dir, which is ours until the block ends.

    Both are the steering of a whole relay: queues, what is said of destinations, the audit, stories.

    Raises:
        ControlRefused: neither; the text says why, and what to do.
    """
    remote = ask_relay(settings)
    if await _is_served(remote):
        yield remote
        return
    who = user_name(os.geteuid())
    outlet = FactsOfCommand(settings, clock)
    opening = open_spools(settings, clock, outlet)  # imports what it needs while we still may read everything
    from postroad.service.resting import resting_relay

    with _as_owner(settings.data_dir):
        async with _opened(settings, opening) as spools, resting_relay(settings, spools, clock, outlet, who) as relay:
            try:
                yield relay
            finally:
                await outlet.close()


@asynccontextmanager
async def _opened(
    settings: Settings, opening: AbstractAsyncContextManager[Sequence[Spool]]
) -> AsyncIterator[Sequence[Spool]]:
    """Enter ``opening``; where that cannot be done, say so in a sentence."""
    async with AsyncExitStack() as stack:
        try:
            spools = await stack.enter_async_context(opening)
        except ShardOwned as owned:
            raise ControlRefused(
                f"A relay holds the queue, but does not answer on {settings.data_dir / CONTROL} ({owned}). "
                "Try again; if it stays so, look at its log, or stop it."
            ) from owned
        except (OSError, StoreTrouble, StoreTooNew) as error:
            raise ControlRefused(f"The queue in {settings.data_dir} cannot be opened: {error}.") from error
        yield spools


def salvage_queue(settings: Settings, clock: Clock, damaged: Path) -> Salvaged:
    """Put what can be read of the damaged database in ``damaged`` into the queue. No relay may run.

    Raises:
        ControlRefused: it cannot be done; the text says why, and what to do.
    """
    damaged = damaged.absolute()
    with _as_owner(settings.data_dir):
        shards = {number: shard_directory(settings.data_dir, number) for number in shard_numbers(settings.data_dir)}
        is_shard = damaged.resolve() in {shard.resolve() for shard in shards.values()}
        if is_shard or not (damaged / DATABASE_NAME).is_file():
            raise ControlRefused(f"{damaged} is not a directory with a database that was set aside.")
        own = number_of_damaged(damaged.name)
        into = shards.pop(own if own in shards else min(shards, default=0), shard_directory(settings.data_dir, 0))
        try:
            others = [str(shard) for shard in shards.values()]
            return salvage(str(damaged), str(into), OsDisk(), clock.now(), others=others)
        except ShardOwned as owned:
            raise ControlRefused(f"A relay holds the queue: stop it first ({owned}).") from owned
        except (OSError, StoreTrouble, StoreTooNew) as error:
            raise ControlRefused(f"The salvage stopped: {error}. What was put so far stays; run it again.") from error


async def resolve(server: TcpAddress, name: str, seconds: float) -> tuple[str, ...]:
    """Ask one DNS server for the addresses of a name, within so many seconds. Raises NameTrouble, NameNotFound."""
    from asyncio import get_running_loop

    time = get_running_loop().time
    resolver = DnsResolver(NameServers((server,), time=time), timeout=seconds / 2, dice=SystemDice(), time=time)
    try:
        addresses, _ = await resolver.addresses(name)
        return tuple(addresses)
    finally:
        await resolver.close()


class FactsOfCommand:
    """An Outlet for a command: what a person does is kept among the facts of the relay, so that a trace tells of it.

    Trouble is told on standard error at once. However much is done, TOLD_AT_ONCE facts are in memory here, and what the
    store has waiting (observe/segments.py) besides.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._told: list[AnyFact] = []
        self._open = AsyncExitStack()
        self._store: FactStore | None = None

    def emit(self, fact: AnyFact) -> None:
        self._told.append(fact)
        if level_of(fact) >= Level.WARNING:
            sys.stderr.write(f"postroad: {tell(fact)}.\n")
        if len(self._told) >= TOLD_AT_ONCE:
            self._hand_on()

    async def close(self) -> None:
        """Return when all is stored, or could not be."""
        self._hand_on()
        await self._open.aclose()

    def _hand_on(self) -> None:
        told, self._told = self._told, []
        if not told:
            return
        if self._store is None:
            self._store = self._new_store()
        self._store.take(told)

    def _new_store(self) -> FactStore:
        threads = WorkerThreads()
        self._open.callback(threads.close)
        facts = self._settings.facts
        store = FactStore(
            str(self._settings.data_dir / FACTS),
            "cli",
            threads=threads,
            clock=self._clock,
            keep=facts.keep,
            disk_max=facts.disk_max,
            left_free=left_to_mail(self._settings),
        )
        self._open.push_async_callback(store.close)
        return store


async def _is_served(remote: Steering) -> bool:
    """True if a relay answers, False if none is there. Raises ControlRefused if one is there and does not answer."""
    try:
        await remote.health()
    except NoRelay:
        return False
    return True


@contextmanager
def _as_owner(data_dir: Path) -> Iterator[None]:
    """Act as the owner of data_dir meanwhile: root becomes him, nobody else may be somebody else."""
    try:
        found = data_dir.stat()
    except FileNotFoundError:
        text = f"There is no queue: {data_dir} is not there. Is it the right configuration (--config)?"
        raise ControlRefused(text) from None
    except OSError as error:
        raise ControlRefused(f"{data_dir} cannot be looked at: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ControlRefused(f"{data_dir} is not a directory, so there is no queue in it.")
    me = os.geteuid()
    if found.st_uid == me:
        yield
    elif me == 0:
        yield from _become(found.st_uid, found.st_gid)
    else:
        owner = user_name(found.st_uid)
        raise ControlRefused(
            f"The queue in {data_dir} belongs to {owner}, and you are {user_name(me)}. Run this as {owner} or root."
        )


def _become(uid: int, gid: int) -> Iterator[None]:
    """Take on a user's rights, all of them and no more, until it ends."""
    groups: Sequence[int] = os.getgroups()
    mine = os.getegid()
    os.setgroups([gid])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(mine)
        os.setgroups(groups)
