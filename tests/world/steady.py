"""A steady load in a process of its own: clients that send at a fixed rate, and the next hop that gets their mail.

Owns: the clients (each keeps its connection), their next hop, a line in a file for each 250 and each arrival with what
it took. Does not own: what is made of the lines but ``Steady.between`` (crowded.py). A process of its own, so that what
a test does meanwhile is not taken for the relay's slowness; a client's message that had to wait for the one before is
counted from its own final dot, so a stall shows as one slow 250 a client.

Run as a program: ``steady.py RATE CLIENTS FILE``. It prints the next hop's port, reads the relay's, then
``stop``, and is killed at the end.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final, TextIO

RECIPIENT: Final = b"b@next.example"
BODY: Final = b"Subject: steady\r\n\r\n" + b"The quick brown fox jumps over the lazy dog, and so on.\r\n" * 89
SENT: Final = b"X-Sent: "
"""When the final dot left, seconds of the monotonic clock."""


class Steady:
    """The load as the test sees it."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self._process = process
        self._file = file
        assert process.stdout is not None
        self.sink_port = int(process.stdout.readline())

    def go(self, port: int) -> None:
        """Begin: the relay takes mail on that port now."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{port}\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End the clients, each when its message has its 250; the next hop stays."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "stopped\n", "the load broke off"

    def between(self, since: float, until: float, kind: str) -> list[float]:
        """Return what each took, seconds, that ended in that time (monotonic). ``kind``: kept, arrived."""
        assert self._process.poll() is None, "the load broke off"
        rows = (line.split() for line in self._file.read_text().splitlines()[:-1])
        return [float(took) for what, at, took in rows if what == kind and since <= float(at) < until]


@contextmanager
def steady_load(file: Path, *, rate: float, clients: int) -> Iterator[Steady]:
    """Give a load that waits for ``go``; its next hop listens at once."""
    command = [sys.executable, __file__, str(rate), str(clients), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Steady(process, file)
        finally:
            process.kill()


# --- in that process -----------------------------------------------------------------------------------


class _Load:
    def __init__(self, rate: float, clients: int, file: TextIO) -> None:
        self._port = 0
        self._every = clients / rate
        self._clients = clients
        self._file = file
        self._is_over = False

    def _note(self, kind: str, began: float) -> None:
        now = time.monotonic()
        self._file.write(f"{kind} {now:.6f} {now - began:.6f}\n")

    async def client(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        await _reply(reader)
        await _say(reader, writer, b"EHLO client.example\r\n")
        start = time.monotonic() + self._every * number / self._clients
        for turn in count():
            if self._is_over:
                return
            due = start + turn * self._every
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            for command in (b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<" + RECIPIENT + b">\r\n", b"DATA\r\n"):
                await _say(reader, writer, command)
            began = time.monotonic()
            await _say(reader, writer, SENT + b"%.6f\r\n" % began + BODY + b".\r\n")
            self._note("kept", began)
            start = max(start, time.monotonic() - (turn + 2) * self._every)  # what was missed is not made up for

    async def next_hop(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(b"220 next.example\r\n")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(b"250-next.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    self._note("arrived", float(content.partition(SENT)[2].partition(b"\r\n")[0]))
                    writer.write(b"250 2.0.0 taken\r\n")
                elif verb == b"QUIT":
                    writer.write(b"221 2.0.0 bye\r\n")
                    break
                else:
                    writer.write(b"250 2.0.0 ok\r\n")
        writer.close()

    async def run(self) -> None:
        server = await asyncio.start_server(self.next_hop, "127.0.0.1", 0, limit=1 << 20)
        print(server.sockets[0].getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        if not (line := await loop.run_in_executor(None, sys.stdin.readline)):
            return
        self._port = int(line)
        clients = [asyncio.create_task(self.client(number)) for number in range(self._clients)]
        end = loop.run_in_executor(None, sys.stdin.readline)
        done, _ = await asyncio.wait([*clients, end], return_when=asyncio.FIRST_COMPLETED)
        if end not in done:
            print(
                "; ".join(repr(task.exception()) for task in done if not task.cancelled()), file=sys.stderr, flush=True
            )
            os._exit(1)  # the thread that reads would keep us
        self._is_over = True
        await asyncio.gather(*clients)
        print("stopped", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)  # the end of file, when the test is over
        os._exit(0)  # connections that are open need no farewell


async def _say(reader: StreamReader, writer: StreamWriter, octets: bytes) -> None:
    writer.write(octets)
    await _reply(reader)


async def _reply(reader: StreamReader) -> None:
    while (line := await reader.readline())[3:4] == b"-":
        pass
    assert line[:1] in (b"2", b"3"), line


def main(rate: str, clients: str, file: str) -> None:
    with Path(file).open("w", buffering=1) as lines:
        asyncio.run(_Load(float(rate), int(clients), lines).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
