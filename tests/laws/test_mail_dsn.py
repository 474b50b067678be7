"""Laws of reports: whatever the message, the addresses and the replies hold, the report is a sound one."""

from __future__ import annotations

import email
import email.policy
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.core.address import Mailbox
from postroad.core.envelope import Body, Client, Envelope, OriginalRecipient, Recipient, Ret
from postroad.core.ids import MessageId
from postroad.core.outcome import Deferred, Delivered, Failed, Stage
from postroad.core.reply import Reply
from postroad.mail.dsn import RETURNED_MAX, Report, build_report
from postroad.mail.dsn_text import Told, clean, fold
from postroad.mail.received import format_received

TOKEN = "c2VjcmV0dG9rZW4x"
WORDS = [
    b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"\0", b"\xff", b" ", b"\r\n ", b"Subject: x\r\n", b"Message-ID: <a@b>\r\n",
    b"--=_" + TOKEN.encode(), b"--=_" + TOKEN.encode() + b"--\r\n", b"=_" + TOKEN.encode() + b".", b"x" * 999,
    b"Content-Type: multipart/mixed; boundary=a\r\n", b"\xc3\xbc", b".\r\n", b"From x\r\n", b": y\r\n",
]  # fmt: skip
contents = st.lists(st.sampled_from(WORDS) | st.binary(max_size=5), max_size=20).map(b"".join)
texts = st.lists(
    st.sampled_from(
        ["\r\n", "\n", "\r", "\0", "\u202e", "ü", "\ud800", " ", "\t", "a" * 1200, f"--=_{TOKEN}--", "X: y"]
    )
    | st.text(max_size=5),
    max_size=6,
).map("".join)
domains = st.sampled_from(["example.net", "bücher.example", "[192.0.2.1]", "xn--bcher-kva.example"])
printable = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
mailboxes = st.builds(Mailbox, st.sampled_from(["bob", "pelé", 'a"> b', "\\", "x" * 60]) | printable, domains)
replies = st.builds(
    Reply, st.integers(200, 599), st.none() | st.tuples(st.integers(0, 999), st.integers(0, 999)), texts
)
hosts = st.sampled_from(["", "mx.example.net", "192.0.2.1", "2001:db8::1"]) | texts
stages = st.sampled_from(Stage)
outcomes = (
    st.builds(Delivered, replies, hosts, st.booleans())
    | st.builds(Deferred, replies, st.just(0.0), hosts, stages)
    | st.builds(Failed, replies, hosts, stages, st.booleans())
)
recipients = st.builds(Recipient, mailboxes, original=st.none() | st.builds(OriginalRecipient, texts, texts))
told = st.builds(Told, recipients, outcomes, st.none() | st.just(1e9), st.none() | st.just(2e9))
reports = st.builds(
    Report,
    envelope=st.builds(
        Envelope,
        mailboxes,
        st.just(()),
        smtputf8=st.booleans(),
        ret=st.none() | st.sampled_from(Ret),
        envelope_id=st.none() | texts,
    ),
    message=st.just(MessageId(1 << 40)),
    received_at=st.just(1e9),
    told=st.lists(told, min_size=1, max_size=4).map(tuple),
    content=contents,
    size=st.sampled_from([0, 100, RETURNED_MAX, 10**9]),
    hostname=st.just("relay.example.org"),
    now=st.just(1e9),
    id=st.just(MessageId(2 << 40)),
    token=st.just(TOKEN),
)


@settings(max_examples=400, deadline=None)
@given(reports, st.booleans())
def test_a_report_is_sound_whatever_is_reported(report: Report, is_whole: bool) -> None:
    if is_whole:
        report = Report(
            **{name: getattr(report, name) for name in report.__struct_fields__ if name != "size"},
            size=len(report.content),
        )
    octets, envelope = build_report(report)
    plain = octets.replace(b"\r\n", b"")
    assert not re.search(rb"[\r\n\0]", plain)
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert octets.endswith(b"--\r\n")
    assert (envelope.sender, envelope.ret, envelope.recipients[0].notify) == (None, None, 0)
    if envelope.body is Body.SEVEN_BIT:
        assert octets.isascii()
    top = octets.partition(b"\r\n\r\n")[0]
    assert top.isascii() or envelope.smtputf8
    boundary = re.search(rb'boundary="([^"]{1,70})"', top)
    assert boundary
    assert octets.count(b"\r\n--" + boundary[1]) == 4
    for part in octets.split(b"\r\n--" + boundary[1])[1:4]:
        head, _, body = part.partition(b"\r\n\r\n")
        encoding = re.search(rb"Content-Transfer-Encoding: (\S+)", head)
        assert encoding
        assert head.isascii()
        assert body.isascii() or encoding[1] == b"8bit"
    message = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    assert message.defects == []
    assert len(list(message.iter_parts())) == 3
    machine = octets.split(b"\r\n--" + boundary[1])[2].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    blocks = machine.split(b"\r\n\r\n")
    assert len(blocks) == 1 + len(report.told)
    assert all(re.match(rb"[A-Z][A-Za-z-]+: \S|[ \t]+\S", line) for block in blocks for line in block.split(b"\r\n"))
    assert [block.count(b"\r\nAction: ") for block in blocks[1:]] == [1] * len(report.told)


@settings(max_examples=300, deadline=None)
@given(texts, st.booleans())
def test_text_is_folded_into_lines_that_can_do_no_harm(text: str, is_ascii: bool) -> None:
    line = clean(text, is_ascii=is_ascii)
    assert line.isprintable()
    assert line.isascii() or not is_ascii
    folded = fold(line, first="Name: ", indent=" ")
    assert folded[0].startswith("Name:")
    assert all(other.startswith(" ") and other.strip() for other in folded[1:])
    assert "".join(folded).replace(" ", "") == ("Name: " + line).replace(" ", "")


names = st.text(max_size=30) | texts | st.sampled_from(["mx.example.net", "[192.0.2.1]", "a b", "evil)", "(", "\\"])


@settings(max_examples=300, deadline=None)
@given(
    names,
    names,
    st.sampled_from(["192.0.2.1", "2001:db8::1", "unix", "local"]),
    st.lists(mailboxes, min_size=1, max_size=2),
    st.booleans(),
)
def test_the_trace_field_is_one_field_whatever_is_said(hello, reverse_name, address, to, smtputf8):  # type: ignore[no-untyped-def]
    envelope = Envelope(None, tuple(map(Recipient, to)), Client(address, hello), smtputf8=smtputf8)
    octets = format_received(
        envelope, MessageId(1 << 40), hostname="relay.example.org", now=1e9, reverse_name=reverse_name
    )
    lines = octets.removesuffix(b"\r\n").split(b"\r\n")
    assert lines[0].startswith(b"Received: ")
    assert all(line.startswith(b"\t") for line in lines[1:])
    assert all(len(line) <= 998 for line in lines)
    assert b"\r" not in b"".join(lines)
    assert b"\n" not in b"".join(lines)
    assert lines[-1] == b"\tSun, 9 Sep 2001 01:46:40 +0000"
    assert octets.isascii() or smtputf8
    # Comments are balanced: what was said closed none.
    without_pairs = re.sub(rb"\\.", b"", octets.partition(b" for <")[0])
    assert without_pairs.count(b"(") == without_pairs.count(b")")
    assert b"relay.example.org (Postroad)" in octets
