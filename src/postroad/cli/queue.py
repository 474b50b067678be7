"""``postroad queue``: what waits, and acting on it.

Owns: list, show, stats, salvage, flush, hold, release, delete, bounce as commands; asking before many are changed.
Does not own: doing it (outbound/control.py), the words for a selection (selection.py), the shape of tables (output.py).
What ``--json`` prints are the rows of outbound/steering.py: tests/cases/cli has one file for each command.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from postroad.cli.configuration import ConfigFile, load_configuration
from postroad.cli.house import House, house_of
from postroad.cli.output import (
    Column,
    TableWriter,
    coloured,
    counted,
    shown_next,
    shown_size,
    shown_span,
    shown_time,
    shown_try,
    with_progress,
    write_error,
    write_json,
    write_line,
)
from postroad.cli.selection import (
    All,
    Domain,
    DryRun,
    From,
    Ids,
    Json,
    State,
    To,
    Yes,
    parse_message,
    parse_selection,
    parse_steered,
)
from postroad.cli.whole import opened_relay

if TYPE_CHECKING:
    from postroad.core.ids import MessageId
    from postroad.outbound.steering import Change, DestinationRow, MessageRow, QueueStats, RecipientRow, Steering
    from postroad.spool.face import Changed, Selection

ASK_ABOVE: Final = 100
"""Recipients that are changed without asking."""
PAGE: Final = 200
"""Messages asked for at a time."""

app = typer.Typer(help="Show what waits, and act on it.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context,
    ids: Ids = None,
    to: To = "",
    sender: From = "",
    domain: Domain = "",
    state: State = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many messages; 0: all.")] = 0,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """List the messages that wait, the oldest first, a line for each recipient."""
    selection = parse_selection(ids, to, sender, domain, state)
    house = house_of(context)

    async def run() -> None:
        async with opened_relay(house, config) as steering:
            await _write_list(house, pages(steering, selection, limit), as_json=as_json)

    asyncio.run(run())


@app.command()
def show(
    context: typer.Context,
    message: Annotated[str, typer.Argument(metavar="ID", help="Id of the message.", show_default=False)],
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Show one message and what becomes of each of its recipients."""
    identifier = parse_message(message)
    house = house_of(context)

    async def run() -> MessageRow:
        async with opened_relay(house, config) as steering:
            return await steering.show(identifier)

    row = asyncio.run(run())
    if as_json:
        write_json(row)
    else:
        _write_message(row, house.clock.now())


