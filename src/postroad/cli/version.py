"""``postroad version``: which Postroad this is, and on what it stands.

Owns: the line. Does not own: the version, which stands in postroad/__init__.py and pyproject.toml. Imports nothing
that takes time.
"""

from __future__ import annotations

import platform

from postroad import __version__
from postroad.cli.output import write_line


def version() -> None:
    """Print the version."""
    write_line(f"Postroad {__version__} (Python {platform.python_version()})")
