"""Makes a story of limits: much mail at once, few connections or a low rate, hosts in order, and a ledger in trouble.

Owns: what such a story is like, and how its ledger hangs, dies in a row, or is slow. Does not own: how often there is
one (teller_moods.py). Nothing else befalls it: a limit that is exceeded while workers and disks die too is excused
by that, so what a ledger alone must not do is seen only here.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from postroad.testing.sim.chaos import LEDGER, Blow
from postroad.testing.sim.network import Weather
from postroad.testing.sim.story import Letter, Peer, Plan

SHARE: Final = 0.12
"""Of stories that have no mood."""
HURRY: Final = 10.0
"""Seconds in which all mail comes in."""
HOSTS: Final = 3
"""That get it, at most: so each has much."""
TROUBLED_FOR: Final = 60.0
"""Seconds in which the ledger is in trouble: as long as there is mail for all connections."""
SHARED: Final = "shared.example"
"""Nobody counts connections to several hosts of one destination."""
_KINDS: Final = ("hangs", "hangs", "late", "late", "dies", "dies", "alone")


def with_scant_limits(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Return the story about limits."""
    kind = dice.choice(_KINDS)
    slow = {"alone": 0.0, "late": 0.2}.get(kind, dice.choice((0.5, 1.0, 2.0)))
    hurry = TROUBLED_FOR if kind == "late" else HURRY  # in a hurry connections are taken once, and kept
    peers = tuple(_in_order(one, slow) for one in plan.peers[:HOSTS])
    senders = tuple(
        msgspec.structs.replace(
            sender,
            letters=tuple(_hurried(one, hurry / max(1.0, span), len(peers)) for one in sender.letters),
            per_connection=50,
        )
        for sender in plan.senders
    )
    plan = msgspec.structs.replace(
        plan,
        senders=senders,
        peers=peers,
        blows=(),
        spells=(),
        jumps=(),
        resizes=(),
        weather=Weather(latency=plan.weather.latency, pieces=plan.weather.pieces),
        expire=max(600.0, plan.expire),
    )
    if kind == "alone":
        return msgspec.structs.replace(plan, rate=20, workers=1, has_ledger=False, connections=5)
    plan = msgspec.structs.replace(
        plan,
        rate=0,
        workers=dice.choice((2, 2, 3, 4)),
        has_ledger=True,
        connections=dice.choice((1, 2, 3)),
        messages_per_connection=dice.choice((1, 5, 100)),
    )
    return {"hangs": _hanging, "late": _late, "dies": _dying}[kind](dice, plan)


def _hurried(letter: Letter, share: float, hosts: int) -> Letter:
    """A letter that comes earlier (or later), to those hosts that there are."""
    recipients = tuple(
        f"d{int(one[1:].partition('.')[0]) % hosts}.example"
        if one[1:2].isdigit()
        else one.replace(SHARED, "d0.example")
        for one in letter.recipients
    )
    return msgspec.structs.replace(letter, at=share * letter.at, recipients=recipients)


def _in_order(peer: Peer, slow: float) -> Peer:
    """A host that has no moods, though it takes its time: connections are held for long."""
    well_after = 2.0 * TROUBLED_FOR if slow else 0.0
    return Peer(
        name=peer.name,
        address=peer.address,
        domains=tuple(one for one in peer.domains if one != SHARED),
        well_after=well_after,
        slow=slow,
        tls=peer.tls,
        dsn=peer.dsn,
        chunking=peer.chunking,
        pipelining=peer.pipelining,
    )


def _hanging(dice: random.Random, plan: Plan) -> Plan:
    """Let the ledger be silent for about as long as workers wait for any word (3 s)."""
    hangs, at = [], 1.0 + 5.0 * dice.random()
    while at < TROUBLED_FOR:
        seconds = 2.0 + 2.0 * dice.random() if dice.random() < 0.8 else 12.0 * dice.random()
        hangs.append((at, seconds))
        at += seconds + 2.0 + 8.0 * dice.random()
    return msgspec.structs.replace(plan, hangs=tuple(hangs), ledger_latency=dice.choice((0.0, 0.0, 0.02, 0.3)))


def _late(dice: random.Random, plan: Plan) -> Plan:
    """Let the ledger be silent for a little longer than a delivery waits for an answer (2 s).

    Nobody leaves it: whoever did would say anew what it holds, and what came too late would be forgotten.
    """
    hangs, at = [], 1.0 + 5.0 * dice.random()
    while at < TROUBLED_FOR:
        hangs.append((at, 2.0 + 0.2 * dice.random()))
        at += 3.0 + 5.0 * dice.random()
    return msgspec.structs.replace(plan, hangs=tuple(hangs))


def _dying(dice: random.Random, plan: Plan) -> Plan:
    """Let ledgers die one after the other, some of them after they were there and before they had told all."""
    slow = dice.choice((0.02, 0.1, 0.3, 0.3, 0.8))
    blows, at = [], 2.0 + 6.0 * dice.random()
    while at < TROUBLED_FOR:
        for _ in range(dice.choice((1, 2, 3, 4))):
            down = 0.05 + dice.random() * dice.choice((0.2, 3.0))
            blows.append(Blow("time", at, 0, "process", worker=LEDGER, down=down))
            at += down + slow * (1.0 + 3.5 * dice.random())
        at += 5.0 + 10.0 * dice.random()
    return msgspec.structs.replace(plan, blows=tuple(blows), ledger_latency=slow)
