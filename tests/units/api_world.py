"""A control API on a real Unix socket, and on TCP, in front of spools in memory, for tests of what goes over it.

Owns: ``served``, which opens and closes one, and plain requests. Does not own: the spools
(tests/contracts/steerings.py).
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.contracts.steerings import Spools

from postroad.access.book import UserBook
from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId
from postroad.http.api_client import ApiSteering
from postroad.http.app import make_app
from postroad.http.serve import HttpServer
from postroad.net.local import bind_private
from postroad.outbound.fleet import Fleet
from postroad.outbound.front import FrontHouse, FrontSteering
from postroad.outbound.relay import ConfigRow, ProcessRow, ReloadResult
from postroad.outbound.steering import Steering
from postroad.testing.fake_clock import NOON as NOW
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.memory_records import MemoryRecords
from postroad.testing.seeded_dice import SeededDice

CONFIGURATION = (ConfigRow(key="hostname", value="relay.example.org", source="postroad.toml:1"),)


def process(name: str, slot: int = 0, *, is_ready: bool = True) -> ProcessRow:
    return ProcessRow(process=name, slot=slot, pid=4200 + slot, started_at=NOW - 60, restarts=0, is_ready=is_ready)


class Front:
    """The steering of a whole relay, with what stands behind it."""

    def __init__(self, spools: Spools) -> None:
        self.spools = spools
        self.clock = FakeClock()
        self.outlet = FakeOutlet()
        self.records = MemoryRecords(self.clock)
        self.stored: list[AnyFact] = []
        self.processes: tuple[ProcessRow, ...] = (process("supervisor"), process("worker", 0), process("worker", 1))
        self.reloads: list[str] = []
        self.refuse: Exception | None = None
        self.parts: dict[str, Steering] | None = None
        """In place of the spools."""
        self.house = FrontHouse(
            fleet_for=self.fleet_for,
            records=self.records,
            users=UserBook(self.records, self.clock, SeededDice(1)),
            stories=self.stories,
            clock=self.clock,
            dice=SeededDice(1),
            outlet=self.outlet,
            version="0.1.0",
            processes=lambda: self.processes,
            configuration=lambda: CONFIGURATION,
            reload=self.reload,
        )

    def fleet_for(self, who: str) -> Fleet:
        if self.parts is not None:
            return Fleet(self.parts)
        return Fleet({str(number): one.on_behalf_of(who) for number, one in enumerate(self.spools.controls)})

    async def stories(
        self, wanted: MessageId | str, *, since: float | None = None, **_: object
    ) -> AsyncIterator[AnyFact]:
        for fact in list(self.stored):
            named = {getattr(fact, "message", None), getattr(fact, "recipient", None), getattr(fact, "sender", None)}
            if wanted in named and (since is None or fact.at >= since):
                yield fact

    async def reload(self, who: str) -> ReloadResult:
        self.reloads.append(who)
        if self.refuse is not None:
            raise self.refuse
        return ReloadResult(changed=("limits.recipients",), needs_restart=("workers",))

    def steering(self, who: str) -> FrontSteering:
        return FrontSteering(self.house, who)


class Api:
    """A served control API."""

    def __init__(self, front: Front, server: HttpServer, path: Path, port: int) -> None:
        self.front = front
        self.server = server
        self.path = path
        self.port = port
        self.client = ApiSteering(path)

    async def unix(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        return await asked(reader, writer, method, target, body, {"host": "localhost"} | headers)

    async def tcp(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return await asked(reader, writer, method, target, body, {"host": f"127.0.0.1:{self.port}"} | headers)


async def asked(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    target: str,
    body: Any,
    headers: Mapping[str, str],
) -> tuple[int, Any]:
    """Ask plainly, and return status and body: the value of JSON, else text."""
    octets = b"" if body is None else json.dumps(body).encode()
    said = {"connection": "close", "content-length": str(len(octets)), "content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items() if value
    }
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items()), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1") + octets)
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        rest = await reader.read(-1)
    finally:
        writer.close()
    if "transfer-encoding: chunked" in head:
        rest = b"".join(rest.split(b"\r\n")[1::2])
    status = int(head.split()[1])
    return status, json.loads(rest) if "content-type: application/json" in head and rest else rest.decode()


@asynccontextmanager
async def served(path: Path, count: int = 2, who: str = "", **how: Any) -> AsyncIterator[Api]:
    """Serve the control API, to one person if ``who`` says so; ``how`` goes to HttpServer."""
    path.mkdir(exist_ok=True)
    given = how.pop("front", None)
    front = given or Front(Spools(count))
    async with AsyncExitStack() as stack:
        if given is None:
            stack.push_async_callback(front.spools.close)
        tcp = socket.create_server((how.pop("bind", "127.0.0.1"), 0))
        tcp.setblocking(False)
        port = tcp.getsockname()[1]
        unix = bind_private(path / "control.sock")
        app = make_app(lambda asked: front.steering(who or asked))
        server = HttpServer(app, unix, tcp, outlet=front.outlet, clock=front.clock, **how)
        await server.start()
        stack.push_async_callback(server.close)
        made = Api(front, server, path / "control.sock", port)
        front.spools.steering = made.client
        yield made
