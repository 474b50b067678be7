"""Routes of the control API about the queue: list, show, count, change.

Owns: how selections and pages are written in a request. Does not own: what they mean (outbound/steering.py).
Added to the routes here, a call is added to api_client.py too; a test compares both with RelaySteering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response

from postroad.core.ids import format_id
from postroad.http.answers import ERRORS, Steer, answer
from postroad.http.control_wire import Meant, parse_meant, parse_message_id
from postroad.http.models import MessagePageBody, list_of, model_of
from postroad.http.turns import AskedRoute
from postroad.outbound.steering import (
    DOMAINS_MAX,
    PAGE_MAX,
    Change,
    DestinationRow,
    DropRow,
    MessageRow,
    QueueStats,
)
from postroad.spool.face import Changed

router = APIRouter(prefix="/v1", tags=["queue"], responses=ERRORS, route_class=AskedRoute)
Id = Annotated[str, Path(description="The id of a message.")]
Domains = Annotated[int, Query(ge=1, le=DOMAINS_MAX, description="At most so many domains, those with most first.")]


class ChangeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is meant: conditions that must all hold, or ``everything``."""

    selection: Meant
    dry_run: bool = False
    """Count only."""


if TYPE_CHECKING:
    from pydantic import BaseModel as ChangeModel
else:
    ChangeModel = model_of(ChangeBody, is_request=True)


@router.get("/queue", response_model=model_of(MessagePageBody))
async def list_messages(
    relay: Steer,
    id: Annotated[list[str], Query(description="These messages.")] = [],  # noqa: B006 - the name in the query
    to: str = "",
    sender: str = "",
    domain: str = "",
    state: str = "",
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> Response:
    """List the messages that wait, the oldest first, a page at a time."""
    meant = Meant(ids=tuple(id), to=to, sender=sender, domain=domain, state=state)
    selection = parse_meant(meant, needs_condition=False)
    place = parse_message_id(after) if after else None
    page = await relay.list_messages(selection, after=place, limit=limit)
    return answer(MessagePageBody(messages=page.messages, after="" if page.after is None else format_id(page.after)))


@router.get("/queue/stats", response_model=model_of(QueueStats))
async def stats(relay: Steer, limit: Domains = 100) -> Response:
    """Count what waits, with the domains that have most."""
    return answer(await relay.stats(limit))


@router.get("/destinations", response_model=list_of(DestinationRow))
async def destinations(relay: Steer, limit: Domains = 100) -> Response:
    """Show the domains for which most waits, and how their destinations do."""
    return answer((await relay.stats(limit)).destinations)


@router.get("/queue/{id}", response_model=model_of(MessageRow))
async def show(relay: Steer, id: Id) -> Response:
    """Show one message and those of its recipients that have not ended."""
    message = parse_message_id(id)
    return answer(await relay.show(message))


@router.get("/queue/{id}/drops", response_model=list_of(DropRow))
async def drops(relay: Steer, id: Id) -> Response:
    """Show which recipients of a message were dropped, by which rule or person."""
    message = parse_message_id(id)
    return answer(await relay.drops(message))


@router.post("/queue/{change}", response_model=model_of(Changed))
async def change(
    relay: Steer,
    change: Change,
    body: ChangeModel,
) -> Response:
    """Flush, hold, release, delete or bounce all that is meant; a dry run only counts."""
    asked = msgspec.convert(body.model_dump(), ChangeBody)
    selection = parse_meant(asked.selection, needs_condition=True)
    return answer(await relay.change(change, selection, dry_run=asked.dry_run))
