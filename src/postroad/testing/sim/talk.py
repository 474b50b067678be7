"""One end of a conversation in the outside world: lines in, octets out, TLS if both want it.

Owns: cutting into lines, the TLS of this end. Does not own: what is said (clients.py, peers.py). Independent of the
product's own protocol engines: what both got wrong in the same way would stay unseen.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from postroad.testing.sim.network import Wire
from postroad.testing.sim.tls import SimTls


class Talk(asyncio.Protocol):
    """Told by the wire; tells whoever overrides ``heard``."""

    def __init__(self) -> None:
        self.wire: Wire
        self.buffer = b""
        self.is_open = False
        self._tls: SimTls | None = None
        self._is_shaking = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    # --- for those who speak ---

    def say(self, octets: bytes, when_carried: Callable[[], None] | None = None) -> None:
        if not self.is_open:
            return
        if self._tls is not None:
            self._tls.write(octets)
            octets = self._outgoing.read()
        self.wire.write(octets)
        if when_carried is not None:
            self.wire.when_carried(when_carried)

    def begin_tls(self, *, server_side: bool) -> None:
        self.buffer = b""
        self._tls = SimTls(self._incoming, self._outgoing, server_side=server_side)
        self._is_shaking = True
        self._shake()

    def hang_up(self) -> None:
        if self.is_open:
            self.wire.close()

    def cut(self) -> None:
        if self.is_open:
            self.wire.abort()

    @property
    def is_secure(self) -> bool:
        return self._tls is not None and not self._is_shaking

    # --- to be overridden ---

    def begun(self) -> None:
        """The connection stands."""

    def heard(self) -> None:
        """There is more in ``buffer``."""

    def secured(self) -> None:
        """The handshake is over."""

    def ended(self) -> None:
        """The connection is gone, or nothing more will come."""

    # --- what the wire tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = cast(Wire, transport)
        self.is_open = True
        self.begun()

    def data_received(self, data: bytes) -> None:
        if self._tls is None:
            self.buffer += data
            self.heard()
            return
        self._incoming.write(data)
        if self._is_shaking:
            self._shake()
        if self.is_secure:
            self._decrypt()

    def _shake(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
            self._is_shaking = False
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.cut()
            return
        if octets := self._outgoing.read():
            self.wire.write(octets)
        if not self._is_shaking:
            self.secured()

    def _decrypt(self) -> None:
        assert self._tls is not None
        try:
            while True:
                self.buffer += self._tls.read(65_536)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.eof_received()
            return
        if self.buffer:
            self.heard()

    def eof_received(self) -> bool:
        self.is_open = False
        self.wire.close()
        self.ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self.is_open = self.is_open, False
        if was_open:
            self.ended()
