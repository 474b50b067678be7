"""What people did, as the judge knows it: what they meant, what was in force when, and the laws about their steering.

Owns: which orders can have touched a recipient; settings and routes that may have been in force in a span; the laws: a
person's answer is true (what was held stays, what was deleted or returned never goes, as many drop rows as he was
told), a suspended destination gets nothing, what was reloaded holds for all that comes later, limits. Does not own: the
fate of each message (judge.py). An order without an answer may have been done, in part or whole; so may a refused one,
but for a reload, which is done by all or by none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from postroad.testing.sim.book import Book, Order, Sent, Take
from postroad.testing.sim.disk_image import Drop
from postroad.testing.sim.house import EPOCH, ROUTES
from postroad.testing.sim.judge_disk import seconds_of
from postroad.testing.sim.judge_ids import number_of
from postroad.testing.sim.kernel import START
from postroad.testing.sim.story import Peer, Plan, Terms

if TYPE_CHECKING:
    from postroad.testing.sim.judge import Judge

UNKNOWN_FOR: Final = 900.0
"""Seconds in which an order without an answer may still be done: a disk may hang as long."""
SWITCHED_AFTER: Final = 1.0
"""Seconds after its answer in which a reload, or a rule for a destination, has come to every worker."""
AWAY_MAX: Final = 5.0
"""Seconds from the end of a ledger until the next one has heard all workers: it is away for 3 at most, and settles."""
TWICE_DEAD_FOR: Final = 60.0
"""Seconds for which a connection that nobody knew of may be held."""
UNDER_WAY: Final = 35.0
"""Seconds in which connections that were begun under older limits may still come to be: names are looked up first."""
CALM_FOR: Final = 2.0
ROUGH_FOR: Final = 400.0
"""Seconds in which an attempt that was under way may begin with a next host: others keep it waiting."""
STOPPED_WITHIN: Final = 40.0
"""Seconds within which a worker that stops in order has stopped: what it has in hand after ``[process] drain`` is
broken off, and tried again at the next start."""
BY_HAND: Final = "bounced by hand, no report wanted"
_STEERING: Final = ("hold", "release", "flush", "delete", "bounce")


class People:
    """The orders of one story."""

    def __init__(self, plan: Plan, book: Book) -> None:
        self.plan = plan
        self.orders = book.orders
        self.reloads = [one for one in book.orders if one.verb == "reload" and one.terms is not None]
        spans = [one.at for one in book.orders]
        self.until = max(spans) if spans else START
        """When they did the last thing."""

    # --- what may have touched what ---

    def about(self, verb: str, sent: Sent | None, address: str) -> list[Order]:
        """Return the orders of a kind that mean a recipient; ``sent`` is the message if it came from a client."""
        return [one for one in self.orders if one.verb == verb and means(one, sent, address)]

    def may_have(self, verb: str, sent: Sent | None, address: str, before: float = math.inf) -> bool:
        """True if somebody asked for it by then."""
        return any(one.at <= before for one in self.about(verb, sent, address))

    def made_due(self, sent: Sent | None, address: str, begin: float, end: float) -> bool:
        """True if an attempt in that span may be due by a person's word."""
        return any(
            one.at <= end and (one.told_at or one.at + UNKNOWN_FOR) >= begin - 1.0
            for verb in ("flush", "release")
            for one in self.about(verb, sent, address)
        )

    # --- what was in force ---

    def terms(self, begin: float, end: float = math.inf) -> list[Terms]:
        """Return all terms that may have been in force at some time of a span."""
        last = START if not self.reloads else 0.0
        found: list[tuple[float, Terms]] = [(last, self.plan.terms)]  # until when its order was under way
        for one in self.reloads:
            if one.at > end or (one.told_at and one.refused):
                continue
            assert one.terms is not None
            if one.is_done and one.told_at + SWITCHED_AFTER < begin:
                found = [(over, terms) for over, terms in found if over > one.at]
            found.append((one.told_at or one.at + UNKNOWN_FOR, one.terms))
        return [terms for _, terms in found]

    def ways(self, domain: str, begin: float, end: float = math.inf) -> set[str]:
        """Return how mail to a domain may have gone: maildir, discard, reject, mx."""
        return {dict(one.routes).get(domain, ROUTES.get(domain, "mx")) for one in self.terms(begin, end)}


def means(order: Order, sent: Sent | None, address: str) -> bool:
    """True if an order names a recipient."""
    match order.of:
        case "id":
            return sent is None or order.what == sent.name
        case "to":
            return order.what == address
        case "domain":
            return order.what == address.partition("@")[2]
        case _:
            return True


# --- the laws ---


def look_at_people(judge: Judge) -> None:
    """Judge what people heard."""
    people = judge.people
    if not people.orders:
        return
    for order in people.orders:
        if order.is_done and order.verb in ("hold", "delete", "bounce"):
            _look_at_stopped(judge, order)
        if order.is_done and order.verb == "delete":
            _look_at_rows(judge, order)
        if order.is_done and order.verb == "suspend":
            _look_at_suspended(judge, order)
    _look_at_ways(judge)


