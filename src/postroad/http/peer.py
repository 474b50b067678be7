"""Who is at the other end of a connection of the control API, and what of what he asks is refused at the door.

Owns: the doors (the Unix socket, the TCP address), who may come in by which, what may be done by which, the tests of
Host, Origin and token. Does not own: the connections (door.py asks this once for each), the answers (gate.py).

By the Unix socket the kernel says who it is: root, the relay's own user, members of its group. By TCP everything may be
read and nothing changed: a web page that a person looks at can make the browser send requests to 127.0.0.1, so Host,
Origin and Sec-Fetch-Site are looked at, and an address that others can reach needs a token besides.
"""

from __future__ import annotations

import hmac
import os
from asyncio import BaseTransport
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

import msgspec

from postroad.net.local import peer_groups, peer_uid, user_name

SCOPE_KEY: Final = "postroad.peer"
"""Where door.py puts the Peer in an ASGI scope. No header and no path gets there."""
OPEN_PATH: Final = "/healthz"
"""What needs no token."""
READING: Final = ("GET", "HEAD")

USERS_PATH: Final = "/v1/users"
"""Not for TCP: who is a user is half of what somebody needs who guesses passwords."""
_LOOKED_AT: Final = (b"host", b"origin", b"sec-fetch-site", b"authorization")

Headers = Iterable[tuple[bytes, bytes]]


class Refusal(msgspec.Struct, frozen=True):
    """What a request is answered with at the door."""

    status: int
    text: str


class Peer(msgspec.Struct, frozen=True):
    """One connection's other end."""

    who: str
    """Whose name stands in the audit."""
    refusal: Refusal | None
    """Why nothing is answered to it."""
    door: Door
    local: str
    """The address of our side, by TCP."""
    abort: Callable[[], None]
    """Break the connection off."""


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """One way in."""

    is_unix: bool
    connections_max: int
    peer_max: int = 0
    """Connections of one address; 0: as many as there are."""
    head_timeout: float
    """Seconds from a connection, or the first octet of a request, to the end of its head."""
    head_max: int
    """Octets of a request line and its headers."""
    admitted_gid: int | None = None
    token: bytes = b""
    needs_token: bool = False
    hosts: frozenset[str] = frozenset()
    """Names that a request by TCP may be for, besides addresses of this very machine."""

    def peer_of(self, transport: BaseTransport, abort: Callable[[], None]) -> Peer:
        """Return who has connected."""
        if not self.is_unix:
            local = transport.get_extra_info("sockname")
            return Peer("", None, self, str(local[0]) if local else "", abort)
        uid = peer_uid(transport)
        who, refusal = user_name(uid), None
        if uid not in (0, os.geteuid()) and self.admitted_gid not in peer_groups(transport):
            text = f"{who} may not steer this relay: only root, {user_name(os.geteuid())} and members of its group may."
            refusal = Refusal(403, text)
        return Peer(who, refusal, self, "", abort)

    def refuses(self, peer: Peer, method: str, path: str, headers: Headers) -> Refusal | None:
        """Return why a request is refused, or None."""
        if peer.refusal is not None or self.is_unix:
            return peer.refusal
        said = {name: value for name, value in headers if name in _LOOKED_AT}
        host = said.get(b"host", b"").decode("latin-1").lower()
        if not self._is_ours(host, peer.local):
            text = f'"{host[:200]}" is not a name of this relay: ask for its address, or its [hostname].'
            return Refusal(421, text)
        origin = said.get(b"origin")
        is_foreign = origin is not None and origin.decode("latin-1").lower() != f"http://{host}"
        if is_foreign or said.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none"):
            return Refusal(403, "Pages of other sites may not ask.")
        if self.needs_token and path != OPEN_PATH and not self._knows_token(said.get(b"authorization", b"")):
            return Refusal(401, "A token is needed here: Authorization: Bearer TOKEN, as in [http] token_file.")
        if method not in READING or path.startswith(USERS_PATH):
            text = "By TCP everything but users may be read, and nothing changed. Use the socket data_dir/control.sock"
            return Refusal(403, text)
        return None

    def _is_ours(self, host: str, local: str) -> bool:
        name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        if name in self.hosts:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or name == local

    def _knows_token(self, authorization: bytes) -> bool:
        scheme, _, given = authorization.partition(b" ")
        return bool(self.token) and scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.token)
