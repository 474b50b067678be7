"""The table of kinds: metrics have one meaning each, and can be made of every fact."""

from __future__ import annotations

import re

from tests.units.facts_world import sample

from postroad.core import facts
from postroad.observe.kinds import KINDS, Level, level_of


def test_a_metric_is_named_as_prometheus_wants_and_belongs_to_one_kind():
    names = [count.name for kind in KINDS.values() for count in kind.counts]
    assert len(names) == len(set(names))
    for kind in KINDS.values():
        for count in kind.counts:
            assert re.fullmatch("[a-z_]+_seconds" if count.buckets else "[a-z_]+_total", count.name)
            assert count.meaning.endswith(".")


def test_labels_and_values_can_be_read_of_every_fact():
    for type_, kind in KINDS.items():
        fact = sample(type_)
        for count in kind.counts:
            assert all(isinstance(label.of(fact), str) for label in count.labels)
            assert count.value is None or float(count.value(fact)) >= 0.0


def test_what_there_may_be_thousands_of_a_second_is_not_stored():
    assert {kind for kind in KINDS if not KINDS[kind].is_stored} == {
        facts.Connected,
        facts.EarlyOctets,
        facts.Incomplete,
    }
    assert level_of(sample(facts.Connected)) is Level.DEBUG
