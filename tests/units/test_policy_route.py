"""Which route: tests/cases/route, and how the router remembers.

``python -m tests.units.test_policy_route`` writes the expected files anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.cases.folders import Case, cases, write_back

from postroad.core.address import Path, parse_forward_path, parse_reverse_path
from postroad.core.envelope import Client
from postroad.policy import route
from postroad.policy.route import RouteChoice, Router, RouteRule
from postroad.policy.schedule import Schedule

MX = RouteChoice[str](None, ("mx",))


def matches(pattern: str, local_part: str, domain: str) -> bool:
    """The patterns of postroad.toml in their plainest form."""
    wanted_local, at, wanted_domain = pattern.rpartition("@")
    if at and wanted_local not in ("*", local_part):
        return False
    if wanted_domain == "*" or wanted_domain == domain:
        return True
    return wanted_domain.startswith("*.") and domain.endswith(wanted_domain[1:])


def sender_condition(pattern: str) -> Callable[[Path], bool]:
    if pattern == "<>":
        return lambda sender: sender is None
    return lambda sender: sender is not None and matches(pattern, sender.local_part, sender.ascii_domain)


def rule_of(index: int, settings: dict[str, Any]) -> RouteRule[str]:
    retry = Schedule(**settings["retry"]) if "retry" in settings else None
    clients = settings.get("client")
    users = settings.get("user")
    return RouteRule(
        RouteChoice(index, tuple(settings["via"]), settings.get("tls", "auto"), retry),
        to_has_local_part=any("@" in to and not to.startswith("*@") for to in settings["to"]),
        sender=sender_condition(settings["from"]) if "from" in settings else None,
        client=(lambda address: any(address.startswith(part) for part in clients)) if clients else None,
        users=frozenset(users) if users else None,
    )


def router_of(settings: Sequence[dict[str, Any]]) -> Router[str]:
    def candidates(local_part: str, domain: str) -> list[int]:
        return [i for i, one in enumerate(settings) if any(matches(to, local_part, domain) for to in one["to"])]

    return Router([rule_of(index, one) for index, one in enumerate(settings)], candidates, MX)


def story_of(case: Case) -> str:
    """One line for each question, asked twice: what is remembered must not change the answer."""
    router = router_of(case.input.get("route", []))
    lines = []
    for question in case.input["ask"] * 2:
        client = Client(question.get("client", "192.0.2.1"), user=question.get("user", ""))
        sender = parse_reverse_path(question.get("from", "alice@example.net"))
        choice = router.choose(parse_forward_path(question["to"]), sender, client)
        retry = f" expire={choice.retry.expire:.0f}" if choice.retry else ""
        asked = " ".join(f"{key}={value}" for key, value in question.items())
        lines.append(f"{asked} -> {choice.rule} via {', '.join(choice.via)} tls={choice.tls}{retry}\n")
    half = len(lines) // 2
    assert lines[:half] == lines[half:]
    return "".join(lines[:half])


@pytest.mark.parametrize("case", cases("route"), ids=repr)
def test_the_route_is_the_expected_one(case: Case) -> None:
    assert story_of(case) == case.expected()


def test_a_domain_is_looked_up_once_where_only_domains_count() -> None:
    asked: list[str] = []

    def candidates(local_part: str, domain: str) -> list[int]:
        asked.append(domain)
        return [0] if domain == "a.example" else []

    rules = [RouteRule(RouteChoice(0, ("smtp://a",)), sender=sender_condition("<>"))]
    router = Router(rules, candidates, MX)
    bob, carol = parse_forward_path("bob@a.example"), parse_forward_path("carol@a.example")
    assert router.choose(bob, None, Client("local")).index == 0
    assert router.choose(carol, carol, Client("local")) is MX
    assert asked == ["a.example"]


def test_a_rule_for_one_mailbox_is_not_taken_for_its_domain() -> None:
    router = router_of([{"to": ["bob@a.example"], "via": ["discard:"]}])
    assert router.choose(parse_forward_path("carol@a.example"), None, Client("local")) is MX
    assert router.choose(parse_forward_path("bob@a.example"), None, Client("local")).index == 0
    assert router.choose(parse_forward_path("carol@a.example"), None, Client("local")) is MX


def test_a_whole_domain_has_a_choice_only_where_nothing_else_counts() -> None:
    router = router_of([{"to": ["a.example"], "from": "<>", "via": ["x"]}, {"to": ["b.example"], "via": ["y"]}])
    by_domain = [router.choose_for_domain(domain) for domain in ("a.example", "b.example", "c.example")]
    assert [choice and choice.via for choice in by_domain] == [None, ("y",), ("mx",)]
    router = router_of([{"to": ["bob@a.example"], "via": ["x"]}])
    assert router.choose_for_domain("a.example") is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "REMEMBERED_MAX", 3)
    router = router_of([{"to": ["*.example"], "via": ["discard:"]}])
    for count in range(10):
        assert router.choose(parse_forward_path(f"bob@a{count}.example"), None, Client("local")).index == 0
        assert len(router._remembered) <= 3


def test_a_choice_costs_little() -> None:
    """It is made for every recipient: about 1 us. A slow machine gets ten times that before this fails."""
    router = router_of([{"to": [f"a{count}.example"], "via": ["mx"]} for count in range(500)])
    bob, client, rounds = parse_forward_path("bob@a499.example"), Client("local"), 2000
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(rounds):
            router.choose(bob, None, client)
        best = min(best, (time.perf_counter() - began) / rounds)
    assert best < 10e-6


if __name__ == "__main__":
    write_back("route", story_of)
