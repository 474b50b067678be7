"""A control server on a real Unix socket in front of a scripted relay, for tests of the socket.

Owns: ``relay``, which opens and closes one, and what a test may look at. Does not own: the script
(tests/units/steering_world.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.units.steering_world import ScriptedSteering, SetClock

from postroad.http.control_client import RemoteSteering
from postroad.http.control_server import ControlServer
from postroad.net.local import bind_private
from postroad.testing.fake_outlet import FakeOutlet


class OneControl:
    """Gives everybody the same scripted face, and remembers whom."""

    def __init__(self, steering: ScriptedSteering) -> None:
        self.steering = steering
        self.who: list[str] = []

    def on_behalf_of(self, who: str) -> ScriptedSteering:
        self.who.append(who)
        return self.steering


class Relay:
    """A control server on a socket, with what stands behind it."""

    def __init__(self, path: Path, steering: ScriptedSteering) -> None:
        self.path = path
        self.steering = steering
        self.outlet = FakeOutlet()
        self.control = OneControl(steering)
        self.server = ControlServer(self.control, SetClock(), self.outlet)  # type: ignore[arg-type]
        self.client = RemoteSteering(path)

    async def converse(self, *lines: bytes) -> list[bytes]:
        """Send lines as they are, and return all lines that come until the relay closes or has answered each."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(b"".join(lines))
        said = []
        for _ in lines:
            while line := await reader.readline():
                said.append(line)
                if not line.startswith(b'{"item"'):
                    break
        writer.close()
        await writer.wait_closed()
        return said


@asynccontextmanager
async def relay(path: Path, steering: ScriptedSteering | None = None) -> AsyncIterator[Relay]:
    made = Relay(path / "control.sock", steering or ScriptedSteering())
    await made.server.start(bind_private(made.path))
    try:
        yield made
    finally:
        await made.server.close()
