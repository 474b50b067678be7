"""What each command line becomes, field by field; the replies to bad ones are in tests/dialogs."""

from __future__ import annotations

import pytest

from postroad.core import reply
from postroad.core.address import NULL_PATH, Mailbox
from postroad.core.envelope import Body, Notify, OriginalRecipient, Recipient, Ret
from postroad.smtp.commands import ChunkStart, LastChunkStart, Terms, parse_command, parse_response
from postroad.smtp.errors import PeerError
from postroad.smtp.events import (
    Auth,
    AuthResponse,
    DataStart,
    Event,
    Expand,
    Hello,
    HelloVerb,
    Help,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Refused,
    Reset,
    StartTls,
    Verify,
)
from postroad.smtp.extensions import Offer

TERMS = Terms(Offer(size_max=1000, auth=("PLAIN", "SCRAM-SHA-256")))
UTF8_TERMS = Terms(TERMS.offer, smtputf8=True)
A, B = Mailbox("a", "x.example"), Mailbox("b", "y.example")


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"EHLO client.example", Hello("client.example", HelloVerb.EHLO)),
        (b"ehlo [IPv6:::1]", Hello("[IPv6:::1]", HelloVerb.EHLO)),
        (b"HELO x", Hello("x", HelloVerb.HELO)),
        (b"LHLO x ", Hello("x", HelloVerb.LHLO)),
        (b"DATA", DataStart()),
        (b"data  ", DataStart()),
        (b"RSET", Reset()),
        (b"NOOP", Noop()),
        (b"noop noop", Noop()),
        (b"QUIT", Quit()),
        (b"VRFY  Some One ", Verify("Some One")),
        (b"EXPN l\xc3\xbcst", Expand("lüst")),
        (b"HELP", Help()),
        (b"HELP RCPT", Help("RCPT")),
        (b"StartTLS", StartTls()),
        (b"BDAT 5", ChunkStart(5)),
        (b"bdat 0 last", LastChunkStart(0)),
        (b"BDAT 007  LAST ", LastChunkStart(7)),
        (b"AUTH PLAIN", Auth("PLAIN")),
        (b"auth scram-sha-256 =", Auth("SCRAM-SHA-256", b"")),
        (b"AUTH PLAIN AGEAYg==", Auth("PLAIN", b"\0a\0b")),
    ],
)
def test_commands(line: bytes, event: Event) -> None:
    assert parse_command(line, TERMS) == event


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"MAIL FROM:<>", MailFrom(NULL_PATH)),
        (b"MAIL FROM:<a@X.Example>", MailFrom(A)),
        (b"mail from:<a@x.example> size=7", MailFrom(A, size=7)),
        (b"MAIL FROM:<a@x.example> BODY=8BITMIME", MailFrom(A, Body.EIGHT_BIT)),
        (b"MAIL FROM:<a@x.example> SIZE=1000 BODY=8BITMIME", MailFrom(A, Body.EIGHT_BIT, size=1000)),
        (b"MAIL FROM:<a@x.example> BODY=8bitmime SIZE=00007", MailFrom(A, Body.EIGHT_BIT, size=7)),
        (b"MAIL FROM:<a@x.example> BODY=7BIT", MailFrom(A, Body.SEVEN_BIT)),
        (b"MAIL FROM:<a@x.example> BODY=BinaryMime", MailFrom(A, Body.BINARY)),
        (b"MAIL FROM:<a@x.example> RET=HDRS ENVID=QQ+2B314+20x", MailFrom(A, ret=Ret.HEADERS, envelope_id="QQ+314 x")),
        (b"MAIL FROM:<a@x.example> AUTH=<> RET=full", MailFrom(A, ret=Ret.FULL)),
        (b"MAIL FROM:<\xc3\xbc@x.example> SMTPUTF8", MailFrom(Mailbox("ü", "x.example"), smtputf8=True)),
        (b"MAIL FROM:<@r.example:a@x.example>", MailFrom(A)),
        (b'MAIL FROM:<"a b>"@x.example> SIZE=1', MailFrom(Mailbox("a b>", "x.example"), size=1)),
    ],
)
def test_mail(line: bytes, event: Event) -> None:
    assert parse_command(line, TERMS) == event


