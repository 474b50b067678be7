"""The one face a connection shows to the rest of the relay.

Owns: the Stream Protocol and its promises. Does not own: implementations (net/stream.py over sockets,
testing/memory_stream.py in memory); both pass tests/contracts/test_stream.py. Errors are those of net/errors.py,
nothing else. One task reads and one task writes at a time.
"""

from __future__ import annotations

import ssl
from typing import Final, Protocol

from postroad.core.units import KIB

READ_MAX: Final = 64 * KIB
"""Octets that one read returns at most."""


class Stream(Protocol):
    """A connection with a peer."""

    @property
    def peer(self) -> str:
        """The peer's IP address as text, or ``unix``."""

    @property
    def peer_port(self) -> int:
        """The peer's port; 0 for a Unix socket."""

    @property
    def local(self) -> str:
        """Our own IP address on this connection, or the path of the Unix socket."""

    @property
    def tls(self) -> str:
        """Version and cipher suite, e.g. ``TLSv1.3 TLS_AES_256_GCM_SHA384``; empty in clear text."""

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER), or None."""

    @property
    def channel_binding(self) -> bytes:
        """tls-server-end-point of the server's certificate in use here, whichever side we are (RFC 5929 section 4).

        b"" in clear text, and where it has none.
        """

    @property
    def unread(self) -> bool:
        """True if octets have arrived that nobody has read."""

    async def read(self, timeout: float | None = None) -> bytes:
        """Return what has arrived, 1 to READ_MAX octets; b"" at end of file and after our own ``close``.

        Raises:
            StreamBroken: the connection is gone; what came before it went is returned first.
            TimeoutError: nothing came for ``timeout`` seconds. The stream can still be used.
        """

    async def write(self, octets: bytes) -> None:
        """Send ``octets``. Returns without suspending while the peer keeps up, else once it has caught up.

        Raises:
            StreamBroken: the connection is gone, or closed here.
        """

    def write_last(self, octets: bytes) -> None:
        """Send ``octets`` without waiting, then ``close(linger=True)``. Does nothing on a broken stream."""

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        timeout: float,
        implicit: bool = False,
    ) -> None:
        """Shake hands; afterwards all octets are encrypted. No read or write may be under way.

        ``implicit``: TLS from the first octet, so what has arrived already belongs to the
        handshake. After STARTTLS call this at once when the positive reply is written.

        Raises:
            TlsFailed: octets in clear text are unread (RFC 3207 section 6), the handshake
                failed, or took longer than ``timeout`` seconds. The stream is closed.
            StreamBroken: the connection went away meanwhile.
        """

    def close(self, *, linger: bool = False) -> None:
        """Send what is written, then close; a waiting read returns b"". May be called twice.

        With ``linger`` what the peer still sends is taken and dropped for a while: a system that
        closes over unread octets answers them with a reset, which would take our last reply away.
        """

    def abort(self) -> None:
        """Close at once; what is unsent is lost. A waiting read or write raises StreamBroken."""

    async def wait_closed(self) -> None:
        """Return when the connection is gone. Never raises for how it went."""
