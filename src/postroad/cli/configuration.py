"""Reading the configuration for a command: which file, and what this machine calls itself.

Owns: what of the world config/load.py gets as arguments (environment, directory, host name), the ``--config`` option.
Does not own: the search order and what is right (config).
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from postroad.config.load import Loaded

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration file. Default: $POSTROAD_CONFIG, ./postroad.toml, /etc/postroad/postroad.toml, "
        "else the sandbox.",
        show_default=False,
    ),
]

NAME_TIMEOUT: Final = 2.0
"""Seconds to find out the machine's full name, which may ask the DNS."""


def load_configuration(file: Path | None) -> Loaded:
    """Return the settings; raises SettingsError with everything that is wrong."""
    from postroad.config.load import load

    return load(file, environment=os.environ, hostname=machine_name(), directory=Path.cwd())


def machine_name() -> str:
    """Return what this machine calls itself: its full name if that can be found out in short time."""
    name = socket.gethostname()
    if "." in name:
        return name
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(socket.getfqdn(name)), daemon=True)
    asking.start()
    asking.join(NAME_TIMEOUT)
    return found[0] if found and "." in found[0] and not found[0].startswith("localhost.") else name
