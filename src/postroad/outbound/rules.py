"""From the records of suspensions and overrides to rules that outbound can follow.

Owns: reading names and rates as people wrote them; a record that cannot be read is left out, with a sentence. Does not
own: the records (outbound/relay.py names their fields), what the rules do (policy/steered.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from postroad.config.units import parse_rate
from postroad.core.faces import Rate
from postroad.outbound.relay import Override, Suspension
from postroad.policy.destination_name import parse_destination_name
from postroad.policy.steered import OverrideRule, SuspensionRule

NO_RATE: Final = "none"
"""How an override says that no rate holds."""


class Rules(msgspec.Struct, frozen=True):
    """What the records say: what ``Outbound.steer`` takes."""

    suspensions: tuple[SuspensionRule, ...]
    overrides: tuple[OverrideRule, ...]
    troubles: tuple[str, ...] = ()
    """What could not be read and does not hold, a sentence each."""


def rules_of(suspensions: Iterable[Suspension], overrides: Iterable[Override]) -> Rules:
    """Return the rules of the records. Never raises: one that is broken must not undo the others."""
    suspended: list[SuspensionRule] = []
    overridden: list[OverrideRule] = []
    troubles: list[str] = []
    for one in suspensions:
        try:
            suspended.append(suspension_rule(one))
        except ValueError as error:
            troubles.append(f"The suspension of {one.destination!r} does not hold. {error}")
    for other in overrides:
        try:
            overridden.append(override_rule(other))
        except ValueError as error:
            troubles.append(f"The override of {other.destination!r} does not hold. {error}")
    return Rules(tuple(suspended), tuple(overridden), tuple(troubles))


def suspension_rule(record: Suspension) -> SuspensionRule:
    """Return the rule of one suspension.

    Raises:
        ValueError: the name is none; the text is a sentence.
    """
    name = parse_destination_name(record.destination)
    return SuspensionRule(name=name, until=record.until, who=record.who, why=record.why)


def override_rule(record: Override) -> OverrideRule:
    """Return the rule of one override.

    Raises:
        ValueError: the name is none, or a limit cannot be; the text is a sentence.
    """
    for what, number in (
        ("connections", record.connections),
        ("messages_per_connection", record.messages_per_connection),
    ):
        if number is not None and number < 1:
            raise ValueError(f"{what} is {number}, and at least 1 is needed: to send nothing, suspend the destination.")
    rate = None
    if record.rate is not None and record.rate != NO_RATE:
        parsed = parse_rate(record.rate)
        rate = Rate(parsed.count, parsed.seconds)
    return OverrideRule(
        name=parse_destination_name(record.destination),
        until=record.until,
        connections=record.connections,
        messages_per_connection=record.messages_per_connection,
        rate=rate,
        is_unlimited=record.rate == NO_RATE,
    )
