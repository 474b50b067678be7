"""Postroad, an SMTP relay: 250 means kept.

Owns: the version. The floors of the building are in docs/layout.md; the house
that puts everything together is postroad.service.
"""

from typing import Final

__version__: Final = "0.1.0"
