"""One session's login: AUTH from the first word to 235, or why not (RFC 4954 section 4).

Owns: driving an exchange with what access says, who is logged in. Does not own: mechanisms (smtp/sasl_server.py), who
is right (access/users.py), what failures cost (guard.py), what a user may do (policy/relay.py).
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from postroad.access.user import RELAY, User
from postroad.access.users import AccessTrouble, Users
from postroad.core import reply
from postroad.core.address import parse_mailbox, to_ascii
from postroad.core.faces import Dice, Marks
from postroad.core.reply import Reply
from postroad.core.units import SECOND
from postroad.inbound.guard import Guard
from postroad.policy.relay import Credentials, SendAs, folded
from postroad.smtp.events import Auth, AuthResponse
from postroad.smtp.extensions import Offer
from postroad.smtp.sasl import Challenge, Failed, NeedKeys, NeedPassword, ScramKeys, Step, Succeeded
from postroad.smtp.sasl_server import Exchange, begin

CHECK_MAX: Final = 10 * SECOND
"""Seconds after which a client is told that nobody can say now who it is."""
NONCE_OCTETS: Final = 18


class Logins(msgspec.Struct, frozen=True):
    """What all logins of a worker share."""

    users: Users
    marks: Marks
    dice: Dice


class Login:
    """The login of one session. ``user`` is who has logged in, None: nobody."""

    def __init__(
        self, logins: Logins | None, client: str, binding: Callable[[], bytes], *, is_trusted: bool = False
    ) -> None:
        """``logins``: None where nobody can be asked; ``client``: the key by which a client is counted; ``binding``:
        the channel's, b"" where -PLUS is not offered."""
        self._logins = logins
        self._guard = None if logins is None else Guard(logins.marks, client, is_trusted=is_trusted)
        self._binding = binding
        self._exchange: Exchange | None = None
        self._candidate: User | None = None
        self._is_open = False  # a name was looked at, and what came of it is not counted yet
        self._hurried: asyncio.Future[None] | None = None
        self.tried = ""
        """The name of who tries to log in, or tried last."""
        self.user: User | None = None
        self.shown: Credentials | None = None
        """What that means to policy."""

    @property
    def name(self) -> str:
        """The name of who has logged in; empty: nobody."""
        return "" if self.user is None else self.user.name

    def forget(self) -> None:
        """What was said does not count any more: TLS has begun."""
        self.break_off()
        self.user = self.shown = None

    def break_off(self) -> None:
        """The engine has refused a line of the exchange: it is over."""
        self._exchange = self._candidate = None

    def hurry(self) -> None:
        """The relay stops: nobody waits any more, and is told to come back."""
        if self._hurried is not None and not self._hurried.done():
            self._hurried.set_result(None)

    async def settle(self) -> None:
        """Count an exchange that was left open once a name had been looked at: it is a try like others."""
        if self._is_open and self._guard is not None:
            self._is_open = False
            await self._guard.failed(self.tried)

    async def answer(self, event: Auth | AuthResponse) -> tuple[Reply, str]:
        """Return the reply to AUTH or to a response, and the rule that refused, empty if none did."""
        logins = self._logins
        if logins is None:
            return reply.AUTH_NOT_OFFERED, "listener.auth"
        try:
            if isinstance(event, AuthResponse):
                assert self._exchange is not None
                step = await self._asked(logins, self._exchange.step(event.octets))
            else:
                await self.settle()
                self._exchange = self._begin(logins, event.mechanism)
                step = await self._asked(logins, self._exchange.start(event.initial))
        except (AccessTrouble, TimeoutError):
            self._is_open = False
            self.break_off()
            return reply.AUTH_TROUBLE, "auth.trouble"
        except _TurnedAway as error:
            self.break_off()
            return error.reply, "auth.failures"
        if isinstance(step, Challenge):
            return Reply(334, None, b64encode(step.octets).decode("ascii")), ""
        candidate, self._candidate, self._exchange = self._candidate, None, None
        assert self._guard is not None
        if isinstance(step, Succeeded):
            assert candidate is not None
            self._is_open = False
            self.user = candidate
            self.shown = Credentials(RELAY in candidate.scopes, tuple(map(sending_as, candidate.send_as)))
            await self._guard.succeeded(candidate.name)
            return reply.AUTHENTICATED, ""
        assert isinstance(step, Failed)
        await self.settle()
        return step.reply, "auth.credentials" if step.reply.code == reply.BAD_CREDENTIALS.code else "rfc4954"

    def _begin(self, logins: Logins, mechanism: str) -> Exchange:
        self._candidate, self.tried = None, ""
        return begin(mechanism, nonce=lambda: logins.dice.token(NONCE_OCTETS).hex(), binding=self._binding())

    async def _asked(self, logins: Logins, step: Step) -> Step:
        """Give the exchange what it asks of us, until it has something for the client.

        Raises:
            AccessTrouble, TimeoutError: nobody can say.
            _TurnedAway: not now.
        """
        users, exchange = logins.users, self._exchange
        assert exchange is not None
        while isinstance(step, NeedPassword | NeedKeys):
            await self._wait_for(step.user)
            async with asyncio.timeout(CHECK_MAX):
                if isinstance(step, NeedPassword):
                    self._candidate = await users.check(step.user, step.password)
                    step = exchange.decide(self._candidate.name if self._candidate else None)
                    continue
                keys: ScramKeys | None = None
                if (found := await users.keys(step.user)) is not None:
                    self._candidate, keys = found
                step = exchange.use_keys(keys, disguise=await users.disguise(step.user))
        return step

    async def _wait_for(self, user: str) -> None:
        """Wait as long as earlier failures cost. Raises _TurnedAway."""
        assert self._guard is not None
        self.tried = user
        seconds = await self._guard.admit(user)
        if seconds is None:
            raise _TurnedAway(reply.TOO_MANY_LOGINS)
        if seconds:
            hurried = self._hurried = asyncio.get_running_loop().create_future()
            done, _ = await asyncio.wait([hurried], timeout=seconds)
            self._hurried = None
            if done:
                raise _TurnedAway(reply.SHUTTING_DOWN)
        self._is_open = True


class _TurnedAway(Exception):
    def __init__(self, answer: Reply) -> None:
        self.reply = answer


@lru_cache(maxsize=64)
def without_plus(offer: Offer) -> Offer:
    """Return an offer without mechanisms that bind to the channel: for one that has no binding."""
    return msgspec.structs.replace(offer, auth=tuple(one for one in offer.auth if not one.endswith("-PLUS")))


@lru_cache(maxsize=4096)
def sending_as(text: str) -> SendAs:
    """Return an address or domain that a user may send as in the form that policy/relay.py compares."""
    if "@" not in text:
        return "", to_ascii(text).lower()
    mailbox = parse_mailbox(text)
    return folded(mailbox.local_part), mailbox.ascii_domain
