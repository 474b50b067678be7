"""Makes a story that breaks a law shorter, as long as it still breaks the same law.

Owns: what may be left out: crashes, spells, letters, recipients, peers' bad habits. Does not own: playing and judging.
Delta debugging: halves, quarters, single parts, until nothing more can go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from postroad.testing.sim.network import Weather
from postroad.testing.sim.story import Peer, Plan

T = TypeVar("T")
Breaks = Callable[[Plan], bool]


def shrink(plan: Plan, breaks: Breaks, *, tries: int = 400, tell: Callable[[str], None] = lambda text: None) -> Plan:
    """Return a shorter story that still ``breaks``."""
    left = [tries]

    def still(candidate: Plan) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        return breaks(candidate)

    while left[0] > 0:
        before = plan
        for simpler in (_fewer_parts, _fewer_letters, _plainer):
            plan = simpler(plan, still)
        counts = (
            f"{plan.letters} letters, {len(plan.blows)} crashes, {len(plan.spells)} spells, {len(plan.steps)} steps"
        )
        tell(f"{counts}, {len(plan.spells)} spells, {len(plan.peers)} peers")
        if plan == before:
            break
    return plan


def _fewer(items: Sequence[T], still: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """Return a part of ``items`` that is still enough."""
    items = tuple(items)
    size = max(1, len(items) // 2)
    while items:
        at = 0
        while at < len(items):
            candidate = items[:at] + items[at + size :]
            if still(candidate):
                items = candidate
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return items


def _fewer_parts(plan: Plan, still: Breaks) -> Plan:
    for name in ("senders", "blows", "spells", "jumps", "resizes", "steps", "hangs"):

        def enough(candidate: tuple[Any, ...], name: str = name, plan: Plan = plan) -> bool:
            return still(msgspec.structs.replace(plan, **{name: candidate}))

        plan = msgspec.structs.replace(plan, **{name: _fewer(getattr(plan, name), enough)})
    return plan


def _fewer_letters(plan: Plan, still: Breaks) -> Plan:
    for place in range(len(plan.senders)):

        def with_letters(letters: tuple[Any, ...], place: int = place, plan: Plan = plan) -> Plan:
            sender = msgspec.structs.replace(plan.senders[place], letters=letters)
            return msgspec.structs.replace(plan, senders=(*plan.senders[:place], sender, *plan.senders[place + 1 :]))

        letters = _fewer(plan.senders[place].letters, lambda some: still(with_letters(some)))
        plan = with_letters(letters)
    return plan


def _plainer(plan: Plan, still: Breaks) -> Plan:
    for candidate in _simpler(plan):
        merged = msgspec.structs.replace(plan, **candidate)
        if merged != plan and still(merged):
            plan = merged
    for place, peer in enumerate(plan.peers):
        for name in _HABITS:
            default = next(field.default for field in msgspec.structs.fields(Peer) if field.name == name)
            changed = msgspec.structs.replace(plan.peers[place], **{name: default})
            merged = msgspec.structs.replace(plan, peers=(*plan.peers[:place], changed, *plan.peers[place + 1 :]))
            if changed != peer and still(merged):
                plan = merged
    return plan


def _simpler(plan: Plan) -> Iterator[dict[str, Any]]:
    yield {"weather": Weather(latency=0.01, pieces=0.0)}
    yield {"rate": 0}
    yield {"connections": 1}
    yield {"messages_per_connection": 1}
    yield {"workers": 1, "has_ledger": False, "resizes": ()}
    yield {"workers": 2}
    yield {"checkpoint": 33_554_432}
    yield {"file_above": 65_536}


_HABITS = (
    "greylists", "rcpt_4xx", "rcpt_5xx", "rate_4xx", "dot_4xx", "dot_5xx", "drops_untaken", "drops_taken", "garbage",
    "breaks_tls", "silent", "slow", "tls", "dsn", "chunking", "refuses_rset", "size_max", "bounces_later", "down",
    "cut_off", "names_fail",
)  # fmt: skip
