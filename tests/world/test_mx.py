"""Delivery by MX, with a DNS of the test's own: order of hosts, null MX, no such domain, loops, DNS in trouble."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from smtplib import SMTP

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running
from tests.world.waiting import until

from postroad.testing.dns_server import DnsServer
from postroad.testing.zone import Zone

PATIENCE = 60.0
BEST, WORSE, SILENT = "127.20.1.1", "127.20.1.2", "127.20.1.3"
ZONE = {
    "two.example": {"MX": ["10 best.example.", "20 worse.example."]},
    "fails.example": {"MX": ["10 silent.example.", "20 worse.example."]},
    "plain.example": {"A": [BEST]},
    "null.example": {"MX": ["0 ."]},
    "ours.example": {"MX": ["10 relay.test.example."]},
    "relay.test.example": {"A": ["127.0.0.1"]},
    "best.example": {"A": [BEST]},
    "worse.example": {"A": [WORSE]},
    "silent.example": {"A": [SILENT]},
    "client.example": {"A": [BEST]},
    "later.example": "SERVFAIL",
}


class Host(CountingSink):
    """A sink on port 25 of an address of its own."""

    def __init__(self, address: str) -> None:
        super().__init__(address=address, port=25)


@contextmanager
def serving(zone: Zone) -> Iterator[str]:
    """Answer DNS in a thread; gives the server's address."""
    ready, stop = threading.Event(), asyncio.Event()
    found: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with DnsServer(zone) as server:
            found.append(f"{server.address.host}:{server.address.port}")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        loop.close()


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with Host(BEST) as best, Host(WORSE) as worse:
        yield best, worse


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with serving(Zone(ZONE)) as dns, running(Relay(tmp_path, config=f'[dns]\nservers = ["{dns}"]\n')) as relay:
        yield relay


def send(relay: Relay, *to: str) -> None:
    with SMTP("127.0.0.1", relay.port, timeout=60) as client:
        client.sendmail("alice@client.example", list(to), "Subject: by MX\r\n\r\nhello\r\n")


@pytest.mark.world
def test_the_best_host_gets_it_and_the_next_where_that_does_not_answer(relay: Relay, hosts: tuple[Host, Host]) -> None:
    best, worse = hosts
    send(relay, "a@two.example", "b@plain.example")
    send(relay, "c@fails.example")
    until(lambda: best.to("a@two.example") and best.to("b@plain.example"), PATIENCE, what=relay.log)
    until(lambda: worse.to("c@fails.example"), PATIENCE, what=relay.log)
    assert not worse.to("a@two.example")


@pytest.mark.world
@pytest.mark.parametrize(
    ("domain", "status"), [("null.example", "5.1.10"), ("nowhere.example", "5.1.2"), ("ours.example", "5.4.6")]
)
def test_what_can_never_arrive_is_reported(relay: Relay, hosts: tuple[Host, Host], domain: str, status: str) -> None:
    send(relay, f"x@{domain}")
    (report,) = until(lambda: hosts[0].to("alice@client.example"), PATIENCE, what=relay.log)
    assert f"Status: {status}".encode() in report.content


@pytest.mark.world
def test_a_name_server_in_trouble_defers(relay: Relay, hosts: tuple[Host, Host]) -> None:
    send(relay, "x@later.example")
    until(lambda: "kind=deferred" in relay.log and "4.4.3" in relay.log, PATIENCE, what="deferred")
    assert relay.queue_length() == 1
