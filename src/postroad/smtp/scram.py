"""The messages of SCRAM-SHA-256 and its arithmetic: what both sides of an exchange share.

Owns: the grammar of RFC 5802 section 7, escapes, proofs and signatures (section 3). Does not own: who says what when
(smtp/sasl_server.py, smtp/sasl_client.py), keys of a password (smtp/sasl.py). Strings here are UTF-8 decoded already.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode
from binascii import a2b_base64
from typing import Final

from postroad.smtp.sasl import NONCE_MAX

PROOF_SIZE: Final = 32
"""Octets in a hash, a key, a proof and a signature: SHA-256."""
BINDING: Final = "tls-server-end-point"
"""RFC 5929 section 4. Not tls-unique, which TLS 1.3 has not; not tls-exporter (RFC 9266), which Python's ssl cannot."""

# RFC 5802 section 7, in its names. A reserved-mext (m=) does not match and fails, as section 5.1 demands.
_SASLNAME: Final = r"(?:[^\0,=]|=2C|=3D)+"
_NONCE: Final = rf"[!-+\--~]{{1,{NONCE_MAX}}}"
_WHOLE_NONCE: Final = rf"[!-+\--~]{{1,{2 * NONCE_MAX}}}"
_EXTENSIONS: Final = r"(?:,[bdfghjkloqtuwxyzA-Z]=[^\0,]+)*"
"""Attributes that nobody has defined: ignored."""
_BASE64: Final = r"[A-Za-z0-9+/]+={0,2}"

CLIENT_FIRST: Final = re.compile(
    rf"((?:p=([A-Za-z0-9.-]+)|[ny]),(?:a=({_SASLNAME}))?,)(n=({_SASLNAME}),r=({_NONCE}){_EXTENSIONS})"
)
"""gs2-header, name of the binding, authorization identity, client-first-message-bare, name, nonce."""
SERVER_FIRST: Final = re.compile(rf"r=({_WHOLE_NONCE}),s=({_BASE64}),i=([1-9][0-9]{{0,9}}){_EXTENSIONS}")
"""Nonce, salt, iterations."""
CLIENT_FINAL: Final = re.compile(rf"(c=({_BASE64}),r=({_WHOLE_NONCE}){_EXTENSIONS}),p=({_BASE64})")
"""client-final-message-without-proof, binding, nonce, proof."""
SERVER_FINAL: Final = re.compile(rf"(?:e=([a-z-]{{1,64}})|v=({_BASE64})){_EXTENSIONS}")
"""Error, signature."""


def escaped(name: str) -> str:
    """Return a prepared name as saslname, RFC 5802 section 5.1."""
    return name.replace("=", "=3D").replace(",", "=2C")


def unescaped(name: str) -> str:
    """Return the name that a saslname means."""
    return name.replace("=2C", ",").replace("=3D", "=")


def to_base64(octets: bytes) -> str:
    """Return ``octets`` as base64 without line ends."""
    return b64encode(octets).decode("ascii")


def from_base64(text: str) -> bytes:
    """Undo ``to_base64``. Raises ValueError for what it would not write, RFC 4648 section 3.5: one text, one value."""
    octets = a2b_base64(text, strict_mode=True)
    if to_base64(octets) != text:
        raise ValueError("its last bits are not zero")
    return octets


def sign(key: bytes, auth_message: bytes) -> bytes:
    """Return ClientSignature (by StoredKey) or ServerSignature (by ServerKey), RFC 5802 section 3."""
    return hmac.digest(key, auth_message, "sha256")


def make_proof(client_key: bytes, auth_message: bytes) -> bytes:
    """Return ClientProof: ClientKey, hidden under the signature by its hash."""
    return _xor(client_key, sign(hashlib.sha256(client_key).digest(), auth_message))


def is_proof(proof: bytes, stored_key: bytes, auth_message: bytes) -> bool:
    """True if the ClientKey that the proof hides hashes to StoredKey. The time tells nothing of either."""
    if len(proof) != PROOF_SIZE:
        return False
    client_key = _xor(proof, sign(stored_key, auth_message))
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))
