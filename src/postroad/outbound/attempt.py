"""One attempt at one job: what the hosts have answered so far, and who still needs one.

Owns: collecting results over several hosts, whether the next host is worth asking. Does not own: the asking (lane.py),
what the answers mean in the end (trouble.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from postroad.core.faces import Dice
from postroad.core.outcome import AttemptError, Scope, Stage
from postroad.outbound.content import ContentSource
from postroad.outbound.hops import Hop
from postroad.outbound.job import Job
from postroad.outbound.session import DeliveryResult
from postroad.policy.classify import kind_of
from postroad.smtp.client import RSET_REFUSED
from postroad.smtp.client_transaction import Result

_BEFORE_CONTENT: Final = frozenset({Stage.CONNECT, Stage.GREETING, Stage.HELLO, Stage.TLS, Stage.MAIL, Stage.RCPT})


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one host said about one recipient."""

    result: Result
    host: str
    offers_dsn: bool


class Attempt:
    """Collects the answers for one job."""

    __slots__ = ("answers", "begun_at", "content", "error", "host", "job")

    def __init__(self, job: Job, content: ContentSource, begun_at: float) -> None:
        self.job = job
        self.begun_at = begun_at
        """By the event loop's clock."""
        self.content = content
        self.answers: dict[int, Answer] = {}
        self.error: AttemptError | None = None
        """What broke off the last try; it holds for every recipient without an answer."""
        self.host = ""
        """The host tried last."""

    @property
    def remaining(self) -> list[int]:
        """Recipients that the next host is asked to take: without an answer, or told "later" before the content."""
        if not self.answers:
            return self.job.numbers
        return [number for number in self.job.numbers if self._is_open(number)]

    def _is_open(self, number: int) -> bool:
        answer = self.answers.get(number)
        if answer is None:
            return True
        return answer.result.reply.is_transient and answer.result.stage in _BEFORE_CONTENT

    def note(self, result: DeliveryResult, host: str) -> None:
        """Add what came of one connection."""
        self.host = host
        self.error = result.error
        for one in result.results:
            self.answers[one.number] = Answer(one, host, result.offers_dsn)

    @property
    def has_delivered(self) -> bool:
        return any(answer.result.reply.is_positive for answer in self.answers.values())

    @property
    def was_stale(self) -> bool:
        """True if a kept connection was closed on us, perhaps with 421, before it took anything of this message.

        That says nothing about the host, which may well take a new connection; but a 421 that asks for less does. A
        host that refuses RSET after another message has heard nothing of this one either.
        """
        error = self.error
        if error is None or self.answers or error.stage not in (Stage.MAIL, Stage.RCPT):
            return False
        reply = error.reply
        is_goodbye = reply in (None, RSET_REFUSED) or (reply.code == 421 and not kind_of(reply).closes_window)
        return error.scope is Scope.STREAM and is_goodbye

    @property
    def trouble(self) -> str:
        """Why the destination should get less for now, for people; empty if it need not."""
        error = self.error
        if error is not None and not self.answers and error.scope in (Scope.STREAM, Scope.HOST):
            return f"{self.host}: {error.reply or error.why or 'no answer'}"
        for answer in self.answers.values():
            reply = answer.result.reply
            if not reply.is_positive and kind_of(reply).closes_window:
                return f"{answer.host}: {reply}"
        return ""

    @property
    def wants_next_host(self) -> bool:
        """True if another host may be asked at once (RFC 5321 section 5.1).

        Not after the content went out and no answer came: it may have been taken.
        """
        error = self.error
        if error is not None and (error.stage not in _BEFORE_CONTENT or error.scope not in (Scope.STREAM, Scope.HOST)):
            return False
        return bool(self.remaining)


def in_order(hops: Sequence[Hop], dice: Dice) -> Sequence[Hop]:
    """Return the hops by preference, equal ones shuffled anew (RFC 5321 section 5.1)."""
    if len(hops) == 1:
        return hops
    shuffled = list(hops)
    dice.shuffle(shuffled)
    shuffled.sort(key=lambda hop: hop.preference)
    return shuffled
