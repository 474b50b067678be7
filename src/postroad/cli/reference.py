"""The reference page of the command line, made of the help of every command.

Owns: docs/reference/cli.md (``python -m postroad.cli.reference`` prints it). Does not own: a word about any command:
that stands with the command. tests/units/test_cli_reference.py fails when the page is not what this makes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import typer

WIDTH: Final = 100

_HEAD: Final = """\
# The command line

<!-- Made of the commands' help by `python -m postroad.cli.reference`. Do not edit: change the command. -->

`postroad COMMAND [--config FILE]`. The configuration file is `--config`, else `$POSTROAD_CONFIG`, else
`./postroad.toml`, else `/etc/postroad/postroad.toml`, else the built-in sandbox: it listens on 127.0.0.1:2525, keeps
everything under `./postroad-data`, and delivers every message to a Maildir there instead of the Internet.

Exit status: 0 done, 1 refused or not found (a sentence on standard error says what to do), 2 usage, 130 interrupted.
Listings are tables on a terminal and plain aligned text in a pipe; with `--json` they are one JSON object a line, whose
field names do not change. Times in JSON are seconds since 1970-01-01 UTC, sizes are octets.

The commands about the queue ask the relay that runs, over `control.sock` in its `data_dir`: as root or as the relay's
user. Where no relay runs, they work on the queue itself, as the owner of `data_dir` or root.
"""


def reference() -> str:
    """Return the page, in Markdown."""
    from postroad.cli.main import app

    parts = [_HEAD]
    for name, text in _helps(typer.main.get_command(app), None, "postroad"):
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _helps(command: Any, parent: typer.Context | None, name: str) -> Iterator[tuple[str, str]]:
    """Yield name and help of a command and of those under it, depth first."""
    context = typer.Context(
        command,
        parent=parent,
        info_name=name.rpartition(" ")[2],
        help_option_names=["--help"],
        max_content_width=WIDTH,
        terminal_width=WIDTH,
    )
    yield name, "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())
    for inner in getattr(command, "commands", {}).values():
        yield from _helps(inner, context, f"{name} {inner.name}")


if __name__ == "__main__":
    sys.stdout.write(reference())
