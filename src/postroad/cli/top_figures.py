"""The figures of ``postroad top``: rates from counters, their history, small graphs of it.

Owns: what is counted as what, differences over restarts of processes, sparklines. Pure: time comes with the counters.
Does not own: asking the relay (top.py), the page (top_view.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from postroad.outbound.relay import WorkerCounter

HISTORY_MAX: Final = 240
"""Samples that a graph remembers."""
FLOWS: Final = {
    "in": ("messages_received_total",),
    "delivered": ("deliveries_total",),
    "deferred": ("deferrals_total",),
    "bounced": ("bounces_total", "expiries_total"),
    "refused": ("refusals_total",),
}
"""What is shown, and the counters (observe/kinds.py) whose sum it is."""
_FLOW_OF: Final = {name: flow for flow, names in FLOWS.items() for name in names}
_BARS: Final = " ▁▂▃▄▅▆▇█"


class Figures:
    """Rates per second of each flow, and how they were. Feed it with ``add``."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
        self._at: float | None = None
        self.rates: dict[str, float] = dict.fromkeys(FLOWS, 0.0)
        self.totals: dict[str, float] = dict.fromkeys(FLOWS, 0.0)
        """Since each process began."""
        self.history: dict[str, deque[float]] = {flow: deque(maxlen=HISTORY_MAX) for flow in FLOWS}

    def add(self, at: float, counters: Iterable[WorkerCounter]) -> None:
        """Take what the counters say at a time. A counter that fell begins again: its process is a new one."""
        grown = dict.fromkeys(FLOWS, 0.0)
        seen: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
        heard = set[str]()
        for row in counters:
            heard.add(row.worker)
            flow = _FLOW_OF.get(row.counter.name)
            if flow is None or row.counter.is_gauge:
                continue
            key, value = (row.worker, row.counter.name, row.counter.labels), row.counter.value
            before = self._last.get(key, 0.0)
            grown[flow] += value - before if value >= before else value
            seen[key] = value
        # One that did not answer now has not lost what it had: it will come back with it.
        seen |= {key: value for key, value in self._last.items() if key[0] not in heard}
        totals = dict.fromkeys(FLOWS, 0.0)
        for (_, name, _), value in seen.items():
            totals[_FLOW_OF[name]] += value
        elapsed = None if self._at is None else at - self._at
        self._last, self._at, self.totals = seen, at, totals
        if elapsed is None:  # the first look knows no difference
            return
        for flow in FLOWS:
            self.rates[flow] = grown[flow] / elapsed if elapsed > 0 else 0.0
            self.history[flow].append(self.rates[flow])

    def pause(self) -> None:
        """Forget the last look: what grew while nobody could be asked is nobody's rate."""
        self._at = None
        self.rates = dict.fromkeys(FLOWS, 0.0)


def sparkline(values: Iterable[float], width: int) -> str:
    """Return the last values as bars, the newest on the right, the highest one full."""
    shown = list(values)[-width:] if width > 0 else []
    most = max(shown, default=0.0)
    steps = len(_BARS) - 1
    bars = [_BARS[0 if value <= 0 else max(1, round(value / most * steps))] for value in shown]
    return "".join(bars).rjust(max(0, width))


def shown_rate(rate: float) -> str:
    """Return a rate as it fits in a column: ``0``, ``0.3``, ``12``, ``1,234``."""
    if rate <= 0:
        return "0"
    return f"{rate:.1f}" if rate < 10 else f"{rate:,.0f}"
