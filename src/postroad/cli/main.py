"""The table of commands, and what every run of the command line has in common.

Owns: which commands there are, what becomes of errors (a sentence on standard error; exit status 0 done, 1 refused or
not found, 2 usage, 130 interrupted). Does not own: any command (one file each).

Adding a command is a line here and a file beside it; then write the reference page anew:
``python -m postroad.cli.reference > docs/reference/cli.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

import typer

from postroad.cli import audit, check, config, destinations, queue, reload, send, serve, trace, version
from postroad.cli.complete import completion, prepare_completion
from postroad.cli.house import House
from postroad.cli.output import write_error

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
app.command()(trace.trace)
app.command()(completion)
app.command()(version.version)


@app.callback()
def postroad() -> None:
    """Postroad, an SMTP relay where 250 means kept."""


def run(house: House, arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    prepare_completion()
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
        case _:
            return None
