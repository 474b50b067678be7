"""Numbers from facts: right, and bounded whatever stands in them."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.units.facts_world import AT, MESSAGE, delivered, received, sample, story

from postroad.core import facts
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.observe.counters import OTHER, VALUES_MAX, Counters
from postroad.observe.kinds import DELAY_BUCKETS


def numbers(counters: Counters) -> dict[str, float]:
    return {row.name + "".join(f" {name}={value}" for name, value in row.labels): row.value for row in counters.rows()}


def test_the_numbers_of_an_ordinary_message():
    counters = Counters()
    before = numbers(counters)
    counters.take(story(1))
    changed = {name: value for name, value in numbers(counters).items() if value != before.get(name)}
    assert changed == {
        "messages_received_total listener=inside": 1,
        "recipients_received_total listener=inside": 1,
        "octets_received_total listener=inside": 5120,
        "put_seconds_bucket le=0.01": 1,
        "put_seconds_bucket le=0.025": 1,
        "put_seconds_bucket le=0.05": 1,
        "put_seconds_bucket le=0.1": 1,
        "put_seconds_bucket le=0.25": 1,
        "put_seconds_bucket le=1": 1,
        "put_seconds_bucket le=5": 1,
        "put_seconds_bucket le=+Inf": 1,
        "put_seconds_sum": 0.01,
        "put_seconds_count": 1,
        "attempts_total stage=dot result=2xx": 1,
        "deliveries_total destination=other": 1,
        **{f"delivery_delay_seconds_bucket le={bound:g}": 1 for bound in DELAY_BUCKETS},
        "delivery_delay_seconds_bucket le=+Inf": 1,
        "delivery_delay_seconds_sum": story(1)[2].delay,
        "delivery_delay_seconds_count": 1,
    }


def test_a_histogram_puts_what_is_as_much_as_a_bound_below_it():
    counters = Counters()
    counters.take([delivered(MESSAGE, AT + seconds) for seconds in (0.0, 1.0, 1.5, 1e9)])
    found = numbers(counters)
    assert [found[f"delivery_delay_seconds_bucket le={bound}"] for bound in ("0.1", "1", "5", "432000", "+Inf")] == [
        *(1, 2, 3, 3, 4)
    ]


def test_a_destination_has_its_own_number_only_if_it_is_configured():
    counters = Counters(["smtp:relay.example:587"])
    counters.take([sample(facts.Deferred, destination=name) for name in ("smtp:relay.example:587", "mx:a", "mx:b")])
    found = numbers(counters)
    assert found["deferrals_total stage=rcpt code=4xx destination=smtp:relay.example:587"] == 1
    assert found["deferrals_total stage=rcpt code=4xx destination=other"] == 2
    counters.name_destinations(["mx:a"])
    counters.take([sample(facts.Deferred, destination=name) for name in ("smtp:relay.example:587", "mx:a")])
    found = numbers(counters)
    assert found["deferrals_total stage=rcpt code=4xx destination=mx:a"] == 1
    assert found["deferrals_total stage=rcpt code=4xx destination=other"] == 3


HOSTILE = st.text(max_size=200) | st.sampled_from(["\n", '"', "\u202e", "x" * 10_000])


@given(st.lists(st.tuples(HOSTILE, HOSTILE, st.integers(-10, 10_000)), max_size=50))
def test_hostile_values_make_no_row_beyond_the_bound(values):
    counters = Counters()
    filled = numbers(counters)
    for one, two, code in values:
        reply = Reply(code, None, one)
        counters.take(
            [
                sample(facts.Connected, listener=one),
                sample(facts.Refused, rule=one, listener=two, reply=reply),
                sample(facts.Dropped, rule=two),
                sample(facts.Deferred, destination=one, reply=reply),
                sample(facts.Trouble, what=two),
                sample(facts.Steered, verb=one),
            ]
        )
    for row in counters.rows():
        assert all(value.isprintable() and len(value) <= 100 for _, value in row.labels)
    assert len(numbers(counters)) <= len(filled) + 7 * len(values)


def test_what_comes_after_the_cap_is_other_and_nothing_is_lost():
    counters = Counters()
    total = 5 * VALUES_MAX
    for number in range(total):
        refused = sample(facts.Refused, rule=f"rule-{number}", reply=Reply(550, None, ""), stage=Stage.RCPT)
        counters.take([refused, sample(facts.Connected, listener=f"listener-{number}"), received(number)])
    found = numbers(counters)
    refusals = {name: value for name, value in found.items() if name.startswith("refusals_total")}
    assert len(refusals) == VALUES_MAX + 1
    assert sum(refusals.values()) == total
    assert refusals[f"refusals_total rule={OTHER} stage=rcpt code=5xx"] == total - VALUES_MAX
    assert sum(value for name, value in found.items() if name.startswith("connections_total")) == total


def test_closing_is_nothing():
    asyncio.run(Counters().close())
