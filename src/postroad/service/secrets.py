"""Certificates, keys and tokens that may be readable by root alone: read by the supervisor, handed on in memory.

Owns: reading them, seeing that one has changed. Where no privileges are given up nothing is handed on: each process
reads the files itself. Does not own: what they are for (net/tls.py, http), which there are (plan.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final

from postroad.net.errors import why_os
from postroad.service.failures import StartFailed
from postroad.service.plan import in_memory

SECRET_MAX: Final = 1 << 20
"""Octets of one file: a certificate with its chain has some thousands."""


class SecretFiles:
    """The secrets that are handed on, each to the role that needs it and to no other.

    ``held``: path -> descriptor of what it held when last read.
    """

    def __init__(self, by_role: Mapping[str, Sequence[str]], *, is_needed: bool) -> None:
        self._is_needed = is_needed
        self._by_role = dict(by_role) if is_needed else {}
        self._paths = tuple(dict.fromkeys(path for paths in self._by_role.values() for path in paths))
        self._seen: dict[str, tuple[int, int, int]] = {}
        self.held: dict[str, int] = {}

    def read(self) -> None:
        """Read all for the first time.

        Raises:
            StartFailed: one cannot be read.
        """
        for path in self._paths:
            try:
                self._take(path)
            except OSError as error:
                raise StartFailed(f"{path} cannot be read: {why_os(error)}.") from error

    def of(self, role: str) -> dict[str, int]:
        """Return what a role gets: path -> descriptor."""
        return {path: self.held[path] for path in self._by_role.get(role, ()) if path in self.held}

    def with_paths(self, by_role: Mapping[str, Sequence[str]]) -> SecretFiles:
        """Return another set of secrets, read anew, for a reload. Raises StartFailed."""
        other = SecretFiles(by_role, is_needed=self._is_needed)
        try:
            other.read()
        except StartFailed:
            other.close()
            raise
        return other

    def read_changed(self) -> dict[str, int]:
        """Return those that have changed since, with what they hold now. What cannot be read stays as it was."""
        changed = {}
        for path in self._paths:
            try:
                if _signature(os.stat(path)) != self._seen.get(path):
                    self._take(path)
                    changed[path] = self.held[path]
            except OSError:
                continue
        return changed

    def close(self) -> None:
        for descriptor in self.held.values():
            os.close(descriptor)
        self.held = {}

    def _take(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{path} is not a file")
            octets = os.pread(descriptor, SECRET_MAX, 0)
        finally:
            os.close(descriptor)
        old = self.held.get(path)
        self.held[path] = in_memory("postroad secret", octets)
        self._seen[path] = _signature(found)
        if old is not None:
            os.close(old)


def _signature(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino
