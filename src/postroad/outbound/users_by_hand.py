"""Built-in users, as one person adds, changes and removes them.

Owns: the sentences for what cannot be done, the fact that somebody did it. Does not own: the users and what is right
for one (access), the audit (front.py), who may. No password comes here: what is kept of it is made where it is typed
(cli/user_password.py), and is in no sentence and no fact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from postroad.access.book import UserBook, UserBroken, UserExistsError, WrongUserError
from postroad.access.user import UserRow, normal_user_name
from postroad.core.faces import Clock, Outlet, RecordsTrouble
from postroad.core.facts import Steered
from postroad.outbound.steering import ControlRefused, NotThere


class UsersByHand:
    """The users of one relay, to one person. All raise ControlRefused. Names are in their normal form."""

    def __init__(self, book: UserBook, clock: Clock, outlet: Outlet, who: str) -> None:
        self._book = book
        self._clock = clock
        self._outlet = outlet
        self._who = who

    async def add(self, name: str, credential: str, scopes: tuple[str, ...], send_as: tuple[str, ...]) -> UserRow:
        """Add a user."""
        with _refusals(name):
            row = await self._book.add(name, credential, scopes, send_as)
        self._tell("user-add", name)
        return row

    async def change(
        self, name: str, credential: str | None, scopes: tuple[str, ...] | None, send_as: tuple[str, ...] | None
    ) -> UserRow:
        """Change what is not None. Raises NotThere."""
        if credential is None and scopes is None and send_as is None:
            raise ControlRefused("Nothing is to be changed: say a credential, scopes or send_as.", 2)
        with _refusals(name):
            row = await self._book.change(name, credential, scopes, send_as)
        if row is None:
            raise nobody(name)
        self._tell("user-change", name)
        return row

    async def remove(self, name: str) -> bool:
        """Take a user away; False if there is none."""
        with _refusals(name):
            was_there = await self._book.remove(name)
        if was_there:
            self._tell("user-remove", name)
        return was_there

    async def page(self, after: str, limit: int) -> tuple[tuple[UserRow, ...], str]:
        """Return up to ``limit`` users, and what to give as ``after`` for more."""
        try:
            return await self._book.page(after, limit)
        except RecordsTrouble as error:
            raise ControlRefused(f"The records cannot be read now: {error}. Try again.") from error

    def _tell(self, verb: str, name: str) -> None:
        self._outlet.emit(Steered(at=self._clock.now(), who=self._who, verb=verb, recipients=0, selection=name))


def checked_user_name(text: str) -> str:
    """Return the name of a user in its normal form. Refuses what is none."""
    try:
        return normal_user_name(text)
    except ValueError as error:
        raise ControlRefused(str(error), 2) from error


def nobody(name: str) -> NotThere:
    """Return the refusal where there is no such user."""
    return NotThere(f'There is no user "{name}". Case counts. See: postroad user list')


def shown_user(row: UserRow) -> str:
    """Return what is said of a user: ``SCRAM-SHA-256, scopes relay, sends as anybody``."""
    return f"{row.scheme}, scopes {', '.join(row.scopes)}, sends as {', '.join(row.send_as) or 'anybody'}"


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Say in a sentence why it could not be done."""
    try:
        yield
    except WrongUserError as error:
        raise ControlRefused(str(error), 2) from error
    except UserExistsError as error:
        text = f'There is a user "{name}" already. A new password: postroad user password "{name}"'
        raise ControlRefused(text) from error
    except UserBroken as error:
        raise ControlRefused(f"{error}. Remove it and add it again, or run the newer Postroad.") from error
    except RecordsTrouble as error:
        raise ControlRefused(f"It could not be written: {error}. Try again.") from error
