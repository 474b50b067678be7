"""What ties an authentication to the TLS under it: tls-server-end-point, RFC 5929 section 4.

Owns: the binding of a certificate, and the kind of context that knows its own. Does not own: which certificate a
context has (net/tls.py), what SCRAM does with it (smtp/sasl_server.py).

Python's ssl tells a client the server's certificate, but never a server its own; with several of them (SNI) the
context in use after the handshake is the only one who can say. Hence ``ServerContext``.
"""

from __future__ import annotations

import ssl


class ServerContext(ssl.SSLContext):
    """A server's context with the binding of its certificate."""

    binding: bytes = b""
    """b"": there is none."""


def server_end_point(certificate: bytes) -> bytes:
    """Return the tls-server-end-point of a certificate (DER); b"" where it has none.

    RFC 5929 section 4.1: its hash by the hash of its signature, SHA-256 in place of MD5 and SHA-1. Signatures without a
    hash of their own (Ed25519, Ed448) have no binding, and peers would not agree on one. Of RSASSA-PSS it is the
    hash of the content, as OpenSSL says it.
    """
    from cryptography import x509  # late: 10 ms, and nothing without TLS needs it
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes

    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
        if algorithm is None:
            return b""
        digest = hashes.Hash(hashes.SHA256() if isinstance(algorithm, hashes.MD5 | hashes.SHA1) else algorithm)
    except (ValueError, UnsupportedAlgorithm):  # unread by this library, or signed in a way it does not know
        return b""
    digest.update(certificate)
    return digest.finalize()


def binding_of(connection: ssl.SSLObject) -> bytes:
    """Return the tls-server-end-point of a connection after its handshake; b"" where there is none."""
    if connection.server_side:
        context = connection.context  # that of the name asked for
        return context.binding if isinstance(context, ServerContext) else b""
    certificate = connection.getpeercert(binary_form=True)
    return server_end_point(certificate) if certificate else b""
