"""Makes the certificate with which a relay starts that was given none.

Owns: the pair in data_dir, made durably and once. Does not own: its use (net/tls.py). Key and certificate share one
file, so that no crash can part them. Nobody verifies it: it protects against those who only listen.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from postroad.net.tls import Pair

FILE_NAME: Final = "self-signed.pem"
_VALID_DAYS: Final = 3650
_RENEW_DAYS: Final = 30
_COMMON_NAME_MAX: Final = 64
"""Characters, RFC 5280 section A.1 (ub-common-name); a longer name stands in subjectAltName alone."""


def ensure_self_signed(directory: str, hostname: str, *, now: float) -> Pair:
    """Return the pair in ``directory``, made if there is none for ``hostname``, or it ends within a month.

    ``hostname`` in A-labels; ``now`` in seconds since the epoch, UTC. Raises OSError if the file cannot be written.
    """
    path = os.path.join(directory, FILE_NAME)
    today = datetime.fromtimestamp(now, UTC)
    if not _is_current(path, hostname, today):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with _alone(directory):
            if not _is_current(path, hostname, today):  # another process may have made it meanwhile
                _write_durably(path, _make(hostname, today))
    return Pair((), path, path)


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Hold a lock on the directory (flock(2)): all workers want a pair at the same moment, and it is to be the same."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_current(path: str, hostname: str, today: datetime) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open(path, "rb") as file:
            octets = file.read()
        certificate = x509.load_pem_x509_certificate(octets)
        load_pem_private_key(octets, None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    ends_soon = certificate.not_valid_after_utc < today + timedelta(days=_RENEW_DAYS)
    return names.get_values_for_type(x509.DNSName) == [hostname] and not ends_soon


def _make(hostname: str, today: datetime) -> bytes:
    """Return key and certificate as PEM: ECDSA on P-256, the fastest that every client can do."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import oid

    key = ec.generate_private_key(ec.SECP256R1())
    short = [x509.NameAttribute(x509.NameOID.COMMON_NAME, hostname)] if len(hostname) <= _COMMON_NAME_MAX else []
    name = x509.Name(short)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=not short)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _write_durably(path: str, octets: bytes) -> None:
    new = f"{path}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # also where one was left behind with other bits
        file.write(octets)
        file.flush()
        os.fsync(descriptor)
    os.rename(new, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
