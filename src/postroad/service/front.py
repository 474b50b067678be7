"""The front: the control socket, answered for the whole relay by asking every worker.

Owns: what of the lower floors makes that process, in order. Does not own: what may be asked (outbound/relay.py), who
may ask and how it travels (http).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from postroad.config.load import Loaded
from postroad.http.control_client import RemoteSteering
from postroad.http.control_server import ControlServer
from postroad.outbound.fleet import Fleet
from postroad.outbound.steering import Steering
from postroad.service.child import Birth, SecretPaths, nothing_to_switch
from postroad.service.data_dir import RUN
from postroad.service.leash import AnyMessage, Leash, Ready
from postroad.service.seeing import Seeing


class Fleets:
    """The workers of a relay as one, for whoever asks."""

    def __init__(self, data_dir: Path, workers: int) -> None:
        self._paths = {str(slot): data_dir / RUN / f"worker-{slot}.sock" for slot in range(workers)}

    def on_behalf_of(self, who: str) -> Steering:
        """Return the face for a person by name."""
        return Fleet({name: RemoteSteering(path, who) for name, path in self._paths.items()})


class Front:
    """The part of the front process."""

    def __init__(self, birth: Birth, leash: Leash) -> None:
        self._birth = birth
        self._seeing = Seeing(birth.settings, "front")
        self._open = AsyncExitStack()
        self._open.push_async_callback(self._seeing.close)

    async def start(self) -> Ready:
        birth, seeing = self._birth, self._seeing
        server = ControlServer(Fleets(birth.data_dir, birth.workers), seeing.clock, seeing.outlet)
        self._open.push_async_callback(server.close)
        await server.start(birth.sockets["control"])
        return Ready()

    def prepare(self, loaded: Loaded, secrets: SecretPaths) -> Callable[[], None]:
        return nothing_to_switch

    def hear(self, message: AnyMessage) -> None:
        """What the supervisor tells of processes and reloads."""

    async def drain(self, patience: float, why: str) -> None:
        """Questions that are being answered are broken off: whoever asks can ask again."""

    async def close(self) -> None:
        await self._open.aclose()
