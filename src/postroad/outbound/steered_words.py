"""A suspension in a few words, for listings and facts.

Owns: that wording: one line, times as the log writes them.
Does not own: the rule (policy/steered.py), how a listing looks (cli).
"""

from __future__ import annotations

from datetime import UTC, datetime

from postroad.policy.steered import SuspensionRule


def words_of(rule: SuspensionRule) -> str:
    """Return who has suspended it, until when and why: ``suspended by root until 2026-01-01T12:00:00Z: their wish``."""
    words = f"suspended by {rule.who}"
    if rule.until is not None:
        words += f" until {datetime.fromtimestamp(rule.until, UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}"
    return f"{words}: {rule.why}" if rule.why else words
