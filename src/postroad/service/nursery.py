"""The nursery: has imported everything, runs no thread and no loop, and forks the other processes on request.

Owns: giving up privileges, forking, telling of ends. Children share its pages, and one that died is there again without
importing anything. Does not own: what a child does (child.py), when there is to be one (supervisor.py).

It ends when the supervisor does: its socket then says end of file. Its children have leashes of their own, and end by
themselves.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from postroad.service.failures import StartFailed
from postroad.service.leash import Begin, Ended, Failed, Fork, Forked, LeashBroken, Ready, close_all, receive, send
from postroad.service.privileges import Identity, become, give_up_capabilities, name_process
from postroad.service.processes import FIRST, reap, shown_status

IMPORTED_LATE: Final = (
    *("_strptime", "encodings.idna", "stringprep", "unicodedata"),
    *("dns.rdtypes.ANY.MX", "dns.rdtypes.ANY.CNAME", "dns.rdtypes.ANY.SOA", "dns.rdtypes.ANY.TXT"),
    *("dns.rdtypes.ANY.PTR", "dns.rdtypes.ANY.NS", "dns.rdtypes.ANY.OPT", "dns.rdtypes.IN.A", "dns.rdtypes.IN.AAAA"),
    *("anyio._backends._asyncio", "uvicorn.lifespan.off", "uvicorn.protocols.http.h11_impl"),
)
"""What libraries import when they first need it."""
DESCRIPTORS: Final = 2
"""Handed over by the supervisor: the socket to it, the lock on data_dir (never used here, only kept)."""


def main() -> None:
    """Serve until the supervisor is gone."""
    sock = socket.socket(fileno=FIRST)
    sock.setblocking(True)
    name_process("pr-nursery")
    os.umask(0o077)  # whatever is made here is for our eyes only
    message, descriptors = receive(sock)
    assert isinstance(message, Begin)
    try:
        prepare(message, descriptors[0])
    except StartFailed as failed:
        send(sock, Failed(text=str(failed)))
        return
    finally:
        close_all(descriptors)
    Nursery(sock).run()


def prepare(begin: Begin, configuration: int) -> None:
    """Import what children need, make what they share, become who we are to be.

    Raises:
        StartFailed: something is wrong that no child could do anything about.
    """
    # Every module that a child needs: the children share its pages, and need not be able to read it themselves.
    import cryptography.x509  # noqa: F401

    import postroad.service.front
    import postroad.service.ledger
    import postroad.service.worker  # noqa: F401

    for name in IMPORTED_LATE:
        import_module(name)
    if begin.user:
        become(Identity(begin.user, begin.uid, begin.gid, begin.groups))
    if os.geteuid() != 0:
        give_up_capabilities()
    from postroad.service.plan import read_memory
    from postroad.service.reading import unpack
    from postroad.service.start import starting
    from postroad.service.wall_clock import WallClock

    loaded = unpack(read_memory(configuration))
    with starting(Path(begin.data_dir)):
        make_certificate(loaded.settings, begin.data_dir, WallClock().now())
    del loaded
    gc.collect()
    gc.freeze()  # a collection in a child would write to every page that we share


def make_certificate(settings: object, data_dir: str, now: float) -> None:
    """Make the self-signed pair where one is needed: here, so that no two workers do at once."""
    from postroad.config.model import Settings
    from postroad.net.self_signed import ensure_self_signed

    assert isinstance(settings, Settings)
    if not settings.tls.certificate and any(listener.tls != "off" for listener in settings.listener):
        ensure_self_signed(data_dir, settings.hostname, now=now)


class Nursery:
    """Forks, and tells of ends."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._awake, self._wake = socket.socketpair()
        for end in (self._awake, self._wake):
            end.setblocking(False)

    def run(self) -> None:
        """Fork what is asked for until nobody is there to ask."""
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal reaches all: the supervisor decides
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            send(self._sock, Ready())
            self._serve()
        except (LeashBroken, OSError):  # the supervisor has gone
            pass
        finally:
            self._forget()

    def _serve(self) -> None:
        while True:
            readable, _, _ = select.select([self._sock, self._awake], [], [])
            if self._awake in readable:
                self._reap()
            if self._sock in readable:
                message, descriptors = receive(self._sock)
                if isinstance(message, Fork):
                    self._fork(message, descriptors)
                close_all(descriptors)

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            while self._awake.recv(4096):
                pass
        for pid, status in reap():
            send(self._sock, Ended(pid=pid, why=shown_status(status)))

    def _fork(self, message: Fork, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:  # no memory, no process left: its leash ends here, and it is asked for again
            sys.stderr.write(f"{message.role} {message.slot} cannot be forked: {error.strerror}\n")
            return
        if pid:
            send(self._sock, Forked(role=message.role, slot=message.slot, pid=pid))
            return
        status = 70  # EX_SOFTWARE of sysexits.h: what is left if even the end breaks
        try:
            self._forget()
            status = self._live(message, descriptors)
        except BaseException:  # noqa: BLE001 - the last boundary of a child: said, and then there is nobody to go back to
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(status)

    def _forget(self) -> None:
        """In a child, or at the end: nothing of the nursery's stays open, no signal is handled as there."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for sock in (self._sock, self._awake, self._wake):
            sock.close()

    def _live(self, message: Fork, descriptors: list[int]) -> int:
        from postroad.service.child import live

        name_process(f"pr-{message.role}-{message.slot}" if message.role == "worker" else f"pr-{message.role}")
        return live(message, descriptors)


if __name__ == "__main__":
    main()
