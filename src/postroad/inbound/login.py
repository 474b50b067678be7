"""One session's login: AUTH from the first word to 235, or why not (RFC 4954 section 4).

Owns: driving an exchange with what access says, what a failure costs whoever tries again, who is logged in. Does not
own: mechanisms (smtp/sasl_server.py), who is right (access/users.py), what a user may do (policy/relay.py).

Failures are counted over all workers, by address (IPv6: /64) and by user. After FREE_TRIES each makes its client wait a
second longer; an address with so many as BANNED_AT is told to come back without being asked for anything. A user is
never locked out, or anybody could do that to anybody: the failures of one that many try are slow, wherever they come
from. A success forgives nothing, since an attacker may have one password.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from postroad.access.user import RELAY, User
from postroad.access.users import AccessTrouble, Users
from postroad.core import reply
from postroad.core.address import to_ascii
from postroad.core.faces import Dice, Marks
from postroad.core.reply import Reply
from postroad.core.units import MINUTE, SECOND
from postroad.policy.relay import Credentials
from postroad.smtp.events import Auth, AuthResponse
from postroad.smtp.extensions import Offer
from postroad.smtp.sasl import Challenge, Failed, NeedKeys, NeedPassword, ScramKeys, Step, Succeeded
from postroad.smtp.sasl_server import Exchange, begin

CHECK_MAX: Final = 10 * SECOND
"""Seconds after which a client is told that nobody can say now who it is."""
FAILURES_FOR: Final = 10 * MINUTE
"""Seconds for which a failure counts."""
FREE_TRIES: Final = 3
SLOWED_BY: Final = 1 * SECOND
SLOWED_MAX: Final = 10 * SECOND
"""Seconds that the answer to a failure waits for each failure past FREE_TRIES, and at most."""
BANNED_AT: Final = 20
BANNED_FOR: Final = 10 * MINUTE
TRIED_AT: Final = 10
"""Failures of one user, wherever they come from, past which the next ones take SLOWED_MAX."""
NONCE_OCTETS: Final = 18


class Logins(msgspec.Struct, frozen=True):
    """What all logins of a worker share."""

    users: Users
    marks: Marks
    dice: Dice


class Login:
    """The login of one session. ``user`` is who has logged in, None: nobody."""

    def __init__(self, logins: Logins | None, client: str, binding: Callable[[], bytes]) -> None:
        """``logins``: None where nobody can be asked; ``client``: the key by which a client is counted; ``binding``:
        the channel's, b"" where -PLUS is not offered."""
        self._logins = logins
        self._client = client
        self._binding = binding
        self._exchange: Exchange | None = None
        self.tried = ""
        """The name of who tries to log in, or tried last."""
        self._candidate: User | None = None
        self.user: User | None = None
        self.shown: Credentials | None = None
        """What that means to policy."""

    @property
    def name(self) -> str:
        """The name of who has logged in; empty: nobody."""
        return "" if self.user is None else self.user.name

    def forget(self) -> None:
        """What was said does not count any more: the exchange was broken off, or TLS has begun."""
        self._exchange = self._candidate = None
        self.user = self.shown = None

    def break_off(self) -> None:
        """The engine has refused a line of the exchange: it is over."""
        self._exchange = self._candidate = None

    async def answer(self, event: Auth | AuthResponse) -> tuple[Reply, str]:
        """Return the reply to AUTH or to a response, and the rule that refused, empty if none did."""
        logins = self._logins
        if logins is None:
            return reply.AUTH_NOT_OFFERED, "listener.auth"
        try:
            async with asyncio.timeout(CHECK_MAX):
                if isinstance(event, AuthResponse):
                    assert self._exchange is not None
                    step = await self._asked(logins, self._exchange.step(event.octets))
                elif await logins.marks.marked(f"login-ban:{self._client}"):
                    return reply.TOO_MANY_LOGINS, "auth.failures"
                else:
                    self._exchange = self._begin(logins, event.mechanism)
                    step = await self._asked(logins, self._exchange.start(event.initial))
        except (AccessTrouble, TimeoutError):
            self.break_off()
            return reply.AUTH_TROUBLE, "auth.trouble"
        if isinstance(step, Challenge):
            return Reply(334, None, b64encode(step.octets).decode("ascii")), ""
        candidate, self._candidate, self._exchange = self._candidate, None, None
        if isinstance(step, Succeeded):
            assert candidate is not None
            self.user = candidate
            self.shown = Credentials(RELAY in candidate.scopes, tuple(map(_comparable, candidate.send_as)))
            return reply.AUTHENTICATED, ""
        assert isinstance(step, Failed)
        if step.reply.code != reply.BAD_CREDENTIALS.code:
            return step.reply, "rfc4954"
        await asyncio.sleep(await self._cost_of_failure(logins.marks))
        return step.reply, "auth.credentials"

    def _begin(self, logins: Logins, mechanism: str) -> Exchange:
        self._candidate, self.tried = None, ""
        return begin(mechanism, nonce=lambda: logins.dice.token(NONCE_OCTETS).hex(), binding=self._binding())

    async def _asked(self, logins: Logins, step: Step) -> Step:
        """Give the exchange what it asks of us, until it has something for the client. Raises AccessTrouble."""
        users, exchange = logins.users, self._exchange
        assert exchange is not None
        while isinstance(step, NeedPassword | NeedKeys):
            self.tried = step.user
            if isinstance(step, NeedPassword):
                self._candidate = await users.check(step.user, step.password)
                step = exchange.decide(self._candidate.name if self._candidate else None)
                continue
            keys: ScramKeys | None = None
            if (found := await users.keys(step.user)) is not None:
                self._candidate, keys = found
            step = exchange.use_keys(keys, disguise=await users.disguise(step.user))
        return step

    async def _cost_of_failure(self, marks: Marks) -> float:
        """Count a failure; return how many seconds its answer waits."""
        failures = await marks.count(f"login:{self._client}", FAILURES_FOR)
        of_user = await marks.count(f"login-as:{_digest(self.tried)}", FAILURES_FOR) if self.tried else 0
        if failures >= BANNED_AT:
            await marks.mark(f"login-ban:{self._client}", BANNED_FOR)
        if of_user > TRIED_AT:
            return SLOWED_MAX
        return min(SLOWED_MAX, max(0, failures - FREE_TRIES) * SLOWED_BY)


def _digest(name: str) -> str:
    """Return a key of bounded length for the name of somebody who may not exist."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@lru_cache(maxsize=64)
def without_plus(offer: Offer) -> Offer:
    """Return an offer without mechanisms that bind to the channel: for one that has no binding."""
    return msgspec.structs.replace(offer, auth=tuple(one for one in offer.auth if not one.endswith("-PLUS")))


@lru_cache(maxsize=4096)
def _comparable(send_as: str) -> str:
    """Return an address or domain that a user may send as in the form that policy/relay.py compares."""
    local_part, at, domain = send_as.rpartition("@")
    return f"{local_part}{at}{to_ascii(domain)}".lower()
