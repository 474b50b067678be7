"""The Dice face on the operating system's randomness.

Owns: asking it. Does not own: what is left to chance (policy, outbound, net/resolve.py). A simulation plugs in dice
with a seed instead.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import MutableSequence
from typing import TypeVar

T = TypeVar("T")


class SystemDice:
    """``Dice`` that nobody can predict where it matters: tokens come from the kernel."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - jitter and order; seeded by the kernel

    def random(self) -> float:
        return self._random.random()

    def shuffle(self, items: MutableSequence[T]) -> None:
        self._random.shuffle(items)

    def token(self, octets: int) -> bytes:
        return secrets.token_bytes(octets)
