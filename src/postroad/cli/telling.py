"""What a fact says to people, in lines.

Owns: the lines: the fields of the log's line, and the dialogue of an attempt below it. Does not own: which facts there
are (core/facts.py), the time and the id before a line (trace.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postroad.core.facts import AnyFact


def tell_lines(fact: AnyFact, *, dialogue: bool) -> list[str]:
    """Return the fact in lines, the dialogue of an attempt below it where wanted."""
    from postroad.core.facts import Attempted
    from postroad.observe.log import Level, LogLines

    bare = fact
    said: list[str] = []
    if isinstance(fact, Attempted):
        import msgspec

        bare = msgspec.structs.replace(fact, dialogue=())
        said = [f"{one.seconds:6.3f} {'>' if one.by_us else '<'} {one.text}" for one in fact.dialogue]
    line = LogLines("logfmt", Level.DEBUG).line(bare) or b""
    text = line.decode("utf-8", "replace").split(" ", 2)[2].removeprefix("kind=")
    return [text, *(said if dialogue else [])]
