"""A new password, from who types it to what is kept of it.

Owns: asking without echo, or reading standard input; making what is kept. Does not own: the schemes
(access/credentials.py). The password itself goes no further: neither to the relay nor into any message.
"""

from __future__ import annotations

import secrets
import sys
from enum import StrEnum
from typing import Annotated, Final

import typer

LINE_MAX: Final = 4096
"""Characters read of standard input: far more than a password may have."""

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, its first line.")
]


class Scheme(StrEnum):
    """What to keep of a password."""

    SCRAM = "scram"
    ARGON2ID = "argon2id"


SchemeOption = Annotated[
    Scheme,
    typer.Option(
        "--scheme",
        metavar="SCHEME",
        help="What is kept of the password: scram (for every way to log in) or argon2id (dearer to guess; PLAIN and "
        "LOGIN only).",
    ),
]


def new_credential(scheme: Scheme, *, from_stdin: bool) -> str:
    """Get a new password, and return what is kept of it.

    Raises:
        ControlRefused: there is none, it is too short, or it was not typed twice the same.
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    from postroad.access.credentials import ARGON2ID, SALT_OCTETS, SCRAM, format_credential, make
    from postroad.access.user import normal_password
    from postroad.outbound.steering import ControlRefused

    typed = _read() if from_stdin else _ask()
    try:
        password = normal_password(typed)
    except ValueError as error:
        raise ControlRefused(str(error)) from None
    try:
        made = make(SCRAM if scheme is Scheme.SCRAM else ARGON2ID, password, secrets.token_bytes(SALT_OCTETS))
    except UnsupportedAlgorithm:
        text = "The OpenSSL that Python's cryptography is built on knows no argon2id: it needs 3.2. Use --scheme scram."
        raise ControlRefused(text) from None
    return format_credential(made)


def _ask() -> str:
    from getpass import getpass

    from postroad.outbound.steering import ControlRefused

    if not sys.stdin.isatty():
        raise ControlRefused("Nobody is there to type a password: say --password-stdin to read it from a pipe.")
    try:
        typed, again = getpass("Password: "), getpass("Again: ")
    except EOFError:
        raise ControlRefused("No password was typed.") from None
    if typed != again:
        raise ControlRefused("The two are not the same. Nothing was changed.")
    return typed


def _read() -> str:
    from postroad.outbound.steering import ControlRefused

    try:
        line = sys.stdin.readline(LINE_MAX)
    except UnicodeDecodeError:
        raise ControlRefused("The password on standard input is not UTF-8.") from None
    if not line:
        raise ControlRefused("Standard input is empty: write the password to it.")
    return line.removesuffix("\n").removesuffix("\r")
