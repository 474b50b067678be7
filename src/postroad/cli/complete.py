"""Shell completion: the script for a shell, and names that only a relay knows.

Owns: ``postroad completion``, completing the names of destinations. Does not own: completing commands and options
(typer does, from their definitions). A key press must not wait: what a relay does not say within ANSWER_TIMEOUT is
left out, and nothing that goes wrong here is shown.
"""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from typing import Annotated, Final

import typer

from postroad.cli.broken import settings_to_steer
from postroad.cli.house import House
from postroad.cli.output import write_line

ENVIRONMENT_KEY: Final = "_POSTROAD_COMPLETE"
"""Set by the script of the shell."""
ANSWER_TIMEOUT: Final = 0.3
"""Seconds."""
OFFERED_MAX: Final = 100
"""Names of destinations."""


class Shell(StrEnum):
    """Shells for which there is a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print the script that completes commands, options and destinations in a shell.

    In ~/.bashrc: eval "$(postroad completion bash)"; zsh likewise; fish: postroad completion fish | source.
    """
    from typer._completion_shared import get_completion_script

    write_line(get_completion_script(prog_name="postroad", complete_var=ENVIRONMENT_KEY, shell=shell.value))


def prepare_completion() -> None:
    """Teach typer the shells, if it is a shell that runs us to complete a line."""
    if ENVIRONMENT_KEY in os.environ:
        from typer._completion_classes import completion_init

        completion_init()


def complete_destination(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of destinations that begin so, as far as a relay says them at once."""
    from postroad.config.errors import SettingsError
    from postroad.outbound.steering import ControlRefused

    house = context.find_object(House)
    if house is None:
        return []
    try:
        names = asyncio.run(_names(house))
    except (ControlRefused, SettingsError, TimeoutError, OSError):
        return []
    # What has a colon is not offered: bash takes a colon as the end of a word.
    fitting = sorted(name for name in names if name.startswith(incomplete) and name and ":" not in name)
    return fitting[:OFFERED_MAX]


async def _names(house: House) -> set[str]:
    steering = house.ask_relay(settings_to_steer(None)[0])
    async with asyncio.timeout(ANSWER_TIMEOUT):
        names = {row.domain for row in (await steering.stats(OFFERED_MAX)).destinations}
        names |= {row.destination for row in await steering.suspensions()}
        names |= {row.destination for row in await steering.overrides()}
    return names
