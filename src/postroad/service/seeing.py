"""What every process of the relay has to be seen by: clock, threads, an outlet with log, stored facts and counters.

Owns: making these of the settings, closing them in order. Does not own: any of them (observe). All processes write
their log to the same standard error, whole lines at a time.
"""

from __future__ import annotations

from typing import Final

from postroad.config.model import Settings
from postroad.observe.counters import Counters
from postroad.observe.log import Level, LogLines
from postroad.observe.outlet import FactOutlet
from postroad.observe.segments import FactStore
from postroad.observe.writer import LogWriter
from postroad.service.data_dir import FACTS
from postroad.service.routes import destination_keys
from postroad.service.threads import WorkerThreads
from postroad.service.wall_clock import WallClock

STANDARD_ERROR: Final = 2
MAIL_SHARE: Final = 2
"""Of [spool] min_free facts leave one part in so many to the mail that is there: its records are written into it."""


class Seeing:
    """The eyes on one process; ``writer`` names it in stored facts. All on a running loop."""

    def __init__(self, settings: Settings, writer: str) -> None:
        self.clock = WallClock()
        self.threads = WorkerThreads()
        self._log = LogWriter(STANDARD_ERROR, _lines(settings), self.threads)
        self.counters = Counters(destination_keys(settings))
        store = FactStore(
            str(settings.data_dir / FACTS),
            writer,
            threads=self.threads,
            clock=self.clock,
            keep=settings.facts.keep,
            disk_max=settings.facts.disk_max,
            left_free=left_to_mail(settings),
        )
        self.outlet = FactOutlet(self._log, store, self.counters)

    def switch(self, settings: Settings) -> None:
        """Write the log and count as other settings say, from now on."""
        self.counters.name_destinations(destination_keys(settings))
        self._log.lines = _lines(settings)

    async def close(self) -> None:
        """Write what has been told, end the threads. Last of all: facts that come later go nowhere."""
        await self.outlet.close()
        self.threads.close()


def left_to_mail(settings: Settings) -> int:
    """Return how many octets of the disk facts do not take."""
    return settings.spool.min_free // MAIL_SHARE


def _lines(settings: Settings) -> LogLines:
    return LogLines(settings.log.format, Level[settings.log.level.upper()])
