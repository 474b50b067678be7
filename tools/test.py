"""Runs the checks and the test groups in order, and prints their sum as the last line.

Owns: which groups there are, their order, what counts as a failure, the closing line ("N passed, N failed, N skipped")
that continuous integration reads. Does not own: the environment (tools/setup, run before) and what a group tests.

A group that fails does not hide the next ones. tests/world needs root and Debian: without them it is named as not run
and the exit status is 1, unless WORLD=0 says that this is meant; with CI=true nothing may be left out or skipped there.
tests/soak needs root: without it, or with a test that was skipped, the exit status is 1 as well.

usage: tools/test.py                  everything (make test)
       tools/test.py --quick          checks and the groups that need no peers (make check)
       tools/test.py units laws       one or more groups by name
       tools/test.py soak [NAME ...]  what takes long, or only tests/soak/test_NAME.py (make soak)
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CHECKS = {
    "ruff check": [str(BIN / "ruff"), "check", "--quiet", "."],
    "ruff format": [str(BIN / "ruff"), "format", "--check", "--quiet", "."],
    "mypy --strict": [str(BIN / "mypy"), "--strict"],
}
QUICK = ["structure", "units", "contracts", "dialogs", "laws"]
OPTIONAL = ["sim"]  # run where it exists
PYTEST_OPTIONS = ["--tb=short", "--continue-on-collection-errors"]
GROUP_TIMEOUT = {"world": 3600.0, "soak": 86400.0}
"""Seconds; GROUP_TIMEOUT_DEFAULT for the others. A group that hangs is a failure, and the next ones still run."""
GROUP_TIMEOUT_DEFAULT = 900.0
ABORT_TIMEOUT = 10.0
"""Seconds that a hung group gets to print where it hangs before it is killed."""


@dataclass
class Sum:
    """What came of everything so far."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    tests: int = 0
    troubles: list[str] = field(default_factory=list)

    def add_check(self, name: str, *, is_good: bool) -> None:
        self.passed += is_good
        self.failed += not is_good
        if not is_good:
            self.troubles.append(f"failed: {name}")

    def add_group(self, name: str, status: int, report: Path) -> None:
        tests, bad, skipped = read_report(report)
        self.tests += tests
        self.passed += tests - bad - skipped
        self.skipped += skipped
        self.failed += bad or int(status != 0)  # a group that could not even start is one failure
        if status == 5:
            self.troubles.append(f"failed: tests/{name} has no tests")
        elif status != 0:
            self.troubles.append(f"failed: tests/{name}")
        elif skipped and name == "world" and is_ci():
            self.failed += 1
            self.troubles.append(f"failed: tests/world skipped {skipped} tests, which CI does not allow")
        elif skipped and name.startswith("soak"):
            self.failed += 1
            self.troubles.append(f"failed: tests/{name} skipped {skipped} tests: whoever asks for it wants all of it")

    def close(self) -> int:
        """Print the end of the run; return the exit status."""
        if not self.tests:
            self.troubles.append("failed: no test ran")
        for trouble in self.troubles:
            print(trouble)
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.troubles or self.failed else 0


def read_report(report: Path) -> tuple[int, int, int]:
    """Return tests, failures with errors, and skipped ones of a JUnit report; zeros where there is none."""
    try:
        suites = list(ElementTree.parse(report).iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return 0, 0, 0

    def count(*names: str) -> int:
        return sum(int(suite.get(name, 0)) for suite in suites for name in names)

    return count("tests"), count("failures", "errors"), count("skipped")


def run(command: list[str], seconds: float) -> int:
    """Run to the end, or to the time limit: then its stacks are printed (pytest's faulthandler) and it is killed."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"no end after {seconds:.0f} s: {' '.join(command)}", flush=True)
            process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(ABORT_TIMEOUT)
            return 1
        finally:
            end_session(process)


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what the command left behind, and itself where we were interrupted."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run_checks(total: Sum) -> None:
    for name, command in CHECKS.items():
        started = time.monotonic()
        status = run(command, GROUP_TIMEOUT_DEFAULT)
        print(f"{name}: {'good' if status == 0 else 'failed'} in {time.monotonic() - started:.1f} s", flush=True)
        total.add_check(name, is_good=status == 0)


def run_group(name: str, total: Sum, *options: str) -> None:
    print(f"\n--- tests/{name}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"tests/{name}", *PYTEST_OPTIONS, f"--junit-xml={report}", *options]
        total.add_group(name, run(command, GROUP_TIMEOUT.get(name.partition("/")[0], GROUP_TIMEOUT_DEFAULT)), report)


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def run_world(total: Sum) -> None:
    """The group that plays with real peers: as root, on Debian, once its peers are there."""
    if os.environ.get("WORLD") == "0" and not is_ci():
        print("\n--- tests/world left out: WORLD=0")
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        total.troubles.append("not run: tests/world (needs root and apt-get; WORLD=0 leaves it out on purpose)")
        return
    print("\n--- the peers of tests/world", flush=True)
    if run([str(ROOT / "tools" / "peers")], GROUP_TIMEOUT_DEFAULT) != 0:
        total.failed += 1
        total.troubles.append("not run: tests/world (tools/peers failed, see above)")
        return
    run_group("world", total)


def run_soak(total: Sum, names: list[str]) -> int:
    """What takes long: all of it, or the files by name. As root only."""
    there = sorted(path.stem.removeprefix("test_") for path in (ROOT / "tests" / "soak").glob("test_*.py"))
    if unknown := [name for name in names if name not in there]:
        print(f"tests/soak has no {', '.join(unknown)}: there is {', '.join(there)}", file=sys.stderr)
        return 2
    groups = [f"soak/test_{name}.py" for name in names] or ["soak"]
    for group in groups:
        if os.geteuid() != 0:
            total.troubles.append(f"not run: tests/{group} (needs root)")
        else:
            run_group(group, total)
    return total.close()


def main(arguments: list[str]) -> int:
    total = Sum()
    options: list[str] = []
    if arguments[:1] == ["soak"]:
        return run_soak(total, arguments[1:])
    if arguments == ["--quick"]:
        options = ["-m", "not slow"]
    if arguments in ([], ["--quick"]):
        run_checks(total)
        names = QUICK + [name for name in OPTIONAL if (ROOT / "tests" / name).is_dir()]
    elif all((ROOT / "tests" / name).is_dir() for name in arguments):
        names = arguments
    else:
        print(__doc__, file=sys.stderr)
        return 2
    for name in names:
        if name != "world":
            run_group(name, total, *options)
    if not arguments or "world" in names:
        run_world(total)
    return total.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