def _look_at_stopped(judge: Judge, order: Order) -> None:
    """What was held, deleted or returned does not go, but for as many as were in flight, as the person was told."""
    late = set()
    for sent in judge.book.sent.values():
        if sent.code != 250 or sent.told_at >= order.at or _was_unreached(judge, order, sent):
            continue
        for address in sent.recipients:
            if not means(order, sent, address):
                continue
            until = _held_until(judge, order, sent, address) if order.verb == "hold" else math.inf
            takes = [take for take in judge.deliveries[address] if order.told_at < take.at < until]
            if any(not _is_of_the_dead(judge, take) for take in takes):
                late.add(address)
                if _only_waited(judge, order, address, takes[0]):
                    judge.breaks(
                        f"steering: {order.who} heard at {order.told_at:.3f} that {order.verb} {order.of} {order.what}"
                        f" is done, {address} was not in hand then, and its attempt began at {takes[0].mail_at:.3f}"
                    )
    if len(late) > order.in_flight:
        judge.breaks(
            f"steering: {order.who} heard at {order.told_at:.3f} that {order.verb} {order.of} {order.what} is done,"
            f" {order.in_flight} in flight, and then went {', '.join(sorted(late)[:4])}"
        )


def _was_unreached(judge: Judge, order: Order, sent: Sent) -> bool:
    """True if the person heard that a shard was not reached, and the message may have been in that."""
    number = number_of(sent.name)
    return bool(order.unreached) and (number < 0 or judge.disk.may_have_been_in(order.unreached, number, order.told_at))


def _only_waited(judge: Judge, order: Order, address: str, take: Take) -> bool:
    """True if no connection can have had a recipient in hand when an order was answered: its attempt began later.

    Only where an attempt that is under way is soon over, by a delivery or a refusal, and nobody else steers meanwhile.
    """
    begin, end = order.at - CALM_FOR, order.told_at + CALM_FOR
    hosts = [peer for peer in judge.plan.peers if address.partition("@")[2] in peer.domains]
    if judge.plan.weather.resets or any(host.drops_untaken or host.drops_taken or host.rate_4xx for host in hosts):
        return False  # an attempt that breaks off names no recipient
    if take.mail_at <= end or not _are_calm(hosts) or judge.plan.jumps or judge.is_troubled(begin, end):
        return False
    if any(begin - STOPPED_WITHIN <= one.at <= take.at for one in judge.book.stops):
        return False  # what was in hand when the relay stopped is tried again
    if any(begin <= one.at <= take.at for one in judge.book.crashes):
        return False  # what was in hand then is tried again
    if any(begin <= refusal.at <= take.mail_at for refusal in judge.book.refusals.get(address.lower(), ())):
        return False
    others = (one for one in judge.people.orders if one is not order and one.verb in _STEERING)
    return not any(one.at <= end and (one.told_at or one.at + UNKNOWN_FOR) >= begin for one in others)


def _are_calm(peers: Iterable[Peer]) -> bool:
    """True if none of them makes anybody wait."""
    return not any(
        peer.silent or peer.slow or peer.breaks_tls or peer.down or peer.cut_off or peer.names_fail or peer.garbage
        for peer in peers
    )


def _is_of_the_dead(judge: Judge, take: Take) -> bool:
    """True if it came from a worker that was gone by then: the system still carries what it was given."""
    return any(take.worker in one.workers and one.at <= take.at for one in (*judge.book.crashes, *judge.book.stops))


def _held_until(judge: Judge, order: Order, sent: Sent, address: str) -> float:
    """Return until when a hold lasts: a release that was asked before it was answered may come after it."""
    times = [
        one.at
        for one in judge.people.about("release", sent, address)
        if (one.told_at or one.at + UNKNOWN_FOR) >= order.at
    ]
    return min(times, default=math.inf)


def _look_at_rows(judge: Judge, order: Order) -> None:
    """As many drop rows as the person was told: neither less nor more."""
    rule = f"queue delete by {order.who}"
    drops = [one for one in judge.image.drops if one.rule == rule]
    rows = sum(not any(_is_copy(judge.plan, one, other) for other in drops) for one in drops)
    is_less = rows < order.recipients and not judge.book.stops
    if is_less or rows > order.recipients:
        judge.breaks(f"steering: {order.who} heard that {order.recipients} are deleted, and {rows} rows say so")


def _is_copy(plan: Plan, one: Drop, other: Drop) -> bool:
    """True if a row was copied into the shard that took over the other's, which then was a worker's own once more.

    Such rows stay in the source to its end, and where another number of workers comes before that, it goes on.
    """
    counts = [plan.workers, *(count for _, count in plan.resizes)]
    is_taken_over = any(count <= other.shard and other.shard % count == one.shard for count in counts)
    return is_taken_over and one == msgspec.structs.replace(other, shard=one.shard)


