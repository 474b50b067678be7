"""Lets trouble meet what it can harm: some stories are about one such meeting each, and have few crashes.

Owns: how often, and what it takes: a commit that fails while content is coming in, a disk that hangs for longer than a
client is let wait, a stop in the middle of an opening, a person's change that a failed commit keeps. Does not own: the
rest of the story (teller.py), moods (teller_moods.py). It comes after all others and has dice of its own, so other
stories stay as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec

from postroad.testing.sim.chaos import Blow, Spell
from postroad.testing.sim.story import Letter, Plan, Sender, Step, Verb

_WEIGHTS: Final = {"dawdling": 3, "stuck": 2, "stopping": 3, "dusty": 3, "sluggish": 2, "steered": 2, "": 85}
"""In percent of all stories."""
BURST: Final = 3.0
"""Seconds between the moments at which clients send at once, so that one batch has many."""
LARGE: Final = 1_024
"""Octets from which a content has a file of its own, where a story is about those."""
PUT_PATIENCE: Final = 600.0
"""Seconds after which the relay cuts off a client whose message the disk still keeps waiting: clients are told to wait
ten minutes for the final reply (RFC 5321 section 4.5.3.2.6)."""
CHANGES: Final[tuple[Verb, ...]] = ("delete", "delete", "delete", "bounce", "hold", "release")


def with_meeting(plan: Plan) -> Plan:
    """Return the story with what meets in it, if it is one of those."""
    dice = random.Random(plan.seed * 43 + 29)  # noqa: S311 - to be repeated is its purpose
    kind = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    return _CHANGES[kind](dice, plan) if kind else plan


def _span(plan: Plan) -> float:
    return max((letter.at for sender in plan.senders for letter in sender.letters), default=1.0)


def _few(plan: Plan, count: int = 3) -> tuple[Blow, ...]:
    """Return the first crashes only: a start mends what was forgotten, and excuses much."""
    return tuple(blow for blow in plan.blows if blow.waits_for in ("time", "dot") and blow.n < 15)[:count]


def _dawdling(dice: random.Random, plan: Plan) -> Plan:
    """Let clients stop in the middle of their content, and before its last octets, while commits fail now and then."""

    def slower(sender: Sender) -> Sender:
        pause, last = dice.choice((0.0, 0.5, 3.0, 8.0)), dice.randint(0, 5)
        return msgspec.structs.replace(sender, pause=pause, last_octets=last)

    senders = tuple(slower(one) for one in plan.senders)
    spells = (Spell("commit", 0.0, _span(plan) + 60.0, dice.choice((0.02, 0.05, 0.1))),)
    return msgspec.structs.replace(plan, senders=senders, spells=spells, blows=_few(plan), file_above=LARGE)


def _stuck(dice: random.Random, plan: Plan) -> Plan:
    """Let the disk hang for longer than a client may wait, and clients wait for longer still."""
    hang = Spell("hang", dice.random() * _span(plan), PUT_PATIENCE + 20.0 + 60.0 * dice.random())
    senders = tuple(msgspec.structs.replace(one, patience=PUT_PATIENCE * 2.0, hangs_up_at=0) for one in plan.senders)
    return msgspec.structs.replace(plan, senders=senders, spells=(hang,), blows=_few(plan))


def _stopping(dice: random.Random, plan: Plan) -> Plan:
    """Let the relay stop while stores are being opened, slowly: after trouble, and to be adopted."""
    workers, at = max(3, plan.workers), 5.0 + dice.random() * _span(plan)
    times = (at + number * (8.0 + 4.0 * dice.random()) for number in range(5))
    resizes = tuple((when, dice.choice((1, 1, 2))) for when in times)
    spells = (
        Spell("commit", at - 3.0, 6.0, dice.choice((0.2, 0.5))),
        Spell("slow", at - 5.0, 90.0, dice.choice((0.5, 0.9))),
    )
    return msgspec.structs.replace(plan, workers=workers, resizes=resizes, spells=spells, blows=_few(plan))


def _dusty(dice: random.Random, plan: Plan) -> Plan:
    """Let batches of large messages be refused, and their contents be hard to get rid of."""

    def at_once(letter: Letter) -> Letter:
        return msgspec.structs.replace(letter, at=BURST * round(letter.at / BURST), size=max(letter.size, 2 * LARGE))

    senders = tuple(
        msgspec.structs.replace(one, letters=tuple(at_once(letter) for letter in one.letters)) for one in plan.senders
    )
    length = _span(plan) + 60.0
    spells = [
        Spell("commit", 0.0, length, dice.choice((0.05, 0.1, 0.3))),
        Spell("slow", 0.0, length, dice.choice((0.2, 0.5))),
    ]
    if dice.random() < 0.6:
        spells.append(Spell("unlink", 0.0, length, 0.5))
    return msgspec.structs.replace(plan, senders=senders, spells=tuple(spells), blows=_few(plan), file_above=LARGE)


def _sluggish(dice: random.Random, plan: Plan) -> Plan:
    """Let the disk be slow to the very end, so that the last outcomes come while a commit is under way."""
    slow = Spell("slow", 0.0, _span(plan) + 4.0 * plan.expire, dice.choice((0.1, 0.3, 0.6)))
    return msgspec.structs.replace(plan, spells=(*plan.spells[:2], slow), blows=_few(plan))


def _steered(dice: random.Random, plan: Plan) -> Plan:
    """Let commits fail right when people change what is queued, and what has just become due is looked for."""
    letters = [letter for sender in plan.senders for letter in sender.letters]
    steps = [step for _ in range(dice.choice((4, 8))) for step in _steps(dice, letters)]
    spells = [Spell("commit", step.at, 0.5, 0.6) for step in steps if step.verb != "flush"]
    if dice.random() < 0.7:  # whoever reads meanwhile waits
        spells += [Spell("slow", step.at - 0.1, 1.5, 0.5) for step in steps]
    steps = sorted((*plan.steps, *steps), key=lambda step: step.at)
    return msgspec.structs.replace(
        plan, steps=tuple(steps), spells=(*plan.spells[:2], *spells), blows=_few(plan, 2), connections=20
    )


def _steps(dice: random.Random, letters: list[Letter]) -> list[Step]:
    letter, after = dice.choice(letters), 2.0 + 20.0 * dice.random()
    at, domain = letter.at + after, dice.choice(letter.recipients)
    flush = Step(at - 0.1 * dice.random(), "flush", "domain", domain)
    change = Step(at, dice.choice(CHANGES), "domain", domain)
    return [flush, change] if dice.random() < 0.7 else [change]


_CHANGES: Final[dict[str, Callable[[random.Random, Plan], Plan]]] = {
    "dawdling": _dawdling,
    "stuck": _stuck,
    "stopping": _stopping,
    "dusty": _dusty,
    "sluggish": _sluggish,
    "steered": _steered,
}
