"""Made-up evidence for the judge: one letter, and whatever a test adds to it.

Owns: building it, and asking the judge which laws are broken. Does not own: tests of the laws (test_judge*.py). Times
are the world's, which begins at 1,000; the wall clock says EPOCH then.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from postroad.core.facts import AnyFact, Bounced, Deferred, Delivered
from postroad.core.ids import IdMaker
from postroad.core.outcome import Stage
from postroad.core.reply import OK, Reply
from postroad.testing.sim.book import Book, Crash, Order, Refusal, Sent, Take
from postroad.testing.sim.disk_image import Image, Stored
from postroad.testing.sim.house import EPOCH
from postroad.testing.sim.judge import Judge
from postroad.testing.sim.judge_steering import look_at_crowds, look_at_people
from postroad.testing.sim.mail import Seen
from postroad.testing.sim.network import Weather
from postroad.testing.sim.story import Peer, Plan
from postroad.testing.sim.world import Played

BOB, ANN = "r0.t.0@d0.example", "r1.t.0@d0.example"
SENDER = "s.t.0@home.example"
REPORT = IdMaker(0).next_id(EPOCH + 5.2)
NO = Reply(550, (1, 1), "No such user")
SYNC_FAILED = "sync /data/shard-0/spool.db-wal: Input/output error"
PEER = Peer(name="mx0", address="198.51.100.1", domains=("d0.example", "home.example"), well_after=0.0)


def case(*, code: int = 250, notify: str = "", recipients: tuple[str, ...] = (BOB,)) -> Played:
    """One letter, its reply, and nothing else."""
    book = Book(lambda: 2_000.0)
    sent = Sent("t", 0, "client", SENDER, notify, b"hash", 700, list(recipients), dot_at=1_001.0, code=code)
    sent.told_at = 1_001.1 if code else 0.0
    sent.worker = "worker-0#1"
    book.sent[sent.key] = sent
    plan = Plan(1, (), (PEER,), (), (), Weather())
    counters: tuple[Counter[str], Counter[tuple[str, str]]] = (Counter(), Counter())
    return Played(plan, book, [], Image(), True, True, [], *counters, [], 1_000.0, 0, 0, "")


def take(played: Played, *recipients: str, at: float = 1_002.0, reply_at: float | None = None, **more: object) -> Take:
    one = Take("t", 0, "mx0", SENDER, recipients or (BOB,), at, b"hash", (), "worker-0#1")
    one.reply_at = at + 0.1 if reply_at is None else reply_at
    for name, value in more.items():
        setattr(one, name, value)
    played.book.takes.append(one)
    return one


def report(played: Played, action: str = "failed", address: str = BOB, **changes: Any) -> None:
    take(played, SENDER, **({"at": 1_010.0, "sender": "", "report": ((address, action),), "hash": b""} | changes))


def tell(played: Played, fact: AnyFact) -> None:
    played.facts.append((fact.at - EPOCH + 1_000.0, fact))


def bounced(at: float = 5.0, recipient: str = BOB) -> Bounced:
    return Bounced(
        at=EPOCH + at, message=1, number=0, recipient=recipient, sender=SENDER, destination="mx:mx0", host="mx0",
        stage=Stage.RCPT, reply=NO, delay=4.0,
    )  # fmt: skip


def deferred(at: float, recipient: str = ANN) -> Deferred:
    return Deferred(
        at=EPOCH + at, message=1, number=1, recipient=recipient, destination="mx:mx0", host="mx1",
        stage=Stage.RCPT, reply=NO, attempts=1, retry_at=EPOCH + 30.0,
    )  # fmt: skip


def delivered(at: float, recipient: str = BOB) -> Delivered:
    return Delivered(
        at=EPOCH + at, message=1, number=0, recipient=recipient, sender=SENDER, destination="mx:mx0", host="mx0",
        reply=OK, delay=4.0,
    )  # fmt: skip


def half_taken() -> Played:
    """A message that a host took for one recipient, having put off the other; its worker died, and told nothing."""
    played = case(recipients=(BOB, ANN))
    played.plan = msgspec.structs.replace(played.plan, peers=(PEER, msgspec.structs.replace(PEER, name="mx1")))
    take(played, at=1_002.0, mail_at=1_001.5)
    played.book.refusals[ANN] = [Refusal(1_001.6, 450, "rcpt", "mx0", [1_001.7])]
    crash(played, 1_008.0)
    return played


def store(played: Played, address: str = BOB, at: float = 1_002.0) -> None:
    played.image.stored.append(Stored(address, "name", Seen("t", 0, b"hash", ())))
    told = Delivered(
        at=at - 1_000.0 + EPOCH, message=1, number=0, recipient=address, sender=SENDER,
        destination="maildir:/data/mail/{address}", host="", reply=OK, delay=0.1,
    )  # fmt: skip
    played.facts.append((at, told))


def crash(played: Played, at: float) -> None:
    played.book.crashes.append(Crash(at, "process", "somewhere", ("worker-0#1",), ""))


def laws(played: Played) -> list[str]:
    return [text.partition(":")[0] for text in Judge(played).judge().broken]


def order(played: Played, verb: str, *, at: float = 1_005.0, told_at: float | None = None, **more: object) -> Order:
    one = Order(len(played.book.orders) + 1, at, verb, "to", BOB, "person1")
    one.told_at = at + 0.1 if told_at is None else told_at
    for name, value in more.items():
        setattr(one, name, value)
    played.book.orders.append(one)
    return one


def all_laws(played: Played) -> list[str]:
    judge = Judge(played)
    judge.judge()
    look_at_people(judge)
    look_at_crowds(judge)
    return [text.partition(":")[0] for text in judge.verdict.broken]


def broken(played: Played, law: Any) -> int:
    """Return how often one law is broken."""
    judge = Judge(played)
    law(judge)
    return len(judge.verdict.broken)
