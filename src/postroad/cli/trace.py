"""``postroad trace``: the story of a message, or of all messages of an address; with ``--follow``, the log's tail.

Owns: the command, grouping by message, the shape of a story on a page, facts as JSON. Does not own: which facts belong
to a story (the relay's trace), what a fact says to people (observe/telling.py).

A story that has ended is shown by message; what is followed is shown as it happens. At most GROUPED_MAX facts are in
memory; a longer story is shown in the order of time alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from postroad.cli.configuration import ConfigFile
from postroad.cli.house import house_of
from postroad.cli.output import coloured, write_error, write_json
from postroad.cli.selection import Json
from postroad.cli.whole import opened_relay

if TYPE_CHECKING:
    from postroad.core.facts import AnyFact

GROUPED_MAX: Final = 20_000
"""Facts that are held to be grouped by message: some 20 MiB."""
_IDS: Final = ("message", "session", "report")
"""Fields that hold an id."""


def trace(
    context: typer.Context,
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="[ID|ADDRESS]", help="A message, or who sent or was sent it. None: everything.", show_default=False
        ),
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    dialogue: Annotated[
        bool | None,
        typer.Option(
            "--dialogue/--no-dialogue", help="What was said to next hops. Default: for one message.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Of an address: the newest N messages.")
    ] = 100,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Tell the story of a message: received, decisions, each attempt with its dialogue, the outcome, reports."""
    from postroad.observe import log, telling  # noqa: F401 - now: as another user we might not be able to read them
    from postroad.outbound.steering import ControlRefused

    if not wanted and not follow:
        raise ControlRefused("Whose story? Name an id or an address, or --follow to see everything that happens.", 2)
    house = house_of(context)
    with_dialogue = _is_id(wanted) if dialogue is None else dialogue

    async def run() -> int:
        async with (
            opened_relay(house, config) as relay,
            aclosing(relay.trace(wanted, follow=follow, limit=limit)) as facts,
        ):
            if as_json:
                return await _write_json(facts)
            pages = _Pages(is_one=_is_id(wanted), dialogue=with_dialogue, grouped=not follow)
            return await pages.write(facts)

    if not asyncio.run(run()) and not follow:
        write_error(
            f"postroad: Nothing is known of {wanted}. Facts are kept for [facts] keep, and no longer; "
            "a crash costs those of its last second."
        )
        raise typer.Exit(1)


def _is_id(wanted: str) -> bool:
    from postroad.core.ids import parse_id

    try:
        parse_id(wanted)
    except ValueError:
        return False
    return True


# --- for programs --------------------------------------------------------------------------------------


async def _write_json(facts: AsyncIterator[AnyFact]) -> int:
    count = 0
    async for fact in facts:
        write_json(fact_row(fact))
        sys.stdout.flush()
        count += 1
    return count


def fact_row(fact: AnyFact) -> dict[str, Any]:
    """Return a fact as the control API writes it: its kind and fields, ids as text."""
    from postroad.core.ids import format_id

    row: dict[str, Any] = msgspec.to_builtins(fact)
    return {name: format_id(value) if name in _IDS and value is not None else value for name, value in row.items()}


# --- for people ----------------------------------------------------------------------------------------


class _Pages:
    """Writes facts as stories: grouped by message once all is known, else each as it comes."""

    def __init__(self, *, is_one: bool, dialogue: bool, grouped: bool) -> None:
        self._is_one = is_one
        self._dialogue = dialogue
        self._grouped = grouped
        self._day = ""

    async def write(self, facts: AsyncIterator[AnyFact]) -> int:
        from postroad.core.facts import Incomplete

        count = 0
        held: list[AnyFact] = []
        lacks: list[str] = []
        async for fact in facts:
            if isinstance(fact, Incomplete):
                lacks.append(fact.why)
                continue
            count += 1
            if not self._grouped:
                self._tell(fact, with_id=not self._is_one)
                sys.stdout.flush()
                continue
            held.append(fact)
            if len(held) > GROUPED_MAX:
                write_error(f"The story is long: its {len(held):,} facts and more follow in the order of time.")
                self._grouped = False
                for each in held:
                    self._tell(each, with_id=True)
                held.clear()
        self._tell_grouped(held)
        for why in lacks:
            write_error(f"postroad: {why}")
        return count

    def _tell_grouped(self, facts: list[AnyFact]) -> None:
        groups: dict[int | None, list[AnyFact]] = {}
        for fact in facts:
            groups.setdefault(getattr(fact, "message", None), []).append(fact)
        for number, (message, story) in enumerate(groups.items()):
            if number:
                coloured("", "")
            coloured(_title(message, story), "bold")
            self._day = ""
            for fact in story:
                self._tell(fact, with_id=False, indent="  ")

    def _tell(self, fact: AnyFact, *, with_id: bool, indent: str = "") -> None:
        from postroad.core.ids import format_id
        from postroad.observe.log import format_time
        from postroad.observe.telling import tell_lines

        day, _, time = format_time(fact.at).partition("T")
        if day != self._day:
            self._day = day
            coloured(f"{indent}{day} UTC", "dim")
        message = getattr(fact, "message", None)
        name = f"{format_id(message) if isinstance(message, int) else '-':13}  " if with_id else ""
        first, *more = tell_lines(fact, dialogue=self._dialogue)
        coloured(f"{indent}{time.rstrip('Z')}  {name}{first}", style_of(fact))
        for line in more:
            coloured(f"{indent}{'':14}{line}", "dim")


_STYLES: Final = {
    "received": "bold",
    "delivered": "green",
    "deferred": "yellow",
    "bounced": "red",
    "expired": "red",
    "refused": "red",
    "dropped": "magenta",
    "trouble": "bold yellow",
    "damaged": "bold red",
}


def style_of(fact: AnyFact) -> str:
    """Return the colour of a fact's kind."""
    return _STYLES.get(str(fact.__struct_config__.tag), "")


def _title(message: int | None, story: list[AnyFact]) -> str:
    from postroad.core.facts import Received
    from postroad.core.ids import format_id

    if message is None:
        return "Without a message"
    received = next((fact for fact in story if isinstance(fact, Received)), None)
    if received is None:
        return format_id(message)
    return f"{format_id(message)}  from {received.sender or '<>'} to {', '.join(received.recipients[:3])}" + (
        f" and {len(received.recipients) - 3} more" if len(received.recipients) > 3 else ""
    )
