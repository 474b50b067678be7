"""The page of ``postroad top``: lines of text that fit a screen of any size.

Owns: what stands where, how much of it fits, colours. Pure: a Snapshot and a View in, lines out. Does not own: figures
(top_figures.py), asking and drawing (top.py). rich makes the colours; it is imported with this file, late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich.text import Text

from postroad.cli.output import counted, printable, shown_size, shown_span, shown_try
from postroad.cli.top_figures import FLOWS, Figures, shown_rate, sparkline
from postroad.core.facts import AnyFact, Bounced, Damaged, Deferred, Expired, ProcessEnded, Trouble
from postroad.observe.log import format_time
from postroad.observe.telling import tell

if TYPE_CHECKING:
    from postroad.outbound.relay import ProcessRow, RelayHealth
    from postroad.outbound.steering import DestinationRow, QueueStats

WIDTH_MIN: Final = 20
HEIGHT_MIN: Final = 6
"""What is laid out at least; of it a smaller screen shows a corner."""
FAILURES_SHOWN: Final = 10
PROCESS_LINES: Final = 4
_FLOW_STYLES: Final = {"in": "cyan", "delivered": "green", "deferred": "yellow", "bounced": "red", "refused": "magenta"}
_STATE_STYLES: Final = {
    "open": "green",
    "slow": "yellow",
    "down": "bold red",
    "suspended": "bold magenta",
    "probing": "cyan",
}
_STATE_ORDER: Final = ("down", "suspended", "probing", "slow", "open")

SORTS: Final[dict[str, Callable[[DestinationRow], tuple[object, ...]]]] = {
    "waiting": lambda row: (-_waiting(row), row.domain),
    "oldest": lambda row: (row.oldest_at is None, row.oldest_at or 0.0, row.domain),
    "state": lambda row: (_STATE_ORDER.index(row.status) if row.status in _STATE_ORDER else 9, -_waiting(row)),
    "name": lambda row: (row.domain,),
}
"""By what destinations are sorted; ``s`` goes through them."""


@dataclass(slots=True)
class Snapshot:
    """What is known of the relay."""

    hostname: str
    figures: Figures = field(default_factory=Figures)
    stats: QueueStats | None = None
    health: RelayHealth | None = None
    failures: Sequence[AnyFact] = ()
    """The newest last."""
    away: str = ""
    """Why nobody answers; empty if somebody does."""


@dataclass(slots=True)
class View:
    """How a person looks at it."""

    sort: str = "waiting"
    top_row: int = 0
    is_paused: bool = False
    has_keys: bool = True
    is_once: bool = False
    """True for one page, without what is only heard in time."""

    def next_sort(self) -> None:
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]

    def scroll(self, rows: int, of: int) -> None:
        """Move down by so many rows, up if negative, of so many that there are."""
        self.top_row = max(0, min(self.top_row + rows, of - 1))


def page(known: Snapshot, view: View, width: int, height: int, now: float) -> list[Text]:
    """Return the lines of a screen: never more than ``height``, none wider than ``width``."""
    screen_width, screen_height = width, height
    width, height = max(width, WIDTH_MIN), max(height, HEIGHT_MIN)
    lines = [_title(known, width, now)]
    if known.away:
        lines.append(Text(f"The relay is away: {printable(known.away)}", style="bold red"))
    elif known.health is not None and known.health.troubles:
        lines.append(Text(printable("; ".join(known.health.troubles)), style="bold yellow"))
    lines += [*_flows(known, width), *_queue(known, now)]
    if known.health is not None:
        lines += _processes(known.health.processes, width, now)
    left = height - len(lines) - 3  # two headings and the last line
    failures = min(FAILURES_SHOWN, max(left // 3, 0), max(1, len(known.failures)))
    lines += _destinations(known, view, width, max(0, left - failures), now)
    if not view.is_once:
        lines += _failures(known.failures, failures, width)
    lines = [*lines[: height - 1], *(Text() for _ in range(height - 1 - len(lines))), _keys(view)]
    for line in lines:
        line.truncate(screen_width)
    return lines[:screen_height]


def _title(known: Snapshot, width: int, now: float) -> Text:
    line = Text(f"postroad  {known.hostname}", style="bold")
    health = known.health
    if health is not None:
        line.append(f"  {health.version}, up {shown_span(now - health.started_at)}", style="not bold")
        is_well = health.is_well and not known.away
        line.append("  well" if is_well else "  in trouble", style="green" if is_well else "bold red")
    line.append(format_time(now)[11:19].rjust(max(2, width - line.cell_len)), style="dim")
    return line


def _flows(known: Snapshot, width: int) -> list[Text]:
    graph = max(0, min(width - 40, 120))
    lines = []
    for flow in FLOWS:
        figures = known.figures
        line = Text(f"{flow:<10}")
        line.append(f"{shown_rate(figures.rates[flow]):>7}/s  ", style="bold")
        line.append(sparkline(figures.history[flow], graph), style=_FLOW_STYLES[flow])
        line.append(f"  {figures.totals[flow]:>13,.0f}", style="dim")
        lines.append(line)
    return lines


def _queue(known: Snapshot, now: float) -> list[Text]:
    stats = known.stats
    if stats is None:
        return [Text("queue      asking...", style="dim")]
    line = Text("queue      ")
    if not stats.accepting:
        line.append(f"takes no mail ({printable(stats.trouble)})  ", style="bold red")
    line.append(f"{counted(stats.messages, 'message')}, {counted(stats.recipients, 'recipient')}", style="bold")
    line.append(f", {shown_size(stats.octets)}")
    if stats.oldest_at is not None:
        line.append(f", oldest {shown_span(now - stats.oldest_at)}")
    if stats.held:
        line.append(f", {stats.held:,} held", style="magenta")
    if stats.reports:
        line.append(f", {counted(stats.reports, 'report')} due")
    return [line]


def _processes(rows: Sequence[ProcessRow], width: int, now: float) -> list[Text]:
    """Return as many lines as it takes to name all, at most PROCESS_LINES."""
    lines = [Text("processes  ")]
    for row in rows:
        name = f"{row.process} {row.slot}" if row.process == "worker" else row.process
        restarts = f", {counted(row.restarts, 'restart')}" if row.restarts else ""
        word = f"{name} {shown_span(now - row.started_at)}{restarts}"
        if lines[-1].cell_len > 11:
            if lines[-1].cell_len + 2 + len(word) <= width or len(lines) == PROCESS_LINES:
                lines[-1].append("  ")
            else:
                lines.append(Text(" " * 11))
        style = ("yellow" if row.restarts else "") if row.is_ready else "bold red"
        lines[-1].append(word, style=style)
    return lines


def _heading(text: str, width: int) -> Text:
    return Text(f"── {text} ".ljust(width, "─"), style="blue")


def _destinations(known: Snapshot, view: View, width: int, rows: int, now: float) -> list[Text]:
    found = sorted(known.stats.destinations, key=SORTS[view.sort]) if known.stats is not None else []
    view.top_row = max(0, min(view.top_row, len(found) - max(rows - 1, 1)))
    shown = found[view.top_row : view.top_row + max(rows - 1, 0)]
    place = f" {view.top_row + 1}-{view.top_row + len(shown)} of {len(found)}" if 0 < len(shown) < len(found) else ""
    lines = [_heading(f"destinations by {view.sort}{place}", width)]
    if rows <= 0:
        return lines
    name = max(16, min(40, (width - 40) // 2))
    if not found:
        lines.append(Text("nothing waits", style="dim"))
    else:
        lines.append(
            Text(f"{'DOMAIN':<{name}}  {'WAITING':>8}  {'STATE':<9}  {'OLDEST':>6}  {'NEXT':<7}  REASON", "bold")
        )
    lines += [_destination(row, name, now) for row in shown]
    return lines + [Text() for _ in range(rows + 1 - len(lines))]


def _destination(row: DestinationRow, name: int, now: float) -> Text:
    line = Text(printable(row.domain or "(postmaster)"))
    line.truncate(name, overflow="ellipsis", pad=True)
    line.append(f"  {_waiting(row):>8,}  ")
    line.append(f"{row.status or '-':<9}", style=_STATE_STYLES.get(row.status, ""))
    oldest = "-" if row.oldest_at is None else shown_span(now - row.oldest_at)
    line.append(f"  {oldest:>6}  {shown_try(row, now):<7}  ")
    line.append(printable(row.reason), style="dim")
    return line


def _waiting(row: DestinationRow) -> int:
    return row.due + row.held


def _failures(facts: Sequence[AnyFact], rows: int, width: int) -> list[Text]:
    lines = [_heading("last failures", width)]
    for fact in list(facts)[-rows:] if rows else ():
        style = "yellow" if isinstance(fact, Deferred) else "red"
        line = Text(f"{format_time(fact.at)[11:19]}  ", style="dim")
        lines.append(line.append(printable(_failure_text(fact)), style=style))
    if not facts and rows:
        lines.append(Text("none since this view was opened", style="dim"))
    return lines


def _failure_text(fact: AnyFact) -> str:
    """Return what a narrow screen has room for: who, and why."""
    if isinstance(fact, Deferred | Bounced | Expired):
        host = f" ({fact.host})" if fact.host else ""
        return f"{fact.__struct_config__.tag} {fact.recipient}: {fact.reply}{host}"
    return tell(fact)


def is_failure(fact: AnyFact) -> bool:
    """True for what belongs among the last failures."""
    if isinstance(fact, Trouble):
        return not fact.over
    return isinstance(fact, Deferred | Bounced | Expired | Damaged | ProcessEnded)


def _keys(view: View) -> Text:
    if not view.has_keys:
        return Text()
    line = Text("q quit  p pause  s sort  j/k scroll", style="reverse")
    return line.append("  PAUSED ", style="bold") if view.is_paused else line
