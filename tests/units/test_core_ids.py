"""Ids: they only grow, they tell when and where they were made, and their text sorts as they do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.core.ids import EPOCH, SHARDS_MAX, IdMaker, format_id, parse_id, shard_of, time_of

NOW = EPOCH + 200_000_000.123
ids = st.integers(0, 2**63 - 1)


@given(st.lists(st.floats(EPOCH, EPOCH + 2_000_000_000), max_size=30), st.integers(0, SHARDS_MAX - 1))
def test_ids_only_grow_whatever_the_clock_does(times: list[float], shard: int) -> None:
    maker = IdMaker(shard)
    made = [maker.next_id(now) for now in times]
    assert made == sorted(set(made))
    assert all(shard_of(identifier) == shard and 0 < identifier < 2**63 for identifier in made)


def test_an_id_tells_its_time_to_the_millisecond() -> None:
    assert time_of(IdMaker(3).next_id(NOW)) == pytest.approx(NOW, abs=0.001)


def test_a_millisecond_that_is_full_borrows_from_the_next() -> None:
    maker = IdMaker(0)
    made = [maker.next_id(NOW) for _ in range(20_000)]
    assert len(set(made)) == 20_000
    assert made == sorted(made)
    assert time_of(made[-1]) == pytest.approx(NOW + 0.001, abs=0.001)


@given(ids)
def test_a_new_maker_goes_on_above_the_floor(floor: int) -> None:
    """Also when the clock was set back in between, as long as there is room above."""
    floor = min(floor, 2**62)
    assert IdMaker(0, floor=floor).next_id(EPOCH) > floor or floor == 0


@given(ids)
def test_text_there_and_back(identifier: int) -> None:
    text = format_id(identifier)
    assert len(text) == 13
    assert parse_id(text) == parse_id(text.upper()) == parse_id(f" {text}\n") == identifier


@given(ids, ids)
def test_text_sorts_as_ids_do(one: int, other: int) -> None:
    assert (format_id(one) < format_id(other)) == (one < other)


def test_letters_that_look_like_digits_are_taken_for_them() -> None:
    assert parse_id("000000000OIL0") == parse_id("0000000000110")


@pytest.mark.parametrize("text", ["", "0", "0" * 12, "0" * 14, "u" * 13, "0000000000-00", "g" + "0" * 12, "é" * 13])
def test_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="is not an id"):
        parse_id(text)


@pytest.mark.parametrize("shard", [-1, SHARDS_MAX])
def test_no_shard(shard: int) -> None:
    with pytest.raises(ValueError, match="is not between"):
        IdMaker(shard)
