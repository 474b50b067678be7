"""The ledger process: limits that hold for the whole relay, the records, and the voice of the supervisor.

Owns: what of the lower floors makes that process, in order. Does not own: counting (ledger), tables (records). It is
the only process that writes the records, and the one that has the supervisor's facts written with its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec

from postroad.config.load import Loaded
from postroad.core.facts import AnyFact
from postroad.ledger.server import LedgerServer
from postroad.records.recovering import RecoveringRecords
from postroad.service.child import Birth, SecretPaths
from postroad.service.data_dir import RECORDS
from postroad.service.leash import AnyMessage, Leash, Ready, Tell
from postroad.service.seeing import Seeing


class Ledger:
    """The part of the ledger process."""

    def __init__(self, birth: Birth, leash: Leash) -> None:
        self._birth = birth
        self._seeing = Seeing(birth.settings, "ledger")
        self._open = AsyncExitStack()
        self._open.push_async_callback(self._seeing.close)

    async def start(self) -> Ready:
        birth, seeing = self._birth, self._seeing
        records = await RecoveringRecords.open(
            str(birth.data_dir / RECORDS), seeing.threads, seeing.clock, seeing.outlet
        )
        self._open.push_async_callback(records.close)
        server = LedgerServer(records, clock=seeing.clock, outlet=seeing.outlet, time=asyncio.get_running_loop().time)
        self._open.push_async_callback(server.close)
        await server.start(birth.sockets["ledger"])
        return Ready()

    def prepare(self, loaded: Loaded, secrets: SecretPaths) -> Callable[[], None]:
        return lambda: self._seeing.switch(loaded.settings)  # what it counts against comes with each question

    def hear(self, message: AnyMessage) -> None:
        if isinstance(message, Tell):
            self._seeing.outlet.emit(msgspec.msgpack.decode(message.fact, type=AnyFact))

    async def drain(self, patience: float, why: str) -> None:
        """Nothing is in hand here."""

    async def close(self) -> None:
        await self._open.aclose()
