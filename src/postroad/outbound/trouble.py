"""What the words of an attempt mean: the only place where outcomes are made. Pure.

Owns: the table below the imports. Does not own: when to try again (policy/schedule.py), facts about it
(settle.py), windows (policy/window.py by way of the scheduler).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from postroad.core.envelope import Envelope
from postroad.core.outcome import AttemptError, Deferred, Delivered, DeliveryState, Dropped, Failed, Scope, Stage
from postroad.core.reply import Reply
from postroad.outbound.attempt import Attempt
from postroad.policy.schedule import Schedule, next_attempt
from postroad.spool.face import Delivery, QueuedMessage, Ruling

# heard                                      scope               becomes
# 2yz                                        -                   Delivered; a report where NOTIFY asks for one
# 4yz                                        any                 Deferred, or Failed(expired) when the time is up
# 5yz to this recipient or message           RECIPIENT, MESSAGE  Failed
# 5yz by DNS or policy                       SITE                Failed
# 5yz as greeting, to EHLO, STARTTLS, AUTH   HOST, STREAM        as 4yz: the host is at fault, not the message
# nothing                                    any                 as 4yz: our own 451, X.4.1 to X.7.5 by the stage
#
# Failed, and its sender                     becomes
# is told (NOTIFY, RFC 3461 section 4.1)     REPORT_FAILED
# is the null path                           Dropped("null-sender"), or REPORT_FAILED to failed_bounces_to
# does not want to be told                   Dropped("notify-never")

WHY_MAX: Final = 400
"""Characters of our own explanation in a reply."""
NULL_SENDER: Final = "null-sender"
NOTIFY_NEVER: Final = "notify-never"

_SILENCE: Final = {
    Stage.ROUTE: ((4, 4), "No route"),
    Stage.DNS: ((4, 3), "No answer from DNS"),
    Stage.CONNECT: ((4, 1), "No connection"),
    Stage.TLS: ((7, 5), "No TLS"),
    Stage.STORE: ((3, 0), "Cannot be stored"),
}
"""Detail and text of our own 451 where nobody answered; elsewhere the connection was lost (RFC 3463 section 3.5)."""
_LOST: Final = ((4, 2), "The connection was lost")
NEVER_TRIED: Final = Reply(451, (4, 7), "The time was up before an attempt could be made")


class Word(NamedTuple):
    """The last word about one recipient: a reply that holds for it, and whose."""

    reply: Reply
    host: str
    stage: Stage
    offers_dsn: bool = True
    """False: whoever took it does not say what NOTIFY=SUCCESS asks for."""


def word_of_error(error: AttemptError, host: str) -> Word:
    """Return the word that stands for an attempt that broke off."""
    reply = error.reply
    if reply is None or reply.is_positive:
        detail, text = _SILENCE.get(error.stage, _LOST)
        why = " ".join(error.why.split())[:WHY_MAX]
        return Word(Reply(451, detail, f"{text}: {why}" if why else text), host, error.stage)
    if reply.is_permanent and error.scope in (Scope.HOST, Scope.STREAM):
        # Postfix takes a 5yz greeting so, too: it is about the host, and an administrator can mend a host.
        return Word(Reply(reply.code - 100, reply.detail, f"The host said: {reply}"), host, error.stage)
    return Word(reply, host, error.stage)


def words_of(attempt: Attempt) -> dict[int, Word]:
    """Return the last word for each recipient of the attempt's job."""
    error = attempt.error or AttemptError(Scope.HOST, None, Stage.CONNECT, "no host was tried")
    broken = word_of_error(error, attempt.host)
    words = {}
    for number in attempt.job.numbers:
        answer = attempt.answers.get(number)
        if answer is None:
            words[number] = broken
        else:
            words[number] = Word(answer.result.reply, answer.host, answer.result.stage, answer.offers_dsn)
    return words


def rule(
    word: Word,
    message: QueuedMessage,
    delivery: Delivery,
    schedule: Schedule,
    *,
    now: float,
    spread: float,
    returns_null: bool = False,
) -> Ruling:
    """Return what becomes of one delivery.

    Args:
        now: seconds since the epoch, UTC.
        spread: 0.0 to 1.0, drawn by the caller.
        returns_null: failures of messages with the null path go to ``failed_bounces_to``.
    """
    reply = word.reply
    if reply.is_positive:
        return _delivered(word, message.envelope, delivery.number)
    if reply.is_transient:
        retry_at = next_attempt(
            schedule, received_at=message.received_at, now=now, attempts=delivery.attempts + 1, spread=spread
        )
        if retry_at is not None:
            outcome = Deferred(reply, retry_at, word.host, word.stage)
            return Ruling(delivery.number, outcome, DeliveryState.DUE, retry_at)
    failed = Failed(reply, word.host, word.stage, expired=reply.is_transient)
    return _failed(failed, message.envelope, delivery.number, returns_null=returns_null)


def expire(message: QueuedMessage, delivery: Delivery, *, returns_null: bool = False) -> Ruling:
    """Return the ruling for a delivery whose time is up without another attempt."""
    word = last_word(delivery)
    failed = Failed(word.reply, word.host, word.stage, expired=True)
    return _failed(failed, message.envelope, delivery.number, returns_null=returns_null)


def delay(delivery: Delivery) -> Ruling:
    """Return the ruling that marks a delivery as warned of; nothing else of it changes."""
    word = last_word(delivery)
    outcome = delivery.last or Deferred(word.reply, delivery.due_at, word.host, word.stage)
    return Ruling(delivery.number, outcome, DeliveryState.DUE, delivery.due_at, warned=True)


def last_word(delivery: Delivery) -> Word:
    """Return what was heard last about a delivery that waits."""
    last = delivery.last
    if isinstance(last, (Deferred, Failed)):
        return Word(last.reply, last.host, last.stage)
    return Word(NEVER_TRIED, "", Stage.ROUTE)


def _delivered(word: Word, envelope: Envelope, number: int) -> Ruling:
    relayed = not word.offers_dsn
    outcome = Delivered(word.reply, word.host, relayed)
    if envelope.sender is None or not envelope.recipients[number].wants_success:
        return Ruling(number, outcome, None)
    if relayed:  # RFC 3461 section 5.2.2
        return Ruling(number, outcome, DeliveryState.REPORT_RELAYED)
    if word.stage is Stage.STORE:
        return Ruling(number, outcome, DeliveryState.REPORT_DELIVERED)
    return Ruling(number, outcome, None)  # the next hop reports: RFC 3461 section 5.2.1


def _failed(failed: Failed, envelope: Envelope, number: int, *, returns_null: bool) -> Ruling:
    if envelope.sender is None and not returns_null:
        return Ruling(number, Dropped(NULL_SENDER), None)
    if not envelope.recipients[number].wants_failure:
        return Ruling(number, Dropped(NOTIFY_NEVER), None)
    return Ruling(number, failed, DeliveryState.REPORT_FAILED)
