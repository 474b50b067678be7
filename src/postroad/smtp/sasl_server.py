"""The server's side of authentication, sans-I/O: PLAIN, LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.

Owns: what each mechanism says when, and what of the client's it takes. Does not own: who is right (the driver asks
access), which mechanisms are offered, base64 and reply codes on the wire (smtp/server.py, inbound).

An exchange is a generator: it yields what it needs and is sent the answer, so that a mechanism reads from top to
bottom. Unknown users look like known ones, in what is said and when. docs/adr/0007 says why SCRAM is ours.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, NoReturn

from postroad.core import reply
from postroad.core.reply import Reply
from postroad.smtp.errors import DriverError
from postroad.smtp.sasl import (
    NAME_MAX,
    PASSWORD_MAX,
    RESPONSE_MAX,
    Challenge,
    Failed,
    NeedKeys,
    NeedPassword,
    ScramKeys,
    Step,
    Succeeded,
)
from postroad.smtp.saslprep import NotPrepared, prepare
from postroad.smtp.scram import (
    BINDING,
    CLIENT_FINAL,
    CLIENT_FIRST,
    from_base64,
    is_proof,
    sign,
    to_base64,
    unescaped,
)

MECHANISMS: Final = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
"""Those that ``begin`` knows, the strongest first."""

_Dialogue = Generator[Challenge | NeedPassword | NeedKeys, Any, str]
"""Yields what it needs, is sent the answer, returns the user; raises _Refusal."""


class _Refusal(Exception):
    def __init__(self, answer: Reply) -> None:
        self.answer = answer


class Exchange:
    """One exchange of one mechanism: from AUTH to Succeeded or Failed.

    Call ``start``, then what the step asks for: ``step`` after a Challenge, ``decide`` after NeedPassword, ``use_keys``
    after NeedKeys. Any other call raises DriverError.
    """

    __slots__ = ("_begin", "_dialogue", "_pending")

    def __init__(self, begin: Callable[[bytes | None], _Dialogue]) -> None:
        self._begin = begin
        self._dialogue: _Dialogue | None = None
        self._pending: Step | None = None

    def start(self, initial: bytes | None) -> Step:
        """Begin with the initial response of AUTH, base64 undone; None: there was none; b"" for ``=``."""
        if self._dialogue is not None:
            raise DriverError("the exchange has begun")
        self._dialogue = self._begin(initial)
        if initial is not None and len(initial) > RESPONSE_MAX:
            return self._fail(reply.SASL_RESPONSE_TOO_LONG)
        return self._send(None)

    def step(self, octets: bytes | None) -> Step:
        """Take the client's answer to the challenge, base64 undone; None: it cancelled with ``*``."""
        self._expect(Challenge)
        if octets is None:
            return self._fail(reply.AUTH_CANCELLED)
        if len(octets) > RESPONSE_MAX:
            return self._fail(reply.SASL_RESPONSE_TOO_LONG)
        return self._send(octets)

    def decide(self, user: str | None) -> Step:
        """Say whom name and password belong to; None: not together, or to nobody."""
        self._expect(NeedPassword)
        return self._send(user)

    def use_keys(self, keys: ScramKeys | None, *, disguise: ScramKeys) -> Step:
        """Give the keys of the user; None: there is no such user, or none with such keys.

        ``disguise`` is what a client is shown then: a salt and iterations such as others have, always the same for one
        name, whichever process is asked. Give it in any case, so that making it takes no time that tells.
        """
        self._expect(NeedKeys)
        return self._send((keys, disguise))

    def _expect(self, kind: type[Challenge | NeedPassword | NeedKeys]) -> None:
        if not isinstance(self._pending, kind):
            raise DriverError(f"no {kind.__name__} awaits an answer")

    def _send(self, answer: bytes | str | tuple[ScramKeys | None, ScramKeys] | None) -> Step:
        assert self._dialogue is not None
        try:
            self._pending = self._dialogue.send(answer)
        except StopIteration as end:
            self._pending = Succeeded(end.value)
        except _Refusal as refusal:
            self._pending = Failed(refusal.answer)
        return self._pending

    def _fail(self, answer: Reply) -> Step:
        assert self._dialogue is not None
        self._dialogue.close()
        self._pending = Failed(answer)
        return self._pending


def begin(mechanism: str, *, nonce: Callable[[], str], binding: bytes) -> Exchange:
    """Begin an exchange.

    Args:
        mechanism: one of MECHANISMS, in upper case.
        nonce: gives a new one, printable ASCII without comma, that nobody can guess.
        binding: tls-server-end-point of the certificate in use, RFC 5929 section 4.1; b"": -PLUS is not offered to
            this client. It must be empty exactly if -PLUS is not offered: a client that says it was not is believed
            only then.

    Raises:
        DriverError: there is no such mechanism, or a -PLUS without binding.
    """
    if mechanism == "PLAIN":
        return Exchange(_plain)
    if mechanism == "LOGIN":
        return Exchange(_login)
    if mechanism not in MECHANISMS:
        raise DriverError(f"there is no mechanism {mechanism}")
    is_plus = mechanism.endswith("-PLUS")
    if is_plus and not binding:
        raise DriverError("a -PLUS mechanism needs a channel binding")
    return Exchange(partial(_scram, is_plus=is_plus, nonce=nonce, binding=binding))


