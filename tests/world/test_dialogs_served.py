"""The dialogs of tests/dialogs, played against a running relay through a socket: what the engine promises is served.

Every dialog is played that a configuration can set up; those of which a relay says something else, rightly, are in
ELSEWHERE, each with the reason.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running
from tests.world.waiting import until

from postroad.smtp.extensions import Protocol as SmtpProtocol
from postroad.testing.play import Dialog, DialogError, Options, Step, parse_dialog, play

FOLDER = Path(__file__).parents[1] / "dialogs"
PATIENCE = 60.0
CONFIG = """
[[listener]]
name = "in"
address = "127.0.0.1:{port}"
role = "{role}"
tls = "off"
bare_newline = "{bare_newline}"
[relay]
domains = ["y.example", "x.example"]
[limits]
message_size = "64KiB"
errors = 1000
[[route]]
to = "*"
via = "smtp://127.0.0.1:{sink}"
"""
SET_UP = {"protocol", "bare_newline"}
"""Options that a configuration can say."""
OURS = re.compile(rb"\AReceived: [^\n]*\n(?:[ \t][^\n]*\n)*?\tid (\w+)[^\n]*\n(?:\t[^\n]*\n)*")
QUEUED = re.compile(rb"250 2\.6\.0 .*?\b([0-9a-z]{13})\b")
REFUSED = 'nobody of ours is called "refused"; who is refused, and why, stands in tests/units'
NO_END = "without a final CRLF it goes on as DATA with one"
NORMALIZE = "only a submission listener may normalize, and that adds header fields"
ELSEWHERE = {
    "rfc1870-6.1-size-is-refused-at-mail": "64 KiB is the least limit that a configuration can set",
    "rfc2033-4.2-a-reply-for-each-recipient": REFUSED,
    "rfc2033-4.2-no-recipient-is-503": REFUSED,
    "rfc2033-4.3-bdat": NO_END,
    "rfc3030-2-chunks": NO_END,
    "rfc2920-3.1-a-whole-group": REFUSED,
    "rfc2920-3.1-no-recipient-taken-in-a-group": REFUSED,
    "rfc3030-2-refused-bdat-swallows-its-octets": REFUSED,
    "rfc5321-3.3-a-refused-recipient-does-not-spoil-others": REFUSED,
    "rfc5321-3.3-no-recipient-was-taken": REFUSED,
    "rfc5321-4.1.4-refused-mail-changes-nothing": REFUSED,
    "rfc5321-c-source-route-is-stripped": REFUSED,
    "rfc3030-2-bdat-after-last": NO_END,
    "rfc3030-2-data-after-bdat": NO_END,
    "rfc3030-3-binarymime": "the next hop has no BINARYMIME, so the sender gets a report",
    "rfc3030-2-normalize": NORMALIZE,
    "rfc5321-2.3.8-normalize": NORMALIZE,
    "rfc5321-2.3.8-normalize-holds-for-content-alone": NORMALIZE,
}


def dialog_of(name: str) -> Dialog:
    """Return a dialog; a relay says 64 KiB (the least that can be configured) for 1000, and greets as LMTP."""
    text = (FOLDER / f"{name}.smtp").read_text(encoding="utf-8").replace("-SIZE 1000\n", "-SIZE 65536\n")
    if "protocol=lmtp" in text:
        text = text.replace("220 relay.example ESMTP", "220 relay.example LMTP")
    return parse_dialog(text)


def is_set_up(options: Options) -> bool:
    """True if a configuration can make a relay such as the dialog wants."""
    usual = msgspec.structs.asdict(Options())
    return all(name in SET_UP or usual[name] == value for name, value in msgspec.structs.asdict(options).items())


NAMES = sorted(path.stem for path in FOLDER.glob("*.smtp"))
PLAYED = [name for name in NAMES if name not in ELSEWHERE and is_set_up(dialog_of(name).options)]


class Wire:
    """The way to a relay: a client's socket on one side, a sink on the other."""

    def __init__(self, port: int, sink: CountingSink) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._sink = sink
        self._buffer = b""
        self._taken: list[bytes] = []  # ids
        self._given = 0

    def close(self) -> None:
        self._sock.close()

    def send(self, octets: bytes) -> None:
        with suppress(ConnectionError):  # the relay may have closed: what it said before counts
            self._sock.sendall(octets)

    def next_line(self) -> bytes | None:
        while b"\r\n" not in self._buffer:
            if not (more := self._more()):
                return None
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        if (queued := QUEUED.match(line)) and queued[1] not in self._taken:
            self._taken.append(queued[1])
        return line

    def next_content(self, size: int) -> bytes:
        until(lambda: set(self._taken) <= set(self._arrived()), PATIENCE, what="the messages at the sink")
        arrived = self._arrived()
        kept = b"".join(arrived[number] for number in self._taken)
        piece = kept[self._given : self._given + size]
        self._given += len(piece)
        return piece

    def start_tls(self) -> None:
        raise AssertionError("no dialog with TLS is played here")

    def end(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def has_closed(self) -> bool:
        self._buffer += self._more()
        return not self._buffer

    def _arrived(self) -> dict[bytes, bytes]:
        """Return what has come to the sink, by id, without the trace field of the relay."""
        found = ((OURS.match(message.content), message.content) for message in list(self._sink.arrived))
        return {match[1]: content[match.end() :] for match, content in found if match}

    def _more(self) -> bytes:
        try:
            return self._sock.recv(65536)
        except ConnectionError:
            return b""


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Options], Wire]]:
    """Make connections to a relay that is set up as a dialog wants it; alike ones share a relay."""
    relays: dict[Options, tuple[int, CountingSink]] = {}
    with ExitStack() as stack:

        def connect(options: Options) -> Wire:
            if options not in relays:
                sink = stack.enter_context(CountingSink())
                relays[options] = stack.enter_context(running(relay_of(options, sink))).port, sink
            wire = Wire(*relays[options])
            stack.callback(wire.close)
            return wire

        def relay_of(options: Options, sink: CountingSink) -> Relay:
            relay = Relay(tmp_path_factory.mktemp("relay"))
            role = "lmtp" if options.protocol is SmtpProtocol.LMTP else "mx"
            relay.configure(
                CONFIG.format(
                    port=relay.port,
                    role=role,
                    bare_newline=options.bare_newline,
                    sink=sink.port,
                ),
                name="relay.example",
            )
            return relay

        yield connect


@pytest.mark.parametrize("name", PLAYED)
def test_dialog_served(name: str, wire: Callable[[Options], Wire]) -> None:
    dialog = dialog_of(name)
    transport = wire(dialog.options)
    try:
        # The end of file at the end makes the relay close, so that whatever else it says is heard.
        play(Dialog(dialog.options, (*dialog.steps, Step(0, "E", b""))), transport)
    finally:
        transport.close()


def test_the_list_is_in_step_with_the_folder() -> None:
    assert set(ELSEWHERE) <= set(NAMES), "a dialog that is no more"
    assert len(PLAYED) > 60
    assert all(is_set_up(dialog_of(name).options) for name in ELSEWHERE), "left out twice"


def test_a_relay_that_says_something_else_is_noticed(wire: Callable[[Options], Wire]) -> None:
    dialog = parse_dialog("S: 220 *\nC: NOOP\nS: 251 *\n")
    with pytest.raises(DialogError, match="line 3"):
        play(dialog, wire(dialog.options))
