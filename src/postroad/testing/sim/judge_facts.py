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
from postroad.testing.sim.judge_steering import BY_HAND

if TYPE_CHECKING:
    from postroad.testing.sim.judge import Judge

TOLD_AFTER: Final = 1.0
"""Seconds after which what was committed is told, if its worker lives and the disk works."""
_ENDS: Final = ("Bounced", "Expired")


def look_at_facts(judge: Judge) -> None:
    """Judge all facts of a story."""
    _look_at_received(judge)
    look_at_delivered(judge)
    look_at_dropped(judge)
    look_at_ended(judge)
    look_at_reported(judge)
    for _, fact in judge.facts["SessionBroke"]:
        if fact.ours:
            judge.breaks(f"error of ours: {fact.why}")
    for when, fact in judge.facts["Damaged"]:
        if not judge.is_stillborn(fact.where):
            judge.breaks(f"damage: at {when:.3f}: {fact.what} {fact.where}")


def _look_at_received(judge: Judge) -> None:
    names = _names({fact.message for _, fact in judge.facts["Received"]})
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
            if not told[address] and not _crashed_soon(judge, take) and not _crashed_under_way(judge, take):
                judge.breaks(f"fact: {address} was delivered at {take.at:.3f}, and no fact says so")


def _crashed_soon(judge: Judge, take: Take) -> bool:
    return any(take.worker in one.workers and take.at <= one.at <= take.reply_at + 1.0 for one in judge.book.crashes)


def _crashed_under_way(judge: Judge, take: Take) -> bool:
    """True if its worker died while the next host was asked for those that this one had put off in the same breath.

    What an attempt came to is told, as it is recorded, when all of it is over: then it tells of these as well.
    """
    died_at = min((one.at for one in judge.book.crashes if take.worker in one.workers and one.at >= take.at), default=0)
    sent = judge.book.sent.get((take.token, take.attempt))
    if not died_at or sent is None or take.report:
        return False
    over = {
        fact.recipient.lower()
        for kind in ("Delivered", "Deferred", *_ENDS)
        for when, fact in judge.facts[kind]
        if take.at <= when <= died_at
    }
    for other in sent.recipients:
        domain = other.partition("@")[2]
        put_off = [one for one in judge.book.refusals.get(other, ()) if take.mail_at <= one.at <= take.at]
        if any(one.peer == take.peer and one.code < 500 and one.stage == "rcpt" for one in put_off):
            has_next = sum(domain in peer.domains for peer in judge.plan.peers) > 1
            if has_next and other not in over:
                return True
    return False


def look_at_dropped(judge: Judge) -> None:
    """Each row has its fact, and each fact its row."""
    facts = {(fact.message, fact.recipient.lower(), _rule_of(fact.rule)) for _, fact in judge.facts["Dropped"]}
    rows = set()
    for drop in judge.image.drops:
        row = (drop.message, drop.recipient.lower(), _rule_of(drop.rule))
        rows.add(row)
        by_person = drop.rule == BY_HAND or drop.rule.startswith("queue delete by ")
        if row not in facts and not (by_person and _is_untold(judge, judge.earliest(drop.at), judge.latest(drop))):
            judge.breaks(f"fact: {drop.recipient} was dropped by {drop.rule}, and no fact says so")
    for when, fact in judge.facts["Dropped"]:
        row = (fact.message, fact.recipient.lower(), _rule_of(fact.rule))
        if row not in rows and not judge.is_forgotten(when):
            judge.breaks(f"fact: {fact.recipient} is told as dropped by {fact.rule} at {when:.3f}, and no row says so")


def _rule_of(rule: str) -> str:
    """Return the rule of a drop by its kind, where its row and its fact have different words for it."""
    return BY_HAND if rule.startswith("queue bounce by ") else rule


def _is_untold(judge: Judge, begin: float, end: float) -> bool:
    """True if a worker may have died after a commit in that span, or in one that was begun then, and told nobody."""
    for one in (*judge.book.crashes, *judge.book.stops):
        if begin <= one.at and (one.at <= end + TOLD_AFTER or judge.is_troubled(begin, one.at)):
            return True
    return False


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
        (name,) = _names({fact.report})
        facts.setdefault(name, []).append(fact)
    for take in judge.book.takes:
        if not take.report:
            continue
        name = take.name.strip("<>").partition("@")[0]
        told = {(one.lower(), fact.action) for fact in facts.get(name, ()) for one in fact.recipients}
        missing = sorted(set(take.report) - told)
        made_at = judge.made_at(name)
        if missing and (told or not _is_untold(judge, judge.earliest(made_at), judge.latest_of(made_at))):
            judge.breaks(
                f"fact: {take.peer} took a report that {missing[0][0]} is {missing[0][1]}, and no fact says so"
            )


def _names(numbers: set[int]) -> set[str]:
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return {"".join(alphabet[number >> shift & 31] for shift in range(60, -1, -5)) for number in numbers}
