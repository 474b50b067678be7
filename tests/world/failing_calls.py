"""A worker whose Nth sync or write fails, or is its last, and whose disk then loses power.

Owns: injecting one fault into a worker that is at work (strace), waiting until it has happened. Does not own: the load,
the cut and who compares (power_cuts.py, mixed.py), which faults (test_failing_calls.py, tests/soak/test_real.py).

strace lets the call fail without doing it: what was written and "synced" then is in memory alone, and gone after the
cut. A relay that answers 250 after a failed sync, or goes on as if its pages were clean, loses mail here.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.world.harness import Relay
from tests.world.load import LOAD_MAX
from tests.world.mixed import MixedGenerator
from tests.world.power_cuts import Cuts, cut_again_and_again
from tests.world.waiting import until

SYNCS: Final = "fdatasync,fsync"
WRITES: Final = "pwrite64"
"""SQLite's writes: ``write`` would be the sockets' and the log's too."""
KINDS: Final = {
    "sync-fails": (SYNCS, "error=EIO"),
    "disk-full": (WRITES, "error=ENOSPC"),
    "killed-at-sync": (SYNCS, "signal=KILL"),
}
FAILING: Final = {"sync-fails", "disk-full"}
"""After these the process goes on."""
END_MAX: Final = 10.0
"""Seconds that a tracer may take to let go."""


@dataclass(frozen=True)
class Fault:
    """What happens at which call of a kind, counted in each thread from the moment the tracer is there."""

    kind: str
    when: int

    @property
    def options(self) -> list[str]:
        calls, what = KINDS[self.kind]
        return ["-e", f"trace={calls}", "-e", f"inject={calls}:{what}:when={self.when}"]


def fail(
    home: Path, faults: Sequence[Fault], *, seed: int, say: Callable[[str], None]
) -> tuple[Cuts, MixedGenerator, Counter[str]]:
    """Have each fault happen, the power cut after it, the relay go on; return what came of it."""
    dice = random.Random(seed)
    happened: Counter[str] = Counter()
    clients: list[MixedGenerator] = []

    def strike(number: int, relay: Relay, generator: MixedGenerator) -> None:
        clients[:] = [generator]
        fault = faults[number - 1]
        inject(relay.pids("worker")[dice.randrange(2)], fault, home / f"strace-{number}.log")
        happened[fault.kind] += 1
        if dice.random() < 0.5:  # before the cut it takes mail again by itself
            mark = len(generator.taken) + 50
            until(lambda: len(generator.taken) >= mark, LOAD_MAX, what="mail taken after the fault")

    done = cut_again_and_again(home, cuts=len(faults), seed=seed, say=say, strike=strike)
    say(f"{dict(happened)}; {len(clients[0].put_back)} contents answered 4xx")
    return done, clients[0], happened


def inject(pid: int, fault: Fault, log: Path) -> None:
    """Trace a process until the fault has happened in it."""
    command = ["strace", "-qq", "-f", "-o", str(log), *fault.options, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        try:
            until(lambda: tracer.poll() is not None or has_happened(log), LOAD_MAX, what=str(fault))
            if fault.kind in FAILING and tracer.poll() is None:
                os.kill(tracer.pid, signal.SIGINT)  # it lets go of the process
            tracer.wait(END_MAX)  # where the process was killed, it ends with it
        except subprocess.TimeoutExpired:
            pass
        finally:
            if tracer.poll() is None:
                tracer.kill()  # then the kernel lets go
    assert has_happened(log), log.read_text(errors="replace")[-500:]


def has_happened(log: Path) -> bool:
    text = log.read_text(errors="replace") if log.exists() else ""
    return "(INJECTED)" in text or "killed by SIGKILL" in text
