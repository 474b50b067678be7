"""Routes of the control API about the relay: stories, health, processes, configuration, reload, audit, counters.

Owns: these routes. Does not own: what they tell (outbound/front.py), the answers for machines that watch the relay
(api_machines.py).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from postroad.http.answers import ERRORS, FACTS, Steer, Turn, answer, stream
from postroad.http.control_wire import parse_message_id
from postroad.http.models import AuditPageBody, list_of, model_of
from postroad.http.turns import AskedRoute, StreamRoute
from postroad.outbound.audit import PAGE_MAX
from postroad.outbound.relay import ConfigRow, ProcessRow, RelayHealth, ReloadResult, WorkerCounter
from postroad.outbound.steering import Counter, Health
from postroad.outbound.trace import LIMIT_MAX

router = APIRouter(prefix="/v1", tags=["relay"], responses=ERRORS, route_class=AskedRoute)
streams = APIRouter(prefix="/v1", tags=["relay"], responses=ERRORS, route_class=StreamRoute)


@streams.get("/trace", responses=FACTS)
async def trace(
    relay: Steer,
    turns: Turn,
    wanted: Annotated[str, Query(description="An id or an address; empty: everything, to follow.")] = "",
    follow: Annotated[bool, Query(description="Go on with what happens, without end.")] = False,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Of an address: how many messages.")] = 100,
) -> Response:
    """Tell the stored story of a message, or of an address, of all workers, in the order of time."""
    return await stream(relay.trace(wanted, follow=follow, limit=limit), turns, has_end=not follow)


@streams.get("/watch", responses=FACTS)
async def watch(
    relay: Steer,
    turns: Turn,
    id: Annotated[str, Query(description="A message; empty: all that happens to any.")] = "",
    everything: Annotated[bool, Query(description="Without an id: also what is about no message.")] = False,
) -> Response:
    """Tell what happens; with an id what has lately happened to it too, until it has left the queue."""
    return await stream(relay.watch(parse_message_id(id) if id else None, everything=everything), turns)


@router.get("/health", response_model=model_of(RelayHealth))
async def relay_health(relay: Steer) -> Response:
    """Say whether all is well, and what is not."""
    return answer(await relay.relay_health())


@router.get("/queue-health", response_model=model_of(Health))
async def health(relay: Steer) -> Response:
    """Say whether mail is taken, and how much waits."""
    return answer(await relay.health())


@router.get("/processes", response_model=list_of(ProcessRow))
async def processes(relay: Steer) -> Response:
    """Show the processes of the relay."""
    return answer((await relay.relay_health()).processes)


@router.get("/configuration", response_model=list_of(ConfigRow))
async def configuration(relay: Steer) -> Response:
    """Show the configuration in force, without secrets."""
    return answer(await relay.configuration())


@router.post("/reload", response_model=model_of(ReloadResult))
async def reload(relay: Steer) -> Response:
    """Read the configuration again and take it over in every process, or in none."""
    return answer(await relay.reload())


@router.get("/audit", response_model=model_of(AuditPageBody))
async def audit(relay: Steer, after: str = "", limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100) -> Response:
    """Show who changed what, the newest first."""
    rows, last = await relay.audit(after=after, limit=limit)
    return answer(AuditPageBody(rows=rows, after=last))


@router.get("/counters", response_model=list_of(WorkerCounter))
async def counters(relay: Steer) -> Response:
    """Show the numbers that /metrics shows, of each worker."""
    return answer(await relay.counters())


@router.get("/counters/sums", response_model=list_of(Counter))
async def own_counters(relay: Steer) -> Response:
    """Show the sums of all workers."""
    return answer(await relay.own_counters())
