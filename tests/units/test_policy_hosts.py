"""Which hosts, in which order: tests/cases/mx, each a small world of DNS.

``python -m tests.units.test_policy_hosts`` writes the expected files anew.
"""

from __future__ import annotations

import random
from collections.abc import MutableSequence
from typing import Any, TypeVar

import pytest
from tests.cases.folders import Case, cases, write_back

from postroad.core.faces import MxHost, NameNotFound, NameTrouble
from postroad.core.outcome import Scope, Stage
from postroad.policy.hosts import (
    ADDRESSES_MAX,
    ADDRESSES_PER_HOST_MAX,
    HOSTS_MAX,
    SITE_MAX,
    Found,
    Host,
    Ourselves,
    Plan,
    Unroutable,
    names_to_look_up,
    plan_hosts,
    plan_literal,
    rank_hosts,
    site_of,
    without_answer,
    without_dead,
)

T = TypeVar("T")


class SeededDice:
    """Dice whose throws are the same in every run."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def random(self) -> float:
        return self._random.random()

    def shuffle(self, items: MutableSequence[T]) -> None:
        self._random.shuffle(items)

    def token(self, octets: int) -> bytes:
        return self._random.randbytes(octets)


US = Ourselves(frozenset({"relay.example.org", "other.example.org"}), frozenset({"192.0.2.25", "2001:db8::25"}))


def answer_of(value: Any) -> Any:
    if value == "NXDOMAIN":
        return NameNotFound()
    if value == "SERVFAIL":
        return NameTrouble()
    return value


def plan_of(world: dict[str, Any]) -> tuple[Plan | Unroutable, str]:
    """What the outbound side does with a Resolver, with the world of a case instead."""
    domain = world["domain"]
    if domain.startswith("["):
        return plan_literal(domain, US), ""
    records = answer_of(world["mx"])
    if isinstance(records, NameNotFound | NameTrouble):
        return without_answer(records), ""
    ranked = rank_hosts(domain, [MxHost(*record) for record in records], SeededDice(world.get("seed", 1)))
    if isinstance(ranked, Unroutable):
        return ranked, ""
    known = world.get("addresses", {})
    found: dict[str, Found] = {name: answer_of(known.get(name, "NXDOMAIN")) for name in names_to_look_up(ranked)}
    return plan_hosts(ranked, found, US), site_of(ranked)


def story_of(case: Case) -> str:
    plan, site = plan_of(case.input)
    shown = f"site {site}\n" if site else ""
    if isinstance(plan, Unroutable):
        return f"{shown}{plan.reply}\n"
    if plan.cut:
        shown += "cut: we are one of them\n"
    return shown + "".join(f"{host.preference} {host.name} {' '.join(host.addresses)}\n" for host in plan.hosts)


@pytest.mark.parametrize("case", cases("mx"), ids=repr)
def test_the_plan_is_the_expected_one(case: Case) -> None:
    assert story_of(case) == case.expected()


def test_equals_are_shuffled_and_others_never() -> None:
    """Each of two equals comes first about half the time (RFC 5321 section 5.1); the backup never does."""
    firsts = []
    for seed in range(200):
        ranked = rank_hosts("x", [MxHost(20, "c"), MxHost(10, "a"), MxHost(10, "b")], SeededDice(seed))
        assert not isinstance(ranked, Unroutable)
        assert ranked[2] == MxHost(20, "c")
        firsts.append(ranked[0].host)
    assert 60 < firsts.count("a") < 140


def test_endless_answers_are_bounded() -> None:
    records = [MxHost(count, f"h{count}.example") for count in range(500)]
    ranked = rank_hosts("x", records, SeededDice())
    assert not isinstance(ranked, Unroutable)
    assert list(ranked) == records[:HOSTS_MAX]
    many = [f"10.0.{high}.{low}" for high in range(4) for low in range(250)]
    six = [f"2001:db8::{count:x}" for count in range(1, 250)]
    plan = plan_hosts(ranked, {record.host: six + many for record in ranked}, US)
    assert isinstance(plan, Plan)
    assert sum(len(host.addresses) for host in plan.hosts) == ADDRESSES_MAX
    first = plan.hosts[0].addresses
    assert len(first) == ADDRESSES_PER_HOST_MAX
    assert first[:4] == ("2001:db8::1", "10.0.0.0", "2001:db8::2", "10.0.0.1")


def test_a_site_is_a_set_of_hosts() -> None:
    one = [MxHost(1, "a.example"), MxHost(5, "b.example")]
    other = [MxHost(30, "a.example"), MxHost(10, "b.example")]
    assert site_of(one) == site_of(other) == "mx:a.example,b.example"
    long = [MxHost(1, f"a-rather-long-name-{count}.example") for count in range(50)]
    assert len(site_of(long)) == SITE_MAX
    assert site_of(long) == site_of(long[::-1])
    assert site_of(long) != site_of(long[1:])


def test_hosts_that_do_not_answer_are_left_out() -> None:
    plan = Plan((Host("a", 1, ("192.0.2.1", "192.0.2.2")), Host("b", 2, ("192.0.2.3",))), cut=True)
    assert without_dead(plan, ()) is plan
    assert without_dead(plan, {"192.0.2.1"}) == Plan((Host("a", 1, ("192.0.2.2",)), Host("b", 2, ("192.0.2.3",))), True)
    assert without_dead(plan, {"192.0.2.1", "192.0.2.2"}).hosts == (Host("b", 2, ("192.0.2.3",)),)
    assert without_dead(plan, {"192.0.2.1", "192.0.2.2", "192.0.2.3"}) is plan


def test_what_is_unroutable_is_an_error_of_the_site() -> None:
    error = without_answer(NameTrouble()).to_error()
    assert (error.scope, error.stage, error.is_permanent) == (Scope.SITE, Stage.DNS, False)
    assert without_answer(NameNotFound()).to_error().is_permanent


if __name__ == "__main__":
    write_back("mx", story_of)
