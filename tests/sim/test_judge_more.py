"""The judge on made-up evidence about limits and times: each law is broken once, and he says which."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from tests.sim.evidence import (
    ANN,
    BOB,
    PEER,
    SYNC_FAILED,
    broken,
    case,
    crash,
    order,
    take,
)

from postroad.testing.sim.book import Crash, Refusal, Silence
from postroad.testing.sim.chaos import Spell
from postroad.testing.sim.house import Ledger, Worker
from postroad.testing.sim.judge_more import look_at_rate, look_at_reuse, look_at_silences, look_at_times
from postroad.testing.sim.story import Terms
from postroad.testing.sim.teller import tell as told
from postroad.testing.sim.world import Played, World

# --- times and limits ---


def put_off(at: float = 1_002.0, *, again_at: float = 1_007.0) -> Played:
    """One recipient who was told to wait, and is tried again too early."""
    played = case()
    played.plan = msgspec.structs.replace(played.plan, peers=(msgspec.structs.replace(PEER, domains=("d0.example",)),))
    played.book.refusals[BOB] = [Refusal(at, 450, "rcpt", "mx0", [at + 0.1])]
    take(played, at=again_at)
    return played


def test_nobody_is_tried_before_his_time():
    assert broken(put_off(), look_at_times) == 1
    assert broken(put_off(again_at=1_022.0), look_at_times) == 0


def test_the_last_try_is_on_the_deadline_by_the_wall_clock():
    expire = put_off().plan.expire
    played = put_off(again_at=1_001.0 + expire - 30.0)
    played.book.refusals[BOB][0] = Refusal(1_001.0 + expire - 40.0, 450, "rcpt", "mx0", [1_001.0 + expire - 39.9])
    assert broken(played, look_at_times) == 1
    for jump, found in (((expire - 100.0, 30.0), 0), ((expire - 100.0, 20.0), 1), ((0.5, 30.0), 1)):
        played.plan = msgspec.structs.replace(played.plan, jumps=(jump,))
        assert broken(played, look_at_times) == found


def test_a_crash_excuses_a_try_before_its_time_only_if_it_may_have_been_forgotten():
    played = put_off()
    crash(played, 1_003.0)  # long after it was recorded
    assert broken(played, look_at_times) == 1
    played.troubles.append((1_001.0, SYNC_FAILED))
    assert broken(played, look_at_times) == 0
    played.troubles.clear()
    played.book.crashes.clear()
    crash(played, 1_002.15)
    assert broken(played, look_at_times) == 0


def test_what_an_attempt_heard_is_recorded_when_it_is_over():
    played = put_off()
    played.book.sent["t", 0].recipients.append(ANN)
    crash(played, 1_005.05)
    assert broken(played, look_at_times) == 1
    take(played, ANN, at=1_004.9)  # by the same host, right after
    assert broken(played, look_at_times) == 0


def test_what_a_crash_broke_off_is_not_recorded_as_long_as_the_host_had_to_decide_on_another():
    played = put_off()
    played.book.sent["t", 0].recipients.append(ANN)
    crash(played, 1_003.05)
    assert broken(played, look_at_times) == 0
    played.book.refusals[ANN] = [Refusal(1_001.9, 450, "rcpt", "mx0", [1_002.0])]  # nobody was left to send it for
    assert broken(played, look_at_times) == 1
    played.book.refusals[ANN] = [Refusal(900.0, 550, "rcpt", "mx0", [900.1])]
    assert broken(played, look_at_times) == 1
    del played.book.refusals[ANN]
    take(played, ANN, at=1_001.0)
    assert broken(played, look_at_times) == 1


def test_a_stop_excuses_a_try_before_its_time_only_if_the_disk_was_in_trouble():
    played = put_off()
    played.book.stops.append(Crash(1_004.0, "process", "somewhere", ("worker-0#1",), ""))
    assert broken(played, look_at_times) == 1
    played.troubles.append((1_003.0, SYNC_FAILED))  # long after it was recorded
    assert broken(played, look_at_times) == 1
    played.troubles[0] = (1_002.05, SYNC_FAILED)
    assert broken(played, look_at_times) == 0
    played.troubles.clear()
    played.book.stops[0] = Crash(1_001.0, "process", "somewhere", ("worker-0#1",), "")  # the attempt was broken off
    assert broken(played, look_at_times) == 0


def waited(played: Played, seconds: float = 30.0, *, address: str = "10.0.0.1") -> Played:
    """A client that waits for so long, and hears nothing."""
    played.book.silences.append(Silence(1_001.0, 1_001.0 + seconds, "client", address, "worker-0#1"))
    return played


def test_whoever_waits_is_answered():
    assert broken(waited(case()), look_at_silences) == 1
    assert broken(waited(case(), 19.0), look_at_silences) == 0
    assert broken(waited(case(), address=PEER.address), look_at_silences) == 0  # may not be reached meanwhile


@pytest.mark.parametrize(("at", "found"), [(1_000.5, 0), (1_030.0, 0), (1_031.5, 1)])
def test_the_end_of_a_worker_excuses_its_silence(at, found):
    for ends in ("crashes", "stops"):
        played = waited(case())
        getattr(played.book, ends).append(Crash(at, "process", "somewhere", ("worker-1#2",), ""))
        assert broken(played, look_at_silences) == 1
        getattr(played.book, ends).append(Crash(at, "process", "somewhere", ("worker-0#1",), ""))
        assert broken(played, look_at_silences) == found


@pytest.mark.parametrize(
    ("troubles", "found"),
    [
        ([(1_001.0, "slow for 12.000 s")], 0),
        ([(1_001.0, "slow for 6.000 s"), (1_020.0, "slow for 600.000 s")], 0),
        ([(1_001.0, "slow for 6.000 s")], 1),
        ([(900.0, "slow for 100.000 s"), (1_031.0, "slow for 100.000 s")], 1),
        ([(1_001.0, SYNC_FAILED)], 1),
    ],
)
def test_a_slow_disk_excuses_silence_for_as_long_as_it_was_slow(troubles, found):
    played = waited(case())
    played.troubles += troubles
    assert broken(played, look_at_silences) == found


def test_a_connection_carries_as_many_messages_as_may_be_allowed():
    played = case()
    played.book.reused = [(1_100.0, "mx0", 20)]
    assert broken(played, look_at_reuse) == 0
    played.book.reused = [(1_100.0, "mx0", 21)]
    assert broken(played, look_at_reuse) == 1
    order(played, "reload", of="", what="reload", at=1_010.0, terms=Terms(messages_per_connection=100))
    assert broken(played, look_at_reuse) == 0
    played.book.orders[0].terms = Terms(messages_per_connection=5)
    played.book.reused = [(1_100.0, "mx0", 6)]
    assert broken(played, look_at_reuse) == 1
    played.plan = msgspec.structs.replace(played.plan, peers=(msgspec.structs.replace(PEER, slow=1.0),))
    assert broken(played, look_at_reuse) == 0  # it may have waited for the answer to RSET
    played.plan = case().plan
    played.book.reused = [(1_020.0, "mx0", 6)]  # it may have been kept before
    assert broken(played, look_at_reuse) == 0


@pytest.mark.parametrize(
    ("well_after", "habits", "found"),
    [
        (19.0, {"breaks_tls": 0.1}, 1),
        (21.0, {"breaks_tls": 0.1}, 0),
        (21.0, {"slow": 0.5}, 0),
        (21.0, {"down": ((1.0, 2.0),)}, 0),
        (21.0, {"dot_4xx": 0.5}, 1),  # nobody waits for that
        (1e9, {}, 1),
    ],
)
def test_a_rate_is_looked_at_once_no_token_of_bad_times_is_left(well_after, habits, found):
    played = case()
    peer = msgspec.structs.replace(PEER, domains=("d0.example",), well_after=well_after, **habits)
    played.plan = msgspec.structs.replace(played.plan, peers=(peer,), rate=2)
    for at in (1_050.0, 1_051.0, 1_052.0):
        take(played, at=at)
    assert broken(played, look_at_rate) == found
    played.plan = msgspec.structs.replace(played.plan, rate=3)
    assert broken(played, look_at_rate) == 0
    played.plan = msgspec.structs.replace(played.plan, rate=2, spells=(Spell("hang", 5.0, 600.0),))
    assert broken(played, look_at_rate) == found
    peers = (msgspec.structs.replace(peer, chunking=True),)
    chunks = msgspec.structs.replace(played.plan, peers=peers)
    assert broken(msgspec.structs.replace(played, plan=chunks), look_at_rate) == 0
    played.plan = msgspec.structs.replace(played.plan, spells=())
    played.book.takes[0].mail_at = 990.0  # its content was read for so long
    assert broken(played, look_at_rate) == 0


@pytest.mark.parametrize(
    ("last", "troubles", "found"),
    [
        (1_107.0, [], 1),
        (1_109.5, [], 0),
        (1_107.0, [(1_047.5, "slow for 1.400 s"), (1_049.2, "slow for 1.300 s")], 0),  # the content opened, and read
        (1_107.0, [(1_049.2, "slow for 0.500 s"), (1_047.5, "slow for 2.300 s")], 0),
        (1_107.0, [(1_048.5, "slow for 1.400 s")], 1),  # not for so long
        (1_107.0, [(1_047.5, "slow for 1.400 s")], 1),  # over when the token was granted
        (1_107.0, [(1_047.5, "slow for 0.400 s"), (1_049.2, "slow for 1.300 s")], 1),  # the first was over
        (1_107.0, [(1_050.5, "slow for 9.000 s")], 1),  # later
        (1_108.0, [(1_048.4, "slow until here"), (1_049.2, "read content: Input/output error")], 1),
        (1_078.0, [(1_010.0, "slow for 60.000 s")], 1),  # whatever was slow, a token is not so old
    ],
)
def test_what_the_disk_held_up_may_come_with_what_follows_it(last, troubles, found):
    played = case()
    peer = msgspec.structs.replace(PEER, domains=("d0.example",), well_after=10.0)
    played.plan = msgspec.structs.replace(played.plan, peers=(peer,), rate=2)
    played.troubles.extend(troubles)
    for at in (1_050.0, 1_051.0, last):
        take(played, at=at)
    assert broken(played, look_at_rate) == found


def test_a_rate_begins_anew_with_the_relay():
    played = case()
    peer = msgspec.structs.replace(PEER, domains=("d0.example",), well_after=10.0)
    played.plan = msgspec.structs.replace(played.plan, peers=(peer,), rate=2)
    for at in (1_050.0, 1_051.0, 1_080.0):
        take(played, at=at)
    played.book.stops.append(Crash(1_040.0, "stop", "in order", ("worker-0#1",), ""))
    played.book.starts.append((1_045.0, "worker-0#2"))
    assert broken(played, look_at_rate) == 1  # before them all
    played.book.starts[0] = (1_055.0, "worker-0#2")
    assert broken(played, look_at_rate) == 0


# --- what is left ---


@pytest.mark.parametrize(
    ("believed", "held", "found"),
    [
        ({0: {"to:a": 2}, 1: {"to:a": 1}}, {0: {"to:a": 2}, 1: {"to:a": 1}}, []),
        ({0: {"to:a": 2}}, {0: {"to:a": 1}}, ["worker-0 holds 1 connections of to:a, and the ledger says 2"]),
        ({1: {"to:a": 1}}, {0: {"to:a": 1}}, ["worker-1 holds 0 connections of to:a, and the ledger says 1"]),
        ({}, {0: {}, 1: {}}, []),
    ],
)
def test_what_the_ledger_believes_to_be_held_though_nobody_holds_it_is_a_leak(believed, held, found):
    world = World(told(3, letters=6))
    world.machine.ledger = cast("Ledger", SimpleNamespace(holds=believed))
    world.machine.workers = {slot: cast("Worker", SimpleNamespace(holds=counts)) for slot, counts in held.items()}
    assert world.machine.misbooked() == found
