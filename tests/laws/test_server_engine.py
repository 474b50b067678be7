"""Laws of the server engine, found by Hypothesis rather than by us: dialogs of dangerous words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.core import reply
from postroad.core.reply import Reply
from postroad.smtp.errors import DriverError, PeerError
from postroad.smtp.events import (
    PAUSED,
    Auth,
    AuthResponse,
    ChunkEnd,
    Content,
    DataEnd,
    DataStart,
    Event,
    Hello,
    MailFrom,
    Quit,
    Refused,
    Signal,
    StartTls,
)
from postroad.smtp.extensions import Offer, Protocol
from postroad.smtp.server import TRANSITIONS, ServerConnection, State
from postroad.testing.play import answer

OFFER = Offer(size_max=30, starttls=True, auth=("PLAIN", "LOGIN"))
HELLO, ENVELOPE = b"EHLO c\r\n", b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n"
# A word that gets far at once, so that the others meet every state.
WORDS = [
    HELLO, HELLO + ENVELOPE, HELLO + ENVELOPE + b"DATA\r\n", HELLO + ENVELOPE + b"BDAT 2\r\na\r", ENVELOPE,
    b"LHLO c\r\n" + ENVELOPE + ENVELOPE[-15:], b"HELO c\r\n", b"LHLO c\r\n",
    b"MAIL FROM:<>\r\n", b"MAIL FROM:<a@b> SIZE=20 BODY=BINARYMIME\r\n", b"MAIL FROM:<refused@b>\r\n",
    b"MAIL FROM:<\xc3\xbc@b> SMTPUTF8 RET=FULL ENVID=x\r\n", b'MAIL FROM:<"\\', b'"@b>', b"MAIL FROM:<",
    b"RCPT TO:<a@b>\r\n", b"RCPT TO:<refused@b>\r\n", b"RCPT TO:<a@b> ORCPT=rfc822;a@b NOTIFY=NEVER\r\n",
    b" ORCPT=utf-8;\\x{FFFFFF}\r\n", b" SIZE=99999999999999999999\r\n",
    b"DATA\r\n", b".\r\n", b"..\r\n", b"\r\n.\r\n", b"\r\n.\n",
    b"BDAT 3\r\nabc", b"BDAT 4 LAST\r\na\r\nb", b"BDAT 0 LAST\r\n", b"BDAT 9 LAST\r\nNOOP\r\n.\r\n", b"BDAT 99\r\n",
    b"BDAT 2 LAST\r\n\nb", b"BDAT 31\r\n" + b"y" * 31, b"BDAT x\r\n",
    b"RSET\r\n", b"NOOP\r\n", b"VRFY a\r\n", b"EXPN a\r\n", b"HELP\r\n", b"QUIT\r\n", b"STARTTLS\r\n",
    b"AUTH PLAIN\r\n", b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n", b"AHVzZXIAc2VjcmV0\r\n", b"*\r\n", b"=\r\n",
    b"\r", b"\n", b"\r\n", b"\0", b"\xff", b" ", b"x" * 600, b"A" * 13_000, b"MAIL", b"RCPT TO:", b"<", b">",
]  # fmt: skip
streams = st.lists(st.sampled_from(WORDS) | st.binary(max_size=4), max_size=25).map(b"".join)
protocols = st.sampled_from(Protocol)
modes = st.sampled_from(["refuse", "normalize"])
GREETING = Reply(220, None, "relay.example ESMTP")


class Session:
    """A driver that answers at once, and stops where real ones do."""

    def __init__(self, protocol: Protocol, mode: str) -> None:
        self.engine = ServerConnection(OFFER, protocol=protocol, bare_newline=mode)  # type: ignore[arg-type]
        self.said = self.engine.send_greeting(GREETING)
        self.events: list[Event] = []
        self.content = b""
        self.has_ended = False

    def hear(self, octets: bytes) -> None:
        if self.has_ended:
            return
        self.engine.receive_data(octets)
        try:
            while not isinstance(event := self.engine.next_event(), Signal):
                self.take(event)
        except PeerError as error:
            self.said += error.reply.to_wire()
        # A handshake makes what follows depend on the driver, not on the engine.
        self.has_ended = self.engine.state in (State.CLOSED, State.TLS)

    def take(self, event: Event) -> None:
        if isinstance(event, Content):
            self.content += event.octets
            return
        if isinstance(event, DataEnd | ChunkEnd):
            assert event.size >= len(self.content)
            assert event.too_big == (event.size > OFFER.size_max)
        self.events.append(event)
        answers = [answer(event, self.engine)] * self.engine.replies_due
        self.said += self.engine.send_replies(answers)
        if self.engine.state is not State.CHUNKED:
            self.content = b""


@settings(max_examples=400)
@given(streams, st.lists(st.integers(1, 9), min_size=1, max_size=5), protocols, modes)
def test_how_the_octets_arrive_changes_nothing(stream: bytes, cuts: list[int], protocol: Protocol, mode: str) -> None:
    """TCP keeps no boundaries, so the engine must see none (RFC 2920 section 3.2)."""
    whole, cut = Session(protocol, mode), Session(protocol, mode)
    whole.hear(stream)
    start, number = 0, 0
    while start < len(stream):
        size = cuts[number % len(cuts)]
        cut.hear(stream[start : start + size])
        start, number = start + size, number + 1
    assert (cut.said, cut.events, cut.engine.state) == (whole.said, whole.events, whole.engine.state)
    if whole.engine.state is not State.CLOSED:
        # What is held back of unfinished content depends on the cut; what is counted does not.
        assert whole.engine.recipients == cut.engine.recipients


@settings(max_examples=400)
@given(streams, protocols, modes)
def test_the_engine_raises_peer_errors_and_nothing_else(stream: bytes, protocol: Protocol, mode: str) -> None:
    """Also a PeerError closes, and is one of the two replies that close."""
    engine = ServerConnection(OFFER, protocol=protocol, bare_newline=mode)  # type: ignore[arg-type]
    engine.send_greeting(GREETING)
    engine.receive_data(stream)
    engine.receive_eof()
    steps = 0
    try:
        while not isinstance(event := engine.next_event(), Signal):
            steps += 1
            assert steps <= 2 * len(stream) + 2, "an event without octets"
            if not isinstance(event, Content):
                engine.send_replies([answer(event, engine)] * engine.replies_due)
    except PeerError as error:
        code = error.reply.code
    else:
        code = 521
    assert code == 521
    assert engine.state in (State.CLOSED, State.TLS)
    assert engine.next_event() is PAUSED


@given(streams, protocols, st.lists(st.sampled_from([220, 235, 250, 334, 354, 421, 450, 550]), min_size=1, max_size=8))
def test_any_reply_moves_along_the_table_or_is_refused_as_ours(
    stream: bytes, protocol: Protocol, codes: list[int]
) -> None:
    """Whatever a driver answers, the state is one that TRANSITIONS names, or it hears of its mistake."""
    engine = ServerConnection(OFFER, protocol=protocol)
    engine.send_greeting(GREETING)
    engine.receive_data(stream)
    number = 0
    try:
        while not isinstance(event := engine.next_event(), Signal):
            if isinstance(event, Content):
                continue
            before, code = engine.state, codes[number % len(codes)]
            number += 1
            row = TRANSITIONS[before].get(type(event))
            engine.send_replies([Reply(code, None, "")] * engine.replies_due)
            if code == 421:
                assert engine.state is State.CLOSED
            elif row is None:
                assert isinstance(event, Refused)
                assert engine.state is before
            else:
                assert engine.state is {2: row.done, 3: row.more}.get(code // 100, row.refused)
    except DriverError:
        assert engine.state is before, "a driver's mistake changes nothing"
    except PeerError:
        assert engine.state is State.CLOSED


def test_every_state_is_reached_and_every_event_is_told() -> None:
    """The words above are dangerous enough: together they reach all there is."""
    states, kinds = set(), set()
    hello, envelope = b"EHLO c\r\n", b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n"
    for stream in (
        hello + envelope + b"DATA\r\n.\r\nVRFY a\r\nEXPN a\r\nHELP\r\nNOOP\r\nRSET\r\nFOO\r\nQUIT\r\n",
        hello + envelope + b"BDAT 1\r\na",
        hello + envelope + b"BDAT 1\r\naBDAT 99\r\n" + b"x" * 99,
        hello + envelope + b"BDAT 1 LAST\r\na" + b"AUTH PLAIN\r\nAHVzZXIAc2VjcmV0\r\nSTARTTLS\r\n",
        hello + b"MAIL FROM:<a@b>\r\nRCPT TO:<refused@b>\r\n",
    ):
        engine = ServerConnection(OFFER)
        states.add(engine.state)
        engine.send_greeting(GREETING)
        engine.receive_data(stream)
        while not isinstance(event := engine.next_event(), Signal):
            kinds.add(type(event))
            states.add(engine.state)
            if not isinstance(event, Content):
                engine.send_reply(answer(event, engine))
        states.add(engine.state)
    away = ServerConnection(OFFER)
    away.send_greeting(Reply(554, None, "no"))
    states.add(away.state)
    assert states == set(State)
    assert {kind.__name__ for kind in kinds} == {kind.__name__ for kind in Event.__args__}


EARLY = {
    Hello: b"EHLO c\r\n",
    DataStart: b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n",
    StartTls: b"EHLO c\r\nSTARTTLS\r\n",
    Auth: b"EHLO c\r\nAUTH PLAIN\r\n",
}


@pytest.mark.parametrize("kind", EARLY, ids=lambda kind: kind.__name__)
@given(more=st.binary(max_size=10))
def test_unread_counts_what_came_too_early(kind: type, more: bytes) -> None:
    """RFC 2920 section 3.1: the engine tells, the driver judges."""
    engine = ServerConnection(OFFER)
    engine.receive_data(EARLY[kind] + more)
    assert engine.unread == len(EARLY[kind] + more), "before the greeting"
    engine.send_greeting(GREETING)
    while not isinstance(event := engine.next_event(), Signal) and type(event) is not kind:
        engine.send_reply(answer(event, engine))
    assert type(event) is kind
    assert engine.unread == len(more)


def test_tls_forgets_all_that_was_said_in_clear() -> None:
    """RFC 3207 section 4.2: hello, transaction, authentication, and octets that came before the handshake."""
    engine = ServerConnection(OFFER)
    engine.send_greeting(GREETING)
    engine.receive_data(b"EHLO c\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\nSTARTTLS\r\nRSET\r\n")
    while not isinstance(event := engine.next_event(), Signal):
        engine.send_reply(answer(event, engine))
    assert engine.state is State.TLS
    assert engine.is_authenticated
    assert engine.unread == len(b"RSET\r\n")
    engine.tls_started()
    engine.offer = Offer(size_max=30, auth=("PLAIN",))
    assert (engine.state, engine.is_authenticated, engine.is_secure, engine.unread) == (State.GREETED, False, True, 0)
    engine.receive_data(b"MAIL FROM:<>\r\n")
    assert engine.next_event() == Refused(reply.BAD_SEQUENCE, "MAIL")


def test_a_driver_that_does_not_keep_the_contract_hears_of_it() -> None:
    engine = ServerConnection(OFFER, protocol=Protocol.LMTP)
    with pytest.raises(DriverError):
        engine.send_reply(reply.OK)
    engine.send_greeting(GREETING)
    with pytest.raises(DriverError):
        engine.send_greeting(GREETING)
    with pytest.raises(DriverError):
        engine.send_reply(reply.OK)
    with pytest.raises(DriverError):
        engine.tls_started()
    engine.receive_data(b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\nDATA\r\n.\r\nQUIT\r\n")
    for answers in (reply.OK, reply.OK, reply.OK, reply.OK):
        engine.next_event()
        engine.send_reply(answers)
    assert engine.next_event() == DataStart()
    with pytest.raises(DriverError, match="250 is no answer to DataStart"):
        engine.send_reply(reply.OK)
    engine.send_reply(reply.READY_FOR_DATA)
    assert engine.next_event() == DataEnd(0, too_big=False)
    with pytest.raises(DriverError, match="2 replies are due"):
        engine.send_reply(reply.QUEUED)
    with pytest.raises(DriverError, match="3 replies given, 2 are due"):
        engine.send_replies([reply.QUEUED] * 3)
    assert engine.send_replies([reply.QUEUED, reply.TOO_BIG]).count(b"\r\n") == 2
    assert engine.next_event() == Quit()
    engine.send_reply(reply.BYE)
    with pytest.raises(DriverError):
        engine.send_reply(reply.BYE)


def test_421_for_one_recipient_closes_for_all() -> None:
    engine = ServerConnection(OFFER, protocol=Protocol.LMTP)
    engine.send_greeting(GREETING)
    engine.receive_data(b"LHLO c\r\n" + ENVELOPE + ENVELOPE[-15:] + b"BDAT 0 LAST\r\n")
    while not isinstance(event := engine.next_event(), ChunkEnd):
        assert not isinstance(event, Signal)
        engine.send_reply(answer(event, engine))
    engine.send_replies([reply.QUEUED, reply.SHUTTING_DOWN])
    assert engine.state is State.CLOSED


def test_memory_of_an_endless_line_is_bounded() -> None:
    engine = ServerConnection(OFFER)
    engine.send_greeting(GREETING)
    for _ in range(100):
        engine.receive_data(b"x" * 10_000)
        engine.next_event()
        assert engine.unread <= 1
    engine.receive_data(b"\r\nNOOP\r\n")
    assert engine.next_event() == Refused(reply.LINE_TOO_LONG)


def test_a_refused_hello_is_forgotten() -> None:
    """RFC 5321 section 4.1.4: the server stays in the state it was in, and so does what it had offered."""
    engine = ServerConnection(OFFER)
    engine.send_greeting(GREETING)
    engine.receive_data(b"EHLO c\r\nHELO c\r\nMAIL FROM:<a@b> BODY=8BITMIME\r\n")
    for answers in (reply.OK, reply.RELAY_DENIED):
        assert isinstance(engine.next_event(), Hello)
        engine.send_reply(answers)
    assert isinstance(engine.next_event(), MailFrom)


def test_a_cancelled_exchange_is_told() -> None:
    engine = ServerConnection(OFFER)
    engine.send_greeting(GREETING)
    engine.receive_data(b"EHLO c\r\nAUTH LOGIN dXNlcg==\r\n*\r\n")
    engine.send_reply(answer(engine.next_event(), engine))  # type: ignore[arg-type]
    assert engine.next_event() == Auth("LOGIN", b"user")
    engine.send_reply(Reply(334, None, "UGFzc3dvcmQ6"))
    assert engine.next_event() == AuthResponse(None)
