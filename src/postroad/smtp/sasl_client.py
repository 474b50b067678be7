"""The client's side of authentication, sans-I/O: PLAIN, LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.

Owns: which mechanism to take of those offered, what each says to which challenge, whether the server has proved
itself. Does not own: credentials, base64 and AUTH on the wire (smtp/client.py, outbound), waiting.

A server is a stranger: its challenges are bounded, and nobody works for it longer than ITERATIONS_MAX allows. A 235
counts only when ``is_complete`` is True: with SCRAM the server has to know the password as well.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import msgspec

from postroad.smtp.errors import DriverError
from postroad.smtp.saslprep import NotPrepared, prepare
from postroad.smtp.scram import (
    BINDING,
    SERVER_FINAL,
    SERVER_FIRST,
    escaped,
    from_base64,
    make_proof,
    sign,
    to_base64,
)

ITERATIONS_MIN: Final = 4096
"""PBKDF2 iterations that we take at least, RFC 7677 section 4: a server that asks for fewer is after the password."""
ITERATIONS_MAX: Final = 1_000_000
"""PBKDF2 iterations that we take at most: half a second of CPU for one connection."""
CHALLENGE_MAX: Final = 4096
"""Octets in one challenge, base64 undone."""


class Respond(msgspec.Struct, frozen=True, gc=False):
    """Say this in base64: behind AUTH (None: nothing there, RFC 4954 section 4; b"": ``=``), then in answer to 334."""

    octets: bytes | None
    is_last: bool = False
    """True if all is said and heard: a 235 is right now."""

    def __repr__(self) -> str:
        return f"Respond({'nothing' if self.octets is None else f'{len(self.octets)} octets'}, is_last={self.is_last})"


class NeedSalted(msgspec.Struct, frozen=True, gc=False):
    """Call ``sasl.derive_salted`` with these in a thread, and ``use_salted`` with what it returns."""

    password: str
    salt: bytes
    iterations: int

    def __repr__(self) -> str:
        return f"NeedSalted(iterations={self.iterations})"


class GiveUp(msgspec.Struct, frozen=True, gc=False):
    """Cancel with ``*`` (RFC 4954 section 4), or do not begin. ``why`` is for people."""

    why: str


ClientStep = Respond | NeedSalted | GiveUp
_Dialogue = Generator[Respond | NeedSalted, Any, None]
"""Yields what it needs, is sent the challenge or the salted password; suspended for ever after its last word."""


class _Trouble(Exception):
    pass


def choose(offered: Sequence[str], *, binding: bytes, is_secure: bool) -> str | None:
    """Return the strongest mechanism of those offered (upper case) that we can use; None: there is none.

    ``binding``: as for ``ClientExchange``. ``is_secure``: under TLS; without it no password is shown to anybody.
    """
    usable = (
        *(("SCRAM-SHA-256-PLUS",) if binding else ()),
        "SCRAM-SHA-256",
        *(("PLAIN", "LOGIN") if is_secure else ()),
    )
    return next((mechanism for mechanism in usable if mechanism in offered), None)


class ClientExchange:
    """One exchange: ``start``, then ``challenged`` for each 334 and ``use_salted`` after NeedSalted.

    Any other call raises DriverError. Over when the server says anything but 334, or with GiveUp.
    """

    __slots__ = ("_dialogue", "_pending")

    def __init__(
        self, mechanism: str, user: str, password: str, *, binding: bytes = b"", nonce: Callable[[], str]
    ) -> None:
        """Prepare an exchange.

        Args:
            mechanism: what ``choose`` returned.
            binding: tls-server-end-point of the server's certificate (RFC 5929 section 4.1), b"" if it has none. Given
                although the mechanism is no -PLUS, it tells the server that we saw none offered.
            nonce: gives a new one, printable ASCII without comma, that nobody can guess.

        Raises:
            DriverError: there is no such mechanism, or a -PLUS without binding.
        """
        self._pending: ClientStep | None = None
        if mechanism == "PLAIN":
            self._dialogue = _plain(user, password)
        elif mechanism == "LOGIN":
            self._dialogue = _login(user, password)
        elif mechanism == "SCRAM-SHA-256":
            self._dialogue = _scram("y,," if binding else "n,,", b"", user, password, nonce)
        elif mechanism == "SCRAM-SHA-256-PLUS" and binding:
            self._dialogue = _scram(f"p={BINDING},,", binding, user, password, nonce)
        else:
            raise DriverError(f"{mechanism} is unknown, or has no binding")

    @property
    def is_complete(self) -> bool:
        """True if a 235 is right now; at any other time the server has not done its part."""
        return isinstance(self._pending, Respond) and self._pending.is_last

    def start(self) -> Respond | GiveUp:
        """Return what goes with AUTH."""
        if self._pending is not None:
            raise DriverError("the exchange has begun")
        step = self._send(None)
        assert not isinstance(step, NeedSalted)
        return step

    def challenged(self, octets: bytes) -> ClientStep:
        """Take a challenge, base64 undone."""
        if not isinstance(self._pending, Respond):
            raise DriverError("no challenge is expected")
        if self._pending.is_last:
            return self._give_up("it asks for more although all is said")
        if len(octets) > CHALLENGE_MAX:
            return self._give_up("its challenge is too long")
        return self._send(octets)

    def use_salted(self, salted: bytes) -> ClientStep:
        """Take the salted password."""
        if not isinstance(self._pending, NeedSalted):
            raise DriverError("no salted password is needed")
        return self._send(salted)

    def _send(self, answer: bytes | None) -> ClientStep:
        try:
            self._pending = self._dialogue.send(answer)
        except _Trouble as trouble:
            return self._give_up(str(trouble))
        return self._pending

    def _give_up(self, why: str) -> GiveUp:
        self._pending = GiveUp(why)
        return self._pending


# --- the mechanisms --------------------------------------------------------------------------------


def _plain(user: str, password: str) -> _Dialogue:
    """RFC 4616 section 2. Sent as they are: it is for the server to prepare them."""
    if "\0" in user + password:
        raise _Trouble("the name or the password holds NUL")
    yield Respond(_encoded(f"\0{user}\0{password}"), is_last=True)


def _login(user: str, password: str) -> _Dialogue:
    """draft-murchison-sasl-login section 2: name, then password, whatever the server calls them."""
    yield Respond(None)
    yield Respond(_encoded(user))
    yield Respond(_encoded(password), is_last=True)


def _scram(gs2_header: str, binding: bytes, user: str, password: str, nonce: Callable[[], str]) -> _Dialogue:
    """RFC 5802 section 5 with SHA-256 (RFC 7677 section 3)."""
    user, password = _prepared(user, "name"), _prepared(password, "password")
    own_nonce = nonce()
    client_first_bare = f"n={escaped(user)},r={own_nonce}"
    challenge: bytes = yield Respond(f"{gs2_header}{client_first_bare}".encode())

    server_first = _text(challenge)
    match = SERVER_FIRST.fullmatch(server_first)
    if match is None:
        raise _Trouble("its first message is none of SCRAM")
    whole_nonce, salt, iterations = match[1], _octets(match[2]), int(match[3])
    if not (whole_nonce.startswith(own_nonce) and len(whole_nonce) > len(own_nonce)):
        raise _Trouble("it does not go on with our nonce")
    if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
        raise _Trouble(f"it asks for {iterations} iterations, not {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    salted: bytes = yield NeedSalted(password, salt, iterations)

    without_proof = f"c={to_base64(gs2_header.encode() + binding)},r={whole_nonce}"
    auth_message = f"{client_first_bare},{server_first},{without_proof}".encode()
    proof = make_proof(hmac.digest(salted, b"Client Key", "sha256"), auth_message)
    challenge = yield Respond(f"{without_proof},p={to_base64(proof)}".encode())

    match = SERVER_FINAL.fullmatch(_text(challenge))
    if match is None:
        raise _Trouble("its last message is none of SCRAM")
    if match[1]:
        raise _Trouble(f"it refuses: {match[1]}")
    signature = sign(hmac.digest(salted, b"Server Key", "sha256"), auth_message)
    if not hmac.compare_digest(_octets(match[2]), signature):
        raise _Trouble("it does not know the password itself: somebody else may have taken its place")
    yield Respond(b"", is_last=True)


def _prepared(text: str, what: str) -> str:
    try:
        return prepare(text)
    except NotPrepared as why:
        raise _Trouble(f"the {what} cannot be used with SCRAM: {why}") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise _Trouble("the name or the password is no text") from None


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise _Trouble("its message is no UTF-8") from None


def _octets(text: str) -> bytes:
    try:
        return from_base64(text)
    except ValueError:
        raise _Trouble("its message holds what is no base64") from None
