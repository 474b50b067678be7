"""Another configuration while clients send: no connection is dropped, no message is lost, and it holds within a second.

What is wrong with it is said with file, line and key, and then nothing has changed. Whoever dies meanwhile comes back
with what is in force. Certificates are exchanged without a reload.
"""

from __future__ import annotations

import os
import pwd
import signal
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from smtplib import SMTP

import pytest
import trustme
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running, wait_until
from tests.world.load import Client, Generator
from tests.world.waiting import until

ENOUGH = 100_000
SWITCHED_MAX = 1.0
"""Seconds from the end of a reload to the arrival of a message by the new route."""
EXCHANGED_MAX = 30.0
"""Seconds until a new certificate is shown; the relay looks every 5, its supervisor likewise."""
USER = "postroad-reload"


def to(sink: CountingSink, more: str = "") -> str:
    return f'{more}[[route]]\nto = "*"\nvia = "smtp://127.0.0.1:{sink.port}"\n[retry]\nfirst = "1s"\nlongest = "2s"\n'


def numbers(*sinks: CountingSink) -> Counter[str]:
    return Counter(message.field(b"X-Number") for sink in sinks for message in list(sink.arrived))


def listed(seconds: list[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in seconds)


def reloads(relay: Relay) -> int:
    return relay.log.count("kind=reloaded")


def hang_up(relay: Relay) -> None:
    """SIGHUP, and wait for what comes of it."""
    before = reloads(relay)
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: reloads(relay) > before, "the reload that SIGHUP asks for")


def everywhere(relay: Relay, sink: CountingSink, name: str) -> float:
    """Send over so many new connections that all workers take part; all must arrive at ``sink``. Returns how long the
    last took."""
    took = 0.0
    for number in range(12):
        with Client(relay.port) as client:
            assert client.send("b@next.example", f"{name}{number}").startswith(b"250")
            sent = time.monotonic()
            until(lambda number=number: numbers(sink)[f"{name}{number}"], 10, what=f"{name} by the route in force")  # type: ignore[misc]
            took = max(took, time.monotonic() - sent)
    return took


def test_a_route_changes_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with CountingSink() as one, CountingSink() as two:
        relay = Relay(tmp_path, config=to(one))
        kept = Generator(0, ENOUGH, clients=4, name="kept", pause=0.005)
        fresh = Generator(0, ENOUGH, clients=4, name="fresh", each=1, pause=0.005)
        took, arrived = [], []
        with running(relay):
            kept.port = fresh.port = relay.port
            with kept, fresh:
                for round_ in range(4):
                    sink = (two, one)[round_ % 2]
                    kept.until_taken(100)
                    fresh.until_taken(50)
                    # One in the middle of its envelope.
                    with Client(relay.port) as open_one:
                        for command in ("MAIL FROM:<a@client.example>", "RCPT TO:<b@next.example>"):
                            assert open_one.say(command).startswith(b"250")
                        relay.configure(to(sink))
                        began = time.monotonic()
                        if round_ < 2:
                            assert relay.postroad("reload").stdout == "changed        route[0].via\n"
                        else:
                            hang_up(relay)
                        took.append(time.monotonic() - began)
                        arrived.append(everywhere(relay, sink, f"round{round_}-"))
                        assert open_one.say("DATA").startswith(b"354")
                        assert open_one.say(f"X-Number: open{round_}\r\n\r\n.").startswith(b"250")
                        assert open_one.send("b@next.example", f"again{round_}").startswith(b"250")
            taken = kept.taken | fresh.taken | {f"open{round_}" for round_ in range(4)}
            until(lambda: taken <= numbers(one, two).keys(), 30, what="the arrival of all")
            assert relay.stop() == 0
    for generator in (kept, fresh):
        assert (generator.broken, generator.doubtful, generator.refused, generator.errors) == (0, set(), [], [])
    twice = {number for number, count in numbers(one, two).items() if count > 1}
    assert not twice
    with capsys.disabled():
        print(
            f"\n4 reloads under load, two by command, two by SIGHUP: {listed(took)} s; then mail goes by the new route "
            f"after at most {listed(arrived)} s; "
            f"{len(taken)} messages over kept and new connections, none lost or doubled, no connection broke"
        )
    assert max(arrived) < SWITCHED_MAX


def test_what_is_broken_is_refused_whole(tmp_path: Path) -> None:
    with CountingSink() as one, CountingSink() as two:
        relay = Relay(tmp_path, config=to(one))
        with running(relay):
            relay.configure(to(two) + '[limits]\nerrors = "many"\nconections = 3\n')
            text = relay.config_file.read_text().splitlines()
            errors, unknown = (
                next(number for number, line in enumerate(text, 1) if line.startswith(key))
                for key in ("errors", "conections")
            )
            done = relay.postroad("reload", check=False)
            assert done.returncode == 1
            assert done.stdout == ""
            assert f"{relay.config_file}:{errors}: [limits] errors" in done.stderr
            assert f"{relay.config_file}:{unknown}: [limits] conections" in done.stderr
            assert "connections" in done.stderr
            everywhere(relay, one, "refused")
            hang_up(relay)
            wait_until(lambda: f"{relay.config_file}:{errors}" in relay.log, "the refusal in the log")
            everywhere(relay, one, "refused-again")
            victim = relay.pids("worker")[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: relay.pids("worker").get(0, victim) != victim, "another worker")
            everywhere(relay, one, "old")
            assert not two.arrived
            # What cannot be used, though it is well written: a certificate that is not there.
            relay.configure(to(two) + '[[tls.certificate]]\ncertificate = "no.pem"\nprivate_key = "no.pem"\n')
            done = relay.postroad("reload", check=False)
            assert done.returncode == 1
            assert "no.pem" in done.stderr
            everywhere(relay, one, "unusable")
            assert not two.arrived
            # One that needs a restart, beside one that does not.
            workers = relay.pids("worker")
            relay.configure("workers = 3\n" + to(two))
            assert relay.postroad("reload").stdout == "changed        route[0].via\nneeds restart  workers\n"
            everywhere(relay, two, "new")
            assert relay.pids("worker") == workers
            assert relay.postroad("reload").stdout == "needs restart  workers\n"
            assert relay.stop() == 0


