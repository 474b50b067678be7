"""Serves the control API on the sockets that the house has opened: the Unix socket, and TCP if told.

Owns: listening, the limits of each door, an end within bounds. Does not own: names and rights of the sockets (the
house), the routes (app.py). Runs on the loop of its process: no signals, no threads, no log of its own.
"""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address
from typing import Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from postroad.core.faces import Clock, Outlet
from postroad.core.facts import Trouble
from postroad.http.door import DoorProtocol
from postroad.http.gate import App, Gate
from postroad.http.peer import Door
from postroad.net.local import PrivateSocket

UNIX_CONNECTIONS_MAX: Final = 128
TCP_CONNECTIONS_MAX: Final = 64
PEER_CONNECTIONS_MAX: Final = 16
"""Connections of one address by TCP: others must get in."""
UNIX_HEAD_TIMEOUT: Final = 10.0
"""Seconds in which the head of a request must have come."""
TCP_HEAD_TIMEOUT: Final = 4.0
UNIX_HEAD_MAX: Final = 262_144
"""Octets of a request's head: ten thousand ids in a query."""
TCP_HEAD_MAX: Final = 16_384
KEEP_ALIVE: Final = 30
"""Seconds that a connection may rest between requests."""
BACKLOG: Final = 128
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that answers under way get when the front stops."""


class HttpServer:
    """The control API on its sockets. ``start``, then ``close``."""

    def __init__(
        self,
        app: App,
        unix: PrivateSocket,
        tcp: PrivateSocket | None,
        *,
        outlet: Outlet,
        clock: Clock,
        admitted_gid: int | None = None,
        token: bytes = b"",
        hostname: str = "",
        address: str = "",
    ) -> None:
        """``address``: host of [http] address as it is written, which requests may name besides ``hostname``."""
        self._gate = Gate(app, lambda error: outlet.emit(Trouble(at=clock.now(), what="http", why=repr(error))))
        self._doors = [
            (
                Door(
                    is_unix=True,
                    connections_max=UNIX_CONNECTIONS_MAX,
                    head_max=UNIX_HEAD_MAX,
                    head_timeout=UNIX_HEAD_TIMEOUT,
                    admitted_gid=admitted_gid,
                ),
                unix,
            )
        ]
        if tcp is not None:
            self._doors.append((_tcp_door(tcp, token, {hostname.lower(), address.lower()}), tcp))
        self._servers: list[asyncio.Server] = []
        self._states: list[ServerState] = []
        for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
            logging.getLogger(name).disabled = True  # what clients do wrong is no news; our faults are facts

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        for door, bound in self._doors:
            config = Config(
                self._gate,
                http=DoorProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                h11_max_incomplete_event_size=door.head_max,
            )
            config.load()
            state = ServerState()
            self._states.append(state)

            def connected(door: Door = door, config: Config = config, state: ServerState = state) -> DoorProtocol:
                return DoorProtocol(door, config, state, loop)

            listen = loop.create_unix_server if door.is_unix else loop.create_server
            self._servers.append(await listen(connected, sock=bound, backlog=BACKLOG))

    async def close(self) -> None:
        """Stop listening, give what is under way a moment, break the rest off; return when nothing is left."""
        for server in self._servers:
            server.close()
        for state in self._states:
            for connection in list(state.connections):
                connection.shutdown()
        tasks = [task for state in self._states for task in state.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for state in self._states:
            for connection in list(state.connections):
                connection.transport.abort()
        await asyncio.sleep(0)  # the transports tell their protocols that they are gone


def _tcp_door(bound: PrivateSocket, token: bytes, names: set[str]) -> Door:
    return Door(
        is_unix=False,
        connections_max=TCP_CONNECTIONS_MAX,
        peer_max=PEER_CONNECTIONS_MAX,
        head_max=TCP_HEAD_MAX,
        head_timeout=TCP_HEAD_TIMEOUT,
        token=token,
        needs_token=bool(token) or not ip_address(bound.getsockname()[0]).is_loopback,
        hosts=frozenset(names | {"localhost"}) - {""},
    )
