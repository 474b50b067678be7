"""The judge on made-up evidence about what a disk cannot have known: each allowance, and where it ends."""

from __future__ import annotations

import msgspec
import pytest
from tests.sim.evidence import (
    ANN,
    BOB,
    REPORT,
    SYNC_FAILED,
    case,
    crash,
    deferred,
    delivered,
    half_taken,
    laws,
    report,
    take,
    tell,
)

from postroad.core.facts import Transferred
from postroad.core.ids import format_id
from postroad.testing.sim.book import Crash, Refusal
from postroad.testing.sim.disk_image import Drop
from postroad.testing.sim.house import EPOCH
from postroad.testing.sim.judge_ids import number_of
from postroad.testing.sim.world import Played

OTHERS = SYNC_FAILED.replace("shard-0", "shard-1")
CONTENT = "write /data/shard-0/bodies/0p1p1: Input/output error"
DIRECTORY = "sync_directory /data/shard-0: Input/output error"
STORE = format_id(REPORT | 1 << 14)
"""Of a message that shard 1 took."""


# --- trouble ---


@pytest.mark.parametrize(
    ("troubles", "end", "is_excused"),
    [
        ([(1_002.0, SYNC_FAILED)], 1_012.9, True),  # the next try may still be due
        ([(1_002.0, DIRECTORY)], 1_012.9, True),
        ([(1_002.0, SYNC_FAILED)], 1_014.0, False),  # open again, and recorded
        ([(1_002.0, OTHERS)], 1_002.5, False),
        ([(1_002.0, CONTENT)], 1_002.5, False),  # of which only its message needs it
        ([(1_002.0, SYNC_FAILED), (1_012.0, CONTENT)], 1_022.0, False),  # that does not keep it shut
        ([(1_002.0, SYNC_FAILED), (1_012.0, OTHERS)], 1_022.0, False),
        ([(1_002.0, SYNC_FAILED), (1_012.0, SYNC_FAILED), (1_022.0, DIRECTORY)], 1_032.0, True),
        ([(1_002.0, SYNC_FAILED), (1_014.0, SYNC_FAILED)], 1_014.5, False),  # new trouble
        ([(1_002.0, SYNC_FAILED), (1_012.0, "slow for 40.000 s")], 1_052.0, True),
        ([(992.0, SYNC_FAILED)], 1_002.9, True),
        ([(990.0, SYNC_FAILED)], 1_002.9, False),  # over when it was delivered
        ([(1_002.19, SYNC_FAILED)], 1_002.5, True),
        ([(1_002.3, SYNC_FAILED)], 1_002.5, False),  # it was recorded before
        ([(1_300.0, SYNC_FAILED)], 1_400.0, False),
        ([(1_002.0, "slow for 5.000 s")], 1_007.05, True),
        ([(1_002.0, "slow for 5.000 s")], 1_008.0, False),
        ([(1_300.0, "slow for 0.050 s")], 1_300.02, False),
        ([(1_002.15, "slow until here")], 1_002.5, False),
    ],
)
@pytest.mark.parametrize("is_stop", [False, True])
def test_trouble_excuses_what_its_shard_could_not_record_until_its_end(troubles, end, is_excused, is_stop):
    played = case()
    take(played)
    take(played, at=1_500.0)
    played.troubles.extend(troubles)
    ends = played.book.stops if is_stop else played.book.crashes
    ends.append(Crash(end, "stop" if is_stop else "process", "somewhere", ("worker-0#1",), ""))
    assert laws(played) == ([] if is_excused else ["doubled"])
    ends[0] = Crash(end, "stop", "somewhere", ("worker-0#2",), "")  # another's
    assert laws(played) == ["doubled"]


def test_what_was_delivered_while_a_relay_stopped_is_recorded_unless_the_disk_is_in_trouble():
    played = case()
    take(played)
    take(played, at=1_500.0)
    played.book.stops.append(Crash(1_001.5, "stop", "in order", ("worker-0#1",), ""))
    assert laws(played) == ["doubled"]
    played.troubles.append((1_002.05, SYNC_FAILED))
    assert laws(played) == []
    played.book.starts.append((1_001.9, "worker-0#2"))  # the stop was over before
    assert laws(played) == ["doubled"]


@pytest.mark.parametrize(("why", "found"), [(SYNC_FAILED, []), (OTHERS, ["refused"]), (CONTENT, ["refused"])])
def test_a_failed_sync_keeps_only_what_it_was_for(why, found):
    played = case(code=451)
    take(played, at=1_500.0)
    played.troubles.append((1_001.05, why))
    crash(played, 1_005.0)
    assert laws(played) == found
    played.troubles[0] = (1_001.05, "slow for 1.000 s")  # nothing failed
    assert laws(played) == ["refused"]


