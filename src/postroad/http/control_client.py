"""Asks a running relay over its control socket: ``Steering`` from the other side.

Owns: one connection a question, time-outs, telling "no relay there" from "a relay that does not answer". Does not own:
the lines (control_wire.py), what to do where no relay runs (the house). The relay knows who asks from the socket.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId, format_id
from postroad.http.control_wire import (
    ANSWER_TIMEOUT,
    LINE_MAX,
    VERSION,
    Answer,
    AnyRequest,
    ChangeRequest,
    CountersRequest,
    DropsRequest,
    HealthRequest,
    ListRequest,
    PageEnd,
    ShowRequest,
    StatsRequest,
    WatchRequest,
    format_meant,
    format_request,
    join_rows,
    parse_answer,
    parse_message_id,
    parse_value,
)
from postroad.net.local import reachable
from postroad.outbound.steering import (
    Change,
    ControlRefused,
    Counter,
    DestinationRow,
    DropRow,
    Health,
    MessagePage,
    MessageRow,
    NoRelay,
    NotThere,
    QueueStats,
    Unanswered,
)
from postroad.spool.face import Changed, Selection

CONNECT_TIMEOUT: Final = 5.0
"""Seconds. A relay whose loop lives accepts at once."""


class RemoteSteering:
    """``Steering`` of the relay that listens on ``path``. Where none does, every call raises NoRelay."""

    def __init__(self, path: Path, who: str = "") -> None:
        """``who``: on whose behalf; empty: our own. The relay believes root and its own user."""
        self._path = path
        self._who = who

    async def list_messages(self, selection: Selection, *, after: MessageId | None, limit: int) -> MessagePage:
        request = ListRequest(
            version=VERSION,
            who=self._who,
            selection=format_meant(selection),
            after="" if after is None else format_id(after),
            limit=limit,
        )
        rows, done = await self._collect(request)
        end = parse_value(done, PageEnd).after
        return MessagePage(
            tuple(join_rows([parse_value(row, MessageRow) for row in rows])), parse_message_id(end) if end else None
        )

    async def show(self, message: MessageId) -> MessageRow:
        rows, _ = await self._collect(ShowRequest(version=VERSION, who=self._who, id=format_id(message)))
        (row,) = join_rows([parse_value(row, MessageRow) for row in rows])
        return row

    async def stats(self, limit: int) -> QueueStats:
        rows, done = await self._collect(StatsRequest(version=VERSION, who=self._who, limit=limit))
        destinations = tuple(parse_value(row, DestinationRow) for row in rows)
        return msgspec.structs.replace(parse_value(done, QueueStats), destinations=destinations)

    async def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        request = ChangeRequest(
            version=VERSION, who=self._who, change=change.value, selection=format_meant(selection), dry_run=dry_run
        )
        _, done = await self._collect(request)
        return parse_value(done, Changed)

    async def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        wanted = "" if message is None else format_id(message)
        request = WatchRequest(version=VERSION, who=self._who, id=wanted, everything=everything)
        async with self._asked(request) as reader:
            while (answer := await _next_answer(reader)).item:
                yield parse_value(answer.item, AnyFact)  # type: ignore[arg-type]

    async def health(self) -> Health:
        _, done = await self._collect(HealthRequest(version=VERSION, who=self._who))
        return parse_value(done, Health)

    async def own_counters(self) -> tuple[Counter, ...]:
        rows, _ = await self._collect(CountersRequest(version=VERSION, who=self._who))
        return tuple(parse_value(row, Counter) for row in rows)

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        rows, _ = await self._collect(DropsRequest(version=VERSION, who=self._who, id=format_id(message)))
        return tuple(parse_value(row, DropRow) for row in rows)

    async def _collect(self, request: AnyRequest) -> tuple[list[msgspec.Raw], msgspec.Raw]:
        """Return the items of the answer, which the relay bounds by a page, and what was done."""
        items = []
        async with self._asked(request) as reader:
            while (answer := await _next_answer(reader)).item:
                items.append(answer.item)
        return items, answer.done

    @asynccontextmanager
    async def _asked(self, request: AnyRequest) -> AsyncIterator[StreamReader]:
        """Give the reader of a connection on which the request has been sent."""
        reader, writer = await self._connect()
        try:
            writer.write(format_request(request))
            with suppress(ConnectionError):  # it may have refused us already: its sentence is there to be read
                await writer.drain()
            yield reader
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        return await connect_control(self._path, LINE_MAX)


async def connect_control(path: Path, limit: int) -> tuple[StreamReader, StreamWriter]:
    """Connect to a control socket; the reader holds ``limit`` octets.

    Raises:
        NoRelay: nobody listens.
        Unanswered: somebody does, and does not accept.
        ControlRefused: it is not for us.
    """
    try:
        with reachable(path) as name:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await asyncio.open_unix_connection(name, limit=limit)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NoRelay(f"No relay runs here: nobody listens on {path}. Start one: postroad serve") from error
    except PermissionError as error:
        text = f"{path} may not be used by you: only root and the relay's user may. Try again as one of them."
        raise ControlRefused(text) from error
    except (OSError, TimeoutError) as error:
        raise Unanswered(f"The relay at {path} does not answer: {error or 'time-out'}.") from error


async def _next_answer(reader: StreamReader) -> Answer:
    """Return the next item, or the end of the answer. Raises ControlRefused for an error, Unanswered for silence."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                line = await reader.readline()
        except TimeoutError as error:
            raise Unanswered(f"The relay has not answered for {ANSWER_TIMEOUT:.0f} seconds.") from error
        except (ConnectionError, ValueError) as error:
            raise Unanswered(f"The relay broke off its answer: {error}.") from error
        if not line:
            raise Unanswered("The relay ended the connection before it had answered: perhaps it was stopped.")
        answer = parse_answer(line)
        if answer.error:
            refused = NotThere if answer.not_there else ControlRefused
            raise refused(answer.error, answer.status)
        if answer.item or answer.done:
            return answer
