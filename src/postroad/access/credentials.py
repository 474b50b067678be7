"""What is kept instead of a password: SCRAM-SHA-256 keys, or an argon2id hash. Never both.

Owns: making, checking, reading and writing these; how dear each may be. Does not own: where they are kept (book.py),
when they are checked (users.py), the keys themselves (smtp/sasl.py). No repr shows a key or a hash. ``make`` and
``matches`` take milliseconds and let go of the interpreter meanwhile: never on the event loop.

A shape is a credential without its secret, which no password matches: checking it takes as long as the real one.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from typing import Final

import msgspec

from postroad.core.units import KIB
from postroad.smtp.sasl import SALT_SIZE, ScramKeys, derive_keys, same_keys

SCRAM: Final = "SCRAM-SHA-256"
ARGON2ID: Final = "argon2id"
SALT_OCTETS: Final = SALT_SIZE
SALT_MOST: Final = 64
"""Octets in the salt of keys that come from elsewhere."""
KEY_OCTETS: Final = 32
ITERATIONS_LEAST: Final = 4096
"""RFC 7677 section 4."""
ITERATIONS_MOST: Final = 1_000_000
"""Of keys that come from elsewhere: half a second of a core for each login."""
ARGON_MEMORY: Final = 19 * KIB
"""In KiB: 19 MiB, with two passes over it, as OWASP's password storage cheat sheet has it."""
ARGON_PASSES: Final = 2
ARGON_MEMORY_MOST: Final = 128 * KIB
"""In KiB, of hashes that come from elsewhere."""
ARGON_WORK_MOST: Final = 512 * KIB
"""KiB times passes, likewise."""
ARGON_LANES_MOST: Final = 8
CREDENTIAL_MAX: Final = 512
"""Characters of one as it is written."""

_RFC_5803: Final = re.compile(r"SCRAM-SHA-256\$(\d{1,9}):([\w+/=]+)\$([\w+/=]+):([\w+/=]+)", re.ASCII)
_DOVECOT: Final = re.compile(r"\{SCRAM-SHA-256\}(\d{1,9}),([\w+/=]+),([\w+/=]+),([\w+/=]+)", re.ASCII | re.IGNORECASE)
_ARGON: Final = re.compile(
    r"(?i:\{ARGON2ID\})?(\$argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$([\w+/]{11,86})\$([\w+/]{22,86}))",
    re.ASCII,
)
_ZERO: Final = bytes(KEY_OCTETS)


class ArgonHash(msgspec.Struct, frozen=True):
    """An argon2id hash (RFC 9106 section 3.1: type 2, version 0x13)."""

    text: str
    """As its reference implementation writes it: ``$argon2id$v=19$m=...``."""

    def __repr__(self) -> str:
        return f"ArgonHash({self.text.split('$')[3]})"


Credential = ScramKeys | ArgonHash


def make(scheme: str, password: str, salt: bytes) -> Credential:
    """Return what to keep of a password that has been prepared. ``scheme``: SCRAM or ARGON2ID. Slow.

    Raises:
        UnsupportedAlgorithm: the OpenSSL of this Python (cryptography) is too old for argon2id.
    """
    if scheme == SCRAM:
        return derive_keys(password, salt)
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    hasher = Argon2id(salt=salt, length=KEY_OCTETS, iterations=ARGON_PASSES, lanes=1, memory_cost=ARGON_MEMORY)
    return ArgonHash(hasher.derive_phc_encoded(password.encode()))


def matches(credential: Credential, password: str) -> bool:
    """True if it was made of this password, which has been prepared. Slow.

    Raises:
        UnsupportedAlgorithm: as ``make``.
        MemoryError: there is none for argon2id.
    """
    if isinstance(credential, ScramKeys):
        return same_keys(derive_keys(password, credential.salt, credential.iterations), credential)
    from cryptography.exceptions import InvalidKey
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    try:
        Argon2id.verify_phc_encoded(password.encode(), credential.text)
    except InvalidKey:
        return False
    return True


