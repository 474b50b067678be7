"""Which deliveries a person means: a Selection made ready to be looked for. Pure.

Owns: what of a selection SQL can decide (ids, domain, state) and what needs the envelope (local-part, sender), and how
the two agree. Does not own: the grammar of patterns (config/patterns.py), SQL (store_read.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from postroad.config.patterns import Pattern, parse_pattern
from postroad.core.envelope import Envelope
from postroad.core.outcome import DeliveryState
from postroad.spool.face import Delivery, Selection

_ANY: Final = Pattern(None, None)
_STATES: Final = {
    "": (0, 4, 0),
    "due": (0, 0, 0),
    "deferred": (0, 0, 1),
    "held": (1, 1, 0),
    "report": (2, 4, 0),
}
"""Least and greatest DeliveryState, and least number of attempts, by the name of the state."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What SQL looks at in a row of table delivery."""

    ids: tuple[int, ...] | None = None
    domain: str | None = None
    ending: str | None = None
    """What the domain ends in, dot included."""
    state_min: int = 0
    state_max: int = 4
    attempts_min: int = 0
    warned_max: int = 1


class Search:
    """A selection made ready. ``states``: those that can be meant at all, without a gap.

    Raises:
        ValueError: a pattern or state that does not exist; the text says what would be right.
    """

    def __init__(self, selection: Selection, states: Sequence[DeliveryState] = tuple(DeliveryState)) -> None:
        if selection.state not in _STATES:
            raise ValueError(f'"{selection.state}" is not a state: it is one of due, deferred, held, report')
        self._to = parse_pattern(selection.to) if selection.to else _ANY
        self._sender = parse_pattern(selection.sender) if selection.sender else _ANY
        self._domain = selection.domain
        least, greatest, attempts = _STATES[selection.state]
        self.filter = Filter(
            ids=tuple(sorted(set(selection.ids))) or None,
            domain=selection.domain or (None if self._to.subdomains else self._to.domain),
            ending=f".{self._to.domain}" if self._to.subdomains else None,
            state_min=max(least, min(states)),
            state_max=min(greatest, max(states)),
            attempts_min=attempts,
        )

    @property
    def is_exact(self) -> bool:
        """True if ``filter`` says all that there is to say: ``matches`` is true of what passes it."""
        if self._domain and self._to.domain is not None and not self._to.subdomains:
            return False  # the filter has room for one of the two
        return self._to.local_part is None and self._sender.is_any

    def matches(self, delivery: Delivery, envelope: Envelope) -> bool:
        """True if the delivery is meant, given that its row passed ``filter``."""
        recipient = envelope.recipients[delivery.number].mailbox
        if not self._to.matches(recipient.local_part, delivery.domain):
            return False
        sender = envelope.sender
        if sender is None:
            return self._sender.matches("", "") if not self._sender.is_any else True
        return self._sender.matches(sender.local_part, sender.ascii_domain)

    def admits(self, delivery: Delivery) -> bool:
        """What ``filter`` says, for those who have no SQL, or whose row has changed since."""
        wanted = self.filter
        return (
            (wanted.ids is None or delivery.message in wanted.ids)
            and (wanted.domain is None or delivery.domain == wanted.domain)
            and (wanted.ending is None or delivery.domain.endswith(wanted.ending))
            and wanted.state_min <= delivery.state <= wanted.state_max
            and delivery.attempts >= wanted.attempts_min
        )


WAITING: Final = Filter(state_max=DeliveryState.DUE)
UNWARNED: Final = Filter(state_max=DeliveryState.DUE, warned_max=0)