def original(address_type: str, address: str, notify: int = 0) -> RcptTo:
    return RcptTo(Recipient(B, notify, OriginalRecipient(address_type, address)))


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"RCPT TO:<b@y.example>", RcptTo(Recipient(B))),
        (b"rcpt to: <b@y.example> ", RcptTo(Recipient(B))),
        (b"RCPT TO:<Postmaster>", RcptTo(Recipient(Mailbox("Postmaster", "")))),
        (b"RCPT TO:<b@y.example> NOTIFY=NEVER", RcptTo(Recipient(B, Notify.NEVER))),
        (b"RCPT TO:<b@y.example> NOTIFY=failure,DELAY", RcptTo(Recipient(B, Notify.FAILURE | Notify.DELAY))),
        (b"RCPT TO:<b@y.example> ORCPT=rfc822;B+40Y.example", original("rfc822", "B@Y.example")),
        (b"RCPT TO:<b@y.example> ORCPT=X400;/c+3Dx/", original("X400", "/c=x/")),
        (b"RCPT TO:<b@y.example> NOTIFY=SUCCESS ORCPT=rfc822;a+20b", original("rfc822", "a b", Notify.SUCCESS)),
        (b"RCPT TO:<b@y.example> ORCPT=utf-8;j\\x{FC}rgen\\x{2B}a@x", original("utf-8", "jürgen+a@x")),
        (b"RCPT TO:<b@y.example> ORCPT=UTF-8;j\xc3\xbcrgen\\x{1F600}", original("UTF-8", "jürgen\U0001f600")),
        (b"RCPT TO:<b@y.example> ORCPT=rfc822;+C3+A9lise@x", original("utf-8", "\u00e9lise@x")),
        (b"RCPT TO:<b@y.example> ORCPT=rfc822;a+2Bb@x", original("rfc822", "a+b@x")),
        (b"RCPT TO:<\xc3\xbc@y.example>", RcptTo(Recipient(Mailbox("ü", "y.example")))),
    ],
)
def test_rcpt(line: bytes, event: Event) -> None:
    assert parse_command(line, UTF8_TERMS) == event


@pytest.mark.parametrize(
    "line",
    [
        b"RCPT TO:<b@y.example> ORCPT=rfc822;+C3lise@x",
        b"RCPT TO:<b@y.example> ORCPT=rfc822;+C2+85X@x",
        b"RCPT TO:<b@y.example> ORCPT=rfc822;a+0D+0Ab@x",
    ],
)
def test_an_original_recipient_that_is_no_printable_utf8(line: bytes) -> None:
    event = parse_command(line, UTF8_TERMS)
    assert isinstance(event, Refused)
    assert event.reply.code == 501


def test_a_refusal_names_the_command_it_was() -> None:
    assert parse_command(b"MAIL FROM:x", TERMS) == Refused(reply.BAD_SYNTAX, "MAIL")
    assert parse_command(b"XYZZY", TERMS) == Refused(reply.UNKNOWN_COMMAND, "")
    assert parse_command(b"RCPT TO:<a\0b@c>", TERMS) == Refused(reply.NUL_IN_COMMAND, "RCPT")


def test_what_cannot_be_counted_closes() -> None:
    with pytest.raises(PeerError) as caught:
        parse_command(b"BDAT many", TERMS)
    assert caught.value.reply == reply.BAD_CHUNK_SIZE


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"", AuthResponse(b"")),
        (b"*", AuthResponse(None)),
        (b"AGEAYg==", AuthResponse(b"\0a\0b")),
        (b"AGEAYg", Refused(reply.BAD_BASE64, "AUTH")),
        (b"AGEA Yg==", Refused(reply.BAD_BASE64, "AUTH")),
        (b"AGEAYg==AGEAYg==", Refused(reply.BAD_BASE64, "AUTH")),
        (b"=AAA", Refused(reply.BAD_BASE64, "AUTH")),
        (b"\xff\0", Refused(reply.BAD_BASE64, "AUTH")),
    ],
)
def test_responses(line: bytes, event: Event) -> None:
    assert parse_response(line) == event
