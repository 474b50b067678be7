"""One round of one contestant in one scenario, and the order of the rounds: in turn, so that all see the same machine.

Owns: warm-up, the single messages, the load, waiting for the last copy, what is written down of it. Does not own: the
contestants (relays.py), the scenarios, lost and doubled (judge.py), medians and the table (report.py).

A relay starts with an empty queue in each round; its start, warm-up and stop are not in any figure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.judge import judge
from bench.machine import Peak, empty
from bench.programs import HERE, Figures, Sink, idle_connections, load, sink
from bench.relays import Contestant, Postfix, Postroad, Straight, certificate
from bench.scenarios import Scenario
from tests.world.harness import free_port
from tests.world.waiting import until

ALONE = 40
"""Single messages through an idle relay."""
ALONE_PAUSE = 40
"""Milliseconds between them."""
ERRORS_MAX = 100
STALLED = 25.0
"""Seconds without a new copy after which the rest counts as lost."""
SETTLED = 0.4
"""Seconds after the last copy in which a relay records it; its CPU is counted."""

Make = Callable[[Scenario, Path, Sink], Contestant]


class Round:
    """One contestant under one load."""

    def __init__(self, scenario: Scenario, make: Make, place: Path, run: int) -> None:
        self._scenario = scenario
        self._make = make
        self._place = place
        self._run = run
        alone = ALONE if scenario.is_alone else 0
        self._parts = [scenario.warm_up, alone, scenario.messages]
        self._tokens = sum(self._parts) + ERRORS_MAX * 3
        self._acked = bytearray()

    def play(self) -> Figures:
        scenario = self._scenario
        with ExitStack() as stack:
            options: dict[str, Any] = {"down": 1} if scenario.is_down else {}
            if scenario.tls and "tls" in scenario.options:
                options["certificate"] = certificate(self._place.parent)
            there = stack.enter_context(
                sink(
                    ports=scenario.domains,
                    tokens=self._tokens,
                    recipients=scenario.recipients,
                    slow_delay=scenario.slow_delay,
                    run=self._run,
                    **options,
                )
            )
            relay = self._make(scenario, self._place, there)
            waiting: Figures = {}
            with ExitStack() as running:
                running.callback(relay.end)
                relay.start()
                self._warm_up(relay, there)
                alone = self._time_alone(relay, there) if scenario.is_alone else {}
                if scenario.idle:
                    tls = int(scenario.idle_tls)
                    held = idle_connections(relay.port, scenario.idle, idle_tls=tls, timeout=scenario.timeout)
                    waiting = running.enter_context(held)
                figures = alone | self._measure(relay, there)
            # Now that the relay has stopped nothing more can come.
            verdict = judge(bytes(self._acked), self._seen(there), recipients=scenario.recipients)
            figures |= asdict(verdict)
        return {"relay": relay.name, "cpu_by": relay.processes.how, "idle": waiting, **figures}

    def _warm_up(self, relay: Contestant, there: Sink) -> None:
        if count := self._scenario.warm_up:
            self._send(relay, there, messages=count, connections=min(50, count))

    def _time_alone(self, relay: Contestant, there: Sink) -> Figures:
        there.ask("mark")
        heard = self._send(relay, there, messages=ALONE, connections=1, pause=ALONE_PAUSE)
        return {"alone_250": heard["start_to_250"]["p50"], "alone_way": there.report()["on_its_way"]["p50"]}

    def _measure(self, relay: Contestant, there: Sink) -> Figures:
        scenario = self._scenario
        time.sleep(SETTLED)
        there.ask("mark")
        used, sink_used = relay.processes.cpu(), there.report()["cpu"]
        before = there.report()
        with Peak(relay.processes) as peak:
            heard = self._send(relay, there, messages=scenario.messages, timeout=scenario.timeout, is_measured=True)
            time.sleep(SETTLED)
            used = relay.processes.cpu() - used
        came = there.report()
        began = came["first"] if scenario.is_down else heard["started"]
        return {
            "accepted": heard["accepted"],
            "errors": heard["errors"],
            "last_error": heard["last_error"],
            "accept_rate": rate(heard["accepted"], heard["ended"] - heard["started"]),
            "relay_rate": self._relay_rate(before, came, began, there),
            "start_to_250": heard["start_to_250"],
            "dot_to_250": heard["dot_to_250"],
            "on_its_way": came["on_its_way"],
            "cpu_ms": 1e3 * used / max(1, heard["accepted"]),
            "load_cpu_ms": 1e3 * heard["cpu"] / max(1, heard["accepted"]),
            "sink_cpu_ms": 1e3 * (came["cpu"] - sink_used) / max(1, heard["accepted"]),
            "peak_pss": peak.pss,
            "connections_out": came["most_connections"],
        }

    def _relay_rate(self, before: Figures, came: Figures, began: float, there: Sink) -> float:
        """Copies a second until the last one; without those of the slow destination where there is one."""
        ports = there.ports[:-1] if self._scenario.slow_delay else there.ports
        copies = sum(came["ports"][str(port)]["unique"] - before["ports"][str(port)]["unique"] for port in ports)
        return rate(copies, max(came["ports"][str(port)]["last"] for port in ports) - began)

    def _send(
        self, relay: Contestant, there: Sink, *, messages: int, is_measured: bool = False, **options: Any
    ) -> Figures:
        """Send a part and wait for all of its copies, or until none comes any more."""
        scenario = self._scenario
        options = {
            "run": self._run,
            "first": len(self._acked),
            "messages": messages,
            "recipients": scenario.recipients,
            "domains": scenario.domains,
            "errors": ERRORS_MAX,
            **scenario.options,
            **options,
        }
        with tempfile.NamedTemporaryFile() as acked:
            heard = load(relay.port, acked=acked.name, **options)
            self._acked += Path(acked.name).read_bytes()
        if is_measured and scenario.is_down:
            relay.settle()
            there.ask("up")
            relay.flush()
        self._await(there)
        return heard

    def _await(self, there: Sink) -> None:
        wanted = self._acked.count(1) * self._scenario.recipients
        last, moved_at = -1, time.monotonic()

        def is_over() -> bool:
            nonlocal last, moved_at
            unique = there.report()["messages" if wanted == 0 else "unique"]
            if unique != last:
                last, moved_at = unique, time.monotonic()
            return unique >= wanted or time.monotonic() - moved_at > STALLED

        until(is_over, self._scenario.timeout + STALLED, what="the last copy")

    def _seen(self, there: Sink) -> bytes:
        with tempfile.NamedTemporaryFile() as file:
            seen = there.seen(Path(file.name))
        return seen[: len(self._acked) * self._scenario.recipients]


def rate(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


# --- the contestants of a scenario


def straight(scenario: Scenario, place: Path, there: Sink) -> Contestant:
    return Straight(there.ports[0])


def postroad(scenario: Scenario, place: Path, there: Sink) -> Contestant:
    if not scenario.deferred:
        return Postroad(empty(place / "postroad"), there.ports, tls=scenario.tls)
    home = place / f"postroad-{scenario.name}"
    fill(home / "data", scenario)
    return Postroad(home, there.ports, tls=scenario.tls, dead=free_port())


def postfix(flow: str) -> Make:
    def make(scenario: Scenario, place: Path, there: Sink) -> Contestant:
        return Postfix(
            empty(place / "postfix"),
            there.ports,
            flow=flow,
            pair=certificate(place.parent) if scenario.tls else None,
            size=scenario.options.get("size", 0),
            idle=scenario.idle,
        )

    return make


def fill(data_dir: Path, scenario: Scenario) -> None:
    """Put what is missing of the deferred messages into a queue at rest; the same queue serves all rounds."""
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "million.py"), str(data_dir), "--fill", "--count", str(scenario.deferred)]
    subprocess.run(command + ["--dead"] * scenario.is_dead, check=True)


def contestants(scenario: Scenario, *, only: str = "") -> list[Make]:
    """All of them in the order of a round, or those whose name contains ``only``."""
    ceiling = [] if scenario.is_down or scenario.slow_delay or scenario.idle_tls else [("straight", straight)]
    makes = [*ceiling, *((f"postfix {flow}", postfix(flow)) for flow in scenario.flows), ("postroad", postroad)]
    return [make for name, make in makes if only in name]


def rounds(
    scenario: Scenario, count: int, place: Path, *, only: str = "", say: Callable[[str], None] = print
) -> Iterator[Figures]:
    """Play so many rounds of all contestants in turn."""
    for number in range(count):
        for order, make in enumerate(contestants(scenario, only=only)):
            figures = {"round": number, **Round(scenario, make, place, run=1 + number * 10 + order).play()}
            say(
                f"  round {number + 1} {figures['relay']:12} {figures['accept_rate']:8,.0f} in/s"
                f" {figures['relay_rate']:8,.0f} out/s {figures['cpu_ms']:7.3f} ms"
                + (f"  {figures['errors']} errors: {figures['last_error']}" if figures["errors"] else "")
                + (
                    f"  LOST {figures['lost']} DOUBLED {figures['doubled']}"
                    if figures["lost"] or figures["doubled"]
                    else ""
                )
            )
            yield figures
