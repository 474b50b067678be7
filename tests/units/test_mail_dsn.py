"""Delivery reports: tests/cases/dsn as text, each also read by Python's email, and side by side with Postfix's.

``python -m tests.units.test_mail_dsn`` writes the expected files anew. The postfix files are never written: they
are what a real Postfix 3.7.11 reported of the same envelope and the same replies.
"""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest
from tests.cases.folders import Case, cases, shown, write_back

from postroad.core.address import parse_forward_path, parse_mailbox, parse_reverse_path
from postroad.core.envelope import Body, Envelope, Notify, OriginalRecipient, Recipient, Ret
from postroad.core.ids import MessageId, parse_id
from postroad.core.outcome import Deferred, Delivered, Failed, Stage
from postroad.core.reply import Reply
from postroad.mail.dsn import RETURNED_MAX, BuiltReport, Report, build_report
from postroad.mail.dsn_text import Action, Told

MESSAGE = MessageId(parse_id("0p4w91z8c0000"))
REPORT = MessageId(parse_id("0p4w92y0w0000"))
RECEIVED_AT, NOW = 1_795_404_499.0, 1_795_404_530.0


def reply_of(text: str) -> Reply:
    code, _, rest = text.partition(" ")
    if match := re.match(r"[245]\.(\d+)\.(\d+) ?", rest):
        return Reply(int(code), (int(match[1]), int(match[2])), rest[match.end() :])
    return Reply(int(code), None, rest)


def told_of(one: dict[str, Any]) -> Told:
    original = OriginalRecipient(*one["original"]) if "original" in one else None
    recipient = Recipient(parse_forward_path(one["to"]), original=original)
    reply, host, stage = reply_of(one["reply"]), one.get("host", ""), Stage(one.get("stage", "rcpt"))
    attempted_at = NOW - 5.0 if one.get("attempted", True) else None
    outcome: Delivered | Deferred | Failed
    match one["outcome"]:
        case "failed":
            outcome = Failed(reply, host, stage, one.get("expired", False))
        case "delayed":
            outcome = Deferred(reply, NOW + 600.0, host, stage)
        case other:
            outcome = Delivered(reply, host, other == "relayed")
    return Told(recipient, outcome, attempted_at, RECEIVED_AT + 432_000.0)


def report_of(given: dict[str, Any]) -> Report:
    content = given["content"].replace("\n", "\r\n").encode()
    content = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), content)
    told = tuple(told_of(one) for one in given["told"])
    envelope = Envelope(
        parse_reverse_path(given.get("sender", "alice@example.org")),
        tuple(one.recipient for one in told),
        smtputf8=given.get("smtputf8", False),
        ret=Ret(given["ret"]) if "ret" in given else None,
        envelope_id=given.get("envelope_id"),
    )
    return Report(
        envelope=envelope,
        message=MESSAGE,
        received_at=RECEIVED_AT,
        told=told,
        content=content[:RETURNED_MAX],
        size=len(content),
        hostname="relay.example.org",
        now=NOW,
        id=REPORT,
        token="c2VjcmV0dG9rZW4x",
    )


def built(case: Case) -> BuiltReport:
    return build_report(report_of(case.input))


def story_of(case: Case) -> str:
    octets, envelope = built(case)
    parameters = f"BODY={envelope.body.value}{' SMTPUTF8' if envelope.smtputf8 else ''}"
    return f"MAIL FROM:<> {parameters}\nRCPT TO:<{envelope.recipients[0].mailbox}>\n\n{shown(octets)}"


def parts_of(octets: bytes) -> tuple[EmailMessage, list[EmailMessage]]:
    """The report as the library reads it: no defect, three parts."""
    message = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    assert isinstance(message, EmailMessage)
    parts = list(message.iter_parts())
    assert message.defects == []
    assert len(parts) == 3
    return message, parts  # type: ignore[return-value]


def blocks_of(octets: bytes) -> list[dict[str, str]]:
    """The fields for machines, a block for the message and one for each recipient, unfolded."""
    part = re.split(rb"\r\n--[^\r\n]+", octets)[2].partition(b"\r\n\r\n")[2]
    blocks = []
    for block in part.strip().split(b"\r\n\r\n"):
        lines = re.sub(rb"\r\n[ \t]+", b" ", block).decode().split("\r\n")
        blocks.append(dict(line.split(": ", 1) for line in lines))
    return blocks


ALL = cases("dsn")


@pytest.mark.parametrize("case", ALL, ids=repr)
def test_the_report_is_the_expected_one(case: Case) -> None:
    assert story_of(case) == case.expected()


