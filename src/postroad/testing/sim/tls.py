"""TLS by script: what ssl.SSLContext.wrap_bio would give, with a handshake of two lines and a cipher that only hides.

Owns: a connection's records and the ways in which a handshake fails. Does not own: net/tls_layer.py and net/stream.py,
which drive it as they drive OpenSSL's. Both ends of the simulated world use it.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

CLIENT_HELLO: Final = b"SIM-CLIENT-HELLO\n"
SERVER_HELLO: Final = b"SIM-SERVER-HELLO\n"
_HIDE: Final = bytes(octet ^ 0x55 for octet in range(256))


class SimTls:
    """One end of a connection under TLS: the part of ssl.SSLObject that the product uses."""

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_side: bool) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._server_side = server_side
        self._held = b""
        self._is_begun = False

    def do_handshake(self) -> None:
        if not self._is_begun and not self._server_side:
            self._outgoing.write(CLIENT_HELLO)
        self._is_begun = True
        self._held += self._incoming.read()
        wanted = CLIENT_HELLO if self._server_side else SERVER_HELLO
        if not wanted.startswith(self._held[: len(wanted)]):
            raise _broken("WRONG_VERSION_NUMBER")
        if len(self._held) < len(wanted):
            raise ssl.SSLWantReadError
        self._held = self._held[len(wanted) :]
        if self._server_side:
            self._outgoing.write(SERVER_HELLO)

    def read(self, most: int) -> bytes:
        self._held += self._incoming.read()
        if len(self._held) < 5:
            raise ssl.SSLWantReadError
        if self._held[:1] != b"\x17":
            raise _broken("DECRYPTION_FAILED_OR_BAD_RECORD_MAC")
        length = int.from_bytes(self._held[1:5], "big")
        if len(self._held) < 5 + length:
            raise ssl.SSLWantReadError
        record, self._held = self._held[5 : 5 + length], self._held[5 + length :]
        if not record:
            raise ssl.SSLZeroReturnError
        return record.translate(_HIDE)

    def write(self, octets: bytes | memoryview) -> int:
        plain = bytes(octets)
        self._outgoing.write(b"\x17" + len(plain).to_bytes(4, "big") + plain.translate(_HIDE))
        return len(plain)

    def unwrap(self) -> None:
        self._outgoing.write(b"\x17\0\0\0\0")
        raise ssl.SSLWantReadError

    def cipher(self) -> tuple[str, str, int]:
        return ("SIM_HIDE", "TLSv1.3", 8)

    def version(self) -> str:
        return "TLSv1.3"

    def getpeercert(self, *, binary_form: bool) -> None:
        return None


def _broken(why: str) -> ssl.SSLError:
    error = ssl.SSLError(1, why)
    error.reason = why
    return error


class SimContext:
    """What the product takes for an ssl.SSLContext."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> SimTls:
        return SimTls(incoming, outgoing, server_side=server_side)


def context_of(policy: Any = None) -> Any:
    """Return a context, whatever the policy."""
    return SimContext()
