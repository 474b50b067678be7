"""The trace field: tests/cases/received, its protocol types, its date, what it costs.

``python -m tests.units.test_mail_received`` writes the expected files anew.
"""

from __future__ import annotations

import datetime
import email.utils
import time

import pytest
from tests.cases.folders import Case, cases, shown, write_back

from postroad.core.address import parse_forward_path
from postroad.core.envelope import Client, Envelope, Recipient
from postroad.core.ids import MessageId, parse_id
from postroad.mail.received import format_date, format_received, protocol_type

ID = MessageId(parse_id("0p4w91z8c0000"))
NOW = 1_795_404_499.7


def trace_of(case: Case) -> bytes:
    given = case.input
    envelope = Envelope(
        None,
        tuple(Recipient(parse_forward_path(address)) for address in given["recipients"]),
        Client(**given["client"]),
        smtputf8=given.get("smtputf8", False),
    )
    hostname = given.get("hostname", "relay.example.org")
    return format_received(envelope, ID, hostname=hostname, now=NOW, reverse_name=given.get("reverse_name", ""))


@pytest.mark.parametrize("case", cases("received"), ids=repr)
def test_the_field_is_the_expected_one(case: Case) -> None:
    assert shown(trace_of(case)) == case.expected()


@pytest.mark.parametrize("case", cases("received"), ids=repr)
def test_it_is_one_field_of_lines_that_fit(case: Case) -> None:
    octets = trace_of(case)
    assert octets.endswith(b"\r\n")
    first, *others = octets[:-2].split(b"\r\n")
    assert first.startswith(b"Received: ")
    assert all(line.startswith(b"\t") for line in others)
    assert all(len(line) <= 998 for line in (first, *others))


def test_the_protocol_types_are_the_registered_ones() -> None:
    """RFC 3848 section 2 and RFC 6531 section 4.3, all of them."""
    made = {
        protocol_type(lmtp=lmtp, extended=True, tls=tls, authenticated=authenticated, smtputf8=smtputf8)
        for lmtp in (False, True)
        for tls in (False, True)
        for authenticated in (False, True)
        for smtputf8 in (False, True)
    }
    ends = ("", "S", "A", "SA")
    assert made == {base + end for base in ("ESMTP", "LMTP", "UTF8SMTP", "UTF8LMTP") for end in ends}
    assert protocol_type(lmtp=False, extended=True, tls=True, authenticated=True, smtputf8=False) == "ESMTPSA"
    assert protocol_type(lmtp=False, extended=False, tls=True, authenticated=False, smtputf8=False) == "SMTP"
    assert protocol_type(lmtp=True, extended=False, tls=False, authenticated=False, smtputf8=False) == "LMTP"


@pytest.mark.parametrize("now", [0.0, 86_399.999, 951_782_400.5, 1_709_164_800.0, NOW, 4_102_444_799.0])
def test_the_date_is_the_one_of_the_library(now: float) -> None:
    written = format_date(now)
    assert email.utils.parsedate_to_datetime(written) == datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    day = datetime.datetime.fromtimestamp(int(now), datetime.UTC).strftime("%a")
    assert written.startswith(f"{day}, ")
    assert written.endswith(" +0000")


def test_what_a_field_costs_is_little() -> None:
    """A few us: it is written for every message. A slow machine gets ten times that before this fails."""
    envelope = Envelope(
        None, (Recipient(parse_forward_path("bob@example.org")),), Client("192.0.2.1", "client.example")
    )
    rounds = 1000
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for count in range(rounds):
            format_received(envelope, ID, hostname="relay.example.org", now=NOW + count / 1e4)
        best = min(best, (time.perf_counter() - began) / rounds)
    assert best < 50e-6


if __name__ == "__main__":
    write_back("received", lambda case: shown(trace_of(case)))
