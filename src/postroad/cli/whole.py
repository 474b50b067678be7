"""The whole relay, as the commands beyond the queue steer it; and options that several of them share.

Owns: opening ``RelaySteering`` for a command, durations and rates as people type them. Does not own: who answers
(``House``: the relay that runs, or its data where none does), what the commands do (one file each).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from postroad.cli.broken import WARNING, settings_to_steer
from postroad.cli.configuration import ConfigFile
from postroad.cli.output import prepare, write_error

if TYPE_CHECKING:
    from postroad.cli.house import House
    from postroad.outbound.relay import RelaySteering

For = Annotated[
    str,
    typer.Option("--for", metavar="DURATION", help='How long, such as "30m" or "2h". Default: until ended by hand.'),
]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for those who look at it later.")]


@asynccontextmanager
async def opened_relay(house: House, config: ConfigFile) -> AsyncIterator[RelaySteering]:
    """Give the steering of the relay, or of its data where none runs.

    Where the configuration file is broken, that of the relay that runs, with a warning.

    Raises:
        ControlRefused: neither can be steered.
        SettingsError: the file is broken, and no relay runs.
    """
    from postroad.outbound.steering import ControlRefused, NoRelay

    settings, wrong = settings_to_steer(config)
    prepare()
    if wrong is None:
        async with house.open_queue(settings) as steering:
            yield steering
        return
    relay = house.ask_relay(settings)
    try:
        await relay.health()
    except NoRelay:
        raise wrong from None
    except ControlRefused:
        pass  # it is there, and says itself what it cannot do
    write_error(WARNING)
    yield relay


def parse_until(text: str, now: float) -> float | None:
    """Return when a duration from now is over; None where none was given.

    Raises:
        ControlRefused: not a duration, or none at all; usage.
    """
    from postroad.config.units import parse_duration
    from postroad.outbound.steering import ControlRefused

    if not text:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ControlRefused(f"--for: {error}", 2) from error
    if seconds <= 0:
        raise ControlRefused(f'--for: "{text}" is no time at all.', 2)
    return now + seconds


def parse_rate_option(text: str) -> str | None:
    """Return a rate in its normal form, ``none`` for no bound; None where none was given.

    Raises:
        ControlRefused: not a rate; usage.
    """
    from postroad.config.units import format_rate, parse_rate
    from postroad.outbound.steering import ControlRefused

    if not text or text == "none":
        return text or None
    try:
        return format_rate(parse_rate(text))
    except ValueError as error:
        raise ControlRefused(f"--rate: {error}", 2) from error