def shape_of(credential: Credential) -> Credential:
    """Return one that is as dear to check, with as long a salt, and holds nothing else of this one."""
    size = len(credential.salt) if isinstance(credential, ScramKeys) else SALT_OCTETS  # of argon2id nobody sees it
    return shaped(credential, bytes(size))


def shaped(shape: Credential, salt: bytes) -> Credential:
    """Return a shape with another salt: as many octets as the shape's, of SALT_MOST that are given."""
    if isinstance(shape, ScramKeys):
        return ScramKeys(shape.iterations, salt[: len(shape.salt)], _ZERO, _ZERO)
    salt = salt[:SALT_OCTETS]
    head = shape.text.split("$")[:4]
    return ArgonHash("$".join([*head, _unpadded(salt), _unpadded(_ZERO)]))


def scheme_of(credential: Credential) -> str:
    """Return SCRAM or ARGON2ID."""
    return SCRAM if isinstance(credential, ScramKeys) else ARGON2ID


def format_credential(credential: Credential) -> str:
    """Return how it is kept: as RFC 5803 section 2 and argon2 themselves write it."""
    if isinstance(credential, ArgonHash):
        return credential.text
    salt, stored, server = (
        b64encode(part).decode() for part in (credential.salt, credential.stored_key, credential.server_key)
    )
    return f"{SCRAM}${credential.iterations}:{salt}${stored}:{server}"


def parse_credential(text: str) -> Credential:
    """Return what ``format_credential`` wrote, or Dovecot with ``{SCRAM-SHA-256}`` or ``{ARGON2ID}`` before it.

    Raises:
        ValueError: another scheme, broken, or too cheap or too dear to check. Says nothing of the secret.
    """
    if len(text) > CREDENTIAL_MAX:
        raise ValueError(f"What is kept of a password has at most {CREDENTIAL_MAX} characters.")
    if found := _RFC_5803.fullmatch(text) or _DOVECOT.fullmatch(text):
        return _scram(int(found[1]), found[2], found[3], found[4])
    if found := _ARGON.fullmatch(text):
        return _argon(found[1], int(found[2]), int(found[3]), int(found[4]), found[5], found[6])
    raise ValueError(
        "It is neither {SCRAM-SHA-256} nor argon2id (version 19), the only schemes that are checked here. "
        "Give the user a new password."
    )


def _scram(iterations: int, *parts: str) -> ScramKeys:
    if not ITERATIONS_LEAST <= iterations <= ITERATIONS_MOST:
        raise ValueError(f"Keys of {iterations:,} iterations: {ITERATIONS_LEAST:,} to {ITERATIONS_MOST:,} are taken.")
    try:
        salt, stored_key, server_key = (b64decode(part, validate=True) for part in parts)
    except binascii.Error:
        raise ValueError("The keys of {SCRAM-SHA-256} are not base64.") from None
    if not 8 <= len(salt) <= SALT_MOST or len(stored_key) != KEY_OCTETS or len(server_key) != KEY_OCTETS:
        raise ValueError("The salt or the keys of {SCRAM-SHA-256} have a wrong length.")
    return ScramKeys(iterations, salt, stored_key, server_key)


def _argon(text: str, memory: int, passes: int, lanes: int, salt: str, key: str) -> ArgonHash:
    is_known = 1 <= lanes <= ARGON_LANES_MOST and passes >= 1
    if not is_known or not 8 * lanes <= memory <= ARGON_MEMORY_MOST or memory * passes > ARGON_WORK_MOST:
        raise ValueError(
            f"An argon2id hash of m={memory},t={passes},p={lanes}: m is taken up to {ARGON_MEMORY_MOST}, "
            f"m times t up to {ARGON_WORK_MOST}, p up to {ARGON_LANES_MOST}."
        )
    try:
        for part in (salt, key):
            b64decode(part + "=" * (-len(part) % 4), validate=True)
    except binascii.Error:
        raise ValueError("The salt or the hash of argon2id is not base64.") from None
    return ArgonHash(text)


def _unpadded(octets: bytes) -> str:
    return b64encode(octets).decode().rstrip("=")
