"""The table of commands, and what every run of the command line has in common.

Owns: which commands there are, what becomes of errors (a sentence on standard error; exit status 0 done, 1 refused or
not found, 2 usage, 130 interrupted). Does not own: any command (one file each).

Adding a command is a line here and a file beside it; then write the reference page anew:
``python -m postroad.cli.reference > docs/reference/cli.md``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from postroad.cli import (
    audit,
    check,
    config,
    destinations,
    mailq,
    queue,
    reload,
    send,
    sendmail,
    serve,
    top,
    trace,
    user,
    version,
)
from postroad.cli.complete import completion, prepare_completion
from postroad.cli.house import House, house_of
from postroad.cli.output import write_error


def _sendmail(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPTION]... RECIPIENT...", help="As of sendmail(8).", show_default=False),
    ] = None,
) -> None:
    """Hand in a message from standard input, as sendmail(8) does; for cron, PHP and the like.

    Options: -t recipients from the header; -f ADDRESS sender; -F NAME full name; -i or -oi a single dot does not end
    the message; -N WHEN, -R full or hdrs, -V ID ask for reports (DSN); -v shows the dialogue; -bs speaks SMTP; -bp is
    mailq; -q is queue flush; -C FILE or --config FILE; --no-tempfail exits with 69 where it would be 75. Other options
    of other sendmails are taken and mean nothing. Exit status: sysexits(3), 75 when the relay is away.
    """
    raise typer.Exit(sendmail.sendmail(arguments or (), lambda words: run(house_of(context), words)))


app = typer.Typer(
    name="postroad",
    help="Postroad, an SMTP relay where 250 means kept.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
app.command()(serve.serve)
app.command()(check.check)
app.add_typer(config.app, name="config")
app.command()(reload.reload)
app.command()(send.send)
app.command("sendmail", context_settings={"ignore_unknown_options": True})(_sendmail)
app.command()(mailq.mailq)
app.add_typer(queue.app, name="queue")
for _command in (
    destinations.suspend,
    destinations.resume,
    destinations.suspended,
    destinations.override,
    destinations.restore,
    destinations.overrides,
    audit.audit,
):
    queue.app.command()(_command)
app.command()(top.top)
app.command()(trace.trace)
app.add_typer(user.app, name="user")
app.command()(completion)
app.command()(version.version)


@app.callback()
def postroad() -> None:
    """Postroad, an SMTP relay where 250 means kept."""


def run(house: House, arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    status = _run(house, arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return status


def _run(house: House, arguments: Sequence[str]) -> int:
    prepare_completion()
    if arguments and arguments[0] == "sendmail" and "--help" not in arguments:  # typer would join and split its options
        return sendmail.sendmail(arguments[1:], lambda words: run(house, words))
    try:
        app(list(arguments), prog_name="postroad", obj=house)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        if (status := _explain(error)) is None:
            raise
        return status
    return 0


def _explain(error: Exception) -> int | None:
    """Say what was refused and return the exit status; None for a fault of ours. Imports late: it is seldom needed."""
    from postroad.config.errors import SettingsError
    from postroad.outbound.steering import ControlRefused

    match error:
        case SettingsError():
            write_error(str(error))
            return 1
        case ControlRefused():
            write_error(f"postroad: {error.text}")
            return error.status
        case OSError(errno=errno.ENOSPC | errno.EPIPE | errno.EIO, filename=None):
            return _unwritten(error)
        case _:
            return None


def _unwritten(error: OSError) -> int:
    """Say that what was to be printed could not be, and have nobody try again when the process ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    write_error(f"postroad: Standard output cannot be written: {error.strerror}.")
    return 1
