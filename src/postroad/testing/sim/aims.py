"""Aims crashes at the places of the product that touch the disk, and sets up what it takes to pass the seldom ones.

Owns: blows at places, and the changes that a story needs for them: a disk in trouble, shards without a worker, local
mail, a crash before the crash. Does not own: the places and how much each needs (places.py), the other crashes of a
story (teller.py).
"""

from __future__ import annotations

import random
from typing import Final, Literal, cast

import msgspec

from postroad.spool.ground import WAL_EMPTIED_AT
from postroad.testing.sim.chaos import Blow, How, Spell, When
from postroad.testing.sim.house import LOCAL
from postroad.testing.sim.places import PLACES, moments_of
from postroad.testing.sim.story import Letter, Plan

_WEIGHTS: Final = tuple(place.weight * len(moments_of(name)) for name, place in PLACES.items())
_RARE: Final = tuple(name for name, place in PLACES.items() if place.is_rare)
BURST: Final = 2.0
"""Seconds between the moments at which all clients send at once."""
WAITING: Final = (0, 1, 2, 3)
"""Blows that wait at each of the rare places in a story; where there is none, what follows the place is seen, too."""
_SELDOM: Final = {
    "unlink content in Shard._drop_body": 6,
    "unlink content in Counting._unlink_if_there": 4,
    "sync_directory directory in WriteStore.forget": 2,
    "unlink content in take_files": 2,
    "unlink content in remove_shard": 1,
    "unlink WAL in remove_shard": 1,
}
"""Places that are passed hardly ever while machines crash all the time; and how often a story is about each."""
SPELLS_MAX: Final = 12
"""Of trouble with the disk in one story: the last ones that were asked for."""
DRAIN: Final = 40.0
"""Seconds within which a relay that stops in order has stopped, and its shards are adopted."""
_BIRTH: Final = ("write database in Store.open", "sync database in Store.open", "unlink journal in Store.open")
"""Where a crash in the very first opening leaves a journal, from which the next opening recovers."""


