"""What is made of a next hop's replies and offers, the bounds on them, and the bounds on what we say at once."""

from __future__ import annotations

import pytest

from postroad.core.address import Mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.reply import LINES_MAX, Reply
from postroad.core.units import KIB
from postroad.smtp.client import Answer, ClientConnection, Command
from postroad.smtp.client_fit import Fit, Traits, fit
from postroad.smtp.client_transaction import FLIGHT_OCTETS_MAX, FLIGHT_RECIPIENTS_MAX, Transaction
from postroad.smtp.errors import DriverError, PeerError
from postroad.smtp.extensions import Protocol
from postroad.smtp.offers import MECHANISMS_MAX, Offers, parse_offers
from postroad.smtp.replies import REPLY_LINE_MAX, REPLY_OCTETS_MAX, ReplyReader


def read(octets: bytes) -> list[Reply]:
    reader, replies = ReplyReader(), []
    reader.feed(octets)
    while reply := reader.next_reply():
        replies.append(reply)
    return replies


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"250 2.1.5 Ok\r\n", Reply(250, (1, 5), "Ok")),
        (b"250 2.1.5\r\n", Reply(250, (1, 5), "")),
        (b"250 2.1.567 Ok\r\n", Reply(250, (1, 567), "Ok")),
        (b"250 2.1.5678 Ok\r\n", Reply(250, None, "2.1.5678 Ok")),
        (b"550 2.1.5 No\r\n", Reply(550, None, "2.1.5 No")),
        (b"250-2.1.5 One\r\n250 2.1.5 Two\r\n", Reply(250, (1, 5), "One\nTwo")),
        (b"250-One\r\n250-2.1.5 Two\r\n250 2.1.5 Three\r\n", Reply(250, None, "One\n2.1.5 Two\n2.1.5 Three")),
        (b"550-5.1.1 One\r\n550 Two\r\n", Reply(550, (1, 1), "One\nTwo")),
        (b"550-2.1.1 One\r\n550 2.1.1 Two\r\n", Reply(550, None, "2.1.1 One\n2.1.1 Two")),
        (b"250 caf\xc3\xa9\r\n", Reply(250, None, "café")),
        (b"250 \xff\x1b[2J\x7f\xc2\x85\xe2\x80\xa8x\r\n", Reply(250, None, "\ufffd?[2J???x")),
        (b"299 x\r\n", Reply(299, None, "x")),
    ],
)
def test_a_reply(octets: bytes, expected: Reply) -> None:
    assert read(octets) == [expected]


def test_a_long_line_is_cut() -> None:
    [reply] = read(b"250-short\r\n250 " + b"x" * 5000 + b"\r\n")
    assert reply.text == "short\n" + "x" * REPLY_LINE_MAX


def test_many_lines_are_read_and_dropped() -> None:
    replies = read(b"250-x\r\n" * (LINES_MAX + 50) + b"250 end\r\n220 next\r\n")
    assert [reply.text.count("\n") + 1 for reply in replies] == [LINES_MAX, 1]


@pytest.mark.parametrize("unit", [b"250-" + b"x" * 994 + b"\r\n", b"x" * 1000])
def test_a_reply_without_end_is_given_up(unit: bytes) -> None:
    reader, fed = ReplyReader(), 4
    reader.feed(b"250-")
    while fed + len(unit) <= REPLY_OCTETS_MAX:
        reader.feed(unit)
        fed += len(unit)
        assert reader.next_reply() is None
    reader.feed(unit)
    with pytest.raises(PeerError, match="more than 32768 octets"):
        reader.next_reply()


def test_the_bound_is_of_one_reply() -> None:
    line = b"250-" + b"x" * 1000 + b"\r\n"
    assert len(read((line * 30 + b"250 end\r\n") * 3)) == 3


@pytest.mark.parametrize("octets", [b"250-half\r\n", b"2", b"250-half\r\n250-more\r\n"])
def test_half_a_reply_is_held(octets: bytes) -> None:
    reader = ReplyReader()
    reader.feed(octets)
    assert reader.next_reply() is None
    assert reader.holds_octets
    reader.feed(b"250 end\r\n" if len(octets) > 1 else b"50 end\r\n")
    assert reader.next_reply()
    assert not reader.holds_octets


EHLO = """mx.example.net at your service
PIPELINING
SIZE 52428800
8bitmime
SMTPUTF8
STARTTLS
DSN
CHUNKING
BINARYMIME
ENHANCEDSTATUSCODES
X-UNHEARD-OF
AUTH=LOGIN
AUTH plain login"""


def test_offers() -> None:
    assert parse_offers(Reply(250, None, EHLO), is_extended=True) == Offers(
        name="mx.example.net",
        is_extended=True,
        pipelining=True,
        size=True,
        size_max=52_428_800,
        eight_bit=True,
        smtputf8=True,
        dsn=True,
        chunking=True,
        binary=True,
        starttls=True,
        mechanisms=("LOGIN",),  # the first line counts
    )


@pytest.mark.parametrize("value", ["", " 0", " x", " -1", " 9" * 3, " " + "9" * 30, " ٣"])
def test_a_size_that_is_none(value: str) -> None:
    offers = parse_offers(Reply(250, None, f"mx\nSIZE{value}"), is_extended=True)
    assert (offers.size, offers.size_max) == (True, 0)


