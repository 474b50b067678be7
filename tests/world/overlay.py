"""A root file system of its own for a mail server that Debian would only install in another's place.

tools/peers unpacks Exim and OpenSMTPD into a directory each. Here such a tree is laid over this machine's ``/`` in a
mount and a process namespace: inside, the server is installed, with its accounts and directories; outside nothing has
changed. The network is this machine's, so a port on 127.0.0.1 is the same port on both sides, and the directory for
temporary files is the same directory. Everything else that is written stays in memory and is gone at the end, and so
is every process, whatever becomes of the test. Needs root.

Does not own: the configuration of a server (the tests that start it), the unpacking (tools/peers).
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_TIMEOUT: Final = 20.0
"""Seconds that a command in the overlay gets by default."""


@dataclass(frozen=True)
class Account:
    """A user with a group of the same name, as the package's installation would have made it."""

    name: str
    home: str


@dataclass(frozen=True)
class Installation:
    """What a package's own scripts do beyond unpacking files."""

    accounts: tuple[Account, ...]
    directories: tuple[tuple[str, str, int], ...]
    """Path, owner, mode."""


INSTALLATIONS: Final = {
    "exim": Installation(
        accounts=(Account("Debian-exim", "/var/spool/exim4"),),
        directories=(
            ("/var/spool/exim4", "Debian-exim", 0o750),
            ("/var/log/exim4", "Debian-exim", 0o2750),
            ("/var/lib/exim4", "root", 0o755),
            ("/run/exim4", "Debian-exim", 0o750),
        ),
    ),
    "opensmtpd": Installation(
        accounts=(Account("opensmtpd", "/var/lib/opensmtpd/empty"), Account("opensmtpq", "/var/lib/opensmtpd/empty")),
        directories=(
            ("/var/lib/opensmtpd/empty", "root", 0o755),
            ("/var/spool/smtpd", "root", 0o711),
        ),
    ),
}

# $1 the unpacked tree, $2 an empty directory, $3 the directory for temporary files. A tmpfs carries the upper layer,
# since an overlay cannot take one from a layer below it; $2 is the mount point. It ends when its standard input does,
# which is when we close it or die; being the first process of its namespace it takes all others with it.
ENTER: Final = """
set -eu
mount -t tmpfs -o mode=755 none "$2"
mkdir "$2/upper" "$2/work" "$2/root"
cp -a "$1/." "$2/upper/"
mount -t overlay none -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /dev "$2/root/dev"
mkdir -p "$2/root$3"
mount --bind "$3" "$2/root$3"
exec chroot "$2/root" sh -c 'echo ready; exec cat >/dev/null'
"""


def peers_directory() -> Path:
    """Where tools/peers unpacks to."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("POSTROAD_PEERS") or Path(cache) / "postroad" / "peers")


class OverlayRoot:
    """The inside of an overlay, for as long as :func:`overlay_root` holds it."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", f"--target={pid}", "--mount", "--pid", "--root", "--wd"]
        self.path = Path(f"/proc/{pid}/root")
        """The root directory as seen from outside: read logs and queues, write configurations through it."""
        self._started: list[subprocess.Popen[bytes]] = []

    def write(self, name: str, text: str, *, mode: int = 0o644, owner: str = "root") -> None:
        """Write a file inside, ``name`` being its path there; directories are made as needed."""
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, *self.ids(owner))

    def ids(self, owner: str) -> tuple[int, int]:
        """User and group number of an account inside."""
        for line in (self.path / "etc/passwd").read_text().splitlines():
            name, _, user, group, *_ = line.split(":")
            if name == owner:
                return int(user), int(group)
        raise LookupError(f"no account {owner} in the overlay")

    def run(self, *command: str, octets: bytes = b"", seconds: float = START_TIMEOUT) -> str:
        """Run a command inside to its end and return what it printed; CalledProcessError if it failed."""
        done = subprocess.run([*self._enter, *command], input=octets, capture_output=True, timeout=seconds, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout.decode("utf-8", "replace")

    def start(self, *command: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command inside that stays; it ends with the overlay, or by :meth:`stop`."""
        output = log.open("ab") if log else None
        try:
            process = subprocess.Popen(
                [*self._enter, *command],
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
            )
            self._started.append(process)
            return process
        finally:
            if output:
                output.close()

    def stop(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """Send a signal to what :meth:`start` started (not to the nsenter around it) and wait for its end."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), number)
        return process.wait(seconds)

    def wait(self) -> None:
        """Wait for what was started, once the first process inside has ended and the kernel has killed the rest."""
        for process in self._started:
            process.wait(START_TIMEOUT)


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory, the same inside and outside, that a server's own account may write in (pytest's are closed)."""
    with tempfile.TemporaryDirectory(prefix="postroad-peer-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@contextmanager
def overlay_root(name: str) -> Iterator[OverlayRoot]:
    """Lay the peer ``name`` ("exim" or "opensmtpd") over this machine's root; all of it is gone afterwards."""
    tree = peers_directory() / name / "tree"
    if not tree.is_dir():
        raise FileNotFoundError(f"{name} is not unpacked: run tools/peers as root")
    with tempfile.TemporaryDirectory(prefix="postroad-overlay-") as mount_point:
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        command += ["sh", "-c", ENTER, "overlay", str(tree), mount_point, tempfile.gettempdir()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            root = None
            try:
                if process.stdout.readline() != b"ready\n":
                    raise RuntimeError(f"the overlay of {name} could not be made; its complaint is above")
                root = OverlayRoot(_first_inside(process.pid))
                _install(root, INSTALLATIONS[name])
                yield root
            finally:
                process.stdin.close()
                process.wait(START_TIMEOUT)
                if root:
                    root.wait()


def _first_inside(unshare: int) -> int:
    """The process that is number 1 inside, by its number outside."""
    (child,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    return int(child)


def _install(root: OverlayRoot, installation: Installation) -> None:
    passwd, group = root.path / "etc/passwd", root.path / "etc/group"
    taken = {int(line.split(":")[2]) for path in (passwd, group) for line in path.read_text().splitlines()}
    for account in installation.accounts:
        number = next(number for number in range(900, 60000) if number not in taken)
        taken.add(number)
        with passwd.open("a") as file:
            file.write(f"{account.name}:x:{number}:{number}::{account.home}:/usr/sbin/nologin\n")
        with group.open("a") as file:
            file.write(f"{account.name}:x:{number}:\n")
    for name, owner, mode in installation.directories:
        path = root.path / name.lstrip("/")
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, *root.ids(owner))
        path.chmod(mode)