# --- PLAIN and LOGIN -------------------------------------------------------------------------------


def _plain(initial: bytes | None) -> _Dialogue:
    """RFC 4616 section 2: message = [authzid] NUL authcid NUL passwd."""
    parts = (yield from _first(initial)).split(b"\0")
    if len(parts) != 3:
        _malformed()
    acts_as, name, password = map(_text, parts)
    return (yield from _check(name, password, acts_as))


def _login(initial: bytes | None) -> _Dialogue:
    """draft-murchison-sasl-login section 2, with the words that are in use and the initial response clients send."""
    name = _text(initial if initial is not None else (yield from _ask(b"Username:")))
    password = _text((yield from _ask(b"Password:")))
    return (yield from _check(name, password, ""))


def _check(name: str, password: str, acts_as: str) -> _Dialogue:
    need = NeedPassword(_prepared(name, NAME_MAX), _prepared(password, PASSWORD_MAX))
    user: str | None = yield need
    # Nobody here may act as another, so the identity asked for (RFC 4422 section 2) can only be the user's own.
    if user is None or (acts_as and _prepared(acts_as, NAME_MAX) not in (need.user, user)):
        raise _Refusal(reply.BAD_CREDENTIALS)
    return user


# --- SCRAM -----------------------------------------------------------------------------------------


def _scram(
    initial: bytes | None,
    *,
    is_plus: bool,
    nonce: Callable[[], str],
    binding: bytes,
) -> _Dialogue:
    """RFC 5802 section 5 with SHA-256 (RFC 7677 section 3)."""
    match = CLIENT_FIRST.fullmatch(_text((yield from _first(initial))))
    if match is None:
        _malformed()
    gs2_header, binding_name, acts_as, client_first_bare, name, client_nonce = match.groups()
    _check_flag(gs2_header[0], binding_name, is_plus=is_plus, is_offered=bool(binding))
    user = _prepared(unescaped(name), NAME_MAX)
    may_act = acts_as is None or _prepared(unescaped(acts_as), NAME_MAX) == user

    found: ScramKeys | None
    found, disguise = yield NeedKeys(user)
    keys = found or disguise
    whole_nonce = client_nonce + nonce()
    server_first = f"r={whole_nonce},s={to_base64(keys.salt)},i={keys.iterations}"

    match = CLIENT_FINAL.fullmatch(_text((yield from _ask(server_first.encode("ascii")))))
    if match is None:
        _malformed()
    without_proof, bound, echoed_nonce, proof = match.groups()
    if not hmac.compare_digest(_unbase64(bound), gs2_header.encode("utf-8") + (binding if is_plus else b"")):
        raise _Refusal(reply.BINDING_WRONG)
    auth_message = f"{client_first_bare},{server_first},{without_proof}".encode()
    is_right = is_proof(_unbase64(proof), keys.stored_key, auth_message)
    if not (is_right and found and may_act and echoed_nonce == whole_nonce):
        raise _Refusal(reply.BAD_CREDENTIALS)

    signature = sign(keys.server_key, auth_message)
    if (yield from _ask(b"v=" + to_base64(signature).encode("ascii"))):
        _malformed()  # SMTP has no room for data beside a success: the client answers them with nothing
    return user


def _check_flag(flag: str, name: str | None, *, is_plus: bool, is_offered: bool) -> None:
    """RFC 5802 section 6: nobody between us and the client has hidden from it that binding is offered."""
    if flag == "y" and is_offered:
        raise _Refusal(reply.BINDING_DOWNGRADED)
    if is_plus != (flag == "p") or name not in (None, BINDING):
        raise _Refusal(reply.BINDING_NOT_KNOWN)


def _unbase64(text: str) -> bytes:
    try:
        return from_base64(text)
    except ValueError:
        _malformed()


# --- pieces ----------------------------------------------------------------------------------------


def _first(initial: bytes | None) -> Generator[Challenge, Any, bytes]:
    """Return the first message where the client begins; RFC 4954 section 4 asks for it by an empty challenge."""
    return initial if initial is not None else (yield from _ask(b""))


def _ask(challenge: bytes) -> Generator[Challenge, Any, bytes]:
    answer: bytes = yield Challenge(challenge)
    return answer


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        _malformed()


def _prepared(text: str, most: int) -> str:
    """Prepare a name or password. Where that fails, nobody is meant (RFC 4616 section 2) and no one need be asked."""
    try:
        if len(text.encode("utf-8")) <= most:
            prepared = prepare(text)  # may grow eighteenfold
            if len(prepared.encode("utf-8")) <= most:
                return prepared
    except NotPrepared:
        pass
    raise _Refusal(reply.BAD_CREDENTIALS)


def _malformed() -> NoReturn:
    raise _Refusal(reply.BAD_SASL_RESPONSE)
