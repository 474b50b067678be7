"""How a process of the relay reaches the ledger: limits and records that hold for all.

Owns: the paths, and what of a process its client needs. Does not own: the conversation (ledger), who needs it
(worker.py, front.py). Nobody but the ledger process opens the records for writing.
"""

from __future__ import annotations

import asyncio

from postroad.ledger.client import LedgerClient
from postroad.records.reader import SqliteReader
from postroad.service.child import Birth
from postroad.service.data_dir import RECORDS, RUN
from postroad.service.seeing import Seeing


def ledger_client(birth: Birth, seeing: Seeing, slot: int) -> LedgerClient:
    """Return a process's way to the ledger, not yet started; ``slot`` -1: it holds nothing."""
    return LedgerClient(
        birth.data_dir / RUN / "ledger.sock",
        slot=slot,
        workers=birth.workers,
        reader=SqliteReader(str(birth.data_dir / RECORDS), seeing.threads, seeing.clock),
        clock=seeing.clock,
        outlet=seeing.outlet,
        time=asyncio.get_running_loop().time,
    )
