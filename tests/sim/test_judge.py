"""The judge on made-up evidence: each law is broken once, and he says which."""

from __future__ import annotations

from collections import Counter

import pytest

from postroad.testing.sim.book import Book, Crash, Refusal, Sent, Take
from postroad.testing.sim.disk_image import Drop, Image
from postroad.testing.sim.judge import Judge
from postroad.testing.sim.network import Weather
from postroad.testing.sim.story import Peer, Plan
from postroad.testing.sim.world import Played

BOB, ANN = "r0.t.0@d0.example", "r1.t.0@d0.example"
SENDER = "s.t.0@home.example"
PEER = Peer(name="mx0", address="198.51.100.1", domains=("d0.example", "home.example"), well_after=0.0)


def case(*, code: int = 250, notify: str = "", recipients: tuple[str, ...] = (BOB,)) -> Played:
    """One letter, its reply, and nothing else."""
    book = Book(lambda: 2_000.0)
    sent = Sent("t", 0, "client", SENDER, notify, b"hash", 700, list(recipients), dot_at=1_001.0, code=code)
    sent.told_at = 1_001.1 if code else 0.0
    sent.worker = "worker-0#1"
    book.sent[sent.key] = sent
    plan = Plan(1, (), (PEER,), (), (), Weather())
    counters: tuple[Counter[str], Counter[tuple[str, str]]] = (Counter(), Counter())
    return Played(plan, book, [], Image(), True, True, [], *counters, [], 1_000.0, 0, 0, "")


def take(played: Played, *recipients: str, at: float = 1_002.0, reply_at: float | None = None, **more: object) -> Take:
    one = Take("t", 0, "mx0", SENDER, recipients or (BOB,), at, b"hash", (), "worker-0#1")
    one.reply_at = at + 0.1 if reply_at is None else reply_at
    for name, value in more.items():
        setattr(one, name, value)
    played.book.takes.append(one)
    return one


def report(played: Played, action: str = "failed", address: str = BOB) -> None:
    take(played, SENDER, at=1_010.0, sender="", report=((address, action),), hash=b"")


def crash(played: Played, at: float) -> None:
    played.book.crashes.append(Crash(at, "process", "somewhere", ("worker-0#1",), ""))


def laws(played: Played) -> list[str]:
    return [text.partition(":")[0] for text in Judge(played).judge().broken]


def test_what_was_delivered_once_is_well():
    played = case()
    take(played)
    assert laws(played) == []


@pytest.mark.parametrize("recipients", [(BOB,), (BOB, ANN)])
def test_what_has_no_end_is_lost(recipients):
    played = case(recipients=recipients)
    if ANN in recipients:
        take(played, ANN)
    assert laws(played) == ["LOST"]


def test_what_was_refused_must_not_arrive():
    played = case(code=451)
    take(played)
    assert laws(played) == ["refused"]


def test_what_may_have_been_kept_is_kept_for_all_or_for_none():
    played = case(code=0, recipients=(BOB, ANN))
    assert laws(played) == []
    take(played, BOB)
    assert laws(played) == ["torn"]


def test_a_second_copy_needs_a_lost_reply_or_a_crash():
    played = case()
    first = take(played)
    take(played, at=1_005.0)
    assert laws(played) == ["doubled"]
    crash(played, 1_002.12)
    assert laws(played) == []
    played.book.crashes.clear()
    crash(played, 1_004.0)  # long after its record was due
    assert laws(played) == ["doubled"]
    first.reply_at = 0.0
    assert laws(played) == []


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"hash": b"other"}, "content"),
        ({"sender": "mallory@home.example"}, "sender"),
        ({"recipients": (BOB, "eve@d0.example")}, "stranger"),
        ({"token": "nobodys"}, "unknown"),
    ],
)
def test_what_arrives_is_what_was_sent(changes, law):
    played = case()
    take(played)
    take(played, at=1_002.0, reply_at=0.0, **changes)
    assert law in laws(played)


def test_a_report_needs_a_cause():
    played = case()
    report(played)
    assert laws(played) == ["report without cause"]
    played.book.refusals[BOB] = [Refusal(1_003.0, 550, "rcpt", "mx0", [1_003.1])]
    assert laws(played) == []


def test_the_same_is_not_told_by_two_reports():
    played = case()
    played.book.refusals[BOB] = [Refusal(1_003.0, 550, "rcpt", "mx0", [1_003.1])]
    report(played)
    report(played)
    assert laws(played) == []
    played.book.takes[-1].name = "<another@relay>"
    assert laws(played) == ["told twice"]


def test_a_report_of_success_needs_a_delivery():
    played = case()
    report(played, "delivered")
    assert laws(played) == ["LOST", "report"]


def test_nobody_hears_of_a_failure_who_said_never():
    played = case(notify="NEVER")
    played.book.refuse(BOB, 550, "rcpt", "mx0")
    report(played)
    assert "report" in laws(played)


def test_a_drop_needs_a_rule_that_applies():
    played = case(notify="NEVER")
    played.image.drops.append(Drop(1, BOB, "notify-never", 1_005.0))
    assert laws(played) == ["drop"]  # nothing had failed
    played.book.refusals[BOB] = []
    played.book.refuse(BOB, 550, "rcpt", "mx0")
    played.image.drops[0] = Drop(1, BOB, "notify-never", 3_000.0)
    assert laws(played) == []
    played.image.drops[0] = Drop(1, BOB, "null-sender", 3_000.0)
    assert laws(played) == ["drop"]
    played.image.drops[0] = Drop(1, BOB, "because", 3_000.0)
    assert laws(played) == ["drop"]
