"""The judge on made-up evidence about messages: each law is broken once, and he says which."""

from __future__ import annotations

import msgspec
import pytest
from tests.sim.evidence import (
    ANN,
    BOB,
    PEER,
    REPORT,
    SENDER,
    SYNC_FAILED,
    bounced,
    case,
    crash,
    laws,
    order,
    report,
    store,
    take,
)

from postroad.core.facts import Reported
from postroad.core.ids import format_id
from postroad.testing.sim.book import Crash, Refusal
from postroad.testing.sim.disk_image import Drop
from postroad.testing.sim.house import EPOCH
from postroad.testing.sim.world import Played


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


def test_another_host_is_asked_at_once_only_if_nobody_remembers_the_first():
    played = case()
    take(played, reply_at=0.0)
    take(played, at=1_002.5, peer="mx1", worker="worker-0#2")
    assert laws(played) == ["doubled"]
    played.book.stops.append(Crash(1_001.0, "stop", "", ("worker-0#1",), ""))
    played.book.starts.append((1_002.2, "worker-0#2"))
    assert laws(played) == []  # it was cut off by a stop
    played.book.starts[-1] = (1_001.5, "worker-0#2")
    assert laws(played) == ["doubled"]  # that was over before


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


def told_again(**changes: object) -> Played:
    """A report that came, and 5 s later another, or itself."""
    played = case()
    played.book.refusals[BOB] = [Refusal(1_003.0, 550, "rcpt", "mx0", [1_003.1])]
    report(played, name=f"<{format_id(REPORT)}@relay>")
    report(played, **({"name": f"<{format_id(REPORT)}@relay>", "at": 1_015.0} | changes))
    return played


def test_the_same_is_not_told_by_two_reports():
    assert laws(told_again(name="<another@relay>")) == ["told twice"]
    assert laws(told_again(name=f"<{format_id(REPORT + 1)}@relay>")) == ["told twice"]


def test_a_report_comes_twice_only_if_a_reply_was_lost_or_forgotten():
    played = told_again()
    assert laws(played) == ["doubled"]
    crash(played, 1_012.0)  # long after its record was due
    assert laws(played) == ["doubled"]
    played.book.crashes.clear()
    crash(played, 1_010.15)
    assert laws(played) == []
    played = told_again()
    played.book.takes[0].reply_at = 0.0
    assert laws(played) == []
    played = told_again(recipients=("s2.t.0@home.example",))  # to another, who may hear it too
    played.book.sent["t", 0].sender = "s2.t.0@home.example"
    assert "doubled" not in laws(played)


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


def untold_report() -> Played:
    """A report on two recipients that was dropped, and of which nobody told; but it was told that both had failed."""
    played = case(recipients=(BOB, ANN))
    played.image.drops.append(Drop(REPORT, SENDER, "null-sender", EPOCH + 38.2))
    for address in (BOB, ANN):
        played.book.refusals[address] = [Refusal(1_005.0, 550, "rcpt", "mx0", [1_005.05])]
        played.facts.append((1_005.1, bounced(5.1, address)))
    played.book.refusals[SENDER] = [Refusal(1_038.0, 550, "rcpt", "mx0", [1_038.1])]
    return played


@pytest.mark.parametrize(
    ("died_at", "worker", "troubles", "found"),
    [
        (1_005.25, "worker-0#1", [], []),  # between its commit and its fact
        (1_005.25, "worker-1#1", [], ["LOST", "LOST"]),  # another shard's
        (1_005.15, "worker-0#1", [], ["LOST", "LOST"]),  # before it was made
        (1_007.5, "worker-0#1", [], ["LOST", "LOST"]),  # long after it was told of
        (1_007.5, "worker-0#1", [(1_005.1, "slow for 2.500 s")], []),  # its commit may have taken as long
        (1_007.5, "worker-0#1", [(1_005.25, SYNC_FAILED)], []),
        (1_016.0, "worker-0#1", [(1_005.25, SYNC_FAILED)], []),  # perhaps not yet open again
        (1_016.5, "worker-0#1", [(1_005.25, SYNC_FAILED)], ["LOST", "LOST"]),
        (1_007.5, "worker-0#1", [(1_007.0, SYNC_FAILED)], ["LOST", "LOST"]),
    ],
)
def test_a_report_that_nobody_told_of_is_one_whose_worker_died_right_after_it_was_made(
    died_at, worker, troubles, found
):
    played = untold_report()
    played.troubles.extend(troubles)
    played.book.crashes.append(Crash(died_at, "process", "somewhere", (worker,), ""))
    assert laws(played) == found


@pytest.mark.parametrize(
    ("begin", "end", "troubles", "found"),
    [
        (1_004.0, 1_005.3, [(1_005.25, SYNC_FAILED)], []),
        (1_004.0, 1_005.3, [], ["LOST", "LOST"]),  # a stop in order lets it be told
        (1_004.0, 1_005.1, [(1_005.25, SYNC_FAILED)], ["LOST", "LOST"]),  # it was over before
        (1_010.0, 1_011.0, [(1_005.25, SYNC_FAILED)], []),
        (1_016.5, 1_017.0, [(1_005.25, SYNC_FAILED)], ["LOST", "LOST"]),  # it was open again, and told
    ],
)
def test_a_report_is_told_of_before_a_stop_unless_the_disk_is_in_trouble(begin, end, troubles, found):
    played = untold_report()
    played.troubles.extend(troubles)
    played.book.stops.append(Crash(begin, "stop", "in order", ("worker-0#1",), ""))
    played.book.starts.append((end, "worker-0#2"))
    assert laws(played) == found


