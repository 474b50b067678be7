"""``postroad user``: the built-in users, who may log in and relay.

Owns: add, list, change, password, remove, import as commands. Does not own: what is right for a user (access),
passwords (user_password.py), files of users (user_file.py). What ``--json`` prints are the rows of access/user.py:
tests/cases/cli has one file for each command.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from postroad.cli.configuration import ConfigFile
from postroad.cli.house import house_of
from postroad.cli.output import (
    Column,
    TableWriter,
    coloured,
    counted,
    printable,
    progress,
    shown_time,
    write_error,
    write_json,
)
from postroad.cli.selection import Json
from postroad.cli.user_file import FileLine, parse_user_file, read_user_file
from postroad.cli.user_password import PasswordStdin, Scheme, SchemeOption, new_credential
from postroad.cli.whole import opened_relay

if TYPE_CHECKING:
    from postroad.access.user import UserRow
    from postroad.outbound.relay import RelaySteering

PAGE: Final = 200
"""Users asked for at a time."""
ANY: Final = "any"

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the user. Case counts.", show_default=False)]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", metavar="SCOPE", help="An operation that the login counts for; again for more."),
]
SendAs = Annotated[
    list[str] | None,
    typer.Option(
        "--send-as",
        metavar="ADDRESS",
        help='An address or a domain that the user may send as; again for more; "any": anybody.',
    ),
]

app = typer.Typer(help="Add, list, change and remove built-in users.", no_args_is_help=True)


@app.command()
def add(
    context: typer.Context,
    name: Name,
    scopes: Scopes = None,
    send_as: SendAs = None,
    scheme: SchemeOption = Scheme.SCRAM,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Add a user. The password is asked for twice. Without --scope the login is good for relay, without --send-as for
    any sender."""
    house = house_of(context)
    credential = new_credential(scheme, from_stdin=password_stdin)

    async def run() -> UserRow:
        async with opened_relay(house, config) as relay:
            return await relay.add_user(name, credential, scopes=tuple(scopes or ()), send_as=_send_as(send_as) or ())

    _tell("Added", asyncio.run(run()), as_json=as_json)


@app.command("list")
def list_(context: typer.Context, as_json: Json = False, config: ConfigFile = None) -> None:
    """List the users by name. Nothing of their passwords is shown."""
    house = house_of(context)

    async def run() -> int:
        table = TableWriter(_COLUMNS)
        shown = 0
        async with opened_relay(house, config) as relay:
            async for row in _all_users(relay):
                shown += 1
                if as_json:
                    write_json(row)
                else:
                    said = (row.scheme or "cannot be read", ", ".join(row.scopes), ", ".join(row.send_as) or ANY)
                    table.add((row.name, *said[:2], shown_time(row.changed_at), said[2]))
            table.flush()
        return shown

    if not asyncio.run(run()):
        write_error("There is no user. Add one: postroad user add NAME")


@app.command()
def change(
    context: typer.Context,
    name: Name,
    scopes: Scopes = None,
    send_as: SendAs = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Change what a user may. What is given takes the place of all that was there; the rest stays."""
    from postroad.outbound.steering import ControlRefused

    if not scopes and not send_as:
        raise ControlRefused("Nothing is to be changed: say --scope or --send-as.", 2)
    house = house_of(context)

    async def run() -> UserRow:
        async with opened_relay(house, config) as relay:
            return await relay.change_user(name, scopes=tuple(scopes) if scopes else None, send_as=_send_as(send_as))

    _tell("Changed", asyncio.run(run()), as_json=as_json)


@app.command()
def password(
    context: typer.Context,
    name: Name,
    scheme: SchemeOption = Scheme.SCRAM,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Give a user a new password. The old one is refused from then on; connections that are open go on."""
    house = house_of(context)
    credential = new_credential(scheme, from_stdin=password_stdin)

    async def run() -> UserRow:
        async with opened_relay(house, config) as relay:
            return await relay.change_user(name, credential=credential)

    _tell("New password for", asyncio.run(run()), as_json=as_json)


@app.command()
def remove(context: typer.Context, name: Name, as_json: Json = False, config: ConfigFile = None) -> None:
    """Remove a user: it logs in no more; connections that are open go on. Its mail that waits is sent."""
    house = house_of(context)

    async def run() -> bool:
        async with opened_relay(house, config) as relay:
            return await relay.remove_user(name)

    was_there = asyncio.run(run())
    if as_json:
        write_json({"name": name, "removed": was_there})
    elif was_there:
        coloured(f"Removed {name}.", "")
    else:
        write_error(f'postroad: There is no user "{printable(name)}". Case counts. See: postroad user list')
    if not was_there:
        raise typer.Exit(1)


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help='Lines "name:{SCHEME}...".', show_default=False)],
    scopes: Scopes = None,
    send_as: SendAs = None,
    replace: Annotated[bool, typer.Option("--replace", help="Give users that are there the file's password.")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Add the users of a file as htpasswd or Dovecot's passwd-file has them, with {SCRAM-SHA-256} or argon2id.

    Lines of other schemes are refused, each with a sentence, and the others imported; the exit status is then 1.
    """
    house = house_of(context)
    lines = list(parse_user_file(read_user_file(file)))

    async def run() -> tuple[int, int]:
        async with opened_relay(house, config) as relay:
            with progress(f"Importing {counted(len(lines), 'user')}"):
                return await _import(relay, lines)

    async def _import(relay: RelaySteering, lines: list[FileLine]) -> tuple[int, int]:
        there = {row.name async for row in _all_users(relay)}
        done = refused = 0
        for line in lines:
            wrong = line.wrong
            if not wrong and line.name in there and not replace:
                wrong = "There is a user of that name already. Leave the line out, or say --replace."
            if wrong:
                refused += 1
                named = f"{line.name}: " if line.name else ""
                write_error(printable(f"{file}:{line.number}: {named}{wrong}"))
                continue
            row = await _put(relay, line, is_there=line.name in there)
            there.add(line.name)
            done += 1
            if as_json:
                write_json(row)
        return done, refused

    async def _put(relay: RelaySteering, line: FileLine, *, is_there: bool) -> UserRow:
        if is_there:
            new = tuple(scopes) if scopes else None
            return await relay.change_user(line.name, credential=line.credential, scopes=new, send_as=_send_as(send_as))
        new = tuple(scopes or ())
        return await relay.add_user(line.name, line.credential, scopes=new, send_as=_send_as(send_as) or ())

    done, refused = asyncio.run(run())
    if not as_json:
        left = f" {counted(refused, 'line')} refused." if refused else ""
        coloured(f"Imported {counted(done, 'user')}.{left}", "")
    if refused or not done:
        raise typer.Exit(1)


_COLUMNS: Final = (
    Column("NAME", 20),
    Column("KEPT AS", 13, drop=1),
    Column("SCOPES", 8),
    Column("CHANGED", 23, drop=2),
    Column("SENDS AS"),
)


async def _all_users(relay: RelaySteering) -> AsyncIterator[UserRow]:
    after = ""
    while True:
        rows, after = await relay.users(after=after, limit=PAGE)
        for row in rows:
            yield row
        if not after:
            return


def _send_as(given: list[str] | None) -> tuple[str, ...] | None:
    """Return the senders that were named; None: none was."""
    if not given:
        return None
    return () if given == [ANY] else tuple(given)


def _tell(done: str, row: UserRow, *, as_json: bool) -> None:
    if as_json:
        write_json(row)
    else:
        senders = ", ".join(row.send_as) or "anybody"
        coloured(f"{done} {row.name} ({row.scheme}): scopes {', '.join(row.scopes)}; sends as {senders}.", "")
