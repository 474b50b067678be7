"""Tells a story from a seed.

Owns: how often what happens in a story: sizes, chances, crashes. Does not own: playing it (world.py). Crashes are
aimed: half of them at the moments that the promise is about (between final dot and 250, between delivery and record),
the others at starts, at any time, and at places of the product that touch the disk (aims.py).
"""

from __future__ import annotations

import random
from typing import Final

from postroad.testing.sim.aims import aim
from postroad.testing.sim.chaos import Blow, How, Spell, When
from postroad.testing.sim.house import LOCAL, REFUSED, VOID
from postroad.testing.sim.network import Weather
from postroad.testing.sim.resolver import NO_SUCH_DOMAIN, NULL_MX
from postroad.testing.sim.story import Letter, Peer, Plan, Sender
from postroad.testing.sim.teller_meetings import with_meeting
from postroad.testing.sim.teller_moods import with_mood
from postroad.testing.sim.teller_people import with_people

LETTERS: Final = 126
"""Of a story, about: so that 10,000 stories have more than a million messages that are accepted, five sixths of all."""
HOMES: Final = ("home.example", "abroad.example")
"""Domains of senders: reports go there."""


def tell(seed: int, *, letters: int = LETTERS) -> Plan:
    """Return the story of a seed, with about so many letters."""
    dice = random.Random(seed)  # noqa: S311 - to be repeated is its purpose
    span = dice.choice((20.0, 60.0, 240.0))
    peers = _peers(dice, span)
    domains = _domains(dice, peers)
    senders = _senders(dice, span, domains, letters)
    workers = dice.choice((1, 1, 1, 2, 2, 2, 3, 4))
    resizes = _resizes(dice, span, workers)
    plan = Plan(
        seed=seed,
        senders=senders,
        peers=peers,
        spells=_spells(dice, span),
        blows=_blows(dice, span, sum(len(one.letters) for one in senders)),
        weather=Weather(
            latency=dice.choice((0.001, 0.01, 0.04)),
            pieces=dice.choice((0.0, 0.1, 0.5)),
            resets=dice.choice((0.0, 0.0, 0.002, 0.01)),
        ),
        retry_first=float(dice.choice((5, 20, 40))),
        retry_longest=float(dice.choice((60, 160))),
        expire=float(dice.choice((300, 600, 900))),
        warn=float(dice.choice((120, 240))),
        connections=dice.choice((1, 2, 5, 20)),
        messages_per_connection=dice.choice((1, 5, 100)),
        rate=dice.choice((0, 0, 0, 0, 60, 20)),
        file_above=dice.choice((1_024, 4_096, 65_536)),
        checkpoint=dice.choice((65_536, 262_144, 33_554_432)),
        jumps=_jumps(dice, span),
        workers=workers,
        has_ledger=dice.random() < 0.3,
        resizes=resizes,
    )
    return with_meeting(with_people(with_mood(aim(dice, plan, span) if plan.blows else plan)))


def _peers(dice: random.Random, span: float) -> tuple[Peer, ...]:
    peers = []
    for number in range(dice.randint(2, 6)):
        wild = dice.random()
        until = 1e9 if dice.random() < 0.15 else span * dice.random() * 2 + 30

        def some(share: float, most: float, wild: float = wild) -> float:
            return most * dice.random() if wild > 0.25 and dice.random() < share else 0.0

        domains = [f"d{number}.example"]
        if number < len(HOMES):
            domains.append(HOMES[number])
        if dice.random() < 0.3:
            domains.append("shared.example")
        peers.append(
            Peer(
                name=f"mx{number}.example",
                address=f"198.51.100.{number + 1}",
                domains=tuple(domains),
                well_after=until,
                greylists=some(0.2, 60.0),
                rcpt_4xx=some(0.3, 0.4),
                rcpt_5xx=some(0.3, 0.4) if number >= len(HOMES) or dice.random() < 0.2 else 0.0,
                rate_4xx=some(0.2, 0.5),
                dot_4xx=some(0.2, 0.4),
                dot_5xx=some(0.2, 0.3),
                drops_untaken=some(0.25, 0.4),
                drops_taken=some(0.25, 0.3),
                garbage=some(0.15, 0.4),
                breaks_tls=some(0.3, 0.6),
                silent=some(0.08, 0.3),
                slow=some(0.3, 3.0),
                tls=dice.random() < 0.4,
                dsn=dice.random() < 0.4,
                chunking=dice.random() < 0.3,
                pipelining=dice.random() < 0.7,
                size_max=dice.choice((0, 0, 0, 20_000)),
                bounces_later=some(0.1, 0.2),
                down=_spans(dice, span, 0.15),
                cut_off=_spans(dice, span, 0.1),
                names_fail=some(0.15, 0.5),
            )
        )
    return tuple(peers)


def _spans(dice: random.Random, span: float, share: float) -> tuple[tuple[float, float], ...]:
    if dice.random() >= share:
        return ()
    begin = dice.random() * span
    return ((begin, begin + 5.0 + dice.random() * 200.0),)


