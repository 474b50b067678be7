"""tools/test.py: what counts as a failure, and the last line, which continuous integration reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.structure.source import ROOT
from tests.world.waiting import until
from tools import test as runner

REPORT = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'


def report(directory: Path, tests: int, failures: int = 0, errors: int = 0, skipped: int = 0) -> Path:
    path = directory / "report.xml"
    path.write_text(REPORT.format(tests, failures, errors, skipped))
    return path


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "WORLD"):
        monkeypatch.delenv(name, raising=False)


def closing(total: runner.Sum, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = total.close()
    return status, capsys.readouterr().out.splitlines()


def test_all_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    total = runner.Sum()
    total.add_check("ruff check", is_good=True)
    total.add_group("units", 0, report(tmp_path, 10, skipped=1))
    assert closing(total, capsys) == (0, ["10 passed, 0 failed, 1 skipped"])


def test_one_bad_group_does_not_hide_the_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    total = runner.Sum()
    total.add_group("units", 1, report(tmp_path, 10, failures=2, errors=1))
    total.add_group("laws", 0, report(tmp_path, 5))
    assert closing(total, capsys) == (1, ["failed: tests/units", "12 passed, 3 failed, 0 skipped"])


@pytest.mark.parametrize(("status", "told"), [(5, "failed: tests/laws has no tests"), (-9, "failed: tests/laws")])
def test_a_group_that_did_not_run_is_a_failure(
    status: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    total = runner.Sum()
    total.add_group("units", 0, report(tmp_path, 1))
    total.add_group("laws", status, tmp_path / "no-report.xml")
    assert closing(total, capsys) == (1, [told, "1 passed, 1 failed, 0 skipped"])


def test_a_failed_check_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    total = runner.Sum()
    total.add_check("mypy --strict", is_good=False)
    total.add_group("units", 0, report(tmp_path, 1))
    assert closing(total, capsys) == (1, ["failed: mypy --strict", "1 passed, 1 failed, 0 skipped"])


def test_no_test_at_all_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    total = runner.Sum()
    total.add_check("ruff check", is_good=True)
    assert closing(total, capsys) == (1, ["failed: no test ran", "1 passed, 0 failed, 0 skipped"])


def test_ci_allows_no_skip_in_the_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    total = runner.Sum()
    total.add_group("world", 0, report(tmp_path, 3, skipped=1))
    status, lines = closing(total, capsys)
    assert status == 1
    assert lines[-1] == "2 passed, 1 failed, 1 skipped"


@pytest.mark.parametrize(
    ("environment", "status"),
    [({}, 1), ({"WORLD": "0"}, 0), ({"WORLD": "0", "CI": "true"}, 1), ({"WORLD": "1"}, 1)],
    ids=str,
)
def test_without_root_the_world_is_named_as_not_run(
    environment: dict[str, str],
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    total = runner.Sum()
    total.add_group("units", 0, report(tmp_path, 1))
    runner.run_world(total)
    ended, lines = closing(total, capsys)
    assert ended == status
    assert any(line.startswith("not run: tests/world") for line in lines) is bool(status)
    assert lines[-1] == "1 passed, 0 failed, 0 skipped"


def test_without_root_what_takes_long_is_named_as_not_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert runner.main(["soak"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "not run: tests/soak (needs root)"
    assert runner.main(["soak", "real"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "not run: tests/soak/test_real.py (needs root)"
    assert runner.main(["soak", "real", "nothing"]) == 2
    assert capsys.readouterr().err == "tests/soak has no nothing: there is million, real\n"


def test_what_takes_long_allows_no_skip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[list[str], float]] = []

    def run(command: list[str], seconds: float) -> int:
        ran.append((command, seconds))
        skipped = report(tmp_path, 3, skipped=1)
        skipped.rename(next(option for option in command if option.startswith("--junit-xml=")).partition("=")[2])
        return 0

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(runner, "run", run)
    assert runner.main(["soak", "real"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("failed: tests/soak/test_real.py skipped 1 tests")
    assert lines[-1] == "2 passed, 1 failed, 1 skipped"
    assert "tests/soak/test_real.py" in ran[0][0]
    assert ran[0][1] == runner.GROUP_TIMEOUT["soak"]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] not in "ZX"
    except FileNotFoundError:
        return False


def test_what_hangs_is_ended_with_all_it_started(capfd: pytest.CaptureFixture[str]) -> None:
    """It gets the signal that makes pytest print its stacks, then the kill; children go with it."""
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    assert runner.run([sys.executable, "-c", code], 2.0) == 1
    output = capfd.readouterr().out
    assert "no end after 2 s" in output
    child = next(int(line) for line in output.splitlines() if line.isdecimal())
    until(lambda: not is_alive(child), what="the end of what it had started")


def test_an_unknown_group_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/test.py", "nothing"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage: tools/test.py" in done.stderr
