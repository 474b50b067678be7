"""A job: the deliveries of one message that go to one destination together.

Owns: that value, and the questions asked of it. Does not own: the claim it stands for; whoever ends a job
hands its deliveries back to the spool by ``record`` or ``unclaim``, all of them, exactly once.
"""

from __future__ import annotations

from postroad.core.address import Path
from postroad.core.ids import MessageId
from postroad.policy.schedule import Schedule
from postroad.spool.face import Delivery, QueuedMessage


class Job:
    """Some claimed deliveries of one message, bound for one destination."""

    __slots__ = ("deliveries", "message", "retry", "route")

    def __init__(self, message: QueuedMessage, deliveries: tuple[Delivery, ...], retry: Schedule) -> None:
        self.message = message
        self.deliveries = deliveries
        self.retry = retry
        self.route = ""
        """The rule that chose the destination, for facts: RouteChoice.rule."""

    @property
    def id(self) -> MessageId:
        return self.message.id

    @property
    def sender(self) -> Path:
        return self.message.envelope.sender

    @property
    def numbers(self) -> list[int]:
        return [delivery.number for delivery in self.deliveries]

    @property
    def attempts(self) -> int:
        """Attempts before this one, of the delivery that had most."""
        return max(delivery.attempts for delivery in self.deliveries)

    def recipient(self, number: int) -> str:
        """The address of one recipient, for facts."""
        return str(self.message.envelope.recipients[number].mailbox)

    def __len__(self) -> int:
        return len(self.deliveries)