def _domains(dice: random.Random, peers: tuple[Peer, ...]) -> list[str]:
    domains = [domain for peer in peers for domain in peer.domains if domain not in HOMES]
    domains += [LOCAL] if dice.random() < 0.6 else []
    domains += [one for one in (VOID, REFUSED, NO_SUCH_DOMAIN, NULL_MX) if dice.random() < 0.15]
    return domains


def _senders(dice: random.Random, span: float, domains: list[str], letters: int) -> tuple[Sender, ...]:
    count = dice.randint(2, 6)
    senders = []
    bursts = dice.random() < 0.4
    for number in range(count):
        mine = []
        for place in range(max(1, round(letters / count))):
            at = dice.random() * span
            if bursts:
                at = round(at / span * 4) * span / 4
            size = int(dice.choice((700, 700, 1_500, 3_000, 9_000, 40_000)) * (0.5 + dice.random()))
            recipients = tuple(dice.choice(domains) for _ in range(dice.choice((1, 1, 1, 2, 3, 6))))
            mine.append(
                Letter(
                    token=f"s{number}n{place}",
                    at=at,
                    recipients=recipients,
                    size=size,
                    sender="" if dice.random() < 0.06 else f"s.#@{dice.choice(HOMES)}",
                    notify=dice.choice(("", "", "", "NEVER", "FAILURE", "SUCCESS,FAILURE", "FAILURE,DELAY")),
                    breaks_off=dice.random() < 0.02,
                )
            )
        mine.sort(key=lambda letter: letter.at)
        senders.append(
            Sender(
                name=f"client{number}",
                address=f"10.0.0.{number + 1}",
                letters=tuple(mine),
                pipelines=dice.random() < 0.7,
                tls=dice.random() < 0.2,
                per_connection=dice.choice((1, 5, 50)),
                tries=dice.randint(0, 2),
                patience=dice.choice((30.0, 120.0, 700.0)),
                hangs_up_at=dice.choice((0, 0, 3)),
            )
        )
    return tuple(senders)


def _spells(dice: random.Random, span: float) -> tuple[Spell, ...]:
    spells = []
    for kind, share, longest in (
        ("write", 0.25, 30.0),
        ("sync", 0.3, 30.0),
        ("full", 0.12, 60.0),
        ("slow", 0.2, 60.0),
    ):
        if dice.random() < share:
            seconds, part = dice.random() * longest, dice.choice((0.05, 0.2, 0.5, 1.0))
            spells.append(Spell(kind, dice.random() * span, seconds, part))  # type: ignore[arg-type]
    if dice.random() < 0.04:
        spells.append(Spell("hang", dice.random() * span, 10.0 + dice.random() * 800.0))
    return tuple(spells)


def _jumps(dice: random.Random, span: float) -> tuple[tuple[float, float], ...]:
    if dice.random() >= 0.15:
        return ()
    return ((dice.random() * span, dice.choice((-600.0, -60.0, -2.0, 2.0, 30.0))),)


def _resizes(dice: random.Random, span: float, workers: int) -> tuple[tuple[float, int], ...]:
    if dice.random() >= (0.1 if workers == 1 else 0.5):
        return ()
    times = sorted(dice.random() * span for _ in range(dice.choice((1, 1, 2, 3))))
    return tuple((at, dice.randint(1, workers)) for at in times)


def _blows(dice: random.Random, span: float, letters: int) -> tuple[Blow, ...]:
    if dice.random() < 0.03:
        return ()
    blows = []
    count = dice.choice((7, 12, 17, 22))
    share_of_power = dice.choice((0.2, 0.5, 0.8))
    for _ in range(count):
        how: How = "power" if dice.random() < share_of_power else "process"
        when = _when(dice)
        waits, n, operations, place = _moment(dice, span, letters)
        blows.append(
            Blow(
                waits_for=waits,  # type: ignore[arg-type]
                n=n,
                operations=operations,
                how=how,
                when=when,
                place=place,
                worker=dice.randint(0, 3),
                loses_all=dice.random() < 0.3,
                down=0.1 + dice.random() * dice.choice((1.0, 10.0)),
            )
        )
    return tuple(blows)


def _when(dice: random.Random) -> When:
    chance = dice.random()
    return "before" if chance < 0.33 else "in" if chance < 0.67 else "after"


def _operation(dice: random.Random) -> tuple[str, int]:
    """Return at which operation a blow falls: any of the next ones, or the next sync, or what comes after it."""
    return dice.choice(
        (("", dice.randint(0, 12)), ("sync", 0), ("sync", 1), ("sync", dice.randint(0, 4)), ("unlink", 0))
    )


def _moment(dice: random.Random, span: float, letters: int) -> tuple[str, float, int, str]:
    chance = dice.random()
    if chance < 0.4:
        place, operations = _operation(dice)
        return "dot", dice.randint(1, max(2, letters)), operations, place
    if chance < 0.8:
        place, operations = _operation(dice)
        return "reply", dice.randint(1, max(2, letters)), operations, place
    if chance < 0.9:
        return "start", dice.randint(1, 12), dice.randint(0, 30), dice.choice(("", "", "sync", "truncate"))
    return "time", dice.random() * span, dice.randint(0, 20), ""
