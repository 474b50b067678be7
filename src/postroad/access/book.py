"""The built-in users as they are kept: rows of the records table ``users``.

Owns: adding, changing, removing and listing them; the secret from which the salts of users that are not there are made.
Does not own: the file (records; a face here), who may change it (outbound/front.py), checking passwords (users.py).

Changes by one ``UserBook`` take turns, and the relay has one (in its front), so that no two of them cross.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from postroad.access.credentials import Credential, format_credential, parse_credential, scheme_of
from postroad.access.user import User, UserRow, normal_scopes, normal_send_as, normal_user_name
from postroad.core.faces import Clock, Dice, RecordRow, Records

TABLE: Final = "users"
SECRETS: Final = "secrets"
OF_USERS: Final = "users"
"""The key of that secret among the secrets."""
SECRET_OCTETS: Final = 32
PAGE_MAX: Final = 500
"""Users in one page."""


class UserExistsError(Exception):
    """There is a user of that name."""


class WrongUserError(ValueError):
    """What is said of a user cannot be right. The text says why, and nothing of its password."""


class UserBroken(Exception):
    """A row cannot be understood: a newer Postroad's, perhaps."""


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a row."""

    credential: str
    scopes: tuple[str, ...]
    send_as: tuple[str, ...]
    created_at: float
    changed_at: float

    def __repr__(self) -> str:
        return f"_Kept(scopes={self.scopes}, send_as={self.send_as})"


class KnownUser(msgspec.Struct, frozen=True):
    """A user, and what is kept of its password."""

    user: User
    credential: Credential


class UserBook:
    """The users of one relay. All raise RecordsTrouble. Names may come as people type them."""

    def __init__(self, records: Records, clock: Clock, dice: Dice) -> None:
        self._records = records
        self._clock = clock
        self._dice = dice
        self._turn = asyncio.Lock()

    async def add(self, name: str, credential: str, scopes: tuple[str, ...], send_as: tuple[str, ...]) -> UserRow:
        """Add a user. ``credential``: what is kept of its password, as it is written.

        Raises:
            WrongUserError, UserExistsError.
        """
        try:
            name = normal_user_name(name)
            written = format_credential(parse_credential(credential))
            now = self._clock.now()
            kept = _Kept(
                credential=written,
                scopes=normal_scopes(scopes),
                send_as=normal_send_as(send_as),
                created_at=now,
                changed_at=now,
            )
        except ValueError as error:
            raise WrongUserError(str(error)) from None
        async with self._turn:
            if await self._records.get(TABLE, name) is not None:
                raise UserExistsError(name)
            await self._make_secret()
            return await self._put(name, kept)

    async def change(
        self, name: str, credential: str | None, scopes: tuple[str, ...] | None, send_as: tuple[str, ...] | None
    ) -> UserRow | None:
        """Change what is not None; return None if there is no such user. Raises WrongUserError, UserBroken."""
        try:
            name = normal_user_name(name)
            changes = {
                "credential": None if credential is None else format_credential(parse_credential(credential)),
                "scopes": None if scopes is None else normal_scopes(scopes),
                "send_as": None if send_as is None else normal_send_as(send_as),
            }
        except ValueError as error:
            raise WrongUserError(str(error)) from None
        new = {what: value for what, value in changes.items() if value is not None}
        async with self._turn:
            row = await self._records.get(TABLE, name)
            if row is None:
                return None
            kept = msgspec.structs.replace(_kept(row), changed_at=self._clock.now(), **new)
            return await self._put(name, kept)

    async def remove(self, name: str) -> bool:
        """Take a user away; False if there was none. Also one that cannot be understood."""
        try:
            name = normal_user_name(name)
        except ValueError:
            return False
        async with self._turn:
            return await self._records.delete(TABLE, name)

    async def page(self, after: str, limit: int) -> tuple[tuple[UserRow, ...], str]:
        """Return up to ``limit`` users in the order of their names, and what to give as ``after`` ("": no more)."""
        size = max(1, min(limit, PAGE_MAX))
        rows: list[UserRow] = []
        async for record in self._records.scan(TABLE):
            if record.key.encode() <= after.encode():
                continue
            if len(rows) == size:
                return tuple(rows), rows[-1].name
            rows.append(_listed(record))
        return tuple(rows), ""

    async def _make_secret(self) -> None:
        """Make the secret with the first user: before, nobody is there who could be told from others."""
        if await self._records.get(SECRETS, OF_USERS) is None:
            await self._records.put(SECRETS, RecordRow(OF_USERS, self._dice.token(SECRET_OCTETS), None))

    async def _put(self, name: str, kept: _Kept) -> UserRow:
        row = RecordRow(name, msgspec.json.encode(kept), None)
        await self._records.put(TABLE, row)
        return _listed(row)


def decoy(credential: Credential) -> RecordRow:
    """Return a row that is nobody's: to read it costs what reading somebody's costs."""
    kept = _Kept(
        credential=format_credential(credential), scopes=("relay",), send_as=(), created_at=0.0, changed_at=0.0
    )
    return RecordRow("", msgspec.json.encode(kept), None)


def known_user(row: RecordRow) -> KnownUser:
    """Return the user in a row. Raises UserBroken."""
    kept = _kept(row)
    try:
        return KnownUser(User(row.key, kept.scopes, kept.send_as), parse_credential(kept.credential))
    except ValueError as error:
        raise UserBroken(f"user {row.key}: {error}") from None


def _kept(row: RecordRow) -> _Kept:
    try:
        return msgspec.json.decode(row.value, type=_Kept)
    except msgspec.DecodeError as error:
        raise UserBroken(f"user {row.key} cannot be understood: {error}") from None


def _listed(row: RecordRow) -> UserRow:
    """Return a row as listings show it: one that cannot be understood has no scheme, and counts all the same."""
    try:
        kept, scheme = _kept(row), scheme_of(known_user(row).credential)
    except UserBroken:
        return UserRow(name=row.key, scheme="", scopes=(), send_as=(), created_at=0.0, changed_at=0.0)
    return UserRow(
        name=row.key,
        scheme=scheme,
        scopes=kept.scopes,
        send_as=kept.send_as,
        created_at=kept.created_at,
        changed_at=kept.changed_at,
    )
