"""Routes of the control API about what people say of destinations: suspensions and overrides.

Owns: how they are written in a request. Does not own: names, limits and their checks (outbound/by_hand.py). A name is
the rest of the path, percent-encoded; it may hold slashes: ``maildir:/var/mail/{address}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Path, Response

from postroad.http.answers import ERRORS, Steer, answer
from postroad.http.models import EndedBody, list_of, model_of
from postroad.http.turns import AskedRoute
from postroad.outbound.relay import Override, Suspension
from postroad.outbound.steering import NotThere

router = APIRouter(prefix="/v1", tags=["destinations"], responses=ERRORS, route_class=AskedRoute)
Name = Annotated[str, Path(description="example.org, *.example.org, *, mx:HOST, or the key of a destination.")]


class SuspendBody(msgspec.Struct, frozen=True):
    """Until when, and why."""

    until: float | None = None
    """Seconds since the epoch, UTC; null: until it is resumed."""
    why: str = ""


class OverrideBody(msgspec.Struct, frozen=True):
    """Limits that hold instead of the configuration's; null: as configured."""

    connections: int | None = None
    messages_per_connection: int | None = None
    rate: str | None = None
    """As settings write it; ``none``: no bound."""
    until: float | None = None
    why: str = ""


if TYPE_CHECKING:
    from pydantic import BaseModel as OverrideModel
    from pydantic import BaseModel as SuspendModel
else:
    SuspendModel = model_of(SuspendBody, is_request=True)
    OverrideModel = model_of(OverrideBody, is_request=True)


@router.get("/suspensions", response_model=list_of(Suspension))
async def suspensions(relay: Steer) -> Response:
    """Show the destinations to which nothing is sent for a while."""
    return answer(await relay.suspensions())


@router.put("/suspensions/{destination:path}", response_model=model_of(Suspension))
async def suspend(relay: Steer, destination: Name, body: SuspendModel) -> Response:
    """Send nothing there until then. Over an older suspension of the same name."""
    asked = msgspec.convert(body.model_dump(), SuspendBody)
    return answer(await relay.suspend(destination, until=asked.until, why=asked.why))


@router.delete("/suspensions/{destination:path}", response_model=model_of(EndedBody))
async def resume(relay: Steer, destination: Name) -> Response:
    """End a suspension; 404 if there is none of that name."""
    if not await relay.resume(destination):
        raise NotThere(f'There is no suspension of "{destination[:300]}".')
    return answer(EndedBody(ended=True))


@router.get("/overrides", response_model=list_of(Override))
async def overrides(relay: Steer) -> Response:
    """Show the limits that hold instead of the configuration's."""
    return answer(await relay.overrides())


@router.put("/overrides/{destination:path}", response_model=model_of(Override))
async def override(relay: Steer, destination: Name, body: OverrideModel) -> Response:
    """Have other limits hold for a destination. Over an older override of the same name."""
    asked = msgspec.convert(body.model_dump(), OverrideBody)
    row = await relay.override(
        destination,
        connections=asked.connections,
        messages_per_connection=asked.messages_per_connection,
        rate=asked.rate,
        until=asked.until,
        why=asked.why,
    )
    return answer(row)


@router.delete("/overrides/{destination:path}", response_model=model_of(EndedBody))
async def restore(relay: Steer, destination: Name) -> Response:
    """End an override; 404 if there is none of that name."""
    if not await relay.restore(destination):
        raise NotThere(f'There is no override of "{destination[:300]}".')
    return answer(EndedBody(ended=True))
