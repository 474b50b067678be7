"""What the supervisor needs to know of a configuration, and how a whole one is handed to its children.

Owns: ``Plan``, a plain value, so that the supervisor (root, perhaps) imports neither pydantic nor anything that reads
mail; octets handed on in memory (memfd_create(2)) instead of files. Does not own: making a plan of settings
(read_plan.py), acting on it (supervisor.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from postroad.service.failures import StartFailed

SEALS: Final = 0x0001 | 0x0002 | 0x0004 | 0x0008
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE of fcntl(2)."""
_ADD_SEALS: Final = 1033
"""F_ADD_SEALS."""
HANDED_MAX: Final = 240
"""Descriptors of listeners and secrets in one message, with some to spare (SCM_MAX_FD is 253)."""
_MEMORY_MAX: Final = 64 * 1024 * 1024


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a configuration that shapes the processes. What differs here needs a restart."""

    config_file: str
    """Absolute path of the main file; empty: the sandbox."""
    data_dir: str
    workers: int
    user: str
    group: str
    file_limit: int
    listeners: tuple[str, ...]
    """The address of each as settings write it: ``0.0.0.0:25``, ``unix:/path``, ``fd:3``."""
    http_address: str
    """``127.0.0.1:8025``; empty: none."""
    drain: float
    """Seconds. May change with a reload."""
    log_format: str
    log_level: str
    version: str
    secrets: dict[str, tuple[str, ...]]
    """Files that may be readable by root alone, by the role that needs them: certificates and keys, tokens."""
    keys: dict[str, str]
    """Every key of the configuration and its value as text, secrets' *paths* included: what a reload compares."""


def check_descriptors(plan: Plan) -> None:
    """See that what a process gets fits into one message of the kernel's.

    Raises:
        StartFailed: there are more listeners and files of certificates than that.
    """
    for paths in plan.secrets.values():
        if len(plan.listeners) + len(paths) > HANDED_MAX:
            text = f"There are {len(plan.listeners)} listeners and {len(paths)} files of certificates and keys; "
            raise StartFailed(f"{text}{HANDED_MAX} in all can be handed to a process. Join some, or run two relays.")


def in_memory(name: str, octets: bytes) -> int:
    """Return the descriptor of a sealed memory file that holds ``octets``; whoever gets it reads it at any time."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(octets)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, 0o444)  # whoever holds the descriptor may open /proc/self/fd/N, as OpenSSL wants to
        import fcntl

        fcntl.fcntl(descriptor, _ADD_SEALS, SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_memory(descriptor: int) -> bytes:
    """Return what a file handed on by descriptor holds, whatever its offset.

    Raises:
        ValueError: more than anybody here writes.
    """
    size = os.fstat(descriptor).st_size
    if size > _MEMORY_MAX:
        raise ValueError(f"{size} octets in memory are too many")
    pieces, at = [], 0
    while piece := os.pread(descriptor, 1 << 20, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


Keys = Mapping[str, str]


def changed_keys(old: Keys, new: Keys) -> tuple[str, ...]:
    """Return every key whose value differs, in the order of the new configuration."""
    return tuple(key for key in dict.fromkeys((*new, *old)) if old.get(key) != new.get(key))


def restart_keys(old: Keys, new: Keys) -> tuple[str, ...]:
    """Return the keys that differ and cannot change while the relay runs. ``old``: as of its start."""
    return tuple(key for key in changed_keys(old, new) if _needs_restart(key, old, new))


def in_force(old: Keys, new: Keys) -> dict[str, str]:
    """Return what holds after a reload: the new values, but for what needs a restart. ``old``: as of the start."""
    keys = dict(new)
    for key in restart_keys(old, new):
        if key in old:
            keys[key] = old[key]
        else:
            keys.pop(key, None)
    return keys


def _needs_restart(key: str, old: Keys, new: Keys) -> bool:
    if key in _FIXED or key.startswith("facts."):
        return True
    found = _LISTENER.match(key)
    if found is None:
        return False
    address = f"{found[0]}.address"  # another address, or none: it is another listener, with all that it says
    return old.get(address) != new.get(address)


_LISTENER: Final = re.compile(r"listener\[\d+\]")
_FIXED: Final = {
    *("data_dir", "workers", "http.address", "http.token_file", "spool.min_free"),
    *("process.user", "process.group", "process.file_limit"),
}
"""What shapes the processes, or is read once at their start."""