def test_what_is_offered_is_bounded_and_helo_offers_nothing() -> None:
    many = parse_offers(Reply(250, None, "mx\nAUTH " + "x " * 1000), is_extended=True)
    assert len(many.mechanisms) == MECHANISMS_MAX
    assert not parse_offers(Reply(250, None, "mx\nBINARYMIME"), is_extended=True).binary
    assert parse_offers(Reply(250, None, EHLO), is_extended=False) == Offers(name="mx.example.net")
    assert parse_offers(Reply(250, None, ""), is_extended=True) == Offers(is_extended=True)


# --- flights ------------------------------------------------------------------------------------------------


def ready(*offers: bytes, protocol: Protocol = Protocol.SMTP) -> ClientConnection:
    connection = ClientConnection(protocol)
    connection.receive_data(b"220 mx\r\n")
    connection.next_event()
    connection.send(Command.EHLO if protocol is Protocol.SMTP else Command.LHLO, "EHLO c")
    connection.receive_data(b"250-mx\r\n" + b"".join(b"250-%b\r\n" % offer for offer in offers) + b"250 X\r\n")
    connection.next_event()
    return connection


def answer(transaction: Transaction, connection: ClientConnection, octets: bytes) -> None:
    connection.receive_data(octets)
    while connection.in_flight and isinstance(event := connection.next_event(), Answer):
        transaction.hear(event)


def envelope_to(count: int, local_part: str = "b{}") -> Envelope:
    return Envelope(None, tuple(Recipient(Mailbox(local_part.format(i), "b.example")) for i in range(count)))


@pytest.mark.parametrize(
    ("local_part", "most"),
    [("b{}", FLIGHT_RECIPIENTS_MAX), ("é" * 300 + "{}", FLIGHT_OCTETS_MAX // 620 + 1)],
    ids=["by number", "by octets"],
)
def test_a_flight_is_bounded(local_part: str, most: int) -> None:
    count = 250
    connection = ready(b"PIPELINING", b"SMTPUTF8")
    transaction = Transaction(connection, envelope_to(count, local_part), range(count), size=9, fit=Fit({}, utf8=True))
    flights = []
    while not transaction.wants_content:
        flights.append(transaction.take_octets())
        recipients = flights[-1].count(b"RCPT")
        assert 0 < recipients <= most
        assert len(flights[-1]) < FLIGHT_OCTETS_MAX + 1000
        assert flights[-1].startswith(b"MAIL") is (len(flights) == 1)
        ends = flights[-1].endswith(b"DATA\r\n")
        assert transaction.take_octets() == b""  # nothing more before the answers
        answer(transaction, connection, b"250 Ok\r\n" * (connection.in_flight - ends) + b"354 Go\r\n" * ends)
    assert sum(flight.count(b"RCPT") for flight in flights) == count
    assert [b"DATA" in flight for flight in flights] == [False] * (len(flights) - 1) + [True]


def test_after_a_refused_sender_no_further_flight() -> None:
    connection = ready(b"PIPELINING")
    transaction = Transaction(connection, envelope_to(250), range(250), size=9, fit=Fit({}))
    transaction.take_octets()
    answer(transaction, connection, b"550 5.7.1 No\r\n" + b"503 5.5.1 Bad\r\n" * (connection.in_flight - 1))
    assert transaction.is_over
    assert {result.reply.code for result in transaction.results.values()} == {550}
    assert len(transaction.results) == 250


@pytest.mark.parametrize("size", [64 * KIB, 64 * KIB + 1])
@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_large_chunk_waits_until_somebody_is_taken(size: int, protocol: Protocol) -> None:
    connection = ready(b"PIPELINING", b"CHUNKING", protocol=protocol)
    content = b"x" * size
    fitted = fit(envelope_to(2), range(2), connection.offers, size, Traits(final_crlf=False))
    transaction = Transaction(connection, envelope_to(2), range(2), size=size, fit=fitted, chunk=content)
    flight = transaction.take_octets()
    assert flight.endswith(content) is (size <= 64 * KIB)
    assert b"DATA" not in flight
    answer(transaction, connection, b"250 Ok\r\n" * 3)
    if size > 64 * KIB:
        assert transaction.take_octets() == b"BDAT %d LAST\r\n" % size
        assert transaction.wants_content
        assert transaction.by_chunk
        transaction.content_sent()
    replies = 2 if protocol is Protocol.LMTP else 1
    assert connection.in_flight == replies
    answer(transaction, connection, b"250 2.0.0 Kept\r\n" * replies)
    assert transaction.is_over
    assert transaction.has_delivered
    assert connection.is_ready


def test_a_large_chunk_goes_to_nobody_if_nobody_is_taken() -> None:
    connection = ready(b"PIPELINING", b"CHUNKING")
    transaction = Transaction(connection, envelope_to(1), range(1), size=10, fit=Fit({}, by_chunk=True))
    transaction.take_octets()
    answer(transaction, connection, b"250 Ok\r\n550 5.1.1 No\r\n")
    assert transaction.take_octets() == b""
    assert transaction.is_over


def test_wrong_orders_are_our_own_fault() -> None:
    with pytest.raises(DriverError):
        Transaction(ready(), envelope_to(1), (), size=9, fit=Fit({}))
    with pytest.raises(DriverError):  # BDAT would promise other octets than come
        Transaction(ready(), envelope_to(1), (0,), size=9, fit=Fit({}, by_chunk=True), chunk=b"8 octets")
    with pytest.raises(DriverError):
        ready().content_sent()
    with pytest.raises(DriverError):
        ready().expect_more(1)
    with pytest.raises(DriverError):
        ready().tls_started()
