"""How the command line looks: tables and colours on a terminal, plain aligned text in a pipe, JSON where asked.

Owns: the shapes of tables, ages, sizes and times, progress on work that takes over a second. Does not own: what is
said. A table is written as its rows come, a page at a time, so that a million rows need no memory. rich is imported
only where standard output is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from postroad.core.json_text import printable_json
from postroad.core.units import DAY, HOUR, KIB, MINUTE

if TYPE_CHECKING:
    from postroad.outbound.steering import DestinationRow

PAGE_ROWS: Final = 200
"""Rows that are aligned with each other."""
PADDING_MAX: Final = 48
"""Characters to which a column is padded: one very long address must not push all others off the screen."""
LAST_LEAST: Final = 16
"""Characters of the last column for whose sake others are left out on a narrow screen."""
PROGRESS_AFTER: Final = 1.0
"""Seconds after which a person is shown that something goes on."""

T = TypeVar("T")


def write_line(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def write_error(text: str) -> None:
    """Say why it did not work, on standard error."""
    with suppress(OSError):  # main.py says that
        sys.stdout.flush()
    sys.stderr.write(text + "\n")


def write_json(value: Any) -> None:
    """Write one object on one line."""
    sys.stdout.write(printable_json(msgspec.json.encode(value)).decode() + "\n")


def is_terminal() -> bool:
    return sys.stdout.isatty()


def prepare() -> None:
    """Load what a terminal needs, now: once the command acts as another user, that may not be readable any more."""
    if is_terminal():
        import io

        from rich.console import Console
        from rich.table import Table

        table = Table("\u00e9", "\u65e5")  # letters, too, have tables that are loaded late
        Console(file=io.StringIO(), force_terminal=True).print(table, style="bold red")


class Column(msgspec.Struct, frozen=True):
    """One column of a table. ``least``: its width at least, so that pages keep in line.

    ``drop``: on a screen too narrow for all, the highest goes first; 0: it stays.
    """

    title: str
    least: int = 0
    right: bool = False
    drop: int = 0


class TableWriter:
    """Writes a table as rows come. The last column is free text and never padded."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._widths = [max(column.least, len(column.title)) for column in columns]
        self._rows: list[Sequence[str]] = []
        self._has_header = False
        self._kept: list[int] = []
        """Which columns a terminal has room for, from the first page on."""

    def add(self, row: Sequence[str]) -> None:
        self._rows.append([printable(cell) for cell in row])
        if len(self._rows) >= PAGE_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what has been added."""
        if not self._rows:
            return
        for row in self._rows:
            widths = zip(self._widths, row, strict=True)
            self._widths = [max(width, min(len(cell), PADDING_MAX)) for width, cell in widths]
        if is_terminal():
            self._flush_coloured()
        else:
            self._flush_plain()
        self._rows.clear()
        self._has_header = True

    def _flush_plain(self) -> None:
        lines = [] if self._has_header else [self._line([column.title for column in self._columns])]
        lines += [self._line(row) for row in self._rows]
        sys.stdout.write("".join(lines))

    def _line(self, cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for column, width, cell in zip(self._columns, self._widths, cells, strict=True)
        ]
        return "  ".join(padded).rstrip() + "\n"

    def _flush_coloured(self) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        if not self._has_header:
            self._kept = self._fitting(Console().width)
        table = Table(box=None, show_header=not self._has_header, header_style="bold", padding=(0, 2, 0, 0))
        last = len(self._columns) - 1
        for number in self._kept:
            column, width = self._columns[number], self._widths[number]
            is_last = number == last
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                min_width=None if is_last else column.least,
                max_width=None if is_last else width,
                no_wrap=not is_last,
                overflow="fold" if is_last else "ellipsis",
            )
        for row in self._rows:
            table.add_row(*(Text(row[number], style=WORD_STYLES.get(row[number], "")) for number in self._kept))
        Console().print(table)

    def _fitting(self, width: int) -> list[int]:
        """Return which columns are shown in so many characters, LAST_LEAST of them for the last column."""
        kept = list(range(len(self._columns)))

        def is_too_wide() -> bool:
            return sum(self._columns[number].least + 2 for number in kept[:-1]) + LAST_LEAST > width

        while is_too_wide():
            most = max(kept, key=lambda number: self._columns[number].drop)
            if not self._columns[most].drop:
                break
            kept.remove(most)
        return kept


WORD_STYLES: Final = {
    "deferred": "yellow",
    "held": "magenta",
    "report": "red",
    "error": "bold red",
    "warning": "yellow",
    "note": "dim",
}
"""Words that have a colour wherever they stand alone in a cell."""


def coloured(text: str, style: str) -> None:
    """Write a line, in a colour if standard output is a terminal."""
    if is_terminal():
        from rich.console import Console
        from rich.text import Text

        Console(soft_wrap=True).print(Text(printable(text), style=style))
    else:
        write_line(printable(text))


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show a person on a terminal that something goes on, once it has taken over a second."""
    if not (is_terminal() and sys.stderr.isatty()):
        yield
        return
    import threading

    from rich.console import Console

    status = Console(stderr=True).status(text)
    timer = threading.Timer(PROGRESS_AFTER, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


async def with_progress(text: str, work: Awaitable[T]) -> T:
    """Return what the work gives, with progress meanwhile."""
    with progress(text):
        return await work


def shown_span(seconds: float) -> str:
    """Return a span of time in one unit, as people say it: ``42s``, ``3m``, ``5h``, ``2d``."""
    for unit, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{letter}"
    return f"{max(0, int(seconds))}s"


def shown_size(octets: int) -> str:
    """Return a number of octets in the unit that fits: ``512 B``, ``4.2 KiB``."""
    if octets < KIB:
        return f"{octets} B"
    size = float(octets)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= KIB
        if size < KIB or unit == "TiB":
            break
    return f"{size:.1f} {unit}"


def shown_time(at: float) -> str:
    """Return a point in time: ``2026-11-23 03:32:11 UTC``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def shown_next(at: float | None, now: float) -> str:
    """Return when something is due: ``now``, ``in 5m``, ``-`` for never."""
    if at is None:
        return "-"
    return "now" if at <= now else f"in {shown_span(at - now)}"


def shown_try(row: DestinationRow, now: float) -> str:
    """Return when the mail of a destination is tried; ``-`` where it is due and nothing is sent there now."""
    is_due = row.next_at is not None and row.next_at <= now
    return "-" if is_due and row.status in ("down", "suspended") else shown_next(row.next_at, now)


def counted(number: int, noun: str) -> str:
    """Return ``1 recipient``, ``2 recipients``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str) -> str:
    """Return the text with every control character shown: what strangers sent must not steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
