"""The front: the control API, answered for the whole relay by asking every worker, the ledger and the supervisor.

Owns: what of the lower floors makes that process, in order; reloads that people ask for, on their way to the
supervisor and back. Does not own: what may be asked (outbound/relay.py), who may ask and how it travels (http).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import msgspec

from postroad import __version__
from postroad.access.book import UserBook
from postroad.config.explain import rows
from postroad.config.load import Loaded
from postroad.config.toml import written
from postroad.core.faces import RecordsTrouble
from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId
from postroad.http.app import make_app
from postroad.http.control_client import RemoteSteering
from postroad.http.serve import HttpServer
from postroad.observe.stories import MESSAGES_MAX, Skipped, read_story
from postroad.outbound.audit import Audit
from postroad.outbound.fleet import Fleet, Silences
from postroad.outbound.front import FrontHouse, FrontSteering
from postroad.outbound.relay import ConfigRow, ProcessRow, ReloadResult
from postroad.outbound.steering import ControlRefused
from postroad.outbound.story import Recent
from postroad.service.child import Birth, SecretPaths
from postroad.service.connected import ledger_client
from postroad.service.data_dir import FACTS, RUN
from postroad.service.failures import StartFailed
from postroad.service.leash import WHO_MAX, AnyMessage, AskReload, Leash, Processes, Ready, ReloadDone, Tell
from postroad.service.plan import in_force
from postroad.service.seeing import Seeing
from postroad.service.system_dice import SystemDice

RELOAD_TIMEOUT: Final = 120.0
"""Seconds that a person waits for a reload: longer than the supervisor takes at most."""
TOKEN_MAX: Final = 4096
"""Octets of a token."""


SIGHUP: Final = "SIGHUP"
"""Who asks for a reload by the signal."""
_NONE: Final = ConfigRow(key="", value="", source="")


def rows_of(loaded: Loaded) -> dict[str, ConfigRow]:
    """Return every key of a configuration, in order."""
    found = (ConfigRow(key=row.key, value=written(row.value), source=row.source) for row in rows(loaded))
    return {row.key: row for row in found}


def _values(found: dict[str, ConfigRow]) -> dict[str, str]:
    return {key: row.value for key, row in found.items()}


class Front:
    """The part of the front process."""

    def __init__(self, birth: Birth, leash: Leash) -> None:
        self._birth = birth
        self._leash = leash
        self._start = rows_of(birth.first)
        self._in_force = self._force(birth.loaded)
        self._seeing = Seeing(birth.settings, "front")
        self._recent = Recent(self._seeing.outlet)
        self._ledger = ledger_client(birth, self._seeing, -1)
        self._silences = Silences()
        self._processes: tuple[ProcessRow, ...] = ()
        self._reloads: dict[int, asyncio.Future[ReloadDone]] = {}
        self._requests = 0
        self._house: FrontHouse | None = None
        self._noting: asyncio.Task[None] | None = None
        self._open = AsyncExitStack()
        self._open.push_async_callback(self._seeing.close)
        self._open.push_async_callback(self._ledger.close)

    async def start(self) -> Ready:
        birth, seeing, settings = self._birth, self._seeing, self._birth.settings
        self._ledger.start()
        token = self._token(birth.secrets)
        self._house = house = FrontHouse(
            fleet_for=self._fleet_for,
            records=self._ledger.records,
            users=UserBook(self._ledger.records, seeing.clock, SystemDice()),
            stories=self._stories,
            clock=seeing.clock,
            dice=SystemDice(),
            outlet=seeing.outlet,
            version=__version__,
            processes=lambda: self._processes,
            configuration=self._configuration,
            reload=self._reload,
            own=self._seeing.counters.rows,
        )
        server = HttpServer(
            make_app(lambda who: FrontSteering(house, who)),
            birth.sockets["control"],
            birth.sockets.get("http"),
            outlet=seeing.outlet,
            clock=seeing.clock,
            admitted_gid=os.getegid() if settings.process.group else None,
            token=token,
            hostname=settings.hostname,
            address="" if settings.http.address is None else settings.http.address.host,
        )
        self._open.push_async_callback(server.close)
        await server.start()
        return Ready()

    def prepare(self, loaded: Loaded, secrets: SecretPaths) -> Callable[[], None]:
        def switch() -> None:
            self._in_force = self._force(loaded)
            self._seeing.switch(loaded.settings)

        return switch

    def hear(self, message: AnyMessage) -> None:
        """Hear of processes, what became of a reload, and what the supervisor has to tell."""
        match message:
            case Processes():
                self._processes = tuple(
                    ProcessRow(
                        process=row.process,
                        slot=row.slot,
                        pid=row.pid,
                        started_at=row.started_at,
                        restarts=row.restarts,
                        is_ready=row.is_ready,
                    )
                    for row in message.rows
                )
            case ReloadDone():
                if SIGHUP in message.who.split(", "):
                    self._noting = asyncio.get_running_loop().create_task(self._note_reload(message))
                for request in message.requests:
                    future = self._reloads.pop(request, None)
                    if future is not None and not future.done():
                        future.set_result(message)
            case Tell():
                fact = msgspec.msgpack.decode(message.fact, type=AnyFact)
                self._seeing.counters.take([fact])
                self._recent.take([fact])
            case _:
                pass

    async def drain(self, patience: float, why: str) -> None:
        """Questions that are being answered are broken off: whoever asks can ask again."""

    async def close(self) -> None:
        await self._open.aclose()

    async def _note_reload(self, done: ReloadDone) -> None:
        """Write into the audit what nobody asked for by the API."""
        house = self._house
        if house is not None:
            audit = Audit(house.records, house.clock, house.dice, house.outlet)
            with suppress(ControlRefused, RecordsTrouble):  # it is told as a fact in any case
                async with audit.noted(SIGHUP, "reload", "") as entry:
                    changed = ", ".join(done.changed) or "nothing"
                    entry.result = f"refused: {done.why}" if done.why else f"changed {changed}"

    # --- what the API asks of the process ---

    def _fleet_for(self, who: str) -> Fleet:
        run = self._birth.data_dir / RUN
        return Fleet(
            {str(slot): RemoteSteering(run / f"worker-{slot}.sock", who) for slot in range(self._birth.workers)},
            here=self._recent,
            silences=self._silences,
        )

    def _stories(
        self,
        wanted: MessageId | str,
        *,
        since: float | None = None,
        limit: int = MESSAGES_MAX,
        skipped: Skipped | None = None,
    ) -> AsyncGenerator[AnyFact, None]:
        return read_story(
            str(self._birth.data_dir / FACTS), wanted, self._seeing.threads, since=since, limit=limit, skipped=skipped
        )

    def _configuration(self) -> tuple[ConfigRow, ...]:
        return self._in_force

    def _force(self, loaded: Loaded) -> tuple[ConfigRow, ...]:
        """Return what holds of a configuration: what needs a restart is as it was at the start."""
        new = rows_of(loaded)
        held = in_force(_values(self._start), _values(new))
        return tuple((new if new.get(key, _NONE).value == held[key] else self._start)[key] for key in held)

    async def _reload(self, who: str) -> ReloadResult:
        future: asyncio.Future[ReloadDone] = asyncio.get_running_loop().create_future()
        self._requests += 1
        request = self._requests
        self._reloads[request] = future
        self._leash.send(AskReload(who=who[:WHO_MAX], request=request))
        try:
            async with asyncio.timeout(RELOAD_TIMEOUT):
                done = await future
        except TimeoutError:
            text = "The supervisor has not said what became of the reload. Look at the log, or try again."
            raise ControlRefused(text) from None
        finally:
            self._reloads.pop(request, None)
        if done.why:
            raise ControlRefused(done.why)
        return ReloadResult(changed=done.changed, needs_restart=done.needs_restart)

    def _token(self, secrets: SecretPaths) -> bytes:
        """Return the token of [http] token_file; empty where none is named. Raises StartFailed."""
        named = self._birth.settings.http.token_file
        if named is None:
            return b""
        try:
            token = Path(secrets(str(named))).read_bytes().strip()
        except OSError as error:
            raise StartFailed(f"{named} cannot be read: {error.strerror}.") from error
        if not token or len(token) > TOKEN_MAX:
            raise StartFailed(f"{named} holds no token: write a secret of your choice into it, in one line.")
        return token
