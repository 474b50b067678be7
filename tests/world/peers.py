"""Postfix and Dovecot as real processes, each with a configuration and directories of its own.

Owns: their configuration, start and end. Does not own: Exim, which needs a root of its own (test_exim.py, overlay.py),
nor what is sent through them. What a server leaves running is ended by the pid it wrote.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.world.harness import free_port
from tests.world.waiting import is_listening, until

START_WITHIN: Final = 40.0

POSTFIX_MAIN: Final = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/postfix.log
maillog_file_prefixes = {home}
myhostname = postfix.test.example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_host_lookup = native
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_discard_ehlo_keywords =
smtputf8_enable = yes
message_size_limit = 60000000
minimal_backoff_time = 1s
smtp_destination_recipient_limit = 50
"""
POSTFIX_MASTER: Final = """
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       n       -       -       lmtp
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


class Postfix:
    """A Postfix that listens on ``port``; ``home`` must be open to its own account all the way down."""

    def __init__(self, home: Path, settings: str) -> None:
        self.home = home
        self.port = free_port()
        self._config = home / "etc"
        self._config.mkdir()
        (home / "queue").mkdir()
        (home / "data").mkdir(mode=0o700)
        subprocess.run(["chown", "postfix:postfix", str(home / "data")], check=True)
        (self._config / "main.cf").write_text(POSTFIX_MAIN.format(home=home) + settings)
        (self._config / "master.cf").write_text(POSTFIX_MASTER.format(port=self.port))

    @property
    def log(self) -> str:
        file = self.home / "postfix.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            ["postfix", "-c", str(self._config), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"postfix {arguments}: {done.stdout}{done.stderr}{self.log[-3000:]}"
        return done.stdout

    def queue(self) -> str:
        """What its queue holds: "" for nothing."""
        done = subprocess.run(
            ["postqueue", "-c", str(self._config), "-j"], capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    def end(self) -> None:
        """Stop it; if it does not, end its master, and with it the rest of its process group."""
        pid = int((self.home / "queue/pid/master.pid").read_text())
        try:
            self.command("stop")
        finally:
            if Path(f"/proc/{pid}").exists():
                os.killpg(pid, signal.SIGKILL)


@contextmanager
def postfix(home: Path, settings: str = "") -> Iterator[Postfix]:
    """Run a Postfix with main.cf ``settings`` on top of ours."""
    server = Postfix(home, settings)
    server.command("start")
    try:
        until(lambda: is_listening(server.port), START_WITHIN, what="Postfix listens")
        yield server
    finally:
        server.end()


DOVECOT: Final = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
instance_name = postroad-test
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256
default_internal_user = dovecot
default_login_user = dovenull
mail_location = maildir:{home}/mail/%u
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
default_vsz_limit = 1024M
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={home}/mail/%u allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
  unix_listener lmtp {{
    mode = 0666
  }}
}}
"""


class Dovecot:
    """Ports of a Dovecot that takes any user with the password "secret"."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.imap, self.pop3, self.lmtp = free_port(), free_port(), free_port()
        self.socket = home / "run/lmtp"
        self._file = home / "dovecot.conf"
        mail = home / "mail"
        mail.mkdir()
        mail.chmod(0o777)
        self._file.write_text(DOVECOT.format(home=home, imap=self.imap, pop3=self.pop3, lmtp=self.lmtp))

    @property
    def log(self) -> str:
        file = self.home / "dovecot.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["dovecot", "-F", "-c", str(self._file)], stdin=subprocess.DEVNULL)


@contextmanager
def dovecot(home: Path) -> Iterator[Dovecot]:
    """Run a Dovecot in the foreground; ``home`` must be open to its accounts all the way down."""
    server = Dovecot(home)
    process = server.start()
    try:
        until(
            lambda: all(is_listening(port) for port in (server.imap, server.pop3, server.lmtp)) or process.poll(),
            START_WITHIN,
            what="Dovecot listens",
        )
        assert process.poll() is None, server.log
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
