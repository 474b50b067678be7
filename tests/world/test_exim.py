"""A real Exim behind the relay and before it: CHUNKING, PIPELINING, DSN and SMTPUTF8 as Exim speaks them.

Owns: the exchange with Exim, from its overlay root. Does not own: how that root is made (overlay.py).
"""

from __future__ import annotations

import hashlib
import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from tests.world.harness import Relay, free_port, running
from tests.world.overlay import open_directory, overlay_root
from tests.world.sink import Message, Sink
from tests.world.waiting import is_listening, until

CONTENT: Final = (
    b"From: <sender@test.example>\r\nTo: <one@far.example>\r\nSubject: through both\r\n"
    b"Date: Mon, 2 Mar 2026 10:00:00 +0000\r\nMessage-Id: <1@test.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b".\r\n..two\r\n\xc3\xa9\xc3\xa8\xff\r\n" + b"a line of 900 " * 64 + b"\r\n\r\n.last\r\n"
)
START_WITHIN: Final = 40.0
# message_logs and syslog off: all it says stands in one file, for the test to read.
EXIM: Final = """
primary_hostname = exim.test.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts =
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
pipelining_advertise_hosts = *
hosts_treat_as_local =
log_file_path = {home}/exim-%slog
log_selector = +smtp_confirmation +received_recipients +8bitmime
message_size_limit = 60M
queue_run_in_order
acl_smtp_rcpt = accept
begin routers
onward:
  driver = manualroute
  route_list = * 127.0.0.1::{next_port} byname
  self = send
  transport = onward
begin transports
onward:
  driver = smtp
  hosts_avoid_tls = *
  hosts_try_chunking = *
  allow_localhost
begin retry
* * F,1h,1m
"""


@dataclass
class Exim:
    port: int
    home: Path

    @property
    def log(self) -> str:
        return "".join(file.read_text(errors="replace") for file in sorted(self.home.glob("exim*log")))


@contextmanager
def exim(home: Path, next_port: int) -> Iterator[Exim]:
    """Run an Exim that sends everything to ``next_port``."""
    server = Exim(free_port(), home)
    with overlay_root("exim") as root:
        root.write("/etc/exim4/exim4.conf", EXIM.format(port=server.port, home=home, next_port=next_port))
        process = root.start("exim4", "-bdf", log=home / "exim.log")
        until(lambda: is_listening(server.port) or process.poll() is not None, START_WITHIN, what="Exim listens")
        assert process.poll() is None, server.log
        yield server
        root.stop(process)


def send(port: int, recipients: dict[str, list[str]], sink: Sink, *, log: Exim, relay: Relay) -> Message:
    before = len(sink.messages)
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("client.test.example")
        options = [f"SIZE={len(CONTENT)}", "BODY=8BITMIME", "RET=HDRS", "ENVID=QQ+2B314159+3D"]
        assert client.mail("sender@test.example", options)[0] == 250
        for recipient, parameters in recipients.items():
            assert client.rcpt(recipient, parameters)[0] == 250
        assert client.data(CONTENT)[0] == 250
    try:
        return sink.wait_for(before + 1, 40)[before]
    except TimeoutError as late:
        raise AssertionError(f"{late}\n{log.log[-3000:]}\n{relay.log[-3000:]}") from late


def assert_as_sent(message: Message, recipients: dict[str, list[str]]) -> None:
    path, *mail = message.mail.split(" ")
    assert path == "<sender@test.example>"
    assert {"RET=HDRS", "ENVID=QQ+2B314159+3D"} <= set(mail)
    arrived = {line.split(" ")[0]: set(line.split(" ")[1:]) for line in message.rcpt}
    assert set(arrived) == {f"<{each}>" for each in recipients}
    for recipient, parameters in recipients.items():
        assert set(parameters) <= arrived[f"<{recipient}>"], message.rcpt
    assert len(message.content.traces) == 2
    assert sum(b"by relay.test.example (Postroad)" in each for each in message.content.traces) == 1
    assert (message.content.octets, message.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


RECIPIENTS: Final = {
    "one@far.example": ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;first@near.example"],
    "two@far.example": ["NOTIFY=NEVER"],
}


@pytest.fixture
def home() -> Iterator[Path]:
    with open_directory() as home:
        yield home


def test_exim_sends_to_the_relay(home: Path) -> None:
    with (
        Sink(traces=2) as sink,
        running(Relay(home / "relay", config=sink.route)) as relay,
        exim(home, relay.port) as server,
    ):
        message = send(server.port, RECIPIENTS, sink, log=server, relay=relay)
        assert_as_sent(message, RECIPIENTS)
        # K: Exim sent by CHUNKING; C: the reply it got.
        pattern = r'=> one@far\.example .* K .*C="250[- ].*2\.6\.0 Queued as \w+"'
        until(lambda: re.search(pattern, server.log), 30, what=f"Exim logs it: {server.log}")


def test_the_relay_sends_to_exim(home: Path) -> None:
    with Sink(traces=2) as sink, exim(home, sink.port) as server:
        config = f'\n[[route]]\nto = "*"\nvia = "smtp://127.0.0.1:{server.port}"\n'
        with running(Relay(home / "relay", config=config)) as relay:
            message = send(relay.port, RECIPIENTS, sink, log=server, relay=relay)
            assert_as_sent(message, RECIPIENTS)
            until(lambda: relay.log.count("kind=delivered") == 2, 30, what="the relay logs both")
            queued = re.findall(r'reply="250 OK id=([\w-]+)"', relay.log)
            assert len(queued) == 2
            lines = [f"{each} <= sender@test.example" for each in queued]
            until(lambda: all(line in server.log for line in lines), 30, what="Exim logs both")
