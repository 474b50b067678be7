"""``postroad top``: the relay at a glance, as it works.

Owns: asking the relay again and again, the keys, drawing. Does not own: figures (top_figures.py), the page
(top_view.py). A relay that goes away is told of on the page and asked again; whatever happens, the terminal is left as
it was found.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from postroad.cli.broken import WARNING, settings_to_steer
from postroad.cli.configuration import ConfigFile
from postroad.cli.house import House, house_of
from postroad.cli.output import is_terminal, write_error, write_json

if TYPE_CHECKING:
    from postroad.cli.top_view import Snapshot, View
    from postroad.core.facts import AnyFact
    from postroad.outbound.relay import RelaySteering, Suspension
    from postroad.outbound.steering import QueueStats

DESTINATIONS: Final = 200
"""Rows that are asked for."""
FAILURES: Final = 50
ANSWER_TIMEOUT: Final = 10.0
"""Seconds for all that is asked in one round."""
_KEYS: Final = {
    b"\x1b[A": "k",
    b"\x1b[B": "j",
    b"\x1b[5~": "K",
    b"\x1b[6~": "J",
    b"\x03": "q",
    b"\x1b": "q",
}


def top(
    context: typer.Context,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, max=3600, help="Time between two looks.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one page and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line; once.")] = False,
    config: ConfigFile = None,
) -> None:
    """Watch the relay work: rates, the queue by destination, processes, the last failures."""
    from postroad.cli.top_view import Snapshot
    from postroad.outbound.steering import ControlRefused

    house = house_of(context)
    settings, wrong = settings_to_steer(config)
    if not (once or as_json or is_terminal()):
        raise ControlRefused("Standard output is no terminal: say --once for one page, or --json.", 2)
    if wrong is not None:
        write_error(WARNING)
    relay = house.ask_relay(settings)
    watching = _Watching(house, relay, Snapshot(settings.hostname), interval)
    if once or as_json:
        asyncio.run(watching.look_twice())
        _write_rows(watching.known) if as_json else _print_page(watching.known, house.clock.now())
    else:
        with _raw_keys():
            asyncio.run(_Screen(watching).run())


class _Watching:
    """Asks the relay, and keeps what it says."""

    def __init__(self, house: House, relay: RelaySteering, known: Snapshot, interval: float) -> None:
        self._house = house
        self._relay = relay
        self._failures: deque[AnyFact] = deque(maxlen=FAILURES)
        self.known = known
        self.interval = interval

    def now(self) -> float:
        return self._house.clock.now()

    async def look(self) -> None:
        """Ask for everything once. Raises ControlRefused and TimeoutError."""
        async with asyncio.timeout(ANSWER_TIMEOUT):
            counters, health, stats, suspensions = await asyncio.gather(
                self._relay.counters(),
                self._relay.relay_health(),
                self._relay.stats(DESTINATIONS),
                self._relay.suspensions(),
            )
        self.known.figures.add(self.now(), counters)
        self.known.health = health
        self.known.stats = with_suspended(stats, suspensions)
        self.known.failures = tuple(self._failures)
        self.known.away = ""

    async def look_twice(self) -> None:
        """Look, wait, look again: a rate needs two looks."""
        await self.look()
        await asyncio.sleep(self.interval)
        await self.look()

    async def keep_looking(self, changed: Callable[[], None]) -> None:
        """Look every ``interval`` seconds, without end."""
        from postroad.outbound.steering import ControlRefused

        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self.interval
            try:
                await self.look()
            except (ControlRefused, TimeoutError) as error:
                self.known.away = getattr(error, "text", "it does not answer.")
                self.known.figures.pause()
            changed()
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def keep_listening(self) -> None:
        """Hear of failures, without end; after the relay went away, from when it is back."""
        from postroad.cli.top_view import is_failure
        from postroad.outbound.steering import ControlRefused

        while True:
            try:
                async with aclosing(self._relay.watch(None, everything=True)) as facts:
                    async for fact in facts:
                        if is_failure(fact):
                            self._failures.append(fact)
            except ControlRefused:
                pass  # the page says that the relay is away; what failed meanwhile is in the trace
            await asyncio.sleep(self.interval)


def with_suspended(stats: QueueStats, suspensions: tuple[Suspension, ...]) -> QueueStats:
    """Return the rows with ``suspended`` as the status of those that a person suspended."""
    from postroad.policy.destination_name import parse_destination_name

    names = [parse_destination_name(row.destination) for row in suspensions]
    rows = tuple(
        msgspec.structs.replace(row, status="suspended")
        if any(name.matches(row.domain, row.destination) for name in names)
        else row
        for row in stats.destinations
    )
    return msgspec.structs.replace(stats, destinations=rows)


# --- one page -------------------------------------------------------------------------------------------


def _print_page(known: Snapshot, now: float) -> None:
    from rich.console import Console

    from postroad.cli.top_view import View, page

    console = Console()
    width = console.width if is_terminal() else max(console.width, 120)
    rows = 15 + len(known.stats.destinations if known.stats else ())
    lines = page(known, View(has_keys=False, is_once=True), width, rows, now)
    while not lines[-1].plain.strip():
        lines.pop()
    for line in lines:
        if is_terminal():
            console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            sys.stdout.write(line.plain.rstrip() + "\n")


def _write_rows(known: Snapshot) -> None:
    figures, stats, health = known.figures, known.stats, known.health
    assert stats is not None
    assert health is not None
    write_json({"kind": "rates", **figures.rates})
    write_json({"kind": "total", **_fields(stats, but="destinations")})
    write_json({"kind": "relay", **_fields(health, but="processes")})
    for process in health.processes:
        write_json({"kind": "process", **_fields(process)})
    for row in stats.destinations:
        write_json({"kind": "destination", **_fields(row)})


def _fields(row: msgspec.Struct, but: str = "") -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__ if name != but}


# --- the screen ------------------------------------------------------------------------------------------


class _Screen:
    """Draws when something is new, does what keys say."""

    def __init__(self, watching: _Watching) -> None:
        from postroad.cli.top_view import View

        self._watching = watching
        self._view: View = View(has_keys=sys.stdin.isatty())
        self._news = asyncio.Event()
        self._is_over = False
        self._frozen: tuple[Snapshot, float] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._quit)
        loop.add_signal_handler(signal.SIGWINCH, self._news.set)
        if self._view.has_keys:
            loop.add_reader(sys.stdin.fileno(), self._read_keys)
        tasks = [
            loop.create_task(self._watching.keep_looking(self._news.set)),
            loop.create_task(self._watching.keep_listening()),
        ]
        try:
            await self._draw_until_over(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._view.has_keys:
                loop.remove_reader(sys.stdin.fileno())

    async def _draw_until_over(self, tasks: list[asyncio.Task[None]]) -> None:
        from rich.console import Console, Group
        from rich.live import Live

        from postroad.cli.top_view import page

        console = Console()
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while not self._is_over:
                known, now = self._frozen or (self._watching.known, self._watching.now())
                size = console.size
                live.update(Group(*page(known, self._view, size.width, size.height, now)), refresh=True)
                await self._news.wait()
                self._news.clear()
                for task in tasks:
                    if task.done():
                        task.result()  # a fault of ours is not hidden

    def _quit(self) -> None:
        self._is_over = True
        self._news.set()

    def _read_keys(self) -> None:
        try:
            octets = os.read(sys.stdin.fileno(), 64)
        except OSError:
            octets = b""
        if not octets:  # the terminal has gone
            self._quit()
            return
        for key in keys_in(octets):
            self._press(key)
        self._news.set()

    def _press(self, key: str) -> None:
        stats = self._watching.known.stats
        rows = len(stats.destinations) if stats is not None else 0
        match key:
            case "q":
                self._quit()
            case "p":
                self._view.is_paused = not self._view.is_paused
                self._frozen = self._freeze() if self._view.is_paused else None
            case "s":
                self._view.next_sort()
            case "j" | "k" | "J" | "K":
                step = 10 if key.isupper() else 1
                self._view.scroll(step if key in "jJ" else -step, rows)
            case _:
                pass

    def _freeze(self) -> tuple[Snapshot, float]:
        import copy

        known = copy.copy(self._watching.known)
        known.figures = copy.deepcopy(known.figures)
        return known, self._watching.now()


def keys_in(octets: bytes) -> Iterator[str]:
    """Yield the keys in what a terminal sent; arrows and pages are ``k``, ``j``, ``K``, ``J``."""
    while octets:
        sequence = next((each for each in _KEYS if len(each) > 1 and octets.startswith(each)), octets[:1])
        if sequence == b"\x1b" and len(octets) > 1:  # a key that we do not know: none of its octets is meant
            return
        yield _KEYS.get(sequence, sequence.decode("latin-1"))
        octets = octets[len(sequence) :]


@contextmanager
def _raw_keys() -> Iterator[None]:
    """Have keys come at once and unseen, Ctrl-C and Ctrl-Z too, and the terminal as it was afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    wanted = termios.tcgetattr(descriptor)
    wanted[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
    termios.tcsetattr(descriptor, termios.TCSANOW, wanted)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
