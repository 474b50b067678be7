"""A number that metrics show.

Owns: that value, which crosses processes: workers count, the front shows. Does not own: what is counted
(observe/kinds.py says so for each kind of fact), how it is written for Prometheus (http).
"""

from __future__ import annotations

import msgspec


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """One number that metrics show, with its labels. Labels come from enums or the configuration: bounded."""

    name: str
    """Without the product's prefix, as Prometheus names them: ``messages_received_total``."""
    labels: tuple[tuple[str, str], ...]
    value: float
    is_gauge: bool = False
    """False: it only grows while the process lives."""
