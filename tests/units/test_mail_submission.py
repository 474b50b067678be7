"""What submission mends, octet for octet: tests/cases/submission.

``python -m tests.units.test_mail_submission`` writes the expected files anew.
"""

from __future__ import annotations

import re

import pytest
from tests.cases.folders import Case, cases, shown, write_back

from postroad.core.ids import MessageId, parse_id
from postroad.mail.headers import HEADER_MAX
from postroad.mail.submission import HeaderTooLong, mend

ID = MessageId(parse_id("0p4w91z8c0000"))
NOW = 1_795_404_499.7


def mended(octets: bytes) -> bytes:
    return mend(octets, ID, hostname="relay.example.org", now=NOW)


def given(case: Case) -> bytes:
    text: str = case.input["content"].replace("\n", "\r\n")
    # \xNN in the file is one octet.
    octets = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return octets.removesuffix(b"\r\n") if case.input.get("cut") else octets


@pytest.mark.parametrize("case", cases("submission"), ids=repr)
def test_the_message_is_the_expected_one(case: Case) -> None:
    assert shown(mended(given(case))) == case.expected()


@pytest.mark.parametrize("case", cases("submission"), ids=repr)
def test_mending_twice_changes_nothing_more(case: Case) -> None:
    once = mended(given(case))
    assert mended(once) == once


def test_a_whole_message_is_given_back_itself() -> None:
    """No copy of what needs no mending."""
    octets = b"Date: x\r\nMessage-ID: <y>\r\nFrom: a@example.org\r\n\r\nBcc: in the body\r\n"
    assert mended(octets) is octets


def test_a_header_without_end_is_refused_since_blind_copies_could_stand_behind() -> None:
    start = b"From: a@example.org\r\nBcc: b@example.org"
    folded = start + b",\r\n c@example.org" * (HEADER_MAX // 17)
    assert len(folded) > HEADER_MAX
    with pytest.raises(HeaderTooLong):
        mended(folded)
    assert b"example.org,\r\n" not in mended(folded[: HEADER_MAX - 10])
    assert mended(folded[: HEADER_MAX - 100] + b"\r\n\r\n" + folded).endswith(b"example.org\r\n\r\n" + folded)


def test_the_header_alone_may_be_given() -> None:
    whole = b"From: a@example.org\r\nBcc: b@example.org\r\n\r\n" + bytes(range(256)) * 10
    end = whole.index(b"\r\n\r\n") + 4
    assert mended(whole[:end]) + whole[end:] == mended(whole)


if __name__ == "__main__":
    write_back("submission", lambda case: shown(mended(given(case))))
