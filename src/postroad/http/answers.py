"""How routes answer: JSON of values, lines of facts, and errors by what was refused.

Owns: the statuses of refusals, streams of facts that end when the client goes. Does not own: the routes (api_*.py), how
much is asked at once (turns.py), errors at the door (gate.py), the form of a fact (fact_rows.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, nullcontext
from typing import Annotated, Any, Final, cast

import msgspec
from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from postroad.core.facts import AnyFact
from postroad.core.json_text import printable_json
from postroad.http.fact_rows import fact_line
from postroad.http.gate import Receive, Scope, Send, error_body
from postroad.http.models import ErrorBody, FactModel, model_of
from postroad.http.peer import SCOPE_KEY
from postroad.http.turns import Turns, in_time, turns_of
from postroad.outbound.relay import RelaySteering
from postroad.outbound.steering import ControlRefused, NotThere, Unanswered

FIRST_TIMEOUT: Final = 0.5
"""Seconds that a stream waits for its first fact before it starts to answer: what is refused by then has a status."""
ALIVE_INTERVAL: Final = 5.0
"""Seconds of silence after which a stream says an empty line, so that a client that is gone is noticed."""
NDJSON: Final = "application/x-ndjson"

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": model_of(ErrorBody), "description": "Any other error looks the same."},
    400: {"model": model_of(ErrorBody), "description": "What was asked is wrong."},
    401: {"model": model_of(ErrorBody), "description": "By TCP, on an address others can reach: no token."},
    403: {"model": model_of(ErrorBody), "description": "Not for this user, or a change by TCP."},
    404: {"model": model_of(ErrorBody), "description": "It is not there."},
    409: {"model": model_of(ErrorBody), "description": "It is refused; the sentence says why."},
    421: {"model": model_of(ErrorBody), "description": "By TCP: Host is not a name of this relay."},
    503: {"model": model_of(ErrorBody), "description": "A worker does not answer, or too much is asked at once."},
}
FACTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": FactModel, "description": "A fact a line; an empty line says that the relay is still there."}
}


def steering_of(request: Request) -> RelaySteering:
    """Return what the person who asks may do."""
    return cast(RelaySteering, request.app.state.relay_for(request.scope[SCOPE_KEY].who))


Steer = Annotated[RelaySteering, Depends(steering_of)]
Turn = Annotated[Turns, Depends(turns_of)]


def answer(value: Any) -> Response:
    """Return an answer of JSON."""
    return Response(printable_json(msgspec.json.encode(value)), media_type="application/json")


class FactResponse(StreamingResponse):
    """A stream of facts; it is closed whatever becomes of the client."""

    def __init__(
        self, facts: AsyncGenerator[AnyFact, None], first: asyncio.Future[AnyFact], turn: AsyncExitStack, has_end: bool
    ) -> None:
        super().__init__(_lines(facts, first), media_type=NDJSON)
        self._turn = turn
        self._has_end = has_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turn, in_time(scope) if self._has_end else nullcontext():
            try:
                await super().__call__(scope, receive, send)
            finally:
                await cast(AsyncGenerator[bytes, None], self.body_iterator).aclose()


async def stream(facts: AsyncGenerator[AnyFact, None], turns: Turns, *, has_end: bool = False) -> Response:
    """Return the answer that tells facts as they come. Refuses with a status what is refused at once.

    ``has_end``: it tells only what is stored.
    """
    async with AsyncExitStack() as turn:
        await turn.enter_async_context(turns.telling() if has_end else turns.following())
        first: asyncio.Future[AnyFact] = asyncio.ensure_future(cast(Any, facts.__anext__()))
        turn.push_async_callback(_end, facts, first)
        await asyncio.wait({first}, timeout=FIRST_TIMEOUT)
        if first.done() and isinstance(error := first.exception(), ControlRefused):
            raise error
        return FactResponse(facts, first, turn.pop_all(), has_end)


async def _end(facts: AsyncGenerator[AnyFact, None], first: asyncio.Future[AnyFact]) -> None:
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await facts.aclose()


async def _lines(facts: AsyncGenerator[AnyFact, None], first: asyncio.Future[AnyFact]) -> AsyncGenerator[bytes, None]:
    """Yield a line for each fact, an empty one in each silence, and what is refused as the last."""
    coming = first
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=ALIVE_INTERVAL)
            if not done:
                yield b"\n"
                continue
            yield fact_line(coming.result())
            coming = asyncio.ensure_future(cast(Any, facts.__anext__()))
    except StopAsyncIteration:
        return
    except ControlRefused as refused:
        yield error_body(status_of(refused), refused.text) + b"\n"
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def status_of(refused: ControlRefused) -> int:
    """Return the status of HTTP that a refusal deserves."""
    if isinstance(refused, NotThere):
        return 404
    if isinstance(refused, Unanswered):
        return 503
    return 400 if refused.status == 2 else 409


async def on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ControlRefused)
    return error_response(status_of(error), error.text)


async def on_wrong_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = (f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in error.errors()[:5])
    form = (
        "" if "json" in request.headers.get("content-type", "json") else " Send it as content-type: application/json."
    )
    return error_response(400, f"That is not a request: {'; '.join(said)}.{form}")


async def on_no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path[:200]}: {error.detail}. What there is stands in /openapi.json."
    return error_response(error.status_code, text)


async def on_fault(request: Request, error: Exception) -> Response:
    """Answer to a fault of ours; it goes on to the gate, which tells of it."""
    return error_response(500, f"The relay broke while it did that: {error!r}.")


def error_response(status: int, text: str) -> Response:
    return Response(error_body(status, text), status, media_type="application/json")
