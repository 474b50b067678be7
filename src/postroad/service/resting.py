"""The steering of a relay that does not run: its shards, records and stored facts, opened by a command.

Owns: putting them behind the face of a whole relay. Does not own: their locks and rights (offline.py), steering
(outbound/front.py). What only a process can tell (configuration in force, reload, what happens) is refused.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NoReturn

from postroad import __version__
from postroad.access.book import UserBook
from postroad.config.model import Settings
from postroad.core.faces import Clock, Outlet, RecordRow, Threads
from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId
from postroad.observe.stories import MESSAGES_MAX, Skipped, read_story
from postroad.outbound.control import NO_DESTINATIONS, About, Control
from postroad.outbound.fleet import Fleet
from postroad.outbound.front import FrontHouse, FrontSteering
from postroad.outbound.relay import ConfigRow, ReloadResult
from postroad.outbound.steering import NoRelay
from postroad.records.store import SqliteRecords
from postroad.service.data_dir import FACTS, RECORDS
from postroad.service.system_dice import SystemDice
from postroad.service.threads import WorkerThreads
from postroad.spool.face import Spool


@asynccontextmanager
async def resting_relay(
    settings: Settings, spools: Sequence[Spool], clock: Clock, outlet: Outlet, who: str
) -> AsyncIterator[FrontSteering]:
    """Give the steering of what lies in data_dir, to one person."""
    about = About(__version__, os.getpid(), clock.now(), ())
    controls = [Control(spool, clock, outlet, None, NO_DESTINATIONS, about) for spool in spools]
    facts = str(settings.data_dir / FACTS)
    async with AsyncExitStack() as stack:
        threads = WorkerThreads()
        stack.callback(threads.close)
        records = _Records(str(settings.data_dir / RECORDS), threads, clock)
        stack.push_async_callback(records.close)

        def fleet_for(person: str) -> Fleet:
            parts = {str(number): control.on_behalf_of(person) for number, control in enumerate(controls)}
            return Fleet(parts, kind="shard")

        def stories(
            wanted: MessageId | str,
            *,
            since: float | None = None,
            limit: int = MESSAGES_MAX,
            skipped: Skipped | None = None,
        ) -> AsyncGenerator[AnyFact, None]:
            return read_story(facts, wanted, threads, since=since, limit=limit, skipped=skipped)

        house = FrontHouse(
            fleet_for=fleet_for,
            records=records,
            users=UserBook(records, clock, SystemDice()),
            stories=stories,
            clock=clock,
            dice=SystemDice(),
            outlet=outlet,
            version=__version__,
            processes=tuple,
            configuration=_configuration,
            reload=_reload,
        )
        yield FrontSteering(house, who)


def _configuration() -> tuple[ConfigRow, ...]:
    _refuse("no configuration is in force; postroad config show prints what the file says")


async def _reload(who: str) -> ReloadResult:
    _refuse("there is nothing to reload")


def _refuse(why: str) -> NoReturn:
    raise NoRelay(f"No relay runs here, so {why}. Start one: postroad serve")


class _Records:
    """Records that are opened when they are first needed: a listing makes no file."""

    def __init__(self, path: str, threads: Threads, clock: Clock) -> None:
        self._path = path
        self._threads = threads
        self._clock = clock
        self._opened: SqliteRecords | None = None

    async def _open(self) -> SqliteRecords:
        if self._opened is None:
            self._opened = await SqliteRecords.open(self._path, self._threads, self._clock)
        return self._opened

    async def get(self, table: str, key: str) -> RecordRow | None:
        return await (await self._open()).get(table, key)

    async def put(self, table: str, row: RecordRow) -> None:
        await (await self._open()).put(table, row)

    async def delete(self, table: str, key: str) -> bool:
        return await (await self._open()).delete(table, key)

    async def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        async for row in (await self._open()).scan(table, prefix):
            yield row

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()
