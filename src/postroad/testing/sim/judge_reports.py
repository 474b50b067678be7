"""Delivery reports: that they tell the truth, once, to who may hear it, and that those that are promised come.

Owns: those laws. Does not own: that a failure may be reported, or has to be (judge.py: a recipient's end is a delivery,
a report or a drop).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from postroad.testing.sim.book import Sent, Take
from postroad.testing.sim.judge_copies import why_again
from postroad.testing.sim.judge_disk import Deed
from postroad.testing.sim.judge_ids import id_of, number_of, shard_of, time_of

if TYPE_CHECKING:
    from postroad.testing.sim.judge import Judge

_SUCCESS: Final = ("delivered", "relayed")


def look_at_report(judge: Judge, take: Take) -> None:
    """Judge one report that a host took."""
    if take.sender:
        judge.breaks(f"report: {take.peer} took one at {take.at:.3f} that is from {take.sender}, not from nobody")
    sent = judge.book.sent.get((take.token, take.attempt))
    for address in take.recipients:
        if address not in judge.senders:
            judge.breaks(f"report: went to {address}, who sent nothing")
    if sent is None:
        return
    for address, action in take.report:
        if address not in sent.recipients:
            judge.breaks(f"report: tells of {address}, who is no recipient of {sent.token}.{sent.attempt}")
        taken = judge.deliveries[address] or judge.stored[address]
        if action in _SUCCESS and not taken:
            judge.breaks(f"report: says that {address} was {action}, and nobody took it")
        if action == "failed" and "NEVER" in sent.notify:
            judge.breaks(f"report: on {address}, whose sender wants to hear nothing")


def look_at_names(judge: Judge) -> None:
    """The same thing is told once: a second report that is another message is one too many.

    One report comes once to each who may hear it, as everything else does.
    """
    told: dict[tuple[str, str], str] = {}
    of = {address: sent for sent in judge.book.sent.values() for address in sent.recipients}
    came: dict[tuple[str, str], Take] = {}
    for take in judge.book.takes:
        for one in take.report:
            first = told.setdefault(one, take.name)
            if first != take.name and not _is_made_twice(judge, of.get(one[0]), first, take.name):
                judge.breaks(f"told twice: that {one[0]} is {one[1]}, by {first} and by {take.name}")
        for address in take.recipients if take.report else ():
            if before := came.get((take.name, address)):
                judge.verdict.duplicates[why_again(judge, before, take, address)] += 1
            came[take.name, address] = take


def _is_made_twice(judge: Judge, sent: Sent | None, first: str, second: str) -> bool:
    """True if two shards had the message that two reports tell of, and each made one."""
    if sent is None:
        return False
    deeds = []
    for name in (first, second):
        number = number_of(id_of(name))
        deeds.append(Deed(judge.latest_of(time_of(max(0, number))), shard_of(number)))
    return judge.disk.is_between_shards(number_of(sent.name), *deeds)


def look_at_promised(judge: Judge) -> None:
    """Who asked for it hears of a success, unless a host that took it says that it will tell (RFC 3461 section 5.2)."""
    if not judge.played.is_quiet:
        return
    dsn = {peer.name for peer in judge.plan.peers if peer.dsn}
    for sent in judge.book.sent.values():
        if "SUCCESS" not in sent.notify or not sent.sender or sent.code // 100 != 2:
            continue
        for address in sent.recipients:
            takes = judge.deliveries[address]
            is_due = bool(judge.stored[address]) if not takes else all(take.peer not in dsn for take in takes)
            if is_due and not _is_told(judge, sent, address):
                judge.breaks(f"report: {sent.sender} was to hear that {address} has it, and no report came")


def _is_told(judge: Judge, sent: Sent, address: str) -> bool:
    """True if a report came, or was dropped as a report, or the relay cannot have known of the delivery."""
    if any(action in (*_SUCCESS, "failed") for _, action in judge.reports[address]) or judge.drops[address]:
        return True  # what was delivered and then failed had been forgotten: judge_copies.py
    drops = judge.drops[sent.sender.lower()]
    return any(judge.is_dropped_report(drop, sent, address, (*_SUCCESS, "failed")) for drop in drops)
