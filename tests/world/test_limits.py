"""Limits of the whole relay, seen at the receiver and at the door.

A destination limited to three connections and 20 messages a second gets no more of either, however many workers there
are, and no less where one worker has all of its mail; another that is not limited is not held up meanwhile. It holds
while the ledger is killed. Clients are counted over all workers.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.world.counting import Arrived, CountingSink
from tests.world.harness import Relay, running, wait_until
from tests.world.load import Client
from tests.world.waiting import until

MESSAGES = 160
CONNECTIONS = 3
RATE = 20
LEAST, MOST = 17, 21
"""Messages in a second that keeps to RATE: a rate that is always used up yields up to a twentieth less, and what left
in one second may be noted in the next."""
HELD_UP_MOST = 25
"""The same in the worst second, wherever it begins: what a busy machine holds up arrives with what follows it."""
FAST_MAX = 2.0
"""Seconds from its 250 to its arrival, for a message that nothing limits."""


def has(sink: CountingSink, count: int) -> bool:
    return len(sink.arrived) >= count


def limited(names: dict[str, int], fast: int) -> str:
    """Next hops with limits, by name and port, and one without: ``fast``."""
    text = f'[next_hop.fast]\naddress = "smtp://127.0.0.1:{fast}"\n[[route]]\nto = "fast.example"\nvia = "fast"\n'
    for name, port in names.items():
        text += (
            f'[next_hop.{name}]\naddress = "smtp://127.0.0.1:{port}"\n'
            f'[[route]]\nto = "{name}.example"\nvia = "{name}"\n'
            f'[[destination]]\nnext_hop = "{name}"\nconnections = {CONNECTIONS}\nrate = "{RATE}/s"\n'
        )
    return text


def by_second(arrived: list[Arrived]) -> list[int]:
    """How many came in each second, counted from the first of all. The last second may not be whole."""
    first = arrived[0].at
    counts = Counter(int(message.at - first) for message in arrived)
    return [counts[second] for second in range(max(counts) + 1)]


def most_in_a_second(arrived: list[Arrived]) -> int:
    """The most in any second, wherever it begins."""
    times = sorted(message.at for message in arrived)
    return max(sum(1 for other in times[index:] if other < at + 1.0) for index, at in enumerate(times))


def as_limited(sink: CountingSink) -> str:
    """See that a limited destination got no more and no less; return the figures."""
    seconds = by_second(sink.arrived)
    assert sink.connections_most <= CONNECTIONS
    assert all(LEAST <= count <= MOST for count in seconds[1:-1]), seconds
    assert most_in_a_second(sink.arrived) <= HELD_UP_MOST
    return (
        f"{sink.connections_most} connections at most, by second {seconds}, "
        f"in any second at most {most_in_a_second(sink.arrived)}"
    )


@pytest.mark.parametrize("workers", [2, 4])
def test_two_limited_destinations_beside_one_that_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    """All over one client connection, so that one worker has all of it and the others nothing."""
    with CountingSink() as one, CountingSink() as two, CountingSink() as fast:
        config = limited({"one": one.port, "two": two.port}, fast.port)
        relay = Relay(tmp_path, config=f"workers = {workers}\n{config}")
        taken: list[float] = []
        with running(relay):
            with Client(relay.port) as client:
                for number in range(MESSAGES):
                    for name in ("one", "two", "fast"):
                        assert client.send(f"b@{name}.example", f"{name}{number}").startswith(b"250")
                    taken.append(time.monotonic())
            for sink in (one, two, fast):
                until(partial(has, sink, MESSAGES), 30, what="the arrival of all")
            assert relay.stop() == 0
        delays = [arrived.at - taken[int(arrived.field(b"X-Number")[4:])] for arrived in fast.arrived]
        figures = [as_limited(sink) for sink in (one, two)]
    with capsys.disabled():
        print(f"\n{workers} workers, {MESSAGES} messages to each of three over one client connection:")
        print(f"  first limited: {figures[0]}\n  second limited: {figures[1]}")
        print(f"  not limited: each within {max(delays):.3f} s of its 250")
    assert max(delays) < FAST_MAX


def test_a_limited_destination_of_all_workers_while_the_ledger_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mail for it in every worker; three times the ledger is killed in the middle."""
    with CountingSink() as sink:
        relay = Relay(tmp_path, config=f"workers = 4\n{limited({'one': sink.port}, sink.port)}")
        with running(relay), ExitStack() as stack:
            clients = [stack.enter_context(Client(relay.port)) for _ in range(16)]
            for number in range(MESSAGES):
                assert clients[number % 16].send("b@one.example", f"one{number}").startswith(b"250")
            for part in (2, 3, 4):
                until(partial(has, sink, part * MESSAGES // 8), 30, what="a part of the mail")
                ledger = relay.pids("ledger")[0]
                os.kill(ledger, signal.SIGKILL)
                wait_until(lambda ledger=ledger: relay.pids("ledger").get(0, ledger) != ledger, "another ledger")  # type: ignore[misc]
            until(partial(has, sink, MESSAGES), 60, what="the arrival of all")
            relay.logged("kind=process-ended process=ledger", 3)
            assert relay.stop() == 0
    with capsys.disabled():
        print(
            f"\n4 workers, ledger killed three times: {sink.connections_most} connections at most, "
            f"by second {by_second(sink.arrived)}, in any second at most {most_in_a_second(sink.arrived)}"
        )
    assert len({message.field(b"X-Number") for message in sink.arrived}) == MESSAGES
    assert sink.connections_most <= CONNECTIONS
    assert most_in_a_second(sink.arrived) <= HELD_UP_MOST


class Doors:
    """Clients that come and stay until the end of the test."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.served: list[Client] = []
        self.refused: list[bytes] = []

    def __enter__(self) -> Doors:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.served:
            client.close()

    def knock(self, count: int, source: str = "127.0.0.1") -> int:
        """Connect so many times; return how many are served more."""
        before = len(self.served)
        for _ in range(count):
            client = Client(self._port, source=source)
            if client.is_served:
                self.served.append(client)
            else:
                self.refused.append(client.greeting)
                client.close()
        return len(self.served) - before


def goes_on(client: Client) -> bool:
    """True if its session goes on."""
    try:
        return client.say("NOOP").startswith(b"250")
    except (OSError, EOFError):
        return False


def test_connections_of_one_address_over_two_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = """
[relay]
networks = ["127.0.0.1/32"]
domains = ["example.org"]
[limits]
connections_per_ip = 10
[[route]]
to = "*"
via = "discard:"
"""
    with running(Relay(tmp_path, config=config)) as relay, Doors(relay.port) as doors:
        served = doors.knock(30, "127.0.0.9")
        assert (served, len(doors.refused)) == (10, 20)
        assert {text[:9] for text in doors.refused} == {b"421 4.7.0"}
        until(lambda: relay.log.count("rule=limits.connections_per_ip") == 20, what="a fact for each")
        assert doors.knock(1, "127.0.0.10") == 1
        assert doors.knock(15, "127.0.0.1") == 15
        assert all(client.send("b@example.org", "1").startswith(b"250") for client in doors.served)
        doors.served[0].say("QUIT")
        until(lambda: doors.knock(1, "127.0.0.9"), what="the place that came free")
        assert doors.knock(1, "127.0.0.9") == 0
        assert relay.stop() == 0
    with capsys.disabled():
        print(f"\nconnections_per_ip = 10, two workers, 30 from one address: {served} served")


def test_one_worker_that_is_full_says_so(tmp_path: Path) -> None:
    """Who finds no place is told 421, also where one worker has all places: nobody is left without a greeting."""
    config = 'workers = 1\n[limits]\nconnections = 5\n[[route]]\nto = "*"\nvia = "discard:"\n'
    with running(Relay(tmp_path, config=config)) as relay, Doors(relay.port) as doors:
        until(lambda: doors.knock(1) and len(doors.served) == 5, what="all places taken")
        assert doors.knock(40) == 0
        assert len(doors.served) == 5
        assert {text[:9] for text in doors.refused} == {b"421 4.7.0"}
        assert relay.stop() == 0


def test_connections_of_the_whole_relay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """[limits] connections is one number for all workers: trusted clients count, and what a killed worker had is
    free."""
    config = '[limits]\nconnections = 20\n[[route]]\nto = "*"\nvia = "discard:"\n'
    with running(Relay(tmp_path, config=config)) as relay, Doors(relay.port) as doors:
        served = doors.knock(40)
        while served < 20 and doors.knock(1):  # the connection that asked whether it is up may have had a place
            served += 1
        assert served == 20
        assert all(client.send("b@example.org", "1").startswith(b"250") for client in doors.served)
        os.kill(relay.pids("worker")[0], signal.SIGKILL)
        until(lambda: sum(map(goes_on, doors.served[:20])) < 20, what="the death of a worker")
        alive = sum(map(goes_on, doors.served))
        more = 0
        while alive + more < 20:
            more += until(lambda: doors.knock(1), what="the places that came free")
        assert doors.knock(10) == 0
        assert relay.stop() == 0
    with capsys.disabled():
        print(
            f"\nconnections = 20, two workers: {served} of 40 clients served; a worker killed: "
            f"{alive} go on, {more} more fit"
        )
