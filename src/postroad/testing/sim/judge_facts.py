"""Facts: that they tell the truth, and all of it.

Owns: each fact's witness, and a fact for all that was seen. Does not own: the fate of messages (judge.py), storing them
(not simulated: a fact counts when told). Facts are read by their fields; that is all the judge takes from the
product. Rulings are told before they are recorded, so a crash right after leaves a fact without a row, and none the
other way round; reports and what people did are told after, so there a crash right after leaves no fact.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from postroad.testing.sim.book import Sent, Take
from postroad.testing.sim.judge_copies import was_under_way
from postroad.testing.sim.judge_ids import id_of, names_of, number_of, shard_of, time_of
from postroad.testing.sim.judge_steering import BY_HAND

if TYPE_CHECKING:
    from postroad.testing.sim.judge import Judge

_ENDS: Final = ("Bounced", "Expired")


def look_at_facts(judge: Judge) -> None:
    """Judge all facts of a story."""
    _look_at_received(judge)
    look_at_delivered(judge)
    look_at_dropped(judge)
    look_at_ended(judge)
    look_at_reported(judge)
    look_at_made(judge)
    for _, fact in judge.facts["SessionBroke"]:
        if fact.ours:
            judge.breaks(f"error of ours: {fact.why}")
    for when, fact in judge.facts["Damaged"]:
        if not judge.is_stillborn(fact.where):
            judge.breaks(f"damage: at {when:.3f}: {fact.what} {fact.where}")


def _look_at_received(judge: Judge) -> None:
    names = names_of({fact.message for _, fact in judge.facts["Received"]})
    for sent in judge.book.sent.values():
        if sent.code == 250 and sent.name not in names:
            judge.breaks(f"fact: {sent.token}.{sent.attempt} was queued as {sent.name}, and no fact says so")


def look_at_delivered(judge: Judge) -> None:
    told = Counter(fact.recipient.lower() for _, fact in judge.facts["Delivered"])
    for address in sorted({*told, *judge.arrivals}):
        heard = [take for take in judge.arrivals.get(address, ()) if take.reply_at]
        if told[address] > len(heard) and not judge.stored[address]:
            judge.breaks(f"fact: {address} is told as delivered {told[address]} times, {len(heard)} replies arrived")
        for take in heard:
            if not told[address] and not _crashed_soon(judge, take) and not was_under_way(judge, take, address):
                judge.breaks(f"fact: {address} was delivered at {take.at:.3f}, and no fact says so")


def _crashed_soon(judge: Judge, take: Take) -> bool:
    return any(take.worker in one.workers and take.at <= one.at <= take.reply_at + 1.0 for one in judge.book.crashes)


def look_at_dropped(judge: Judge) -> None:
    """Each row has its fact, and each fact its row."""
    facts = {(fact.message, fact.recipient.lower(), _rule_of(fact.rule)) for _, fact in judge.facts["Dropped"]}
    rows = set()
    for drop in judge.image.drops:
        row = (drop.message, drop.recipient.lower(), _rule_of(drop.rule))
        rows.add(row)
        by_person = drop.rule == BY_HAND or drop.rule.startswith("queue delete by ")
        if row not in facts and not (by_person and judge.disk.is_untold(judge.earliest(drop.at), judge.latest(drop))):
            judge.breaks(f"fact: {drop.recipient} was dropped by {drop.rule}, and no fact says so")
    for when, fact in judge.facts["Dropped"]:
        row = (fact.message, fact.recipient.lower(), _rule_of(fact.rule))
        if row not in rows and not judge.disk.why_forgotten(when):
            judge.breaks(f"fact: {fact.recipient} is told as dropped by {fact.rule} at {when:.3f}, and no row says so")


def _rule_of(rule: str) -> str:
    """Return the rule of a drop by its kind, where its row and its fact have different words for it."""
    return BY_HAND if rule.startswith("queue bounce by ") else rule


def look_at_ended(judge: Judge) -> None:
    """Who is told as failed for good has failed, and whose failure is reported is told as failed."""
    by_address = _letters(judge)
    told: dict[str, list[float]] = {}
    for kind in _ENDS:
        for when, fact in judge.facts[kind]:
            address = fact.recipient.lower()
            told.setdefault(address, []).append(when)
            sent = by_address.get(address)
            if sent is None:
                judge.breaks(f"fact: {address}, who is not known, is told as failed at {when:.3f}")
            elif not judge.cause(sent, address, when + 0.001):
                judge.breaks(f"fact: {address} is told as failed at {when:.3f}, and nothing had")
    for address, reports in judge.reports.items():
        at = min((at for at, action in reports if action == "failed"), default=None)
        by_hand = judge.people.may_have("bounce", None, address)  # told after its commit
        if at is not None and not by_hand and not any(when <= at for when in told.get(address, ())):
            judge.breaks(f"fact: a report said that {address} had failed at {at:.3f}, and no fact says so")


def _letters(judge: Judge) -> dict[str, Sent]:
    """Return the letter of each recipient, and of each sender: who a report on it goes to."""
    letters = {sent.sender.lower(): sent for sent in judge.book.sent.values() if sent.sender}
    return letters | {address.lower(): sent for sent in judge.book.sent.values() for address in sent.recipients}


def look_at_reported(judge: Judge) -> None:
    """Each report that a host took was told, and tells of those, and so, as it was told."""
    facts: dict[str, list[Any]] = {}
    for _, fact in judge.facts["Reported"]:
        (name,) = names_of({fact.report})
        facts.setdefault(name, []).append(fact)
    for take in judge.book.takes:
        if not take.report:
            continue
        name = id_of(take.name)
        told = {(one.lower(), fact.action) for fact in facts.get(name, ()) for one in fact.recipients}
        missing = sorted(set(take.report) - told)
        number = number_of(name)
        made_at = time_of(max(0, number))
        span = judge.earliest(made_at), judge.latest_of(made_at)
        if missing and (told or not judge.disk.is_untold(*span, shard_of(number))):
            judge.breaks(
                f"fact: {take.peer} took a report that {missing[0][0]} is {missing[0][1]}, and no fact says so"
            )


def look_at_made(judge: Judge) -> None:
    """Each report that was told of is there: somebody took it, it was dropped, or it waits.

    It is told once it is durable, so no crash takes it back.
    """
    there = {id_of(take.name) for take in judge.book.takes if take.report}
    there |= {id_of(one.seen.name) for one in judge.image.stored if one.seen.report}
    there |= names_of({drop.message for drop in judge.image.drops} | set(judge.waiting))
    for when, fact in judge.facts["Reported"]:
        if not names_of({fact.report}) & there:
            told = f"that {fact.recipients[0]} is {fact.action}"
            judge.breaks(f"fact: a report {told} is told of at {when:.3f}, and there is none")
