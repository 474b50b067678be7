"""What a relay says that cannot start, or starts with a worry, word for word: tests/cases/start/.

A case names the ``world`` it is started in (WORLDS) and what its configuration adds. Paths, ports, numbers of processes
and times are written as {home}, {port}, {pid} and {time}. To write what is said now into the cases:
``python -m tests.world.test_start``, then look at the difference.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from smtplib import SMTP

import pytest
import trustme
from tests.cases.folders import Case, cases, write_back
from tests.world.harness import Relay, running
from tests.world.waiting import until

PATIENCE = 60.0
NOBODY = 65534
LIKE_A_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
"""Root without what lets it into everybody's files: its interpreter stays readable, unlike for another user."""


@contextmanager
def plain(relay: Relay) -> Iterator[tuple[str, ...]]:
    yield ()


@contextmanager
def closed_data_dir(relay: Relay) -> Iterator[tuple[str, ...]]:
    relay.data_dir.mkdir()
    os.chown(relay.data_dir, NOBODY, NOBODY)
    relay.data_dir.chmod(0o700)
    yield LIKE_A_USER
    assert not list(relay.data_dir.iterdir())


@contextmanager
def data_dir_is_a_file(relay: Relay) -> Iterator[tuple[str, ...]]:
    relay.data_dir.write_text("mine")
    yield ()
    assert relay.data_dir.read_text() == "mine"


@contextmanager
def port_in_use(relay: Relay) -> Iterator[tuple[str, ...]]:
    with closing(socket.create_server(("127.0.0.1", relay.port))):
        yield ()


@contextmanager
def second_relay(relay: Relay) -> Iterator[tuple[str, ...]]:
    first = Relay(relay.home / "first")
    first.data_dir = relay.data_dir
    first.configure("")
    with running(first):
        yield ()
        with SMTP("127.0.0.1", first.port, timeout=60) as client:
            assert client.noop()[0] == 250, "the first one serves on"


@contextmanager
def expired_certificate(relay: Relay) -> Iterator[tuple[str, ...]]:
    day = datetime(2020, 2, 2, tzinfo=UTC)
    made = trustme.CA().issue_cert("relay.test.example", not_before=day.replace(year=2019), not_after=day)
    made.cert_chain_pems[0].write_to_path(relay.home / "certificate.pem")
    made.private_key_pem.write_to_path(relay.home / "key.pem")
    yield ()


@contextmanager
def no_configuration(relay: Relay) -> Iterator[tuple[str, ...]]:
    relay.config_file.unlink()
    yield ()


WORLDS: dict[str, Callable[[Relay], AbstractContextManager[tuple[str, ...]]]] = {
    "plain": plain,
    "closed data_dir": closed_data_dir,
    "data_dir is a file": data_dir_is_a_file,
    "port in use": port_in_use,
    "second relay": second_relay,
    "expired certificate": expired_certificate,
    "no configuration": no_configuration,
}


OF_EACH_START = ("kind=started", "kind=stopped", "kind=trouble what=files")
"""Lines that are not the case's: any start has the first two, and the third where the machine allows few files."""


def said(case: Case, home: Path) -> str:
    """Start a relay in the case's world; return what it said, and how it ended or that it serves."""
    relay = Relay(home)
    relay.configure(case.input.get("configuration", "").replace("{home}", str(home)))
    with WORLDS[case.input["world"]](relay) as prefix:
        relay.start(wait=False, prefix=prefix)
        assert relay.process is not None
        try:
            until(lambda: has_decided(relay), PATIENCE, what="the end of the start, or the relay serving")
            end = "" if relay.process.poll() is None else f"exit {relay.process.returncode}\n"
            if not end:
                end = serves(relay)
        finally:
            if relay.process.poll() is None:
                relay.stop()
    return legible(relay.log, relay) + end


def has_decided(relay: Relay) -> bool:
    assert relay.process is not None
    return relay.process.poll() is not None or "kind=started" in relay.log


def serves(relay: Relay) -> str:
    """Have the relay greet, and shake hands by TLS."""
    with SMTP("127.0.0.1", relay.port, timeout=60) as client:
        client.ehlo("client.example")
        assert client.starttls()[0] == 220
        assert client.ehlo("client.example")[0] == 250
    return "serves, also by TLS\n"


def legible(log: str, relay: Relay) -> str:
    text = log.replace(str(relay.home), "{home}").replace(str(relay.port), "{port}")
    text = re.sub(r"time=\S+Z", "time={time}", text)
    text = re.sub(r"held by process \d+", "held by process {pid}", text)
    return "".join(line for line in text.splitlines(keepends=True) if not any(map(line.__contains__, OF_EACH_START)))


@pytest.mark.parametrize("case", cases("start"), ids=repr)
def test_start(case: Case, tmp_path: Path) -> None:
    assert said(case, tmp_path) == case.expected()


def test_a_failed_start_is_mended_by_doing_what_it_says(tmp_path: Path) -> None:
    relay = Relay(tmp_path)
    with port_in_use(relay):
        relay.start(wait=False)
        assert relay.process is not None
        assert relay.process.wait(PATIENCE) == 1
    with running(relay):
        assert relay.queue_length() == 0


if __name__ == "__main__":

    def produce(case: Case) -> str:
        with tempfile.TemporaryDirectory() as home:
            return said(case, Path(home))

    write_back("start", produce)