def test_what_a_worker_dropped_is_forgotten_only_by_its_own_end():
    played = case(notify="NEVER")
    take(played)
    played.image.drops.append(Drop(1, BOB, "notify-never", EPOCH + 9.2))
    played.book.refusals[BOB] = [Refusal(1_009.0, 550, "rcpt", "mx0", [1_009.1])]
    played.book.crashes.append(Crash(1_002.12, "process", "somewhere", ("worker-1#1",), ""))
    assert laws(played) == ["delivered and dropped"]
    crash(played, 1_002.12)
    assert laws(played) == []


# --- an attempt that goes on ---


def taken_again() -> Played:
    """A host took it for one, and put off the other; the worker died 6 s later; the next host took it for both."""
    played = half_taken()
    take(played, BOB, ANN, at=1_050.0, peer="mx1", worker="worker-0#2")
    return played


def test_an_attempt_goes_on_for_those_who_were_put_off():
    assert laws(taken_again()) == []


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(1_001.6, 550, "rcpt", "mx0", [1_001.7]),  # nobody else is asked
        Refusal(1_001.6, 450, "dot", "mx0", [1_001.7]),
        Refusal(1_001.6, 450, "rcpt", "mx1", [1_001.7]),
        Refusal(1_000.9, 450, "rcpt", "mx0", [1_001.0]),  # by another attempt
        Refusal(1_003.6, 450, "rcpt", "mx0", [1_003.7]),
    ],
)
def test_an_attempt_is_over_where_nobody_was_put_off_by_it(refusal):
    played = taken_again()
    played.book.refusals[ANN] = [refusal]
    assert laws(played) == ["doubled"]


def test_an_attempt_is_over_where_there_is_no_next_host():
    played = taken_again()
    played.plan = msgspec.structs.replace(played.plan, peers=played.plan.peers[:1])
    assert laws(played) == ["doubled"]


@pytest.mark.parametrize(("at", "found"), [(5.0, ["doubled"]), (7.95, []), (9.0, [])])
def test_an_attempt_is_over_when_it_is_told_and_recorded_right_after(at, found):
    played = taken_again()
    tell(played, deferred(at))
    assert laws(played) == found


@pytest.mark.parametrize(("at", "found"), [(1_690.0, []), (1_710.0, ["doubled"])])
def test_an_attempt_is_over_some_day(at, found):
    played = taken_again()
    played.book.crashes.clear()
    played.book.takes[-1].at = 1_800.0
    crash(played, at)
    assert laws(played) == found


def test_what_a_host_took_while_another_was_waited_for_is_recorded_by_a_stop_unless_the_disk_is_in_trouble():
    played = taken_again()
    played.book.crashes.clear()
    played.book.stops.append(Crash(1_007.0, "stop", "in order", ("worker-0#1",), ""))
    tell(played, delivered(9.0))
    assert laws(played) == ["doubled"]
    played.troubles.append((1_008.5, SYNC_FAILED))
    assert laws(played) == []
    played.facts.clear()  # nothing says that it was known so late
    assert laws(played) == ["doubled"]
    tell(played, delivered(9.0))
    played.book.refusals.clear()  # nobody else was waited for
    assert laws(played) == ["doubled"]


# --- two shards ---


def moved() -> Played:
    """A message of shard 1 came into shard 0, whose worker died right then; then there were two workers once more."""
    played = case()
    played.book.sent["t", 0].name = STORE
    played.plan = msgspec.structs.replace(played.plan, resizes=((5.0, 1), (9.0, 2)))
    tell(played, transferred())
    played.book.crashes.append(Crash(1_006.01, "process", "somewhere", ("worker-0#2",), ""))
    take(played, at=1_008.0, worker="worker-0#3")
    take(played, at=1_010.0, worker="worker-1#4")
    return played


def transferred(at: float = 6.0, *, source: int = 1, target: int = 0) -> Transferred:
    return Transferred(at=EPOCH + at, message=number_of(STORE), from_shard=source, to_shard=target, recipients=1)


def test_a_parcel_comes_twice_by_a_crash_between_two_commits_and_another_number_of_workers():
    assert laws(moved()) == []


def test_parcels_move_while_the_relay_stops_for_another_number_of_workers():
    played = moved()
    played.plan = msgspec.structs.replace(played.plan, resizes=((5.0, 1), (5.5, 2)))
    assert laws(played) == ["doubled"]  # that was before the parcel
    played.book.stops.append(Crash(1_005.5, "stop", "", ("worker-0#2",), ""))
    played.book.starts.append((1_007.0, "worker-0#3"))
    assert laws(played) == []


