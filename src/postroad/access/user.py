"""A user: its name, what its login counts for, and as whom it may send.

Owns: the values, and which are right. Does not own: its password (credentials.py), what a scope allows (policy).

A name is prepared by SASLprep and its case kept: ``Alice`` and ``alice`` are two users, as they are for a client that
proves a password by SCRAM, where the name is what the client sends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from postroad.core.address import AddressError, parse_domain, parse_mailbox
from postroad.smtp.sasl import NAME_MAX, PASSWORD_MAX
from postroad.smtp.saslprep import NotPrepared, prepare

PASSWORD_LEAST: Final = 8
"""Characters of a new one: NIST SP 800-63B section 5.1.1.1."""
RELAY: Final = "relay"
"""The scope of a user of whom nothing else is said: to send mail anywhere."""
SCOPES_MAX: Final = 16
SEND_AS_MAX: Final = 100
_SCOPE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class User(msgspec.Struct, frozen=True):
    """Who has logged in."""

    name: str
    scopes: tuple[str, ...]
    """Operations that its login counts for: ``[operations]``."""
    send_as: tuple[str, ...]
    """Addresses and domains it may send as; empty: any."""


class UserRow(msgspec.Struct, frozen=True, kw_only=True):
    """A user as listings show it, without anything of its password.

    The field names are what the API and ``--json`` show: never rename one, only add.
    """

    name: str
    scheme: str
    """What is kept of its password: ``SCRAM-SHA-256`` or ``argon2id``."""
    scopes: tuple[str, ...]
    send_as: tuple[str, ...]
    created_at: float
    changed_at: float
    """Seconds since the epoch, UTC."""


def normal_user_name(text: str) -> str:
    """Return a name in the form in which it is kept. Raises ValueError with what is wrong with it."""
    try:
        name = prepare(text)
    except NotPrepared as error:
        raise ValueError(f"{text[:60]!a} can be no name of a user: {error}.") from error
    if name != name.strip() or len(name.encode("utf-8", "replace")) > NAME_MAX:
        raise ValueError(f"A name of a user has 1 to {NAME_MAX} octets, and no space before or behind it.")
    return name


def normal_password(text: str) -> str:
    """Return a new password in the form in which it is compared. Raises ValueError with what is wrong with it."""
    try:
        password = prepare(text)
    except NotPrepared as error:
        raise ValueError(f"That can be no password: {error}.") from error
    if len(password) < PASSWORD_LEAST or len(password.encode()) > PASSWORD_MAX:
        raise ValueError(f"A password has at least {PASSWORD_LEAST} characters, and at most {PASSWORD_MAX} octets.")
    return password


def normal_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return scopes, each once; ``relay`` where none is named. Raises ValueError."""
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise ValueError(f'{scope[:60]!a} is no scope: name an operation, such as "relay" or "bulk".')
    if len(scopes) > SCOPES_MAX:
        raise ValueError(f"A user has at most {SCOPES_MAX} scopes.")
    return tuple(dict.fromkeys(scopes)) or (RELAY,)


def normal_send_as(items: Sequence[str]) -> tuple[str, ...]:
    """Return addresses and domains in their normal form, each once. Raises ValueError."""
    if len(items) > SEND_AS_MAX:
        raise ValueError(f"A user may send as at most {SEND_AS_MAX} addresses and domains. Name their domains.")
    try:
        return tuple(dict.fromkeys(str(parse_mailbox(one)) if "@" in one else parse_domain(one) for one in items))
    except AddressError as error:
        raise ValueError(f"A user sends as addresses or domains: {error}.") from error
