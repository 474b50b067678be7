"""Which deliveries a person means, said by ids, by conditions, or by --all.

Owns: the options that say it, and that nothing said is an error. Does not own: what matches (the spool), whether a
pattern can be understood (outbound/control.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from postroad.core.ids import MessageId
    from postroad.spool.face import Selection

_PATTERN = '"user@domain", "domain", "*.domain" or "*"'

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of messages.", show_default=False)]
To = Annotated[str, typer.Option("--to", metavar="PATTERN", help=f"Recipient: {_PATTERN}.", show_default=False)]
From = Annotated[
    str, typer.Option("--from", metavar="PATTERN", help='Sender, likewise; "<>" is the null one.', show_default=False)
]
Domain = Annotated[
    str, typer.Option("--domain", metavar="DOMAIN", help="Domain of the recipient, exactly.", show_default=False)
]
State = Annotated[
    str,
    typer.Option("--state", metavar="STATE", help="due, deferred (tried before), held or report.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="Everything in the queue.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, however many they are.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def parse_selection(ids: list[str] | None, to: str, sender: str, domain: str, state: str) -> Selection:
    """Return what is meant; nothing said means everything.

    Raises:
        ControlRefused: an id or a state that is none; usage.
    """
    from postroad.outbound.steering import STATES, ControlRefused
    from postroad.spool.face import Selection

    if state and state not in STATES:
        raise ControlRefused(f'"{state}" is not a state. There are {", ".join(STATES)}.', 2)
    return Selection(
        ids=tuple(dict.fromkeys(parse_message(text) for text in ids or ())),
        to=to,
        sender=sender,
        domain=domain,
        state=state,
    )


def parse_steered(ids: list[str] | None, to: str, sender: str, domain: str, state: str, everything: bool) -> Selection:
    """Return what is meant by a command that changes something: it must be said, if only by --all.

    Raises:
        ControlRefused: nothing said, or --all beside a condition; usage.
    """
    from postroad.outbound.steering import ControlRefused
    from postroad.spool.face import Selection

    selection = parse_selection(ids, to, sender, domain, state)
    if selection == Selection() and not everything:
        raise ControlRefused("Nothing is selected: name ids, --to, --from, --domain or --state; or --all.", 2)
    if selection != Selection() and everything:
        raise ControlRefused("--all stands alone: leave it out, or leave out the conditions.", 2)
    return selection


def parse_message(text: str) -> MessageId:
    """Return the id of a message; raises ControlRefused (usage) if it is none."""
    from postroad.core.ids import MessageId, parse_id
    from postroad.outbound.steering import ControlRefused

    try:
        return MessageId(parse_id(text))
    except ValueError as error:
        raise ControlRefused(f"{error}.", 2) from error
