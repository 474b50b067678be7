"""Dice that fall the same way each time, for tests and simulations that repeat themselves.

Owns: the sequence of a seed. Does not own: secrets: its tokens can be guessed by whoever knows the seed. Passes
tests/contracts/test_dice.py.
"""

from __future__ import annotations

import random
from collections.abc import MutableSequence
from typing import TypeVar

T = TypeVar("T")


class SeededDice:
    """Dice from a seed."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeated is its purpose

    def random(self) -> float:
        return self._random.random()

    def shuffle(self, items: MutableSequence[T]) -> None:
        self._random.shuffle(items)

    def token(self, octets: int) -> bytes:
        return self._random.randbytes(octets)
