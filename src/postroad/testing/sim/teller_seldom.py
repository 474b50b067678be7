"""Turns some calm stories into ones about what hardly ever comes together by itself.

Owns: which, how often, and all of what they need. Does not own: moods (teller_moods.py), the rest of the story. Nearly
every trouble mends what came before it: a start finds all that waits, new mail for a domain, or a report of a delay,
has its queue looked at anew. Here that does not come, so what was lost sight of stays so, and is given up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec

from postroad.testing.sim.chaos import Blow, Ill, Spell
from postroad.testing.sim.network import Weather
from postroad.testing.sim.story import Letter, Peer, Plan, Sender, Step

SHARES: Final = {"mild": 0.6, "ill": 0.25}
"""Of stories of a mood that are turned. Neither mood has crashes at places, so none of those gets lost."""
LONG: Final = 3_600.0
"""Seconds for which mail is kept, and nobody is reminded of it."""
SHARED: Final = "shared.example"
STRANGE: Final = "203.0.113."
"""Addresses that are not in [relay] networks."""

_FAILING: Final[tuple[Ill, ...]] = ("commit", "commit", "commit", "sync", "write", "full")

Turn = Callable[[Letter], Letter]


def with_seldom(dice: random.Random, mood: str, plan: Plan) -> Plan:
    """Return the story, perhaps as another."""
    if dice.random() >= SHARES.get(mood, 0.0):
        return plan
    return dice.choice(_TURNS)(dice, plan)


def _restarted(dice: random.Random, plan: Plan) -> Plan:
    """All mail waits for its hosts when the machine starts anew, and nothing comes after that."""
    plan = _calm(plan)
    end = _end(plan)
    blow = Blow(
        "time",
        end + dice.random() * 40.0,
        dice.randint(0, 3),
        how=dice.choice(("power", "power", "process")),
        loses_all=dice.random() < 0.3,
    )
    return _forgotten(_away(plan, end + 50.0 + 60.0 * dice.random()), blows=(blow,))


def _given_back(dice: random.Random, plan: Plan) -> Plan:
    """Much mail waits for few connections when it is given back to the queue: by a reload, by a suspension."""
    plan = _at_once(_calm(plan), 5.0)
    at, steps = 5.5 + 3.0 * dice.random(), list[Step]()
    if dice.random() < 0.5:
        steps.append(Step(at, "reload", terms=msgspec.structs.replace(plan.terms, connections=1, expire=LONG)))
    else:
        names = [f"mx:{one.name}" if dice.random() < 0.5 else one.domains[0] for one in plan.peers]
        steps += [Step(at, "suspend", "", name, until=10.0 + 20.0 * dice.random()) for name in names]
    weather = msgspec.structs.replace(plan.weather, latency=0.04)
    return _forgotten(plan, connections=1, weather=weather, steps=tuple(steps))


def _late(dice: random.Random, plan: Plan) -> Plan:
    """Senders are to hear of delays of some recipients of a message only, and the disk is ill when that is due."""
    domains = [one.domains[0] for one in plan.peers]

    def mixed(letter: Letter) -> Letter:
        return msgspec.structs.replace(letter, recipients=tuple(dice.sample(domains, 2)))

    plan = _with_letters(_calm(plan), mixed)
    end = _end(plan)
    kind: Ill = dice.choice(("full", "full", "sync", "commit", "write"))
    spells = (Spell(kind, plan.warn - 5.0, end + 80.0, dice.choice((0.5, 1.0))),) if dice.random() < 0.6 else ()
    unwarned = dice.choice(domains) if not spells or dice.random() < 0.5 else ""
    away = _away(plan, plan.warn + end + 150.0)
    return msgspec.structs.replace(away, expire=LONG, retry_longest=60.0, spells=spells, unwarned=unwarned)


def _refusing(dice: random.Random, plan: Plan) -> Plan:
    """Hosts refuse many for good while commits fail: what is to be reported meets trouble."""
    plan = _calm(plan)
    peers = tuple(msgspec.structs.replace(one, rcpt_5xx=0.6) for one in plan.peers)
    end = _end(plan)
    spells = tuple(
        Spell(dice.choice(_FAILING), end * dice.random(), 5.0 + 20.0 * dice.random(), dice.choice((0.05, 0.1, 0.3)))
        for _ in range(8)
    )
    blows = tuple(
        Blow("time", end * dice.random() * 1.2, 0, how="process", worker=place)
        for place in range(dice.choice((0, 0, 2)))
    )
    return msgspec.structs.replace(plan, peers=peers, spells=spells, blows=blows)


def _next_hosts(dice: random.Random, plan: Plan) -> Plan:
    """Much mail has several recipients at a domain of several hosts, of which one puts off and another breaks off."""

    def shared(letter: Letter) -> Letter:
        return msgspec.structs.replace(letter, recipients=(*letter.recipients[:1], SHARED, SHARED, SHARED))

    plan = _with_letters(_calm(plan), shared)
    well = 2.0 * _end(plan) + 30.0
    peers = tuple(
        msgspec.structs.replace(
            one,
            domains=one.domains if SHARED in one.domains or place > 1 else (*one.domains, SHARED),
            well_after=well,
            rcpt_4xx=dice.choice((0.1, 0.4)),
            drops_taken=dice.choice((0.0, 0.3)),
            drops_untaken=dice.choice((0.0, 0.3)),
            garbage=dice.choice((0.0, 0.3)),
        )
        for place, one in enumerate(plan.peers)
    )
    return msgspec.structs.replace(plan, peers=peers)


def _slow_names(dice: random.Random, plan: Plan) -> Plan:
    """Names are found slowly, and destinations suspended meanwhile."""
    plan = _calm(plan)
    peers = tuple(msgspec.structs.replace(one, names_slow=12.0) for one in plan.peers)
    end = _end(plan)
    steps = [
        Step(1.0 + end * dice.random(), "suspend", "", one.domains[0], until=60.0)
        for one in peers
        if dice.random() < 0.7
    ]
    return msgspec.structs.replace(plan, peers=peers, steps=tuple(sorted(steps, key=lambda one: one.at)))


def _at_the_rate(dice: random.Random, plan: Plan) -> Plan:
    """More comes at once than a rate allows in a minute, to hosts that are well."""
    plan = _at_once(_calm(plan), 35.0 + 5.0 * dice.random())
    few = [one.domains[0] for one in plan.peers[:2]]
    plan = _with_letters(plan, lambda letter: msgspec.structs.replace(letter, recipients=(dice.choice(few),)))
    return msgspec.structs.replace(plan, rate=20, expire=LONG, connections=5)


def _strangers(dice: random.Random, plan: Plan) -> Plan:
    """More clients come than there are places for, and are none of ours: each address may have few connections."""
    plan = _calm(plan)
    count = len(plan.senders)
    senders = tuple(
        msgspec.structs.replace(one, address=f"{STRANGE}{1 + number // 2}", tries=2, patience=30.0)
        for number, one in enumerate(plan.senders)
    )
    return msgspec.structs.replace(
        plan, senders=senders, places=dice.choice((1, 2, max(1, count // 2))), places_per_ip=dice.choice((1, 2))
    )


_TURNS: Final = (
    _restarted,
    _given_back,
    _late,
    _refusing,
    _next_hosts,
    _slow_names,
    _at_the_rate,
    _strangers,
)


# --- what they are made of ---


def _calm(plan: Plan) -> Plan:
    """Take all trouble away."""
    peers = tuple(
        Peer(
            one.name,
            one.address,
            one.domains,
            0.0,
            tls=one.tls,
            dsn=one.dsn,
            chunking=one.chunking,
            pipelining=one.pipelining,
        )
        for one in plan.peers
    )
    weather = Weather(latency=plan.weather.latency, pieces=plan.weather.pieces, resets=0.0)
    return msgspec.structs.replace(
        plan, peers=peers, weather=weather, spells=(), blows=(), jumps=(), resizes=(), rate=0
    )


def _forgotten(plan: Plan, **changes: object) -> Plan:
    """Let mail be kept for long, and nobody be reminded of it."""
    return msgspec.structs.replace(plan, retry_longest=60.0, expire=LONG, warn=LONG, **changes)


def _away(plan: Plan, until: float) -> Plan:
    """Let no host be there until then."""
    peers = tuple(msgspec.structs.replace(one, down=((0.0, until),)) for one in plan.peers)
    return msgspec.structs.replace(plan, peers=peers)


def _at_once(plan: Plan, at: float) -> Plan:
    """Let all letters be sent from the same moment on."""
    plan = _with_letters(plan, lambda letter: msgspec.structs.replace(letter, at=at))
    return msgspec.structs.replace(
        plan, senders=tuple(msgspec.structs.replace(one, per_connection=50) for one in plan.senders)
    )


def _with_letters(plan: Plan, change: Turn) -> Plan:
    def changed(sender: Sender) -> Sender:
        return msgspec.structs.replace(sender, letters=tuple(map(change, sender.letters)))

    return msgspec.structs.replace(plan, senders=tuple(map(changed, plan.senders)))


def _end(plan: Plan) -> float:
    """Return when the last letter is sent."""
    return max((letter.at for sender in plan.senders for letter in sender.letters), default=1.0)
