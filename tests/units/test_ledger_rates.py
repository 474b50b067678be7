"""The book of rates: whose share is charged, what is given back, and that nothing grows without end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.core.faces import Rate
from postroad.ledger import marks as marks_module
from postroad.ledger import meter as meter_module
from postroad.ledger.blocks import Block, best_of
from postroad.ledger.marks import LocalMarks
from postroad.ledger.meter import Meter
from postroad.ledger.rates import ANSWER_HELD, HELD_MAX, Rates
from postroad.ledger.shares import share_of
from postroad.ledger.wire import Charged, LentTokens

MINUTE = Rate(10, 60)


class Book:
    def __init__(self, workers):
        self.told = []
        self.rates = Rates(lambda slot, answer: self.told.append((slot, answer)))
        self.rates.workers = workers

    def take(self, slot, least=1, best=1, rate=MINUTE, now=1000.0):
        return self.rates.take(slot, "k", rate, least, best, now)


def test_tokens_above_the_share_are_charged_to_others_who_are_told():
    book = Book(2)
    tokens, own, _, wait = book.take(0, 7, 7)
    assert (tokens, own, wait) == (7, 5, 0.0)
    assert book.told == [(1, LentTokens("k", 60, 2))]
    tokens, own, _, wait = book.take(1, 3, 3)
    assert (tokens, own, wait) == (3, 3, 0.0)
    assert book.take(1)[3] > 0
    assert [charged.entries[0][1] for slot in (0, 1) for charged in book.rates.charged(slot)] == [5, 5]


def test_a_block_is_cut_to_what_there_is():
    book = Book(2)
    book.take(0, 8, 8)
    assert book.take(1, 1, 100)[0] == 2


def test_what_is_given_back_can_be_taken_again():
    book = Book(1)
    _, _, number, _ = book.take(0, 10, 10)
    book.rates.give(0, "k", number, 4)
    assert book.take(0, 4, 4)[0] == 4
    assert book.take(0)[3] > 0
    book.rates.give(0, "never asked about", 1, 4)
    book.rates.give(0, "k", number + 1, 4)
    book.rates.give(0, "k", number, -4)
    assert book.take(0)[3] > 0


@pytest.mark.parametrize(("best", "held"), [(4, HELD_MAX), (1, ANSWER_HELD)])
def test_tokens_count_from_the_last_moment_at_which_they_may_be_used(best, held):
    """Those of a block may be kept for a while; one that is asked for by itself is used when the answer comes."""
    book = Book(1)
    rate = Rate(best, 1)
    granted = 1000.05 - held / 2  # used in one slot, and perhaps in the next
    assert book.take(0, 1, best, rate, now=granted)[0] == best
    assert book.take(0, 1, 1, rate, now=granted + held + 0.999)[0] == 0
    assert book.take(0, 1, 1, rate, now=granted + held + 1.1)[0] == 1


def test_what_an_absent_worker_may_have_used_is_kept():
    book = Book(2)
    book.rates.absent = frozenset({1})
    assert book.take(0, 5, 5)[0] == 5
    assert book.take(0)[3] > 0
    assert book.told == []
    book.rates.absent = frozenset()
    assert book.take(0)[0] == 1


def test_an_announcement_counts_once_whoever_makes_it():
    book = Book(2)
    book.take(0, 4, 4)
    (charged,) = book.rates.charged(0)
    book.rates.announced(0, "k", 60, charged.entries, 1000.0, anew=True)  # the same process again
    assert book.rates.charged(0) == [charged]
    book.rates.announced(0, "k", 60, [(charged.entries[0][0], 3)], 1000.0, anew=False)  # its successor
    assert sum(tokens for _, tokens in book.rates.charged(0)[0].entries) == 7
    assert book.take(1, 4, 4)[3] > 0
    assert book.take(1, 3, 3)[0] == 3


def test_an_announcement_from_the_future_does_not_count_for_ever():
    book = Book(1)
    book.rates.announced(0, "k", 60, [(10**12, 10)], 1000.0, anew=False)
    assert book.take(0)[3] > 0
    assert book.take(0, now=1000.0 + 130)[0] == 1


def test_more_than_there_ever_is_is_given_when_nothing_else_is_used():
    book = Book(2)
    assert book.take(0, 25, 25)[0] == 25
    assert book.take(1)[3] > 0
    assert isinstance(book.rates.charged(0)[0], Charged)


def test_a_share_of_a_rate_is_never_charged_twice_over():
    book = Book(3)
    for slot in (0, 1, 2, 0, 1, 0, 0, 0, 2, 1):
        assert book.take(slot)[0] == 1
    for slot in range(3):
        ((_, tokens),) = book.rates.charged(slot)[0].entries
        assert tokens == share_of("k", 10, slot, 3)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.sampled_from([0, 0.1, 3, 30, 61])), max_size=40))
def test_a_meter_is_the_sum_of_what_each_is_charged(charges):
    meter, now, numbers = Meter(60), 0.0, []
    for whom, tokens, seconds in charges:
        now += seconds
        numbers.append((meter.charge(tokens, now, whom), tokens, whom))
        assert meter.used(now) == sum(meter.used_by(each) for each in range(3))
    for number, tokens, whom in numbers:
        meter.refund(number, tokens, whom)
    assert meter.used(now) == 0
    assert [meter.entries(whom) for whom in range(3)] == [[], [], []]


@pytest.mark.parametrize(
    ("rate", "tokens", "best"),
    [(Rate(20, 1), 1, 1), (Rate(39, 1), 1, 1), (Rate(40, 1), 1, 4), (Rate(60000, 60), 1, 100), (Rate(100, 1), 25, 25)],
)
def test_blocks_are_worth_100_ms_or_exactly_what_is_needed(rate, tokens, best):
    assert best_of(rate, tokens) == best


def test_only_what_is_charged_to_us_can_be_given_back():
    block = Block(MINUTE, 9, 4, 1, 1)
    assert block.take(3)
    assert not block.take(7)
    assert block.end() == 4
    assert not block.take(1)


def test_keys_are_bounded(monkeypatch):
    monkeypatch.setattr(meter_module, "KEYS_MAX", 50)
    monkeypatch.setattr(marks_module, "MARKS_MAX", 50)
    book, marks = Book(2), LocalMarks(lambda: 0.0)
    for number in range(500):
        book.rates.take(0, f"in:{number}", MINUTE, 1, 1, 1000.0)
        marks.mark_now(f"ban:{number}", 60)
        marks.count_now(f"failed:{number}", 60, 1)
        assert marks.marked_now("ban:0")  # who is asked about is not forgotten
    assert len(book.rates) <= 52
    assert len(marks) <= 104
