"""One story of one message, though it was refused twice, moved to another worker and delivered after a restart.

The same story by id, by address, for people and for programs, whether the relay runs or not; and what happens now, of
all workers, as it happens.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from smtplib import SMTP
from typing import Any

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import SOURCES, Relay, running, wait_until
from tests.world.load import Client
from tests.world.waiting import until

from postroad.core.ids import parse_id, shard_of

CONFIG = """workers = {workers}
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[retry]
first = "1h"
longest = "1h"
"""
MESSAGES = 12
SENDER = "story@client.example"
NOT_NOW = "451 4.7.1 Not now, come again"


class Moody(CountingSink):
    """Refuses a recipient for now, until it is told not to."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.is_moody = True
        super().__init__(rcpt=self._answer)

    def _answer(self, recipient: str) -> str:
        if not self.is_moody or recipient == SENDER:
            return "250 2.1.5 Ok"
        self.refused[recipient] += 1
        return NOT_NOW

    def all_refused(self, times: int) -> bool:
        return sum(self.refused.values()) == times * MESSAGES


def facts(relay: Relay, *wanted: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in relay.postroad("trace", *wanted, "--json").stdout.splitlines()]


def send(relay: Relay) -> None:
    """One message over each of so many connections, by TLS, with a report of success asked for."""
    for number in range(MESSAGES):
        with SMTP("127.0.0.1", relay.port, timeout=60) as client:
            client.starttls()
            refused = client.sendmail(
                SENDER,
                [f"s{number}@next.example"],
                b"Subject: a story\r\nMessage-ID: <story@client.example>\r\n\r\nOnce\r\n",
                mail_options=["RET=HDRS"],
                rcpt_options=["NOTIFY=SUCCESS,FAILURE"],
            )
            assert refused == {}


def moved(relay: Relay) -> list[str]:
    """The ids of messages that went to another worker."""
    return [
        line.partition(" message=")[2].split()[0] for line in relay.log.splitlines() if " kind=transferred " in line
    ]


def until_deferred(relay: Relay, times: int) -> None:
    wait_until(lambda: relay.log.count("kind=deferred") == times * MESSAGES, "a fact for each refusal")


def test_refused_twice_moved_and_delivered_after_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Moody() as sink:
        relay = Relay(tmp_path, config=CONFIG.format(workers=4, port=sink.port))
        with running(relay):
            send(relay)
            until(lambda: sink.all_refused(1), what="a first refusal of each")
            until_deferred(relay, 1)
            relay.postroad("queue", "flush", "--all", "--yes")
            until(lambda: sink.all_refused(2), what="a second refusal of each")
            until_deferred(relay, 2)
            assert relay.stop() == 0
            sink.is_moody = False
            relay.configure(CONFIG.format(workers=1, port=sink.port))
            relay.start()
            wait_until(lambda: relay.log.count("kind=adopted") == 3, "the end of adoption")
            relay.postroad("queue", "flush", "--all", "--yes")
            until(lambda: len(sink.arrived) == 2 * MESSAGES, what="all messages, and a report of each")
            wait_until(lambda: relay.queue_length() == 0, "an empty queue")
            wanted = moved(relay)[0]
            wait_until(lambda: any(fact["kind"] == "reported" for fact in facts(relay, wanted)), "the end of the story")
            story = facts(relay, wanted)
            see_story(story)
            recipient = story[0]["recipients"][0]
            its_own = [fact for fact in story if fact["message"] == wanted]
            assert facts(relay, recipient) == its_own
            of_sender = facts(relay, SENDER)
            assert [fact for fact in of_sender if fact.get("message") == wanted] == its_own
            assert Counter(fact["kind"] for fact in of_sender)["received"] == MESSAGES
            told = relay.postroad("trace", wanted).stdout
            see_told(told)
            assert relay.postroad("trace", recipient).stdout.splitlines()[0] in told
            assert relay.stop() == 0
        assert facts(relay, wanted) == story, "the relay is stopped"
        assert relay.postroad("trace", wanted).stdout == told
        unknown = relay.postroad("trace", "nobody@nowhere.example", check=False)
        assert (unknown.returncode, unknown.stdout) == (1, "")
    with capsys.disabled():
        print(f"\n{told}")


