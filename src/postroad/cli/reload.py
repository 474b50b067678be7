"""``postroad reload``: have the relay that runs read its configuration again.

Owns: the command, what it prints. Does not own: the reload (the house: all processes take it over, or none does), what
is wrong with a file (config: its sentences come over the control socket as they are).
"""

from __future__ import annotations

import asyncio

import typer

from postroad.cli.broken import settings_to_steer
from postroad.cli.configuration import ConfigFile
from postroad.cli.house import house_of
from postroad.cli.output import coloured, with_progress, write_json, write_line
from postroad.cli.selection import Json


def reload(context: typer.Context, as_json: Json = False, config: ConfigFile = None) -> None:
    """Take over the changed configuration without a restart: all of it, or nothing if anything is wrong."""
    from postroad.outbound.steering import NoRelay

    house = house_of(context)
    settings, wrong = settings_to_steer(config)  # the relay judges the file, so that a refusal is in its audit
    relay = house.ask_relay(settings)
    try:
        result = asyncio.run(with_progress("Reloading", relay.reload()))
    except NoRelay:
        if wrong is not None:
            raise wrong from None
        raise
    if as_json:
        write_json(result)
        return
    if not result.changed and not result.needs_restart:
        write_line("Nothing has changed.")
    for key in result.changed:
        coloured(f"changed        {key}", "green")
    for key in result.needs_restart:
        coloured(f"needs restart  {key}", "yellow")
