"""What failed logins cost: whoever tries again waits first, then is turned away, over all workers.

Owns: the counts by address and by user, who is excepted. Does not own: logins (login.py), how long marks live and where
(core/faces.py Marks; the ledger's).

The wait comes before anything is checked: a failure that was answered late could be known by its lateness. Nobody can
lock out a user: past TRIED_AT failures those who never logged in from their address take turns, while who lately did
from there is excepted, for KNOWN_TRIES wrong passwords. An address in [relay] networks is not slowed, since a webmail's
is that of all its users; their turns are.
"""

from __future__ import annotations

import hashlib
from typing import Final

from postroad.core.faces import Marks
from postroad.core.units import DAY, MINUTE, SECOND

FAILURES_FOR: Final = 10 * MINUTE
"""Seconds for which a failure counts."""
FREE_TRIES: Final = 3
SLOWED_BY: Final = 1 * SECOND
SLOWED_MAX: Final = 10 * SECOND
"""Seconds that an address waits for each failure past FREE_TRIES, and at most."""
BANNED_AT: Final = 20
BANNED_FOR: Final = 10 * MINUTE
TRIED_AT: Final = 10
"""Failures of one user, wherever they come from, past which strangers may try it once in TURN_EVERY."""
TURN_EVERY: Final = 1 * SECOND
KNOWN_FOR: Final = DAY
"""Seconds for which a user is known to log in from an address."""
KNOWN_TRIES: Final = 5


class Guard:
    """Watches the logins of one client. ``client`` is the key by which clients are counted: an address, an IPv6 /64."""

    def __init__(self, marks: Marks, client: str, *, is_trusted: bool) -> None:
        self._marks = marks
        self._client = client
        self._is_trusted = is_trusted

    async def admit(self, user: str) -> float | None:
        """Return how many seconds whoever says to be ``user`` waits before that is looked at; None: not at all now."""
        marks, name = self._marks, _digest(user)
        if await marks.marked(self._known(name)):
            return 0.0
        of_user = await marks.count(f"login-as:{name}", FAILURES_FOR, 0)
        if of_user >= TRIED_AT and not await marks.claim(f"login-turn:{name}", TURN_EVERY):
            return None
        if self._is_trusted:
            return 0.0
        if await marks.marked(f"login-ban:{self._client}"):
            return None
        failures = await marks.count(f"login:{self._client}", FAILURES_FOR, 0)
        return min(SLOWED_MAX, max(0, failures - FREE_TRIES + 1) * SLOWED_BY)

    async def failed(self, user: str) -> None:
        """Count a failure of somebody who said to be ``user``."""
        marks, name = self._marks, _digest(user)
        await marks.count(f"login-as:{name}", FAILURES_FOR)
        known = self._known(name)
        if await marks.marked(known) and await marks.count(f"{known}:failed", FAILURES_FOR) >= KNOWN_TRIES:
            await marks.mark(known, 0)
        if await marks.count(f"login:{self._client}", FAILURES_FOR) >= BANNED_AT and not self._is_trusted:
            await marks.mark(f"login-ban:{self._client}", BANNED_FOR)

    async def succeeded(self, user: str) -> None:
        """Remember that a user logs in from here. It forgives no failures: an attacker may have one password."""
        await self._marks.mark(self._known(_digest(user)), KNOWN_FOR)

    def _known(self, name: str) -> str:
        return f"login-from:{self._client}:{name}"


def _digest(name: str) -> str:
    """Return a key of bounded length for the name of somebody who may not exist."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
