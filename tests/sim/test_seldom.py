"""Stories about what hardly ever comes together by itself: how often they are told, and with all that they need."""

from __future__ import annotations

import random

import pytest

from postroad.service.build_inbound import domains_of, trust_of
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim import teller_seldom
from postroad.testing.sim.house import settings_of
from postroad.testing.sim.kernel import START, Kernel
from postroad.testing.sim.resolver import SimResolver
from postroad.testing.sim.story import Plan
from postroad.testing.sim.teller import tell


@pytest.fixture
def turned(monkeypatch):
    """Return what tells a story of a kind."""

    def tell_one(name: str, seed: int = 1) -> Plan:
        monkeypatch.setattr(teller_seldom, "SHARES", {"mild": 1.0})
        monkeypatch.setattr(teller_seldom, "_TURNS", (getattr(teller_seldom, name),))
        return teller_seldom.with_seldom(random.Random(seed), "mild", tell(seed))

    return tell_one


def test_some_stories_of_calm_moods_are_turned_and_no_others():
    plan = tell(1)
    counts = {
        mood: sum(teller_seldom.with_seldom(random.Random(seed), mood, plan) != plan for seed in range(200))
        for mood in ("mild", "ill", "crowded", "")
    }
    assert counts["crowded"] == counts[""] == 0
    assert counts["mild"] > counts["ill"] > 20


def test_after_the_restart_nothing_comes_and_nobody_is_reminded(turned):
    plan = turned("_restarted")
    last = max(letter.at for sender in plan.senders for letter in sender.letters)
    (blow,) = plan.blows
    assert last <= blow.n < min(peer.down[0][1] for peer in plan.peers)
    assert plan.warn >= plan.expire


def test_nobody_is_told_of_the_delays_of_a_domain(turned):
    plans = [turned("_late", seed) for seed in range(20)]
    assert any(plan.spells for plan in plans)
    domains = [plan.unwarned for plan in plans if plan.unwarned]
    assert domains
    for plan in plans:
        routes = {str(one.to[0]): one.retry for one in settings_of(plan).route if one.retry is not None}
        assert list(routes) == ([plan.unwarned] if plan.unwarned else [])


def test_strangers_may_write_to_our_domains_only(turned):
    plan = turned("_strangers")
    settings = settings_of(plan)
    assert not any(trust_of(settings)(sender.address) for sender in plan.senders)
    assert all(domains_of(settings)(domain) for peer in plan.peers for domain in peer.domains)
    assert not domains_of(settings)("elsewhere.example")


def test_names_may_be_found_slowly(turned):
    plan = turned("_slow_names")
    kernel = Kernel()
    resolver = SimResolver(kernel, SeededDice(1), plan.peers)
    task = kernel.outside.loop.create_task(resolver.mx("d0.example"))
    kernel.run(task.done, kernel.now + 60.0)
    first = kernel.now
    assert task.done()
    assert first - START > 0.1
    task = kernel.outside.loop.create_task(resolver.addresses(plan.peers[0].name))
    kernel.run(task.done, kernel.now + 60.0)
    assert kernel.now - first < 0.1
