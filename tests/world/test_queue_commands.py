"""``postroad queue`` with a real queue: the same answers whether the relay runs or not, and what they change holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from smtplib import SMTP

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running
from tests.world.waiting import until

PATIENCE = 60.0
RECIPIENTS = ("one@a.example", "two@a.example", "three@b.example")
CONFIG = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[retry]
first = "1h"
longest = "1h"
"""


@pytest.fixture
def sink() -> Iterator[CountingSink]:
    with CountingSink() as sink:
        sink.down()
        yield sink


@pytest.fixture(params=[True, False], ids=["running", "stopped"])
def relay(request: pytest.FixtureRequest, tmp_path: Path, sink: CountingSink) -> Iterator[Relay]:
    """A relay with three messages that were tried in vain, still running or stopped since."""
    with running(Relay(tmp_path, config=CONFIG.format(port=sink.port))) as relay:
        for recipient in RECIPIENTS:
            with SMTP("127.0.0.1", relay.port, timeout=60) as client:
                client.sendmail("alice@client.example", [recipient], b"Subject: waiting\r\n\r\nHello\r\n")
        until(lambda: len(states(relay, "deferred")) == 3, PATIENCE, what="three deferred messages")
        if not request.param:
            assert relay.stop() == 0
        yield relay


def rows(relay: Relay, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in relay.postroad("queue", *arguments, "--json").stdout.splitlines()]


def states(relay: Relay, state: str) -> dict[str, str]:
    """Return recipient and id of what is in a state."""
    return {
        recipient["address"]: str(row["id"])
        for row in rows(relay, "list", "--state", state)
        for recipient in row["recipients"]  # type: ignore[attr-defined]
    }


def stats(relay: Relay) -> tuple[object, object]:
    (total,) = (row for row in rows(relay, "stats") if row["kind"] == "total")
    return total["recipients"], total["held"]


def be_up(relay: Relay) -> None:
    """Start the relay unless it runs."""
    assert relay.process is not None
    if relay.process.poll() is not None:
        relay.start()


def test_list_show_and_stats_say_what_waits_and_why(relay: Relay) -> None:
    listed = rows(relay, "list")
    assert [row["recipients"][0]["address"] for row in listed] == list(RECIPIENTS)  # type: ignore[index]
    for row in listed:
        (recipient,) = row["recipients"]  # type: ignore[misc]
        assert row["sender"] == "alice@client.example"
        assert row["client"] == "127.0.0.1"
        assert recipient["state"] == "deferred"
        assert recipient["attempts"] >= 1
        assert "refused" in recipient["reason"], "why it waits: the connection was refused"
        assert rows(relay, "show", str(row["id"])) == [row]
    domains = {row["domain"]: row["due"] for row in rows(relay, "stats") if row["kind"] == "domain"}
    assert domains == {"a.example": 2, "b.example": 1}
    assert stats(relay) == (3, 0)
    text = relay.postroad("queue", "list", "--domain", "b.example").stdout
    assert "three@b.example" in text
    assert "one@a.example" not in text
    assert "three@b.example" in relay.postroad("queue", "show", states(relay, "deferred")["three@b.example"]).stdout
    assert "3 recipients of 3 messages wait" in relay.postroad("queue", "stats").stdout


def test_what_is_held_stays_and_what_is_released_goes(relay: Relay, sink: CountingSink) -> None:
    assert "Held: 2 recipients of 2 messages." in relay.postroad("queue", "hold", "--domain", "a.example").stdout
    assert set(states(relay, "held")) == {"one@a.example", "two@a.example"}
    assert stats(relay) == (3, 2)
    sink.up()
    be_up(relay)
    relay.postroad("queue", "flush", "--all")
    until(lambda: sink.to("three@b.example"), PATIENCE, what="the message that is not held")
    until(lambda: stats(relay) == (2, 2), PATIENCE, what="a queue of held messages")
    done = relay.postroad("queue", "release", states(relay, "held")["one@a.example"])
    assert "Released: 1 recipient of 1 message." in done.stdout
    until(lambda: sink.to("one@a.example"), PATIENCE, what="the released message")
    until(lambda: stats(relay) == (1, 1), PATIENCE, what="a queue of one held message")
    assert not sink.to("two@a.example")


def test_released_before_the_next_start(relay: Relay, sink: CountingSink) -> None:
    relay.postroad("queue", "hold", "--all")
    assert "Released: 3 recipients of 3 messages." in relay.postroad("queue", "release", "--all").stdout
    assert stats(relay) == (3, 0)
    sink.up()
    be_up(relay)
    relay.postroad("queue", "flush", "--all")
    until(lambda: len(sink.arrived) == 3, PATIENCE, what="all three messages")
    until(lambda: stats(relay) == (0, 0), PATIENCE, what="an empty queue")


def test_what_is_deleted_never_arrives(relay: Relay, sink: CountingSink) -> None:
    number = states(relay, "deferred")["two@a.example"]
    assert "Would delete: 1 recipient of 1 message." in relay.postroad("queue", "delete", number, "--dry-run").stdout
    assert stats(relay) == (3, 0)
    assert "Deleted: 1 recipient of 1 message." in relay.postroad("queue", "delete", number).stdout
    assert stats(relay) == (2, 0)
    gone = relay.postroad("queue", "show", number, check=False)
    assert gone.returncode == 1
    assert number in gone.stderr
    sink.up()
    be_up(relay)
    relay.postroad("queue", "flush", "--all")
    until(lambda: stats(relay) == (0, 0), PATIENCE, what="an empty queue")
    assert sorted(message.recipients for message in sink.arrived) == [("one@a.example",), ("three@b.example",)]


def test_an_id_that_is_not_there_and_a_selection_of_nothing(relay: Relay) -> None:
    for verb in ("hold", "release", "delete", "flush"):
        done = relay.postroad("queue", verb, "0000000000000", check=False)
        assert done.returncode == 1, verb
        assert "Nothing in the queue matches." in done.stdout, verb
        assert relay.postroad("queue", verb, check=False).returncode == 2, f"{verb} of everything must be said"
    assert stats(relay) == (3, 0)
