"""Inspects the certificates that listeners show: readable, valid, for long enough, for our name, with their key.

Owns: the findings about [[tls.certificate]]. Does not own: loading them to serve (net/tls.py). cryptography is
imported late: only ``check`` needs it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from postroad.cli.findings import Finding, error, note, warning

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from postroad.config.listeners import Certificate as CertificateSetting
    from postroad.config.model import Settings

SOON: Final = timedelta(days=14)
"""A certificate that ends earlier is worth a warning: those that are renewed automatically are renewed before."""


def inspect_certificates(settings: Settings, now: float) -> Iterator[Finding]:
    """Look at each certificate and its key."""
    if all(listener.tls == "off" for listener in settings.listener):
        return
    if not settings.tls.certificate:
        yield note("tls", "No certificate is set: the relay shows a self-signed one, which no client can verify.")
    for number, pair in enumerate(settings.tls.certificate):
        chain, wrong = _read_chain(pair.certificate)
        yield from wrong
        if chain:
            yield from _inspect_dates(pair.certificate, chain[0], datetime.fromtimestamp(now, UTC))
            if number == 0:
                yield from _inspect_name(pair.certificate, chain[0], settings.hostname)
        yield from _inspect_key(pair, chain[0] if chain else None)


def _read_chain(path: Path) -> tuple[list[Certificate], list[Finding]]:
    """Return the certificates of a file, or what is wrong with it."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(path.read_bytes()), []
    except OSError as trouble:
        text = f"{path} cannot be read: {trouble.strerror}."
        return [], [error("tls", text, "Check [[tls.certificate]] certificate, and who may read it.")]
    except ValueError:
        text = f"{path} holds no certificate in PEM form."
        return [], [error("tls", text, "It begins with -----BEGIN CERTIFICATE-----.")]


def _inspect_dates(path: Path, certificate: Certificate, now: datetime) -> Iterator[Finding]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends <= now:
        yield error("tls", f"{path} expired on {ends:%Y-%m-%d %H:%M} UTC; it is shown all the same.", "Renew it.")
    elif begins > now:
        yield error("tls", f"{path} is valid only from {begins:%Y-%m-%d %H:%M} UTC.", "Is this machine's clock right?")
    elif ends - now < SOON:
        yield warning("tls", f"{path} expires in {(ends - now).days} days, on {ends:%Y-%m-%d}.", "Renew it.")


def _inspect_name(path: Path, certificate: Certificate, hostname: str) -> Iterator[Finding]:
    from cryptography.x509 import DNSName, ExtensionNotFound, SubjectAlternativeName

    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(
            DNSName
        )
    except (ExtensionNotFound, ValueError):
        names = []
    wanted = {hostname, "*." + hostname.partition(".")[2]}
    if not wanted & {name.lower() for name in names}:
        known = ", ".join(names[:5]) or "no name"
        yield warning("tls", f"{path} is for {known}, not for {hostname}.", "Clients that verify names will refuse it.")


def _inspect_key(pair: CertificateSetting, certificate: Certificate | None) -> Iterator[Finding]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = pair.private_key
    try:
        if os.stat(path).st_mode & (stat.S_IROTH | stat.S_IWOTH):
            yield warning("tls", f"Everybody on this machine may read {path}.", f"chmod o= {path}")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as trouble:
        yield error("tls", f"{path} cannot be read: {trouble.strerror}.", "Check [[tls.certificate]] private_key.")
    except TypeError:
        yield error(
            "tls", f"{path} needs a password, which nobody could give at a start.", "Store the key without one."
        )
    except (ValueError, UnsupportedAlgorithm):
        yield error("tls", f"{path} holds no private key in PEM form.", "It begins with -----BEGIN PRIVATE KEY-----.")
    else:
        if certificate is not None and certificate.public_key() != key.public_key():
            yield error("tls", f"{path} is not the key of {pair.certificate}.", "Take the two from the same issue.")
