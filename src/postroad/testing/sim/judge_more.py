"""The judge's other laws: limits, times, facts, and that nothing is left.

Owns: those laws. Does not own: the fate of messages (judge.py). Facts are read by their fields; that is all the judge
takes from the product, and he believes none of them without a witness.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from postroad.testing.sim.book import Take
from postroad.testing.sim.judge import Judge, Verdict
from postroad.testing.sim.judge_steering import look_at_crowds, look_at_people
from postroad.testing.sim.kernel import START
from postroad.testing.sim.world import Played

RETRY_TOLERANCE = 0.5
"""Seconds by which a retry may seem early: a reply travels."""


def judge(played: Played) -> Verdict:
    """Return the verdict on one story, by all laws."""
    one = Judge(played)
    verdict = one.judge()
    _look_at_limits(one)
    look_at_people(one)
    _look_at_times(one)
    _look_at_facts(one)
    _look_at_the_end(one)
    return verdict


def _look_at_limits(judge: Judge) -> None:
    look_at_crowds(judge)
    if not judge.plan.rate:
        return
    singled = {one.what for one in judge.people.orders if one.verb in ("suspend", "override")}
    shared = singled | {domain for domain, count in _owners(judge).items() if count > 1}
    for peer in judge.plan.peers:
        if shared & set(peer.domains):
            continue
        # A slow host takes a message long after its token was given, so only good times are looked at.
        begin = START + peer.well_after + 30.0
        times = [take.at for take in judge.book.takes if take.peer == peer.name and take.at >= begin]
        for first, last in zip(times, times[judge.plan.rate :], strict=False):
            crashed = any(first - 1.0 <= crash.at <= last for crash in judge.book.crashes)
            if last - first < 60.0 - 1.0 and not crashed:
                judge.breaks(
                    f"limit: {peer.name} took more than {judge.plan.rate} messages in a minute until {last:.3f}"
                )
                break


def _owners(judge: Judge) -> Counter[str]:
    return Counter(domain for peer in judge.plan.peers for domain in peer.domains)


def _look_at_times(judge: Judge) -> None:
    """No attempt before its time: after a 4yz that arrived, and no crash, the next comes after the first gap."""
    owners, plan, book = _owners(judge), judge.plan, judge.book
    jumped = [1_000.0 + at for at, _ in plan.jumps]
    for address, refusals in book.refusals.items():
        if owners[address.partition("@")[2]] != 1 or address in judge.senders:
            continue
        events: list[tuple[float, float]] = [
            (one.at, one.reply_at[0]) for one in refusals if one.reply_at and one.code < 500
        ]
        later = sorted([one.at for one in refusals] + [take.at for take in judge.deliveries[address]])
        for at, told_at in events:
            following = next((when for when in later if when > at + 0.001), None)
            if following is None:
                continue
            gap = min(one.retry_first for one in judge.people.terms(told_at, told_at + 1.0))
            if following - told_at >= gap - RETRY_TOLERANCE or judge.people.made_due(None, address, at, following):
                continue
            if any(at <= one.at <= following for one in book.crashes):
                continue
            if any(
                at - 30.0 <= one.at <= following for one in book.stops
            ):  # it began then, and the disk may be in trouble
                continue
            if any(at <= when <= following for when in jumped) or _is_at_expiry(judge, address, following):
                continue
            judge.breaks(f"early: {address} was told to wait at {told_at:.3f}, and tried again at {following:.3f}")


def _is_at_expiry(judge: Judge, address: str, at: float) -> bool:
    """The last attempt falls on the deadline, however soon after the one before."""
    token, _, attempt = address.partition("@")[0].partition(".")[2].rpartition(".")
    sent = judge.book.sent.get((token, int(attempt))) if attempt.isdigit() else None
    return sent is None or at - sent.dot_at >= min(one.expire for one in judge.people.terms(sent.dot_at, at)) - 5.0


def _look_at_facts(judge: Judge) -> None:
    facts: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    for when, fact in judge.played.facts:
        facts[type(fact).__name__].append((when, fact))
    received = {fact.message for _, fact in facts["Received"]}
    names = _names(received)
    for sent in judge.book.sent.values():
        if sent.code == 250 and sent.name not in names:
            judge.breaks(f"fact: {sent.token}.{sent.attempt} was queued as {sent.name}, and no fact says so")
    told = Counter(fact.recipient.lower() for _, fact in facts["Delivered"])
    for address in sorted({*told, *judge.arrivals}):
        heard = [take for take in judge.arrivals.get(address, ()) if take.reply_at]
        if told[address] > len(heard) and not judge.stored[address]:
            judge.breaks(f"fact: {address} is told as delivered {told[address]} times, {len(heard)} replies arrived")
        for take in heard:
            if not told[address] and not _crashed_soon(judge, take):
                judge.breaks(f"fact: {address} was delivered at {take.at:.3f}, and no fact says so")
    for _, fact in facts["SessionBroke"]:
        if fact.ours:
            judge.breaks(f"error of ours: {fact.why}")
    for when, fact in facts["Damaged"]:
        judge.breaks(f"damage: at {when:.3f}: {fact.what} {fact.where}")


def _crashed_soon(judge: Judge, take: Take) -> bool:
    return any(take.worker in one.workers and take.at <= one.at <= take.reply_at + 1.0 for one in judge.book.crashes)


def _names(numbers: set[int]) -> set[str]:
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return {"".join(alphabet[number >> shift & 31] for shift in range(60, -1, -5)) for number in numbers}


def _look_at_the_end(judge: Judge) -> None:
    played, image = judge.played, judge.image
    if not played.is_quiet:
        judge.breaks(f"no end: the world is not quiet after {played.seconds:.0f} s: {'; '.join(played.left[:4])}")
    elif played.left:
        judge.breaks(f"leak: {'; '.join(played.left[:4])}")
    if not played.is_stopped:
        judge.breaks("no end: an orderly stop did not come to its end")
    for text in judge.book.broken[:3]:
        judge.breaks(f"error of ours: {text}")
    for text in image.trouble:
        judge.breaks(f"database: {text}")
    for text in image.damaged:
        judge.breaks(f"damage: set aside: {text}")
    if played.is_quiet and (image.messages or image.waiting or image.total):
        count = f"{image.messages} messages, {len(image.waiting)} recipients, counted as {image.total}"
        judge.breaks(f"queue: thought empty, and the disk holds {count}")
