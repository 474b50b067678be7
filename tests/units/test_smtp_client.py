"""The client's engine in dialogs: what it says, what it makes of the answers, and that cutting octets changes nothing.

A dialog is a list of lines, "C: " said by us, "S: " by the next hop; both sides' octets are compared whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.core.address import Mailbox, parse_mailbox
from postroad.core.envelope import Body, Envelope, Notify, Recipient, Ret
from postroad.core.outcome import Stage
from postroad.smtp.client import Answer, ClientConnection, Command, Signal, State
from postroad.smtp.client_content import Stuffer, stuff_whole
from postroad.smtp.client_fit import Fit
from postroad.smtp.client_transaction import Transaction
from postroad.smtp.errors import DriverError, PeerError
from postroad.smtp.extensions import Protocol
from postroad.smtp.offers import NO_OFFERS

CONTENT = b"Subject: x\r\n\r\n.dot\r\n"
ALICE = Mailbox("alice", "example.org")
PLAIN_FIT = Fit({})
GREETING = b"220 mx.example.net ESMTP\r\n"
PIPELINING = b"250-mx.example.net\r\n250-SIZE 1000\r\n250-DSN\r\n250 PIPELINING\r\n"
CHUNKING = b"250-mx.example.net\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
OLD = b"250 mx.example.net\r\n"


def to(*addresses: str, notify: int = 0) -> Envelope:
    return Envelope(ALICE, tuple(Recipient(parse_mailbox(address), notify) for address in addresses))


BOTH = to("bob@example.net", "carol@example.net")


class Dialog:
    """Plays a server whose octets come cut in pieces, and drives a transaction against it."""

    def __init__(self, hello: bytes = PIPELINING, protocol: Protocol = Protocol.SMTP, piece: int = 9999) -> None:
        self.connection = ClientConnection(protocol)
        self.piece = piece
        self.said = b""
        list(self.answers(GREETING))
        command = Command.EHLO if protocol is Protocol.SMTP else Command.LHLO
        self.connection.send(command, f"{command.name} relay.example.org")
        list(self.answers(hello))

    def answers(self, octets: bytes) -> Iterator[Answer]:
        """Feed what the server says; yield each answer before the next is looked for, as the driver does."""
        for start in range(0, len(octets), self.piece):
            self.connection.receive_data(octets[start : start + self.piece])
            while isinstance(event := self.connection.next_event(), Answer):
                yield event

    def run(
        self, envelope: Envelope, replies: list[bytes], fit: Fit = PLAIN_FIT, content: bytes = CONTENT
    ) -> Transaction:
        """Run one transaction; each flight of ours is answered by the next of ``replies``."""
        rest = list(replies)
        numbers = range(len(envelope.recipients))
        chunk = content if fit.by_chunk else None
        transaction = Transaction(self.connection, envelope, numbers, size=len(content), fit=fit, chunk=chunk)
        while not transaction.is_over:
            octets = transaction.take_octets()
            if transaction.wants_content:
                octets += content if transaction.by_chunk else stuff_whole(content)
                transaction.content_sent()
            self.said += octets
            if transaction.is_over:
                break
            assert octets, "nothing to say and nothing to hear"
            for answer in self.answers(rest.pop(0)):
                transaction.hear(answer)
        assert rest == []
        return transaction


def codes(transaction: Transaction) -> dict[int, tuple[int, Stage]]:
    return {number: (result.reply.code, result.stage) for number, result in transaction.results.items()}


FLIGHT = (
    b"MAIL FROM:<alice@example.org> SIZE=20\r\nRCPT TO:<bob@example.net>\r\nRCPT TO:<carol@example.net>\r\nDATA\r\n"
)
ON_THE_WIRE = b"Subject: x\r\n\r\n..dot\r\n.\r\n"
PIECES = [1, 2, 3, 7, 9999]


@pytest.mark.parametrize("piece", PIECES)
def test_a_pipelined_flight(piece: int) -> None:
    dialog = Dialog(piece=piece)
    replies = [b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.1.1 No such user\r\n354 Go\r\n", b"250 2.0.0 Queued\r\n"]
    transaction = dialog.run(BOTH, replies)
    assert dialog.said == FLIGHT + ON_THE_WIRE
    assert codes(transaction) == {0: (250, Stage.DOT), 1: (550, Stage.RCPT)}
    assert dialog.connection.state is State.READY
    assert dialog.connection.is_ready


@pytest.mark.parametrize("piece", PIECES)
def test_without_pipelining_one_command_at_a_time(piece: int) -> None:
    dialog = Dialog(OLD, piece=piece)
    replies = [b"250 Ok\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n", b"250 Queued\r\n"]
    transaction = dialog.run(BOTH, replies)
    assert dialog.said == FLIGHT.replace(b" SIZE=20", b"") + ON_THE_WIRE
    assert codes(transaction) == {0: (250, Stage.DOT), 1: (250, Stage.DOT)}


@pytest.mark.parametrize("piece", PIECES)
def test_no_recipient_taken_but_354_gets_a_lone_dot(piece: int) -> None:
    dialog = Dialog(piece=piece)
    refused = b"250 Ok\r\n550 5.1.1 No\r\n450 4.2.1 Later\r\n354 Go\r\n"
    transaction = dialog.run(BOTH, [refused, b"250 2.0.0 Queued an empty message\r\n"])
    assert dialog.said == FLIGHT + b".\r\n"
    assert codes(transaction) == {0: (550, Stage.RCPT), 1: (450, Stage.RCPT)}
    assert dialog.connection.is_ready
    dialog.said = b""
    dialog.run(to("dave@example.net"), [b"250 Reset\r\n", b"250 Ok\r\n250 Ok\r\n354 Go\r\n", b"250 Queued\r\n"])
    assert dialog.said.startswith(b"RSET\r\nMAIL FROM:")


@pytest.mark.parametrize("answer", [b"450 4.3.2 Not now\r\n", b"502 5.5.1 What?\r\n", b"421 4.3.2 Bye\r\n"])
@pytest.mark.parametrize("hello", [OLD, PIPELINING, CHUNKING])
def test_who_refuses_reset_has_heard_nothing_of_the_next_message(hello: bytes, answer: bytes) -> None:
    """With chunks its content would be there, perhaps taken without our knowing: it would be sent twice."""
    dialog = Dialog(hello)
    fit = Fit({}, by_chunk=hello is CHUNKING)
    replies = [b"250 Ok\r\n", b"550 No\r\n", b"550 No\r\n"]
    dialog.run(BOTH, replies if hello is OLD else [b"".join(replies) + b"503 Nobody\r\n"], fit)
    dialog.said = b""
    with pytest.raises(PeerError):
        dialog.run(to("dave@example.net"), [answer], fit)
    assert dialog.said == b"RSET\r\n"
    assert dialog.connection.state is State.CLOSED


def test_nothing_is_said_behind_reset_before_its_reply() -> None:
    dialog = Dialog()
    dialog.connection.send(Command.RSET, "RSET")
    for command in (Command.MAIL, Command.RSET, Command.QUIT):
        with pytest.raises(DriverError):
            dialog.connection.send(command, command.name)
    assert [answer.command for answer in dialog.answers(b"250 Ok\r\n")] == [Command.RSET]
    dialog.connection.send(Command.MAIL, "MAIL FROM:<>")


def test_what_is_in_flight_behind_a_refused_hello_cannot_be_followed() -> None:
    connection = ClientConnection()
    connection.receive_data(GREETING)
    assert isinstance(connection.next_event(), Answer)
    connection.send(Command.EHLO, "EHLO relay.example.org")
    connection.send(Command.MAIL, "MAIL FROM:<>")
    connection.receive_data(b"502 What?\r\n250 Ok\r\n")
    assert isinstance(connection.next_event(), Answer)
    with pytest.raises(PeerError):
        connection.next_event()
    assert connection.state is State.CLOSED


def test_no_recipient_taken_without_pipelining_says_no_data() -> None:
    dialog = Dialog(OLD)
    transaction = dialog.run(BOTH, [b"250 Ok\r\n", b"550 No\r\n", b"550 No\r\n"])
    assert b"DATA" not in dialog.said
    assert codes(transaction) == {0: (550, Stage.RCPT), 1: (550, Stage.RCPT)}


def test_a_refused_sender_holds_for_all_whatever_is_said_of_them() -> None:
    dialog = Dialog()
    transaction = dialog.run(BOTH, [b"550 5.7.1 Not you\r\n503 Bad\r\n503 Bad\r\n503 Bad\r\n"])
    assert codes(transaction) == {0: (550, Stage.MAIL), 1: (550, Stage.MAIL)}


def test_data_refused_holds_for_those_taken() -> None:
    dialog = Dialog()
    transaction = dialog.run(BOTH, [b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n451 4.3.0 Busy\r\n"])
    assert codes(transaction) == {0: (451, Stage.DATA), 1: (550, Stage.RCPT)}
    assert not transaction.has_delivered


@pytest.mark.parametrize("piece", PIECES)
def test_lmtp_has_a_reply_for_each_recipient_taken(piece: int) -> None:
    dialog = Dialog(protocol=Protocol.LMTP, piece=piece)
    envelope = to("bob@example.net", "carol@example.net", "dave@example.net")
    replies = [
        b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n250 Ok\r\n354 Go\r\n",
        b"250 2.0.0 Stored\r\n452 4.2.2 Over quota\r\n",
    ]
    transaction = dialog.run(envelope, replies)
    assert codes(transaction) == {0: (250, Stage.DOT), 1: (550, Stage.RCPT), 2: (452, Stage.DOT)}
    assert dialog.connection.is_ready


@pytest.mark.parametrize("protocol", list(Protocol))
def test_by_chunk_the_content_goes_as_it_is(protocol: Protocol) -> None:
    hello = b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
    dialog = Dialog(hello, protocol)
    last = b"250 2.0.0 Ok\r\n" * (2 if protocol is Protocol.LMTP else 1)
    transaction = dialog.run(BOTH, [b"250 Ok\r\n" * 3 + last], Fit({}, by_chunk=True), b".no end")
    assert dialog.said.endswith(b"RCPT TO:<carol@example.net>\r\nBDAT 7 LAST\r\n.no end")
    assert codes(transaction) == {0: (250, Stage.DOT), 1: (250, Stage.DOT)}


def test_too_many_recipients_are_left_over() -> None:
    dialog = Dialog()
    transaction = dialog.run(BOTH, [b"250 Ok\r\n250 Ok\r\n452 4.5.3 Too many\r\n354 Go\r\n", b"250 Queued\r\n"])
    assert transaction.left_over == [1]
    assert transaction.has_delivered


def test_what_was_offered_is_used_and_nothing_else() -> None:
    envelope = Envelope(
        None, (Recipient(ALICE, Notify.SUCCESS | Notify.DELAY),), body=Body.EIGHT_BIT, ret=Ret.FULL, envelope_id="a+b"
    )
    dialog = Dialog()
    dialog.run(envelope, [b"250 Ok\r\n250 Ok\r\n354 Go\r\n", b"250 Ok\r\n"])
    assert dialog.said.split(b"\r\n")[:2] == [
        b"MAIL FROM:<> SIZE=20 RET=FULL ENVID=a+2Bb",
        b"RCPT TO:<alice@example.org> NOTIFY=SUCCESS,DELAY",
    ]
    old = Dialog(OLD)
    old.run(envelope, [b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n", b"250 Ok\r\n"])
    assert old.said.split(b"\r\n")[:2] == [b"MAIL FROM:<>", b"RCPT TO:<alice@example.org>"]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"199 Ok\r\n",
        b"600 Ok\r\n",
        b"25 Ok\r\n",
        b"250-Ok\r\n550 No\r\n",
        b"\r\n",
        b"354 Go\r\n",  # to MAIL
        b"421 4.3.2 Closing\r\n",
        b"250-x\r\n" * 5000,
        b"2" * 40_000,
    ],
)
def test_broken_replies_end_the_connection(octets: bytes, piece: int) -> None:
    dialog = Dialog(OLD, piece=max(piece, 100) if len(octets) > 100 else piece)
    with pytest.raises(PeerError) as raised:
        dialog.run(BOTH, [octets])
    assert raised.value.reply.is_transient
    assert dialog.connection.state is State.CLOSED
    assert not dialog.connection.is_ready


@pytest.mark.parametrize("octets", [b"250 Ok\r\n250 Unasked\r\n", b"250 Ok\r\n2"])
def test_what_was_not_asked_is_not_believed(octets: bytes) -> None:
    dialog = Dialog(OLD)
    with pytest.raises(PeerError):  # at the latest when something is to be said again
        dialog.run(BOTH, [b"250 Ok\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n", octets])
    assert dialog.connection.state is State.CLOSED


@pytest.mark.parametrize(("behind", "code"), [(b"250 injected\r\n", 451), (b"2", 451), (b"421 4.3.2 Bye\r\n", 421)])
def test_octets_behind_the_answer_to_starttls_are_refused(behind: bytes, code: int) -> None:
    connection = Dialog(b"250-mx\r\n250 STARTTLS\r\n").connection
    connection.send(Command.STARTTLS, "STARTTLS")
    connection.receive_data(b"220 Go\r\n" + behind)
    with pytest.raises(PeerError) as raised:  # at once: the handshake is next
        connection.next_event()
    assert raised.value.reply.code == code
    assert connection.state is State.CLOSED


def test_what_was_offered_in_clear_is_forgotten() -> None:
    connection = Dialog(b"250-mx\r\n250-SIZE 5\r\n250 STARTTLS\r\n").connection
    connection.send(Command.STARTTLS, "STARTTLS")
    connection.receive_data(b"220 Go\r\n")
    connection.next_event()
    with pytest.raises(DriverError):
        connection.send(Command.MAIL, "MAIL FROM:<>")
    connection.tls_started()
    assert connection.offers == NO_OFFERS
    with pytest.raises(DriverError):  # EHLO first
        connection.send(Command.MAIL, "MAIL FROM:<>")


def test_an_answer_behind_354_is_refused_before_the_content_goes() -> None:
    dialog = Dialog()
    with pytest.raises(PeerError):
        dialog.run(BOTH, [b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n250 Queued\r\n"])
    assert dialog.said == FLIGHT


@pytest.mark.parametrize("line", ["QUIT\r\nDATA", "QUIT\n", "QUIT\r", "QUIT\0"])
def test_a_line_end_never_gets_into_a_command(line: str) -> None:
    with pytest.raises(DriverError):
        Dialog().connection.send(Command.QUIT, line)


def test_commands_out_of_order_are_our_own_fault() -> None:
    connection = ClientConnection()
    with pytest.raises(DriverError):
        connection.send(Command.MAIL, "MAIL FROM:<>")
    assert connection.next_event() is Signal.NEED_DATA


WORDS = [b"250 Ok\r\n", b"250-", b"550 5.1.1 No\r\n", b"354 Go\r\n", b"421 Bye\r\n", b"\n", b"x\r\n", b"450 Later\r\n"]


def outcome(octets: bytes, cuts: list[int]) -> tuple[list[Answer], str, State]:
    """Feed octets to four commands in flight, cut at ``cuts``."""
    dialog = Dialog()
    for command, line in (
        (Command.MAIL, "MAIL FROM:<>"),
        (Command.RCPT, "RCPT TO:<bob@example.net>"),
        (Command.RCPT, "RCPT TO:<carol@example.net>"),
        (Command.RSET, "RSET"),
    ):
        dialog.connection.send(command, line)
    answers: list[Answer] = []
    edges = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    for start, end in pairwise(edges):
        dialog.connection.receive_data(octets[start:end])
        try:
            while dialog.connection.in_flight and isinstance(event := dialog.connection.next_event(), Answer):
                answers.append(event)
        except PeerError as error:
            return answers, str(error.reply), dialog.connection.state
    return answers, "", dialog.connection.state


@given(st.lists(st.sampled_from(WORDS), max_size=8), st.lists(st.integers(0, 200), max_size=6))
def test_every_cut_of_the_octets_gives_the_same(words: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(words)
    assert outcome(octets, cuts) == outcome(octets, [])


@given(st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a"])), st.lists(st.integers(1, 5)))
def test_dots_are_stuffed_the_same_however_the_content_is_cut(words: list[bytes], cuts: list[int]) -> None:
    content = rest = b"".join(words)
    stuffer, out = Stuffer(), b""
    for cut in cuts:
        out += stuffer.stuff(rest[:cut])
        rest = rest[cut:]
    whole = out + stuffer.stuff(rest) + stuffer.end()
    assert whole == stuff_whole(content)
    assert whole.endswith(b"\r\n.\r\n") or whole == b".\r\n"
    assert b"\r\n.\r\n" not in whole[:-5]
