"""What a destination needs besides a job before anything is sent: a connection's lease, and tokens of its rate.

Owns: how both are asked of Limits, which hold over all workers: in what portions, how long to wait in between. Does not
own: when they are needed and who uses them (destination.py; it asks from one place only), counting (ledger).

A lease comes first: who cannot connect must not use up tokens. At most one is spare, for the next lane; it is kept
while tokens are waited for as a connection is kept without work. Tokens are taken as jobs can use them, a portion
for TOKENS_SPAN at most, and are worth nothing after TOKEN_LIFE: what several workers have in hand must not add up.
Nor what lanes have in hand: the token of a job whose next hop had hung for minutes would come on top of a whole span's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from postroad.core.faces import Limits, Rate
from postroad.core.units import MINUTE, SECOND

LEASE_WAIT_MIN: Final = 0.05
LEASE_WAIT_MAX: Final = 0.5
"""Seconds until a connection is asked for again where other workers hold all of a destination's; doubled from the one
to the other."""
TOKENS_SPAN: Final = 0.05
"""Seconds' worth of a rate that is taken at a time, at most: at 10,000/s one question for 500 messages."""
TOKEN_LIFE: Final = 0.1
"""Seconds after which tokens that nobody has used are forgotten."""
USED_LATE_MAX: Final = 10 * SECOND
"""Seconds that may pass between a job's token and its MAIL in any case; as a rule half the span of the rate."""
TOKEN_WAIT_MAX: Final = 4 * MINUTE
"""Seconds for which a connection is kept at most while a token is waited for. A next hop waits for 5 minutes (RFC 5321
section 4.5.3.2.7)."""


def token_wait(rate: Rate) -> float:
    """Return after how many seconds there is a token, even if all of a rate is used up (ledger/meter.py: its slots)."""
    return min(1.1 * rate.seconds, TOKEN_WAIT_MAX)


class Gate:
    """The lease and the tokens in hand. ``time``: the event loop's."""

    __slots__ = (
        "_key",
        "_lease_at",
        "_lease_wait",
        "_limits",
        "_portion",
        "_taken",
        "_time",
        "_tokens",
        "_too_late",
        "_until",
        "spare",
    )

    def __init__(self, limits: Limits, key: str, time: Callable[[], float]) -> None:
        self._limits = limits
        self._key = f"to:{key}"
        self._time = time
        self.spare = False
        """True while a lease is in hand that no lane has."""
        self._lease_wait = LEASE_WAIT_MIN
        self._lease_at = 0.0
        self._tokens = self._taken = 0
        self._portion = 1
        self._until = 0.0
        self._too_late = 0  # jobs in a row

    # --- connections ---

    async def lease(self, most: int) -> float:
        """Have a spare lease and return 0.0, or return how many seconds to wait before asking again."""
        if self.spare:
            return 0.0
        if (wait := self._lease_at - self._time()) > 0:
            return wait
        if await self._limits.take_connection(self._key, most):
            self.spare = True
            self._lease_wait = LEASE_WAIT_MIN
            return 0.0
        wait, self._lease_wait = self._lease_wait, min(2 * self._lease_wait, LEASE_WAIT_MAX)
        return wait

    def hand_over(self) -> None:
        """A lane has the spare lease now, until it ``give``s it back."""
        assert self.spare
        self.spare = False

    def give(self) -> None:
        """A lane's lease is not needed any more."""
        self._limits.give_connection(self._key)

    def give_spare(self) -> None:
        if self.spare:
            self.spare = False
            self.give()

    def hold_off(self) -> None:
        """Ask for no lease before others who wait for one have had the time to take what we gave back."""
        self._lease_at = self._time() + LEASE_WAIT_MAX

    # --- tokens ---

    @property
    def has_token(self) -> bool:
        return self._tokens > 0 and self._time() < self._until

    def use_token(self) -> bool:
        """Use one; False if there is none."""
        if not self.has_token:
            return False
        self._tokens -= 1
        return True

    async def take_tokens(self, rate: Rate, wanted: int) -> float:
        """Have tokens, up to ``wanted``, and return 0.0, or return how many seconds to wait before asking again."""
        # Twice as many as were used of the last portion: lanes that are slow need few, and the rest would be wasted.
        used, self._tokens = self._taken - self._tokens, 0
        self._portion = max(1, min(2 * used, int(rate.per_second * TOKENS_SPAN), wanted))
        self._taken = 0
        wait = await self._limits.take_tokens(self._key, rate, self._portion)
        if wait:
            self._taken = used  # what was used says how much is needed, until there is something new to say it
            self._tokens = 0
            return wait
        self._tokens = self._taken = self._portion
        self._until = self._time() + TOKEN_LIFE
        return 0.0

    def is_too_late(self, rate: Rate, taken_at: float, most: int) -> bool:
        """True if the token of a job that was taken then is too old for its MAIL.

        But only of so many jobs in a row as lanes can have in hand: a next hop that always takes so long gets mail too.
        """
        if self._time() - taken_at <= max(USED_LATE_MAX, rate.seconds / 2) or self._too_late >= most:
            self._too_late = 0
            return False
        self._too_late += 1
        return True

    def forget_tokens(self) -> None:
        """The rate has changed, or nothing is sent for now."""
        self._tokens = self._taken = 0
