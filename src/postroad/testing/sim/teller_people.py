"""Tells what people do in a story: they steer the queue, suspend and limit destinations, reload.

Owns: how often, of what, with which crashes in the middle. Does not own: the rest of the story (teller.py), doing it
(people.py). It has dice of its own, so the rest of a story is the same with people and without.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from postroad.testing.sim.chaos import FRONT, LEDGER, Blow
from postroad.testing.sim.house import LOCAL, REFUSED, VOID
from postroad.testing.sim.story import Letter, Plan, Step, Terms, Verb

SHARE: Final = 0.35
"""Of stories that people steer in."""
_VERBS: Final[dict[Verb, int]] = {
    "hold": 6,
    "release": 4,
    "flush": 4,
    "delete": 3,
    "bounce": 3,
    "suspend": 4,
    "resume": 2,
    "override": 4,
    "restore": 1,
    "reload": 5,
}
_KINDS: Final = ("maildir", "discard", "reject")


def with_people(plan: Plan) -> Plan:
    """Return the story with what people do in it, if any do."""
    dice = random.Random(plan.seed * 31 + 17)  # noqa: S311 - to be repeated is its purpose
    if dice.random() >= SHARE:
        return plan
    letters = [letter for sender in plan.senders for letter in sender.letters]
    span = max((letter.at for letter in letters), default=0.0) * 1.2 + 5.0
    verbs = dice.choices(list(_VERBS), list(_VERBS.values()), k=dice.choice((3, 6, 12)))
    times = sorted(dice.random() * span for _ in verbs)
    steps = tuple(_step(dice, plan, letters, verb, at) for verb, at in zip(verbs, times, strict=True))
    return msgspec.structs.replace(plan, steps=steps, blows=(*plan.blows, *_blows(dice, steps)))


def _step(dice: random.Random, plan: Plan, letters: list[Letter], verb: Verb, at: float) -> Step:
    if verb == "reload":
        return Step(at, verb, terms=_terms(dice, plan), fails=dice.random() < 0.2)
    if verb in ("suspend", "resume", "override", "restore"):
        until = dice.choice((0.0, 5.0 + dice.random() * 60.0))
        return Step(at, verb, "", _destination(dice, plan), until=until, connections=dice.choice((1, 2, 8)))
    of = dice.choices(("id", "to", "domain", "all"), (4, 2, 5, 0 if verb == "delete" else 2))[0]
    if of == "all":
        return Step(at, verb, "all", "*")
    known = [letter for letter in letters if letter.at < at] or letters
    letter = dice.choice(known[-12:] if dice.random() < 0.7 else known)
    if of == "domain":
        return Step(at, verb, "domain", dice.choice(letter.recipients))
    return Step(at, verb, "id" if of == "id" else "to", letter.token)


def _destination(dice: random.Random, plan: Plan) -> str:
    peer = dice.choice(plan.peers)
    return f"mx:{peer.name}" if dice.random() < 0.5 else dice.choice(peer.domains)


def _terms(dice: random.Random, plan: Plan) -> Terms:
    routes = {}
    for domain in (LOCAL, VOID, REFUSED, dice.choice(plan.peers).domains[0]):
        if dice.random() < 0.3:
            routes[domain] = dice.choice(_KINDS)
    return Terms(
        retry_first=float(dice.choice((5, 20, 40))),
        retry_longest=float(dice.choice((60, 160))),
        expire=float(dice.choice((300, 600, 900))),
        connections=dice.choice((1, 2, 5, 20)),
        messages_per_connection=dice.choice((1, 5, 100)),
        routes=tuple(sorted(routes.items())),  # type: ignore[arg-type]
    )


def _blows(dice: random.Random, steps: tuple[Step, ...]) -> list[Blow]:
    """Crashes in the middle of a command: of the front, of the ledger, of a worker, of all; and between the two halves
    of a reload."""
    blows = []
    for _ in range(dice.choice((0, 1, 2, 4))):
        is_reload = dice.random() < 0.25
        blows.append(
            Blow(
                waits_for="switch" if is_reload else "command",
                n=dice.randint(1, 2 if is_reload else len(steps)),
                operations=dice.randint(0, 12),
                how=dice.choice(("process", "process", "process", "power")),
                when=dice.choice(("before", "in", "after")),
                worker=dice.randint(0, 3) if is_reload else dice.choice((0, 1, 2, LEDGER, FRONT, FRONT, FRONT)),
                loses_all=dice.random() < 0.3,
                down=0.1 + dice.random() * 3.0,
            )
        )
    return blows
