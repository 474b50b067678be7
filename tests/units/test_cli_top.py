"""``postroad top``: rates over restarts, a page for any screen, keys, and a terminal that is left as it was found."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.units.relay_world import story
from tests.units.steering_world import HEALTH, NOW, STATS
from tests.world.waiting import until

from postroad.cli.top import keys_in, with_suspended
from postroad.cli.top_figures import FLOWS, Figures, shown_rate, sparkline
from postroad.cli.top_view import SORTS, Snapshot, View, is_failure, page
from postroad.outbound.relay import ProcessRow, RelayHealth, Suspension, WorkerCounter
from postroad.outbound.steering import Counter, DestinationRow

ROOT = Path(__file__).parents[2]


def counter(worker: str, name: str, value: float, **labels: str) -> WorkerCounter:
    return WorkerCounter(worker=worker, counter=Counter(name=name, labels=tuple(labels.items()), value=value))


def test_a_rate_is_what_grew_between_two_looks() -> None:
    figures = Figures()
    figures.add(10.0, [counter("worker-0", "messages_received_total", 1000, listener="a")])
    assert figures.rates["in"] == 0.0
    figures.add(
        12.0,
        [
            counter("worker-0", "messages_received_total", 1010, listener="a"),
            counter("worker-0", "messages_received_total", 4, listener="b"),
            counter("worker-0", "bounces_total", 1),
            counter("worker-0", "expiries_total", 1),
            counter("worker-0", "something_else_total", 99),
        ],
    )
    assert figures.rates == {"in": 7.0, "delivered": 0.0, "deferred": 0.0, "bounced": 1.0, "refused": 0.0}
    assert figures.totals["in"] == 1014


def test_a_process_that_begins_again_takes_nothing_away() -> None:
    figures = Figures()
    figures.add(0.0, [counter("worker-0", "deliveries_total", 500), counter("worker-1", "deliveries_total", 9)])
    figures.add(1.0, [counter("worker-0", "deliveries_total", 3), counter("worker-1", "deliveries_total", 10)])
    assert figures.rates["delivered"] == 4.0
    figures.pause()
    figures.add(99.0, [counter("worker-0", "deliveries_total", 5000)])
    assert figures.rates["delivered"] == 0.0
    figures.add(99.0, [counter("worker-0", "deliveries_total", 5001)])
    assert figures.rates["delivered"] == 0.0  # a clock that stands still divides nothing


def test_a_worker_that_was_silent_once_does_not_come_back_as_its_whole_total() -> None:
    figures = Figures()
    both = [counter("0", "deliveries_total", 500), counter("1", "deliveries_total", 9_000_000)]
    figures.add(0.0, both)
    figures.add(1.0, both[:1])
    assert figures.totals["delivered"] == 9_000_500
    figures.add(2.0, [both[0], counter("1", "deliveries_total", 9_000_003)])
    assert figures.rates["delivered"] == 3.0


def test_processes_that_need_more_room_have_more_lines() -> None:
    snapshot = known(3)
    assert snapshot.health is not None
    rows = tuple(
        ProcessRow(process="worker", slot=slot, pid=slot, started_at=NOW - 60, restarts=9, is_ready=True)
        for slot in range(8)
    )
    snapshot.health = msgspec.structs.replace(snapshot.health, processes=rows)
    text = "\n".join(line.plain for line in page(snapshot, View(), 80, 24, NOW))
    assert all(f"worker {slot} 1m, 9 restarts" in text for slot in range(8))


def test_small_graphs() -> None:
    assert sparkline([0, 1, 4, 8], 6) == "   ▁▄█"
    assert sparkline([1, 2, 3], 2) == "▅█"
    assert sparkline([], 3) == "   "
    assert sparkline([1], 0) == ""
    assert [shown_rate(rate) for rate in (0, 0.04, 9.96, 12.4, 1234)] == ["0", "0.0", "10.0", "12", "1,234"]


def known(rows: int = 3) -> Snapshot:
    destinations = tuple(
        DestinationRow(
            domain=f"{number}.日本語.example",
            destination="mx:mx.example",
            status=("open", "slow", "down", "suspended", "")[number % 5],
            due=number * 1000,
            held=number % 2,
            reports=0,
            oldest_at=NOW - 1000 * number if number else None,
            next_at=NOW + number,
            reason="450 4.2.1 \x1b[31m busy",
        )
        for number in range(rows)
    )
    process = ProcessRow(process="worker", slot=0, pid=1, started_at=NOW - 60, restarts=2, is_ready=True)
    health = RelayHealth(
        version=HEALTH.version,
        at=NOW,
        started_at=NOW - 3600,
        is_well=False,
        troubles=("The disk is full.",),
        listeners=(),
        processes=(process,) * 6,
        messages=1,
        recipients=1,
    )
    failures = [fact for fact in story(1, "bob@example.net") if is_failure(fact)] * 4
    stats = msgspec.structs.replace(STATS, destinations=destinations, accepting=False, trouble="disk")
    return Snapshot("relay.example.org", stats=stats, health=health, failures=failures)


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 150), st.integers(0, 200), st.booleans(), st.booleans())
def test_a_page_fits_every_screen(width: int, height: int, rows: int, top_row: int, away: bool, bare: bool) -> None:
    snapshot = Snapshot("relay.example.org") if bare else known(rows)
    snapshot.away = "nobody answers." if away else ""
    lines = page(snapshot, View(top_row=top_row), width, height, NOW)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    assert "\x1b" not in "".join(line.plain for line in lines)


def test_a_page_of_the_smallest_usual_screen_has_everything() -> None:
    text = "\n".join(line.plain for line in page(known(40), View(), 80, 24, NOW))
    for word in ("in trouble", "The disk is full.", "takes no mail", "worker 0 1m, 2 restarts", "DOMAIN", "1-6 of 40"):
        assert word in text
    for word in ("last failures", "deferred bob@example.net: 450 4.2.1", "q quit"):
        assert word in text


def test_it_can_be_scrolled_and_sorted() -> None:
    view = View()
    snapshot = known(40)
    assert snapshot.stats is not None
    firsts = []
    for _ in SORTS:
        firsts.append(page(snapshot, view, 80, 24, NOW)[13].plain.split()[0].partition(".")[0])
        view.next_sort()
    assert firsts == ["39", "39", "37", "0"]
    assert view.sort == "waiting"
    view.scroll(1000, 40)
    page(snapshot, view, 80, 24, NOW)
    assert view.top_row == 34  # the last one stands on the last line
    view.scroll(-1000, 40)
    assert view.top_row == 0


def test_a_suspended_destination_is_shown_as_such() -> None:
    suspension = Suspension(destination="mx:mx1.example.com", since=NOW, until=None, who="alice")
    rows = with_suspended(STATS, (suspension,)).destinations
    assert [row.status for row in rows] == ["suspended", ""]


@pytest.mark.parametrize(
    ("octets", "keys"),
    [
        (b"q", "q"),
        (b"\x1b[A\x1b[Bs", "kjs"),
        (b"\x1b[5~\x1b[6~", "KJ"),
        (b"\x03", "q"),
        (b"\x1b", "q"),
        (b"\x1b[24~p", ""),
        (b"jj\xff", "jj\xff"),
    ],
)
def test_keys(octets: bytes, keys: str) -> None:
    assert "".join(keys_in(octets)) == keys


# --- on a terminal ------------------------------------------------------------------------------------------

PROGRAM = """\
import sys
from tests.units.test_cli_cases import Script
from tests.units.relay_world import fill
from postroad.cli.main import run
script = Script()
fill(script.steering.relay)
sys.exit(run(script.house(), ["top", "--interval", "0.1"]))
"""


class Terminal:
    """A program on a pseudo-terminal: what it wrote, keys, size."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._master = master
        self._written = b""

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def written(self) -> str:
        with suppress(OSError):  # nothing more now, or the other end is closed
            self._written += os.read(self._master, 65536)
        return self._written.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        start = len(self._written)
        until(lambda: text in self.written()[start:], 30, what=f"{text!r} on the screen: {self.written()[-2000:]}")

    def end(self) -> int:
        return until(lambda: (self.written(), self.process.poll())[1] is not None, 30) and self.process.returncode


