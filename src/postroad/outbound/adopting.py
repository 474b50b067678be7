"""Shards without a worker that are being moved into the one that is steered: what steering needs to know of them.

Owns: the face by which control.py asks, and the words for such shards. Does not own: moving them (service/shards.py),
who does (service/adoptions.py). While one is on its way, a change reaches what has come and nothing else of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

PATIENCE: Final = 5.0
"""Seconds that a change waits until all is here: as a rule it takes less. Beneath ANSWER_TIMEOUT of the wire."""


class Adopting(Protocol):
    """What is on its way."""

    def missing(self) -> tuple[int, ...]:
        """Return the numbers of the shards of which something may not be here yet, the smallest first."""

    async def wait(self, seconds: float) -> None:
        """Return when nothing is on its way any more, or after so long. What was given up is missing for good."""


class NoAdoptions:
    """``Adopting`` where nothing is moved."""

    def missing(self) -> tuple[int, ...]:
        return ()

    async def wait(self, seconds: float) -> None:
        """There is nothing to wait for."""


NO_ADOPTIONS: Final = NoAdoptions()


def format_shards(numbers: Sequence[int]) -> str:
    """Return their names, as those of their directories."""
    return ", ".join(f"shard-{number}" for number in numbers)


def uncounted(missing: Sequence[int]) -> str:
    """Return what counts say of shards that are missing in them; "" where none is."""
    return f"mail of {format_shards(missing)} is not counted, since it is not yet moved to a worker" if missing else ""
