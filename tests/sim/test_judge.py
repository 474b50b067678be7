"""The judge on made-up evidence: each law is broken once, and he says which."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from postroad.core.facts import Reported
from postroad.core.ids import IdMaker
from postroad.testing.sim.book import Book, Crash, Order, Refusal, Sent, Take
from postroad.testing.sim.disk_image import Drop, Image
from postroad.testing.sim.house import EPOCH
from postroad.testing.sim.judge import Judge
from postroad.testing.sim.judge_steering import BY_HAND, look_at_crowds, look_at_people
from postroad.testing.sim.network import Weather
from postroad.testing.sim.story import Peer, Plan, Terms
from postroad.testing.sim.world import Played

BOB, ANN = "r0.t.0@d0.example", "r1.t.0@d0.example"
SENDER = "s.t.0@home.example"
REPORT = IdMaker(0).next_id(EPOCH + 5.2)
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
    played.image.drops.append(Drop(1, BOB, "notify-never", EPOCH + 5.0))
    assert laws(played) == ["drop"]  # nothing had failed
    played.book.refusals[BOB] = [Refusal(1_006.0, 550, "rcpt", "mx0", [1_006.1])]
    assert laws(played) == ["drop"]  # not yet
    played.image.drops[0] = Drop(1, BOB, "notify-never", EPOCH + 6.2)
    assert laws(played) == []
    played.image.drops[0] = Drop(1, BOB, "null-sender", EPOCH + 6.2)
    assert laws(played) == ["drop"]
    played.image.drops[0] = Drop(1, BOB, "because", EPOCH + 6.2)
    assert laws(played) == ["drop"]


@pytest.mark.parametrize(("sender", "rule"), [("", "null-sender"), (SENDER, "notify-never")])
def test_what_nobody_hears_of_is_given_up_at_its_expiry_and_not_before(sender, rule):
    played = case(notify="NEVER")
    played.book.sent["t", 0].sender = sender
    played.image.drops.append(Drop(1, BOB, rule, EPOCH + 890.0))
    assert laws(played) == ["drop"]
    played.image.drops[0] = Drop(1, BOB, rule, EPOCH + 901.0)
    assert laws(played) == []


def test_a_report_that_was_dropped_is_an_end_of_those_that_it_told_of():
    played = case(recipients=(BOB, ANN))
    take(played, ANN)
    played.image.drops.append(Drop(REPORT, SENDER, "null-sender", EPOCH + 6.2))
    told = Reported(at=EPOCH + 5.2, message=1, report=REPORT, action="failed", to=SENDER, recipients=(BOB,))
    played.facts.append((1_005.2, told))
    assert laws(played) == ["LOST", "drop"]  # nothing had failed
    played.book.refusals[BOB] = [Refusal(1_005.0, 550, "rcpt", "mx0", [1_005.1])]
    played.book.refusals[SENDER] = [Refusal(1_006.0, 550, "rcpt", "mx0", [1_006.1])]
    assert laws(played) == []
    for changes in ({"action": "delayed"}, {"recipients": (ANN,)}, {"report": REPORT + 1}):
        played.facts[0] = (1_005.2, msgspec.structs.replace(told, **changes))
        assert laws(played) == ["LOST"]
    crash(played, 1_005.25)  # between the report's commit and its fact
    assert laws(played) == []


# --- what people did ---


def order(played: Played, verb: str, *, at: float = 1_005.0, told_at: float | None = None, **more: object) -> Order:
    one = Order(len(played.book.orders) + 1, at, verb, "to", BOB, "person1")
    one.told_at = at + 0.1 if told_at is None else told_at
    for name, value in more.items():
        setattr(one, name, value)
    played.book.orders.append(one)
    return one


def all_laws(played: Played) -> list[str]:
    judge = Judge(played)
    judge.judge()
    look_at_people(judge)
    look_at_crowds(judge)
    return [text.partition(":")[0] for text in judge.verdict.broken]


def test_what_is_held_stays_until_it_is_released():
    played = case()
    held = order(played, "hold")
    take(played, at=1_010.0)
    assert all_laws(played) == ["steering"]
    held.in_flight = 1
    assert all_laws(played) == []
    held.in_flight = 0
    release = order(played, "release", at=1_008.0)
    assert all_laws(played) == []
    release.at, release.told_at = 1_011.0, 1_011.1
    assert all_laws(played) == ["steering"]
    held.told_at = 0.0  # nobody heard that it was held
    assert all_laws(played) == []
    held.told_at, held.refused = 1_005.1, "worker 0: it cannot be read now"
    assert all_laws(played) == []


def test_what_only_waited_was_not_in_flight():
    played = case()
    order(played, "hold", in_flight=1)
    late = take(played, at=1_010.0, mail_at=1_005.0, worker="worker-0#2")
    assert all_laws(played) == []  # a connection had it in hand
    late.mail_at = 1_009.9
    assert all_laws(played) == ["steering"]
    played.book.refusals[BOB] = [Refusal(1_005.2, 450, "rcpt", "mx0", [1_005.3])]
    assert all_laws(played) == []  # it was in hand, and put off
    played.book.refusals.clear()
    other = order(played, "flush", at=1_004.9)
    assert all_laws(played) == []  # the other had it in hand
    other.at, other.told_at = 1_000.0, 1_000.1
    assert all_laws(played) == ["steering"]
    crash(played, 1_002.0)
    assert all_laws(played) == ["steering"]
    crash(played, 1_007.0)
    assert all_laws(played) == []  # it was in hand, and is tried again
    played.book.crashes.clear()
    played.book.stops.append(Crash(1_006.0, "process", "somewhere", ("worker-1#1",), ""))
    assert all_laws(played) == []  # an adoption may have had it


def test_what_the_dead_had_sent_may_arrive_after_a_hold():
    played = case()
    order(played, "hold")
    take(played, at=1_010.0)
    crash(played, 1_011.0)
    assert all_laws(played) == ["steering"]
    crash(played, 1_004.0)
    assert all_laws(played) == []


def test_a_hold_of_others_says_nothing_of_it():
    played = case()
    order(played, "hold", of="domain", what="d1.example")
    order(played, "hold", of="id", what="0000000000001")
    take(played, at=1_010.0)
    assert all_laws(played) == []


def test_what_somebody_deleted_does_not_go_and_has_its_row():
    played = case()
    deleted = order(played, "delete", recipients=1)
    played.image.drops.append(Drop(1, BOB, "queue delete by person1", EPOCH + 5.05))
    assert all_laws(played) == []
    take(played, at=1_010.0)
    assert all_laws(played) == ["steering"]
    played.book.takes.clear()
    deleted.recipients = 2
    assert all_laws(played) == ["steering"]
    deleted.recipients = 0
    assert all_laws(played) == ["steering"]
    deleted.told_at = 0.0
    assert all_laws(played) == []


@pytest.mark.parametrize(
    "changes", [{"who": "person2"}, {"at": 1_006.0}, {"what": ANN}, {"verb": "bounce"}], ids=lambda one: str(one)
)
def test_a_row_of_what_nobody_deleted_is_a_lie(changes):
    played = case()
    asked = order(played, "delete", recipients=1, told_at=0.0)
    played.image.drops.append(Drop(1, BOB, "queue delete by person1", EPOCH + 5.05))
    for name, value in changes.items():
        setattr(asked, name, value)
    assert "drop" in all_laws(played)


def test_what_somebody_returned_is_reported_if_anybody_wants_to_know():
    played = case()
    report(played)
    assert all_laws(played) == ["report without cause"]
    order(played, "bounce")
    assert all_laws(played) == []
    played.book.orders[0].at = 1_020.0
    assert all_laws(played) == ["report without cause"]
    played.book.takes.clear()
    played.book.orders[0].at = 1_005.0
    played.image.drops.append(Drop(1, BOB, BY_HAND, EPOCH + 5.05))
    assert all_laws(played) == ["drop"]
    played.book.sent["t", 0].notify = "NEVER"
    assert all_laws(played) == []
    played.book.orders.clear()
    assert all_laws(played) == ["drop"]


def test_a_suspended_destination_gets_nothing():
    played = case()
    suspended = order(played, "suspend", of="", what="d0.example")
    taken = take(played, at=1_010.0, mail_at=1_009.9)
    assert all_laws(played) == ["steering"]
    suspended.what = "mx:mx0"
    assert all_laws(played) == ["steering"]
    taken.mail_at = 1_005.5  # it was under way
    assert all_laws(played) == []
    taken.mail_at = 1_009.9
    suspended.until = 1_008.0
    assert all_laws(played) == []
    suspended.until = 0.0
    order(played, "resume", of="", what="mx:mx0", at=1_008.0)
    assert all_laws(played) == []


def test_a_reload_holds_for_all_that_comes_later():
    played = case()
    reload = order(played, "reload", of="", what="reload", at=990.0, terms=Terms(routes=(("d0.example", "discard"),)))
    take(played)
    assert all_laws(played) == ["route"]
    reload.told_at = 1_000.5  # the message came while workers switched
    assert all_laws(played) == []
    reload.told_at, reload.refused = 990.1, "a certificate cannot be read"
    assert all_laws(played) == []
    played.book.takes.clear()
    played.image.drops.append(Drop(1, BOB, "route:d0.example", EPOCH + 5.05))
    assert all_laws(played) == ["drop"]  # none must have reloaded
    reload.refused = ""
    assert all_laws(played) == []


def test_a_report_of_expiry_needs_the_shortest_that_was_in_force():
    played = case()
    report(played)
    played.book.takes[0].at = 1_400.0
    assert all_laws(played) == ["report without cause"]
    order(played, "reload", of="", what="reload", at=1_100.0, terms=Terms(expire=300.0))
    assert all_laws(played) == []


def test_limits_are_those_that_may_have_been_in_force():
    played = case()
    played.plan = msgspec.structs.replace(
        played.plan, peers=(msgspec.structs.replace(PEER, domains=("d0.example",)),), connections=5
    )
    take(played)
    played.book.held = [(1_100.0, "mx0", 5)]
    assert all_laws(played) == []
    played.book.held = [(1_100.0, "mx0", 6)]
    assert all_laws(played) == ["limit"]
    tighter = order(played, "reload", of="", what="reload", at=1_010.0, terms=Terms(connections=2))
    played.book.held = [(1_020.0, "mx0", 5)]  # begun before
    assert all_laws(played) == []
    played.book.held = [(1_100.0, "mx0", 3)]
    assert all_laws(played) == ["limit"]
    played.book.orders.remove(tighter)
    order(played, "override", of="", what="mx:mx0", at=1_010.0, connections=2)
    assert all_laws(played) == ["limit"]
    played.book.orders[0].until = 1_090.0
    assert all_laws(played) == []
    order(played, "override", of="", what="mx:mx0", at=1_095.0, connections=8)
    played.book.held = [(1_100.0, "mx0", 8)]
    assert all_laws(played) == []
