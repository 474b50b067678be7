"""Units by name, so that no figure in the code stands without one.

Owns: seconds and octets as constants. Does not own: parsing what a user
types ("30s", "10MiB"); that is config/units.py.
"""

from typing import Final

SECOND: Final = 1.0
MINUTE: Final = 60.0 * SECOND
HOUR: Final = 60.0 * MINUTE
DAY: Final = 24.0 * HOUR

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
