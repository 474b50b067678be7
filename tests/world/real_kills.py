"""Processes of a relay killed one after the other under a mixed load, on an ext4 with its journal.

Owns: whom to kill and when, the start of a supervisor that was killed, the end of the load, what is printed. Does not
own: the mail and who compares (mixed.py), the sizes (test_real_kills.py, tests/soak/test_real.py).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.world.crowd import ext4_disk
from tests.world.harness import Relay, group, running
from tests.world.mixed import CONFIG, Findings, MixedGenerator, MixedSink, compare, missing, owed
from tests.world.waiting import until

ROLES: Final = {"worker": 4, "supervisor": 2, "front": 1, "ledger": 1, "nursery": 1}
"""How often each is chosen, of so many times, once each has had its turn."""
BETWEEN: Final = (0.5, 3.0)
"""Seconds between two kills."""
START_MAX: Final = 60.0
STALL_MAX: Final = 120.0
"""Seconds without a 250, or without a kill, after which neither is waited for any more."""
AHEAD_MAX: Final = 4_000
"""Messages that may be under way, about; past it the clients go slowly until the next kill: the sink keeps up."""
SLOWLY: Final = 0.5
"""Seconds between two messages of a client then."""
ARRIVING: Final = 50
"""Messages a second that arrive at least while nobody kills."""
PATIENCE: Final = 300.0


class Killer:
    """Who kills, and remembers when."""

    def __init__(self, relay: Relay, seed: int) -> None:
        self._relay = relay
        self._dice = random.Random(seed)
        self._logs = 0
        self._ended = 0.0
        self._first = self._dice.sample(list(ROLES), len(ROLES))
        self.killed: Counter[str] = Counter()
        self.breaks: list[tuple[float, float]] = []
        """Of each kill that may break off a delivery: when it was, and until when deliveries were going on."""

    def strike(self) -> None:
        """Wait a little, and kill one of those who live."""
        at = time.monotonic() + self._dice.uniform(*BETWEEN)
        until(lambda: time.monotonic() >= at, 2 * BETWEEN[1])
        role = self._first[-1] if self._first else self._dice.choices(list(ROLES), list(ROLES.values()))[0]
        pids = list(self._relay.pids(role).values())
        if not pids:  # killed before, and not yet back
            return
        moment = time.monotonic()
        try:
            os.kill(self._dice.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return
        if role == "supervisor":
            self._restart()
        if role in ("worker", "supervisor"):
            self.breaks.append((moment, time.monotonic() if role == "worker" else self._ended))
        self.killed[role] += 1
        self._first = self._first[:-1]

    def _restart(self) -> None:
        relay = self._relay
        assert relay.process is not None
        relay.process.wait(10)
        left = relay.pid
        self._logs += 1
        relay.log_file = relay.home / f"relay-{self._logs}.log"  # who waits for the start reads a short one
        relay.start(wait=False)  # it waits by itself for what is left of the other
        until(lambda: not group(left), 30, what="the end of those whose supervisor was killed")
        self._ended = time.monotonic()
        relay.wait_up(START_MAX)


def _strike(
    killer: Killer,
    generator: MixedGenerator,
    sink: MixedSink,
    *,
    messages: int,
    kills: int,
    say: Callable[[str], None],
) -> None:
    """Kill until so many messages were taken and so many kills done. AssertionError: one of them goes no further."""
    seen, moved = [0, 0], [time.monotonic()] * 2
    while len(generator.taken) < messages or killer.killed.total() < kills:
        killer.strike()
        ahead = len(generator.taken) - len(sink.digests) - len(sink.reports)
        generator.slow(SLOWLY if ahead > AHEAD_MAX else 0.0)
        now, counts = time.monotonic(), [killer.killed.total(), len(generator.taken)]
        if counts[0] != seen[0] and counts[0] % 10 == 0:
            say(f"{counts[0]} kills, {counts[1]} with 250")
        moved = [now if new != old else at for new, old, at in zip(counts, seen, moved, strict=True)]
        seen = counts
        assert not generator.errors, generator.errors
        assert now - min(moved) < STALL_MAX, (
            f"no kill, or no 250, for {STALL_MAX} s: {seen[0]} kills, {seen[1]} with 250"
        )


def killed_again_and_again(
    home: Path, *, messages: int, kills: int, seed: int, say: Callable[[str], None]
) -> tuple[Findings, Counter[str]]:
    """Kill until so many messages were taken and so many kills done, then wait until all has arrived."""
    began = time.monotonic()
    with ext4_disk(home, "4G") as mount, MixedSink() as sink:
        relay = Relay(home, config=CONFIG.format(port=sink.port), data_dir=mount / "data")
        killer = Killer(relay, seed)
        with running(relay), MixedGenerator(relay.port, 1 << 40, seed=seed) as generator:
            _strike(killer, generator, sink, messages=messages, kills=kills, say=say)
            generator.stop()
            until(generator.is_idle, 120, what="the end of the clients")
            left = owed(generator, generator.taken)

            def is_there() -> bool:
                left[:] = missing(sink, left)
                return not left

            try:
                until(is_there, PATIENCE + len(left) / ARRIVING, what="all that is owed")
            except TimeoutError:
                say(f"{len(left)} have not come, the queue holds {relay.queue_length()}")
            until(lambda: relay.queue_length() == 0, PATIENCE, what="an empty queue")
            assert relay.stop() == 0
    found = compare(generator, sink, killer.breaks)
    say(
        f"seed {seed}: {found}; {killer.killed.total()} kills ({dict(killer.killed)}), {len(generator.doubtful)} "
        f"doubtful, {len(generator.refused)} refused, {len(sink.reports)} reports, {time.monotonic() - began:.0f} s"
    )
    return found, killer.killed
