"""``postroad sendmail``: options as decades of programs write them, the message, the envelope, exit statuses.

The relay is tests/world/sink.py, which is written apart from the product and shows what was on the wire.
"""

from __future__ import annotations

import io
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.units.test_cli_main import HEAVY, imported_by
from tests.world.sink import Message as Arrived
from tests.world.sink import Sink

from postroad.cli import sendmail_address
from postroad.cli.sendmail import program_of, sendmail
from postroad.cli.sendmail_address import AddressTrouble, complete, from_field, parse_recipients, parse_sender
from postroad.cli.sendmail_client import exit_status, stuffed, xtext
from postroad.cli.sendmail_message import Message, read_message
from postroad.cli.sendmail_options import UsageError, parse_options

CONFIG = """\
hostname = "relay.example.org"
[[listener]]
address = "127.0.0.1:{port}"
role = "submission"
[names]
origin = "example.org"
"""


class Caller:
    """A program that calls sendmail: what it writes, and what came of it."""

    def __init__(self, home: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sink = sink
        self.config = home / "postroad.toml"
        self.config.write_text(CONFIG.format(port=sink.port))
        self.config.chmod(0o644)
        self._patch = monkeypatch
        monkeypatch.setenv("POSTROAD_CONFIG", str(self.config))
        monkeypatch.delenv("NAME", raising=False)
        monkeypatch.setattr(sendmail_address, "calling_user", lambda: ("alice", "Alice Example"))
        monkeypatch.setattr("postroad.cli.sendmail.calling_user", lambda: ("alice", "Alice Example"))
        self.commands: list[list[str]] = []

    def call(self, *arguments: str, text: bytes = b"Subject: hello\n\ntext\n", program: str = "sendmail") -> int:
        self._patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
        return sendmail(arguments, self._command, program)

    def _command(self, words: object) -> int:
        self.commands.append(list(words))  # type: ignore[call-overload]
        return 3

    def arrived(self) -> Arrived:
        return self.sink.wait_for(1)[-1]


@pytest.fixture
def caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    with Sink(traces=0, refuse={"nobody@": "550 5.1.1 who", "busy@": "450 4.2.1 busy", "far@": "550 5.7.1 no"}) as sink:
        yield Caller(tmp_path, sink, monkeypatch)


def header(message: Arrived) -> dict[str, str]:
    lines = message.content.start.decode().partition("\r\n\r\n")[0].split("\r\n")
    return {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}


# --- what arrives ----------------------------------------------------------------------------------------


def test_what_cron_does(caller: Caller) -> None:
    text = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@h> true\n\nout\n.\n..put\n"
    assert caller.call("-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", text=text) == 0
    message = caller.arrived()
    assert message.mail.split(" ")[0] == "<alice@example.org>"
    assert message.rcpt == ["<root@example.org>"]
    fields = header(message)
    assert fields["From"] == "root (Cron Daemon)"
    assert set(fields) == {"From", "To", "Subject", "Date", "Message-ID"}
    assert message.content.start.endswith(b"\r\n\r\nout\r\n.\r\n..put\r\n")


def test_what_is_missing_is_added(caller: Caller) -> None:
    assert caller.call("bob@example.net", text=b"no header here\n") == 0
    message = caller.arrived()
    fields = header(message)
    assert fields["From"] == "Alice Example <alice@example.org>"
    assert re.fullmatch(r"<[0-9a-f.]+@relay\.example\.org>", fields["Message-ID"])
    assert message.content.start.endswith(b"\r\n\r\nno header here\r\n")
    assert message.hello == "relay.example.org"


def test_a_single_dot_ends_the_message_unless_told(caller: Caller) -> None:
    for options, end in (((), b"one\r\n"), (("-i",), b"one\r\n.\r\ntwo\r\n"), (("-oi",), b"one\r\n.\r\ntwo\r\n")):
        before = len(caller.sink.messages)
        assert caller.call(*options, "bob@example.net", text=b"Subject: x\n\none\n.\ntwo\n") == 0
        assert caller.sink.wait_for(before + 1)[before].content.start.endswith(b"\r\n\r\n" + end)


def test_recipients_from_the_header(caller: Caller) -> None:
    text = (
        b'To: "Bob, B." <bob@example.net>, carol\nCc: group: dave@example.net, =?utf-8?q?=C3=A9?= <eve@example.net>;\n'
        b"bcc: secret@example.net,\n secret2@example.net\nSubject: x\n\ntext\n"
    )
    assert caller.call("-t", "frank", "bob@example.net", text=text) == 0
    message = caller.arrived()
    names = ["frank@example.org", "bob@example.net", "carol@example.org", "dave@example.net", "eve@example.net"]
    assert message.rcpt == [f"<{name}>" for name in (*names, "secret@example.net", "secret2@example.net")]
    assert b"secret" not in message.content.start


def test_of_a_resent_message_the_resent_recipients(caller: Caller) -> None:
    text = b"Resent-To: new@example.net\nResent-Bcc: hidden@example.net\nTo: old@example.net\n\ntext\n"
    assert caller.call("-t", text=text) == 0
    assert caller.arrived().rcpt == ["<new@example.net>", "<hidden@example.net>"]
    assert b"hidden" not in caller.arrived().content.start


@pytest.mark.parametrize("null", ["", "<>"])
def test_the_null_sender(caller: Caller, null: str) -> None:
    assert caller.call("-f", null, "bob@example.net") == 0
    assert caller.arrived().mail.split(" ")[0] == "<>"
    assert header(caller.arrived())["From"] == "Alice Example <alice@example.org>"


def test_sender_and_name_are_what_is_said(caller: Caller) -> None:
    assert caller.call("-fweb@example.com", "-F", "Wéb\r\nBcc: x@example.net", "bob@example.net") == 0
    message = caller.arrived()
    assert message.mail.split(" ")[0] == "<web@example.com>"
    assert "Bcc" not in header(message)
    assert header(message)["From"].endswith(" <web@example.com>")


def test_reports_are_asked_for(caller: Caller) -> None:
    assert caller.call("-N", "success,failure", "-R", "hdrs", "-V", "a b+c", "bob@example.net") == 0
    message = caller.arrived()
    assert " RET=HDRS" in message.mail
    assert " ENVID=a+20b+2Bc" in message.mail
    assert message.rcpt == ["<bob@example.net> NOTIFY=SUCCESS,FAILURE"]


def test_eight_bits_and_utf8_addresses(caller: Caller) -> None:
    assert caller.call("bob@bücher.example", text="Subject: ü\n\ntext\n".encode()) == 0
    message = caller.arrived()
    assert message.rcpt == ["<bob@xn--bcher-kva.example>"]
    assert "BODY=8BITMIME" in message.mail
    assert "SMTPUTF8" not in message.mail
    assert caller.call("jörg@example.net") == 0
    message = caller.sink.wait_for(2)[1]
    assert message.rcpt == ["<jörg@example.net>"]
    assert message.mail.endswith(" SMTPUTF8")


@pytest.mark.parametrize(
    ("written", "travels"),
    [
        (b"a\nb", b"a\r\nb\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\r\nc", b"a\r\nb\r\nc\r\n"),
        (b".\n..", b".\r\n..\r\n"),
        (b"", b""),
    ],
)
def test_line_ends(caller: Caller, written: bytes, travels: bytes) -> None:
    assert caller.call("-i", "bob@example.net", text=b"Subject: x\n\n" + written) == 0
    assert caller.arrived().content.start.endswith(b"Subject: x\r\n\r\n" + travels)


def test_what_mbox_files_have_on_top_is_left_out(caller: Caller) -> None:
    assert caller.call("bob@example.net", text=b"From alice Mon Jan  1\nSubject: x\nX: \n y\n\ntext\n") == 0
    assert b"From alice" not in caller.arrived().content.start
    assert b"X: \r\n y\r\n\r\ntext\r\n" in caller.arrived().content.start


# --- what does not -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipient", "status"), [("nobody@example.net", 67), ("busy@example.net", 75), ("far@example.net", 77)]
)
def test_all_or_none(caller: Caller, recipient: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert caller.call("bob@example.net", recipient) == status
    assert recipient in capsys.readouterr().err
    assert caller.sink.messages == []


def test_a_relay_that_is_away(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        caller.config.write_text(CONFIG.format(port=free.getsockname()[1]))
        assert caller.call("bob@example.net") == 75
        assert caller.call("--no-tempfail", "bob@example.net") == 69
        assert caller.call("-bs") == 75
    said = capsys.readouterr()
    assert said.err.count("No relay answers here") == 3
    assert said.out.startswith("421 ")


def test_a_relay_that_breaks_off(caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        caller.config.write_text(CONFIG.format(port=server.getsockname()[1]))
        import threading

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert caller.call("bob@example.net") == 75
        thread.join(10)


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (450, "4.2.1 busy", 75),
        (421, "bye", 75),
        (550, "5.1.1 who", 67),
        (550, "5.1.2 where", 68),
        (553, "5.1.3 what", 65),
        (501, "5.5.4 what", 65),
        (530, "5.7.0 who are you", 77),
        (554, "5.7.1 no", 77),
        (552, "5.3.4 too large", 69),
        (554, "no", 69),
    ],
)
def test_exit_statuses(code: int, text: str, status: int) -> None:
    assert exit_status(code, text) == status


def test_nobody_knows_who_calls(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> tuple[str, str]:
        raise sendmail_address.NoUser("unknown")

    monkeypatch.setattr("postroad.cli.sendmail.calling_user", unknown)
    assert caller.call("bob@example.net") == 67
    assert caller.call("-f", "web@example.org", "bob@example.net") == 0
    assert header(caller.arrived())["From"] == "web@example.org"


@pytest.mark.parametrize(
    "address", ["a b@c.example", "<a@b.example", "a@b>c.example", "a\r\nRSET@b.example", "@b", "a@"]
)
def test_nothing_but_an_address_gets_into_a_command(caller: Caller, address: str) -> None:
    assert caller.call("-i", "--", address) in (0, 65)
    assert all(re.fullmatch(r"[^\s<>]+", line[len("RCPT TO:<") : -1]) for line in rcpt_commands(caller.sink))


def rcpt_commands(sink: Sink) -> list[str]:
    return [line for line in sink.commands if line.startswith("RCPT")]


# --- options -----------------------------------------------------------------------------------------------


def test_options_as_programs_write_them() -> None:
    options = parse_options(["-t", "-i", "-fweb@example.org", "-oem", "-oi", "-om", "-d0.1", "-U", "-G", "-n", "-m"])
    assert (options.from_header, options.dot_ends, options.sender) == (True, False, "web@example.org")
    assert options.recipients == []
    options = parse_options(["a@b", "-ti", "-f", "c@d", "-L", "tag", "-O", "X=y", "-oA/etc/aliases", "--", "-i", "e@f"])
    assert (options.from_header, options.dot_ends, options.sender) == (True, False, "c@d")
    assert options.recipients == ["a@b", "-i", "e@f"]
    assert parse_options(["-v", "-r", "x"]).verbose
    assert parse_options(["-Zq", "-i", "--fly=1"]).ignored == ["-Zq", "--fly=1"]
    assert parse_options(["-C", "/x", "--config=/y"]).config == Path("/y")


def test_modes() -> None:
    for words, mode in (
        (["-bm"], "deliver"),
        (["-bs"], "smtp"),
        (["-bp"], "mailq"),
        (["-bi"], "aliases"),
        (["-I"], "aliases"),
        (["-q"], "flush"),
        (["-q30m"], "nothing"),
        (["-bh"], "nothing"),
    ):
        assert parse_options(words).mode == mode
    assert parse_options(["-bm"], "mailq").mode == "deliver"


@pytest.mark.parametrize(
    "words", [["-f"], ["-bd"], ["-bv"], ["-q!"], ["-qR"], ["-N", "maybe"], ["-R", "x"], ["-V", "é"]]
)
def test_what_cannot_be_meant(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_options(words)


def test_other_commands_do_what_they_do(caller: Caller) -> None:
    assert caller.call("-bp", "-C", "x.toml") == 3
    assert caller.call(program="mailq") == 3
    assert caller.call("-q") == 3
    assert caller.call(program="newaliases") == 0
    assert caller.commands == [["mailq", "--config", "x.toml"], ["mailq"], ["queue", "flush", "--all", "--yes"]]


def test_names_of_the_program() -> None:
    names = ["/usr/sbin/sendmail", "mailq", "postroad-sendmail", "/usr/bin/newaliases", "postroad", "x/__main__.py"]
    assert list(map(program_of, names)) == ["sendmail", "mailq", "sendmail", "newaliases", "", ""]


# --- small things -------------------------------------------------------------------------------------------


def test_addresses() -> None:
    assert complete("root", "example.org") == "root@example.org"
    assert complete('"a b"@[192.0.2.1]', "x") == '"a b"@[192.0.2.1]'
    assert parse_recipients(["undisclosed-recipients:;", "a@b.example, a@b.example"], "x") == ["a@b.example"]
    assert parse_sender("Alice <a@b.example>", "x") == "a@b.example"
    for wrong in ("a@b.example, c@d.example", "a" * 400):
        with pytest.raises(AddressTrouble):
            parse_sender(wrong, "x")
    assert from_field("a@b", 'The "boss", A.') == '"The \\"boss\\", A." <a@b>'
    assert from_field("a@b", "") == "a@b"
    assert "\n" not in from_field("a@b", "é" * 199)


def test_dots_and_xtext() -> None:
    assert stuffed(b".\r\n.a\r\nb.\r\n") == b"..\r\n..a\r\nb.\r\n"
    assert xtext("a=b c+") == "a+3Db+20c+2B"


def test_a_message_keeps_its_octets() -> None:
    octets = b"A: 1\r\nB:\r\n\t2\r\nbroken\r\n\r\nbody\xff\r\n"
    message = Message(octets)
    assert message.as_bytes() == b"A: 1\r\nB:\r\n\t2\r\n\r\nbroken\r\n\r\nbody\xff\r\n"
    assert read_message(io.BytesIO(b"a\n.\nb"), dot_ends=True) == b"a\n"


def test_it_starts_fast(caller: Caller) -> None:
    code = (
        "sys.argv = ['sendmail', '-i', 'bob@example.net']\n"
        "sys.stdin = open('/dev/null')\ntry:\n  from postroad.__main__ import main; main()\nexcept SystemExit as e: "
        "assert e.code == 0, e.code"
    )
    started = time.monotonic()
    imported = imported_by(code)
    assert imported & (HEAVY | {"typer", "pydantic", "msgspec", "asyncio", "ssl"}) == set()
    assert time.monotonic() - started < 10
    assert caller.arrived().rcpt == ["<bob@example.net>"]


def test_closed_streams_are_no_crash(caller: Caller) -> None:
    command = f"exec {sys.executable} -m postroad sendmail -i bob@example.net <&- >&- 2>&-"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "POSTROAD_CONFIG": str(caller.config)}
    done = subprocess.run(["sh", "-c", command], timeout=60, check=False, env=environment)
    assert done.returncode == 0
    assert caller.arrived().rcpt == ["<bob@example.net>"]


def test_ctrl_c(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("postroad.cli.sendmail.read_message", interrupt)
    assert caller.call("bob@example.net") == 130
    assert caller.sink.messages == []