def _look_at_suspended(judge: Judge, order: Order) -> None:
    """Nothing begins to go to a suspended destination."""
    plan, book = judge.plan, judge.book
    if plan.jumps:
        return  # its end is one of the wall clock
    begin = order.told_at + (CALM_FOR if _are_calm(plan.peers) else ROUGH_FOR)
    away = [one.at for one in (*book.crashes, *book.stops) if order.at - 5.0 <= one.at <= begin]
    if away or judge.is_troubled(order.at - 5.0, begin):
        return
    ends = [
        one.at
        for one in judge.people.orders
        if one.what == order.what
        and one.verb in ("resume", "suspend")
        and one is not order
        and (one.told_at or one.at + UNKNOWN_FOR) >= order.at
    ]
    end = min([*ends, order.until or math.inf, *(one.at for one in (*book.crashes, *book.stops) if one.at > begin)])
    for take in book.takes:
        if begin < take.mail_at < end and _is_of(order.what, take):
            judge.breaks(
                f"steering: {order.what} was suspended at {order.told_at:.3f}, and {take.peer} took at {take.at:.3f}"
            )
            return


def _is_of(destination: str, take: Take) -> bool:
    if destination.startswith("mx:"):
        return destination[3:] == take.peer
    return all(one.endswith(f"@{destination}") for one in take.recipients)


def _look_at_ways(judge: Judge) -> None:
    """What goes, goes by a route that was in force since the message was there."""
    people, book = judge.people, judge.book
    for take in book.takes:
        sent = book.sent.get((take.token, take.attempt))
        if sent is None or take.report or not sent.dot_at:
            continue
        for address in take.recipients:
            domain = address.partition("@")[2]
            if "mx" not in people.ways(domain, sent.dot_at, take.at):
                judge.breaks(f"route: {take.peer} took {address} at {take.at:.3f}, and another route holds for long")
    for stored in judge.image.stored:
        sent = book.sent.get((stored.seen.token, stored.seen.attempt))
        if sent is not None and "maildir" not in people.ways(stored.address.partition("@")[2], sent.dot_at):
            judge.breaks(f"route: {stored.address} lies in a Maildir, and another route holds for long")


# --- limits ---


def look_at_crowds(judge: Judge) -> None:
    """No more connections to a host than may have been allowed since those were begun."""
    told = 0
    for at, peer, held in judge.book.held:
        most = _most(judge, at, peer)
        if held > most and told < 3 and not _have_two_died(judge, at):
            told += 1
            judge.breaks(f"limit: {peer}: {held} connections at {at:.3f}, and {most} are allowed")


def _have_two_died(judge: Judge, at: float) -> bool:
    """True if a worker ended while there was no ledger that knew what it held: what it knew of others' is gone
    (docs/adr/0004, "Two deaths at a time"). What was taken since may be held for as long as a connection is kept."""
    away = AWAY_MAX + 4.0 * judge.plan.ledger_latency
    crashes = [one for one in judge.book.crashes if at - TWICE_DEAD_FOR <= one.at <= at]
    absences = [(one.at, away) for one in crashes if one.how == "ledger"]
    absences += [(begin, seconds + away) for begin, seconds in judge.book.hangs]
    return any(
        begin <= other.at <= begin + seconds
        for begin, seconds in absences
        for other in crashes
        if other.how == "process"
    )


def _most(judge: Judge, at: float, peer: str) -> int:
    """Return how many connections a host may see, by the loosest that may have been in force."""
    people, begin = judge.people, _begun_since(judge, at)
    most = max(one.connections for one in people.terms(begin, at))
    domains = next(one.domains for one in judge.plan.peers if one.name == peer)
    named = {one.what for one in people.orders if one.verb in ("suspend", "override") and one.at <= at}
    singled = named & set(domains)
    for name in (f"mx:{peer}", *domains):
        rules = [one for one in people.orders if one.verb == "override" and one.what == name and one.at <= at]
        most = max([most, *(one.connections for one in rules)])
    if len(domains) > 1 or singled:
        return most * (1 + len(singled))  # each is a destination of its own now
    return min(most, _overridden(judge, begin, at, f"mx:{peer}"))


def _begun_since(judge: Judge, at: float) -> float:
    """Return since when connections that come to be at a time can have been begun.

    Content is read before names are looked up, and where our own disk is slow, that goes on for as long.
    """
    since = at - UNDER_WAY
    for begin, why in sorted(judge.played.troubles, reverse=True):
        if begin < since <= begin + seconds_of(why):
            since = begin
    return since


def _overridden(judge: Judge, begin: float, at: float, name: str) -> int:
    """Return what an override has allowed for certain during a span; a large number if none has."""
    rules = [one for one in judge.people.orders if one.what == name and one.verb in ("override", "restore")]
    sure = [one for one in rules if one.verb == "override" and one.is_done and one.told_at + SWITCHED_AFTER < begin]
    if not sure or judge.plan.jumps:
        return 1_000_000
    last = sure[-1]
    others = [one for one in rules if one is not last and (one.told_at or one.at + UNKNOWN_FOR) >= last.at]
    if any(one.at <= at for one in others) or 0.0 < last.until <= at:
        return 1_000_000
    if any(last.at - 5.0 <= one.at <= at for one in (*judge.book.crashes, *judge.book.stops)):
        return 1_000_000
    return last.connections


def moment(at: float) -> float:
    """Return the time of the world for one of a clock that was never set."""
    return at - EPOCH + START
