"""The judge on made-up evidence about what people did: each law is broken once, and he says which."""

from __future__ import annotations

import msgspec
import pytest
from tests.sim.evidence import ANN, BOB, PEER, all_laws, case, crash, order, report, take

from postroad.core.ids import MessageId, format_id
from postroad.testing.sim.book import Crash, Refusal
from postroad.testing.sim.disk_image import Drop
from postroad.testing.sim.house import EPOCH
from postroad.testing.sim.judge_ids import shard_of
from postroad.testing.sim.judge_steering import BY_HAND
from postroad.testing.sim.network import Weather
from postroad.testing.sim.story import Terms


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
    calm = played.plan
    played.plan = msgspec.structs.replace(calm, weather=Weather(resets=0.01))
    assert all_laws(played) == []  # an attempt that was reset names nobody
    played.plan = calm
    assert all_laws(played) == ["steering"]
    crash(played, 1_004.0)
    played.book.stops, played.book.crashes = played.book.crashes, []
    assert all_laws(played) == []  # it was in hand when the relay stopped, and is tried again


def test_what_the_person_heard_is_not_reached_is_not_judged():
    played = case()
    played.plan = msgspec.structs.replace(played.plan, resizes=((4.0, 1),))
    held = order(played, "hold")
    take(played, at=1_010.0, worker="worker-0#2")
    assert all_laws(played) == ["steering"]  # all shards have a worker again, as he heard
    held.unreached = (1,)
    assert all_laws(played) == []  # nobody knows where the message was
    (sent,) = played.book.sent.values()
    sent.name = format_id(MessageId(2 << 14))
    held.unreached = (shard_of(2 << 14),)
    assert all_laws(played) == []
    held.unreached = (shard_of(2 << 14) + 1,)
    assert all_laws(played) == ["steering"]  # it was in another


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
    assert all_laws(played) == ["delivered and dropped", "steering"]
    played.book.takes.clear()
    deleted.recipients = 2
    assert all_laws(played) == ["steering"]
    deleted.recipients = 0
    assert all_laws(played) == ["steering"]
    deleted.told_at = 0.0
    assert all_laws(played) == []


def test_a_row_is_copied_by_a_shard_that_takes_over_another_which_goes_on_in_the_end():
    played = case()
    order(played, "delete", recipients=1)
    played.plan = msgspec.structs.replace(played.plan, workers=2)
    row = Drop(1, BOB, "queue delete by person1", EPOCH + 5.05)
    played.image.drops += [row, msgspec.structs.replace(row, shard=1)]
    assert all_laws(played) == ["steering"]
    played.plan = msgspec.structs.replace(played.plan, resizes=((9.0, 1), (19.0, 2)))
    assert all_laws(played) == []
    played.image.drops[0] = msgspec.structs.replace(row, at=EPOCH + 5.06)  # another row
    assert all_laws(played) == ["steering"]
    played.image.drops[0] = msgspec.structs.replace(row, shard=1)  # twice in one
    assert all_laws(played) == ["steering"]
    played.image.drops = [row, msgspec.structs.replace(row, shard=2)]  # of one that nobody took over
    played.plan = msgspec.structs.replace(played.plan, workers=4, resizes=((9.0, 3), (19.0, 4)))
    assert all_laws(played) == ["steering"]


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


@pytest.mark.parametrize(
    ("troubles", "found"),
    [
        ([(1_009.0, 85.0)], 0),
        ([(1_012.0, 85.0)], 1),  # begun when the new limit held
        ([(1_009.0, 40.0)], 1),  # over long before
        ([(1_099.0, 85.0)], 1),
        ([(1_009.0, 40.0), (1_045.0, 45.0)], 0),  # one after the other
    ],
)
def test_a_connection_is_begun_before_its_content_is_read_however_slowly(troubles, found):
    played = case()
    peers = (msgspec.structs.replace(PEER, domains=("d0.example",)),)
    played.plan = msgspec.structs.replace(played.plan, peers=peers, connections=5)
    take(played)
    order(played, "reload", of="", what="reload", at=1_010.0, terms=Terms(connections=2))
    played.book.held = [(1_100.0, "mx0", 5)]
    played.troubles.extend((at, f"slow for {seconds:.3f} s") for at, seconds in troubles)
    assert len(all_laws(played)) == found


@pytest.mark.parametrize(
    ("ledger_at", "worker_at", "seen_at", "found"),
    [
        (1_050.0, 1_052.0, 1_060.0, 0),
        (1_050.0, 1_058.0, 1_060.0, 1),  # the next ledger knew by then what it held
        (1_050.0, 1_049.0, 1_060.0, 1),  # the ledger lived, and counted it out
        (1_050.0, 1_052.0, 1_120.0, 1),  # long ago
        (1_050.0, 1_052.0, 1_051.0, 1),  # both had not died yet
    ],
)
def test_a_limit_may_be_exceeded_where_a_worker_died_while_there_was_no_ledger(ledger_at, worker_at, seen_at, found):
    played = case()
    peers = (msgspec.structs.replace(PEER, domains=("d0.example",)),)
    played.plan = msgspec.structs.replace(played.plan, peers=peers, connections=2)
    take(played)
    played.book.crashes.append(Crash(ledger_at, "ledger", "somewhere", (), ""))
    played.book.held = [(seen_at, "mx0", 5)]
    assert len(all_laws(played)) == 1
    crash(played, worker_at)
    assert len(all_laws(played)) == found


@pytest.mark.parametrize(("worker_at", "found"), [(1_049.0, 1), (1_052.0, 0), (1_058.0, 0), (1_064.0, 1)])
def test_a_ledger_that_hangs_does_not_know_of_a_worker_that_dies_meanwhile(worker_at, found):
    played = case()
    peers = (msgspec.structs.replace(PEER, domains=("d0.example",)),)
    played.plan = msgspec.structs.replace(played.plan, peers=peers, connections=2)
    take(played)
    played.book.hangs.append((1_050.0, 8.0))
    played.book.held = [(1_070.0, "mx0", 5)]
    assert len(all_laws(played)) == 1, "a hang alone excuses nothing"
    crash(played, worker_at)
    assert len(all_laws(played)) == found
