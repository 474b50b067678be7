"""SASLprep: names and passwords in the one form in which they are compared.

Owns: RFC 4013, a profile of stringprep (RFC 3454). Does not own: lengths (smtp/sasl.py), whom a name means (access).

Both the one who keeps a password and the one who checks it must call this. RFC 8265 is its successor, but RFC 5802
section 5.1 and RFC 4616 section 2 ask for SASLprep, and both sides of an exchange have to prepare alike.
"""

from __future__ import annotations

import re
import stringprep as tables
from typing import Final
from unicodedata import ucd_3_2_0

_PLAIN: Final = re.compile(r"[ -~]+")
"""What preparation leaves as it is."""
_PROHIBITED: Final = (  # RFC 4013 section 2.3
    tables.in_table_c12,
    tables.in_table_c21_c22,
    tables.in_table_c3,
    tables.in_table_c4,
    tables.in_table_c5,
    tables.in_table_c6,
    tables.in_table_c7,
    tables.in_table_c8,
    tables.in_table_c9,
)


class NotPrepared(ValueError):
    """The string cannot be prepared, or nothing is left of it. The text says why and never quotes it."""


def prepare(text: str) -> str:
    """Return ``text`` as it is compared, RFC 4013 section 2.

    Code points that Unicode 3.2 did not know pass, also in what is kept. RFC 3454 section 7 forbids them there, since
    another version of Unicode could normalise them in another way; here it is that version for ever, and people
    do put such characters into passwords.

    Raises:
        NotPrepared: it holds what is prohibited, mixes directions, or is empty.
    """
    if _PLAIN.fullmatch(text):
        return text
    mapped = "".join(" " if tables.in_table_c12(one) else one for one in text if not tables.in_table_b1(one))
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared:
        raise NotPrepared("it is empty")
    if any(is_in(one) for one in prepared for is_in in _PROHIBITED):
        raise NotPrepared("it holds a character that no name or password may hold (RFC 4013 section 2.3)")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """RFC 3454 section 6: what runs from right to left begins and ends so, and holds nothing of the other kind."""
    if not any(map(tables.in_table_d1, text)):
        return
    if any(map(tables.in_table_d2, text)) or not (tables.in_table_d1(text[0]) and tables.in_table_d1(text[-1])):
        raise NotPrepared("it mixes directions of writing (RFC 4013 section 2.4)")
