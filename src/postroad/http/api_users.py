"""Routes of the control API about built-in users.

Owns: how they are written in a request. Does not own: what is right for one (access), doing it
(outbound/users_by_hand.py). No password crosses here, in either direction: what is kept of one is made where it is
typed, and is shown by no route. By TCP there are no users (peer.py). A name is the rest of the path, percent-encoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response

from postroad.access.book import PAGE_MAX
from postroad.access.user import UserRow
from postroad.http.answers import ERRORS, Steer, answer
from postroad.http.models import EndedBody, UserPageBody, model_of
from postroad.http.peer import USERS_PATH
from postroad.http.turns import AskedRoute
from postroad.outbound.users_by_hand import nobody

router = APIRouter(tags=["users"], responses=ERRORS, route_class=AskedRoute)
Name = Annotated[str, Path(description="Prepared by SASLprep; case counts.")]


class AddUserBody(msgspec.Struct, frozen=True):
    """A new user."""

    name: str
    credential: str
    """What is kept of its password: {SCRAM-SHA-256} as Dovecot or RFC 5803 write it, or argon2id's own form."""
    scopes: tuple[str, ...] = ()
    """Operations that its login counts for; none: relay."""
    send_as: tuple[str, ...] = ()
    """Addresses and domains that it may send as; none: any."""

    def __repr__(self) -> str:
        return f"AddUserBody({self.name!r})"


class ChangeUserBody(msgspec.Struct, frozen=True):
    """What to change of a user; null: as it is."""

    credential: str | None = None
    scopes: tuple[str, ...] | None = None
    send_as: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return "ChangeUserBody()"


if TYPE_CHECKING:
    from pydantic import BaseModel as AddUserModel
    from pydantic import BaseModel as ChangeUserModel
else:
    AddUserModel = model_of(AddUserBody, is_request=True)
    ChangeUserModel = model_of(ChangeUserBody, is_request=True)


@router.get(USERS_PATH, response_model=model_of(UserPageBody))
async def users(relay: Steer, after: str = "", limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100) -> Response:
    """Show the built-in users in the order of their names, without anything of their passwords."""
    rows, last = await relay.users(after=after, limit=limit)
    return answer(UserPageBody(rows=rows, after=last))


@router.post(USERS_PATH, response_model=model_of(UserRow))
async def add_user(relay: Steer, body: AddUserModel) -> Response:
    """Add a user; 409 if there is one of that name."""
    asked = msgspec.convert(body.model_dump(), AddUserBody)
    row = await relay.add_user(asked.name, asked.credential, scopes=asked.scopes, send_as=asked.send_as)
    return answer(row)


@router.put(USERS_PATH + "/{name:path}", response_model=model_of(UserRow))
async def change_user(relay: Steer, name: Name, body: ChangeUserModel) -> Response:
    """Change a user; 404 if there is none of that name."""
    asked = msgspec.convert(body.model_dump(), ChangeUserBody)
    row = await relay.change_user(name, credential=asked.credential, scopes=asked.scopes, send_as=asked.send_as)
    return answer(row)


@router.delete(USERS_PATH + "/{name:path}", response_model=model_of(EndedBody))
async def remove_user(relay: Steer, name: Name) -> Response:
    """Remove a user; 404 if there is none of that name."""
    if not await relay.remove_user(name):
        raise nobody(name[:300])
    return answer(EndedBody(ended=True))
