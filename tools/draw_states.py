"""Draws docs/states.md from TRANSITIONS of the server engine: a diagram and the whole table.

Run ``python tools/draw_states.py`` after a change of src/postroad/smtp/states.py. With ``--check`` it only tells
whether the page is current; a test does the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from postroad.smtp.states import OUT_OF_SEQUENCE, TRANSITIONS, Next, State

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "states.md"
HEAD = """# The states of a server session

Drawn from `TRANSITIONS` in `src/postroad/smtp/states.py` by `tools/draw_states.py`; change the table, not this page.

A transition fires when the reply is sent. Arrows of the diagram follow a positive reply (2yz), unless they say "354",
"334" or "refused". Left out, since they would hide the rest: what leaves the state as it is, RSET and a new EHLO, HELO
or LHLO (from every transaction to READY), QUIT (to CLOSED), and 421, which closes from everywhere.
"""
TABLE_HEAD = """
## All transitions

An empty cell: such a reply to this event is a mistake of ours, and the engine says so.
"""
EXCEPTIONS_HEAD = """
## Out of sequence

What is not in the table gets 503. These say more (DATA on SMTP only: RFC 2033 section 4.2 wants 503 on LMTP):
"""
INTERMEDIATE = {"DataStart": "354", "Auth": "334", "AuthResponse": "334"}
LEFT_OUT = {"Reset", "Quit"}


def diagram() -> list[str]:
    """Return the lines of a mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> CONNECTED"]
    for state, row in TRANSITIONS.items():
        arrows: dict[tuple[State, str], list[str]] = {}
        for event, step in row.items():
            name = event.__name__
            if name in LEFT_OUT or (name == "Hello" and state is not State.GREETED):
                continue
            for after, label in ends(name, step):
                if after is not state:
                    arrows.setdefault((after, label), []).append(name)
        for (after, label), names in arrows.items():
            said = ", ".join(names) + (f" ({label})" if label else "")
            lines.append(f"    {state.name} --> {after.name} : {said}")
    return [*lines, "    CLOSED --> [*]", "```"]


def ends(name: str, step: Next) -> list[tuple[State, str]]:
    """Return where an event leads, and after which reply."""
    found = [(step.done, ""), (step.more, INTERMEDIATE.get(name, "3yz")), (step.refused, "refused")]
    return [(after, label) for after, label in found if after is not None]


def table() -> list[str]:
    """Return the lines of a Markdown table of all transitions."""
    lines = ["| in | event | 2yz | 3yz | 4yz, 5yz |", "|---|---|---|---|---|"]
    for state, row in TRANSITIONS.items():
        for event, step in row.items():
            cells = " | ".join(after.name if after is not None else "" for after in step)
            lines.append(f"| {state.name} | {event.__name__} | {cells} |")
    return lines


def exceptions() -> list[str]:
    """Return the lines that say what is answered where the table has no entry."""
    lines = ["| in | event | reply |", "|---|---|---|"]
    lines += [f"| {state.name} | {event.__name__} | {answer} |" for (state, event), answer in OUT_OF_SEQUENCE.items()]
    return lines


def page() -> str:
    """Return docs/states.md."""
    parts = [HEAD, *diagram(), TABLE_HEAD, *table(), EXCEPTIONS_HEAD, *exceptions()]
    return "\n".join(parts) + "\n"


def main() -> int:
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    is_current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
    if not is_current:
        print("docs/states.md is not what TRANSITIONS says: run tools/draw_states.py")
    return 0 if is_current else 1


if __name__ == "__main__":
    sys.exit(main())
