"""From what an attempt heard to rulings, and the facts that tell of them.

Owns: one fact for each recipient's ruling, emitted before the caller records it, so that no end of a delivery goes
untold. Does not own: what the words mean (trouble.py), recording (scheduler.py, aging.py, report.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from postroad.core import facts
from postroad.core.address import Mailbox
from postroad.core.outcome import AttemptError, Deferred, Delivered, DeliveryState, Dropped, Failed
from postroad.core.reply import Reply
from postroad.outbound import trouble
from postroad.outbound.attempt import Attempt
from postroad.outbound.house import OutboundHouse
from postroad.outbound.job import Job
from postroad.outbound.trouble import Word
from postroad.spool.face import Delivery, QueuedMessage, Ruling


class Settler:
    """Makes rulings. ``failed_bounces_to`` gets reports on messages of the null path; None: they are dropped."""

    def __init__(self, house: OutboundHouse, failed_bounces_to: Mailbox | None = None) -> None:
        self._house = house
        self.failed_bounces_to = failed_bounces_to

    def of_attempt(self, job: Job, key: str, attempt: Attempt) -> list[Ruling]:
        """Return rulings for all deliveries of a job that was attempted. ``key``: of the destination."""
        return self.of_words(job, key, trouble.words_of(attempt))

    def of_answers(self, job: Job, key: str, attempt: Attempt) -> list[Ruling]:
        """Return rulings for those whom a host has answered while the attempt is not over; none for others."""
        words = trouble.words_of(attempt)
        return self.of_words(job, key, {number: words[number] for number in attempt.answers})

    def of_error(self, job: Job, key: str, error: AttemptError) -> list[Ruling]:
        """Return rulings for a job whose attempt broke off before any host was asked."""
        return self.of_words(job, key, dict.fromkeys(job.numbers, trouble.word_of_error(error, "")))

    def of_words(self, job: Job, key: str, words: Mapping[int, Word]) -> list[Ruling]:
        """Return rulings for a job by the last word about each recipient; none where there is no word."""
        rulings = []
        now, message = self._house.clock.now(), job.message
        for delivery in job.deliveries:
            if (word := words.get(delivery.number)) is None:
                continue
            ruling = trouble.rule(
                word,
                message,
                delivery,
                job.retry,
                now=now,
                spread=self._house.dice.random(),
                returns_null=self._returns_null(message, delivery.number),
            )
            self._emit(message, delivery, key, ruling, word.reply, now, job.route)
            rulings.append(ruling)
        return rulings

    def of_drop(self, job: Job, key: str, rule: str) -> list[Ruling]:
        """Return rulings that end all deliveries of a job by a named rule."""
        rulings, now = [], self._house.clock.now()
        for delivery in job.deliveries:
            ruling = Ruling(delivery.number, Dropped(rule), None)
            self._emit(job.message, delivery, key, ruling, None, now, job.route)
            rulings.append(ruling)
        return rulings

    def unreturnable(self, message: QueuedMessage, rulings: Sequence[Ruling]) -> list[Ruling]:
        """Drop what was to be reported, since there is nobody any more to whom."""
        deliveries, now = {delivery.number: delivery for delivery in message.deliveries}, self._house.clock.now()
        dropped = []
        for said in rulings:
            ruling = Ruling(said.number, Dropped(trouble.NULL_SENDER), None)
            reply = said.outcome.reply if isinstance(said.outcome, Failed) else None
            self._emit(message, deliveries[said.number], "", ruling, reply, now)
            dropped.append(ruling)
        return dropped

    def expire(self, message: QueuedMessage, delivery: Delivery) -> Ruling:
        """Return the ruling for a delivery whose time is up while it waits."""
        ruling = trouble.expire(message, delivery, returns_null=self._returns_null(message, delivery.number))
        reply = trouble.last_word(delivery).reply
        self._emit(message, delivery, delivery.domain, ruling, reply, self._house.clock.now())
        return ruling

    def delay(self, message: QueuedMessage, delivery: Delivery) -> Ruling:
        """Return the ruling that marks a delivery as warned of. Its fact is the report's (Reported)."""
        return trouble.delay(delivery)

    def _returns_null(self, message: QueuedMessage, number: int) -> bool:
        to = self.failed_bounces_to
        # Not what failed on the way to that very address: that would come back for ever.
        return to is not None and message.envelope.recipients[number].mailbox.key != to.key

    def _emit(
        self,
        message: QueuedMessage,
        delivery: Delivery,
        key: str,
        ruling: Ruling,
        reply: Reply | None,
        now: float,
        route: str = "",
    ) -> None:
        envelope, number = message.envelope, delivery.number
        recipient, sender = str(envelope.recipients[number].mailbox), str(envelope.sender or "")
        delay = max(0.0, now - message.received_at)
        emit = self._house.outlet.emit
        match ruling.outcome:
            case Delivered(reply=said, host=host):
                emit(
                    facts.Delivered(
                        at=now,
                        message=message.id,
                        number=number,
                        recipient=recipient,
                        sender=sender,
                        destination=key,
                        host=host,
                        reply=said,
                        delay=delay,
                        route=route,
                    )
                )
            case Deferred(reply=said, retry_at=retry_at, host=host, stage=stage):
                emit(
                    facts.Deferred(
                        at=now,
                        message=message.id,
                        number=number,
                        recipient=recipient,
                        destination=key,
                        host=host,
                        stage=stage,
                        reply=said,
                        attempts=delivery.attempts + 1,
                        retry_at=retry_at,
                        route=route,
                    )
                )
            case Failed() as failed:
                emit(_end(failed, message, number, recipient, sender, key, delay, now, route))
            case Dropped(rule=rule):
                emit(
                    facts.Dropped(
                        at=now, message=message.id, number=number, recipient=recipient, rule=rule, reply=reply
                    )
                )


def _end(
    failed: Failed,
    message: QueuedMessage,
    number: int,
    recipient: str,
    sender: str,
    key: str,
    delay: float,
    now: float,
    route: str,
) -> facts.Bounced | facts.Expired:
    if failed.expired:
        return facts.Expired(
            at=now,
            message=message.id,
            number=number,
            recipient=recipient,
            sender=sender,
            destination=key,
            host=failed.host,
            reply=failed.reply,
            delay=delay,
        )
    return facts.Bounced(
        at=now,
        message=message.id,
        number=number,
        recipient=recipient,
        sender=sender,
        destination=key,
        host=failed.host,
        stage=failed.stage,
        reply=failed.reply,
        delay=delay,
        route=route,
    )


def is_report(ruling: Ruling) -> bool:
    """True if the ruling makes a report due."""
    return ruling.next is not None and ruling.next >= DeliveryState.REPORT_FAILED
