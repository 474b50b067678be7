"""The machine under the relays: a journaled disk, the CPU and the memory of all processes of a relay.

CPU: a control group of its own (version 2) for each relay, so that every process counts, those that have ended too;
where none can be made, /proc: own time and that of children waited for, of all living processes of the process group.
Memory: PSS (shared pages divided among those who share them) summed over all processes, sampled; at most 3 % of one
core goes into that. Does not own: which processes a relay has (relays.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.world.harness import group
from tests.world.waiting import until

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_EVERY = 0.3
SAMPLE_SHARE = 30
"""Between two samples of memory so many times as long as one takes."""


@contextmanager
def disk(directory: Path, size: str) -> Iterator[Path]:
    """An ext4 with a journal on a loop device in ``directory``, for root; else a plain directory there."""
    place = directory / "disk"
    place.mkdir(mode=0o755)
    if os.geteuid() != 0:
        yield place
        return
    image = directory / "disk.img"
    subprocess.run(["truncate", "-s", size, str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        image.unlink()


def empty(directory: Path) -> Path:
    """The same directory with nothing in it, and nothing of what was there waiting to be written."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o755)
    os.sync()
    return directory


def control_groups() -> Path | None:
    """Our own control group of version 2, if there is one in which we may make others."""
    own = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"), None)
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and own is not None:
            path = Path(place + own)
            return path if os.access(path, os.W_OK) else None
    return None


class Processes:
    """All processes of one relay: start it with ``prefix`` before the command, in a session of its own."""

    def __init__(self) -> None:
        self._group: Path | None = None
        self.leader = 0
        """Where there is no control group: the process group."""

    def open(self) -> Processes:
        """Make the control group, if one can be made."""
        parent = control_groups()
        if parent is not None:
            with suppress(OSError):
                place = parent / f"postroad-bench-{os.getpid()}"
                place.mkdir()
                self._group = place
        return self

    @property
    def prefix(self) -> list[str]:
        if self._group is None:
            return []
        return ["sh", "-c", f'echo $$ > {self._group}/cgroup.procs && exec "$@"', "sh"]

    @property
    def how(self) -> str:
        return (
            "control group, ended processes included"
            if self._group
            else "/proc, living processes and their waited children"
        )

    def pids(self) -> list[int]:
        if self._group is None:
            return group(self.leader) if self.leader else []
        return [int(pid) for pid in (self._group / "cgroup.procs").read_text().split()]

    def cpu(self) -> float:
        """Seconds used so far."""
        if self._group is not None:
            return int((self._group / "cpu.stat").read_text().split()[1]) / 1e6
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                total += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
        return total / TICKS

    def pss(self) -> float:
        """MiB."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):  # it ended meanwhile
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(text.partition("Pss:")[2].split()[0])
        return total / 1024

    def close(self) -> None:
        """To be called when all have ended; waits for the last one to be gone. A second time does nothing."""
        if self._group is not None and self._group.exists():
            until(lambda: not self.pids(), 20, what=f"the end of the processes {self.pids()}")
            self._group.rmdir()


class Peak:
    """The most memory of all samples while it is entered."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.pss = 0.0

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            began = os.times().elapsed
            self.pss = max(self.pss, self._processes.pss())
            pause = max(SAMPLE_EVERY, SAMPLE_SHARE * (os.times().elapsed - began))
