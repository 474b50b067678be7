"""Fewer workers with a full queue: all of it moves to those there are, arrives once, and the shards of the others go.

Large bodies beside the database, held mail and a report that is due among it; killed in the middle, again and again.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running, wait_until
from tests.world.load import Client
from tests.world.waiting import until

MESSAGES = 2000
CLIENTS = 20
HELD = MESSAGES // 25
LARGE = "\r\n".join(["All of this line arrives."] * 320)
KILLS_MAX = 40
COPIED_MAX = 100
"""Messages that one adoption may have in two shards at once: a slice of spool/transfer.py."""
CONFIG = """workers = {workers}
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[retry]
first = "1s"
longest = "2s"
[spool]
min_free = "10MiB"
body_file_above = "4KiB"
"""


def config(sink: CountingSink, workers: int) -> str:
    return CONFIG.format(workers=workers, port=sink.port)


def put(relay: Relay) -> None:
    """Send all messages, a new connection for each ten: every 25th to somebody whose mail is held later, every 40th
    larger than what the database keeps, one from somebody who gets a report later."""
    failed: list[BaseException] = []

    def send(part: int) -> None:
        try:
            for first in range(part, MESSAGES, CLIENTS * 10):
                with Client(relay.port) as client:
                    for number in range(first, first + CLIENTS * 10, CLIENTS):
                        reply = client.send(
                            "b@held.example" if number % 25 == 0 else "b@next.example",
                            f"m{number}",
                            body=LARGE if number % 40 == 1 else "Hello",
                            sender="reported@client.example" if number == 2 else "a@client.example",
                        )
                        assert reply.startswith(b"250"), reply
        except (OSError, EOFError, AssertionError) as error:
            failed.append(error)

    threads = [threading.Thread(target=send, args=(part,)) for part in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed


def stats(relay: Relay) -> tuple[int, int]:
    """Recipients in the queue, and how many of them are held, as ``queue stats`` has it."""
    rows = [json.loads(line) for line in relay.postroad("queue", "stats", "--json").stdout.splitlines()]
    (total,) = (row for row in rows if row["kind"] == "total")
    return int(total["recipients"]), int(total["held"])


def shards(relay: Relay) -> list[str]:
    return sorted(path.name for path in relay.data_dir.glob("shard-*"))


def arrived(sink: CountingSink) -> Counter[str]:
    return Counter(message.field(b"X-Number") for message in list(sink.arrived))


def fill(relay: Relay) -> None:
    """All workers have mail, some of it held."""
    put(relay)

    def all_are_held() -> bool:  # what is being tried at that moment cannot be
        relay.postroad("queue", "hold", "--domain", "held.example", "--yes")
        return stats(relay) == (MESSAGES, HELD)

    wait_until(all_are_held, "a queue with all that was sent, and what is to be held")
    assert shards(relay) == ["shard-0", "shard-1", "shard-2", "shard-3"]


def once_each(sink: CountingSink, numbers: set[str]) -> None:
    """Wait for all of these, and see that nothing came twice and nothing is short."""
    until(lambda: numbers <= arrived(sink).keys(), 60, what="the arrival of all")
    assert {number for number, count in arrived(sink).items() if count > 1 and number} == set()
    for message in list(sink.arrived):
        number = message.field(b"X-Number")
        if number and int(number[1:]) % 40 == 1:
            assert message.content.endswith(f"\r\n\r\n{LARGE}\r\n".encode()), number


ALL = {f"m{number}" for number in range(MESSAGES)}
FREE = {number for number in ALL if int(number[1:]) % 25}


def test_four_workers_become_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with CountingSink() as sink:
        sink.down()
        relay = Relay(tmp_path, config=config(sink, 4))
        with running(relay):
            fill(relay)
            assert relay.stop() == 0
            assert stats(relay) == (MESSAGES, HELD)
            # Given up while nobody runs: the report is made by whoever has the message next.
            relay.postroad("queue", "bounce", "--from", "reported@client.example", "--yes")
            due = relay.postroad("queue", "list", "--state", "report", "--json").stdout.splitlines()
            assert len(due) == 1
            relay.configure(config(sink, 2))
            sink.up()
            began = time.monotonic()
            relay.start()
            wait_until(lambda: shards(relay) == ["shard-0", "shard-1"], "the shards of workers that are no more gone")
            adopted = time.monotonic() - began
            once_each(sink, FREE - {"m2"})
            drained = time.monotonic() - began
            wait_until(lambda: sink.to("reported@client.example"), "the report")
            assert "m2" not in arrived(sink)
            wait_until(lambda: stats(relay) == (HELD, HELD), "a queue of what is held")
            assert not sink.to("b@held.example")
            relay.postroad("queue", "release", "--domain", "held.example", "--yes")
            once_each(sink, ALL - {"m2"})
            wait_until(lambda: stats(relay) == (0, 0), "an empty queue")
            relay.logged("kind=adopted", 2)
            assert relay.stop() == 0
    with capsys.disabled():
        print(
            f"\n4 workers become 2 with {MESSAGES} messages: their shards are gone after {adopted:.1f} s, all but the "
            f"held arrived after {drained:.1f} s, each once"
        )


def test_killed_in_the_middle_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All processes killed while messages move, until all have; then each arrives once, for nothing was in flight."""
    with CountingSink() as sink:
        sink.down()
        relay = Relay(tmp_path, config=config(sink, 4))
        counts = []
        with running(relay):
            fill(relay)
            relay.kill()
            relay.configure(config(sink, 2))
            while shards(relay) != ["shard-0", "shard-1"]:
                assert len(counts) < KILLS_MAX
                before = moved(relay)
                relay.start()
                until(
                    lambda before=before: moved(relay) > before + 300 or shards(relay) == ["shard-0", "shard-1"],  # type: ignore[misc]
                    20,
                    what="messages that move",
                )
                relay.kill()
                counts.append(moved(relay) - before)
                # What was copied and not yet taken away when they died is counted in both shards until it goes on.
                assert MESSAGES <= stats(relay)[0] <= MESSAGES + 2 * COPIED_MAX
            sink.up()
            relay.start()
            once_each(sink, FREE)
            wait_until(lambda: stats(relay) == (HELD, HELD), "a queue of what is held")
            relay.postroad("queue", "release", "--domain", "held.example", "--yes")
            once_each(sink, ALL)
            wait_until(lambda: stats(relay) == (0, 0), "an empty queue")
            assert relay.stop() == 0
    assert len(counts) > 1, "killed in the middle at least once"
    with capsys.disabled():
        print(
            f"\nkilled {len(counts)} times in the middle, having moved {counts} messages: "
            f"each of {MESSAGES} arrived once"
        )


def moved(relay: Relay) -> int:
    return relay.log.count("kind=transferred")
