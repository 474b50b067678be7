"""``postroad config``: what is in effect and where it comes from, and the reference page of all settings.

Owns: the two commands. Does not own: their text: config/explain.py makes that of ``show``, config/reference.py that of
``docs``, both of the lines of the model.
"""

from __future__ import annotations

import typer

from postroad.cli.configuration import ConfigFile, load_configuration
from postroad.cli.output import write_json, write_line
from postroad.cli.selection import Json

app = typer.Typer(help="Show the settings.", no_args_is_help=True)


@app.command()
def show(as_json: Json = False, config: ConfigFile = None) -> None:
    """Print the settings in effect, each with the file and line it comes from."""
    from postroad.config import explain

    loaded = load_configuration(config)
    if as_json:
        for row in explain.rows(loaded):
            write_json(row.to_dict())
    else:
        write_line(explain.show(loaded).rstrip("\n"))


@app.command()
def docs() -> None:
    """Print the reference page: every setting, its default and its meaning (Markdown)."""
    from postroad.config.reference import reference

    write_line(reference().rstrip("\n"))
