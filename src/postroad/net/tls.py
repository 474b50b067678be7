"""TLS contexts: ours by the name a client asks for, and those with which we are a client.

Owns: loading, choosing and reloading certificates, the settings of every context. Does not own: the handshake
(net/stream.py, net/tls_layer.py), making our own pair (net/self_signed.py), which policy holds for whom (policy).
Never logs or keeps a key: OpenSSL alone holds it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from postroad.core.faces import Clock, Outlet
from postroad.core.facts import Trouble
from postroad.core.units import DAY, SECOND
from postroad.net.channel_binding import ServerContext, server_end_point
from postroad.net.errors import why_os, why_tls

CHECK_EVERY: Final = 5 * SECOND
"""Seconds between two looks at the files of certificates, however many connections come."""
EXPIRY_WARNING: Final = 14 * DAY
"""Seconds before its end from which on a certificate is warned of, once a day. Renewal is due at 30 days, as a rule."""

ClientPolicy = Literal["off", "opportunistic", "required", "verified"]
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class CertificateError(OSError):
    """A certificate or key cannot be used. The text names the files and what to do."""


def as_it_is(path: str) -> str:
    """Read a file at its own path."""
    return path


class Pair(NamedTuple):
    """One certificate with its key."""

    names: tuple[str, ...]
    """Names it is used for (SNI): A-labels in lower case, ``*.example.org`` for all directly below."""
    certificate: str
    """Path of a PEM file, chain included."""
    private_key: str
    """Path of a PEM file; may be the same."""


class ServerTls:
    """The contexts of listeners. The first pair is the default."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        minimum: Literal["1.2", "1.3"] = "1.2",
        outlet: Outlet,
        clock: Clock,
        time: Callable[[], float],
        read: Callable[[str], str] = as_it_is,
    ) -> None:
        """Load all pairs.

        Args:
            time: the event loop's.
            read: gives the path at which to read a file of a pair: another than its own where the supervisor has
                handed the content over by a descriptor, e.g. ``/proc/self/fd/9``. Facts and errors name its own.

        Raises:
            CertificateError: a pair cannot be used. (Expired ones can, with a fact.)
        """
        self._minimum = _VERSIONS[minimum]
        self._outlet = outlet
        self._clock = clock
        self._time = time
        self._read = read
        self._loaded = [_Loaded(pair, self._minimum, read) for pair in pairs]
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._choose()
        self._check_at = time() + CHECK_EVERY
        self._warn_at = 0.0
        self._warn_of_expiry()

    def context(self) -> ssl.SSLContext:
        """Return the context for the next handshake. Cheap; reloads changed files now and then."""
        if self._time() >= self._check_at:
            self._check_at = self._time() + CHECK_EVERY
            self._reload_changed()
            self._warn_of_expiry()
        return self._loaded[0].context

    def _reload_changed(self) -> None:
        changed = False
        for number, old in enumerate(self._loaded):
            if _signature(old.pair, self._read) == old.signature:
                continue
            try:
                self._loaded[number] = _Loaded(old.pair, self._minimum, self._read)
            except CertificateError as error:
                if str(error) != old.trouble:  # a broken file is told once, not every five seconds
                    old.trouble = str(error)
                    self._tell(f"{error}; the old certificate stays in use")
                continue
            changed = True
            if old.trouble:
                self._tell(old.trouble, over=True)
        if changed:
            self._choose()
            self._warn_at = 0.0

    def _choose(self) -> None:
        self._by_name = {name.lower(): one.context for one in reversed(self._loaded) for name in one.pair.names}
        # OpenSSL asks the context that the handshake began with: always the default one.
        self._loaded[0].context.sni_callback = self._on_name if self._by_name else None

    def _on_name(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Take the certificate of the name that is asked for; an unknown name gets the default."""
        if name is not None:
            name = name.lower()
            context = self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")
            if context is not None:
                connection.context = context

    def _warn_of_expiry(self) -> None:
        now = self._clock.now()
        if now < self._warn_at:
            return
        self._warn_at = now + DAY
        for one in self._loaded:
            day = datetime.fromtimestamp(one.expires_at, UTC).date().isoformat()
            if one.expires_at <= now:
                self._tell(f"{one.pair.certificate} expired on {day}; it is still served, but who verifies refuses it")
            elif one.expires_at <= now + EXPIRY_WARNING:
                self._tell(f"{one.pair.certificate} expires on {day}; renew it")

    def _tell(self, why: str, *, over: bool = False) -> None:
        self._outlet.emit(Trouble(at=self._clock.now(), what="certificate", why=why, over=over))


class ClientTls:
    """The contexts with which we are a client. ``ca_file``: who is trusted; empty: whom the system trusts."""

    def __init__(self, *, ca_file: str = "") -> None:
        self._ca_file = ca_file
        self._contexts: dict[ClientPolicy, ssl.SSLContext] = {}

    def context(self, policy: ClientPolicy) -> ssl.SSLContext:
        """Return the context for ``policy``; the names of hosts are given to ``start_tls``, for SNI and verification.

        Raises:
            CertificateError: ``ca_file`` cannot be used.
        """
        if policy not in self._contexts:
            self._contexts[policy] = self._make(policy)
        return self._contexts[policy]

    def _make(self, policy: ClientPolicy) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _common(context, _VERSIONS["1.2"])
        if policy != "verified":
            # RFC 7435 section 3: some protection beats none, so a weak key or chain is no reason for clear text.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_ciphers("DEFAULT:@SECLEVEL=1")
            return context
        try:
            if self._ca_file:
                context.load_verify_locations(self._ca_file)
            else:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        except ssl.SSLError as error:
            raise CertificateError(f"{self._ca_file} holds no certificates (PEM): {why_tls(error)}") from error
        except OSError as error:
            raise CertificateError(f"{self._ca_file} cannot be read: {why_os(error)}") from error
        return context


class _Loaded:
    """A pair as it was when it was read."""

    __slots__ = ("context", "expires_at", "pair", "signature", "trouble")

    def __init__(self, pair: Pair, minimum: ssl.TLSVersion, read: Callable[[str], str]) -> None:
        self.pair = pair
        self.signature = _signature(pair, read)  # before reading, so that a change meanwhile is seen
        self.context = _server_context(pair, minimum, read)
        self.expires_at, self.context.binding = _expiry_and_binding(pair.certificate, read)
        self.trouble = ""


def _common(context: ssl.SSLContext, minimum: ssl.TLSVersion) -> None:
    context.minimum_version = minimum
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _server_context(pair: Pair, minimum: ssl.TLSVersion, read: Callable[[str], str]) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    _common(context, minimum)
    context.num_tickets = 1  # each costs a signature's worth of time, and few clients resume
    try:
        context.load_cert_chain(read(pair.certificate), read(pair.private_key), password=_refuse_password)
    except ssl.SSLError as error:
        raise CertificateError(_cannot_use(pair, error)) from error
    except CertificateError:
        raise CertificateError(f"{pair.private_key} is encrypted; store the key without a passphrase") from None
    except OSError as error:
        path = next((path for path in (pair.certificate, pair.private_key) if not os.access(read(path), os.R_OK)), "")
        raise CertificateError(f"{path or pair.certificate} cannot be read: {why_os(error)}") from error
    return context


def _cannot_use(pair: Pair, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{pair.private_key} is not the key of {pair.certificate}"
    if error.reason in ("NO_START_LINE", "PEM_LIB") or not error.reason:
        return f"{pair.certificate} and {pair.private_key} do not hold a certificate and its key (PEM)"
    return f"{pair.certificate} with {pair.private_key} cannot be used: {why_tls(error)}"


def _refuse_password() -> str:
    """Instead of OpenSSL's own way, which is to ask at the terminal."""
    raise CertificateError("encrypted")


def _signature(pair: Pair, read: Callable[[str], str]) -> tuple[object, ...]:
    """Return what changes when a file is replaced or written, or another is put behind a descriptor."""
    return tuple(_state(read(path)) for path in (pair.certificate, pair.private_key))


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _expiry_and_binding(path: str, read: Callable[[str], str]) -> tuple[float, bytes]:
    """Return when the first certificate of a PEM file ends, seconds since the epoch, UTC, and its channel binding."""
    from cryptography import x509  # late: 10 ms, and nothing without TLS needs it
    from cryptography.hazmat.primitives.serialization import Encoding

    with open(read(path), "rb") as file:
        octets = file.read()
    try:
        certificate = x509.load_pem_x509_certificate(octets)
    except ValueError as error:
        raise CertificateError(f"{path} cannot be read as a certificate: {error}") from error
    return certificate.not_valid_after_utc.timestamp(), server_end_point(certificate.public_bytes(Encoding.DER))
