"""Answers the control socket: lines in, steering, lines out.

Owns: who may connect (root and the relay's own user, by the kernel's word), how many, how long they may be silent or
slow, and that a client that is gone takes its request with it. Does not own: what a request does (outbound/control.py),
what a line looks like (control_wire.py), where the socket is (net/local.py binds it, the house opens it).

Each client has its own task, which waits while its client does not read: a slow one blocks nobody and holds no more
than a page. This is a boundary: what breaks in here is answered as an error and told as a fact; mail is not touched.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import StreamReader, StreamWriter, Task
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Protocol, assert_never

import msgspec

from postroad.core.faces import Clock, Outlet
from postroad.core.facts import Trouble
from postroad.core.ids import format_id
from postroad.http.control_wire import (
    ALIVE_INTERVAL,
    ALIVE_LINE,
    CLIENTS_MAX,
    CLOSE_TIMEOUT,
    IDLE_TIMEOUT,
    LINE_MAX,
    WRITE_TIMEOUT,
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
    format_done,
    format_error,
    format_item,
    parse_meant,
    parse_message_id,
    parse_request,
    parse_who,
    split_row,
)
from postroad.net.local import PrivateSocket, peer_uid, user_name
from postroad.outbound.steering import WHAT_IS_UNSURE, Change, ControlRefused, Steering
from postroad.spool.face import SpoolRefused

TellTrouble = Callable[[Exception], None]
Faces = Callable[[str], Steering]
"""What one person may do; "" is the client itself."""


class Steered(Protocol):
    """What is steered: outbound/control.py."""

    def on_behalf_of(self, who: str) -> Steering:
        """Return the face for a person by name."""


class ControlServer:
    """The control socket of one running relay."""

    def __init__(self, control: Steered, clock: Clock, outlet: Outlet) -> None:
        self._control = control
        self._clock = clock
        self._outlet = outlet
        self._server: asyncio.Server | None = None
        self._clients: set[Task[Any]] = set()

    async def start(self, bound: PrivateSocket) -> None:
        """Listen on a socket that net/local.py bound."""
        self._server = await asyncio.start_unix_server(self._serve, sock=bound, limit=LINE_MAX, backlog=CLIENTS_MAX)

    async def close(self) -> None:
        """Stop listening, break off what is being answered, and return when all clients are gone."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client until it is gone. Never raises but when cancelled."""
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if (faces := self._admit(writer)) is not None:
                await _converse(reader, writer, faces, self._tell_trouble)
        except (OSError, TimeoutError):
            pass  # the client is gone or does not read: nothing is left to say
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await writer.wait_closed()
            writer.transport.abort()  # one that does not read what is left
            self._clients.discard(task)

    def _admit(self, writer: StreamWriter) -> Faces | None:
        """Return what this client may do, in its own name or in that of somebody whom it names, or refuse it.

        Only root and our own user come this far, and they may do anything anyway: their word is believed.
        """
        uid = peer_uid(writer.transport)
        if uid not in (0, os.geteuid()):
            text = f"{user_name(uid)} may not steer this relay: only root and {user_name(os.geteuid())} may."
        elif len(self._clients) > CLIENTS_MAX:
            text = f"{CLIENTS_MAX} others are being answered at this moment. Try again soon."
        else:
            return lambda who: self._control.on_behalf_of(who or user_name(uid))
        writer.write(format_error(ControlRefused(text)))
        return None

    def _tell_trouble(self, error: Exception) -> None:
        self._outlet.emit(Trouble(at=self._clock.now(), what="control", why=repr(error)))


async def _converse(reader: StreamReader, writer: StreamWriter, faces: Faces, tell_trouble: TellTrouble) -> None:
    """Answer one request after the other. The next is read while one is answered, so that end of file is seen."""
    ahead = asyncio.create_task(_read_line(reader))
    try:
        while True:
            async with asyncio.timeout(IDLE_TIMEOUT):
                line = await ahead
            if not line:
                return
            ahead = asyncio.create_task(_read_line(reader))
            work = asyncio.create_task(_answer(line, writer, faces, tell_trouble))
            try:
                await _attend(work, ahead, writer)
            finally:
                work.cancel()
                with suppress(asyncio.CancelledError):
                    await work
    finally:
        ahead.cancel()


