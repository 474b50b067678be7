"""``postroad queue suspend`` and its neighbours: stopping a destination, and other limits for one, for a while.

Owns: suspend, resume, suspended, override, restore, overrides as commands. Does not own: what a name of a destination
means (policy/destination_name.py), holding them to it (outbound). What ``--json`` prints are the rows of
outbound/relay.py: tests/cases/cli has one file for each command.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from postroad.cli.complete import complete_destination
from postroad.cli.configuration import ConfigFile
from postroad.cli.house import house_of
from postroad.cli.output import (
    Column,
    TableWriter,
    coloured,
    shown_next,
    shown_span,
    shown_time,
    write_error,
    write_json,
)
from postroad.cli.selection import Json
from postroad.cli.whole import For, Why, opened_relay, parse_rate_option, parse_until

if TYPE_CHECKING:
    from postroad.outbound.relay import Override, Suspension

Destination = Annotated[
    str,
    typer.Argument(
        metavar="DESTINATION",
        help='A domain, "*.domain", "mx:HOST", or a destination as queue stats --json names it, e.g. '
        '"smtp:relay.example:587".',
        show_default=False,
        autocompletion=complete_destination,
    ),
]


def suspend(
    context: typer.Context,
    destination: Destination,
    span: For = "",
    why: Why = "",
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Send nothing to a destination for a while. Its mail is taken and waits."""
    house = house_of(context)
    until = parse_until(span, house.clock.now())

    async def run() -> Suspension:
        async with opened_relay(house, config) as relay:
            return await relay.suspend(destination, until=until, why=why)

    made = asyncio.run(run())
    if as_json:
        write_json(made)
    else:
        coloured(f"Suspended {made.destination} {_until_text(made.until, 'resume', made.destination)}", "")


def resume(context: typer.Context, destination: Destination, as_json: Json = False, config: ConfigFile = None) -> None:
    """Send to a suspended destination again; what waited is due at once."""
    house = house_of(context)

    async def run() -> bool:
        async with opened_relay(house, config) as relay:
            return await relay.resume(destination)

    _tell_end(asyncio.run(run()), destination, "resumed", "suspended", as_json=as_json)


def suspended(context: typer.Context, as_json: Json = False, config: ConfigFile = None) -> None:
    """List the suspended destinations."""
    house = house_of(context)

    async def run() -> tuple[Suspension, ...]:
        async with opened_relay(house, config) as relay:
            return await relay.suspensions()

    rows = asyncio.run(run())
    now = house.clock.now()
    table = TableWriter(_SUSPENDED_COLUMNS)
    for row in rows:
        if as_json:
            write_json(row)
        else:
            since = shown_span(now - row.since)
            table.add((row.destination, since, shown_next(row.until, now), row.who, row.why))
    table.flush()
    if not rows:
        write_error("No destination is suspended.")


def override(
    context: typer.Context,
    destination: Destination,
    connections: Annotated[
        int | None,
        typer.Option("--connections", metavar="N", min=1, max=10_000, help="At most so many connections at a time."),
    ] = None,
    messages_per_connection: Annotated[
        int | None,
        typer.Option("--messages-per-connection", metavar="N", min=1, help="At most so many over one connection."),
    ] = None,
    rate: Annotated[
        str, typer.Option("--rate", metavar="RATE", help='Messages in time, such as "600/min"; "none": no bound.')
    ] = "",
    span: For = "",
    why: Why = "",
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Have other limits hold for a destination than the configuration says."""
    from postroad.outbound.steering import ControlRefused

    house = house_of(context)
    wanted_rate = parse_rate_option(rate)
    if connections is None and messages_per_connection is None and wanted_rate is None:
        raise ControlRefused("No limit is given: name --connections, --messages-per-connection or --rate.", 2)
    until = parse_until(span, house.clock.now())

    async def run() -> Override:
        async with opened_relay(house, config) as relay:
            return await relay.override(
                destination,
                connections=connections,
                messages_per_connection=messages_per_connection,
                rate=wanted_rate,
                until=until,
                why=why,
            )

    made = asyncio.run(run())
    if as_json:
        write_json(made)
    else:
        until_text = _until_text(made.until, "restore", made.destination)
        coloured(f"{made.destination}: {_limits_text(made)} {until_text}", "")


def restore(context: typer.Context, destination: Destination, as_json: Json = False, config: ConfigFile = None) -> None:
    """End an override: the limits of the configuration hold again."""
    house = house_of(context)

    async def run() -> bool:
        async with opened_relay(house, config) as relay:
            return await relay.restore(destination)

    _tell_end(asyncio.run(run()), destination, "restored", "overridden", as_json=as_json)


def overrides(context: typer.Context, as_json: Json = False, config: ConfigFile = None) -> None:
    """List the limits that hold instead of the configuration's."""
    house = house_of(context)

    async def run() -> tuple[Override, ...]:
        async with opened_relay(house, config) as relay:
            return await relay.overrides()

    rows = asyncio.run(run())
    now = house.clock.now()
    table = TableWriter(_OVERRIDE_COLUMNS)
    for row in rows:
        if as_json:
            write_json(row)
        else:
            numbers = (_shown(row.connections), _shown(row.messages_per_connection), row.rate or "-")
            since = shown_span(now - row.since)
            table.add((row.destination, *numbers, since, shown_next(row.until, now), row.who, row.why))
    table.flush()
    if not rows:
        write_error("No limit is overridden.")


_SUSPENDED_COLUMNS: Final = (
    Column("DESTINATION", 20),
    Column("SINCE", 5, right=True),
    Column("ENDS", 6),
    Column("BY", 8),
    Column("WHY"),
)
_OVERRIDE_COLUMNS: Final = (
    Column("DESTINATION", 20),
    Column("CONNECTIONS", 11, right=True),
    Column("MESSAGES", 8, right=True),
    Column("RATE", 8, right=True),
    Column("SINCE", 5, right=True),
    Column("ENDS", 6),
    Column("BY", 8),
    Column("WHY"),
)


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)


def _limits_text(made: Override) -> str:
    parts = []
    if made.connections is not None:
        parts.append(f"connections {made.connections}")
    if made.messages_per_connection is not None:
        parts.append(f"messages per connection {made.messages_per_connection}")
    if made.rate is not None:
        parts.append("no bound on the rate" if made.rate == "none" else f"rate {made.rate}")
    return ", ".join(parts)


def _until_text(until: float | None, verb: str, name: str) -> str:
    if until is not None:
        return f"until {shown_time(until)}."
    return f'until you end it: postroad queue {verb} "{name}"'


def _tell_end(was: bool, destination: str, done: str, state: str, *, as_json: bool) -> None:
    """Say that something ended, or that there was nothing to end: exit status 1."""
    if as_json:
        write_json({"destination": destination, done: was})
    elif was:
        coloured(f"{done.capitalize()} {destination}.", "")
    else:
        listing = "suspended" if done == "resumed" else "overrides"
        write_error(f"postroad: {destination} is not {state}. See: postroad queue {listing}")
    if not was:
        raise typer.Exit(1)
