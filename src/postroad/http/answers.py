"""How routes answer: JSON of values, lines of facts, and errors by what was refused.

Owns: the statuses of refusals, streams of facts that end when the client goes, the bounds of how much is asked at once.
Does not own: the routes (api_*.py), errors at the door (gate.py), the form of a fact (fact_rows.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, cast

import msgspec
from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from postroad.core.facts import AnyFact
from postroad.http.fact_rows import fact_line
from postroad.http.gate import Receive, Scope, Send, error_body
from postroad.http.models import ErrorBody, FactModel, model_of
from postroad.http.peer import SCOPE_KEY
from postroad.outbound.relay import RelaySteering
from postroad.outbound.steering import ControlRefused, NotThere, Unanswered

ASKED_MAX: Final = 10
"""Questions that are put to the workers at once; each takes one of a worker's connections (CLIENTS_MAX)."""
STREAMS_MAX: Final = 12
"""Streams at once; likewise."""
TURN_TIMEOUT: Final = 30.0
"""Seconds that a question waits for its turn."""
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


class Turns:
    """So many at once; others wait a while."""

    def __init__(self) -> None:
        self._asked = asyncio.Semaphore(ASKED_MAX)
        self._streams = 0

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Wait for a turn. Raises Unanswered if there is none for long."""
        try:
            async with asyncio.timeout(TURN_TIMEOUT):
                await self._asked.acquire()
        except TimeoutError as error:
            raise Unanswered("Too much is asked at once. Try again soon.") from error
        try:
            yield
        finally:
            self._asked.release()

    def take_stream(self) -> None:
        """Count one more stream. Raises Unanswered if there are enough."""
        if self._streams >= STREAMS_MAX:
            raise Unanswered(f"{STREAMS_MAX} others are following at this moment. Try again later.")
        self._streams += 1

    def give_stream(self) -> None:
        self._streams -= 1


def steering_of(request: Request) -> RelaySteering:
    """Return what the person who asks may do."""
    return cast(RelaySteering, request.app.state.relay_for(request.scope[SCOPE_KEY].who))


def turns_of(request: Request) -> Turns:
    return cast(Turns, request.app.state.turns)


Steer = Annotated[RelaySteering, Depends(steering_of)]
Turn = Annotated[Turns, Depends(turns_of)]


def answer(value: Any) -> Response:
    """Return an answer of JSON."""
    return Response(msgspec.json.encode(value), media_type="application/json")


class FactResponse(StreamingResponse):
    """A stream of facts; it is closed whatever becomes of the client."""

    def __init__(self, facts: AsyncGenerator[AnyFact, None], first: asyncio.Future[AnyFact], turns: Turns) -> None:
        super().__init__(_lines(facts, first), media_type=NDJSON)
        self._facts = facts
        self._first = first
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await cast(AsyncGenerator[bytes, None], self.body_iterator).aclose()
            await end_stream(self._facts, self._first, self._turns)


async def stream(facts: AsyncGenerator[AnyFact, None], turns: Turns) -> Response:
    """Return the answer that tells facts as they come. Refuses with a status what is refused at once."""
    turns.take_stream()
    first: asyncio.Future[AnyFact] = asyncio.ensure_future(cast(Any, facts.__anext__()))
    try:
        await asyncio.wait({first}, timeout=FIRST_TIMEOUT)
        if first.done() and isinstance(error := first.exception(), ControlRefused):
            raise error
        return FactResponse(facts, first, turns)
    except BaseException:
        await end_stream(facts, first, turns)
        raise


async def end_stream(facts: AsyncGenerator[AnyFact, None], first: asyncio.Future[AnyFact], turns: Turns) -> None:
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await facts.aclose()
    turns.give_stream()


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
