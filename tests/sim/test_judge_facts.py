"""The judge on made-up evidence about facts: each law is broken once, and he says which."""

from __future__ import annotations

import msgspec
import pytest
from tests.sim.evidence import (
    ANN,
    BOB,
    PEER,
    REPORT,
    SENDER,
    bounced,
    broken,
    case,
    crash,
    deferred,
    half_taken,
    report,
    tell,
)

from postroad.core.facts import Dropped, Reported
from postroad.core.ids import format_id
from postroad.testing.sim.book import Refusal
from postroad.testing.sim.disk_image import Drop
from postroad.testing.sim.house import EPOCH
from postroad.testing.sim.judge_facts import (
    look_at_delivered,
    look_at_dropped,
    look_at_ended,
    look_at_made,
    look_at_reported,
)
from postroad.testing.sim.judge_steering import BY_HAND


def test_what_was_delivered_is_told_unless_its_worker_died_before_the_attempt_was_over():
    assert broken(half_taken(), look_at_delivered) == 0
    played = half_taken()
    played.book.crashes.clear()
    assert broken(played, look_at_delivered) == 1
    crash(played, 1_002.5)  # before it was told
    assert broken(played, look_at_delivered) == 0


@pytest.mark.parametrize(("at", "found"), [(5.0, 1), (9.0, 0)])
def test_an_attempt_is_over_when_it_tells_of_those_who_were_put_off(at, found):
    played = half_taken()
    tell(played, deferred(at))
    assert broken(played, look_at_delivered) == found


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
def test_an_attempt_goes_on_only_for_those_who_were_put_off_by_it(refusal):
    played = half_taken()
    played.book.refusals[ANN] = [refusal]
    assert broken(played, look_at_delivered) == 1


def test_an_attempt_goes_on_only_where_there_is_a_next_host():
    played = half_taken()
    played.plan = msgspec.structs.replace(played.plan, peers=(PEER,))
    assert broken(played, look_at_delivered) == 1


def test_each_drop_has_its_fact_and_each_fact_its_row():
    played = case()
    fact = Dropped(at=EPOCH + 5.0, message=1, number=0, recipient=BOB, rule="route:d0.example")
    tell(played, fact)
    assert broken(played, look_at_dropped) == 1
    played.image.drops.append(Drop(1, BOB, "route:d0.example", EPOCH + 5.05))
    assert broken(played, look_at_dropped) == 0
    for changes in ({"message": 2}, {"recipient": ANN}, {"rule": "null-sender"}):
        played.facts[0] = (1_005.0, msgspec.structs.replace(fact, **changes))
        assert broken(played, look_at_dropped) == 2
    played.facts.clear()
    assert broken(played, look_at_dropped) == 1
    crash(played, 1_005.1)  # it is told before it is recorded
    assert broken(played, look_at_dropped) == 1


def test_a_drop_that_was_told_is_on_the_disk_unless_a_crash_came_first():
    played = case()
    tell(played, Dropped(at=EPOCH + 5.0, message=1, number=0, recipient=BOB, rule="route:d0.example"))
    crash(played, 1_005.2)
    assert broken(played, look_at_dropped) == 1
    crash(played, 1_005.05)
    assert broken(played, look_at_dropped) == 0


@pytest.mark.parametrize("rule", ["queue delete by person1", BY_HAND])
def test_what_a_person_dropped_is_told_after_it_is_durable(rule):
    played = case()
    played.image.drops.append(Drop(1, BOB, rule, EPOCH + 5.0))
    assert broken(played, look_at_dropped) == 1
    crash(played, 1_008.0)
    assert broken(played, look_at_dropped) == 1
    crash(played, 1_005.1)
    assert broken(played, look_at_dropped) == 0
    played.book.crashes.clear()
    told = "queue bounce by person1, no report wanted" if rule == BY_HAND else rule
    tell(played, Dropped(at=EPOCH + 5.01, message=1, number=0, recipient=BOB, rule=told))
    assert broken(played, look_at_dropped) == 0


def test_who_is_told_as_failed_has_failed():
    played = case()
    tell(played, bounced())
    assert broken(played, look_at_ended) == 1
    played.book.refusals[BOB] = [Refusal(1_006.0, 550, "rcpt", "mx0", [1_006.1])]
    assert broken(played, look_at_ended) == 1  # later
    played.book.refusals[BOB] = [Refusal(1_004.9, 550, "rcpt", "mx0", [1_005.0])]
    assert broken(played, look_at_ended) == 0
    played.facts.clear()
    tell(played, bounced(recipient="eve@d0.example"))
    assert broken(played, look_at_ended) == 1


def test_a_failure_that_is_reported_is_told():
    played = case()
    report(played)
    assert broken(played, look_at_ended) == 1
    played.book.refusals[BOB] = [Refusal(1_004.9, 550, "rcpt", "mx0", [1_005.0])]
    tell(played, bounced())
    assert broken(played, look_at_ended) == 0
    played.facts.clear()
    tell(played, bounced(at=11.0))
    assert broken(played, look_at_ended) == 1


def test_a_report_tells_what_its_fact_says():
    played = case()
    report(played)
    played.book.takes[0].name = f"<{format_id(REPORT)}@relay.example>"
    assert broken(played, look_at_reported) == 1
    crash(played, 1_009.0)
    assert broken(played, look_at_reported) == 1
    told = Reported(at=EPOCH + 5.2, message=1, report=REPORT, action="failed", to=SENDER, recipients=(BOB,))
    tell(played, told)
    assert broken(played, look_at_reported) == 0
    for changes in ({"action": "delayed"}, {"recipients": (ANN,)}, {"report": REPORT + 1}):
        played.facts[0] = (1_005.2, msgspec.structs.replace(told, **changes))
        assert broken(played, look_at_reported) == 1
    crash(played, 1_005.25)  # between its commit and its fact
    assert broken(played, look_at_reported) == 0


def test_a_report_that_is_told_of_is_there():
    played = case()
    tell(played, Reported(at=EPOCH + 5.2, message=1, report=REPORT, action="failed", to=SENDER, recipients=(BOB,)))
    assert broken(played, look_at_made) == 1
    report(played)
    assert broken(played, look_at_made) == 1  # another one
    played.book.takes[0].name = f"<{format_id(REPORT)}@relay.example>"
    assert broken(played, look_at_made) == 0
    played.book.takes.clear()
    played.image.drops.append(Drop(REPORT, SENDER, "null-sender", EPOCH + 9.0))
    assert broken(played, look_at_made) == 0
    played.image.drops.clear()
    played.image.waiting.append((REPORT, 0, "home.example", 0))
    assert broken(played, look_at_made) == 0
