"""Which target a delivery has: its route, and for MX routes the hosts of its domain.

Owns: joining routes (policy/route.py), DNS answers (a Resolver) and host order (policy/hosts.py) into targets; the
memory of targets while their answers live. Does not own: any of those decisions.

A target is looked up from memory first (``known``): on the path of a message nothing waits where the answer is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from postroad.core.address import is_literal_domain
from postroad.core.envelope import Envelope
from postroad.core.faces import NameNotFound, NameTrouble
from postroad.core.outcome import AttemptError
from postroad.core.units import MINUTE
from postroad.outbound.hops import Hop, Target, TlsPolicy, ToHops
from postroad.outbound.house import OutboundHouse
from postroad.policy import hosts
from postroad.policy.hosts import Found, Ourselves, Plan, Unroutable
from postroad.policy.route import RouteChoice, Router
from postroad.policy.schedule import Schedule
from postroad.spool.face import Delivery

TARGETS_MAX: Final = 50_000
"""Domains whose targets are remembered; the oldest is forgotten first."""
LITERAL_LIFE: Final = 60 * MINUTE
"""Seconds for which the target of an address literal is remembered: it cannot change."""
SMTP_PORT: Final = 25


class AskMx(msgspec.Struct, frozen=True):
    """A step of a route: the MX hosts of the recipient's domain."""

    tls: TlsPolicy


Step = AskMx | Target
"""What a route's ``via`` is made of here: one target, or hops and AskMx in any order."""


class Planner:
    """Finds targets. One for each loaded configuration."""

    def __init__(self, house: OutboundHouse, router: Router[Step], ourselves: Ourselves) -> None:
        self._house = house
        self._router = router
        self._ourselves = ourselves
        self._static: dict[tuple[int | None, str], Target | None] = {}
        self._remembered: dict[tuple[int | None, str], tuple[float, Target]] = {}

    def known(self, envelope: Envelope, delivery: Delivery) -> tuple[RouteChoice[Step], Target | None]:
        """Return the choice for one delivery, and its target if that takes no looking up now."""
        mailbox = envelope.recipients[delivery.number].mailbox
        choice = self._router.choose(mailbox, envelope.sender, envelope.client)
        return choice, self._target(choice, delivery.domain)

    def known_by_domain(self, domain: str) -> Target | None:
        """Return the target of all mail to a domain, or None if it takes more than the domain, or a lookup, to tell."""
        choice = self._router.choose_for_domain(domain)
        return None if choice is None else self._target(choice, domain)

    def retry_of(self, envelope: Envelope, delivery: Delivery) -> Schedule:
        """Return the schedule that holds for one delivery."""
        choice, target = self.known(envelope, delivery)
        return self.retry(choice, target, delivery.domain)

    def retry(self, choice: RouteChoice[Step], target: Target | None, domain: str) -> Schedule:
        """Return the route's own schedule, else the destination's, which has [retry]'s where it says nothing."""
        if choice.retry is not None:
            return choice.retry
        return self._house.retry if target is None else self._house.limits_for(target, domain).retry

    def _target(self, choice: RouteChoice[Step], domain: str) -> Target | None:
        index, rule = choice.index, self._house.domain_rule(domain)
        if (index, rule) in self._static:
            target = self._static[index, rule]
        elif any(isinstance(step, AskMx) for step in choice.via):
            target = self._static[index, rule] = None
        else:
            target = self._static[index, rule] = _join(choice.via, rule)
        if target is not None:
            return target
        remembered = self._remembered.get((index, domain))
        if remembered is not None and remembered[0] > self._house.time():
            return remembered[1]
        return None

    async def find(self, choice: RouteChoice[Step], domain: str) -> Target:
        """Return the target for mail to ``domain``, asking DNS.

        Raises:
            AttemptError: the domain has no hosts, for good or now (scope SITE).
        """
        steps: list[Target] = []
        life = LITERAL_LIFE
        error: AttemptError | None = None
        for step in choice.via:
            if not isinstance(step, AskMx):
                steps.append(step)
                continue
            try:
                target, seconds = await self._ask_mx(step, domain)
            except AttemptError as problem:
                error = problem
            else:
                steps.append(target)
                life = min(life, seconds)
        if not steps:
            assert error is not None
            raise error
        joined = _join(steps, self._house.domain_rule(domain))
        if len(self._remembered) >= TARGETS_MAX:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[choice.index, domain] = (self._house.time() + life, joined)
        return joined

    async def _ask_mx(self, step: AskMx, domain: str) -> tuple[ToHops, float]:
        if is_literal_domain(domain):
            return self._to_hops(step, f"mx:{domain}", hosts.plan_literal(domain, self._ourselves)), LITERAL_LIFE
        try:
            records, answer = await self._house.resolver.mx(domain)
        except (NameNotFound, NameTrouble) as error:
            raise hosts.without_answer(error).to_error() from error
        ranked = hosts.rank_hosts(domain, records, self._house.dice)
        if isinstance(ranked, Unroutable):
            raise ranked.to_error()
        names = hosts.names_to_look_up(ranked)
        looked_up = await asyncio.gather(*(self._addresses(name) for name in names))
        found = {name: addresses for name, (addresses, _) in zip(names, looked_up, strict=True)}
        plan = hosts.plan_hosts(ranked, found, self._ourselves)
        life = min([answer.seconds, *(seconds for _, seconds in looked_up)])
        return self._to_hops(step, hosts.site_of(ranked), plan), life

    async def _addresses(self, name: str) -> tuple[Found, float]:
        try:
            addresses, answer = await self._house.resolver.addresses(name)
        except (NameNotFound, NameTrouble) as error:
            return error, MINUTE
        return addresses, answer.seconds

    def _to_hops(self, step: AskMx, site: str, plan: Plan | Unroutable) -> ToHops:
        if isinstance(plan, Unroutable):
            raise plan.to_error()
        key = site if step.tls == "opportunistic" else f"{site}!{step.tls}"
        return ToHops(
            key,
            tuple(
                Hop("smtp", host.name, SMTP_PORT, tls=step.tls, addresses=host.addresses, preference=host.preference)
                for host in plan.hosts
            ),
        )


def _join(steps: Sequence[Step], rule: str) -> Target:
    """Return one target of the steps of a route: hops in order, or the one local end.

    A domain with limits of its own (``rule``) is a destination of its own.
    """
    hops: list[Hop] = []
    keys: list[str] = []
    for place, step in enumerate(steps):
        assert not isinstance(step, AskMx)
        if not isinstance(step, ToHops):
            return msgspec.structs.replace(step, key=step.key + rule) if rule else step
        # Later steps are fail-overs: worse than every host before.
        hops.extend(msgspec.structs.replace(hop, preference=hop.preference + 100_000 * place) for hop in step.hops)
        keys.append(step.key)
    return ToHops(" ".join(keys) + rule, tuple(hops))
