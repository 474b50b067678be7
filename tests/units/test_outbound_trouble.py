"""The table of outbound/trouble.py, row by row, and what of it becomes a fact."""

from __future__ import annotations

import pytest

from postroad.core.address import Mailbox
from postroad.core.envelope import Envelope, Notify, Recipient
from postroad.core.ids import MessageId
from postroad.core.outcome import AttemptError, Deferred, Delivered, DeliveryState, Dropped, Failed, Scope, Stage
from postroad.core.reply import Reply
from postroad.outbound import trouble
from postroad.outbound.attempt import Answer, Attempt
from postroad.outbound.content import ContentSource
from postroad.outbound.job import Job
from postroad.outbound.trouble import Word
from postroad.policy.schedule import Schedule
from postroad.smtp.client import RSET_REFUSED
from postroad.smtp.client_transaction import Result
from postroad.spool.face import Delivery, QueuedMessage, Ruling

RECEIVED = 1_767_268_800.0
SCHEDULE = Schedule(first=300.0, longest=3600.0, expire=86_400.0)
ALICE, BOB = Mailbox("alice", "example.org"), Mailbox("bob", "example.net")

TAKEN = Reply(250, (2, 0), "Queued as 1")
LATER = Reply(450, (2, 1), "Greylisted")
NEVER = Reply(550, (1, 1), "No such user")


def message(
    sender: Mailbox | None = ALICE,
    notify: int = 0,
    attempts: int = 0,
    last: Deferred | None = None,
    recipients: int = 1,
) -> QueuedMessage:
    envelope = Envelope(sender, tuple(Recipient(BOB, notify) for _ in range(recipients)))
    deliveries = tuple(
        Delivery(MessageId(7), number, "example.net", 0, DeliveryState.DUE, attempts, RECEIVED + 5.0, False, last)
        for number in range(recipients)
    )
    return QueuedMessage(MessageId(7), envelope, RECEIVED, 100, deliveries)


def ruled(word: Word, given: QueuedMessage, *, now: float = RECEIVED + 10.0, returns_null: bool = False) -> Ruling:
    return trouble.rule(word, given, given.deliveries[0], SCHEDULE, now=now, spread=0.0, returns_null=returns_null)


@pytest.mark.parametrize(
    ("sender", "notify", "stage", "offers_dsn", "expected"),
    [
        (ALICE, Notify.UNSAID, Stage.DOT, False, None),
        (ALICE, Notify.FAILURE, Stage.DOT, False, None),
        (ALICE, Notify.SUCCESS, Stage.DOT, False, DeliveryState.REPORT_RELAYED),
        (ALICE, Notify.SUCCESS, Stage.DOT, True, None),  # the next hop was told NOTIFY=SUCCESS and reports
        (ALICE, Notify.SUCCESS, Stage.STORE, True, DeliveryState.REPORT_DELIVERED),
        (None, Notify.SUCCESS, Stage.STORE, True, None),
        (None, Notify.SUCCESS, Stage.DOT, False, None),
    ],
)
def test_delivered(sender, notify, stage, offers_dsn, expected) -> None:
    ruling = ruled(Word(TAKEN, "mx.example.net", stage, offers_dsn), message(sender, notify))
    assert ruling == Ruling(0, Delivered(TAKEN, "mx.example.net", not offers_dsn), expected)


@pytest.mark.parametrize(("attempts", "gap"), [(0, 300.0), (1, 600.0), (2, 1200.0), (9, 3600.0)])
def test_a_4yz_is_tried_again_by_the_schedule(attempts: int, gap: float) -> None:
    at = RECEIVED + 10.0 + gap
    ruling = ruled(Word(LATER, "mx", Stage.RCPT), message(attempts=attempts))
    assert ruling == Ruling(0, Deferred(LATER, at, "mx", Stage.RCPT), DeliveryState.DUE, at)


def test_a_4yz_when_the_time_is_up_fails_with_what_was_said_last() -> None:
    ruling = ruled(Word(LATER, "mx", Stage.RCPT), message(), now=RECEIVED + SCHEDULE.expire)
    assert ruling == Ruling(0, Failed(LATER, "mx", Stage.RCPT, expired=True), DeliveryState.REPORT_FAILED)


FAILED = Failed(NEVER, "mx", Stage.RCPT)


@pytest.mark.parametrize(
    ("sender", "notify", "returns_null", "expected"),
    [
        (ALICE, Notify.UNSAID, False, Ruling(0, FAILED, DeliveryState.REPORT_FAILED)),
        (ALICE, Notify.FAILURE | Notify.DELAY, False, Ruling(0, FAILED, DeliveryState.REPORT_FAILED)),
        (ALICE, Notify.NEVER, False, Ruling(0, Dropped("notify-never"), None)),
        (ALICE, Notify.SUCCESS, False, Ruling(0, Dropped("notify-never"), None)),
        (None, Notify.UNSAID, False, Ruling(0, Dropped("null-sender"), None)),
        (None, Notify.NEVER, False, Ruling(0, Dropped("null-sender"), None)),
        (None, Notify.UNSAID, True, Ruling(0, FAILED, DeliveryState.REPORT_FAILED)),
        (None, Notify.NEVER, True, Ruling(0, Dropped("notify-never"), None)),
    ],
)
def test_failed(sender, notify, returns_null, expected) -> None:
    given = message(sender, notify)
    assert ruled(Word(NEVER, "mx", Stage.RCPT), given, returns_null=returns_null) == expected


