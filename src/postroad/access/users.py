"""Whether somebody is the user it says it is: passwords checked, keys looked up.

Owns: when a password is hashed, and how many at a time; what is remembered of a success; that users who are not there
look like others. Does not own: the users (book.py), how they are checked (credentials.py), how often somebody may try.

One hash at a time for each worker, so one for each core, in a lane of Threads; LINE_MAX wait, then nobody is told
anything for now. A name that nobody has costs the same as a wrong password: it is checked against the shape of
somebody's, always the same one for a name. Nothing here logs, and no repr shows a password, a key or a hash.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from postroad.access.book import OF_USERS, SECRETS, TABLE, KnownUser, UserBroken, decoy, known_user
from postroad.access.credentials import (
    SALT_OCTETS,
    Credential,
    format_credential,
    matches,
    shape_of,
    shaped,
)
from postroad.access.user import User, normal_user_name
from postroad.core.faces import Dice, Records, RecordsTrouble, Threads
from postroad.core.units import MINUTE
from postroad.smtp.sasl import SCRAM_ITERATIONS, ScramKeys
from postroad.smtp.saslprep import NotPrepared, prepare

LANE: Final = "passwords"
LINE_MAX: Final = 64
"""Hashes that wait for their turn or run, in one worker: some seconds of work."""
REMEMBERED_FOR: Final = 5 * MINUTE
"""Seconds for which a right password is known again without hashing it."""
REMEMBERED_MAX: Final = 10_000
"""Users of whom that is remembered: about 200 octets each."""
SHAPES_FOR: Final = MINUTE
"""Seconds for which it is at least not read again what the credentials of users look like."""
KEY_OCTETS: Final = 32
_USUAL: Final = ScramKeys(SCRAM_ITERATIONS, bytes(SALT_OCTETS), bytes(32), bytes(32))
"""The shape of users where there are none."""
_NOBODYS: Final = "\0"
"""Prohibited in names and in passwords."""


class AccessTrouble(Exception):
    """Nobody can say now who somebody is: try later. Says nothing of the user."""


class _Success(msgspec.Struct, frozen=True):
    user: User
    digest: bytes
    until: float

    def __repr__(self) -> str:
        return f"_Success({self.user.name!r})"


class Users:
    """The built-in users, to whoever takes logins. ``time`` never goes back: the event loop's.

    ``changed`` is to be called with the name of each table of the records that changes.
    """

    def __init__(self, records: Records, threads: Threads, dice: Dice, time: Callable[[], float]) -> None:
        self._records = records
        self._threads = threads
        self._time = time
        self._key = dice.token(KEY_OCTETS)
        self._salt_secret = dice.token(KEY_OCTETS)  # until there are users
        self._decoy = decoy(_USUAL)
        self._remembered: dict[str, _Success] = {}
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._changes = 0
        self._shapes: tuple[Credential, ...] = (_USUAL,)
        self._shapes_of = -1
        """After how many changes the shapes were read."""
        self._shapes_until = 0.0
        self._reading: asyncio.Task[str] | None = None

    async def check(self, name: str, password: str) -> User | None:
        """Return the user whose name and password these are; None: it is not.

        Raises:
            AccessTrouble: the records cannot be read now, or too many wait already.
        """
        name, password = _prepared(name), _prepared(password)
        digest = self._digest(name, password)
        if (user := self._recall(name, digest)) is not None:
            return user
        changes = self._changes
        known = await self._known(name)
        credential = self._disguise(name) if known is None else known.credential
        if not await self._matches(credential, password, digest) or known is None:
            return None
        if changes == self._changes:  # else this may be the password that it had before
            self._remember(known.user, digest)
        return known.user

    async def keys(self, name: str) -> tuple[User, ScramKeys] | None:
        """Return a user and its keys for SCRAM; None: there is none, or of its password only argon2id is kept.

        Raises:
            AccessTrouble: the records cannot be read now.
        """
        known = await self._known(_prepared(name))
        if known is None:
            known_user(self._decoy)  # as much work as for somebody who is there
            return None
        if not isinstance(known.credential, ScramKeys):
            return None
        return known.user, known.credential

    async def disguise(self, name: str) -> ScramKeys:
        """Return keys for a name of which ``keys`` has none: always the same, like those of others, and of no password.

        Raises:
            AccessTrouble: the records cannot be read now.
        """
        name = _prepared(name)
        await self._know_shapes()
        picked = self._disguise(name)  # the one that a password is checked against
        if isinstance(picked, ScramKeys):
            return picked
        shapes = [shape for shape in self._shapes if isinstance(shape, ScramKeys)] or [_USUAL]
        keys = shaped(shapes[self._pick(name, len(shapes))], self._salt(name))
        assert isinstance(keys, ScramKeys)
        return keys

    def changed(self, table: str) -> None:
        """Hear that somebody has changed a table of the records: nothing that was remembered of users holds."""
        if table == TABLE:
            self._changes += 1
            self._remembered.clear()

    # --- who it is ---

    async def _known(self, name: str) -> KnownUser | None:
        await self._know_shapes()
        try:
            row = await self._records.get(TABLE, normal_user_name(name))
            return None if row is None else known_user(row)
        except (RecordsTrouble, UserBroken) as error:
            raise AccessTrouble(str(error)) from error
        except ValueError:
            return None  # a name that nobody can have

    async def _know_shapes(self) -> None:
        """Read what users look like, if that may have changed, but not for each change: there may be thousands."""
        if self._shapes_of == self._changes or self._time() < self._shapes_until:
            return
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_shapes())
        if trouble := await asyncio.shield(self._reading):
            raise AccessTrouble(trouble)

    async def _read_shapes(self) -> str:
        """Return why that cannot be done, or nothing."""
        changes = self._changes
        shapes: dict[Credential, None] = {}
        try:
            secret = await self._records.get(SECRETS, OF_USERS)
            async for row in self._records.scan(TABLE):
                with suppress(UserBroken):  # whoever logs in by that name is told to try later
                    shapes[shape_of(known_user(row).credential)] = None
        except RecordsTrouble as error:
            return str(error)
        finally:
            self._reading = None
        if secret is not None:
            self._salt_secret = secret.value
        self._shapes = tuple(shapes) or (_USUAL,)
        self._shapes_of, self._shapes_until = changes, self._time() + SHAPES_FOR
        return ""

    def _disguise(self, name: str) -> Credential:
        return shaped(self._shapes[self._pick(name, len(self._shapes))], self._salt(name))

    def _salt(self, name: str) -> bytes:
        """Return SALT_MOST octets for somebody who is not there: always the same for a name, whichever process asks."""
        return hmac.digest(self._salt_secret, b"salt\0" + name.encode(), "sha512")

    def _pick(self, name: str, count: int) -> int:
        picked = hmac.digest(self._salt_secret, b"shape\0" + name.encode(), "sha256")
        return int.from_bytes(picked[:8], "big") % count

    # --- whether it is right ---

    async def _matches(self, credential: Credential, password: str, digest: bytes) -> bool:
        """Wait for one's turn and hash. Who asks the same meanwhile gets the same answer. Raises AccessTrouble."""
        question = hmac.digest(digest, format_credential(credential).encode(), "sha256")
        answer = self._running.get(question)
        if answer is None:
            if len(self._running) >= LINE_MAX:
                raise AccessTrouble(f"{LINE_MAX} passwords wait to be checked already")
            answer = self._threads.run_blocking(_checked, credential, password, lane=LANE)
            self._running[question] = answer
            answer.add_done_callback(lambda done: self._done(question, done))
        return await asyncio.shield(answer)  # the place in the line is taken until it is done, whoever has gone

    def _done(self, question: bytes, done: asyncio.Future[bool]) -> None:
        del self._running[question]
        if not done.cancelled():
            done.exception()  # perhaps nobody waits for it any more

    def _digest(self, name: str, password: str) -> bytes:
        said = name.encode()
        return hmac.digest(self._key, len(said).to_bytes(4, "big") + said + password.encode(), "sha256")

    def _recall(self, name: str, digest: bytes) -> User | None:
        success = self._remembered.get(name)
        if success is None:
            return None
        if self._time() >= success.until:
            del self._remembered[name]
            return None
        return success.user if hmac.compare_digest(success.digest, digest) else None

    def _remember(self, user: User, digest: bytes) -> None:
        self._remembered.pop(user.name, None)
        while len(self._remembered) >= REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[user.name] = _Success(user, digest, self._time() + REMEMBERED_FOR)


def _checked(credential: Credential, password: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return matches(credential, password)
    except (MemoryError, UnsupportedAlgorithm) as error:
        raise AccessTrouble(f"passwords by argon2id cannot be checked: {error}") from error


def _prepared(text: str) -> str:
    """Return a name or password in the form in which it is compared; where it can be nobody's, what is nobody's."""
    try:
        return prepare(text)
    except NotPrepared:
        return _NOBODYS
