"""Addresses as people and programs write them for sendmail(8): ``root``, ``Name <a@b>``, lists with commas.

Owns: taking lists apart, adding the domain to a bare name, that nothing gets into a command that is no address, the
calling user's own address. Does not own: whether an address is right (the relay says so), fields of the header
(sendmail_message.py). Does without core/address.py, which takes a tenth of a second to load.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence
from email.utils import formataddr, getaddresses
from typing import Final

RECIPIENTS_MAX: Final = 10_000
"""Of one message."""
ADDRESS_MAX: Final = 320
"""Characters: a local-part of 64, an at sign, a domain of 255. RFC 5321 section 4.5.3.1."""
NAME_MAX: Final = 200
"""Characters of a full name."""
_ATOMS: Final = r'[^\x00-\x20"(),:;<>@\[\\\]\x7f-\xa0\ud800-\udfff]+'
_QUOTED: Final = r'"(?:[^\x00-\x1f"\\\x7f-\x9f\ud800-\udfff]|\\[\x20-\x7e])*"'
_DOMAIN: Final = r"(?:[^\x00-\x2c/:-@\[-`{-\xa0\ud800-\udfff]+|\[[0-9A-Za-z:.-]+\])"
_ADDRESS: Final = re.compile(rf"({_ATOMS}|{_QUOTED})(?:@({_DOMAIN}))?")


class AddressTrouble(Exception):
    """Not an address: exit status 65. The text is a sentence."""


class NoUser(Exception):
    """Nobody knows who calls: exit status 67. The text is a sentence."""


def parse_recipients(texts: Sequence[str], origin: str) -> list[str]:
    """Return the addresses in the lists, each once, in order. Raises AddressTrouble."""
    found: dict[str, None] = {}
    for text in texts:
        for _, address in getaddresses([text]):
            if address:
                found[complete(address, origin)] = None
            elif text.strip(" ,;\t") and not text.strip().endswith(";"):  # "undisclosed-recipients:;" names nobody
                raise AddressTrouble(f"{_shown(text)} is not an address.")
    if len(found) > RECIPIENTS_MAX:
        raise AddressTrouble(f"{len(found)} recipients are too many: at most {RECIPIENTS_MAX}.")
    return list(found)


def parse_sender(text: str, origin: str) -> str:
    """Return the address of ``-f``; empty for the null sender. Raises AddressTrouble."""
    if text.strip() in ("", "<>"):
        return ""
    found = [address for _, address in getaddresses([text]) if address]
    if len(found) != 1:
        raise AddressTrouble(f"{_shown(text)} is not one address.")
    return complete(found[0], origin)


def complete(address: str, origin: str) -> str:
    """Return the address with ``origin`` where it has no domain, and A-labels where it has U-labels.

    Raises:
        AddressTrouble: it is not an address.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or len(address) > ADDRESS_MAX:
        raise AddressTrouble(f"{_shown(address)} is not an address.")
    domain = match[2] or origin
    if not domain.isascii():
        from postroad.core.address import AddressError, to_ascii

        try:
            domain = to_ascii(domain)
        except AddressError as error:
            raise AddressTrouble(f"{error}.") from error
    return f"{match[1]}@{domain}"


def calling_user() -> tuple[str, str]:
    """Return the login name and the full name (GECOS) of who calls. Raises NoUser."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        raise NoUser(f"User id {os.getuid()} has no name on this machine: say who sends, by -f.") from None
    full_name = entry.pw_gecos.split(",")[0].replace("&", entry.pw_name.capitalize())
    return entry.pw_name, full_name


def from_field(address: str, full_name: str) -> str:
    """Return the value of a From field."""
    name = "".join(letter for letter in full_name if letter.isprintable()).strip()[:NAME_MAX]
    if not name.isascii():
        from email.header import Header

        return f"{Header(name.encode('utf-8', 'replace').decode(), 'utf-8').encode(linesep='')} <{address}>"
    return formataddr((name, address)) if name and address.isascii() else address


def _shown(text: str) -> str:
    return f'"{text[:60].encode("unicode_escape").decode()}"'
