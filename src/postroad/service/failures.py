"""The one error that ends a start.

Owns: it, and nothing else, so that anybody can import it. Does not own: the sentences (start.py, data_dir.py,
privileges.py).
"""

from __future__ import annotations


class StartFailed(Exception):
    """The relay cannot run. The text is for a person, and says what to do."""
