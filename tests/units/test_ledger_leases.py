"""The book of connections: who gets how many, who is told what, and that nothing is left behind."""

from __future__ import annotations

import pytest

from postroad.ledger.leases import PROMISE, WAITING, WANTED_EVERY, Leases
from postroad.ledger.shares import share_of
from postroad.ledger.wire import Freed, Lent, Wanted


class Book:
    """Leases of so many workers, and what they were told."""

    def __init__(self, workers):
        self.told = []
        self.leases = Leases(lambda slot, answer: self.told.append((slot, answer)))
        self.leases.workers = workers
        self.now = 100.0

    def take(self, slot, most=4, key="k"):
        return self.leases.take(slot, key, most, self.now)

    def give(self, slot, key="k"):
        self.leases.give(slot, key, self.now)

    def heard(self, kind):
        """What was told of that kind since the last call, to whom."""
        found = [(slot, answer) for slot, answer in self.told if isinstance(answer, kind)]
        self.told = [pair for pair in self.told if pair not in found]
        return found


@pytest.mark.parametrize("most", [0, 1, 3, 5, 20, 101])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_shares_add_up_to_the_limit(most, workers):
    shares = [share_of("to:mx.example", most, slot, workers) for slot in range(workers)]
    assert sum(shares) == most
    assert max(shares) - min(shares) <= 1


def test_the_rest_goes_to_other_workers_for_other_keys():
    assert {share_of(f"to:{number}", 1, 0, 2) for number in range(50)} == {0, 1}


def test_who_has_no_slot_has_no_share():
    assert share_of("k", 10, -1, 2) == 0
    assert share_of("k", 10, 2, 2) == 0


def test_one_worker_may_have_all_and_the_others_are_told_what_is_lent():
    book = Book(2)
    assert [book.take(0) for _ in range(5)] == [True, True, True, True, False]
    assert book.heard(Lent) == [(1, Lent("k", 1)), (1, Lent("k", 2))]
    book.give(0)
    book.give(0)
    assert book.heard(Lent) == [(1, Lent("k", 1)), (1, Lent("k", 0))]


def test_who_takes_his_own_share_back_has_another_lend():
    book = Book(3)
    for _ in range(3):
        book.take(0, 6)  # the share is 2: one is lent
    ((lender, _),) = book.heard(Lent)
    other = 3 - lender
    assert [book.take(lender, 6) for _ in range(2)] == [True, True]
    assert book.heard(Lent) == [(lender, Lent("k", 0)), (other, Lent("k", 1))] or book.leases._keys["k"].lent == {
        other: 1
    }
    assert book.take(other, 6)
    assert not book.take(other, 6)


def test_a_holder_above_its_share_is_told_that_others_wait_but_not_all_the_time():
    book = Book(2)
    for _ in range(4):
        book.take(0)
    assert not book.take(1)
    assert book.heard(Wanted) == [(0, Wanted("k"))]
    assert not book.take(1)
    assert book.heard(Wanted) == []
    book.now += WANTED_EVERY
    assert not book.take(1)
    assert book.heard(Wanted) == [(0, Wanted("k"))]


def test_nobody_is_told_for_one_who_has_enough():
    book = Book(2)
    for slot in (0, 0, 1, 1):
        book.take(slot)
    assert not book.take(0)
    assert not book.take(1)
    assert book.heard(Wanted) == []


def test_what_comes_free_is_kept_for_who_waits_below_the_fair_share():
    book = Book(2)
    for _ in range(4):
        book.take(0)
    book.take(1)
    book.give(0)
    assert book.heard(Freed) == [(1, Freed("k"))]
    assert not book.take(0), "the one that gave it back asks first and must not have it again"
    assert book.take(1)
    assert not book.take(0)


def test_what_is_kept_and_not_fetched_is_anybodys_after_a_while():
    book = Book(2)
    for _ in range(4):
        book.take(0)
    book.take(1)
    book.give(0)
    book.now += PROMISE
    assert book.take(0)


def test_who_does_not_ask_again_waits_no_more():
    book = Book(2)
    for _ in range(4):
        book.take(0)
    book.take(1)
    book.now += WAITING + 0.1
    book.give(0)
    assert book.heard(Freed) == []
    assert book.take(0)


def test_a_dead_worker_holds_nothing_and_waits_for_nothing():
    book = Book(2)
    for _ in range(4):
        book.take(0)
    assert not book.take(1)
    book.leases.drop(0, book.now)
    assert book.heard(Freed) == [(1, Freed("k"))]
    assert [book.take(1) for _ in range(4)] == [True] * 4
    book.leases.drop(1, book.now)
    assert len(book.leases) == 0


def test_a_lower_limit_grants_nothing_until_there_is_room():
    book = Book(2)
    for _ in range(4):
        book.take(0, 4)
    assert not book.take(1, 2)
    book.give(0)
    book.give(0)
    assert not book.take(1, 2)
    book.give(0)
    assert book.take(1, 2)
    assert not book.take(1, 2)
    assert book.take(1, 3)


def test_what_an_absent_worker_may_hold_is_kept_for_it():
    book = Book(2)
    book.leases.absent = frozenset({1})
    assert [book.take(0) for _ in range(3)] == [True, True, False]
    book.leases.absent = frozenset()
    assert book.take(0)
    book = Book(2)
    book.leases.absent = frozenset({0, 1})
    assert not book.take(0, 1, "other")
    assert len(book.leases) == 0


def test_what_was_lent_may_be_held_by_an_absent_worker():
    book = Book(3)
    book.leases.absent = frozenset({2})
    book.leases.owe(0, {"k": 1})
    assert [book.take(1, 6) for _ in range(4)] == [True, True, True, False], "2 are the absent one's share, 1 is lent"
    book.leases.absent = frozenset({0, 2})
    book.leases.give(1, "k", book.now)
    assert not book.take(1, 6), "what is lent of an absent one's share is counted as its share"
    book.leases.absent = frozenset({2})
    book.leases.forget_owed()
    assert [book.take(0, 6) for _ in range(3)] == [True, True, False]


def test_an_announcement_replaces_what_was_believed():
    book = Book(2)
    for _ in range(3):
        book.take(0)
    book.take(0, 1, "gone")
    book.leases.replace(0, [("k", 4, 2), ("new", 4, 1)], book.now)
    assert [book.leases.held(key) for key in ("k", "gone", "new")] == [2, 0, 1]
    assert len(book.leases) == 2


def test_an_announcement_may_exceed_the_limit_and_is_counted():
    book = Book(2)
    book.leases.replace(0, [("k", 4, 6)], book.now)
    assert not book.take(1)
    assert book.leases.held("k") == 6


def test_keys_without_connections_leave_nothing_behind():
    book = Book(2)
    assert not book.take(0, 0)
    for number in range(1000):
        assert book.take(0, 1, f"in:{number}")
        assert not book.take(1, 1, f"in:{number}")
        book.give(0, f"in:{number}")
    assert len(book.leases) == 0
    assert book.leases._of == {0: set()}


def test_giving_what_nobody_holds_changes_nothing():
    book = Book(2)
    book.give(0)
    book.take(0)
    book.give(1)
    assert book.leases.held("k") == 1