@pytest.mark.parametrize(
    ("scope", "code"),
    [(Scope.SITE, 550), (Scope.MESSAGE, 550), (Scope.RECIPIENT, 550), (Scope.HOST, 450), (Scope.STREAM, 450)],
)
def test_how_far_a_5yz_reaches(scope: Scope, code: int) -> None:
    word = trouble.word_of_error(AttemptError(scope, NEVER, Stage.GREETING), "mx")
    assert (word.reply.code, word.reply.detail, word.host) == (code, (1, 1), "mx")
    assert "No such user" in word.reply.text


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        (Stage.CONNECT, "4.4.1"),
        (Stage.DNS, "4.4.3"),
        (Stage.TLS, "4.7.5"),
        (Stage.GREETING, "4.4.2"),
        (Stage.DOT, "4.4.2"),
    ],
)
def test_silence_has_a_word_of_our_own(stage: Stage, status: str) -> None:
    word = trouble.word_of_error(AttemptError(Scope.HOST, None, stage, "timed\r\nout" + "x" * 9999), "mx")
    assert (word.reply.code, word.reply.status, word.stage) == (451, status, stage)
    assert "timed out" in word.reply.text
    assert "\n" not in word.reply.text
    assert len(word.reply.text) < 500


def attempt_of(given: QueuedMessage, *replies: tuple[int, Reply, Stage], error: AttemptError | None = None) -> Attempt:
    attempt = Attempt(Job(given, given.deliveries, SCHEDULE), ContentSource(b"x"), 0.0)
    attempt.host, attempt.error = "mx2", error
    attempt.answers = {
        number: Answer(Result(number, reply, stage), "mx1", offers_dsn=False) for number, reply, stage in replies
    }
    return attempt


def test_an_answer_holds_whatever_broke_off_later() -> None:
    error = AttemptError(Scope.STREAM, None, Stage.DOT, "reset")
    answered = (0, NEVER, Stage.RCPT), (1, LATER, Stage.RCPT)
    words = trouble.words_of(attempt_of(message(recipients=3), *answered, error=error))
    assert words[0] == Word(NEVER, "mx1", Stage.RCPT, offers_dsn=False)
    assert words[1] == Word(LATER, "mx1", Stage.RCPT, offers_dsn=False)
    assert (words[2].reply.status, words[2].host, words[2].stage) == ("4.4.2", "mx2", Stage.DOT)


def test_without_any_answer_nothing_is_delivered() -> None:
    words = trouble.words_of(attempt_of(message()))
    assert words[0].reply.is_transient


RATE = Reply(421, (4, 5), "Slow down")


@pytest.mark.parametrize(
    ("replies", "error", "is_trouble"),
    [
        ([(0, TAKEN, Stage.DOT)], None, False),
        ([(0, NEVER, Stage.RCPT)], None, False),
        ([(0, RATE, Stage.MAIL)], None, True),
        ([], AttemptError(Scope.HOST, None, Stage.CONNECT, "refused"), True),
        ([], AttemptError(Scope.STREAM, None, Stage.MAIL, "reset"), True),
        ([], AttemptError(Scope.MESSAGE, LATER, Stage.DATA, "unreadable"), False),  # our disk, not the next hop
        ([(0, NEVER, Stage.RCPT)], AttemptError(Scope.STREAM, None, Stage.DOT, "reset"), False),
    ],
)
def test_what_counts_as_trouble_of_the_destination(replies, error, is_trouble) -> None:
    assert bool(attempt_of(message(), *replies, error=error).trouble) is is_trouble


IDLE = Reply(421, (4, 2), "Timeout exceeded")


@pytest.mark.parametrize(
    ("replies", "error", "was_stale"),
    [
        ([], AttemptError(Scope.STREAM, None, Stage.MAIL, "closed"), True),
        ([], AttemptError(Scope.STREAM, None, Stage.RCPT, "closed"), True),
        ([], AttemptError(Scope.STREAM, IDLE, Stage.MAIL), True),
        ([], AttemptError(Scope.STREAM, RSET_REFUSED, Stage.MAIL), True),  # it has heard nothing of this message
        ([], AttemptError(Scope.STREAM, RATE, Stage.MAIL), False),  # a new connection would be the wrong answer
        ([], AttemptError(Scope.STREAM, LATER, Stage.MAIL), False),  # a broken reply
        ([], AttemptError(Scope.STREAM, None, Stage.DOT, "closed"), False),  # it may have been taken
        ([], AttemptError(Scope.MESSAGE, None, Stage.MAIL), False),
        ([(0, NEVER, Stage.RCPT)], AttemptError(Scope.STREAM, None, Stage.RCPT, "closed"), False),
        ([], None, False),
    ],
)
def test_when_a_kept_connection_was_stale(replies, error, was_stale) -> None:
    assert attempt_of(message(recipients=2), *replies, error=error).was_stale is was_stale


def test_expiry_repeats_the_last_reply() -> None:
    last = Deferred(LATER, RECEIVED, "mx", Stage.RCPT)
    given = message(last=last)
    ruling = trouble.expire(given, given.deliveries[0])
    assert ruling == Ruling(0, Failed(LATER, "mx", Stage.RCPT, expired=True), DeliveryState.REPORT_FAILED)
    untried = message()
    outcome = trouble.expire(untried, untried.deliveries[0]).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.reply.status, outcome.expired) == ("4.4.7", True)


def test_a_warning_changes_nothing_else() -> None:
    last = Deferred(LATER, RECEIVED + 5.0, "mx", Stage.RCPT)
    ruling = trouble.delay(message(last=last).deliveries[0])
    assert ruling == Ruling(0, last, DeliveryState.DUE, RECEIVED + 5.0, warned=True)