@pytest.mark.parametrize("case", ALL, ids=repr)
def test_the_library_reads_what_we_meant(case: Case) -> None:
    report = report_of(case.input)
    octets = build_report(report).octets
    message, parts = parts_of(octets)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@relay.example.org>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<0p4w92y0w0000@relay.example.org>"
    assert email.utils.parsedate_to_datetime(message["Date"]).timestamp() == NOW
    is_global = report.envelope.smtputf8
    assert parts[0].get_content_type() == "text/plain"
    assert parts[1].get_content_type() == f"message/{'global-' if is_global else ''}delivery-status"
    blocks = blocks_of(octets)
    assert blocks[0]["Reporting-MTA"] == "dns; relay.example.org"
    assert [block["Action"] for block in blocks[1:]] == [one.action.value for one in report.told]
    assert all(re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", block["Status"]) for block in blocks[1:])


BESIDE_POSTFIX = [case for case in ALL if (case.folder / "postfix").exists()]
OURS_BESIDES = {"Last-Attempt-Date", "Final-Log-Id"}


@pytest.mark.parametrize("case", BESIDE_POSTFIX, ids=repr)
def test_the_fields_are_those_of_postfix(case: Case) -> None:
    """Same refusal, same envelope, field by field. Every difference there may be is named here."""
    theirs, ours = blocks_of(postfix_of(case)), blocks_of(built(case).octets)
    assert len(ours) == len(theirs)
    asked = [{}, *case.input["told"]]
    for our, their, one in zip(ours, theirs, asked, strict=True):
        wanted = {name: value for name, value in their.items() if not name.startswith("X-Postfix-")}
        if "original" not in one:
            wanted.pop("Original-Recipient", None)  # they write it without ORCPT too
        assert {name: normal(name, value) for name, value in our.items() if name not in OURS_BESIDES} == {
            name: normal(name, value) for name, value in wanted.items()
        }


@pytest.mark.parametrize("case", BESIDE_POSTFIX, ids=repr)
def test_the_frame_is_that_of_postfix(case: Case) -> None:
    (their, their_parts), (our, our_parts) = parts_of(postfix_of(case)), parts_of(built(case).octets)
    for name in ("From", "Auto-Submitted", "MIME-Version"):
        assert our[name] == their[name]
    assert our["To"].addresses == their["To"].addresses
    assert our.get_content_type() == their.get_content_type()
    assert our.get_param("report-type") == their.get_param("report-type")
    types = [part.get_content_type() for part in their_parts]
    if "ret" not in case.input:
        types[2] = "text/rfc822-headers"  # they return the whole of what failed without being asked
    assert [part.get_content_type() for part in our_parts] == types


def postfix_of(case: Case) -> bytes:
    return (case.folder / "postfix").read_bytes().replace(b"\n", b"\r\n")


def normal(name: str, value: str) -> str:
    """The value without what may differ: dates, the port of a refused connection, whose diagnostic it is."""
    if name.endswith("-Date") or name == "Will-Retry-Until":
        assert email.utils.parsedate_to_datetime(value).utcoffset() is not None
        return "a date"
    kind, _, rest = value.partition(";")
    rest = " ".join(rest.split())
    if kind.lower() in ("x-postroad", "x-postfix"):
        kind, rest = "x-", rest.removeprefix("451 4.4.1 ").replace("127.0.0.1[127.0.0.1]", "127.0.0.1")
    if name == "Remote-MTA":
        rest = rest.strip("[]")  # RFC 3464 section 2.1.2 wants an address in brackets
    return f"{kind}; {rest}" if rest else kind


def test_a_report_never_goes_to_the_null_path() -> None:
    given = dict(ALL[0].input, sender="")
    with pytest.raises(ValueError, match="null path"):
        build_report(report_of(given))


def simple(content: bytes, *, ret: Ret | None = Ret.FULL, smtputf8: bool = False, size: int | None = None) -> Report:
    recipient = Recipient(parse_mailbox("bob@example.net"), Notify.FAILURE)
    return Report(
        envelope=Envelope(parse_mailbox("alice@example.org"), (recipient,), ret=ret, smtputf8=smtputf8),
        message=MESSAGE,
        received_at=RECEIVED_AT,
        told=(Told(recipient, Failed(Reply(550, (1, 1), "No such user"), "mx.example.net", Stage.RCPT)),),
        content=content,
        size=len(content) if size is None else size,
        hostname="relay.example.org",
        now=NOW,
        id=REPORT,
        token="c2VjcmV0dG9rZW4x",
    )


def returned(report: Report) -> tuple[str, bytes]:
    """Type of the third part, and its octets as they are on the wire."""
    octets = build_report(report).octets
    _, parts = parts_of(octets)
    body = re.split(rb"\r\n--=_[^\r\n]+", octets)[3].partition(b"\r\n\r\n")[2]
    return parts[2].get_content_type(), body


HEADER, TEXT = b"From: a@example.org\r\nSubject: x\r\n\r\n", b"Hello.\r\n"


@pytest.mark.parametrize(
    ("content", "ret", "kind", "body"),
    [
        (HEADER + TEXT, Ret.FULL, "message/rfc822", HEADER + TEXT),
        (HEADER + TEXT, Ret.HEADERS, "text/rfc822-headers", HEADER[:-2]),
        (HEADER + TEXT, None, "text/rfc822-headers", HEADER[:-2]),
        (HEADER + b"\0" + TEXT, Ret.FULL, "text/rfc822-headers", HEADER[:-2]),
        (HEADER + b"a\nb\r\n", Ret.FULL, "text/rfc822-headers", HEADER[:-2]),
        (HEADER + b"x" * 999 + b"\r\n", Ret.FULL, "text/rfc822-headers", HEADER[:-2]),
        (HEADER + b"x" * 998, Ret.FULL, "message/rfc822", HEADER + b"x" * 998),
        (b"no header at all\r\n", None, "text/rfc822-headers", b""),
        (b"A: 1\r\nthe body begins\r\nB: 2\r\n", None, "text/rfc822-headers", b"A: 1\r\n"),
        (b"", None, "text/rfc822-headers", b""),
        (b"A: \xff\r\n\r\n", None, "text/rfc822-headers", b"A: =FF\r\n"),
        (b"A: \0\n\r\n\r\n", None, "text/rfc822-headers", b"A: =00=0A\r\n"),
    ],
)
def test_what_goes_back(content: bytes, ret: Ret | None, kind: str, body: bytes) -> None:
    assert returned(simple(content, ret=ret)) == (kind, body)


def test_eight_bits_are_declared() -> None:
    report = build_report(simple(HEADER + "Grüße\r\n".encode()))
    message, parts = parts_of(report.octets)
    assert (message["Content-Transfer-Encoding"], parts[2]["Content-Transfer-Encoding"]) == ("8bit", "8bit")
    assert report.envelope.body is Body.EIGHT_BIT
    report = build_report(simple(HEADER + "Grüße\r\n".encode(), ret=None))
    assert report.octets.isascii()
    assert report.envelope.body is Body.SEVEN_BIT


def test_what_is_too_large_is_not_returned_whole() -> None:
    full = HEADER + b"x" * ((RETURNED_MAX - len(HEADER)) % 3) + b"x\r\n" * ((RETURNED_MAX - len(HEADER)) // 3)
    assert len(full) == RETURNED_MAX
    assert returned(simple(full)) == ("message/rfc822", full)
    assert returned(simple(full, size=RETURNED_MAX + 1)) == ("text/rfc822-headers", HEADER[:-2])
    assert returned(simple(full + b"x\r\n")) == ("text/rfc822-headers", HEADER[:-2])
    header = b"".join(b"X-%d: y\r\n" % count for count in range(20_000))
    _, body = returned(simple(header[:RETURNED_MAX], size=len(header)))
    assert len(body) <= RETURNED_MAX


def test_a_delay_never_returns_the_body() -> None:
    whole = simple(HEADER + TEXT)
    delayed = Told(whole.told[0].recipient, Deferred(Reply(450, (2, 0), "later"), NOW, "mx.example.net", Stage.RCPT))
    report = Report(
        **{name: getattr(whole, name) for name in whole.__struct_fields__ if name != "told"}, told=(delayed,)
    )
    assert returned(report) == ("text/rfc822-headers", HEADER[:-2])


def test_a_boundary_in_the_content_is_not_the_boundary() -> None:
    first = build_report(simple(HEADER + TEXT))
    found = re.search(rb'boundary="([^"]+)"', first.octets)
    assert found
    hostile = HEADER + b"--" + found[1] + b"--\r\n\r\n--" + found[1] + b".\r\nContent-Type: text/html\r\n\r\nevil\r\n"
    octets = build_report(simple(hostile)).octets
    _, parts = parts_of(octets)
    assert parts[2].get_content_type() == "message/rfc822"
    found = re.search(rb'boundary="([^"]+)"', octets)
    assert found
    assert octets.count(b"\r\n--" + found[1]) == 4
    assert (
        octets.partition(b"Undelivered message")[2].partition(b"\r\n\r\n")[2]
        == hostile + b"\r\n--" + found[1] + b"--\r\n"
    )


@pytest.mark.parametrize(
    ("outcome", "action", "status"),
    [
        (Failed(Reply(550, None, "no")), Action.FAILED, "5.0.0"),
        (Failed(Reply(450, (7, 1), "no"), expired=True), Action.FAILED, "4.7.1"),
        (Deferred(Reply(550, (7, 1), "no"), 0.0), Action.DELAYED, "4.7.1"),
        (Delivered(Reply(250, None, "ok")), Action.DELIVERED, "2.0.0"),
        (Delivered(Reply(250, (1, 5), "ok"), relayed=True), Action.RELAYED, "2.1.5"),
    ],
)
def test_the_status_fits_the_action(outcome: Delivered | Deferred | Failed, action: Action, status: str) -> None:
    whole = simple(HEADER)
    told = Told(whole.told[0].recipient, outcome)
    report = Report(**{name: getattr(whole, name) for name in whole.__struct_fields__ if name != "told"}, told=(told,))
    block = blocks_of(build_report(report).octets)[1]
    assert (block["Action"], block["Status"]) == (action.value, status)


if __name__ == "__main__":
    write_back("dsn", story_of)