@contextmanager
def on_a_terminal() -> Iterator[tuple[Terminal, int]]:
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(master, False)
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "TERM": "xterm-256color",
        "POSTROAD_CONFIG": str(ROOT / "tests" / "cases" / "cli" / "postroad.toml"),
    }
    environment.pop("COLUMNS", None)
    environment.pop("LINES", None)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=ROOT,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield Terminal(master, process), slave
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        os.close(slave)
        os.close(master)


@pytest.mark.parametrize("end", ["q", "\x03", "SIGTERM", "SIGINT"])
def test_it_lives_on_a_terminal_and_leaves_it_as_it_was(end: str) -> None:
    with on_a_terminal() as (terminal, slave):
        before = termios.tcgetattr(slave)
        terminal.wait_for("example.com")
        assert termios.tcgetattr(slave) != before
        terminal.press(b"sp")
        terminal.wait_for("PAUSED")
        terminal.press(b"pj\x1b[A")
        for width, height in ((40, 10), (5, 2), (200, 60)):
            terminal.resize(width, height)
        terminal.wait_for("last failures")
        if end.startswith("SIG"):
            terminal.process.send_signal(getattr(signal, end))
        else:
            terminal.press(end.encode())
        assert terminal.end() == 0
        assert "Traceback" not in terminal.written()
        assert termios.tcgetattr(slave) == before
        assert "\x1b[?1049l" in terminal.written()  # back from the alternate screen
        assert "\x1b[?25h" in terminal.written()  # the cursor too


def test_flows_name_counters_that_there_are() -> None:
    text = (ROOT / "src" / "postroad" / "observe" / "kinds.py").read_text()
    for names in FLOWS.values():
        for name in names:
            assert f'"{name}"' in text