def see_story(story: list[dict[str, Any]]) -> None:
    """All of it, in order, each thing once; then that of the report."""
    of_report = [fact for fact in story if fact.get("message") == story[-1]["message"]]
    story = story[: -len(of_report)]
    assert [fact["kind"] for fact in of_report] == ["attempted", "delivered"]
    assert of_report[1]["recipient"] == SENDER
    kinds = [fact["kind"] for fact in story]
    attempt = ["attempted", "deferred"]
    assert kinds == ["received", *attempt, *attempt, "transferred", "attempted", "delivered", "reported"]
    assert [fact["at"] for fact in story] == sorted(fact["at"] for fact in story)
    received, first, deferred, second, again, transferred, last, delivered, reported = story
    assert (received["client"], received["sender"], received["listener"]) == ("127.0.0.1", SENDER, "in")
    assert "TLS" in received["tls"]
    assert received["rule"]
    for attempted in (first, second):
        assert attempted["stage"] == "rcpt"
        assert any(NOT_NOW in text for _, _, text in attempted["dialogue"])
    assert (deferred["attempts"], again["attempts"]) == (1, 2)
    assert transferred["to_shard"] == 0
    assert transferred["from_shard"] in (1, 2, 3)
    for attempted in (first, second, last):
        said = attempted["dialogue"]
        assert [seconds for seconds, _, _ in said] == sorted(seconds for seconds, _, _ in said)
        assert any(by_us and "RCPT TO:<s" in text for _, by_us, text in said)
        assert attempted["host"] == "127.0.0.1"
    assert any("Kept" in text for _, _, text in last["dialogue"])
    assert delivered["recipient"] == received["recipients"][0]
    assert (reported["action"], reported["to"], reported["report"]) == ("relayed", SENDER, of_report[0]["message"])


def see_told(told: str) -> None:
    """The same for people: each word behind the one before."""
    words = ["received from 127.0.0.1", "451 4.7.1 Not now", "deferred for", "451 4.7.1 Not now", "deferred for"]
    at = 0
    for word in [*words, "moved from shard", "250 2.0.0 Kept", "delivered to", "reported relayed"]:
        found = told.find(word, at)
        assert found >= 0, f"{word!r} after {told[:at]!r}"
        at = found + len(word)


def test_what_happens_now_of_all_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with CountingSink() as sink:
        relay = Relay(tmp_path, config=CONFIG.format(workers=3, port=sink.port))
        with running(relay), Followed(relay) as followed:
            wait_until(lambda: said_hello(relay, followed), "the first fact that is followed")
            for number in range(30):
                with Client(relay.port) as client:
                    assert client.send(f"e{number}@next.example", str(number)).startswith(b"250")
            until(lambda: followed.of("delivered", "e") == 30, what="30 deliveries, as they happen")
            assert followed.of("received", "e") == 30
            os.kill(relay.pids("worker")[1], signal.SIGKILL)
            wait_until(lambda: heard_of_again(relay, followed, 1), "a fact of the worker in its place")
            for number in range(30):
                with Client(relay.port) as client:
                    assert client.send(f"h{number}@next.example", str(number)).startswith(b"250")
            until(lambda: followed.of("delivered", "h") == 30, what="those of the new worker too")
            shards = Counter(
                shard_of(parse_id(fact["message"])) for fact in followed.facts if fact["kind"] == "delivered"
            )
            assert shards.keys() == {0, 1, 2}
    with capsys.disabled():
        print(f"\ntrace --follow: {shards.total()} deliveries as they happened, by worker {sorted(shards.items())}")


def heard_of_again(relay: Relay, followed: Followed, slot: int) -> bool:
    """True once something that is sent now comes to that worker, and is told."""
    with Client(relay.port) as client:
        client.send("g@next.example", "g")
    return any(
        fact.get("recipient") == "g@next.example" and shard_of(parse_id(fact["message"])) == slot
        for fact in list(followed.facts)
    )


def said_hello(relay: Relay, followed: Followed) -> bool:
    with Client(relay.port) as client:
        client.send("first@next.example", "first")
    return bool(followed.of("received", "first"))


class Followed:
    """``postroad trace --follow --json`` as long as the block lasts."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.facts: list[dict[str, Any]] = []

    def __enter__(self) -> Followed:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "postroad", "trace", "--follow", "--json", "--config", str(self._relay.config_file)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.facts.append(json.loads(line))

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._reader.join(20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def of(self, kind: str, name: str) -> int:
        """How many different recipients whose name begins so have had such a fact."""
        return len(
            {
                recipient
                for fact in list(self.facts)
                if fact["kind"] == kind
                for recipient in fact.get("recipients", [fact.get("recipient")])
                if recipient.startswith(name)
            }
        )
