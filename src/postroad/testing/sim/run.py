"""Plays many seeds, in one process or several, and adds them up as they end.

Owns: which seeds are left to play, child processes, progress, a sum that an interrupted run keeps and a later one goes
on with. Does not own: a story (world.py), the sum itself (summary.py), arguments (__main__.py). Each seed plays the
same in whatever process; what comes of one is a summary of its own, so the order in which they end does not matter.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from postroad.testing.sim.judge_more import judge
from postroad.testing.sim.summary import Summary, version_of
from postroad.testing.sim.teller import LETTERS, tell
from postroad.testing.sim.world import play

PROGRESS_EVERY: Final = 30.0
"""Seconds between two lines about how far it is; the sum is written as often."""
_POLL: Final = 1.0
"""Seconds after which the time is looked at, though no seed has ended."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to run."""

    letters: int = LETTERS
    jobs: int = 1
    sum: Path | None = None
    minutes: float = 1e9
    says_trace: bool = False
    stops: bool = False
    """At the first seed that breaks a law."""


def run_seeds(first: int, last: int, options: Options, say: Callable[[str], None]) -> Summary:
    """Play what is not in the sum yet; return the sum. Interrupted, it returns what has ended so far.

    Raises:
        ValueError: the sum is of stories of another length, or of another version of the product.
    """
    total = Summary.read(options.sum)
    total.begin(options.letters, version_of())
    seeds = [seed for seed in range(first, last + 1) if not total.has(seed)]
    if total.seeds:
        say(f"{total.seeds} seeds are in the sum already, {len(seeds)} are left to play")
    began = looked_at = time.monotonic()
    count = 0
    with _interruptible() as is_interrupted, _Plays(seeds, options) as plays:
        for one in plays:
            if one is not None:
                count += 1
                total.add_sum(one)
                _tell_of(one, options, say)
            now = time.monotonic()
            if now - looked_at >= PROGRESS_EVERY:
                looked_at = now
                total.write(options.sum)
                say(f"{count} of {len(seeds)} seeds after {now - began:.0f} s; {len(total.broken)} broke a law")
            if is_interrupted() or now - began > 60.0 * options.minutes or (options.stops and total.broken):
                say(f"it ends here, after {count} of {len(seeds)} seeds")
                break
    total.write(options.sum)
    return total


def _tell_of(one: Summary, options: Options, say: Callable[[str], None]) -> None:
    for seed, trace in one.traces.items():
        if options.says_trace:
            say(f"seed {seed} trace {trace}")
    for seed, laws in one.broken.items():
        say(f"seed {seed} broke {len(laws)} laws; {laws[0]}")
        say(f"  again: {again(int(seed), options.letters)}")


def again(seed: int, letters: int) -> str:
    """Return the command that plays a seed again, to be typed where we are."""
    return f"{python()} -m postroad.testing.sim replay {seed}" + (f" --letters {letters}" if letters != LETTERS else "")


def python() -> str:
    """Return how to call this interpreter: in a checkout the environment's is not in the path."""
    here, path = Path.cwd(), Path(sys.executable)
    return str(path.relative_to(here)) if path.is_relative_to(here) else "python"


def play_one(seed: int, letters: int, *, collects: bool = True) -> Summary:
    """Play and judge one seed. What the simulation itself raises is a broken law like any other: the run goes on.

    ``collects``: what the story leaves behind is collected; else the process is to end soon.
    """
    one = Summary()
    started = time.process_time()
    try:
        played = play(tell(seed, letters=letters), collects=collects)
        verdict = judge(played)
    except Exception:  # noqa: BLE001 - boundary: a seed that cannot be played is reported, and the others are played
        one.add_failure(seed, traceback.format_exc(limit=-6))
        return one
    one.add(played, verdict, time.process_time() - started)
    return one


class _Plays:
    """The summaries of seeds as they end; None now and then, so that the time can be looked at.

    Each seed is played in a process of its own, made by fork: whatever a story leaves behind ends with it (what a dead
    process of the story had of SQLite cannot be collected), and no seed can know what was played before it.
    """

    def __init__(self, seeds: Sequence[int], options: Options) -> None:
        self._left = iter(seeds)
        self._options = options
        self._children: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> Iterator[Summary | None]:
        gc.collect()
        gc.freeze()
        for _ in range(max(1, self._options.jobs)):
            self._start_next()
        return self._gather()

    def _start_next(self) -> None:
        if (seed := next(self._left, None)) is None:
            return
        here, there = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=_play_alone, args=(seed, self._options.letters, there), daemon=True
        )
        child.start()
        there.close()  # else its end would not be seen
        self._children[here] = child

    def _gather(self) -> Iterator[Summary | None]:
        while self._children:
            ready = wait(list(self._children), _POLL)
            if not ready:
                yield None
            for one in ready:
                assert isinstance(one, Connection)
                octets = self._hear(one)
                self._start_next()
                yield msgspec.msgpack.decode(octets, type=Summary)

    def _hear(self, one: Connection) -> bytes:
        """Return what came of a seed, and bury the process that played it."""
        try:
            octets = one.recv_bytes()
        except EOFError:
            octets = b""
        one.close()
        child = self._children.pop(one)
        child.join()
        if not octets:
            raise RuntimeError(f"a process that plays a seed ended with {child.exitcode}")
        return octets

    def __exit__(self, *error: object) -> None:
        for child in self._children.values():
            if child.is_alive():
                child.kill()
            child.join()


def _play_alone(seed: int, letters: int, there: Connection) -> None:
    """Do a child's work, and end without looking back: with its parent, after the seed in hand at the latest."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    there.send_bytes(msgspec.msgpack.encode(play_one(seed, letters, collects=False)))
    os._exit(0)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Have SIGINT and SIGTERM end the run between two seeds, so that what has ended is kept."""
    seen: list[int] = []

    def see(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    before = {number: signal.signal(number, see) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
