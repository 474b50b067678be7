"""The directory where everything is kept, from the supervisor's side: made, ours alone, one relay at a time.

Owns: making it and ``run`` in it, its owner and mode, the lock on ``relay.lock``. The lock is handed to every process
of the relay, so it is free only when the last of them is gone; a start that finds a dead relay's processes still
finishing waits for them. Does not own: shards and their locks (spool/owner.py).
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Final

from postroad.net.errors import why_os
from postroad.service.failures import StartFailed
from postroad.service.privileges import Identity, acting_as

LOCK_NAME: Final = "relay.lock"
RUN: Final = "run"
CONTROL: Final = "control.sock"
RECORDS: Final = "records.db"
FACTS: Final = "facts"
"""Names in data_dir."""
LEFTOVER_PATIENCE: Final = 15.0
"""Seconds that a start waits for the processes of a relay whose supervisor was killed."""
_LOOK_EVERY: Final = 0.05


def make_data_dir(path: Path, identity: Identity | None, *, for_group: bool) -> None:
    """Make the directory if need be; it and ``run`` belong to ``identity``, others see nothing.

    ``for_group``: members of the group may pass through it, to the control socket, and no more.

    Raises:
        StartFailed: it cannot be made or used.
    """
    try:
        is_new = not path.exists()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_new and identity is not None:
            os.chown(path, identity.uid, identity.gid)
        found = path.stat()
        if identity is not None and found.st_uid != identity.uid:
            text = f"{path} belongs to user {found.st_uid}, and [process] user is {identity.name}. Give it over: "
            raise StartFailed(f"{text}chown -R {identity.name} {path}")
        with acting_as(identity):
            if for_group and identity is not None:
                os.chown(path, -1, identity.gid)
                os.chmod(path, 0o710)  # noqa: S103 - to pass through, to the control socket; not to look
            (path / RUN).mkdir(mode=0o700, exist_ok=True)
            (path / FACTS).mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        where = error.filename if isinstance(error.filename, str) else str(path)
        raise StartFailed(f"{where} is not a directory. Move it away, or name another data_dir.") from error
    except OSError as error:
        raise StartFailed(unusable(error, path)) from error


def unusable(error: OSError, data_dir: Path) -> str:
    """Return what to say where something in data_dir cannot be used."""
    where = error.filename if isinstance(error.filename, str) else str(data_dir)
    text = f"{where} cannot be used: {why_os(error)}. Let the user that runs Postroad read and write data_dir"
    return f"{text} ({data_dir})."


def lock_data_dir(path: Path, identity: Identity | None) -> int:
    """Return the descriptor that holds the lock; every process that gets it holds it too.

    Raises:
        StartFailed: another relay runs here.
    """
    name = path / LOCK_NAME
    try:
        with acting_as(identity):
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StartFailed(unusable(error, path)) from error
    try:
        _wait_for_lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _wait_for_lock(descriptor: int, path: Path) -> None:
    until = time.monotonic() + LEFTOVER_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            if is_alive(owner) or time.monotonic() > until:
                text = f"Another Postroad runs on {path}: {path / LOCK_NAME} is held by process {owner}. "
                raise StartFailed(f"{text}Stop it, or give this one a data_dir of its own.") from None
            time.sleep(_LOOK_EVERY)  # its supervisor was killed: the others end by themselves
        else:
            return


def is_alive(pid: str) -> bool:
    """True if there is a process of that number, and it is no corpse."""
    if not pid.isdecimal():
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")


def is_private(path: Path) -> bool:
    """True if nobody but the owner and root can read or write in the directory."""
    return not path.stat().st_mode & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP)
