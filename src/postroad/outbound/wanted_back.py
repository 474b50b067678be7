"""What a person steers while it waits in memory: jobs in front of a destination, or of a lookup, go back to the spool.

Owns: finding them, in one look at all that waits. Does not own: what is wanted (spool/slices.py), what giving back
means (scheduler.py). A job that a lane has in hand is in neither queue: it is in flight, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from postroad.core.ids import MessageId
from postroad.outbound.destinations import Destinations
from postroad.outbound.job import Job
from postroad.outbound.lookups import Lookups
from postroad.spool.face import Delivery


class WaitingJobs:
    """All jobs that only wait. A call is spool.face.WantedBack."""

    def __init__(
        self, destinations: Destinations, lookups: Lookups, give_back: Callable[[Sequence[Job]], None]
    ) -> None:
        self._destinations = destinations
        self._lookups = lookups
        self._give_back = give_back

    def __call__(self, wanted: Mapping[MessageId, AbstractSet[int]], take: bool) -> Sequence[Delivery]:
        """Return which of the deliveries only wait; ``take``: their jobs go back as a whole."""

        def is_wanted(job: Job) -> bool:
            numbers = wanted.get(job.message.id)
            return numbers is not None and any(delivery.number in numbers for delivery in job.deliveries)

        crowds = [destination for destination in self._destinations if destination.waiting]
        if take:
            jobs = [job for destination in crowds for job in destination.take_away(is_wanted)]
            jobs += self._lookups.take_jobs(is_wanted)
            self._give_back(jobs)
        else:
            jobs = [job for destination in crowds for job in destination.waiting if is_wanted(job)]
            jobs += filter(is_wanted, self._lookups)
        return [one for job in jobs for one in job.deliveries if one.number in wanted[job.id]]
