"""Jobs that wait for the hosts of their domain to be looked up: one lookup for all of a route and domain.

Owns: which jobs wait for which lookup, how many lookups there are. Does not own: looking up (planner.py), what becomes
of the jobs then (scheduler.py).

A new plan takes the jobs away, a person who steers some of them; a lookup that was begun for them finds none, or the
others, when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from postroad.outbound.job import Job
from postroad.outbound.planner import Step
from postroad.policy.route import RouteChoice

LOOKUPS_MAX: Final = 100
"""Domains being looked up at once; others wait in the spool."""


class Lookup:
    """One lookup on its way, with the jobs that wait for it."""

    __slots__ = ("choice", "domain", "jobs")

    def __init__(self, choice: RouteChoice[Step], domain: str) -> None:
        self.choice = choice
        self.domain = domain
        self.jobs: list[Job] = []


class Lookups:
    """All lookups on their way."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[int | None, str], Lookup] = {}
        self._domains: dict[str, int] = {}

    def __iter__(self) -> Iterator[Job]:
        """All jobs that wait."""
        return (job for lookup in self._by_name.values() for job in lookup.jobs)

    @property
    def are_full(self) -> bool:
        return len(self._by_name) >= LOOKUPS_MAX

    def has_domain(self, domain: str) -> bool:
        """True if a lookup of the domain is on its way, for any route."""
        return domain in self._domains

    def waiting(self, choice: RouteChoice[Step], domain: str) -> int | None:
        """Return how many jobs wait for a lookup; None: there is none."""
        found = self._by_name.get((choice.index, domain))
        return None if found is None else len(found.jobs)

    def add(self, choice: RouteChoice[Step], domain: str, job: Job) -> Lookup | None:
        """Have a job wait; return the lookup if it has to be begun."""
        name = choice.index, domain
        if (found := self._by_name.get(name)) is not None:
            found.jobs.append(job)
            return None
        new = self._by_name[name] = Lookup(choice, domain)
        new.jobs.append(job)
        self._domains[domain] = self._domains.get(domain, 0) + 1
        return new

    def end(self, lookup: Lookup) -> list[Job]:
        """A lookup is over: return the jobs that waited for it."""
        name = lookup.choice.index, lookup.domain
        if self._by_name.get(name) is lookup:
            del self._by_name[name]
            if (left := self._domains.pop(lookup.domain) - 1) > 0:
                self._domains[lookup.domain] = left
        jobs, lookup.jobs = lookup.jobs, []
        return jobs

    def take_away(self, unwanted: Callable[[str], bool]) -> list[Job]:
        """Return the jobs for domains that are ``unwanted``; a lookup of one goes on, and finds none."""
        found: list[Job] = []
        for lookup in list(self._by_name.values()):
            if unwanted(lookup.domain):
                found.extend(self.end(lookup))
        return found

    def take_jobs(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Return the jobs that are ``unwanted``; the others keep their order, and every lookup goes on."""
        found: list[Job] = []
        for lookup in self._by_name.values():
            if jobs := [job for job in lookup.jobs if unwanted(job)]:
                lookup.jobs = [job for job in lookup.jobs if not unwanted(job)]
                found += jobs
        return found
