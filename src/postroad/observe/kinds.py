"""For each kind of fact: how much it matters, whether it is stored, what is counted of it.

Owns: that one table, KINDS. Log, store, metrics and docs/reference/facts.md are made of it, so a new kind of fact gets
its line here; a test fails until it has one. Does not own: what a kind means (core/facts.py), how counts are kept
(counters.py) or lines written (log.py).

A label is taken from an enum, or from the configuration; the latter is ``open``, and counters.py bounds it whatever
comes. After a change run ``python -m postroad.observe.reference > docs/reference/facts.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

import msgspec

from postroad.core import facts
from postroad.core.reply import TURN_PASSED, Reply


class Level(IntEnum):
    """How much a fact matters to somebody who watches."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


class Label(msgspec.Struct, frozen=True):
    """One label of a metric."""

    name: str
    of: Callable[[Any], str]
    """The value, of a fact."""
    is_open: bool = False
    """True: the values are not those of an enum."""
    is_destination: bool = False
    """True: only destinations that the configuration names have their own value."""


class Count(msgspec.Struct, frozen=True):
    """What is counted of a fact."""

    name: str
    meaning: str
    labels: tuple[Label, ...] = ()
    value: Callable[[Any], float] | None = None
    """What is added, or observed; None: one."""
    buckets: tuple[float, ...] = ()
    """Upper bounds: makes it a histogram."""


class Kind(msgspec.Struct, frozen=True):
    """How one kind of fact becomes visible."""

    level: Level
    is_stored: bool = True
    counts: tuple[Count, ...] = ()
    level_of: Callable[[Any], Level] | None = None
    """Where it depends on the fact."""


