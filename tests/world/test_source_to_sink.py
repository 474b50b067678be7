"""5,000 messages of Postfix's generator through the relay, each with an id of its own: none lost, none doubled."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.world.counting import CountingSink
from tests.world.harness import Relay, free_port, running
from tests.world.overlay import open_directory
from tests.world.waiting import is_listening, until

MESSAGES = 5000
SESSIONS = 20
PATIENCE = 180.0
CONFIG = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
"""
TO = re.compile(r"^X-Rcpt-Args: <([^>]*)>", re.MULTILINE)


def send(port: int) -> None:
    """Every message to a recipient of its own: smtp-source -N puts a number before the address."""
    subprocess.run(
        f"smtp-source -N -s {SESSIONS} -m {MESSAGES} -l 2000"
        f" -f source@client.example -t sink@next.example 127.0.0.1:{port}".split(),
        check=True,
        timeout=PATIENCE,
    )


def expect_each_once(recipients: Iterable[str]) -> None:
    counts = Counter(recipients)
    assert len(counts) == MESSAGES, "lost, or never sent"
    assert set(counts.values()) == {1}, [recipient for recipient, count in counts.items() if count > 1][:10]


def test_to_a_sink_that_counts(tmp_path: Path) -> None:
    with CountingSink() as sink:
        relay = Relay(tmp_path, config=CONFIG.format(port=sink.port))
        with running(relay):
            send(relay.port)
            until(lambda: len(sink.arrived) >= MESSAGES, PATIENCE, what="the arrival of all messages")
            until(lambda: relay.queue_length() == 0, PATIENCE, what="an empty queue")
            assert relay.stop() == 0
        expect_each_once(recipient for message in sink.arrived for recipient in message.recipients)


def test_to_the_sink_of_postfix() -> None:
    with open_directory() as directory, smtp_sink(directory / "kept") as port:
        relay = Relay(directory / "relay", config=CONFIG.format(port=port))
        with running(relay):
            send(relay.port)
            until(lambda: relay.queue_length() == 0, PATIENCE, what="an empty queue")
            assert relay.stop() == 0
        expect_each_once(
            recipient
            for path in (directory / "kept").iterdir()
            for recipient in TO.findall(path.read_text(encoding="latin-1"))
        )


@contextmanager
def smtp_sink(kept: Path) -> Iterator[int]:
    """Run Postfix's smtp-sink, which keeps each message in a file of its own, as a user who may do nothing else."""
    kept.mkdir()
    kept.chmod(0o777)
    port = free_port()
    process = subprocess.Popen(["smtp-sink", "-u", "nobody", "-d", f"{kept}/m.", f"127.0.0.1:{port}", "128"])
    try:
        until(lambda: is_listening(port), what="smtp-sink")
        yield port
    finally:
        process.terminate()
        process.wait(20)
