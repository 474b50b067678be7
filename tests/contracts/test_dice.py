"""The contract of core.faces.Dice, for the kernel's randomness and the shipped fake."""

from __future__ import annotations

import pytest

from postroad.service.system_dice import SystemDice
from postroad.testing.seeded_dice import SeededDice


@pytest.fixture(params=[SystemDice, SeededDice])
def dice(request):
    return request.param()


def test_numbers_fill_the_unit_interval(dice):
    numbers = [dice.random() for _ in range(1000)]
    assert all(0.0 <= number < 1.0 for number in numbers)
    assert min(numbers) < 0.1
    assert max(numbers) > 0.9


def test_a_shuffle_changes_the_order_in_place_and_loses_nothing(dice):
    items = list(range(100))
    dice.shuffle(items)
    assert items != list(range(100))
    assert sorted(items) == list(range(100))


def test_every_order_comes_up(dice):
    orders = set()
    for _ in range(200):
        items = [1, 2, 3]
        dice.shuffle(items)
        orders.add(tuple(items))
    assert len(orders) == 6


def test_tokens_have_their_length_and_differ(dice):
    assert [len(dice.token(octets)) for octets in (0, 1, 16)] == [0, 1, 16]
    assert len({dice.token(16) for _ in range(100)}) == 100


def test_the_same_seed_falls_the_same_way():
    first, second = SeededDice(7), SeededDice(7)
    assert [first.token(8), first.random()] == [second.token(8), second.random()]
    assert SeededDice(8).token(8) != SeededDice(7).token(8)