def test_a_report_that_nobody_told_of_told_of_those_who_had_failed_and_whom_no_other_tells_of():
    played = untold_report()
    crash(played, 1_005.25)
    assert laws(played) == []
    played.facts[1] = (1_009.0, bounced(9.0, ANN))  # later
    assert laws(played) == ["LOST"]
    played.facts[1] = (1_005.1, bounced(5.1, ANN))
    told = Reported(at=EPOCH + 5.15, message=1, report=REPORT - 1, action="failed", to=SENDER, recipients=(ANN,))
    played.facts.append((1_005.15, told))
    assert laws(played) == ["LOST"]
    played.facts[-1] = (1_005.15, msgspec.structs.replace(told, action="delayed"))
    assert laws(played) == []


def test_who_wants_to_hear_of_a_success_hears_of_it():
    played = case(notify="SUCCESS,FAILURE")
    take(played)
    assert laws(played) == ["report"]
    report(played, "relayed")
    assert laws(played) == []
    played.book.takes.pop()
    report(played, "delayed")
    assert laws(played) == ["report"]
    played.book.takes.pop()
    played.plan = msgspec.structs.replace(played.plan, peers=(msgspec.structs.replace(PEER, dsn=True),))
    assert laws(played) == []  # the host tells
    played.book.takes.clear()
    store(played)
    assert laws(played) == ["report"]
    played.image.drops.append(Drop(REPORT, SENDER, "null-sender", EPOCH + 6.2))
    played.book.refusals[SENDER] = [Refusal(1_006.0, 550, "rcpt", "mx0", [1_006.1])]
    told = Reported(at=EPOCH + 5.2, message=1, report=REPORT, action="delivered", to=SENDER, recipients=(BOB,))
    played.facts.append((1_005.2, told))
    assert laws(played) == []
    played.facts[-1] = (1_005.2, msgspec.structs.replace(told, recipients=(ANN,)))
    assert laws(played) == ["report"]


def test_what_was_delivered_is_reported_as_failed_only_if_that_was_forgotten():
    played = case()
    take(played)
    report(played)
    played.book.refusals[BOB] = [Refusal(1_009.0, 550, "rcpt", "mx0", [1_009.1])]
    assert laws(played) == ["delivered and reported as failed"]
    for at in (1_004.0, 1_012.0):  # long after its record was due; after the report
        crash(played, at)
        assert laws(played) == ["delivered and reported as failed"]
    played.book.crashes.clear()
    crash(played, 1_002.12)
    assert laws(played) == []


def test_what_was_delivered_is_dropped_only_if_that_was_forgotten():
    played = case(notify="NEVER")
    take(played)
    played.image.drops.append(Drop(1, BOB, "notify-never", EPOCH + 9.2))
    played.book.refusals[BOB] = [Refusal(1_009.0, 550, "rcpt", "mx0", [1_009.1])]
    assert laws(played) == ["delivered and dropped"]
    crash(played, 1_004.0)
    assert laws(played) == ["delivered and dropped"]
    played.book.crashes.clear()
    crash(played, 1_002.12)
    assert laws(played) == []


def test_what_was_delivered_may_be_deleted_while_its_report_of_success_is_due():
    played = case()
    take(played)
    order(played, "delete", recipients=1)
    played.image.drops.append(Drop(1, BOB, "queue delete by person1", EPOCH + 5.05))
    assert laws(played) == ["delivered and dropped"]
    played.book.sent["t", 0].notify = "SUCCESS"
    assert laws(played) == []


def test_what_a_host_took_does_not_lie_in_a_maildir_too():
    played = case()
    store(played, at=1_002.0)
    assert laws(played) == []
    first = take(played, at=1_005.0)
    assert laws(played) == ["doubled"]
    first.reply_at = 0.0
    assert laws(played) == []
    first.reply_at = 1_005.1
    crash(played, 1_003.0)
    assert laws(played) == ["doubled"]
    crash(played, 1_002.05)  # before it was recorded
    assert laws(played) == []
    played.book.crashes.clear()
    played.facts.clear()
    assert laws(played) == ["doubled"]
    played.troubles.append((1_002.0, "sync_directory: Input/output error"))  # with the file in place
    assert laws(played) == []


def test_what_a_failed_sync_had_kept_may_arrive_if_it_was_not_opened_again():
    played = case(code=451)
    take(played, at=1_500.0)
    played.troubles += [(1_001.05, SYNC_FAILED), (1_011.0, "slow for 400.000 s")]
    assert laws(played) == ["refused"]
    crash(played, 1_405.0)
    assert laws(played) == []
    played.troubles.pop()
    assert laws(played) == ["refused"]


@pytest.mark.parametrize(
    ("begin", "end", "found"),
    [
        (1_000.5, 1_001.3, []),  # it was going on when the client was refused
        (1_000.5, 1_000.9, ["refused"]),  # it was over
        (1_005.0, 1_040.0, []),
        (1_030.0, 1_040.0, ["refused"]),  # the disk was well again by then
    ],
)
def test_what_a_failed_sync_had_kept_may_arrive_if_its_worker_was_stopped_before_it_was_opened_again(begin, end, found):
    played = case(code=451)
    take(played, at=1_500.0)
    played.troubles.append((1_001.05, SYNC_FAILED))
    assert laws(played) == ["refused"]
    played.book.starts.extend([(1_000.0, "worker-0#1"), (end, "worker-0#2")])
    played.book.stops.append(Crash(begin, "stop", "in order", ("worker-0#1",), ""))
    assert laws(played) == found
    played.book.stops[0] = Crash(begin, "stop", "in order", ("worker-1#1",), "")  # another's
    assert laws(played) == ["refused"]


def test_content_does_not_come_behind_a_reset_that_was_refused():
    played = case()
    take(played)
    assert laws(played) == []
    played.book.unheard.append((1_002.0, "mx0"))
    assert laws(played) == ["unheard"]
