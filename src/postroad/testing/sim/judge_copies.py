"""Copies: that nobody gets a message twice, or has it and hears that it failed, but for a cause that is known.

Owns: the causes of duplicates, and of ends in two ways: a final reply that was lost, a crash between a delivery and its
record, a disk in trouble. Does not own: what end a recipient came to (judge.py), reports as such (judge_reports.py).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from postroad.testing.sim.book import Crash, Sent, Take

if TYPE_CHECKING:
    from postroad.testing.sim.judge import Judge

RECORD_MAX: Final = 0.05
"""Seconds until what was delivered is durable: what docs/durability.md promises."""
COMMIT_MAX: Final = 0.05
"""Seconds that a few batches, reads and syncs of a disk that works take besides, in this world."""
DRAIN_MAX: Final = 40.0
"""Seconds that a stop in order may take: what waits, and the records."""
TROUBLED_FOR: Final = 30.0
"""Seconds after a failure of the disk in which nothing may be recorded: until it is opened again."""


def look_at_copies(judge: Judge, sent: Sent) -> None:
    """Judge what came of each recipient more than once."""
    for address in sent.recipients:
        takes = judge.deliveries[address]
        for take, following in pairwise(takes):
            judge.verdict.duplicates[_why_again(judge, take, following, address)] += 1
        if judge.stored[address] > 1:
            judge.breaks(f"doubled: {address} lies {judge.stored[address]} times in its Maildir")
        is_taken = any(_is_kept(judge, take, address) for take in takes)
        if is_taken and judge.stored[address] and _is_stored_for_certain(judge, sent, address, math.inf):
            judge.breaks(f"doubled: {address} was taken at {takes[0].at:.3f}, and lies in its Maildir")
        failed = [at for at, action in judge.reports[address] if action == "failed"]
        if failed and _had_it(judge, sent, address, judge.reported_at(address, min(failed))):
            judge.breaks(f"delivered and reported as failed: {address}, nothing was lost")
        for drop in judge.drops[address]:
            # What was delivered waits for its report of success, if one is due, and may be deleted as such.
            is_report = "SUCCESS" in sent.notify and drop.rule.startswith("queue delete by ")
            if not is_report and _had_it(judge, sent, address, judge.latest(drop)):
                judge.breaks(f"delivered and dropped: {address} by {drop.rule}, nothing was lost")


def _had_it(judge: Judge, sent: Sent, address: str, before: float) -> bool:
    """True if a recipient had it, and the relay must have known, whatever else it says of it then."""
    if any(_is_kept(judge, take, address, before) for take in judge.deliveries[address]):
        return True
    return bool(judge.stored[address]) and _is_stored_for_certain(judge, sent, address, before)


def _is_kept(judge: Judge, take: Take, address: str, before: float = math.inf) -> bool:
    return bool(take.reply_at) and not _why_forgotten(judge, take, address, before)


def _is_stored_for_certain(judge: Judge, sent: Sent, address: str, before: float) -> bool:
    """True if a file in a Maildir must be known to the relay."""
    times = judge.stored_at[address]
    if not times:  # a worker that died right then, or a disk that failed with the file in place, told nobody
        ends = (*judge.book.crashes, *judge.book.stops)
        return not judge.is_troubled(sent.dot_at, before) and not any(sent.dot_at <= one.at <= before for one in ends)
    return any(not judge.is_forgotten(at, before) for at in times)


def _why_again(judge: Judge, take: Take, following: Take, address: str) -> str:
    if not take.reply_at:
        gap = min(one.retry_first for one in judge.people.terms(take.at, following.at))
        is_soon = following.at - take.at < 0.9 * gap and following.peer != take.peer
        is_soon = is_soon and not judge.people.made_due(None, address, take.at, following.at)
        if (
            is_soon
            and not judge.plan.jumps
            and not any(take.at <= one.at <= following.at for one in judge.book.crashes)
            and not _is_of_the_dead(judge, take)
        ):
            judge.breaks(f"doubled: {address} at {following.at:.3f} by another host, right after one that had it all")
        return "the final reply was lost"
    why = _why_forgotten(judge, take, address, following.at)
    if not why and judge.is_between_shards(judge.book.sent.get((take.token, take.attempt)), take, following):
        return "a parcel between two shards, and then another number of workers"
    if not why:
        judge.breaks(
            f"doubled: {address} was taken at {take.at:.3f}, the reply arrived, and again at {following.at:.3f}"
        )
    return why or "none"


def _why_forgotten(judge: Judge, take: Take, address: str, before: float) -> str:
    """Return why a delivery whose reply had arrived may not be on the disk by then; empty: it must be."""
    crash = _crash_after(judge, take, before)
    stop = next((one for one in judge.book.stops if take.worker in one.workers and one.at <= before), None)
    if crash is None:
        if stop is not None and judge.is_troubled(take.reply_at - TROUBLED_FOR, stop.at + DRAIN_MAX):
            return "stop in order while the disk was in trouble"
        return ""
    if crash.at - take.reply_at <= RECORD_MAX + COMMIT_MAX:
        return "crash between delivery and record"
    if _goes_on(judge, take, address):
        return "crash while other recipients of the same attempt were under way"
    if judge.is_troubled(take.reply_at - TROUBLED_FOR, crash.at):
        return "crash while the disk was in trouble"
    return ""


def _goes_on(judge: Judge, take: Take, address: str) -> bool:
    """True if the host had just put off another recipient of the message: then the next host was being asked."""
    sent = judge.book.sent.get((take.token, take.attempt))
    for other in () if sent is None else sent.recipients:
        for refusal in judge.book.refusals.get(other, ()) if other != address else ():
            if refusal.peer == take.peer and abs(refusal.at - take.at) < 15.0:
                return True
    return False


def _crash_after(judge: Judge, take: Take, before: float) -> Crash | None:
    for crash in judge.book.crashes:
        if take.worker in crash.workers and take.reply_at <= crash.at <= before:
            return crash
    return None


def _is_of_the_dead(judge: Judge, take: Take) -> bool:
    """True if its worker had died before the host had it all: the octets were under way already."""
    return any(take.worker in crash.workers and crash.at < take.at for crash in judge.book.crashes)
