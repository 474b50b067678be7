"""Clients that people use log in to the relay, by each mechanism they know; and what they may then."""

from __future__ import annotations

import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running
from tests.world.overlay import open_directory
from tests.world.peers import postfix
from tests.world.waiting import until

PASSWORD = "correct horse battery"
SOURCE = "127.9.0.1"
"""In no network that may relay."""
MESSAGE = "From: <a@client.example>\r\nTo: <b@next.example>\r\nSubject: {subject}\r\n\r\nHello\r\n"
CONFIG = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[relay]
networks = ["127.0.0.2/32"]
"""


@pytest.fixture(scope="module")
def sink() -> Iterator[CountingSink]:
    with CountingSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def relay(sink: CountingSink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    place = tmp_path_factory.mktemp("relay")
    with running(Relay(place, config=CONFIG.format(port=sink.port), role="submission")) as relay:
        relay.postroad("user", "add", "alice", "--password-stdin", input=PASSWORD + "\n")
        relay.postroad("user", "add", "bob", "--send-as", "bob.example", "--password-stdin", input=PASSWORD + "\n")
        relay.postroad("user", "add", "old", "--scheme", "argon2id", "--password-stdin", input=PASSWORD + "\n")
        yield relay


def by_smtplib(mechanism: str) -> Callable[[Relay, str], None]:
    def send(relay: Relay, subject: str) -> None:
        with logged_in(relay, mechanism=mechanism) as client:
            client.sendmail("a@client.example", ["b@next.example"], MESSAGE.format(subject=subject))

    return send


def logged_in(
    relay: Relay, user: str = "alice", password: str = PASSWORD, *, mechanism: str = "PLAIN", source: str = SOURCE
) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", relay.port, timeout=30, source_address=(source, 0))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.starttls(context=context)
    client.ehlo("client.example")
    client.user, client.password = user, password
    try:
        client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
    except smtplib.SMTPAuthenticationError:
        client.close()
        raise
    return client


def by_command(*command: str) -> Callable[[Relay, str], None]:
    def send(relay: Relay, subject: str) -> None:
        words = [word.format(port=relay.port, subject=subject, password=PASSWORD) for word in command]
        message = MESSAGE.format(subject=subject).encode()
        done = subprocess.run(words, input=message, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)

    return send


def by_swaks(mechanism: str) -> Callable[[Relay, str], None]:
    ways = ("--server", "127.0.0.1:{port}", "--local-interface", SOURCE, "--tls", "--auth", mechanism)
    who = ("--auth-user", "alice", "--auth-password", "{password}", "--from", "a@client.example")
    return by_command("swaks", *ways, *who, "--to", "b@next.example", "--header", "Subject: {subject}")


def by_curl(mechanism: str) -> Callable[[Relay, str], None]:
    ways = ("--ssl-reqd", "--insecure", "--interface", SOURCE, "--login-options", f"AUTH={mechanism}")
    who = ("--user", "alice:{password}", "--mail-from", "a@client.example", "--mail-rcpt", "b@next.example")
    return by_command("curl", "--silent", "--show-error", "smtp://127.0.0.1:{port}", *ways, *who, "--upload-file", "-")


def by_msmtp(mechanism: str) -> Callable[[Relay, str], None]:
    ways = ("--host=127.0.0.1", "--port={port}", "--tls=on", "--tls-certcheck=off", f"--auth={mechanism}")
    who = ("--user=alice", "--passwordeval=echo {password}", "--from=a@client.example", f"--source-ip={SOURCE}")
    return by_command("msmtp", *ways, *who, "b@next.example")


def by_postfix(mechanism: str) -> Callable[[Relay, str], None]:
    def send(relay: Relay, subject: str) -> None:
        with open_directory() as home:
            (home / "passwords").write_text(f"[127.0.0.1]:{relay.port} alice:{PASSWORD}\n")
            settings = f"""
relayhost = [127.0.0.1]:{relay.port}
smtp_bind_address = {SOURCE}
smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:{home}/passwords
smtp_sasl_security_options =
smtp_sasl_mechanism_filter = {mechanism}
"""
            sender = f"{mechanism}@client.example"
            with postfix(home, settings) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
                client.sendmail(sender, ["b@next.example"], MESSAGE.format(subject=subject))
                until(lambda: f"sender={sender}" in relay.log, 60, what="the message at the relay")

    return send


CLIENTS: dict[str, tuple[str, Callable[[Relay, str], None]]] = {
    "smtplib PLAIN": ("PLAIN", by_smtplib("PLAIN")),
    "smtplib LOGIN": ("LOGIN", by_smtplib("LOGIN")),
    "swaks PLAIN": ("PLAIN", by_swaks("PLAIN")),
    "swaks LOGIN": ("LOGIN", by_swaks("LOGIN")),
    "curl PLAIN": ("PLAIN", by_curl("PLAIN")),
    "curl LOGIN": ("LOGIN", by_curl("LOGIN")),
    "msmtp PLAIN": ("PLAIN", by_msmtp("plain")),
    "msmtp LOGIN": ("LOGIN", by_msmtp("login")),
    "msmtp SCRAM-SHA-256": ("SCRAM-SHA-256", by_msmtp("scram-sha-256")),
    "Postfix PLAIN": ("PLAIN", by_postfix("plain")),
    "Postfix SCRAM-SHA-256": ("SCRAM-SHA-256", by_postfix("scram-sha-256")),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_that_people_use_logs_in(relay: Relay, sink: CountingSink, name: str) -> None:
    subject = name.replace(" ", "-")
    CLIENTS[name][1](relay, subject)

    def came() -> list[bytes]:
        return [one.content for one in list(sink.arrived) if f"Subject: {subject}\r\n".encode() in one.content]

    until(lambda: len(came()) == 1, 60, what=f"the message of {name}")
    (content,) = came()
    assert b"with ESMTPSA" in content, content[:500]
    assert b"alice" not in content, "who logged in is nobody's business"


def test_who_is_refused(relay: Relay) -> None:
    for user, password in (("alice", "wrong"), ("nobody", PASSWORD), ("Alice", PASSWORD)):
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            logged_in(relay, user, password, source="127.9.0.2")
        assert (refused.value.smtp_code, refused.value.smtp_error) == (535, b"5.7.8 Authentication credentials invalid")
    relay.logged("rule=auth.credentials", 3)
    assert "user=nobody" in relay.log
    assert PASSWORD not in relay.log


def test_a_user_sends_as_its_own(relay: Relay) -> None:
    with logged_in(relay, "bob", source="127.9.0.3") as client:
        assert client.mail("x@bob.example")[0] == 250
        client.rset()
        assert client.mail("x@alice.example") == (553, b"5.7.1 This user may not send as that address")
        assert client.mail("")[0] == 250


def test_a_new_password_holds_at_once(relay: Relay) -> None:
    with logged_in(relay, "old", source="127.9.0.4"):
        pass
    relay.postroad("user", "password", "old", "--password-stdin", input="another horse battery\n")

    def is_refused() -> bool:
        try:
            with logged_in(relay, "old", source="127.9.0.5"):
                return False
        except smtplib.SMTPAuthenticationError:
            return True

    until(is_refused, 20, what="the old password is refused")
    with logged_in(relay, "old", "another horse battery", source="127.9.0.6") as client:
        assert client.mail("a@client.example")[0] == 250
