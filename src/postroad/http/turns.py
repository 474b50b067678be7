"""How much is asked at once by each door, and the routes that keep to it.

Owns: turns, which one door cannot take away from the other; that a turn is held until its answer has been read, and how
long that may take by TCP; that a query names only what the route knows. Does not own: connections (door.py), what is
answered (api_*.py).

Each turn takes at most one of a worker's connections (CLIENTS_MAX in control_wire.py), so all of them together, and the
three of /metrics, must be fewer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute

from postroad.http.gate import HEAD_KEY, Receive, Scope, Send
from postroad.http.peer import SCOPE_KEY, Peer
from postroad.outbound.steering import ControlRefused, Unanswered

ASKED_MAX: Final = 10
"""Questions that are put to the workers at once."""
STREAMS_MAX: Final = 12
"""Readers at once of what happens."""
STORIES_MAX: Final = 6
"""Stories at once of what is stored. They are read in one lane, slice by slice in turns."""
TCP_ASKED_MAX: Final = 4
TCP_STREAMS_MAX: Final = 4
TCP_STORIES_MAX: Final = 2
TURN_TIMEOUT: Final = 30.0
"""Seconds that a question waits for its turn."""
READ_TIMEOUT: Final = 60.0
"""Seconds from a turn's beginning in which an answer by TCP must have been read."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Turns:
    """So many at once by one door; others wait a while."""

    def __init__(self, asked: int, stories: int, streams: int) -> None:
        self._asked = asyncio.Semaphore(asked)
        self._stories = asyncio.Semaphore(stories)
        self._streams_max = streams
        self._streams = 0

    @classmethod
    def of_doors(cls) -> dict[bool, Turns]:
        """Return those of the Unix socket (True) and those of TCP."""
        return {
            True: cls(ASKED_MAX, STORIES_MAX, STREAMS_MAX),
            False: cls(TCP_ASKED_MAX, TCP_STORIES_MAX, TCP_STREAMS_MAX),
        }

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Wait for a turn to ask. Raises Unanswered if there is none for long."""
        async with _turn(self._asked):
            yield

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Wait for a turn to be told a stored story. Raises Unanswered if there is none for long."""
        async with _turn(self._stories):
            yield

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow what happens. Raises Unanswered at once if enough others do."""
        if self._streams >= self._streams_max:
            raise Unanswered(f"{self._streams_max} others are following at this moment. Try again later.")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1


@asynccontextmanager
async def _turn(places: asyncio.Semaphore) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(TURN_TIMEOUT):
            await places.acquire()
    except TimeoutError as error:
        raise Unanswered("Too much is asked at once. Try again soon.") from error
    try:
        yield
    finally:
        places.release()


def turns_of(request: Request) -> Turns:
    """Return the turns of the door by which it came."""
    return cast(Turns, request.app.state.turns[_peer(request.scope).door.is_unix])


@asynccontextmanager
async def in_time(scope: Scope) -> AsyncIterator[None]:
    """Break off the connection of a reader by TCP who takes longer than READ_TIMEOUT."""
    peer = _peer(scope)
    try:
        async with asyncio.timeout(None if peer.door.is_unix else READ_TIMEOUT) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        peer.abort()


def _peer(scope: Scope) -> Peer:
    return cast(Peer, scope[SCOPE_KEY])


class KnownRoute(APIRoute):
    """A route that refuses a query with names it does not know: a condition that is misspelt is none."""

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()
        known = [field.alias for field in self.dependant.query_params]

        async def handle(request: Request) -> Response:
            for name in request.query_params:
                if name not in known:
                    there_is = f"There is: {', '.join(known)}." if known else "There is none here."
                    raise ControlRefused(f'"{name[:60]}" is no parameter of {request.url.path[:200]}. {there_is}', 2)
            return await inner(request)

        return handle


class StreamRoute(KnownRoute):
    """A route whose answer may have no end. Who asks for its head gets that, and nothing is begun."""

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.scope.get(HEAD_KEY):
                return Response(media_type="application/x-ndjson")
            return await inner(request)

        return handle


class AskedRoute(KnownRoute):
    """A route that takes a turn until its answer has been read."""

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            async with AsyncExitStack() as turn:
                await turn.enter_async_context(turns_of(request).asking())
                return _Held(await inner(request), turn.pop_all())

        return handle


class _Held(Response):
    """An answer that gives its turn back when it has been sent."""

    def __init__(self, answer: Response, turn: AsyncExitStack) -> None:
        super().__init__()
        self._answer = answer
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turn, in_time(scope):
            await self._answer(scope, receive, send)
