"""``postroad send``: submit a message and follow its story until it ends.

Owns: the options, how the story is told, the exit status. Does not own: the message and the conversation (submit.py),
the facts (core/facts.py; they come over the control socket).
"""

from __future__ import annotations

import asyncio
import getpass
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postroad.cli.configuration import ConfigFile, load_configuration
from postroad.cli.house import House, house_of
from postroad.cli.output import coloured, counted, shown_span, shown_time, write_error, write_line

if TYPE_CHECKING:
    from postroad.cli.submit import Server, Submitted
    from postroad.config.model import Settings
    from postroad.core.address import Mailbox
    from postroad.core.facts import AnyFact
    from postroad.outbound.steering import Steering

DEFAULT_BODY = "This is a message from postroad send.\n"


def send(
    context: typer.Context,
    to: Annotated[list[str], typer.Option("--to", metavar="ADDRESS", help="Recipient; may be repeated.")],
    sender: Annotated[
        str, typer.Option("--from", metavar="ADDRESS", help="Sender. Default: you at the relay's host name.")
    ] = "",
    subject: Annotated[
        str, typer.Option("--subject", metavar="TEXT", help="Subject.")
    ] = "A message from postroad send",
    body: Annotated[str, typer.Option("--body", metavar="TEXT", help='Text; "-" reads it from standard input.')] = "",
    attach: Annotated[
        list[Path] | None, typer.Option("--attach", metavar="FILE", help="Attach; may be repeated.")
    ] = None,
    server: Annotated[
        str, typer.Option("--server", metavar="HOST:PORT", help="Submit there. Default: the first listener that suits.")
    ] = "",
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to follow the story.", show_default=True)
    ] = 60.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the story.")] = False,
    config: ConfigFile = None,
) -> None:
    """Send a message and follow its story until each recipient has it, or not."""
    from postroad.cli.submit import SubmitError, make_message, submit

    settings = load_configuration(config).settings
    house = house_of(context)
    recipients = [_parse_address(address, "--to") for address in to]
    mailbox = _parse_address(sender or f"{getpass.getuser()}@{settings.hostname}", "--from")
    where = _parse_server(server) if server else _own_server(settings)
    try:
        message = make_message(mailbox, recipients, subject, _read_body(body), attach or [], now=house.clock.now())
        result = submit(where, mailbox, recipients, message)
    except ValueError as error:  # a line break in the subject
        raise typer.BadParameter(f"{error}.", param_hint="--subject") from error
    except SubmitError as error:
        write_error(f"postroad: {error}")
        raise typer.Exit(1) from error
    except OSError as error:
        write_error(f"postroad: {error.filename} cannot be attached: {error.strerror}.")
        raise typer.Exit(1) from error
    _tell_submitted(result)
    if not result.is_taken:
        raise typer.Exit(1)
    is_good = no_wait or _follow(house, settings, result, wait)
    raise typer.Exit(0 if is_good and not result.refused else 1)


def _parse_address(text: str, option: str) -> Mailbox:
    from postroad.cli.submit import on_wire
    from postroad.core.address import AddressError, parse_mailbox

    try:
        return on_wire(parse_mailbox(text))
    except AddressError as error:
        raise typer.BadParameter(f"{error}.", param_hint=option) from error


def _parse_server(text: str) -> Server:
    from postroad.cli.submit import Server
    from postroad.config.addresses import TcpAddress, UnixAddress, parse_unix_path, split_host_port

    try:
        if text.startswith("unix:"):
            return Server(UnixAddress(parse_unix_path(str(Path(text.removeprefix("unix:")).absolute()))))
        host, port = split_host_port(text)
        return Server(TcpAddress(host, 25 if port is None else port), starttls=True)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error


def _own_server(settings: Settings) -> Server:
    from postroad.cli.submit import choose_server

    if (server := choose_server(settings)) is None:
        raise typer.BadParameter(
            "No listener of this configuration takes mail for other domains: name a server.", param_hint="--server"
        )
    return server


def _read_body(body: str) -> str:
    if body != "-":
        return body or DEFAULT_BODY
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter("Standard input is not UTF-8: use --attach.", param_hint="--body") from error


def _tell_submitted(result: Submitted) -> None:
    for recipient, said in result.refused.items():
        coloured(f"refused    {recipient}: {said}", "red")
    if result.id:
        coloured(f"queued     {result.id}", "bold")
    elif result.is_taken:
        coloured(f"taken      {result.reply}", "")
    elif result.reply:
        coloured(f"refused    {result.reply}", "red")


# --- the story -----------------------------------------------------------------------------------------


def _follow(house: House, settings: Settings, result: Submitted, wait: float) -> bool:
    """Tell what happens to the message; return False if a recipient failed."""
    from postroad.outbound.steering import ControlRefused

    if not result.id:
        write_line("The server is not a Postroad, or names no id: what becomes of the message is told there.")
        return True
    story = _Story(house.clock.now() + wait, set(result.taken))
    try:
        asyncio.run(_watch(house.ask_relay(settings), result.id, story, wait))
    except ControlRefused as error:
        write_error(f"The message was taken, but its story cannot be followed: {error.text}")
    return not story.has_failed


async def _watch(steering: Steering, identifier: str, story: _Story, wait: float) -> None:
    from postroad.core.ids import MessageId, parse_id

    try:
        async with asyncio.timeout(wait), aclosing(steering.watch(MessageId(parse_id(identifier)))) as facts:
            async for fact in facts:
                story.tell(fact)
                if story.is_over:
                    return
    except TimeoutError:
        pass
    if story.left:
        waiting = counted(len(story.left), "recipient")
        write_line(f"waiting    {waiting} after {wait:g} s; see: postroad queue show {identifier}")


class _Story:
    """What has been told, and whether there is more to wait for."""

    def __init__(self, until: float, left: set[str]) -> None:
        self._until = until
        self.left = left
        self._later: set[str] = set()
        self.has_failed = False

    @property
    def is_over(self) -> bool:
        """True if nothing more will happen within the time we wait."""
        return not self.left - self._later

    def tell(self, fact: AnyFact) -> None:
        """Tell one fact, if it is about what became of a recipient."""
        from postroad.core.facts import Bounced, Deferred, Delivered, Dropped, Expired

        match fact:
            case Delivered():
                self._end(fact.recipient)
                span = f"{fact.delay:.1f} s" if fact.delay < 60 else shown_span(fact.delay)
                by = f" by {fact.host}" if fact.host else ""
                coloured(f"delivered  {fact.recipient} to {fact.destination}{by} after {span}: {fact.reply}", "green")
            case Deferred():
                if fact.retry_at > self._until:
                    self._later.add(fact.recipient)
                coloured(
                    f"deferred   {fact.recipient} at {fact.destination} ({fact.stage.value}): {fact.reply}; "
                    f"next try {shown_time(fact.retry_at)}",
                    "yellow",
                )
            case Bounced() | Expired():
                self._fail(fact.recipient)
                coloured(f"failed     {fact.recipient} at {fact.destination}: {fact.reply}", "red")
            case Dropped():
                self._end(fact.recipient)
                coloured(f"dropped    {fact.recipient} by {fact.rule}", "magenta")
            case _:
                pass

    def _end(self, recipient: str) -> None:
        self.left.discard(recipient)
        self._later.discard(recipient)

    def _fail(self, recipient: str) -> None:
        self._end(recipient)
        self.has_failed = True
