"""The power of a relay's disk is cut again and again under a mixed load; each time it goes on from what was left.

Owns: when, what the clients had heard by then, what in the world of the test has never happened, what is printed. Does
not own: the disk (power.py), the mail and who compares (mixed.py), the sizes (test_power_cuts.py, tests/soak).

A cut is a moment. What clients heard before it is owed. After it the old relay goes on for a while, which no relay
without power does: what it answered then is not owed, and what it delivered then does not count as delivered.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.world.harness import Relay
from tests.world.mixed import CONFIG, Findings, Key, MixedGenerator, MixedSink, compare, missing, owed
from tests.world.power import PoweredDisk, make_image
from tests.world.waiting import until

SIZE: Final = 192 << 20
LOAD: Final = (0.5, 2.5)
"""Seconds of load before a cut."""
PAUSE: Final = 0.02
"""Seconds between two messages of one client: what comes in must not be more than what goes out, or the disk fills."""
PAUSE_MEANWHILE: Final = 0.5
"""The same while what was on the disk is waited for."""
START_MAX: Final = 60.0
PATIENCE: Final = 120.0


@dataclass
class Cuts:
    """What was cut, and what came of it."""

    undelivered: list[int] = field(default_factory=list)
    """At each cut: deliveries and reports owed for a 250 that had not come yet: they live on the disk alone."""
    sectors: list[int] = field(default_factory=list)
    """At each cut: sectors that the disk's cache lost."""
    breaks: list[tuple[float, float]] = field(default_factory=list)
    """When, and when the old relay had gone."""
    lost: list[Key] = field(default_factory=list)
    findings: Findings | None = None

    def __str__(self) -> str:
        found = self.findings or f"{len(self.lost)} lost"
        alone = f"owed and on the disk alone at each cut: {self.undelivered}"
        return f"{len(self.undelivered)} cuts, {found}; {alone}; sectors that the cache lost: {self.sectors}"


def cut_again_and_again(
    home: Path,
    *,
    cuts: int,
    seed: int,
    say: Callable[[str], None],
    sources: Path | None = None,
    strike: Callable[[int, Relay, MixedGenerator], None] = lambda number, relay, generator: None,
) -> Cuts:
    """Cut so many times. Losses end the run, and are returned.

    ``sources``: a copy of the product in place of it; ``strike``: done under load right before each cut, from 1 on.
    """
    dice = random.Random(seed)
    done = Cuts()
    image = make_image(home / "disk-0.img", SIZE)
    mount = home / "disk"
    with ExitStack() as stack:
        sink = stack.enter_context(MixedSink())
        env = {"PYTHONPATH": str(sources)} if sources else None
        relay = Relay(home, config=CONFIG.format(port=sink.port), data_dir=mount / "data", env=env)
        generator = stack.enter_context(MixedGenerator(relay.port, 1 << 40, seed=seed, pause=PAUSE))
        for number in range(1, cuts + 2):
            with PoweredDisk(image, mount) as disk, ended(relay):
                relay.log_file = home / f"relay-{number}.log"
                generator.slow(PAUSE_MEANWHILE)
                relay.start(wait=False)
                relay.wait_up(START_MAX)
                done.lost = not_coming(sink, generator)
                if done.lost or number > cuts:
                    say(f"{len(done.lost)} lost after cut {number - 1}")
                    generator.stop()
                    until(generator.is_idle, 120, what="the end of the clients")
                    if not done.lost:
                        done.lost = not_coming(sink, generator)
                        until(lambda: relay.queue_length() == 0, PATIENCE, what="an empty queue")
                        assert relay.stop() == 0
                    break
                load(generator, sink, dice)
                strike(number, relay, generator)
                image.unlink()
                image = home / f"disk-{number}.img"
                cut(disk, relay, generator, sink, image=image, seed=dice.getrandbits(32), done=done)
    generator.doubtful |= (
        generator.put_back
    )  # a sync that failed, and a crash: such a message may be there all the same
    if not done.lost:
        done.findings = compare(generator, sink, [*done.breaks, *((at, at) for at in sink.went_down)])
    image.unlink()
    say(f"seed {seed}: {done}")
    return done


def ended(relay: Relay) -> ExitStack:
    """Kill what runs at the end of a block: nothing may hold the disk."""
    stack = ExitStack()
    stack.callback(lambda: relay.kill() if relay.process is not None and relay.process.poll() is None else None)
    return stack


def load(generator: MixedGenerator, sink: MixedSink, dice: random.Random) -> None:
    """Let mail come in for a while; half of the times the next hop is down meanwhile, so that much waits."""
    generator.slow(PAUSE)
    if dice.random() < 0.5:
        sink.down()
    mark, end = len(generator.taken), time.monotonic() + dice.uniform(*LOAD)
    until(lambda: time.monotonic() >= end and len(generator.taken) >= mark + 50, PATIENCE, what="load")
    assert not generator.errors, generator.errors


def cut(
    disk: PoweredDisk,
    relay: Relay,
    generator: MixedGenerator,
    sink: MixedSink,
    *,
    image: Path,
    seed: int,
    done: Cuts,
) -> None:
    """Cut the power under the load, end the relay, and set what the test knows to the moment of the cut."""
    taken = set(generator.taken)  # what gets its 250 between here and the cut may be there, and is not owed
    moment, sectors = disk.cut(image, seed)
    done.sectors.append(sectors)
    relay.kill()
    until(lambda: not generator.awaiting and sink.is_alone, PATIENCE, what="who saw the cut")
    done.breaks.append((moment, time.monotonic()))
    sink.forget_since(moment)
    late = generator.taken - taken
    generator.doubtful |= late
    generator.taken -= late
    done.undelivered.append(len(missing(sink, owed(generator, taken))))
    if not sink.is_up:
        sink.up()


def not_coming(sink: MixedSink, generator: MixedGenerator) -> list[Key]:
    """Wait for all that is owed now; return what has not come in time."""
    left = owed(generator, list(generator.taken))

    def is_there() -> bool:
        left[:] = missing(sink, left)
        return not left

    with suppress(TimeoutError):
        until(is_there, PATIENCE, what="all that is owed")
    return left
