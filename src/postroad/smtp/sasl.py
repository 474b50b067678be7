"""What an authentication exchange says to its driver, and the bounds of all that a client may say in one.

Owns: the steps as plain values, the keys of SCRAM (RFC 5802 section 3), the limits. Does not own: the mechanisms
(smtp/sasl_server.py for our clients, smtp/sasl_client.py where we are one), how strings are prepared
(smtp/saslprep.py), base64 and 334 (smtp/commands.py, inbound), who is right (access).
No value here shows a password, a proof or a key in its repr; keep it so.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import msgspec

from postroad.core.reply import Reply

NAME_MAX: Final = 255
"""Octets of UTF-8 in the name of a user. RFC 4616 section 2 has servers take so many."""
PASSWORD_MAX: Final = 1024
"""Octets of UTF-8 in a password. RFC 4616 section 2 has servers take 255; SASLprep and PBKDF2 work on all of them."""
NONCE_MAX: Final = 512
"""Characters in the nonce of a peer; the usual ones have 24 to 64. RFC 5802 sets no limit."""
RESPONSE_MAX: Final = 4096
"""Octets in one response of a client, base64 undone. Name, password, nonce and room for extensions of SCRAM."""
SALT_SIZE: Final = 16
"""Octets in the salt of SCRAM keys. All have as many, so that an unknown user's is no other."""
SCRAM_ITERATIONS: Final = 15_000
"""PBKDF2 iterations of the keys we make: what RFC 7677 section 4 counts for 0.1 s; about 7 ms of ours where PLAIN is
checked against them."""


class ScramKeys(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a password instead of it, for SCRAM-SHA-256: RFC 5803 section 2, names of RFC 5802 section 3."""

    iterations: int
    salt: bytes
    stored_key: bytes
    """SHA-256 of ClientKey; enough to verify a client, not enough to be one."""
    server_key: bytes
    """Enough to play the server."""

    def __repr__(self) -> str:
        return f"ScramKeys(iterations={self.iterations})"


def derive_salted(password: str, salt: bytes, iterations: int) -> bytes:
    """Return SaltedPassword of RFC 5802 section 3 for a prepared password. Costs 0.5 ms of CPU per 1,000 iterations.

    Give it to a thread (OpenSSL lets the GIL go meanwhile).
    """
    return hashlib.pbkdf2_hmac("sha256", password.encode("utf-8"), salt, iterations)


def derive_keys(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> ScramKeys:
    """Return the keys to keep of a prepared password; to check one, derive again and compare (``same_keys``).

    As expensive as ``derive_salted``.
    """
    salted = derive_salted(password, salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return ScramKeys(iterations, salt, stored_key, hmac.digest(salted, b"Server Key", "sha256"))


def same_keys(one: ScramKeys, other: ScramKeys) -> bool:
    """Tell whether both are of the same password; takes the same time for all answers."""
    return hmac.compare_digest(one.stored_key, other.stored_key)


# --- steps -----------------------------------------------------------------------------------------


class Challenge(msgspec.Struct, frozen=True, gc=False):
    """Say 334 with this in base64; what the client answers goes to ``Exchange.step``."""

    octets: bytes


class NeedPassword(msgspec.Struct, frozen=True, gc=False):
    """Find out whether user and password, both prepared, belong together, and call ``Exchange.decide``."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"NeedPassword(user={self.user!r})"


class NeedKeys(msgspec.Struct, frozen=True, gc=False):
    """Look up the keys of the user, whose name is prepared, and something like them, and call ``Exchange.use_keys``."""

    user: str


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """The client is this user: say 235."""

    user: str


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The exchange is over: say this."""

    reply: Reply


Step = Challenge | NeedPassword | NeedKeys | Succeeded | Failed