async def _attend(work: Task[None], ahead: Task[bytes], writer: StreamWriter) -> None:
    """Return when the work is done or the client is gone; meanwhile tell the client that we are at it."""
    while not work.done():
        waiting = {work} if ahead.done() else {work, ahead}
        done, _ = await asyncio.wait(waiting, timeout=ALIVE_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
        if work in done:
            break
        if ahead.done() and not ahead.result():
            return
        if not done:
            writer.write(ALIVE_LINE)
    await work


async def _read_line(reader: StreamReader) -> bytes:
    """Return one line; b"" at end of file. A line past LINE_MAX ends the conversation too."""
    try:
        line = await reader.readline()
    except (ValueError, ConnectionError):
        return b""
    return line if line.endswith(b"\n") else b""


async def _answer(line: bytes, writer: StreamWriter, faces: Faces, tell_trouble: TellTrouble) -> None:
    try:
        request = parse_request(line)
        await _do(request, writer, faces(parse_who(request.who)))
    except ControlRefused as refused:
        await _write(writer, format_error(refused))
    except SpoolRefused as refused:
        await _write(writer, format_error(ControlRefused(f"The {refused}. {WHAT_IS_UNSURE}")))
    except (ConnectionError, TimeoutError):
        raise
    except Exception as error:  # noqa: BLE001 - boundary: a fault of ours in steering must not end the relay
        tell_trouble(error)
        await _write(writer, format_error(ControlRefused(f"The relay broke while it did that: {error!r}.")))


async def _do(request: AnyRequest, writer: StreamWriter, steering: Steering) -> None:
    """Do what one request asks, and write its whole answer."""
    match request:
        case ListRequest():
            await _list(request, writer, steering)
        case ShowRequest():
            row = await steering.show(parse_message_id(request.id))
            for part in split_row(row):
                await _write(writer, format_item(part))
            await _write(writer, format_done(PageEnd("")))
        case StatsRequest():
            stats = await steering.stats(request.limit)
            for destination in stats.destinations:
                await _write(writer, format_item(destination))
            await _write(writer, format_done(msgspec.structs.replace(stats, destinations=())))
        case ChangeRequest():
            await _change(request, writer, steering)
        case WatchRequest():
            message = parse_message_id(request.id) if request.id else None
            async with aclosing(steering.watch(message, everything=request.everything)) as facts:
                async for fact in facts:
                    await _write(writer, format_item(fact))
            await _write(writer, format_done(PageEnd("")))
        case HealthRequest():
            await _write(writer, format_done(await steering.health()))
        case CountersRequest():
            for counter in await steering.own_counters():
                await _write(writer, format_item(counter))
            await _write(writer, format_done(PageEnd("")))
        case DropsRequest():
            for drop in await steering.drops(parse_message_id(request.id)):
                await _write(writer, format_item(drop))
            await _write(writer, format_done(PageEnd("")))
        case _:
            assert_never(request)


async def _list(request: ListRequest, writer: StreamWriter, steering: Steering) -> None:
    selection = parse_meant(request.selection, needs_condition=False)
    after = parse_message_id(request.after) if request.after else None
    page = await steering.list_messages(selection, after=after, limit=request.limit)
    for row in page.messages:
        for part in split_row(row):
            await _write(writer, format_item(part))
    await _write(writer, format_done(PageEnd("" if page.after is None else format_id(page.after))))


async def _change(request: ChangeRequest, writer: StreamWriter, steering: Steering) -> None:
    try:
        change = Change(request.change)
    except ValueError:
        known = ", ".join(Change)
        raise ControlRefused(f'"{request.change}" is not a change. There are {known}.', 2) from None
    selection = parse_meant(request.selection, needs_condition=True)
    await _write(writer, format_done(await steering.change(change, selection, dry_run=request.dry_run)))


async def _write(writer: StreamWriter, line: bytes) -> None:
    """Return when the client keeps up; raises TimeoutError if it does not for long, ConnectionError if it is gone."""
    writer.write(line)
    async with asyncio.timeout(WRITE_TIMEOUT):
        await writer.drain()
