"""Gives some stories a mood: a disk that is ill for long and few crashes, crowds of clients, a ledger that keeps dying.

Owns: how often, and what it changes. Does not own: the rest of the story (teller.py). A crash mends much: whoever has
lost sight of a delivery finds it again at the next start. So some stories go on for long without one after the trouble
has begun; what was forgotten is then seen in the end. It has dice of its own, so the other stories stay as they are.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from postroad.testing.sim.aims import aim_at_one
from postroad.testing.sim.chaos import LEDGER, Blow, Ill, Spell
from postroad.testing.sim.story import Plan
from postroad.testing.sim.teller_parting import SHARE as PARTING_SHARE
from postroad.testing.sim.teller_parting import with_a_parting
from postroad.testing.sim.teller_scant import SHARE as SCANT_SHARE
from postroad.testing.sim.teller_scant import with_scant_limits
from postroad.testing.sim.teller_seldom import with_seldom

_MOODS: Final = {"ill": 20, "mild": 5, "crowded": 7, "bereft": 8, "aimed": 6, "": 54}
"""In percent of all stories."""
CHUNKS_SHARE: Final = 0.15
"""Of clients that send by BDAT."""
NO_RSET_SHARE: Final = 0.1
"""Of next hops that refuse RSET."""
BARE_SHARE: Final = 0.5
"""Of clients that send by BDAT, those whose letters end without CRLF."""
BINARY_SHARE: Final = 0.03
"""Of stories, those in which everything goes by BDAT, to next hops that refuse RSET: else both seldom meet."""
SCARCE_SHARE: Final = 0.25
"""Of stories, those in which there is less room than must be free, though some, for a while."""
_ILLS: Final[tuple[Ill, ...]] = (
    "sync",
    "sync",
    "commit",
    "commit",
    "write",
    "write",
    "unlink",
    "sync_directory",
    "read",
    "slow",
    "slow",
)


def with_mood(plan: Plan) -> Plan:
    """Return the story in its mood, if it has one."""
    dice = random.Random(plan.seed * 37 + 11)  # noqa: S311 - to be repeated is its purpose
    plan = _with_chunks(dice, plan)
    mood = dice.choices(list(_MOODS), list(_MOODS.values()))[0]
    plan = _with_oddities(dice, _CHANGES[mood](dice, plan) if mood else plan)
    plan = with_seldom(dice, mood, plan)
    return plan if mood else _turned(plan)


def _with_chunks(dice: random.Random, plan: Plan) -> Plan:
    chunks = [dice.choice((500, 4_000, 100_000)) if dice.random() < CHUNKS_SHARE else 0 for _ in plan.senders]
    breaks = dice.choice((0.0, 0.0, 0.3))
    senders = tuple(
        msgspec.structs.replace(one, chunk=chunk, is_implicit=dice.random() < 0.5, breaks_tls=breaks)
        for one, chunk in zip(plan.senders, chunks, strict=True)
    )
    return msgspec.structs.replace(plan, senders=senders)


def _with_oddities(dice: random.Random, plan: Plan) -> Plan:
    """Add what has come later, with dice after all others: the rest of a story stays as it was."""
    peers = [msgspec.structs.replace(one, refuses_rset=dice.random() < NO_RSET_SHARE) for one in plan.peers]
    senders = [
        msgspec.structs.replace(one, ends_bare=bool(one.chunk) and dice.random() < BARE_SHARE) for one in plan.senders
    ]
    if dice.random() < BINARY_SHARE:
        peers = [
            msgspec.structs.replace(one, refuses_rset=True, chunking=True, pipelining=True, rcpt_4xx=0.4, dot_4xx=0.3)
            for one in peers
        ]
        senders = [msgspec.structs.replace(one, chunk=one.chunk or 4_000, ends_bare=True) for one in senders]
        plan = msgspec.structs.replace(plan, connections=1)  # the more is said over each
    spells = plan.spells
    if dice.random() < SCARCE_SHARE:
        at, seconds = dice.random() * _span(plan), 5.0 + dice.random() * 100.0
        spells = (*spells, Spell("scarce", at, seconds, dice.choice((0.5, 0.7, 0.9))))
    return msgspec.structs.replace(plan, peers=tuple(peers), senders=tuple(senders), spells=spells)


def _turned(plan: Plan) -> Plan:
    """Make a few of those that have no mood into stories about one thing."""
    dice = random.Random(plan.seed * 53 + 7)  # noqa: S311 - to be repeated is its purpose
    chance = dice.random()
    if chance < SCANT_SHARE:
        return with_scant_limits(dice, plan, _span(plan))
    return with_a_parting(dice, plan, _span(plan)) if chance < SCANT_SHARE + PARTING_SHARE else plan


def _span(plan: Plan) -> float:
    return max((letter.at for sender in plan.senders for letter in sender.letters), default=1.0)


def _ill(dice: random.Random, plan: Plan) -> Plan:
    """Let the disk be ill for long, and crashes be few and early; half of the time in front of well-behaved hosts."""
    span = _span(plan)
    spells: list[Spell] = []
    for _ in range(dice.choice((2, 3, 5))):
        kind, share = dice.choice(_ILLS), dice.choice((0.03, 0.1, 0.3, 0.6))
        # also when what is left of the mail is given up: that is long after the last came in
        at = dice.random() * (span if dice.random() < 0.6 else span + plan.expire)
        seconds = 2.0 + dice.random() * 60.0
        spells.append(Spell(kind, at, seconds, share))
        if dice.random() < 0.5:  # what comes while a commit runs that then fails
            spells.append(Spell("slow", at, seconds, dice.choice((0.3, 0.6))))
    workers = max(2, plan.workers) if dice.random() < 0.4 else plan.workers
    resizes = ((span * dice.random(), dice.randint(1, workers)),) if dice.random() < 0.4 else ()
    ill = msgspec.structs.replace(
        plan,
        spells=tuple(spells),
        blows=_few(dice, plan),
        workers=workers,
        resizes=resizes,
        file_above=dice.choice((1_024, 1_024, 4_096, 65_536)),
    )
    return _patient(ill) if dice.random() < 0.5 else ill


def _few(dice: random.Random, plan: Plan) -> tuple[Blow, ...]:
    early = [blow for blow in plan.blows if blow.waits_for in ("time", "dot") and blow.n < 15]
    return tuple(early[: dice.choice((0, 0, 1, 3))])


def _patient(plan: Plan) -> Plan:
    """Let hosts be in good order after a while, and mail be kept for long: whatever expires then was forgotten."""
    well = 2.0 * _span(plan) + 30.0
    peers = tuple(
        msgspec.structs.replace(peer, well_after=min(peer.well_after, well), silent=0.0, slow=0.0, breaks_tls=0.0)
        for peer in plan.peers
    )
    return msgspec.structs.replace(plan, peers=peers, rate=0, retry_longest=60.0, expire=3_600.0)


def _mild(dice: random.Random, plan: Plan) -> Plan:
    return _patient(msgspec.structs.replace(plan, blows=_few(dice, plan), spells=plan.spells[:2]))


def _crowded(dice: random.Random, plan: Plan) -> Plan:
    """Let clients be more than there are places for, and some of one address."""
    count = len(plan.senders)
    addresses = [f"10.0.0.{dice.randint(1, max(1, count // 2))}" for _ in plan.senders]
    senders = tuple(
        msgspec.structs.replace(one, address=address, tries=max(1, one.tries))
        for one, address in zip(plan.senders, addresses, strict=True)
    )
    return msgspec.structs.replace(
        plan,
        senders=senders,
        places=dice.choice((0, max(1, count // 2), count)),
        places_per_ip=dice.choice((1, 2)),
    )


def _bereft(dice: random.Random, plan: Plan) -> Plan:
    """Let the ledger die again and again, in pairs, or be slow, where few connections are allowed."""
    span = _span(plan)
    blows = []
    for _ in range(dice.choice((1, 2, 4))):
        at = dice.random() * span
        for _ in range(dice.choice((1, 2, 2, 3))):
            blows.append(
                Blow("time", at, 0, "process", worker=LEDGER, down=0.05 + dice.random() * dice.choice((0.2, 3.0)))
            )
            at += dice.random() * 4.0
    slow = dice.choice((0.0, 0.0, 0.0, 0.3, 0.8))
    return msgspec.structs.replace(
        plan,
        workers=max(2, plan.workers),
        has_ledger=True,
        blows=(*plan.blows, *blows),
        connections=dice.choice((1, 2, 3)),
        rate=dice.choice((0, 0, 20, 60)),
        ledger_latency=slow,
    )


def _aimed(dice: random.Random, plan: Plan) -> Plan:
    return aim_at_one(dice, plan, _span(plan))


_CHANGES: Final = {"ill": _ill, "mild": _mild, "crowded": _crowded, "bereft": _bereft, "aimed": _aimed}
