"""Users of another server, from a file in the style of htpasswd: ``name:what is kept of the password``.

Owns: the lines of such a file. Does not own: which schemes can be checked (access/credentials.py), adding the users
(user.py). Dovecot's passwd-file is one too: what stands behind the second colon is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FILE_MAX: Final = 64 * 1024 * 1024
"""Octets of a file: some hundred thousand users."""


@dataclass(frozen=True, slots=True)
class FileLine:
    """One line that names a user."""

    number: int
    name: str
    """In its normal form, if ``wrong`` is empty."""
    credential: str = field(repr=False)
    wrong: str
    """Why it cannot be a user; empty: nothing is wrong."""


def read_user_file(file: Path) -> str:
    """Return the text of a file. Raises ControlRefused."""
    from postroad.outbound.steering import ControlRefused

    try:
        with file.open("rb") as opened:
            octets = opened.read(FILE_MAX + 1)
    except OSError as error:
        raise ControlRefused(f"{file} cannot be read: {error.strerror}.") from error
    if len(octets) > FILE_MAX:
        raise ControlRefused(f"{file} has more than {FILE_MAX} octets. Split it.")
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise ControlRefused(f"{file} is not UTF-8: {error.reason} at octet {error.start}.") from None


def parse_user_file(text: str) -> Iterator[FileLine]:
    """Yield the lines that name users: not empty ones, nor those that begin with ``#``."""
    from postroad.access.credentials import SCRAM, format_credential, parse_credential
    from postroad.access.user import normal_user_name

    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        kept = rest if rest.startswith(f"{SCRAM}$") else rest.partition(":")[0]  # that form has colons of its own
        if not colon:
            yield FileLine(number, "", "", "There is no colon: a line is name:{SCHEME}...")
            continue
        try:
            yield FileLine(number, normal_user_name(name), format_credential(parse_credential(kept)), "")
        except ValueError as error:
            yield FileLine(number, name[:60], "", str(error))
