"""Killed at any moment, the relay loses nothing that it answered with 250.

Clients that reconnect and note each id that got its 250; a next hop that is down for a while in the middle; the relay
killed by SIGKILL while messages are between their final dot and 250, and started again. What arrives twice was in
flight when a kill, or the fall of the next hop, broke off the delivery.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running
from tests.world.load import LOAD_MAX, Generator
from tests.world.waiting import until

MESSAGES = 5000
MESSAGES_MIN = 2000
PATIENCE = 60.0
"""Seconds of load; a machine too slow for all messages in them must at least manage MESSAGES_MIN, in whatever time."""
KILLS = 6
RECENT = 0.5
"""Seconds before a break within which a delivery may not yet be noted as done: 50 ms, and what a busy machine adds."""
CONFIG = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[retry]
first = "1s"
longest = "2s"
"""


def kill_in_doubt(relay: Relay, generator: Generator) -> float:
    """SIGKILL while messages wait for their 250, until the clients show that some did. Returns the moment."""
    until(lambda: len(generator.awaiting) > 1, 60, what="messages between final dot and 250")
    moment = time.monotonic()
    relay.kill()
    return moment


def test_what_got_its_250_arrives_although_the_relay_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kills: list[float] = []
    started = time.monotonic()
    with CountingSink() as sink:
        relay = Relay(tmp_path, config=CONFIG.format(port=sink.port))
        with running(relay), Generator(relay.port, MESSAGES) as generator:
            caught = 0
            while caught < KILLS and not generator.is_idle():
                generator.until_taken(MESSAGES // (KILLS + 3))
                if len(kills) == KILLS // 2:
                    sink.down()
                before = len(generator.doubtful)
                kills.append(kill_in_doubt(relay, generator))
                until(lambda: not generator.awaiting, 60, what="clients that saw the kill")
                caught += len(generator.doubtful) > before
                relay.start()
                if len(kills) == KILLS // 2 + 2:
                    sink.up()
            loaded_enough(generator, started)
            taken = set(generator.taken)
            until(lambda: taken <= numbers(sink), 120, what="the arrival of each message that got its 250")
            until(lambda: relay.queue_length() == 0, 60, what="an empty queue")
            assert relay.stop() == 0
    assert not generator.errors
    assert caught >= 5
    assert len(taken) >= MESSAGES_MIN
    first: dict[str, float] = {}
    doubles: list[tuple[str, float]] = []
    for message in sink.arrived:
        number = message.field(b"X-Number")
        if number in first:
            doubles.append((number, first[number]))
        first.setdefault(number, message.at)
    stray = numbers(sink) - taken - generator.doubtful
    ages = [min((brk - at for brk in kills + sink.went_down if brk >= at - RECENT), default=9e9) for _, at in doubles]
    with capsys.disabled():
        print(
            f"\n{len(taken)} with 250, {len(kills)} kills ({caught} between dot and 250), "
            f"{len(generator.doubtful)} doubtful, {len(doubles)} doubles, "
            f"the oldest {max(ages, default=0) * 1000:.0f} ms before a break, {time.monotonic() - started:.1f} s"
        )
    assert not stray, "what was never sent, or was refused, has arrived"
    assert all(age < RECENT for age in ages), "a delivery was forgotten that was done long before the kill"
    near = sum(any(abs(brk - message.at) < RECENT for brk in kills + sink.went_down) for message in sink.arrived)
    assert len(doubles) <= near


def loaded_enough(generator: Generator, started: float) -> None:
    """Wait for the end of the load: all messages, or fewer on a machine too slow for them."""
    until(
        lambda: generator.is_idle() or (time.monotonic() - started > PATIENCE and len(generator.taken) >= MESSAGES_MIN),
        LOAD_MAX,
        what="the end of the load",
    )
    generator.stop()
    until(generator.is_idle, 120, what="the end of the clients")


def numbers(sink: CountingSink) -> set[str]:
    """Return the ids that have arrived."""
    return {message.field(b"X-Number") for message in list(sink.arrived)}
