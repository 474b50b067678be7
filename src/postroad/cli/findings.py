"""What ``postroad check`` finds, one value each.

Owns: the levels and the fields. Does not own: finding anything (inspect_*.py). ``--json`` prints the fields:
never rename one, only add.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The relay would not start, or mail would suffer: exit status 1."""
    WARNING = "warning"
    """Somebody should look at it."""
    NOTE = "note"
    """Good to know."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found."""

    level: Level
    subject: str
    """What it is about, one word: ``configuration``, ``hostname``, ``data_dir``, ``listener``, ``tls``, ``dns``,
    ``disk``, ``process``, ``relay``, ``route``."""
    text: str
    """One sentence: what is so."""
    remedy: str = ""
    """One sentence: what to do."""


def error(subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(Level.ERROR, subject, text, remedy)


def warning(subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(Level.WARNING, subject, text, remedy)


def note(subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(Level.NOTE, subject, text, remedy)