PUT_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds. From a group commit on a fast disk to a client that drips its content."""
DELAY_BUCKETS: Final = (0.1, 1.0, 5.0, 30.0, 300.0, 1800.0, 14_400.0, 86_400.0, 432_000.0)
"""Seconds. From at once to five days, by way of the first retries."""


def class_of(reply: Reply | None) -> str:
    """Return ``2xx``, ``4xx`` or ``5xx``; ``none`` where nobody answered."""
    return "none" if reply is None else f"{min(max(reply.code // 100, 2), 5)}xx"


_LISTENER: Final = Label("listener", lambda fact: fact.listener, is_open=True)
_DESTINATION: Final = Label("destination", lambda fact: fact.destination, is_destination=True)
_STAGE: Final = Label("stage", lambda fact: fact.stage.value)
_CODE: Final = Label("code", lambda fact: class_of(fact.reply))
_RULE: Final = Label("rule", lambda fact: fact.rule, is_open=True)
_WHAT: Final = Label("what", lambda fact: fact.what, is_open=True)
_PROCESS: Final = Label("process", lambda fact: fact.process, is_open=True)


def _trouble(fact: facts.Trouble) -> Level:
    return Level.INFO if fact.over else Level.WARNING


def _broke(fact: facts.SessionBroke) -> Level:
    return Level.ERROR if fact.ours else Level.INFO


def _reloaded(fact: facts.Reloaded) -> Level:
    return Level.WARNING if fact.why else Level.INFO


KINDS: Final[dict[type[facts.Fact], Kind]] = {
    facts.Connected: Kind(
        Level.DEBUG,
        is_stored=False,
        counts=(Count("connections_total", "Connections of clients.", (_LISTENER,)),),
    ),
    facts.Refused: Kind(
        Level.INFO, counts=(Count("refusals_total", "What clients were refused.", (_RULE, _STAGE, _CODE)),)
    ),
    facts.Received: Kind(
        Level.INFO,
        counts=(
            Count("messages_received_total", "Messages that are durably ours.", (_LISTENER,)),
            Count("recipients_received_total", "Their recipients.", (_LISTENER,), lambda fact: len(fact.recipients)),
            Count("octets_received_total", "Their octets.", (_LISTENER,), lambda fact: fact.size),
            Count("put_seconds", "From MAIL to durable.", value=lambda fact: fact.seconds, buckets=PUT_BUCKETS),
        ),
    ),
    facts.EarlyOctets: Kind(
        Level.DEBUG,
        is_stored=False,
        counts=(Count("early_octets_total", "Clients that spoke out of turn.", (_LISTENER,)),),
    ),
    facts.SessionBroke: Kind(
        Level.INFO,
        counts=(
            Count(
                "sessions_broken_total",
                "Sessions that ended against their will; by whose fault.",
                (_LISTENER, Label("fault", lambda fact: "ours" if fact.ours else "theirs")),
            ),
        ),
        level_of=_broke,
    ),
    facts.Attempted: Kind(
        Level.DEBUG,  # delivered, deferred and bounced tell the same of each recipient
        counts=(
            Count(
                "attempts_total",
                "Tries at a host, by how far they got and what was answered; own: put off by the relay itself.",
                (_STAGE, Label("result", lambda fact: "own" if fact.reply == TURN_PASSED else class_of(fact.reply))),
            ),
        ),
    ),
    facts.PlainAfterTlsFailure: Kind(
        Level.INFO,
        counts=(
            Count("plain_after_tls_total", "Connections in clear text after a failed handshake.", (_DESTINATION,)),
        ),
    ),
    facts.Delivered: Kind(
        Level.INFO,
        counts=(
            Count("deliveries_total", "Recipients delivered.", (_DESTINATION,)),
            Count(
                "delivery_delay_seconds",
                "From received to delivered.",
                value=lambda fact: fact.delay,
                buckets=DELAY_BUCKETS,
            ),
        ),
    ),
    facts.Deferred: Kind(
        Level.INFO, counts=(Count("deferrals_total", "Recipients put off.", (_STAGE, _CODE, _DESTINATION)),)
    ),
    facts.Bounced: Kind(
        Level.INFO, counts=(Count("bounces_total", "Recipients refused for good.", (_STAGE, _CODE, _DESTINATION)),)
    ),
    facts.Expired: Kind(
        Level.INFO, counts=(Count("expiries_total", "Recipients whose time was up.", (_DESTINATION,)),)
    ),
    facts.Dropped: Kind(Level.INFO, counts=(Count("drops_total", "Recipients ended by a rule or person.", (_RULE,)),)),
    facts.Reported: Kind(
        Level.INFO,
        counts=(
            Count("reports_total", "Reports to senders.", (Label("action", lambda fact: fact.action, is_open=True),)),
        ),
    ),
    facts.Transferred: Kind(Level.INFO, counts=(Count("transfers_total", "Messages moved to another shard."),)),
    facts.Adopted: Kind(Level.INFO, counts=(Count("adoptions_total", "Shards without a worker that were emptied."),)),
    facts.Steered: Kind(
        Level.INFO,
        counts=(
            Count("steered_total", "Changes by a person.", (Label("verb", lambda fact: fact.verb, is_open=True),)),
        ),
    ),
    facts.Held: Kind(  # steered tells the same of all recipients
        Level.DEBUG, counts=(Count("holds_total", "Recipients that a person held."),)
    ),
    facts.Released: Kind(Level.DEBUG, counts=(Count("releases_total", "Recipients that a person released."),)),
    facts.Started: Kind(Level.INFO, counts=(Count("starts_total", "Starts of the relay."),)),
    facts.Stopped: Kind(Level.INFO),
    facts.ProcessEnded: Kind(
        Level.WARNING, counts=(Count("processes_ended_total", "Processes that ended unasked.", (_PROCESS,)),)
    ),
    facts.ProcessStarted: Kind(
        Level.INFO, counts=(Count("processes_started_total", "Processes that came to serve.", (_PROCESS,)),)
    ),
    facts.Reloaded: Kind(
        Level.INFO,
        counts=(
            Count(
                "reloads_total",
                "Reloads of the configuration.",
                (Label("result", lambda fact: "refused" if fact.why else "done"),),
            ),
        ),
        level_of=_reloaded,
    ),
    facts.Trouble: Kind(
        Level.WARNING,
        counts=(
            Count(
                "troubles_total",
                "Troubles that began and ended.",
                (_WHAT, Label("edge", lambda fact: "end" if fact.over else "begin")),
            ),
        ),
        level_of=_trouble,
    ),
    facts.Incomplete: Kind(Level.DEBUG, is_stored=False),
    facts.Damaged: Kind(
        Level.ERROR, counts=(Count("damages_total", "Rows and databases that did not hold what we wrote.", (_WHAT,)),)
    ),
}


def level_of(fact: facts.AnyFact) -> Level:
    """Return how much ``fact`` matters."""
    kind = KINDS[type(fact)]
    return kind.level if kind.level_of is None else kind.level_of(fact)
