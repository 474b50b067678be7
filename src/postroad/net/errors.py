"""What goes wrong on the network, in our words.

Owns: the errors that leave this package, and the one place where those of OpenSSL become
text. Does not own: what follows from them (inbound, outbound/trouble.py).

All are OSErrors, so a caller that only asks "is the connection gone" catches OSError.
"""

from __future__ import annotations

import os
import ssl
from typing import NamedTuple


class StreamBroken(ConnectionError):
    """The connection is gone: reset, aborted, or closed while we still wrote. ``why`` is for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class TlsFailed(StreamBroken):
    """A handshake failed, was too slow, or its certificate did not verify. The stream is closed."""


class ListenError(OSError):
    """An address cannot be listened on. The text names the address and what to do."""


class Try(NamedTuple):
    """One address that was tried in vain."""

    address: str
    port: int
    why: str


class ConnectFailed(ConnectionError):
    """No address answered. ``tries`` holds each address with its reason, in the order they failed."""

    def __init__(self, tries: tuple[Try, ...]) -> None:
        super().__init__("; ".join(f"{one.address} port {one.port}: {one.why}" for one in tries) or "no address to try")
        self.tries = tries


def why_os(error: BaseException) -> str:
    """Return in a few words what the system said, without its number."""
    if isinstance(error, TimeoutError) and not getattr(error, "errno", None):
        return "timed out"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def why_tls(error: ssl.SSLError) -> str:
    """Return in a few words what OpenSSL said, without source files and numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error)
