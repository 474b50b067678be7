"""Makes a story of shards that lose their workers on a disk of which only those parts are ill.

Owns: what such a story is like. Does not own: how often there is one (teller_moods.py). Where all of a disk is ill,
what is put into a shard fails as often as what is removed from another, and a crash makes up for what was done twice.
Here the shard that takes over works, so a removal that failed is tried again while what was put is delivered already.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from postroad.testing.sim.chaos import Ill, Spell
from postroad.testing.sim.network import Weather
from postroad.testing.sim.story import Plan

SHARE: Final = 0.06
"""Of stories that have no mood."""
DRAIN: Final = 40.0
"""Seconds within which a relay that stops in order has stopped, and its shards are adopted."""
_ILLS: Final[tuple[Ill, ...]] = ("commit", "commit", "commit", "sync", "write")


def with_a_parting(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Return the story with fewer workers from the middle on, and hosts that come back when these start."""
    workers = dice.choice((2, 2, 3, 4))
    left = dice.randint(1, workers - 1)
    at = span * (0.4 + 0.5 * dice.random())
    back = at + dice.choice((1.0, DRAIN)) * dice.random()
    peers = tuple(
        msgspec.structs.replace(
            one, well_after=back, down=((0.0, back),), cut_off=(), names_fail=0.0, silent=0.0, slow=0.0
        )
        for one in plan.peers
    )
    spells = tuple(
        Spell(dice.choice(_ILLS), at, DRAIN + 60.0 * dice.random(), dice.choice((0.3, 0.6, 0.8)), f"/shard-{number}/")
        for number in range(left, workers)
    )
    return msgspec.structs.replace(
        plan,
        peers=peers,
        blows=(),
        spells=spells,
        jumps=(),
        workers=workers,
        resizes=((at, left),),
        weather=Weather(latency=plan.weather.latency, pieces=plan.weather.pieces),
        retry_first=5.0,
        rate=0,
        expire=max(600.0, plan.expire),
    )
