"""What became of each message: compares what the generator heard 250 for with what the sink saw.

Owns: lost and doubled. A message is lost for a recipient where its 250 was heard and no copy came; it is doubled as
often as a copy came beyond the first, acknowledged or not. Copies that were never acknowledged are neither: a relay
may keep what it took whose 250 nobody heard. Pure: octets in, numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    acknowledged: int
    """Copies: recipients of messages with a 250."""
    arrived: int
    """Copies of those, each once."""
    lost: int
    doubled: int
    unacknowledged: int
    """Copies of messages without a 250."""


def judge(acked: bytes, seen: bytes, *, recipients: int) -> Verdict:
    """Compare octet by octet: ``acked`` has one a message, ``seen`` one a recipient of each (255: so often or more)."""
    assert len(seen) == len(acked) * recipients, "not of the same run"
    arrived = doubled = unacknowledged = 0
    for number, is_acked in enumerate(acked):
        copies = seen[number * recipients : (number + 1) * recipients]
        once = recipients - copies.count(0)
        doubled += sum(copies) - once
        if is_acked:
            arrived += once
        else:
            unacknowledged += once
    acknowledged = acked.count(1) * recipients
    return Verdict(acknowledged, arrived, acknowledged - arrived, doubled, unacknowledged)
