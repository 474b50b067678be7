"""``postroad mailq``: the queue in the form that people and scripts know from Postfix.

Owns: that form. Does not own: the rows, which are those of ``queue list`` (outbound/steering.py), also with ``--json``.
Written page by page: a million messages need no memory.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

import typer

from postroad.cli.configuration import ConfigFile
from postroad.cli.house import house_of
from postroad.cli.output import counted, printable, write_json, write_line
from postroad.cli.queue import pages
from postroad.cli.selection import Json
from postroad.cli.whole import opened_relay

if TYPE_CHECKING:
    from postroad.outbound.steering import MessageRow

HEAD: Final = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
REASON_WIDTH: Final = 76
"""Columns in which a reason is set to the right."""
_INDENT: Final = " " * 41


def mailq(context: typer.Context, as_json: Json = False, config: ConfigFile = None) -> None:
    """Print the queue in the form of Postfix's mailq: "*" is not yet tried, "!" held."""
    from postroad.spool.face import Selection

    house = house_of(context)

    async def run() -> tuple[int, int]:
        messages = octets = 0
        async with opened_relay(house, config) as steering:
            async for page in pages(steering, Selection(), 0):
                for row in page:
                    if not messages and not as_json:
                        write_line(HEAD)
                    messages += 1
                    octets += row.size
                    write_json(row) if as_json else _write(row)
                sys.stdout.flush()
        return messages, octets

    messages, octets = asyncio.run(run())
    if not as_json:
        footer = f"-- {octets // 1024} Kbytes in {counted(messages, 'Request')}."
        write_line(footer if messages else "Mail queue is empty")


def _write(row: MessageRow) -> None:
    states = {recipient.state for recipient in row.recipients}
    mark = "!" if states == {"held"} else "*" if "due" in states else ""
    sender = "MAILER-DAEMON" if row.sender == "<>" else printable(row.sender)
    arrived = time.strftime("%a %b %e %H:%M:%S", time.localtime(row.received_at))
    write_line(f"{row.id + mark:<14} {row.size:>7} {arrived}  {sender}")
    last = ""
    for recipient in sorted(row.recipients, key=lambda each: each.reason):
        reason = recipient.reason
        if reason and recipient.host:
            reason = f"host {recipient.host} said: {reason}"
        if reason and reason != last:
            write_line(f"({printable(reason)})".rjust(REASON_WIDTH))
            last = reason
        write_line(_INDENT + printable(recipient.address))
    write_line()