def aim(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Return the story with some crashes more, each at a place and moment, and what they need."""
    for name in dice.choices(list(PLACES), _WEIGHTS, k=dice.choice((8, 10, 12))):
        plan = _with(plan, _blow(dice, name))
        for need in PLACES[name].needs.split():
            plan = _SET_UPS[need](dice, plan, span)
    waiting = [_blow(dice, name, later=0) for name in _RARE for _ in range(dice.choice(WAITING))]
    return _with(plan, *waiting)


def aim_at_one(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Return the story with hardly a crash but at one of the places that need calm until then."""
    (name,) = dice.choices(list(_SELDOM), list(_SELDOM.values()))
    plan = msgspec.structs.replace(plan, blows=plan.blows[: dice.choice((0, 0, 1, 2))], spells=())
    for need in PLACES[name].needs.split():
        plan = _SET_UPS[need](dice, plan, span)
    return _with(plan, *(_blow(dice, name, when, later=0) for when in dice.sample(moments_of(name) * 3, 5)))


def _blow(dice: random.Random, name: str, when: str = "", how: How | Literal[""] = "", *, later: int = -1) -> Blow:
    if later < 0:
        later = dice.choice((0, 1, 3, 20)) if PLACES[name].is_frequent else dice.choice((0, 0, 0, 1))
    return Blow(
        waits_for="place",
        n=later,
        operations=0,
        how=cast("How", how or dice.choice(("process", "power"))),
        when=cast("When", when or dice.choice(moments_of(name))),
        place=name,
        loses_all=dice.random() < 0.3,
        down=0.1 + 2.0 * dice.random(),
    )


def _with(plan: Plan, *blows: Blow) -> Plan:
    return msgspec.structs.replace(plan, blows=(*plan.blows, *blows))


# --- what places need ---


def _birth(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let the very first opening be cut short, once or twice."""
    if any(blow.place in _BIRTH for blow in plan.blows[-3:]):
        return plan
    return _with(plan, _blow(dice, dice.choice(_BIRTH), later=0))


def _adoption(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let shards lose their workers while large mail waits in them."""
    workers = max(2, plan.workers)
    at = span * (0.2 + 0.5 * dice.random())
    resizes = plan.resizes or ((at, dice.randint(1, workers - 1)),)
    down = ((0.0, resizes[0][0] + DRAIN + 30.0 * dice.random()),)
    peers = tuple(msgspec.structs.replace(peer, down=peer.down or down) for peer in plan.peers)
    return msgspec.structs.replace(plan, workers=workers, resizes=resizes, peers=peers, file_above=1_024)


def _failing(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let some operations fail: from the beginning, and about the time when shards are adopted or mail comes in."""
    begins = (0.0, plan.resizes[0][0] if plan.resizes else span * dice.random())
    kinds: tuple[Literal["sync", "write"], ...] = ("sync", "sync", "write")
    spells = tuple(
        Spell(dice.choice(kinds), at, 5.0 + dice.choice((15.0, 60.0)) * dice.random(), dice.choice((0.1, 0.2, 0.4)))
        for at in begins
    )
    return msgspec.structs.replace(plan, spells=(*plan.spells, *spells)[-SPELLS_MAX:])


def _syncs(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Large mail comes in, from several clients at once, while syncs fail."""
    spell = Spell("sync", 0.5 * span * dice.random(), 5.0 + 25.0 * dice.random(), dice.choice((0.1, 0.2, 0.4)))
    senders = (
        msgspec.structs.replace(
            sender,
            letters=tuple(
                msgspec.structs.replace(one, at=float(round(one.at / BURST) * BURST)) for one in sender.letters
            ),
        )
        for sender in plan.senders
    )
    return msgspec.structs.replace(
        plan, spells=(*plan.spells, spell)[-SPELLS_MAX:], file_above=1_024, senders=tuple(senders)
    )


def _dense(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let all mail come in while syncs fail, in bursts, to hosts that take it at once."""
    spell = Spell("commit", plan.spells[-1].at, 40.0, dice.choice((0.2, 0.4)))

    def moved(letter: Letter) -> Letter:
        at = spell.at + spell.seconds * letter.at / max(span, letter.at)
        return msgspec.structs.replace(letter, at=float(round(at / BURST) * BURST))

    senders = tuple(
        msgspec.structs.replace(one, letters=tuple(map(moved, one.letters)), per_connection=50) for one in plan.senders
    )
    peers = tuple(msgspec.structs.replace(one, well_after=0.0, down=(), cut_off=(), slow=0.0) for one in plan.peers)
    spells = (*plan.spells[:-1], spell)
    return msgspec.structs.replace(plan, senders=senders, peers=peers, spells=spells, rate=0, connections=20)


def _slow(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let commits be slow while syncs fail: then much waits behind the one that fails."""
    slow = tuple(
        Spell("slow", one.at, one.seconds, dice.choice((0.3, 0.6)))
        for one in plan.spells[-1:]
        if one.kind in ("sync", "commit")
    )
    return msgspec.structs.replace(plan, spells=(*plan.spells, *slow))


def _naming(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let directories not be made durable, when shards are adopted."""
    at = plan.resizes[0][0] if plan.resizes else span * dice.random()
    spell = Spell("sync_directory", at, DRAIN + 30.0 * dice.random(), dice.choice((0.6, 0.9)))
    return msgspec.structs.replace(plan, spells=(*plan.spells, spell)[-SPELLS_MAX:])


def _unlinking(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let files that go stay, when shards are adopted."""
    at = plan.resizes[0][0] if plan.resizes else span * dice.random()
    spell = Spell("unlink", at, DRAIN + 40.0 * dice.random(), dice.choice((0.3, 0.6, 0.9)))
    return msgspec.structs.replace(plan, spells=(*plan.spells, spell)[-SPELLS_MAX:])


def _scarce(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let free space be scarce while the WAL is as large as it must be to be emptied, and is copied now and then."""
    at = span * dice.random()
    spell = Spell("scarce", at, 5.0 + 60.0 * dice.random(), dice.choice((0.5, 0.7, 0.9)))
    return msgspec.structs.replace(plan, spells=(*plan.spells, spell)[-SPELLS_MAX:], checkpoint=WAL_EMPTIED_AT)


def _local(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let some mail go into Maildirs."""

    def turned(letter: Letter) -> Letter:
        if LOCAL in letter.recipients or dice.random() < 0.7:
            return letter
        return msgspec.structs.replace(letter, recipients=(*letter.recipients[:-1], LOCAL))

    senders = (
        msgspec.structs.replace(sender, letters=tuple(turned(letter) for letter in sender.letters))
        for sender in plan.senders
    )
    return msgspec.structs.replace(plan, senders=tuple(senders))


def _broken(dice: random.Random, plan: Plan, span: float) -> Plan:
    """Let an adoption, and a delivery into a Maildir, be cut short: what is left is found at the next try."""
    return _with(
        plan,
        _blow(dice, "link content in take_files", "after", "process", later=0),
        _blow(dice, "rename Maildir in MaildirFile.finish", "after", "process", later=dice.randint(0, 8)),
    )


_SET_UPS: Final = {
    "birth": _birth,
    "adoption": _adoption,
    "failing": _failing,
    "syncs": _syncs,
    "local": _local,
    "broken": _broken,
    "slow": _slow,
    "dense": _dense,
    "naming": _naming,
    "unlinking": _unlinking,
    "scarce": _scarce,
}
