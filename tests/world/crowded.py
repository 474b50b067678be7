"""A relay with very many deferred messages, under a steady load, while people look at the queue and steer it.

Owns: the rounds (what is asked through the command line), what a round measures, the table that is printed. Does not
own: the queue (crowd.py), the load (steady.py), the sizes and what fails (test_crowded.py, tests/soak/test_million.py).

All of the crowd goes to one next hop, where nobody listens; the steady mail goes to another that answers at once.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.world.crowd import TOP, domain_of, ext4_disk, fill
from tests.world.harness import SOURCES, Relay, free_port, group, name_of, pss_kib, running, wait_until
from tests.world.steady import Steady, steady_load

RATE: Final = 240.0
"""New messages a second, of CLIENTS together."""
CLIENTS: Final = 8
ASK_TIMEOUT: Final = 1800.0
CONFIG: Final = """
[[route]]
to = "*.{top}"
via = "smtp://127.0.0.1:{dead}"
[[route]]
to = "*"
via = "smtp://127.0.0.1:{alive}"
[http]
address = "127.0.0.1:{http}"
"""


@dataclass
class Round:
    """What one thing that was asked did to the mail."""

    name: str
    kept: list[float]
    """Seconds from each final dot to its 250."""
    arrived: list[float]
    """Seconds from each final dot until the next hop had it all."""
    seconds: float
    took: list[float] = field(default_factory=list)
    """Seconds that each asking took."""
    pss: int = 0
    """MiB of all processes, afterwards."""

    @property
    def p99(self) -> float:
        return percentile(self.kept, 0.99)

    def __str__(self) -> str:
        kept = "".join(f"{percentile(self.kept, part):8.1f}" for part in (0.5, 0.99, 1.0))
        arrived = "".join(f"{percentile(self.arrived, part):8.1f}" for part in (0.5, 0.99))
        asked = f"{len(self.took):4d} x {statistics.median(self.took):7.2f} s" if self.took else ""
        return f"{self.name:42}{kept}{arrived}{len(self.kept) / self.seconds:6.0f}/s{self.pss:6d} MiB  {asked}"


HEADER: Final = f"{'':42}   250 after p50/p99/max   there p50/p99    rate    PSS   asked, median"


def percentile(values: Sequence[float], part: float) -> float:
    """Return that part's value, in milliseconds."""
    ordered = sorted(values)
    return 1_000 * ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


@contextmanager
def dead_port() -> Iterator[int]:
    """Give a port that is ours and where nobody listens: connections are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


class Crowded:
    """The running relay with its crowd, and what was measured so far."""

    def __init__(self, relay: Relay, load: Steady, http_port: int, say: Callable[[str], None]) -> None:
        self._relay = relay
        self._load = load
        self._http_port = http_port
        self._say = say
        self.rounds: list[Round] = []

    def quiet(self, name: str, seconds: float) -> Round:
        """Measure while nobody asks anything."""
        end = time.monotonic() + seconds
        return self._round(name, lambda: wait_until(lambda: time.monotonic() >= end, "the end", 2 * seconds), 0.0, ())

    def ask(self, seconds: float, *arguments: str) -> Round:
        """Run a command again and again for so many seconds, once at least; all that it prints goes to /dev/null."""
        return self._round(" ".join(arguments), lambda: self._run(arguments), seconds, arguments)

    def metrics(self, seconds: float) -> Round:
        """The same for Prometheus."""

        def get() -> None:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http_port}/metrics", timeout=60) as answer:
                assert b"postroad_queue_messages" in answer.read()
            end = time.monotonic() + 1.0  # what is asked sooner is answered from what is known
            wait_until(lambda: time.monotonic() >= end, "the next scrape")

        return self._round("GET /metrics", get, seconds, ("metrics",))

    def _run(self, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "postroad", *arguments, "--config", str(self._relay.config_file)]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=ASK_TIMEOUT,
            env={**os.environ, "PYTHONPATH": SOURCES},
            text=True,
        )
        assert done.returncode == 0, (arguments, done.stderr)

    def _round(self, name: str, ask: Callable[[], object], seconds: float, asked: Sequence[str]) -> Round:
        began = time.monotonic()
        took: list[float] = []
        while not took or time.monotonic() < began + seconds:
            start = time.monotonic()
            ask()
            took.append(time.monotonic() - start)
        end = time.monotonic()
        kept, arrived = (self._load.between(began, end, kind) for kind in ("kept", "arrived"))
        pss = pss_kib(self._relay.pid) // 1024
        done = Round(name, kept, arrived, end - began, took if asked else [], pss)
        self.rounds.append(done)
        self._say(f"{done}")
        return done

    def memory(self) -> str:
        """Return what each process has for itself and its share of the rest, MiB."""
        found = []
        for pid in group(self._relay.pid):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            found.append(f"{name_of(pid)} {pss / 1024:.0f}")
        return ", ".join(found)

    def settled(self, count: int) -> None:
        """End the load: all new mail goes out, and of the crowd nothing does."""
        self._load.stop()
        wait_until(lambda: self._relay.queue_length() <= count, "the end of the new mail", 60)
        assert self._relay.queue_length() == count

    def attempts(self) -> int:
        """Return how often a connection to the dead next hop was tried."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http_port}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        failed = [line for line in lines if line.startswith("postroad_attempts_total") and 'stage="connect"' in line]
        return int(sum(float(line.rpartition(" ")[2]) for line in failed))


def growth(relay: Crowded) -> float:
    """Return by how many milliseconds the p99 of a 250 grew at most, each round's median against the quiet before."""
    by_name: dict[str, list[float]] = {}
    for one in relay.rounds:
        by_name.setdefault(one.name, []).append(one.p99)
    medians = [statistics.median(values) for values in by_name.values()]
    return max(medians) - medians[0]


@dataclass(frozen=True)
class Start:
    """What the start of the relay took: seconds, and MiB of all processes."""

    seconds: float
    pss: int


@contextmanager
def crowded(home: Path, *, count: int, disk: str, say: Callable[[str], None]) -> Iterator[tuple[Crowded, Start]]:
    """Give a relay with ``count`` deferred messages and a steady load, and what its start took."""
    with ext4_disk(home, disk) as mount, dead_port() as dead:
        say(f"{count:,} messages put in {fill(mount / 'data', count):.0f} s")
        with steady_load(home / "load.txt", rate=RATE, clients=CLIENTS) as load:
            port, http = free_port(), free_port()
            config = CONFIG.format(top=TOP, dead=dead, alive=load.sink_port, http=http)
            relay = Relay(home, config=config, port=port, data_dir=mount / "data")
            began = time.monotonic()
            with running(relay):
                start = Start(time.monotonic() - began, pss_kib(relay.pid) // 1024)
                say(f"start: {start.seconds:.1f} s, then {start.pss} MiB of all processes (PSS)")
                load.go(port)
                yield Crowded(relay, load, http, say), start
                assert relay.stop() == 0


DOMAIN: Final = domain_of(77)
"""One of the crowd's."""
LOOKS: Final = (
    ("queue", "stats"),
    ("top", "--once"),
    ("queue", "list", "--domain", DOMAIN),
    ("queue", "delete", "--dry-run", "--to", f"*.g3.{TOP}"),
    ("queue", "delete", "--dry-run", "--all"),
    ("queue", "flush", "--domain", DOMAIN),
)
"""What does not take long, whatever waits."""
