"""The law of routes: the router answers as trying each rule in turn would, however often it was asked before."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.units.test_policy_route import matches, router_of, rule_of

from postroad.core.address import Mailbox
from postroad.core.envelope import Client

DOMAINS = ["a.example", "b.a.example", "example", "[192.0.2.1]", ""]
PATTERNS = ["*", "a.example", "*.a.example", "*.example", "bob@a.example", "bob@*", "*@a.example", "[192.0.2.1]"]

rules = st.lists(
    st.fixed_dictionaries(
        {"to": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2), "via": st.just(["discard:"])},
        optional={
            "from": st.sampled_from(["<>", "bob@*", "*.example"]),
            "client": st.just(["192."]),
            "user": st.just(["bob"]),
        },
    ),
    max_size=5,
)
mailboxes = st.builds(Mailbox, st.sampled_from(["bob", "carol"]), st.sampled_from(DOMAINS))
questions = st.tuples(
    mailboxes,
    st.none() | mailboxes,
    st.builds(Client, st.sampled_from(["192.0.2.1", "local"]), user=st.sampled_from(["", "bob"])),
)


@settings(max_examples=300, deadline=None)
@given(rules, st.lists(questions, min_size=1, max_size=8))
def test_the_first_rule_that_matches_wins(routes, asked):  # type: ignore[no-untyped-def]
    router = router_of(routes)
    for recipient, sender, client in asked:
        wanted = None
        for index, one in enumerate(routes):
            if any(matches(to, recipient.local_part, recipient.domain) for to in one["to"]) and rule_of(
                index, one
            ).admits(sender, client):
                wanted = index
                break
        assert router.choose(recipient, sender, client).index == wanted
