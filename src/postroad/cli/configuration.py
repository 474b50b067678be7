"""Reading the configuration for a command: the ``--config`` option, and what else decides which file it is.

Owns: what of the world config/load.py gets as arguments (environment, directory, host name: machine.py). Does not own:
the search order and what is right (config).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postroad.cli.machine import machine_name

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


def load_configuration(file: Path | None) -> Loaded:
    """Return the settings; raises SettingsError with everything that is wrong."""
    from postroad.config.load import load

    return load(file, environment=os.environ, hostname=machine_name(), directory=Path.cwd(), cores=usable_cores())


def usable_cores() -> int:
    """Return how many cores this process may use: by affinity, and by the quota of its cgroup, rounded up."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2, or none that we may read: no quota that we know of
    return min(cores, 64)
