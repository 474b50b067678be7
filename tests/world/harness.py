"""A relay of ours as a real process, for tests in the world.

Owns: start, stop, kill and restart of ``postroad serve`` with a configuration of the test's; free ports; waiting for a
condition with a deadline. Does not own: peers (each has a file of its own).

Every process that is started here is ended here, by pid. Nothing waits for a fixed time.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tests.world.waiting import until

T = TypeVar("T")

SOURCES = str(Path(__file__).resolve().parents[2] / "src")
START_DEADLINE = 20.0
STOP_DEADLINE = 40.0


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], T], what: str, deadline: float = 20.0) -> T:
    """Return the condition's first true value; fail with ``what`` when the deadline passes."""
    try:
        return until(condition, deadline, what=what)
    except TimeoutError as late:
        raise AssertionError(f"after {deadline:g} s still not: {what}") from late


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """True if something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


class Relay:
    """One ``postroad serve`` with its configuration, data and log under ``home``."""

    def __init__(
        self,
        home: Path,
        *,
        config: str = "",
        port: int = 0,
        role: str = "mx",
        env: dict[str, str] | None = None,
        data_dir: Path | None = None,
    ) -> None:
        self.home = home
        self.port = port or free_port()
        self.data_dir = data_dir or home / "data"
        self.config_file = home / "postroad.toml"
        self.log_file = home / "relay.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._env = env or {}
        self._starts = 0
        home.mkdir(parents=True, exist_ok=True)
        self.configure(config, role=role)

    def configure(self, config: str, *, role: str = "mx", name: str = "relay.test.example") -> None:
        """Write the configuration: ``config`` after a hostname, data_dir and one listener (unless it names its own).

        Two workers, unless ``config`` begins with another number.
        """
        top = [f'hostname = "{name}"', f'data_dir = "{self.data_dir}"']
        if not config.startswith("workers ="):
            top.append("workers = 2")
        listener = f'[[listener]]\nname = "in"\naddress = "127.0.0.1:{self.port}"\nrole = "{role}"\n'
        if config.startswith("workers ="):
            line, _, config = config.partition("\n")
            top.append(line)
        text = "\n".join(top) + "\n" + ("" if "[[listener]]" in config else listener) + config
        if "[spool]" not in config:
            text += '\n[spool]\nmin_free = "10MiB"\n'
        self.config_file.write_text(text)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def logged(self, text: str, times: int = 1) -> None:
        """Wait until the log holds ``text`` just ``times`` times: what shows elsewhere may be logged a moment later."""
        until(lambda: self.log.count(text) >= times, 20, what=f"{times} x {text!r} in the log")
        assert self.log.count(text) == times, self.log

    def start(
        self, *, wait: bool = True, prefix: tuple[str, ...] = (), program: tuple[str, ...] = ("-m", "postroad")
    ) -> Relay:
        """Start it; with ``wait`` return when it accepts connections."""
        self._starts = self.log.count("kind=started")
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, *program, "serve", "--config", str(self.config_file)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": SOURCES, **self._env},
                start_new_session=True,
            )
        if wait:
            self.wait_up()
        return self

    def wait_up(self, deadline: float = START_DEADLINE) -> None:
        """Return when it accepts connections."""
        wait_until(self._is_up, f"the relay is up; its log:\n{self.log[-2000:]}", deadline)

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the relay ended with {self.process.returncode}:\n{self.log[-4000:]}")
        return self.log.count("kind=started") > self._starts and answers(self.port)

    def pids(self, role: str) -> dict[int, int]:
        """The processes of a role (supervisor, nursery, worker, ledger, front) by slot, as the system names them."""
        assert self.process is not None
        found = {}
        for pid in group(self.process.pid):
            name = name_of(pid)
            if role == "supervisor" and pid == self.process.pid:
                found[0] = pid
            elif name == f"pr-{role}" or name.startswith(f"pr-{role}-"):
                found[int(name.rpartition("-")[2]) if role == "worker" else 0] = pid
        return found

    def kill(self) -> None:
        """SIGKILL, as power and OOM do it."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_DEADLINE)

    def stop(self) -> int:
        """SIGTERM; returns the exit status. A relay that does not stop is a failure, and is killed."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"the relay did not stop on SIGTERM:\n{self.log[-4000:]}") from None
        return self.process.returncode

    def postroad(self, *arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a ``postroad`` command with this relay's configuration."""
        done = subprocess.run(  # type: ignore[call-overload]
            [sys.executable, "-m", "postroad", *arguments, "--config", str(self.config_file)],
            capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": SOURCES}, **options,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(
                f"postroad {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def queue_length(self) -> int:
        """Recipients in the queue, as the relay counts them."""
        import json

        rows = [json.loads(line) for line in self.postroad("queue", "stats", "--json").stdout.splitlines()]
        return int(rows[0]["recipients"])


@contextmanager
def running(relay: Relay) -> Iterator[Relay]:
    """Start a relay, and end it whatever happens; a crash of it is shown with its log."""
    try:
        yield relay.start()
    finally:
        if relay.process is not None and relay.process.poll() is None:
            try:
                relay.stop()
            finally:
                if relay.process.poll() is None:
                    relay.kill()


def group(leader: int) -> list[int]:
    """All processes of a process group, the dead but not buried left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError):
                state, _, pgid = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(pgid) == leader and state != "Z":
                    found.append(int(entry.name))
    return found


def name_of(pid: int) -> str:
    """What a process calls itself; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def pss_kib(leader: int) -> int:
    """Proportional set size of all processes of a relay, KiB."""
    total = 0
    for pid in group(leader):
        with suppress(OSError):  # it ended meanwhile
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    assert total, f"no process in the group of {leader}"
    return total
