"""What is shown of the rounds: medians in a table, all of it as JSON, two rows of bars as SVG.

Owns: the columns and what they are called (docs/performance.md explains each), medians, ratios, the picture. Does not
own: how a figure came about (rounds.py). Of Postfix's variants the one with the better relay rate is compared with.
A ratio is the median of the ratios within the rounds, which see the same machine, not the ratio of two medians.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

Figures = dict[str, Any]
HEADER = (
    "relay          in/s   out/s  x Postfix  of ceil.  250 p50/p99 ms   dot p50/p99 ms   way p50/p99 ms"
    "   CPU ms  x Postfix  PSS MiB  lost  doubled"
)


def by_relay(played: list[Figures]) -> dict[str, list[Figures]]:
    """The rounds of each contestant, in their order."""
    found: dict[str, list[Figures]] = defaultdict(list)
    for figures in played:
        found[figures["relay"]].append(figures)
    return found


def best_postfix(relays: dict[str, list[Figures]]) -> str | None:
    names = [name for name in relays if name.startswith("postfix")]
    return max(names, key=lambda name: median(one["relay_rate"] for one in relays[name]), default=None)


def ratio(mine: list[Figures], other: list[Figures] | None, key: str) -> float | None:
    """The median over the rounds of mine to the other's in the same round."""
    pairs = [(a[key], b[key]) for a, b in zip(mine, other or [], strict=False) if b[key]]
    return median(a / b for a, b in pairs) if pairs else None


def summary(played: list[Figures]) -> dict[str, Figures]:
    """Medians of each contestant; sums of what was lost and doubled, the most memory."""
    relays = by_relay(played)
    postfix = relays.get(best_postfix(relays) or "")
    found = {}
    for name, mine in relays.items():
        one: Figures = {
            key: median(figures[key] for figures in mine)
            for key in ("accept_rate", "relay_rate", "cpu_ms", "load_cpu_ms", "sink_cpu_ms", "alone_250", "alone_way")
            if key in mine[0]
        }
        for spread in ("start_to_250", "dot_to_250", "on_its_way"):
            one[spread] = {part: median(figures[spread][part] for figures in mine) for part in ("p50", "p99", "max")}
        one["peak_pss"] = max(figures["peak_pss"] for figures in mine)
        one |= {key: sum(figures[key] for figures in mine) for key in ("lost", "doubled", "errors", "accepted")}
        one["rate_to_postfix"] = ratio(mine, postfix, "relay_rate") if name == "postroad" else None
        one["cpu_to_postfix"] = ratio(mine, postfix, "cpu_ms") if name == "postroad" else None
        one["to_ceiling"] = ratio(mine, relays.get("straight"), "relay_rate") if name != "straight" else None
        one["idle_asked"] = mine[0]["idle"].get("asked", 0)
        one["idle_held"] = min(figures["idle"].get("held", 0) for figures in mine)
        found[name] = one
    return found


def table(scenario: str, says: str, rounds: int, medians: dict[str, Figures]) -> str:
    """The scenario as a person reads it."""
    lines = [f"\n{scenario}: {says}. {rounds} round{'s' * (rounds != 1)}, medians.", HEADER]
    for name, one in medians.items():
        spreads = "  ".join(
            f"{one[key]['p50']:7.1f}{one[key]['p99']:8.1f}" for key in ("start_to_250", "dot_to_250", "on_its_way")
        )
        is_relay = name != "straight"
        cells = [
            f"{name:12}{one['accept_rate']:7,.0f} {one['relay_rate']:7,.0f}",
            f"{shown(one['rate_to_postfix'], '.2f'):>10} {shown(one['to_ceiling'], '.0%'):>9} ",
            spreads,
            f"{shown(one['cpu_ms'] if is_relay else None, '.3f'):>8} {shown(one['cpu_to_postfix'], '.3f'):>10}",
            f"{shown(one['peak_pss'] if is_relay else None, '.0f'):>8} {one['lost']:5} {one['doubled']:8}",
        ]
        lines.append(" ".join(cells) + (f"  ({one['errors']} errors)" if one["errors"] else ""))
    for name, one in medians.items():
        if "alone_250" in one:
            lines.append(
                f"  one message alone, {name}: 250 after {one['alone_250']:.1f} ms, at the next hop after"
                f" {one['alone_way']:.1f} ms from its content on (p50)"
            )
    for name, one in medians.items():
        if one["idle_asked"]:
            lines.append(f"  idle connections, {name}: {one['idle_held']} of {one['idle_asked']} are there at the end")
    tools = max(medians.values(), key=lambda one: one["load_cpu_ms"] + one["sink_cpu_ms"])
    lines.append(
        f"  CPU a message, at most: the generator {tools['load_cpu_ms']:.3f} ms, the sink {tools['sink_cpu_ms']:.3f}"
    )
    return "\n".join(lines)


def shown(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


# --- the picture

COLOURS = {"postfix": "#9aa5b1", "postroad": "#1f6feb"}
WIDTH, LEFT, BAR, GAP, TOP = 760, 190, 15, 16, 46


def plot(summaries: dict[str, dict[str, Figures]]) -> str:
    """Two columns of bars for each scenario: messages a second, and milliseconds of CPU for a message."""
    scenarios = {
        name: {
            "postfix": max(
                (one for relay, one in relays.items() if relay.startswith("postfix")),
                key=lambda one: one["relay_rate"],
                default=None,
            ),
            "postroad": relays["postroad"],
        }
        for name, relays in summaries.items()
        if "postroad" in relays
    }
    height = TOP + len(scenarios) * (2 * BAR + GAP) + 8
    column = (WIDTH - LEFT) // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="12" fill="#222">',
        "<style>text { font-family: sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for place, (key, title) in enumerate(
        [("relay_rate", "messages a second (more is better)"), ("cpu_ms", "ms of CPU a message (less is better)")]
    ):
        left = LEFT + place * column
        parts.append(text(left, 18, title, weight="bold"))
        most = max((one[key] for both in scenarios.values() for one in both.values() if one), default=1.0)
        for row, (name, both) in enumerate(scenarios.items()):
            y = TOP + row * (2 * BAR + GAP)
            if place == 0:
                parts.append(text(LEFT - 10, y + BAR + 4, name, anchor="end"))
            for line, (relay, one) in enumerate(both.items()):
                if one is None:
                    continue
                long = max(1.0, one[key] / most * (column - 70))
                top = y + line * BAR
                parts.append(
                    f'<rect x="{left}" y="{top}" width="{long:.1f}" height="{BAR - 2}" fill="{COLOURS[relay]}"/>'
                )
                figure = f"{one[key]:,.0f}" if key == "relay_rate" else f"{one[key]:.2f}"
                parts.append(text(left + long + 4, top + BAR - 4, figure))
    for place, (relay, colour) in enumerate(COLOURS.items()):
        parts.append(f'<rect x="{LEFT + place * 90}" y="28" width="10" height="10" fill="{colour}"/>')
        parts.append(text(LEFT + place * 90 + 14, 37, relay.capitalize()))
    return "\n".join([*parts, "</svg>", ""])


def text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
