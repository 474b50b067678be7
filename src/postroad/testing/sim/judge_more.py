"""The judge's other laws: limits, times, and that nothing is left.

Owns: those laws, and the order in which all are looked at. Does not own: the fate of messages (judge.py), what people
did (judge_steering.py), facts (judge_facts.py).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from postroad.testing.sim.book import Refusal, Sent, Take
from postroad.testing.sim.judge import Judge, Verdict
from postroad.testing.sim.judge_copies import OLD_TERMS
from postroad.testing.sim.judge_disk import DRAIN_MAX, seconds_of
from postroad.testing.sim.judge_facts import look_at_facts
from postroad.testing.sim.judge_steering import UNDER_WAY, look_at_crowds, look_at_people
from postroad.testing.sim.kernel import START
from postroad.testing.sim.story import Peer
from postroad.testing.sim.world import Played

RETRY_TOLERANCE: Final = 0.5
"""Seconds by which a retry may seem early: a reply travels."""
TRANSACTION_MAX: Final = 2.0
"""Seconds from the reply to a recipient to the end of his transaction, with a host that is not slow."""
JOURNEY: Final = 0.2
"""Seconds that a reply, and what follows it on the same connection, may be under way."""
ANSWER_MAX: Final = 20.0
"""Seconds within which whoever waits is answered, but for those in which the disk was slow."""
RSET_MAX: Final = 300.0
"""Seconds that an answer to RSET is waited for: meanwhile a message has its turn, and its MAIL comes only then."""
TOKEN_LIFE: Final = 30.0
"""Seconds from a token to MAIL, at most: half of the minute that a rate is for in this world."""
TOKEN_JOURNEY: Final = 1.0
"""Seconds from a token to the final dot, with a host and a disk that are not slow."""


def judge(played: Played) -> Verdict:
    """Return the verdict on one story, by all laws."""
    one = Judge(played)
    verdict = one.judge()
    look_at_silences(one)
    _look_at_limits(one)
    look_at_people(one)
    look_at_times(one)
    look_at_facts(one)
    _look_at_the_end(one)
    return verdict


def look_at_silences(judge: Judge) -> None:
    """Whoever waits hears an answer, or that the connection is gone, unless the relay ended or its disk was slow."""
    cut_off = {peer.address for peer in judge.plan.peers}  # hosts that send bounces, and may not be reached meanwhile
    ends = (*judge.book.crashes, *judge.book.stops)
    for one in judge.book.silences:
        if one.address in cut_off or any(one.worker in end.workers and end.at <= one.end for end in ends):
            continue
        slow = sum(_overlap(one.begin, one.end, at, at + seconds_of(why)) for at, why in judge.played.troubles)
        if one.end - one.begin - slow > ANSWER_MAX:
            judge.breaks(f"silence: {one.client} has waited since {one.begin:.3f} until {one.end:.3f} for {one.worker}")


def _overlap(begin: float, end: float, other_begin: float, other_end: float) -> float:
    return max(0.0, min(end, other_end) - max(begin, other_begin))


def look_at_reuse(judge: Judge) -> None:
    """No connection carries more messages than may have been allowed since it was looked whether it may be kept."""
    slow = {peer.name for peer in judge.plan.peers if not _is_prompt(peer)}
    for at, peer, nth in judge.book.reused:
        begin = (
            at
            - (RSET_MAX if peer in slow else 0.0)
            - UNDER_WAY
            - sum(one.seconds for one in judge.plan.spells if one.kind in ("slow", "hang"))
        )
        most = max(one.messages_per_connection for one in judge.people.terms(begin, at))
        if nth > most:
            judge.breaks(f"limit: {peer}: message {nth} on one connection at {at:.3f}, and {most} are allowed")
            return


def _look_at_limits(judge: Judge) -> None:
    look_at_crowds(judge)
    look_at_reuse(judge)
    look_at_rate(judge)


def look_at_rate(judge: Judge) -> None:
    """No host takes more messages in a minute than it may get."""
    if not judge.plan.rate:
        return
    singled = {one.what for one in judge.people.orders if one.verb in ("suspend", "override")}
    shared = singled | {domain for domain, count in _owners(judge).items() if count > 1}
    hangs = any(spell.kind == "hang" for spell in judge.plan.spells)
    for peer in judge.plan.peers:
        if shared & set(peer.domains) or (hangs and peer.chunking):
            continue  # for one who takes chunks, content is looked at between the token and MAIL: a disk may hang then
        # A slow host takes a message some time after its token was given, so only good times are looked at. But however
        # long it had hung, half a minute after its token a message needs another.
        begin = START if _is_prompt(peer) else START + peer.well_after + TOKEN_LIFE
        takes = [take for take in judge.book.takes if take.peer == peer.name and take.at >= begin]
        for one, other in zip(takes, takes[judge.plan.rate :], strict=False):
            first, last = one.at, other.at
            is_anew = any(first - 1.0 <= crash.at <= last for crash in judge.book.crashes) or any(
                one.at <= last and judge.disk.stopped_at(one) >= first - 1.0 for one in judge.book.stops
            )  # rates begin anew with the relay (docs/adr/0004)
            since = min(_granted_since(judge, first), one.mail_at or first)  # MAIL may come long before the content
            if last - since < 60.0 - TOKEN_JOURNEY and not is_anew:
                judge.breaks(
                    f"limit: {peer.name} took more than {judge.plan.rate} messages in a minute until {last:.3f}"
                )
                break


def _is_prompt(peer: Peer) -> bool:
    """True of a host that never makes anybody wait: a message comes right after its token."""
    is_there = not (peer.down or peer.cut_off or peer.names_fail or peer.silent)
    return is_there and not (peer.slow or peer.greylists or peer.breaks_tls or peer.garbage)


def _granted_since(judge: Judge, at: float) -> float:
    """Return since when whatever was taken from ``at`` on can have had its token.

    A token is granted before the content is opened and read. Where our own disk is slow, that goes on for seconds, and
    several messages with tokens of different moments come close to each other.
    """
    since = at
    for begin, why in sorted(judge.played.troubles, reverse=True):
        seconds = seconds_of(why)
        if seconds and begin < since <= begin + seconds + TOKEN_JOURNEY:
            since = begin
    return max(since, at - TOKEN_LIFE)


def _owners(judge: Judge) -> Counter[str]:
    return Counter(domain for peer in judge.plan.peers for domain in peer.domains)


def look_at_times(judge: Judge) -> None:
    """No attempt before its time: after a 4yz that arrived the first gap passes, but for a known cause."""
    owners = _owners(judge)
    for address, refusals in judge.book.refusals.items():
        if owners[address.partition("@")[2]] != 1 or address in judge.senders:
            continue
        later = sorted([one.at for one in refusals] + [take.at for take in judge.deliveries[address]])
        for one in refusals:
            following = next((when for when in later if when > one.at + 0.001), None)
            if not one.reply_at or one.code >= 500 or following is None:
                continue
            told_at = one.reply_at[0]
            gap = min(terms.retry_first for terms in judge.people.terms(told_at - OLD_TERMS, told_at + 1.0))
            if following - told_at < gap - RETRY_TOLERANCE and not _may_be_early(judge, address, one, following):
                judge.breaks(f"early: {address} was told to wait at {told_at:.3f}, and tried again at {following:.3f}")


def _may_be_early(judge: Judge, address: str, refusal: Refusal, at: float) -> bool:
    """True if something may have made a recipient due: a person, a clock, its expiry, or that it was not recorded."""
    if judge.people.made_due(None, address, refusal.at, at) or _is_at_expiry(judge, address, at):
        return True
    if any(refusal.at <= START + when <= at for when, _ in judge.plan.jumps):
        return True
    over = _over(judge, address, refusal)
    if any(refusal.at <= one.at <= over for one in judge.book.crashes):
        return True
    if any(refusal.at - DRAIN_MAX <= one.at <= over for one in judge.book.stops):
        return True  # attempts that are not over in time are broken off
    return bool(judge.disk.why_forgotten(over, at))


def _over(judge: Judge, address: str, refusal: Refusal) -> float:
    """Return when the attempt was over in which a recipient was put off: what it heard is recorded together."""
    over = refusal.reply_at[0] + 4.0 * judge.plan.weather.latency  # what was sent behind it is answered too
    last = min((one.at for one in judge.book.crashes if one.at >= over), default=math.inf)
    sent = _sent_of(judge, address)
    for other in () if sent is None else sent.recipients:
        seen: list[Refusal | Take] = [*judge.book.refusals.get(other, ()), *judge.deliveries[other]]
        ends = [one.at for one in seen if other != address and one.peer == refusal.peer]
        over = max([over, *(at + JOURNEY for at in ends if refusal.at <= at <= min(last, refusal.at + 15.0))])
        if last <= over + TRANSACTION_MAX and other != address and _is_pending(judge, other, refusal, last):
            over = last
    # A host that breaks off after the final dot, or is slow, is heard of later than anybody can see.
    peer = next(one for one in judge.plan.peers if one.name == refusal.peer)
    return over + 4.0 * peer.slow + (5.0 if peer.drops_untaken or peer.drops_taken else 0.0)


def _is_pending(judge: Judge, other: str, refusal: Refusal, until: float) -> bool:
    """True if the host that put one off had still to decide on another of the same message when a crash fell."""
    peer = next(one for one in judge.plan.peers if one.name == refusal.peer)
    if other.partition("@")[2] not in peer.domains or any(take.at <= until for take in judge.deliveries[other]):
        return False
    told = (one for one in judge.book.refusals.get(other, ()) if one.at <= until)
    return not any(one.code >= 500 or (one.peer == peer.name and one.at >= refusal.at - 5.0) for one in told)


def _sent_of(judge: Judge, address: str) -> Sent | None:
    token, _, attempt = address.partition("@")[0].partition(".")[2].rpartition(".")
    return judge.book.sent.get((token, int(attempt))) if attempt.isdigit() else None


def _is_at_expiry(judge: Judge, address: str, at: float) -> bool:
    """The last attempt falls on the deadline, however soon after the one before. That is one of the wall clock."""
    sent = _sent_of(judge, address)
    if sent is None:
        return True
    waited = at - sent.dot_at + sum(by for when, by in judge.plan.jumps if sent.dot_at <= START + when <= at)
    return waited >= min(one.expire for one in judge.people.terms(sent.dot_at, at)) - 5.0


def _look_at_the_end(judge: Judge) -> None:
    played, image = judge.played, judge.image
    if not played.is_quiet:
        judge.breaks(f"no end: the world is not quiet after {played.seconds:.0f} s: {'; '.join(played.left[:4])}")
    elif left := [text for text in played.left if not _is_beside_a_stillborn(judge, text)]:
        judge.breaks(f"leak: {'; '.join(left[:4])}")
    if not played.is_stopped:
        judge.breaks("no end: an orderly stop did not come to its end")
    for text in judge.book.broken[:3]:
        judge.breaks(f"error of ours: {text}")
    for text in image.trouble:
        if judge.is_stillborn(text):
            continue
        judge.breaks(f"database: {text}")
    for text in image.damaged:
        if judge.is_stillborn(text):
            continue
        judge.breaks(f"damage: set aside: {text}")
    if played.is_quiet and (image.messages or image.waiting or image.total):
        count = f"{image.messages} messages, {len(image.waiting)} recipients, counted as {image.total}"
        judge.breaks(f"queue: thought empty, and the disk holds {count}")


def _is_beside_a_stillborn(judge: Judge, text: str) -> bool:
    """True of a content file that nobody collects, since what is set aside beside its shard might name it."""
    shards = {path.partition(".damaged-")[0] for path in judge.image.damaged if judge.is_stillborn(path)}
    return text.startswith("content file ") and any(f" {shard}/" in text for shard in shards)