def test_who_dies_comes_back_with_what_is_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker killed right after a reload, right before it, and many reloads at once."""
    with CountingSink() as one, CountingSink() as two:
        relay = Relay(tmp_path, config=to(one))
        with running(relay), Generator(relay.port, ENOUGH, clients=4, pause=0.01) as load:
            for round_ in range(6):
                sink = (two, one)[round_ % 2]
                relay.configure(to(sink))
                victim = relay.pids("worker")[round_ % 2]
                if round_ < 2:
                    relay.postroad("reload")
                    os.kill(victim, signal.SIGKILL)
                elif round_ < 4:
                    os.kill(victim, signal.SIGKILL)  # it is being restarted while the others prepare
                    hang_up(relay)
                else:
                    threading.Timer(0.0, os.kill, (victim, signal.SIGKILL)).start()
                    many(relay, 5)
                wait_until(lambda victim=victim: len(set(relay.pids("worker").values()) - {victim}) == 2, "a worker")  # type: ignore[misc]
                everywhere(relay, sink, f"round{round_}-")
            load.stop()
            until(load.is_idle, 60, what="the end of the clients")
            until(lambda: load.taken <= numbers(one, two).keys(), 60, what="the arrival of all")
            assert not load.errors
            assert "Traceback" not in relay.log
            assert relay.stop() == 0
    with capsys.disabled():
        print(
            f"\n6 reloads with a worker killed beside each, {len(load.taken)} messages with 250, none lost; "
            f"{reloads(relay)} reloads said what came of them"
        )


def many(relay: Relay, count: int) -> None:
    """Ask for so many reloads at once: each gets an answer."""
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(relay.postroad("reload", check=False).returncode))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
        os.kill(relay.pid, signal.SIGHUP)
    for thread in threads:
        thread.join(60)
    assert results == [0] * count


# --- certificates ---


@pytest.fixture
def user() -> Iterator[str]:
    subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True)
    try:
        yield pwd.getpwnam(USER).pw_name
    finally:
        subprocess.run(["userdel", USER], check=True)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that any user can enter; pytest's are for their owner alone."""
    with tempfile.TemporaryDirectory(prefix="postroad-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


def exchange(path: Path, authority: trustme.CA) -> None:
    """Write another pair, as a renewal does: each file replaced at once, the key for root alone."""
    pair = authority.issue_cert("relay.test.example")
    for name, pem in (("key.pem", pair.private_key_pem), ("certificate.pem", pair.cert_chain_pems[0])):
        pem.write_to_path(path / f"{name}.new")
        (path / f"{name}.new").chmod(0o600)
        (path / f"{name}.new").rename(path / name)


def verifies(relay: Relay, authority: trustme.CA) -> bool:
    """True if a new handshake shows a certificate of that authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client._host = "relay.test.example"  # type: ignore[attr-defined]
        try:
            client.starttls(context=context)
        except ssl.SSLCertVerificationError:
            client.close()
            return False
        return client.noop()[0] == 250


def all_verify(relay: Relay, authority: trustme.CA) -> bool:
    return all(verifies(relay, authority) for _ in range(10))


@pytest.mark.parametrize("as_user", [False, True])
def test_a_certificate_is_exchanged(
    open_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest, as_user: bool
) -> None:
    """Where privileges are given up, only the supervisor can read the key: it hands it on in memory."""
    head = f'[process]\nuser = "{request.getfixturevalue("user")}"\n' if as_user else ""
    tls = '[[tls.certificate]]\ncertificate = "certificate.pem"\nprivate_key = "key.pem"\n'
    first, second, third = trustme.CA(), trustme.CA(), trustme.CA()
    exchange(open_path, first)
    with CountingSink() as one, CountingSink() as two:
        relay = Relay(open_path, config=to(one, head) + tls)
        with running(relay):
            assert all_verify(relay, first)
            exchange(open_path, second)
            began = time.monotonic()
            until(partial(all_verify, relay, second), EXCHANGED_MAX, what="the new certificate")
            shown = time.monotonic() - began
            assert not reloads(relay)
            # A reload reads it at once, and whoever comes later has it.
            exchange(open_path, third)
            relay.configure(to(two, head) + tls)
            relay.postroad("reload")
            assert all_verify(relay, third)
            everywhere(relay, two, "new")
            victim = relay.pids("worker")[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: relay.pids("worker").get(0, victim) != victim, "another worker")
            everywhere(relay, two, "newer")
            assert all_verify(relay, third)
            assert "what=certificate" not in relay.log
            assert relay.stop() == 0
    with capsys.disabled():
        print(f"\nanother certificate, {'in memory' if as_user else 'in its file'}: shown after {shown:.1f} s")
