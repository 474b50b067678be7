"""Programs that know nothing but sendmail(8), through the relay to a sink of ours: cron, PHP, mail(1), mutt.

Owns: that each gets its message there, octet for octet, with the envelope that it asked for, and hears in its own way
when the relay is away. Does not own: options that none of them uses (tests/units/test_cli_sendmail.py).

``sendmail`` is our entry point under that name, as a link or a package would install it, in a directory of the test's;
it keeps what it was given, for comparison. cron is Debian's daemon itself, in mount namespaces of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.world.harness import SOURCES, Relay, running
from tests.world.sink import Message, Sink

TO = "bob@far.example"
ENTRY = """\
#!{python}
import os, sys
sys.path.insert(0, {sources!r})
os.environ["POSTROAD_CONFIG"] = {config!r}
given = sys.stdin.buffer.read()
with open({given!r}, "wb") as kept:
    kept.write(given)
with open({given!r}, "rb") as again:
    os.dup2(again.fileno(), 0)
from postroad.__main__ import main
main()
"""
ADDED = (b"From: ", b"Date: ", b"Message-ID: ")


class Installed:
    """``sendmail`` and ``mailq`` in a directory, and what the last caller wrote."""

    def __init__(self, home: Path, relay: Relay) -> None:
        self.bin = home / "bin"
        self.bin.mkdir()
        self.given = home / "given"
        self.sendmail = self.bin / "sendmail"
        self.sendmail.write_text(
            ENTRY.format(python=sys.executable, sources=SOURCES, config=str(relay.config_file), given=str(self.given))
        )
        self.sendmail.chmod(0o755)
        (self.bin / "mailq").write_text(
            self.sendmail.read_text().replace("given = sys.stdin.buffer.read()", "given = b''")
        )
        (self.bin / "mailq").chmod(0o755)
        self.home = home

    def run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", "USER": "root"}
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=60, check=False, env=environment
        )


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def relay(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with running(Relay(tmp_path_factory.mktemp("relay"), config=sink.route)) as relay:
        yield relay


@pytest.fixture
def installed(relay: Relay, tmp_path: Path) -> Installed:
    return Installed(tmp_path, relay)


@pytest.fixture
def away(tmp_path: Path) -> Installed:
    """Installed for a relay that does not run."""
    return Installed(tmp_path, Relay(tmp_path / "relay"))


def next_message(sink: Sink, before: int) -> Message:
    return sink.wait_for(before + 1)[before]


def assert_as_given(message: Message, installed: Installed, *, sender: str, to: str = TO) -> None:
    """The message is what the program wrote, with CRLF, and nothing but missing fields on top."""
    assert message.mail.split(" ")[0] == f"<{sender}>"
    assert [line.split(" ")[0] for line in message.rcpt] == [f"<{to}>"]
    given = installed.given.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    added, arrived = message.content.start[: -len(given)], message.content.start[-len(given) :]
    assert hashlib.sha256(arrived).hexdigest() == hashlib.sha256(given).hexdigest()
    assert all(line.startswith(ADDED) for line in added.splitlines()), added
    assert message.sha256 == hashlib.sha256(message.content.start).hexdigest()
    for name in ADDED:
        assert len(re.findall(rb"^" + name, message.content.start.partition(b"\r\n\r\n")[0], re.M | re.I)) == 1, name


CRON = """\
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/over/up /run/over/work
cp {sendmail} /run/over/up/sendmail
mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/run/over/up,workdir=/run/over/work /usr/sbin
mount -t tmpfs tmpfs /var/spool/cron
mkdir /var/spool/cron/crontabs
cp {crontab} /var/spool/cron/crontabs/root
chmod 600 /var/spool/cron/crontabs/root
mkdir /run/empty
mount --bind /run/empty /etc/cron.d
mount --bind /dev/null /etc/crontab
exec cron -f
"""


def test_cron_itself(installed: Installed, sink: Sink) -> None:
    """Its daemon runs an ``@reboot`` job at once and mails what the job prints."""
    before = len(sink.messages)
    crontab = installed.home / "crontab"
    crontab.write_text(f"MAILTO={TO}\n@reboot printf 'h\\303\\251llo\\n.\\n..two dots\\n'\n")
    script = CRON.format(sendmail=installed.sendmail, crontab=crontab)
    cron = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script], stdin=subprocess.DEVNULL
    )
    try:
        message = next_message(sink, before)
    finally:
        cron.kill()
        cron.wait(20)
    assert_as_given(message, installed, sender="root@relay.test.example")
    assert message.content.start.endswith("\r\n\r\nhéllo\r\n.\r\n..two dots\r\n".encode())


def test_what_cron_executes(installed: Installed, sink: Sink) -> None:
    before = len(sink.messages)
    text = f"From: root (Cron Daemon)\nTo: {TO}\nSubject: Cron <root@h> true\n\nout\n.\n..more\n"
    done = installed.run(str(installed.sendmail), "-FCronDaemon", "-i", "-B8BITMIME", "-oem", TO, text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert_as_given(next_message(sink, before), installed, sender="root@relay.test.example")


def php(installed: Installed, options: str) -> subprocess.CompletedProcess[str]:
    call = f'exit(mail("{TO}", "Grüße", "line\\n.\\n.dot\\n", "From: web@test.example\\r\\nX-One: 1") ? 0 : 1);'
    return installed.run("php", "-n", "-d", f"sendmail_path={installed.sendmail} {options}", "-r", call)


def test_php(installed: Installed, sink: Sink) -> None:
    before = len(sink.messages)
    done = php(installed, "-t -i -fweb@test.example")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    message = next_message(sink, before)
    assert_as_given(message, installed, sender="web@test.example")
    assert message.content.start.endswith(b"\r\n\r\nline\r\n.\r\n.dot\r\n\r\n")


def test_mail(installed: Installed, sink: Sink) -> None:
    before = len(sink.messages)
    done = installed.run(
        "s-nail", "-:/", "-S", "v15-compat", "-S", f"mta={installed.sendmail}", "-s", "subject", TO,
        text="body\n.dot\nü\n",
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    message = next_message(sink, before)
    assert_as_given(message, installed, sender="root@relay.test.example")
    assert b"Subject: subject\r\n" in message.content.start


def test_mutt(installed: Installed, sink: Sink) -> None:
    before = len(sink.messages)
    done = installed.run(
        "mutt", "-n", "-F", "/dev/null", "-e", f'set sendmail="{installed.sendmail} -oem -oi" record="" copy=no',
        "-s", "subject", "-b", "blind@far.example", TO, text="body\n.\nafter the dot\n",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    message = next_message(sink, before)
    assert [line.split(" ")[0] for line in message.rcpt] == [f"<{TO}>", "<blind@far.example>"]
    assert b"blind" not in message.content.start
    assert message.content.start.endswith(b"body\r\n.\r\nafter the dot\r\n")
    assert message.sha256 == hashlib.sha256(message.content.start).hexdigest()


def test_smtp_on_standard_streams(installed: Installed, sink: Sink) -> None:
    before = len(sink.messages)
    lines = ["EHLO client.test.example", "MAIL FROM:<a@test.example>", f"RCPT TO:<{TO}>", "DATA"]
    lines += ["Subject: x", "", "by -bs", ".", "QUIT", ""]
    done = installed.run(str(installed.sendmail), "-bs", text="\r\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\d{3}) ", done.stdout, re.M) == ["220", "250", "250", "250", "354", "250", "221"]
    assert next_message(sink, before).content.start.endswith(b"\r\n\r\nby -bs\r\n")


def test_mailq(installed: Installed) -> None:
    done = installed.run(str(installed.bin / "mailq"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Mail queue is empty\n", "")


# --- the relay is away -------------------------------------------------------------------------------------


def test_the_caller_hears_that_the_relay_is_away(away: Installed) -> None:
    done = away.run(str(away.sendmail), "-i", TO, text="Subject: x\n\ntext\n")
    assert done.returncode == 75
    assert "No relay answers here" in done.stderr


@pytest.mark.parametrize("options", ["-t -i", "-t -i --no-tempfail"])
def test_php_hears_it(away: Installed, options: str) -> None:
    assert php(away, options).returncode == 1


def test_mail_keeps_what_it_could_not_send(away: Installed) -> None:
    done = away.run(
        "s-nail", "-:/", "-S", "v15-compat", "-S", "sendwait", "-S", f"mta={away.sendmail}",
        "-S", f"DEAD={away.home}/dead", "-S", "save", "-s", "subject", TO, text="precious\n",
    )  # fmt: skip
    assert done.returncode != 0
    assert "precious" in (away.home / "dead").read_text()


def test_mutt_says_so(away: Installed) -> None:
    done = away.run(
        "mutt", "-n", "-F", "/dev/null", "-e", f'set sendmail="{away.sendmail} -oem -oi" record="" copy=no', "-e",
        "set sendmail_wait=0", "-s", "subject", TO, text="precious\n",
    )  # fmt: skip
    assert done.returncode != 0
    assert "75" in done.stdout + done.stderr
