"""The judge: what every client was told, what every next hop took, and whether that is the promise.

Owns: the laws about messages: none lost, none that was refused, none torn, duplicates with their cause, reports and
drops with theirs, contents. Does not own: copies (judge_copies.py), reports as such (judge_reports.py), laws about
limits, times, facts (judge_more.py), seeing (book.py). Imports nothing of the product: it rests on what went over the
wire, and at the end on rows and files (disk_image.py).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from typing import Any, Final

import msgspec

from postroad.testing.sim.book import Sent, Take
from postroad.testing.sim.disk_image import Drop, Image
from postroad.testing.sim.judge_copies import look_at_copies
from postroad.testing.sim.judge_disk import Disk
from postroad.testing.sim.judge_ids import number_of, shard_of, time_of
from postroad.testing.sim.judge_reports import look_at_names, look_at_promised, look_at_report
from postroad.testing.sim.judge_steering import BY_HAND, People, moment
from postroad.testing.sim.kernel import START
from postroad.testing.sim.resolver import NO_SUCH_DOMAIN, NULL_MX
from postroad.testing.sim.world import Played

_SET_ASIDE: Final = re.compile(r"/shard-(\d+)\.damaged-(\d+)")


class Verdict(msgspec.Struct):
    """What the judge finds."""

    broken: list[str] = []
    """Laws that were broken, in words."""
    ends: Counter[str] = Counter()
    """How recipients of accepted messages ended."""
    duplicates: Counter[str] = Counter()
    """By cause."""
    accepted: int = 0
    unknown: int = 0
    refused: int = 0


class Judge:
    """Looks at one played story."""

    def __init__(self, played: Played) -> None:
        self.played = played
        self.book = played.book
        self.image: Image = played.image
        self.plan = played.plan
        self.verdict = Verdict([], Counter(), Counter())
        self.deliveries: dict[str, list[Take]] = defaultdict(list)
        self.arrivals: dict[str, list[Take]] = defaultdict(list)
        """Reports as well."""
        self.reports: dict[str, list[tuple[float, str]]] = defaultdict(list)
        """Recipient -> when somebody took a report on it, and its action."""
        for take in self.book.takes:
            for address in take.recipients:
                self.arrivals[address].append(take)
                if not take.report:
                    self.deliveries[address].append(take)
            for address, action in take.report:
                self.reports[address].append((take.at, action))
        self.stored = Counter(one.address for one in self.image.stored)
        self.drops: dict[str, list[Drop]] = defaultdict(list)
        for drop in self.image.drops:
            self.drops[drop.recipient.lower()].append(drop)
        self.waiting: dict[int, set[int]] = defaultdict(set)
        for message, number, _, _ in self.image.waiting:
            self.waiting[message].add(number)
        self.facts: dict[str, list[tuple[float, Any]]] = defaultdict(list)
        for when, fact in played.facts:
            self.facts[type(fact).__name__].append((when, fact))
        self.reported: dict[int, list[Any]] = defaultdict(list)
        """Facts Reported, by the id of the report."""
        for _, fact in self.facts["Reported"]:
            self.reported[fact.report].append(fact)
        self.stored_at: dict[str, list[float]] = defaultdict(list)
        """Recipient -> when a fact said that it lies in its Maildir."""
        for when, fact in self.facts["Delivered"]:
            if fact.destination.startswith("maildir:"):
                self.stored_at[fact.recipient.lower()].append(when)
        self.senders = {sent.sender.lower() for sent in self.book.sent.values() if sent.sender}
        self.people = People(self.plan, self.book)
        self.disk = Disk(self.plan, self.book, played.troubles, self.facts["Transferred"])
        self.forward = sum(max(0.0, by) for _, by in self.plan.jumps)

    def judge(self) -> Verdict:
        """Return the verdict on the messages."""
        for sent in self.book.sent.values():
            self._look_at(sent)
        self._look_at_takes()
        self._look_at_drops()
        look_at_names(self)
        look_at_promised(self)
        return self.verdict

    def breaks(self, law: str) -> None:
        self.verdict.broken.append(law)

    # --- each message of a client ---

    def _look_at(self, sent: Sent) -> None:
        verdict = self.verdict
        name = f"{sent.token}.{sent.attempt}"
        ends = {address: self._ends(sent, number, address) for number, address in enumerate(sent.recipients)}
        for address in sent.refused:
            if found := self._ends(sent, -1, address):
                self.breaks(f"refused recipient: {address} was refused to {name}, and is {', '.join(found)}")
        if sent.code // 100 == 2 and sent.recipients:
            verdict.accepted += 1
            for address, found in ends.items():
                if not found:
                    self.breaks(f"LOST: {name} got 250 at {sent.told_at:.3f}, and {address} has no end")
                verdict.ends["+".join(found) or "lost"] += 1
        elif sent.code or not sent.dot_at:
            verdict.refused += 1
            for address, found in ends.items():
                if found and self.disk.is_kept_by_a_failed_sync(sent):
                    verdict.duplicates["451 for what a failed sync had kept, and an end before it was removed"] += 1
                elif found:
                    self.breaks(f"refused: {name} got {sent.code or 'no chance'}, and {address} is {', '.join(found)}")
        else:
            verdict.unknown += 1
            if any(ends.values()) and not all(ends.values()):
                missing = [address for address, found in ends.items() if not found]
                self.breaks(f"torn: {name} was kept for some recipients, and not for {', '.join(missing)}")
        look_at_copies(self, sent)

    def _ends(self, sent: Sent, number: int, address: str) -> list[str]:
        """Return how a recipient ended, all the ways that can be seen."""
        ends = []
        if self.deliveries[address] or self.stored[address]:
            ends.append("delivered")
        failed = [at for at, action in self.reports[address] if action == "failed"]
        if failed:
            ends.append("reported")
            reported_at = self.reported_at(address, min(failed))
            cause = self.cause(sent, address, reported_at)
            if not cause:
                self.breaks(f"report without cause: on {address} at {min(failed):.3f}")
            elif cause == "expired" and self._well_for(address, sent, reported_at) > 0.0:
                self.breaks(f"given up: {address} at {reported_at:.3f}, though its hosts had been well for long")
        if self.drops[address]:
            ends.append("dropped")
        if (
            not ends
            and sent.sender
            and any(self._told_of(one, sent, address) for one in self.drops[sent.sender.lower()])
        ):
            ends.append("report dropped")
        if number in self.waiting.get(number_of(sent.name), ()):
            ends.append("queued")
        return ends

    def is_stillborn(self, where: str) -> bool:
        """True if it is of a database that was damaged before its worker had taken any mail: nothing was in it."""
        found = _SET_ASIDE.search(where)
        if found is None:
            return False
        until, worker = self.latest_of(float(found[2])) + 1.0, f"worker-{found[1]}#"
        return not any(
            one.code == 250 and one.told_at <= until and one.worker.startswith(worker)
            for one in self.book.sent.values()
        )

    def _told_of(self, drop: Drop, sent: Sent, address: str) -> bool:
        """True if a report that was dropped told that this recipient had failed, and it can have."""
        cause = self.cause(sent, address, self.latest(drop))
        return bool(cause) and self.is_dropped_report(drop, sent, address, ("failed",))

    def is_dropped_report(self, drop: Drop, sent: Sent, address: str, actions: Container[str]) -> bool:
        """True if the message that was dropped is a report that told this of a recipient.

        Where its worker died between the commit of the report and its fact, it told of those that no other report tells
        of and that had come to that end when it was made.
        """
        facts = self.reported.get(drop.message)
        if facts is not None:
            return any(fact.action in actions and address in lower(fact.recipients) for fact in facts)
        made_at = time_of(drop.message)
        begin, end = self.earliest(made_at), self.latest_of(made_at)
        if not self.disk.is_untold(begin, end, shard_of(drop.message)):
            return False
        for _, fact in self.facts["Reported"]:
            if fact.action in actions and address in lower(fact.recipients):
                return False
        kinds = ("Bounced", "Expired", "Delivered") if "delivered" in actions else ("Bounced", "Expired")
        ended = any(
            when <= end and fact.recipient.lower() == address for kind in kinds for when, fact in self.facts[kind]
        )
        return ended or self.people.may_have("bounce", sent, address, end)

    def reported_at(self, address: str, at: float) -> float:
        """Return when the report was made, as far as a fact tells, else when it arrived."""
        for when, fact in self.facts["Reported"]:
            if fact.action == "failed" and address in lower(fact.recipients):
                return when
        return at

    def cause(self, sent: Sent, address: str, at: float) -> str:
        """Return why an address can have failed for good at ``at``, as the outside world knows; empty: it cannot."""
        domain = address.partition("@")[2]
        if domain in (NO_SUCH_DOMAIN, NULL_MX) or "reject" in self.people.ways(domain, sent.dot_at, at):
            return domain
        if self.people.may_have("bounce", sent, address, at):
            return "by hand"
        for refusal in self.book.refusals.get(address, ()):
            if refusal.code >= 500 and refusal.at <= at:
                return f"{refusal.code} of {refusal.peer}"
        for peer in self.plan.peers:
            if domain in peer.domains and 0 < peer.size_max < sent.size + 4_096:
                return f"too big for {peer.name}"
        begun = sent.dot_at or self.book.time()
        if at - begun + self.forward >= min(one.expire for one in self.people.terms(begun, at)) - 1.0:
            return "expired"
        return ""

    def _well_for(self, address: str, sent: Sent, at: float) -> float:
        """Return for how many seconds, beyond what retries may take, all hosts of an address would have taken it."""
        plan, domain = self.plan, address.partition("@")[2]
        hosts = [peer for peer in plan.peers if domain in peer.domains]
        if not hosts or plan.rate or any(peer.silent or peer.breaks_tls or peer.slow for peer in plan.peers):
            return 0.0
        ends = [peer.well_after for peer in hosts]
        ends += [end for peer in hosts for _, end in (*peer.down, *peer.cut_off)]
        # Gaps that have just begun, of the recipient and of the host, and all that the relay itself was away.
        patience = 4.0 * max(one.retry_longest for one in plan.all_terms) + 120.0
        patience += self.people.until - START + sum(abs(by) for _, by in plan.jumps)
        patience += sum(one.seconds for one in plan.spells) + sum(one.down + 5.0 for one in plan.blows)
        return at - max(START + max(ends), sent.dot_at) - patience

    def is_troubled(self, begin: float, end: float) -> bool:
        """True if an operation failed, or was under way for long, in that span."""
        return self.disk.is_troubled(begin, end)

    # --- what arrived ---

    def _look_at_takes(self) -> None:
        for at, peer in self.book.unheard:
            self.breaks(f"unheard: {peer} got content at {at:.3f} behind a RSET that it had refused")
        for take in self.book.takes:
            if take.report:
                look_at_report(self, take)
                continue
            sent = self.book.sent.get((take.token, take.attempt))
            if sent is None:
                self.breaks(f"unknown: {take.peer} took at {take.at:.3f} what no client sent")
                continue
            name = f"{take.token}.{take.attempt}"
            if not sent.is_content(take.hash, ends_lines=not take.by_chunks):
                self.breaks(f"content: {take.peer} took {name} at {take.at:.3f} with another content than was sent")
            if take.sender.lower() != sent.sender.lower():
                self.breaks(f"sender: {name} came from {sent.sender!r} and went as {take.sender!r}")
            for address in take.recipients:
                if address not in sent.recipients:
                    self.breaks(f"stranger: {name} went to {address}, whom the client did not name")
        for stored in self.image.stored:
            sent = self.book.sent.get((stored.seen.token, stored.seen.attempt))
            if sent is None or not sent.is_content(stored.seen.hash) or stored.address not in sent.recipients:
                self.breaks(f"content: {stored.name} in the Maildir of {stored.address} is not what was sent")

    def _look_at_drops(self) -> None:
        """Every drop's rule must be one that applies."""
        by_address = {address: sent for sent in self.book.sent.values() for address in sent.recipients}
        by_sender = {sent.sender.lower(): sent for sent in self.book.sent.values() if sent.sender}
        for address, drops in self.drops.items():
            sent = by_address.get(address)
            about = sent or by_sender.get(address)
            for drop in drops:
                if about is None:
                    self.breaks(f"drop: of {address}, who is not known, by {drop.rule}")
                elif drop.rule.startswith("route:"):
                    if "discard" not in self.people.ways(address.partition("@")[2], about.dot_at):
                        self.breaks(f"drop: of {address} by {drop.rule}, which is not its route")
                elif drop.rule.startswith("queue delete by "):
                    self._look_at_deleted(drop, sent, address)
                elif drop.rule == BY_HAND:
                    if not self.people.may_have("bounce", sent, address, self.latest(drop)):
                        self.breaks(f"drop: of {address} by {drop.rule}, and nobody asked")
                    elif sent is not None and sent.sender and "NEVER" not in sent.notify:
                        self.breaks(f"drop: of {address} by {drop.rule}, and its sender wants a report")
                elif drop.rule not in ("null-sender", "notify-never"):
                    self.breaks(f"drop: of {address} by a rule nobody made: {drop.rule}")
                elif drop.rule == "null-sender" and sent is not None and sent.sender:
                    self.breaks(f"drop: of {address} as from nobody, and it is from {sent.sender}")
                elif drop.rule == "notify-never" and (sent is None or "NEVER" not in sent.notify):
                    self.breaks(f"drop: of {address} by notify-never, and nobody said NEVER")
                elif not self.cause(about, address, self.latest(drop)):
                    self.breaks(f"drop: of {address} by {drop.rule}, and nothing had failed")

    def _look_at_deleted(self, drop: Drop, sent: Sent | None, address: str) -> None:
        who = drop.rule.removeprefix("queue delete by ")
        if not any(
            one.who == who and one.at <= self.latest(drop) for one in self.people.about("delete", sent, address)
        ):
            self.breaks(f"drop: of {address} by {drop.rule}, who did not ask for that")

    def latest(self, drop: Drop) -> float:
        """Return when a drop was made at the latest."""
        return self.latest_of(drop.at)

    def latest_of(self, at: float) -> float:
        """Return when something was done at the latest, by its time of the wall clock, which may have been set."""
        return moment(at) + sum(abs(by) for _, by in self.plan.jumps) + 0.001

    def earliest(self, at: float) -> float:
        """Return when something was done at the earliest, by its time of the wall clock."""
        return moment(at) - sum(abs(by) for _, by in self.plan.jumps) - 0.002


def lower(addresses: Iterable[str]) -> set[str]:
    return {one.lower() for one in addresses}
