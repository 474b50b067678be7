"""``postroad queue audit``: who changed what.

Owns: the command, its paging. Does not own: the records (outbound/relay.py has the row; they are kept for a year).
A page is written before the next one is asked for, so that a year of changes needs no memory.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Final

import typer

from postroad.cli.configuration import ConfigFile
from postroad.cli.house import house_of
from postroad.cli.output import Column, TableWriter, shown_time, write_error, write_json
from postroad.cli.selection import Json
from postroad.cli.whole import opened_relay

PAGE: Final = 200
"""Rows asked for at a time."""
_COLUMNS: Final = (Column("TIME", 23), Column("WHO", 8), Column("WHAT", 8), Column("ABOUT", 20), Column("RESULT"))


def audit(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many; 0: all.")] = 100,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """List who changed what, the newest first: the queue, destinations, the configuration."""
    house = house_of(context)

    async def run() -> int:
        table = TableWriter(_COLUMNS)
        shown, after = 0, ""
        async with opened_relay(house, config) as relay:
            while not limit or shown < limit:
                rows, after = await relay.audit(after=after, limit=min(PAGE, (limit or sys.maxsize) - shown))
                for row in rows:
                    if as_json:
                        write_json(row)
                    else:
                        table.add((shown_time(row.at), row.who, row.what, row.about, row.result))
                table.flush()
                sys.stdout.flush()
                shown += len(rows)
                if not after:
                    break
        return shown

    if not asyncio.run(run()):
        write_error("Nobody has changed anything yet.")
