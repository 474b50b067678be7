"""``postroad serve``: run the relay in the foreground.

Owns: reading the configuration, and telling the first user of a sandbox what to try. Does not own: running
(``House.serve``; service does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from postroad.cli.configuration import ConfigFile, load_configuration
from postroad.cli.house import house_of
from postroad.cli.output import write_error

if TYPE_CHECKING:
    from postroad.config.load import Loaded


def serve(context: typer.Context, config: ConfigFile = None) -> None:
    """Run the relay in the foreground. SIGTERM and SIGINT stop it, once work in hand is done."""
    loaded = load_configuration(config)
    if loaded.is_sandbox:
        write_error(sandbox_text(loaded))
    raise typer.Exit(house_of(context).serve(loaded))


def sandbox_text(loaded: Loaded) -> str:
    """Return what a person who started without a configuration wants to know."""
    address, http = loaded.settings.listener[0].address, loaded.settings.http.address
    mail = loaded.settings.data_dir / "mail"
    return f"""\
No configuration file: this is the sandbox. It takes mail on {address} and delivers all of it
to Maildirs in {mail}. Nothing leaves this machine.
Metrics and the API, for reading: http://{http}/metrics

In another terminal, from this directory:
  postroad send --to someone@example.org        send a message and follow it
  postroad queue stats                          see what waits
  swaks --server {address} --to a@example.org
A real configuration is a file postroad.toml: postroad config docs
"""
