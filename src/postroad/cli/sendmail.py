"""``postroad sendmail``: the sendmail(8) interface for cron, PHP, mail(1) and every program without a mail client.

Owns: what each mode does, the envelope of a message, exit statuses (sysexits(3): 64 usage, 65 address, 67 no such user,
69 refused, 75 try again, 77 not permitted), which names a program may be called by. Does not own: the letters
(sendmail_options.py), the message, the conversation. Imports nothing heavy: 150 ms are much for a shell script.

Nothing is kept here. Unless the status is 0 the relay has not taken the message: the caller still has it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from secrets import token_hex
from typing import Final

from postroad.cli import sendmail_client as client
from postroad.cli.nearby import Nearby, UnknownRelay, find_nearby
from postroad.cli.sendmail_address import (
    AddressTrouble,
    NoUser,
    calling_user,
    from_field,
    parse_recipients,
    parse_sender,
)
from postroad.cli.sendmail_message import Message, TooLargeError, read_message
from postroad.cli.sendmail_options import Options, UsageError, parse_options

PROGRAMS: Final = {"sendmail": "deliver", "mailq": "mailq", "newaliases": "aliases"}
"""Names by which Postroad may be linked: what is done where no ``-b`` says otherwise."""

INTERRUPTED: Final = 130

Command = Callable[[Sequence[str]], int]
"""Runs another command of ``postroad`` and returns its exit status."""


def program_of(name: str) -> str:
    """Return which of PROGRAMS a path such as /usr/sbin/sendmail means; empty for none."""
    base = os.path.basename(name).removeprefix("postroad-")
    return base if base in PROGRAMS else ""


def sendmail(arguments: Sequence[str], command: Command, program: str = "sendmail") -> int:
    """Do what the arguments ask for and return the exit status."""
    _open_streams()
    try:
        options = parse_options(arguments, PROGRAMS[program])
    except UsageError as error:
        return _fail(program, str(error), client.USAGE)
    for word in options.ignored:
        sys.stderr.write(f"{program}: {word!r} is not known here and left out.\n")
    try:
        return _do(options, command)
    except client.Trouble as error:
        status = options.away_status if error.status == client.TEMPORARY else error.status
        return _fail(program, str(error), status)
    except UnknownRelay as error:
        return _fail(program, str(error), options.away_status)
    except AddressTrouble as error:
        return _fail(program, str(error), client.DATA_ERROR)
    except NoUser as error:
        return _fail(program, str(error), client.NO_USER)
    except TooLargeError:
        return _fail(program, "The message is too large.", client.UNAVAILABLE)
    except KeyboardInterrupt:
        return INTERRUPTED


def _open_streams() -> None:
    """Open what the caller closed: daemons start programs without standard streams."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as we live


def _fail(program: str, text: str, status: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"{program}: {text}\n")
    return status


def _do(options: Options, command: Command) -> int:
    config = ["--config", str(options.config)] if options.config else []
    match options.mode:
        case "mailq":
            return command(["mailq", *(["--json"] if options.as_json else []), *config])
        case "flush":
            return command(["queue", "flush", *_flushed(options.flushed), "--yes", *config])
        case "aliases":
            sys.stderr.write("There is no database of aliases here: nothing is to be built.\n")
            return client.OK
        case "nothing":
            return client.OK
        case "smtp":
            return _smtp(options)
        case _:
            return _deliver(options)


def _flushed(what: str) -> list[str]:
    if not what:
        return ["--all"]
    return [what[1:]] if what[0] == "I" else ["--domain", what[1:]]


def _smtp(options: Options) -> int:
    try:
        return client.pipe(find_nearby(options.config, os.environ), sys.stdin.buffer, sys.stdout.buffer)
    except client.Trouble:
        sys.stdout.write("421 4.3.2 The relay is away, try again later\r\n")  # who speaks SMTP waits for a greeting
        sys.stdout.flush()
        raise


def _deliver(options: Options) -> int:
    nearby = find_nearby(options.config, os.environ)
    sender = None if options.sender is None else parse_sender(options.sender, nearby.origin)
    wanted = list(options.recipients)
    named = parse_recipients(wanted, nearby.origin)  # before the input is read: a person has not typed it yet
    if not named and not options.from_header:
        raise AddressTrouble("There are no recipients: name them, or say -t to take them from the header.")
    try:
        message = Message(read_message(sys.stdin.buffer, dot_ends=options.dot_ends))
    except OSError as error:
        raise client.Trouble(f"The message cannot be read: {error}.", client.DATA_ERROR) from error
    if options.from_header:
        wanted += message.recipients()
    recipients = parse_recipients(wanted, nearby.origin)
    if not recipients:
        raise AddressTrouble("There are no recipients in the header.")
    sender = _complete(message, sender, options, nearby)
    envelope = client.Envelope(sender, recipients, options.notify, options.returned, options.envelope_id, options.body)
    client.submit(nearby, envelope, message.as_bytes(), _show if options.verbose else None)
    return client.OK


def _complete(message: Message, sender: str | None, options: Options, nearby: Nearby) -> str:
    """Add what is missing in the header, and return the envelope's sender. ``sender`` None: who calls."""
    own, full_name = "", ""
    try:
        login, full_name = calling_user()
        own = f"{login}@{nearby.origin}"
    except NoUser:
        if sender is None:
            raise
    sender = own if sender is None else sender
    author = sender or own or f"MAILER-DAEMON@{nearby.origin}"
    if options.full_name is not None:
        full_name = options.full_name
    elif author != own:
        full_name = ""
    else:
        full_name = os.environ.get("NAME") or full_name
    now = time.time()
    message.add("Message-ID", f"<{int(now * 1000):x}.{token_hex(8)}@{nearby.hostname}>")
    message.add("Date", formatdate(now, localtime=True))
    message.add("From", from_field(author, full_name))
    return sender


def _show(line: str) -> None:
    sys.stdout.write(line + "\n")
