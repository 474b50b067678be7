"""Every socket of the relay, opened once, before any privilege is given up, and kept open by the supervisor.

Owns: which sockets there are, one SO_REUSEPORT socket a worker slot for each TCP address, the probe that nobody else
listens there, closing them and taking their files away. Does not own: how one is bound (net/sockets.py, net/local.py),
accepting.

Since the supervisor keeps them, a dead worker's connections wait in its backlog until the next one of its slot accepts.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from postroad.config.addresses import FdAddress, TcpAddress, UnixAddress, parse_listen_address
from postroad.net.errors import ListenError, why_os
from postroad.net.local import bind_private
from postroad.net.sockets import BACKLOG, name_of, open_listening
from postroad.service.data_dir import CONTROL, RUN
from postroad.service.plan import Plan
from postroad.service.privileges import Identity, acting_as

STEERING_BACKLOG: Final = 32
LEDGER_BACKLOG: Final = 128


class Sockets:
    """All sockets. Opened by ``open``; ``close`` in any case."""

    def __init__(self, plan: Plan, identity: Identity | None) -> None:
        self._plan = plan
        self._identity = identity
        self._listeners: list[list[socket.socket]] = []
        self._private: dict[str, socket.socket] = {}
        self._files: list[tuple[Path, int]] = []  # of Unix sockets, with their inodes
        self.names: tuple[str, ...] = ()
        """The addresses that mail comes in by, with the ports that the kernel chose."""

    def open(self) -> None:
        """Open everything.

        Raises:
            ListenError: an address cannot be listened on; the text says what to do.
            OSError: a private socket cannot be made.
        """
        plan, data_dir = self._plan, Path(self._plan.data_dir)
        for address in plan.listeners:
            self._listeners.append(self._open_listener(address))
        self.names = tuple(name_of(sockets[0]) for sockets in self._listeners)
        if plan.http_address:
            http = parse_listen_address(plan.http_address)
            assert isinstance(http, TcpAddress)
            try:
                self._private["http"] = open_listening(http)
            except ListenError as error:
                raise ListenError(str(error).replace("the listener's address", "[http] address")) from error
        with acting_as(self._identity):
            for slot in range(plan.workers):
                self._open_private(f"steering:{slot}", data_dir / RUN / f"worker-{slot}.sock", STEERING_BACKLOG)
            self._open_private("ledger", data_dir / RUN / "ledger.sock", LEDGER_BACKLOG)
            control = data_dir / CONTROL
            self._open_private("control", control, STEERING_BACKLOG)
            if plan.group and self._identity is not None:
                os.chown(control, -1, self._identity.gid)
                os.chmod(control, 0o660)

    def of(self, role: str, slot: int) -> Iterator[tuple[str, socket.socket]]:
        """Yield the names and sockets that a process gets."""
        if role == "worker":
            for index, sockets in enumerate(self._listeners):
                yield f"listener:{index}", sockets[slot % len(sockets)]
            yield "steering", self._private[f"steering:{slot}"]
        elif role == "ledger":
            yield "ledger", self._private["ledger"]
        else:
            yield "control", self._private["control"]
            if "http" in self._private:
                yield "http", self._private["http"]

    def close_listeners(self) -> None:
        """Let go of the sockets that mail comes in by: workers that drain have the last word on them."""
        for sockets in self._listeners:
            for sock in sockets:
                sock.close()
        self._listeners = []

    def close(self) -> None:
        """Close what is left, and take away the files of Unix sockets."""
        self.close_listeners()
        for sock in self._private.values():
            sock.close()
        self._private = {}
        for path, inode in self._files:
            with suppress(OSError), acting_as(self._identity if path.is_relative_to(self._plan.data_dir) else None):
                if path.lstat().st_ino == inode:  # still ours, and not a successor's
                    path.unlink()
        self._files = []

    def _open_private(self, name: str, path: Path, backlog: int) -> None:
        sock = bind_private(path)
        self._private[name] = sock
        self._files.append((path, path.lstat().st_ino))
        sock.listen(backlog)

    def _open_listener(self, text: str) -> list[socket.socket]:
        address = parse_listen_address(text)
        if isinstance(address, FdAddress):
            return [handed_over(address)]
        if isinstance(address, UnixAddress):
            return [self._open_unix(address)]
        if self._plan.workers == 1:
            return [open_listening(address)]
        # Without SO_REUSEPORT first: a second relay of the same user would otherwise bind, and take half of the mail.
        with open_listening(address, backlog=0) as probe:
            if address.port == 0:
                address = TcpAddress(address.host, int(probe.getsockname()[1]))
        opened: list[socket.socket] = []
        try:
            opened.extend(open_listening(address, reuse_port=True) for _ in range(self._plan.workers))
        except BaseException:
            for sock in opened:
                sock.close()
            raise
        return opened

    def _open_unix(self, address: UnixAddress) -> socket.socket:
        """Open a Unix socket that mail comes in by; the relay's user and group may connect."""
        identity, path = self._identity, Path(address.path)
        # Where its directory is in that user's hands, a path there must not be followed with root's rights.
        is_theirs = identity is not None and _belongs_to(path.parent, identity)
        with acting_as(identity if is_theirs else None):
            sock = open_listening(address)
        if identity is not None and not is_theirs:
            os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
        self._files.append((path, path.lstat().st_ino))
        return sock


def handed_over(address: FdAddress) -> socket.socket:
    """Return the listening socket that we were started with.

    Raises:
        ListenError: there is none of that number, or it does not listen.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(address.number).st_mode):
            raise ListenError(
                f"{address} is not a socket. Let the service manager hand one over (systemd: a .socket unit)"
            )
        sock = socket.socket(fileno=os.dup(address.number))
    except ListenError:
        raise
    except OSError as error:
        text = f"{address} was not handed over: {why_os(error)}. Start Postroad by its systemd .socket unit, "
        raise ListenError(f"{text}or change the listener's address") from error
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ListenError(f"{address} is a socket that does not listen for connections (systemd: ListenStream=)")
    sock.setblocking(False)
    sock.listen(BACKLOG)
    return sock


def _belongs_to(directory: Path, identity: Identity) -> bool:
    try:
        return directory.stat().st_uid == identity.uid
    except OSError:
        return False  # open_listening says what is wrong with it
