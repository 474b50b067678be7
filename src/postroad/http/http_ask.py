"""One question over HTTP/1.1 on a Unix socket, from the client's side: small, bounded, quickly imported.

Owns: the connection, its time-outs, telling a relay that still works from one that hangs. Does not own: what is asked
(api_client.py), HTTP itself (h11).
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import h11
import msgspec

from postroad.http.control_client import connect_control
from postroad.outbound.steering import ControlRefused, NotThere, Unanswered

READ_SIZE: Final = 65_536
HEAD_MAX: Final = 65_536
"""Octets of an answer's head."""
ANSWER_MAX: Final = 268_435_456
"""Octets of an answer that is no stream: a page of messages that all have very many recipients."""
LINE_MAX: Final = 1_048_576
"""Octets of one line of a stream."""
SILENCE_MAX: Final = 20.0
"""Seconds without a word: a stream says one each 5 s; before an answer the relay is asked whether it is there."""


class Ask:
    """Asks the relay that listens on ``path``; a connection each question."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, method: str, target: str, value: Any = None) -> bytes:
        """Return the body of the answer.

        Raises:
            NoRelay, Unanswered: nobody is there, or does not answer.
            ControlRefused: the relay's sentence.
        """
        async with self.sent(method, target, value) as answer:
            status = await answer.status(self._path)
            body = bytearray()
            async for piece in answer.pieces():
                body += piece
                if len(body) > ANSWER_MAX:
                    raise Unanswered("The relay's answer is too long.")
            if status >= 400:
                raise refusal(status, bytes(body))
            return bytes(body)

    async def lines(self, target: str) -> AsyncIterator[bytes]:
        """Yield the lines of a stream that are not empty. Raises as ``ask`` does."""
        async with self.sent("GET", target, None) as answer:
            status = await answer.status(self._path)
            held = b""
            async for piece in answer.pieces():
                *lines, held = (held + piece).split(b"\n")
                if len(held) > LINE_MAX:
                    raise Unanswered("The relay's answer cannot be understood: a line is too long.")
                for line in lines if status < 400 else ():
                    if line:
                        yield line
                if status >= 400:
                    held = b"\n".join([*lines, held])
            if status >= 400:
                raise refusal(status, held)

    @asynccontextmanager
    async def sent(self, method: str, target: str, value: Any) -> AsyncIterator[_Answer]:
        """Give the answer to a question that has been sent."""
        reader, writer = await connect_control(self._path, HEAD_MAX)
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX)
        body = b"" if value is None else msgspec.json.encode(value)
        headers = [("host", "localhost"), ("connection", "close"), ("content-length", str(len(body)))]
        if body:
            headers.append(("content-type", "application/json"))
        try:
            for event in (
                h11.Request(method=method, target=target, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                writer.write(connection.send(event) or b"")
            with suppress(ConnectionError):  # it may have refused us already: its sentence is there to be read
                await writer.drain()
            yield _Answer(connection, reader)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class _Answer:
    """An answer as it comes in."""

    def __init__(self, connection: h11.Connection, reader: StreamReader) -> None:
        self._connection = connection
        self._reader = reader

    async def status(self, path: Path) -> int:
        """Return the status, however long it takes as long as the relay lives."""
        coming = asyncio.ensure_future(self.next_event(None))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=SILENCE_MAX)
                if done:
                    event = coming.result()
                    if not isinstance(event, h11.Response):
                        raise Unanswered("The relay's answer cannot be understood.")
                    return int(event.status_code)
                await _need_alive(path)
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        while isinstance(event := await self.next_event(SILENCE_MAX), h11.Data):
            yield bytes(event.data)

    async def next_event(self, seconds: float | None) -> Any:
        """Return what comes next, within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while (event := self._connection.next_event()) is h11.NEED_DATA:
                    self._connection.receive_data(await self._reader.read(READ_SIZE))
        except TimeoutError as error:
            raise Unanswered(f"The relay has not answered for {seconds:.0f} seconds.") from error
        except (h11.RemoteProtocolError, OSError) as error:
            raise Unanswered(f"The relay broke off its answer: {error}. Perhaps it was stopped.") from error
        return event


async def _need_alive(path: Path) -> None:
    """Raise Unanswered unless the relay says anything at all to another question."""
    try:
        async with asyncio.timeout(SILENCE_MAX):
            async with Ask(path).sent("GET", "/healthz", None) as answer:
                await answer.next_event(None)
    except TimeoutError as error:
        raise Unanswered(f"The relay has not answered for {2 * SILENCE_MAX:.0f} seconds.") from error


def refusal(status: int, body: bytes) -> ControlRefused:
    """Return what the relay refused, from its status and sentence."""
    try:
        text = str(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        text = f"The relay refused it with {status}, and its answer cannot be understood."
    if status == 404:
        return NotThere(text)
    if status in (408, 503):
        return Unanswered(text)
    return ControlRefused(text, 2 if status == 400 else 1)
