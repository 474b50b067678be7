"""TLS between a stream and its octets, sans-I/O: encrypted in, plain out, and the reverse.

Owns: one TLS connection over two memory buffers. Does not own: contexts (net/tls.py),
sockets and waiting (net/stream.py).

Ours rather than the event loop's ``start_tls``: the same code runs on uvloop, asyncio and a
simulated loop, the border between clear and encrypted octets is in our hands (RFC 3207
section 6), and an idle connection holds no buffer.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

from postroad.net.channel_binding import binding_of
from postroad.net.errors import StreamBroken, TlsFailed, why_tls

RECORD_MAX: Final = 16_384
"""Octets of plain text in one record, RFC 8446 section 5.1."""


class TlsLayer:
    """One TLS connection. After an error nothing but ``take_outgoing`` (it holds the alert) may be called."""

    __slots__ = ("_incoming", "_object", "_outgoing", "ended")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        """Raises TlsFailed if ``server_hostname`` is no name that TLS can carry."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
            )
        except (ValueError, TypeError, ssl.SSLError) as error:  # a host name from DNS can be anything
            raise TlsFailed(f"{server_hostname!r} cannot be asked for: {error}") from error
        self.ended = False
        """True once the peer has said that nothing more follows (close_notify)."""

    def shake_hands(self, octets: bytes) -> bool:
        """Take octets of the handshake; True when it is complete.

        Raises:
            TlsFailed: it cannot be completed.
        """
        self._incoming.write(octets)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise TlsFailed(why_tls(error)) from error
        return True

    def decrypt(self, octets: bytes) -> bytes:
        """Take encrypted octets; return the plain ones that are complete, perhaps none.

        Raises:
            StreamBroken: the octets are not what TLS allows.
        """
        self._incoming.write(octets)
        plain: list[bytes] = []
        try:
            while True:
                record = self._object.read(RECORD_MAX)
                if not record:
                    break
                plain.append(record)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
        except ssl.SSLError as error:
            raise StreamBroken(f"TLS: {why_tls(error)}") from error
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def encrypt(self, octets: bytes) -> bytes:
        """Return ``octets`` encrypted, with whatever else waits to go out."""
        try:
            done = self._object.write(octets) if octets else 0
            if done < len(octets):
                rest = memoryview(octets)
                while done < len(octets):
                    done += self._object.write(rest[done : done + RECORD_MAX])
        except ssl.SSLError as error:
            raise StreamBroken(f"TLS: {why_tls(error)}") from error
        return self._outgoing.read()

    def take_outgoing(self) -> bytes:
        """Return what TLS itself has to say: handshake, alerts, key updates."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def say_goodbye(self) -> bytes:
        """Return close_notify, so that the peer knows nothing was cut off."""
        with contextlib.suppress(ssl.SSLError):  # it would wait for the peer's own goodbye, which we do not need
            self._object.unwrap()
        return self.take_outgoing()

    @property
    def description(self) -> str:
        """Version and cipher suite, e.g. ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""
        cipher = self._object.cipher()
        return f"{self._object.version()} {cipher[0] if cipher else 'no cipher'}"

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER), or None if it sent none."""
        return self._object.getpeercert(binary_form=True)

    @property
    def channel_binding(self) -> bytes:
        """tls-server-end-point, RFC 5929 section 4; b"" where the certificate has none."""
        return binding_of(self._object)
