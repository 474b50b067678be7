"""What it costs to store facts: CPU for a message on the loop's thread and in the lane, at a steady rate.

Run: ``python bench/facts.py [MESSAGES_A_SECOND] [SECONDS]``. Facts of ordinary messages (received, attempted with its
dialogue, delivered) are emitted as they would be, in portions of 10 ms, through the outlet to a store on a real disk.

What is in the figures: emitting, the batches, rows, encoding, SQLite with its syncs. Not in them: making the facts. The
CPU of the loop's thread is what it used beyond a run without a store; that of the lane is the rest of the process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).parent.parent))

import uvloop
from tests.units.facts_world import attempted, delivered, message_id, received

from postroad.core.units import DAY, GIB
from postroad.observe.outlet import FactOutlet
from postroad.observe.segments import FactStore
from postroad.service.threads import WorkerThreads
from postroad.service.wall_clock import WallClock

PORTION = 0.01


async def measure(rate: int, seconds: float, directory: str | None) -> tuple[float, float, float]:
    """Return CPU seconds of the loop's thread and of the others, and what it took."""
    threads, clock = WorkerThreads(), WallClock()
    outlet = FactOutlet()
    if directory is not None:
        store = FactStore(directory, "0", threads=threads, clock=clock, keep=30 * DAY, disk_max=4 * GIB)
        outlet.subscribe(store)
    loop = asyncio.get_running_loop()
    number, began = 0, loop.time()
    made = 0.0
    thread, process = time.thread_time(), time.process_time()
    while loop.time() - began < seconds:
        due = int((loop.time() - began) * rate)
        making = time.thread_time()
        now = clock.now()
        told = []
        for one in range(number, due):
            message = message_id(one, now)
            sender, to = f"bounces+{one % 1000}@news.example", f"user{one}@example.org"
            told += [received(one, now, sender, to), attempted(message, now), delivered(message, now, to)]
        number = due
        made += time.thread_time() - making
        for fact in told:
            outlet.emit(fact)
        await asyncio.sleep(PORTION)
    await outlet.close()
    took = loop.time() - began
    on_loop, all_of_it = time.thread_time() - thread, time.process_time() - process
    threads.close()
    return (on_loop - made) / number, (all_of_it - on_loop) / number, took


def main() -> None:
    rate = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        bare, _, _ = runner.run(measure(rate, seconds, None))
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as directory:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            on_loop, in_lane, took = runner.run(measure(rate, seconds, directory))
        size = sum(file.stat().st_size for file in Path(directory).iterdir())
    messages = rate * seconds
    print(f"{rate} messages a second for {seconds:g} s, done {took - seconds:.2f} s after the last")
    print(f"loop's thread  {(on_loop - bare) * 1e6:6.1f} us a message ({bare * 1e6:.1f} us without a store)")
    print(f"lane           {in_lane * 1e6:6.1f} us a message")
    print(f"disk           {size / messages:6.0f} octets a message")


if __name__ == "__main__":
    main()
