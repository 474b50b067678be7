"""The bench counts truthfully: its C programs compile, a lost and a doubled message are seen, a round of ours runs.

No figure of time is judged here: the machine may be busy. What the bench prints is docs/performance.md's business.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from smtplib import SMTP

import pytest
from bench import report
from bench.judge import Verdict, judge
from bench.programs import CannotError, Sink, build, has_openssl, idle_connections, load, sink
from bench.relays import POSTROAD_MAY, Postroad, certificate
from bench.rounds import rounds
from bench.scenarios import SCENARIOS
from tests.world.waiting import until

MESSAGES = 20
ERRORS = 5
"""So many numbers more than messages may be used."""

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    build()


@pytest.fixture
def two() -> Iterator[Sink]:
    """A sink of messages with two recipients each, at two ports."""
    with sink(ports=2, tokens=MESSAGES + ERRORS, recipients=2, run=7) as there:
        yield there


def send(port: int, place: Path, **options: object) -> bytes:
    """Send; return which numbers were acknowledged."""
    said = load(port, messages=MESSAGES, connections=4, run=7, recipients=2, errors=ERRORS, acked=place, **options)
    assert said["errors"] == 0, said
    assert said["accepted"] == MESSAGES
    assert said["start_to_250"]["count"] == said["dot_to_250"]["count"] == MESSAGES
    return place.read_bytes()


def by_hand(port: int, number: int, *recipients: int) -> None:
    """One more copy of a message, as a relay would send it again."""
    with SMTP("127.0.0.1", port) as client:
        to = [f"r{recipient}@d0.bench.example" for recipient in recipients]
        client.sendmail("a@b.example", to, f"Received: once more\r\nX-Bench: 7-{number}-0\r\n\r\n..dots\r\n.\r\n")


@pytest.mark.parametrize("options", [{}, {"each": 5}, {"pipeline": 1, "each": 3}, {"size": 300_000}], ids=str)
def test_generator_to_sink(two: Sink, tmp_path: Path, options: dict[str, int]) -> None:
    acked = send(two.ports[0], tmp_path / "acked", **options)
    assert judge(acked, two.seen(tmp_path / "seen"), recipients=2) == Verdict(40, 40, 0, 0, 0)
    said = two.report()
    assert (said["unique"], said["doubled"], said["strange"]) == (40, 0, 0)
    assert said["on_its_way"]["count"] == MESSAGES
    assert said["connections"] == -(-MESSAGES // options.get("each", 1)) or options.get("each", 1) > 1


def test_a_lost_and_a_doubled_message_are_seen(two: Sink, tmp_path: Path) -> None:
    acked = bytearray(send(two.ports[0], tmp_path / "acked"))
    by_hand(two.ports[1], 3, 0, 1)
    by_hand(two.ports[1], 3, 1)
    by_hand(two.ports[0], MESSAGES, 0)  # for one of its two recipients, and nobody heard a 250 for it
    seen = two.seen(tmp_path / "seen")
    assert judge(acked, seen, recipients=2) == Verdict(40, 40, 0, 3, 1)
    acked[MESSAGES] = 1  # now somebody did
    assert judge(acked, seen, recipients=2) == Verdict(42, 41, 1, 3, 0)
    said = two.report()
    assert (said["unique"], said["doubled"], said["messages"]) == (41, 3, MESSAGES + 3)


@pytest.mark.parametrize("at", range(1, 7))
def test_the_end_of_content_may_come_in_pieces(two: Sink, at: int) -> None:
    ending = b"x\r\n.\r\n"
    with socket.create_connection(("127.0.0.1", two.ports[0]), timeout=20) as client:
        client.recv(512)
        for line in (b"MAIL FROM:<a@b.example>", b"RCPT TO:<r0@d0.bench.example>", b"DATA"):
            client.sendall(line + b"\r\n")
            until(lambda: b"\n" in client.recv(512), what="a reply")
        for piece in (b"X-Bench: 7-1-0\r\n\r\n..\r\n", ending[:at]):
            octets = two.report()["octets"] + len(piece)
            client.sendall(piece)
            until(lambda: two.report()["octets"] == octets, what="the sink has read the piece")  # noqa: B023
            assert two.report()["messages"] == int(piece == ending)
        client.sendall(ending[at:])
        until(lambda: two.report()["messages"] == 1, what="the message")


def test_what_is_not_ours_is_strange(two: Sink) -> None:
    with SMTP("127.0.0.1", two.ports[0]) as client:
        client.sendmail("a@b.example", "r0@d0.bench.example", "X-Bench: 8-1-0\r\n\r\nanother run\r\n")
        client.sendmail("a@b.example", "r5@d0.bench.example", "X-Bench: 7-1-0\r\n\r\na recipient we do not have\r\n")
    said = two.report()
    assert (said["strange"], said["unique"]) == (2, 0)


def test_a_sink_that_is_down_and_one_that_is_slow(tmp_path: Path) -> None:
    with sink(ports=2, tokens=100, down=1, slow_delay=50) as there:
        said = load(there.ports[1], messages=3, connections=1, errors=2)
        assert said["accepted"] == 0
        assert said["errors"] == 2, "a refused connection is an error"
        there.ask("up")
        said = load(there.ports[1], messages=3, connections=3)
        assert said["accepted"] == 3
        assert said["dot_to_250"]["p50"] >= 50
        assert there.report()["ports"][str(there.ports[1])]["unique"] == 3


@pytest.mark.skipif(not has_openssl(), reason="needs OpenSSL's headers")
def test_tls_and_idle_connections(tmp_path: Path) -> None:
    with sink(tokens=100, certificate=certificate(tmp_path)) as there:
        said = load(there.ports[0], messages=MESSAGES, connections=4, tls=1, idle=10, idle_tls=1)
        assert said["accepted"] == MESSAGES
        assert said["errors"] == 0, said
        assert said["idle"]["held"] == 10
        assert there.report()["most_connections"] >= 11


def test_idle_connections_are_held_until_they_are_let_go() -> None:
    with sink(tokens=100) as there:
        with idle_connections(there.ports[0], 12) as held:
            assert held["opened"] == 12
            assert there.report()["most_connections"] == 12
            assert load(there.ports[0], messages=3, connections=1)["accepted"] == 3
        assert held["held"] == 12


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CannotError, match="mesages=3 is not an option"):
        load(1, mesages=3)


def test_without_a_compiler_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotError, match="there is no no-such-cc"):
        build(tmp_path, compiler="no-such-cc")


def test_a_round_of_ours(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    scenario = replace(SCENARIOS["connection-per-message"], messages=MESSAGES, warm_up=5)
    said: list[str] = []
    played = list(rounds(scenario, 1, place, only="postroad", say=said.append))
    (figures,) = played
    assert (figures["acknowledged"], figures["arrived"]) == (5 + 40 + MESSAGES, 5 + 40 + MESSAGES)
    assert (figures["lost"], figures["doubled"], figures["errors"]) == (0, 0, 0)
    assert figures["cpu_ms"] > 0
    assert figures["peak_pss"] > 0
    medians = report.summary(played)
    assert "postroad" in report.table(scenario.name, scenario.says, 1, medians)
    assert report.plot({scenario.name: medians}).count("<rect") == 1 + 2 + 2
    assert "round 1 postroad" in said[0]


def test_ours_has_the_shipped_defaults(tmp_path: Path) -> None:
    config = Postroad(tmp_path / "home", [25, 26], tls=True).config
    assert "[spool]" not in config
    assert {line.split()[0] for line in config.splitlines() if " = " in line} == {
        *("hostname", "data_dir", "name", "address", "role", "tls", "to", "via")
    }
    assert "workers" not in POSTROAD_MAY


def test_ratios_are_those_within_a_round() -> None:
    def one(relay: str, rate: float) -> dict[str, object]:
        spread = {"p50": 1.0, "p99": 2.0, "max": 3.0}
        return {
            "relay": relay,
            "idle": {},
            "relay_rate": rate,
            "accept_rate": rate,
            "cpu_ms": 1.0,
            "load_cpu_ms": 0.1,
            "sink_cpu_ms": 0.1,
            "peak_pss": 1.0,
            "lost": 1,
            "doubled": 2,
            "errors": 0,
            "accepted": 9,
            "start_to_250": spread,
            "dot_to_250": spread,
            "on_its_way": spread,
        }

    played = [
        *(one("postfix 1s", rate) for rate in (100.0, 10.0, 50.0)),
        *(one("postfix 0", rate) for rate in (90.0, 9.0, 40.0)),
        *(one("postroad", rate) for rate in (800.0, 60.0, 300.0)),
    ]
    medians = report.summary(played)
    assert medians["postroad"]["rate_to_postfix"] == 6.0
    assert medians["postroad"]["to_ceiling"] is None
    assert (medians["postroad"]["lost"], medians["postroad"]["doubled"]) == (3, 6)
