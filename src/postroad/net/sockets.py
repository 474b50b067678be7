"""Opens the sockets that listeners accept on, before any privilege is given up.

Owns: binding, modes and stale files of Unix sockets, and what a person is told when it cannot be done. Does not own:
accepting (net/listen.py), private sockets of one user (net/local.py).
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Final

from postroad.config.addresses import TcpAddress, UnixAddress
from postroad.net.errors import ListenError, why_os

BACKLOG: Final = 1024
"""Connections that wait in the kernel. It bounds this by net.core.somaxconn (4096 on Linux since 5.4)."""
UNIX_MODE: Final = 0o660
"""Who may connect to a Unix socket by default: the relay's user and group."""
_PROBE_TIMEOUT: Final = 1.0
"""Seconds to find out whether somebody answers on a Unix socket in our place."""

_REMEDIES: Final = {
    errno.EADDRINUSE: "another program listens there; stop it (see `ss -ltnp`), or change the listener's address",
    errno.EADDRNOTAVAIL: "this machine has no such address; use one of its own (see `ip address`), 0.0.0.0 or [::]",
    errno.EAFNOSUPPORT: "this machine has no IPv6; take the listener out of the configuration",
}
_PORT_REMEDY: Final = (
    "ports below 1024 are for root; start as root with [process] user, give the program CAP_NET_BIND_SERVICE, "
    "or use a port from 1024 up"
)


def open_listening(
    address: TcpAddress | UnixAddress, *, backlog: int = BACKLOG, reuse_port: bool = False, mode: int = UNIX_MODE
) -> socket.socket:
    """Return a socket that listens on ``address``, non-blocking. IPv6 sockets take IPv6 only.

    Raises:
        ListenError: it cannot be done; the text names the address and what to do.
    """
    if isinstance(address, UnixAddress):
        return _open_unix(address, backlog, mode)
    try:
        return _open_tcp(address, backlog, reuse_port)
    except OSError as error:
        remedy = _PORT_REMEDY if error.errno == errno.EACCES else _REMEDIES.get(error.errno or 0, "")
        raise ListenError(_sentence(address, error, remedy)) from error


def name_of(sock: socket.socket) -> str:
    """Return the address of a listening socket as settings write it."""
    if sock.family == socket.AF_UNIX:
        return str(UnixAddress(os.fsdecode(sock.getsockname())))
    return str(TcpAddress(*sock.getsockname()[:2]))


def _open_tcp(address: TcpAddress, backlog: int, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run may still fade away
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(address: UnixAddress, backlog: int, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(address)
        os.fchmod(sock.fileno(), mode)  # before bind, so that there is no moment at which others may connect
        sock.bind(address.path)
        os.chmod(address.path, mode)  # the umask may have taken bits away
        sock.listen(backlog)
        sock.setblocking(False)
    except ListenError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        remedy = ""
        if error.errno in (errno.EACCES, errno.EPERM):
            remedy = f"let {_user()} write to {os.path.dirname(address.path)}"
        elif error.errno == errno.ENOENT:
            remedy = f"make the directory {os.path.dirname(address.path)}"
        raise ListenError(_sentence(address, error, remedy)) from error
    return sock


def _remove_stale(address: UnixAddress) -> None:
    """Unlink a socket in our place that nobody answers on, as a killed process leaves it."""
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"cannot listen on {address}: there is a file that is not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(address.path)
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # nobody
        except OSError as error:  # a full backlog, no permission: somebody may be there, so it is left alone
            raise ListenError(_sentence(address, error, "is another program listening there?")) from error
        else:
            raise ListenError(f"cannot listen on {address}: another program answers there; stop it first")
    os.unlink(address.path)


def _sentence(address: TcpAddress | UnixAddress, error: OSError, remedy: str) -> str:
    return f"cannot listen on {address}: {why_os(error)}" + (f"; {remedy}" if remedy else "")


def _user() -> str:
    return f"user {os.geteuid()}"