@app.command()
def stats(
    context: typer.Context,
    limit: Annotated[
        int,
        typer.Option("--limit", metavar="N", min=1, max=1000, help="At most so many domains, those with most first."),
    ] = 50,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Count what waits, grouped by the recipients' domain, with the last reason."""
    house = house_of(context)

    async def run() -> QueueStats:
        async with opened_relay(house, config) as steering:
            return await with_progress("Counting", steering.stats(limit))

    found = asyncio.run(run())
    if as_json:
        write_json({"kind": "total", **_fields(found, but="destinations")})
        for row in found.destinations:
            write_json({"kind": "domain", **_fields(row)})
    else:
        _write_stats(found, limit)


@app.command()
def salvage(
    context: typer.Context,
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIRECTORY", help="Where it was moved to: shard-N.damaged-TIME.", show_default=False),
    ],
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Put what can be read of a damaged database back into the queue. The relay must be stopped."""
    settings = load_configuration(config).settings
    found = house_of(context).salvage(settings, directory)
    if as_json:
        write_json(found)
        return
    write_line(f"Salvaged       {counted(found.salvaged, 'message')}")
    write_line(f"Already there  {counted(found.already_there, 'message')}")
    write_line(f"Unreadable     {counted(found.unreadable, 'message')}")


# --- changing ------------------------------------------------------------------------------------------

_CHANGES: Final = {  # verb: help, what is said when it is done
    "flush": ("Try now, without waiting for the next retry.", "Made due now"),
    "hold": ("Keep messages back until they are released.", "Held"),
    "release": ("Let held messages go on; they are tried at once.", "Released"),
    "delete": ("Delete messages. Nobody is told; the log and the spool say who did it.", "Deleted"),
    "bounce": ("Give messages up now: their senders get a failure report.", "Returned to their senders"),
}


def _add_change(verb: str, meaning: str) -> None:
    """Add the command for one change; all take the same options."""

    @app.command(verb, help=meaning)
    def change(
        context: typer.Context,
        ids: Ids = None,
        to: To = "",
        sender: From = "",
        domain: Domain = "",
        state: State = "",
        everything: All = False,
        dry_run: DryRun = False,
        yes: Yes = False,
        as_json: Json = False,
        config: ConfigFile = None,
    ) -> None:
        selection = parse_steered(ids, to, sender, domain, state, everything)
        _change(context, verb, selection, dry_run=dry_run, yes=yes, as_json=as_json, config=config)


for _verb, (_meaning, _) in _CHANGES.items():
    _add_change(_verb, _meaning)


def _change(
    context: typer.Context,
    verb: str,
    selection: Selection,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    config: ConfigFile,
) -> None:
    from postroad.outbound.steering import Change

    house = house_of(context)
    change = Change(verb)

    async def run() -> Changed:
        async with opened_relay(house, config) as steering:
            if not (yes or dry_run or 0 < len(selection.ids) <= ASK_ABOVE):
                counts = await with_progress("Counting", steering.change(change, selection, dry_run=True))
                _ask(change, counts)
            return await with_progress("Working", steering.change(change, selection, dry_run=dry_run))

    changed = asyncio.run(run())
    if as_json:
        write_json({"change": verb, "dry_run": dry_run, **_counts(changed)})
    else:
        _write_changed(change, changed, dry_run=dry_run)
    if changed.unreached:
        from postroad.outbound.adopting import format_shards

        which = f"{format_shards(changed.unreached)} (not yet moved to a worker)"
        write_error(f"Not reached: {which}. Try again when postroad queue stats names none any more.")
    if changed.unreached or (selection.ids and not changed.recipients):
        raise typer.Exit(1)


def _counts(changed: Changed) -> dict[str, int | tuple[int, ...]]:
    return {
        "recipients": changed.recipients,
        "messages": changed.messages,
        "in_flight": changed.in_flight,
        "unreached": changed.unreached,
    }


def _ask(change: Change, counts: Changed) -> None:
    """Have a person confirm a change of many; refuses where there is no person."""
    from postroad.outbound.steering import ControlRefused

    if counts.recipients <= ASK_ABOVE:
        return
    what = f"{counted(counts.recipients, 'recipient')} of {counted(counts.messages, 'message')}"
    if not sys.stdin.isatty():
        raise ControlRefused(f"That would {change.value} {what}, and nobody is here to confirm it: add --yes.")
    if not typer.confirm(f"{change.value.capitalize()} {what}?", err=True):
        raise ControlRefused("Nothing was changed.")


def _write_changed(change: Change, changed: Changed, *, dry_run: bool) -> None:
    what = f"{counted(changed.recipients, 'recipient')} of {counted(changed.messages, 'message')}"
    if not changed.recipients:
        write_line("Nothing in the queue matches." if not changed.in_flight else "Nothing was changed.")
    elif dry_run:
        write_line(f"Would {change.value}: {what}.")
    else:
        write_line(f"{_CHANGES[change.value][1]}: {what}.")
    if changed.in_flight:
        write_line(f"Left alone, being attempted at this moment: {counted(changed.in_flight, 'recipient')}.")


# --- listing -------------------------------------------------------------------------------------------

_LIST_COLUMNS: Final = (
    Column("ID", 13),
    Column("AGE", 4, right=True, drop=1),
    Column("SIZE", 9, right=True, drop=4),
    Column("SENDER", 20, drop=3),
    Column("RECIPIENT", 20),
    Column("STATE", 8),
    Column("TRIES", 5, right=True, drop=2),
    Column("NEXT", 6),
    Column("REASON"),
)


async def pages(steering: Steering, selection: Selection, limit: int) -> AsyncIterator[tuple[MessageRow, ...]]:
    """Yield the listing page by page; never more of it is in memory."""
    after: MessageId | None = None
    left = limit or sys.maxsize
    while left > 0:
        page = await steering.list_messages(selection, after=after, limit=min(PAGE, left))
        yield page.messages
        left -= len(page.messages)
        after = page.after
        if after is None:
            return


async def _write_list(house: House, pages: AsyncIterator[tuple[MessageRow, ...]], *, as_json: bool) -> None:
    table = TableWriter(_LIST_COLUMNS)
    is_empty = True
    async for page in pages:
        now = house.clock.now()
        for row in page:
            is_empty = False
            if as_json:
                write_json(row)
                continue
            for recipient in row.recipients:
                table.add(_cells(row, recipient, now))
        table.flush()
        sys.stdout.flush()
    if is_empty:
        write_error("Nothing in the queue matches.")


def _cells(row: MessageRow, recipient: RecipientRow, now: float) -> tuple[str, ...]:
    return (
        row.id,
        shown_span(now - row.received_at),
        shown_size(row.size),
        row.sender,
        recipient.address,
        recipient.state,
        str(recipient.attempts),
        shown_next(recipient.next_at, now),
        _reason(recipient),
    )


def _reason(row: RecipientRow) -> str:
    return f"{row.reason} ({row.host})" if row.reason and row.host else row.reason


def _write_message(row: MessageRow, now: float) -> None:
    waiting = len(row.recipients)
    by = f" by {row.listener}" if row.listener else ""
    user = f", user {row.user}" if row.user else ""
    coloured(f"{row.id}  from {row.sender}", "bold")
    write_line(f"  received   {shown_time(row.received_at)} ({shown_span(now - row.received_at)} ago)")
    coloured(f"  client     {row.client}{by}{user}", "")
    write_line(f"  size       {shown_size(row.size)}")
    if row.envelope_id:
        coloured(f"  envelope   {row.envelope_id}", "")
    write_line(f"  waiting    {waiting} of {counted(row.recipients_total, 'recipient')}")
    for recipient in row.recipients:
        tries = f", {counted(recipient.attempts, 'attempt')}" if recipient.attempts else ""
        due = f", next {shown_next(recipient.next_at, now)}" if recipient.next_at is not None else ""
        coloured(f"  to {recipient.address}", "bold")
        write_line(f"    {recipient.state}{tries}{due}")
        if recipient.reason:
            coloured(f"    {_reason(recipient)}", "")


def _fields(row: QueueStats | DestinationRow, but: str = "") -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__struct_fields__ if name != but}


_STATS_COLUMNS: Final = (
    Column("DOMAIN", 20),
    Column("DUE", 6, right=True),
    Column("HELD", 6, right=True, drop=1),
    Column("REPORTS", 7, right=True, drop=2),
    Column("OLDEST", 6, right=True),
    Column("NEXT", 6),
    Column("STATUS", 6),
    Column("REASON"),
)


def _write_stats(found: QueueStats, limit: int) -> None:
    recipients, messages = counted(found.recipients, "recipient"), counted(found.messages, "message")
    oldest = f", the oldest {shown_span(found.at - found.oldest_at)} old" if found.oldest_at is not None else ""
    write_line(f"{recipients} of {messages} wait, {shown_size(found.octets)}{oldest}.")
    if found.held or found.reports:
        write_line(f"{found.held:,} held, {counted(found.reports, 'report')} due.")
    if not found.accepting:
        coloured(f"No mail is taken: {(found.trouble or 'the relay is stopping').removesuffix('.')}.", "bold red")
    elif found.trouble:
        coloured(f"{found.trouble[:1].upper()}{found.trouble[1:].removesuffix('.')}.", "bold yellow")
    if found.destinations:
        write_line()
    table = TableWriter(_STATS_COLUMNS)
    for row in found.destinations:
        table.add(_stats_cells(row, found.at))
    table.flush()
    shown = sum(row.due + row.held + row.reports for row in found.destinations)
    if len(found.destinations) == limit and shown < found.recipients:
        write_line(f"{counted(found.recipients - shown, 'recipient')} more, at other domains: --limit")


def _stats_cells(row: DestinationRow, now: float) -> tuple[str, ...]:
    return (
        row.domain or "(postmaster)",
        f"{row.due:,}",
        f"{row.held:,}",
        f"{row.reports:,}",
        "-" if row.oldest_at is None else shown_span(now - row.oldest_at),
        shown_try(row, now),
        row.status or "-",
        row.reason,
    )
