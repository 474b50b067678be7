"""Private Unix sockets: for one user of this machine, who is known by the kernel's word.

Owns: binding one so that nobody else can ever connect, taking the place of a stale one, who is at the other end
(SO_PEERCRED of unix(7)), paths longer than the kernel's 107 octets. Does not own: listeners for mail on Unix sockets
(net/listen.py), what is said (http).
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import struct
from asyncio import BaseTransport
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PrivateSocket = socket.socket
"""What bind_private returns, for those who only pass it on."""

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid
_SO_PEERGROUPS: Final = 59
_GROUPS_OCTETS: Final = 1024  # the most that getsockopt of Python takes: 256 groups
_PROBE_TIMEOUT: Final = 1.0
"""Seconds to find out whether somebody still listens on a socket that is in our place."""


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give a name of the socket that fits into sockaddr_un, however long ``path`` is: by its directory's descriptor.

    Raises OSError if there is no such directory.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def bind_private(path: Path, gid: int | None = None) -> socket.socket:
    """Bind a Unix socket that only its owner and root can connect to, and a group if given. It does not listen yet.

    A stale socket file is replaced.

    Raises:
        OSError: EADDRINUSE if somebody answers there; or the directory cannot be written.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with reachable(path) as name:
            if os.path.lexists(name):
                if is_answered(name):
                    raise OSError(errno.EADDRINUSE, "another process listens on it", str(path))
                os.unlink(name)
            bound.bind(name)
            if gid is not None:
                os.chown(name, -1, gid)
            os.chmod(name, 0o600 if gid is None else 0o660)  # before it listens: until then every connect is refused
    except BaseException:
        bound.close()
        raise
    return bound


def is_answered(name: str) -> bool:
    """True if somebody listens on the Unix socket of that name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # somebody is there, though busy or not for us
    return True


def peer_groups(transport: BaseTransport) -> frozenset[int]:
    """Return the group ids of the process at the other end of a Unix socket, as they were when it connected.

    SO_PEERGROUPS of unix(7); of a process in more than 256 groups only its main group is known.
    """
    connected = transport.get_extra_info("socket")
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, _, gid = _UCRED.unpack(credentials)
    try:
        octets = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_OCTETS)
    except OSError:
        octets = b""
    return frozenset((gid, *struct.unpack(f"{len(octets) // 4}I", octets[: len(octets) // 4 * 4])))


def peer_uid(transport: BaseTransport) -> int:
    """Return the user id of the process at the other end of a Unix socket, as it was when it connected."""
    connected = transport.get_extra_info("socket")
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(credentials)
    return int(uid)


def user_name(uid: int) -> str:
    """Return the name of a user of this machine, ``uid 1234`` for one without."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
