"""What the supervisor needs to know of a configuration, and how a whole one is handed to its children.

Owns: ``Plan``, a plain value, so that the supervisor (root, perhaps) imports neither pydantic nor anything that reads
mail; octets handed on in memory (memfd_create(2)) instead of files. Does not own: making a plan of settings
(read_plan.py), acting on it (supervisor.py).
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

SEALS: Final = 0x0001 | 0x0002 | 0x0004 | 0x0008
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE of fcntl(2)."""
_ADD_SEALS: Final = 1033
"""F_ADD_SEALS."""
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
    secrets: tuple[str, ...]
    """Files that may be readable by root alone: certificates, keys, passwords, tokens."""
    keys: dict[str, str]
    """Every key of the configuration and its value as text, secrets' *paths* included: what a reload compares."""


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


def restart_keys(old: Plan, new: Plan) -> tuple[str, ...]:
    """Return the keys that differ and cannot change while the relay runs."""
    return tuple(key for key in changed_keys(old, new) if _needs_restart(key))


def changed_keys(old: Plan, new: Plan) -> tuple[str, ...]:
    """Return every key whose value differs, in the order of the new configuration."""
    keys = dict.fromkeys((*new.keys, *old.keys))
    return tuple(key for key in keys if old.keys.get(key) != new.keys.get(key))


def _needs_restart(key: str) -> bool:
    if key in ("data_dir", "workers", "http.address", "process.user", "process.group", "process.file_limit"):
        return True
    return key.startswith("facts.") or (key.startswith("listener[") and key.endswith("].address"))
