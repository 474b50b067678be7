"""Copies: that nobody gets a message twice, or has it and hears that it failed, but for a cause that is known.

Owns: the causes of duplicates, and of ends in two ways: a final reply that was lost, a crash between a delivery and its
record, a disk in trouble. Does not own: what end a recipient came to (judge.py), reports as such (judge_reports.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from postroad.testing.sim.book import Sent, Take
from postroad.testing.sim.judge_disk import Deed, shard_of_worker
from postroad.testing.sim.judge_ids import id_of, number_of

if TYPE_CHECKING:
    from postroad.testing.sim.judge import Judge

OLD_TERMS: Final = 130.0
"""Seconds that an attempt may have been under way before a host decides: two others were waited for. A reload
meanwhile does not hold for it."""
ATTEMPT_MAX: Final = 700.0
"""Seconds that the next host may be asked for those that one had put off: as long as a final reply is waited for."""


def look_at_copies(judge: Judge, sent: Sent) -> None:
    """Judge what came of each recipient more than once."""
    for address in sent.recipients:
        takes = judge.deliveries[address]
        for take, following in pairwise(takes):
            judge.verdict.duplicates[why_again(judge, take, following, address)] += 1
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
    return any(not judge.disk.why_forgotten(at, before) for at in times)


def why_again(judge: Judge, take: Take, following: Take, address: str) -> str:
    """Return why the same thing came twice, one time after the other. Breaks the law if there is no cause."""
    if not take.reply_at:
        gap = min(one.retry_first for one in judge.people.terms(take.at - OLD_TERMS, following.at))
        is_soon = following.at - take.at < 0.9 * gap and following.peer != take.peer
        is_soon = is_soon and not judge.people.made_due(None, address, take.at, following.at)
        if (
            is_soon
            and not judge.plan.jumps
            and not any(take.at <= one.at <= following.at for one in judge.book.crashes)
            and not _is_of_the_dead(judge, take)
            and not _was_cut_off_by_a_stop(judge, take, following.at)
        ):
            judge.breaks(f"doubled: {address} at {following.at:.3f} by another host, right after one that had it all")
        return "the final reply was lost"
    why = _why_forgotten(judge, take, address, following.at)
    if not why and judge.disk.is_between_shards(_message_of(judge, take), _deed(take), _deed(following)):
        return "a parcel between two shards, and then another number of workers"
    if not why:
        judge.breaks(
            f"doubled: {address} was taken at {take.at:.3f}, the reply arrived, and again at {following.at:.3f}"
        )
    return why or "none"


def _message_of(judge: Judge, take: Take) -> int:
    """Return the number of the message that was taken, a report or a client's; -1: nobody told."""
    if take.report:
        return number_of(id_of(take.name))
    sent = judge.book.sent.get((take.token, take.attempt))
    return -1 if sent is None else number_of(sent.name)


def _deed(take: Take) -> Deed:
    return Deed(take.at, shard_of_worker(take.worker))


def _why_forgotten(judge: Judge, take: Take, address: str, before: float) -> str:
    """Return why a delivery whose reply had arrived may not be on the disk by then; empty: it must be."""
    why = judge.disk.why_forgotten(take.reply_at, before, take.worker)
    if not why and was_under_way(judge, take, address, before):
        return "crash while other recipients of the same attempt were under way"
    if not why and (told_at := _told_late(judge, take, address, before)):
        why = judge.disk.why_forgotten(told_at, before, take.worker)
    return why


def was_under_way(judge: Judge, take: Take, address: str, before: float = math.inf) -> bool:
    """True if its worker died while the next host was asked for those that this one had put off in the same breath.

    What an attempt came to is told, and then recorded, when all of it is over.
    """
    ends = [one.at for one in judge.book.crashes if take.worker in one.workers and take.at <= one.at <= before]
    if not ends or ends[0] - take.at > ATTEMPT_MAX:
        return False
    for other in _put_off(judge, take):
        told_at = _told_of_any(judge, {address, other}, take.at, ends[0])
        if not told_at or judge.disk.why_forgotten(told_at, before, take.worker):
            return True
    return False


def _put_off(judge: Judge, take: Take) -> Iterator[str]:
    """Return those whom a host had put off in the same breath as it took the message, and a next host is asked for."""
    sent = judge.book.sent.get((take.token, take.attempt))
    for other in () if sent is None or take.report else sent.recipients:
        refusals = [one for one in judge.book.refusals.get(other, ()) if take.mail_at <= one.at <= take.at]
        if any(one.peer == take.peer and one.code < 500 and one.stage == "rcpt" for one in refusals):
            domain = other.partition("@")[2]
            if sum(domain in peer.domains for peer in judge.plan.peers) > 1:
                yield other


def _told_late(judge: Judge, take: Take, address: str, before: float) -> float:
    """Return when it was told that a host took it, if the next one was asked for others until then; 0.0: neither."""
    if not any(_put_off(judge, take)):
        return 0.0
    return _told_of_any(judge, {address}, take.reply_at, min(before, take.at + ATTEMPT_MAX))


def _told_of_any(judge: Judge, addresses: set[str], begin: float, end: float) -> float:
    """Return when it was first told in a span what an attempt had come to for any of them; 0.0: it was not."""
    kinds = ("Delivered", "Deferred", "Bounced", "Expired")
    told = [(when, fact.recipient.lower()) for kind in kinds for when, fact in judge.facts[kind]]
    return min((when for when, address in told if begin <= when <= end and address in addresses), default=0.0)


def _was_cut_off_by_a_stop(judge: Judge, take: Take, before: float) -> bool:
    """True if its worker may have ended in order while the answer was on its way: the next one tries it at once."""
    stops = [one for one in judge.book.stops if take.worker in one.workers and one.at <= before]
    return any(judge.disk.stopped_at(one) >= take.at for one in stops)


def _is_of_the_dead(judge: Judge, take: Take) -> bool:
    """True if its worker had died before the host had it all: the octets were under way already."""
    return any(take.worker in crash.workers and crash.at < take.at for crash in judge.book.crashes)
