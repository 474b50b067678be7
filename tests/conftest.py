"""What holds for every test: Hypothesis profiles, and tests/world only where it can run.

Does not own: fixtures of one package (they stand in its own test files) and the order of the groups (tools/test.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent

# No deadline: the machine may be busy with something else. In CI the same examples every time, so that a red run means
# this change; at home new ones every time, so that new faults are found.
settings.register_profile("home", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("home"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI", "").lower() == "true" else "home")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes seconds; left out by make check, never by make test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands in tests/world; as somebody who may not mount or install, skip it (tools/test.py tells)."""
    for item in items:
        if TESTS / "world" in item.path.parents:
            item.add_marker(pytest.mark.world)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="tests/world needs root"))
