"""Laws of the client's side: against our own server, and against next hops that say anything at all.

1. What a server of ours keeps is what the client was given, whatever the content, the offers, and the cuts.
2. However a next hop's octets arrive, the same is said and the same comes of it.
3. Whatever a next hop says, the engine raises PeerError or nothing; who counts as delivered was really said to have
   it after the content had ended; and every recipient has a verdict, or the connection broke.
4. Stuffing is undone exactly, and no piece of content ends the data.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from postroad.core.address import parse_mailbox
from postroad.core.envelope import Body, Envelope, Recipient
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.smtp.client import Answer, ClientConnection, Command, State
from postroad.smtp.client_content import Stuffer, stuff_whole
from postroad.smtp.client_fit import Traits, fit
from postroad.smtp.client_transaction import Transaction
from postroad.smtp.data import DataReader
from postroad.smtp.errors import PeerError
from postroad.smtp.extensions import Protocol
from postroad.smtp.replies import REPLY_OCTETS_MAX, ReplyReader
from postroad.testing.play import EngineTransport, Options

ADDRESSES = ["b@b.example", "refused@b.example", '"o d"@b.example', "postmaster@[192.0.2.1]", "x@xn--bcher-kva.example"]
addresses = st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=5)
lines = st.sampled_from([b".", b"..", b".a", b"", b"a", b"\0\xff", b"QUIT", b"From x"])
texts = st.lists(lines, max_size=8).map(b"\r\n".join)  # perhaps without a final CRLF
cuts = st.integers(1, 40)


def envelope_to(names: list[str], body: Body = Body.SEVEN_BIT) -> Envelope:
    return Envelope(parse_mailbox("a@a.example"), tuple(Recipient(parse_mailbox(name)) for name in names), body=body)


class Relay:
    """A client engine in front of a server engine, octets carried by hand."""

    def __init__(self, options: Options, piece: int) -> None:
        self.server = EngineTransport(options, piece=piece)
        self.client = ClientConnection(options.protocol)
        self.hear()
        hello = Command.LHLO if options.protocol is Protocol.LMTP else Command.EHLO
        self.say(self.client.send(hello, f"{hello.name} c.example").encode())
        self.hear()

    def say(self, octets: bytes) -> None:
        self.server.send(octets)

    def hear(self, transaction: Transaction | None = None) -> None:
        while (line := self.server.next_line()) is not None:
            self.client.receive_data(line + b"\r\n")
            while isinstance(event := self.client.next_event(), Answer):
                if transaction is not None:
                    transaction.hear(event)

    def deliver(self, envelope: Envelope, content: bytes) -> Transaction:
        numbers = range(len(envelope.recipients))
        fitted = fit(envelope, numbers, self.client.offers, len(content), Traits(final_crlf=content.endswith(b"\r\n")))
        assert not fitted.refused
        chunk = content if fitted.by_chunk else None
        transaction = Transaction(self.client, envelope, numbers, size=len(content), fit=fitted, chunk=chunk)
        while not transaction.is_over:
            self.say(transaction.take_octets())
            if transaction.wants_content:
                self.say(content if transaction.by_chunk else stuff_whole(content))
                transaction.content_sent()
            self.hear(transaction)
        return transaction


@given(
    st.lists(st.tuples(addresses, texts), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(list(Protocol)),
    cuts,
)
def test_what_the_server_keeps_is_what_the_client_was_given(messages, pipelining, chunking, protocol, piece) -> None:
    options = Options(protocol=protocol, pipelining=pipelining, chunking=chunking, size_max=10_000)
    relay = Relay(options, piece)
    for names, content in messages:
        transaction = relay.deliver(envelope_to(names), content)
        taken = [number for number, name in enumerate(names) if not name.startswith("refused")]
        assert transaction.taken == taken
        assert set(transaction.results) == set(range(len(names)))
        for number, result in transaction.results.items():
            expected = Stage.DOT if number in taken else Stage.RCPT
            assert (result.reply.is_positive, result.stage) == (number in taken, expected)
        whole = content if chunking or content.endswith(b"\r\n") or not content else content + b"\r\n"
        assert relay.server.next_content(100_000) == (whole if taken else b"")
        assert relay.client.is_ready


@given(st.binary(max_size=30), st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"\r\n.\r\n"])), cuts)
def test_binary_content_is_kept_octet_for_octet(noise, words, piece) -> None:
    content = noise + b"".join(words) + noise
    relay = Relay(Options(size_max=10_000), piece)
    relay.deliver(envelope_to(["b@b.example"], Body.BINARY), content)
    assert relay.server.next_content(100_000) == content


# --- next hops that say anything ------------------------------------------------------------------------

WORDS = [
    b"250 2.1.5 Ok\r\n",
    b"250 Ok\r\n",
    b"250-Ok\r\n",
    b"354 Go\r\n",
    b"550 5.1.1 No\r\n",
    b"452 4.5.3 Many\r\n",
    b"421 Bye\r\n",
    b"250\n",
    b"\r\n",
    b"2",
    b"503 5.5.1 Bad\r\n",
    b"552 Full\r\n",
    b"250 2.0.0 Queued\r\n",
]
streams = st.lists(st.sampled_from(WORDS) | st.binary(max_size=3), max_size=14).map(b"".join)


class Told:
    """What was said to a next hop that does not listen, and what came of it."""

    def __init__(self, protocol: Protocol, pipelining: bool) -> None:
        self.connection = ClientConnection(protocol)
        self.connection.receive_data(b"220 s\r\n")
        self.connection.next_event()
        self.connection.send(Command.LHLO if protocol is Protocol.LMTP else Command.EHLO, "EHLO c")
        self.connection.receive_data(b"250-s\r\n250 PIPELINING\r\n" if pipelining else b"250 s\r\n")
        self.connection.next_event()
        self.said = b""
        self.broke = ""
        self.results: dict[int, tuple[Reply, Stage]] = {}
        self.taken: list[int] = []
        self.positive_at_the_end = 0  # positive replies heard once content had ended

    def run(self, transaction: Transaction, octets: bytes, edges: list[int]) -> None:
        """Octets come when they are asked for, cut at ``edges``."""
        pieces = [octets[start:end] for start, end in pairwise([0, *edges, len(octets)])]
        try:
            while not transaction.is_over:
                self.said += transaction.take_octets()
                if transaction.wants_content:
                    self.said += stuff_whole(b"content\r\n")
                    transaction.content_sent()
                elif not transaction.is_over:
                    self.hear(transaction, pieces)
        except PeerError as error:
            self.broke = str(error.reply)
        except EOFError:
            self.broke = "end"

    def hear(self, transaction: Transaction, pieces: list[bytes]) -> None:
        while not isinstance(event := self.connection.next_event(), Answer):
            if not pieces:
                raise EOFError
            self.connection.receive_data(pieces.pop(0))
        if event.command is Command.DOT and event.reply.is_positive:
            self.positive_at_the_end += 1
        transaction.hear(event)


def tell(octets: bytes, edges: list[int], protocol: Protocol, pipelining: bool, recipients: int) -> Told:
    told = Told(protocol, pipelining)
    envelope = envelope_to(["b@b.example"] * recipients)
    numbers = range(recipients)
    fitted = fit(envelope, numbers, told.connection.offers, 9, Traits())
    transaction = Transaction(told.connection, envelope, numbers, size=9, fit=fitted)
    told.run(transaction, octets, edges)
    told.results = {number: (result.reply, result.stage) for number, result in transaction.results.items()}
    told.taken = list(transaction.taken)
    return told


@given(streams, st.booleans(), st.sampled_from(list(Protocol)), st.integers(1, 3))
def test_whatever_a_next_hop_says(octets, pipelining, protocol, recipients) -> None:
    told = tell(octets, [], protocol, pipelining, recipients)
    delivered = {number for number, (reply, _) in told.results.items() if reply.is_positive}
    assert all(told.results[number][1] is Stage.DOT for number in delivered)
    assert delivered <= set(told.taken)
    if protocol is Protocol.LMTP:
        assert len(delivered) == told.positive_at_the_end
    else:
        assert not delivered or told.positive_at_the_end == 1
    if delivered:
        assert told.said.endswith(b"content\r\n.\r\n")
    if not told.broke:
        assert set(told.results) == set(range(recipients))
        assert told.connection.is_ready or told.connection.state is State.CLOSED
    elif told.broke != "end":
        assert told.connection.state is State.CLOSED
    if b"\r\nDATA\r\n" not in told.said:
        assert b"content" not in told.said


@given(
    streams,
    st.lists(st.integers(0, 200), max_size=6),
    st.booleans(),
    st.sampled_from(list(Protocol)),
    st.integers(1, 3),
)
def test_how_the_octets_arrive_changes_nothing(octets, cuts_at, pipelining, protocol, recipients) -> None:
    """Except that what comes too early is only known as such if it is here; then nothing more is said than before."""
    edges = sorted(cut % (len(octets) + 1) for cut in cuts_at)
    whole = tell(octets, [], protocol, pipelining, recipients)
    cut = tell(octets, edges, protocol, pipelining, recipients)
    if "was not asked" in whole.broke:
        assert cut.said.startswith(whole.said)
    else:
        assert (cut.said, cut.results, cut.broke) == (whole.said, whole.results, whole.broke)


# --- replies and content alone -----------------------------------------------------------------------------


def read_all(octets: bytes, edges: list[int]) -> tuple[list[object], str]:
    reader, replies = ReplyReader(), []
    for start, end in pairwise([0, *edges, len(octets)]):
        reader.feed(octets[start:end])
        try:
            while reply := reader.next_reply():
                replies.append(reply)
        except PeerError as error:
            return replies, str(error.reply)
    return replies, ""


@given(streams, st.lists(st.integers(0, 200), max_size=6))
def test_replies_are_the_same_however_they_are_cut(octets, cuts_at) -> None:
    edges = sorted(cut % (len(octets) + 1) for cut in cuts_at)
    assert read_all(octets, edges) == read_all(octets, [])


reply_text = st.text(st.sampled_from("25. 0x\tü-"), max_size=12) | st.just("2.1.5 Ok") | st.just("2.1.5")


@given(st.sampled_from(["250", "550"]), reply_text)
def test_the_fast_way_to_read_a_reply_gives_what_the_long_way_gives(code, text) -> None:
    line = f"{code} {text}".encode()
    fast, slow = read_all(line + b"\r\n", []), read_all(line + b"\r\r\n", [])
    assert fast == slow


@given(st.integers(1, 5000), st.sampled_from([b"x", b"250-x\r\n", b"250-\n", b"2"]))
def test_a_next_hop_never_makes_us_hold_more_than_one_reply(piece, word) -> None:
    reader, fed = ReplyReader(), 0
    octets = b"250-" + word * piece
    try:
        while True:
            reader.feed(octets)
            fed += len(octets)
            assert reader.next_reply() is None
            assert fed <= REPLY_OCTETS_MAX
            octets = word * piece
    except PeerError:
        assert fed > REPLY_OCTETS_MAX or word in (b"x", b"2")


@given(st.lists(lines, max_size=12), st.lists(st.integers(1, 9)))
def test_stuffing_is_undone_exactly(content_lines, pieces) -> None:
    content = rest = b"".join(line + b"\r\n" for line in content_lines)
    stuffer, wire = Stuffer(), b""
    for size in pieces:
        wire += stuffer.stuff(rest[:size])
        rest = rest[size:]
    wire += stuffer.stuff(rest) + stuffer.end()
    assert wire == stuff_whole(content)
    reader = DataReader(100_000)
    assert reader.feed(wire + b"QUIT\r\n") == content
    assert (reader.is_done, reader.rest) == (True, b"QUIT\r\n")