def test_a_move_that_its_crash_kept_from_being_told_may_make_two_of_one_as_well():
    played = moved()
    played.facts.clear()
    assert laws(played) == []
    played.book.crashes[0] = Crash(1_006.01, "process", "somewhere", ("worker-1#1",), "")  # another's
    assert laws(played) == ["doubled"]
    played.book.crashes[0] = Crash(1_009.01, "process", "somewhere", ("worker-0#2",), "")  # then nobody else came
    assert laws(played) == ["doubled"]
    played.book.crashes.clear()
    played.book.stops.append(Crash(1_006.01, "stop", "in order", ("worker-0#2",), ""))
    assert laws(played) == ["doubled"]
    played.troubles.append((1_006.01, SYNC_FAILED))  # kept, and nobody knew
    assert laws(played) == []
    played.troubles[0] = (1_006.01, OTHERS)
    assert laws(played) == ["doubled"]
    played.book.takes[0].worker = "worker-1#2"  # both by the shard that took it
    assert laws(played) == ["doubled"]


@pytest.mark.parametrize(
    "crash",
    [
        None,
        Crash(1_006.5, "process", "somewhere", ("worker-0#2",), ""),  # the source had removed it
        Crash(1_005.9, "process", "somewhere", ("worker-0#1",), ""),
        Crash(1_006.01, "process", "somewhere", ("worker-2#2",), ""),  # another's
        Crash(1_006.01, "ledger", "somewhere", (), ""),
    ],
)
def test_a_parcel_comes_once_without_a_crash_between_the_two_commits(crash):
    played = moved()
    played.book.crashes[:] = [] if crash is None else [crash]
    assert laws(played) == ["doubled"]


@pytest.mark.parametrize(
    ("trouble", "end", "found"),
    [
        ((1_006.01, OTHERS), 1_036.0, []),
        ((1_006.01, OTHERS), 1_038.0, ["doubled"]),  # it was taken up again
        ((1_006.01, OTHERS), None, ["doubled"]),
        ((1_006.01, SYNC_FAILED), 1_036.0, ["doubled"]),  # the target's, which had committed
        ((1_006.5, OTHERS), 1_036.0, ["doubled"]),
        ((1_005.5, "slow for 1.000 s"), 1_006.55, []),
        ((1_005.5, "slow for 1.000 s"), 1_007.0, ["doubled"]),
    ],
)
@pytest.mark.parametrize("is_stop", [False, True])
def test_a_parcel_comes_twice_by_trouble_of_its_source_until_its_worker_ended(trouble, end, found, is_stop):
    played = moved()
    played.book.crashes.clear()
    played.troubles.append(trouble)
    played.plan = msgspec.structs.replace(played.plan, resizes=((5.0, 1), (39.0, 2)))
    played.book.takes[0].at, played.book.takes[1].at = 1_008.0, 1_040.0
    ends = played.book.stops if is_stop else played.book.crashes
    ends += [] if end is None else [Crash(end, "stop" if is_stop else "process", "somewhere", ("worker-0#2",), "")]
    assert laws(played) == found


@pytest.mark.parametrize("resizes", [((5.0, 1),), ((5.0, 1), (12.0, 2)), ((3.0, 2), (5.0, 1))])
def test_a_parcel_comes_once_without_another_number_of_workers_in_between(resizes):
    played = moved()
    played.plan = msgspec.structs.replace(played.plan, resizes=resizes)
    assert laws(played) == ["doubled"]


def test_a_parcel_comes_twice_only_from_its_two_shards():
    played = moved()
    played.book.takes[0].at, played.book.takes[0].reply_at = 1_004.0, 1_004.1  # before it had come there
    assert laws(played) == ["doubled"]
    played = moved()
    played.book.takes[1].worker = "worker-0#3"
    assert laws(played) == ["doubled"]
    played.book.takes[1].worker = "worker-2#5"
    assert laws(played) == ["doubled"]
    tell(played, transferred(9.5, source=1, target=2))  # it has the source now
    assert laws(played) == []
    played.facts[-1] = (1_009.5, transferred(9.5, source=0, target=2))  # it has what had come there
    assert laws(played) == ["doubled"]


def test_two_shards_may_tell_the_same_by_two_reports():
    played = moved()
    played.book.takes.clear()
    played.book.refusals[BOB] = [Refusal(1_003.0, 550, "rcpt", "mx0", [1_003.1])]
    at = REPORT + (4_000 << 22)  # 1,009.2
    report(played, at=1_012.0, name=f"<{format_id(at)}@relay>")
    report(played, at=1_012.0, name=f"<{format_id(at | 1 << 14)}@relay>")
    assert laws(played) == []
    played.book.crashes.clear()
    assert laws(played) == ["told twice"]
