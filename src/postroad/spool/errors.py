"""What can go wrong between us and SQLite or the disk, in two families, and the border that makes them.

Owns: StoreTrouble (the world's fault, mends itself when the disk works again), StoreDamaged (what is stored is
not what we wrote), StoreTooNew, and ``store_step``, which turns what apsw and the operating system
raise into them, so that no foreign exception climbs out of the store. Does not own: what
follows from an error (recovery.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import apsw
import msgspec

from postroad.spool.face import SpoolRefused, Why

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of the operating system that mean a full disk."""


class StoreTrouble(Exception):
    """A read, write or sync failed. The connection is given up; a fresh one may find the disk well again."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.why = why

    def as_refusal(self) -> SpoolRefused:
        return SpoolRefused(self.why, str(self))


class StoreDamaged(StoreTrouble):
    """SQLite finds the database itself broken (CORRUPT, NOTADB)."""

    def __init__(self, detail: str) -> None:
        super().__init__(Why.TROUBLE, detail)


class DuplicateId(Exception):
    """A message of that id is in the spool: a mistake of the caller, who was to take the id from ``new_id``."""


class StoreTooNew(Exception):
    """The database was written by a newer Postroad. The text says what to do."""


def refusal_of(error: OSError) -> SpoolRefused:
    """Return the refusal that an error of the operating system means."""
    return SpoolRefused(Why.FULL if error.errno in NO_SPACE else Why.TROUBLE, str(error))


@contextmanager
def store_step() -> Iterator[None]:
    """Turn what apsw and the operating system raise into StoreTrouble and StoreDamaged."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreDamaged(str(error) or type(error).__name__) from error
    except apsw.FullError as error:
        raise StoreTrouble(Why.FULL, str(error)) from error
    except apsw.Error as error:
        raise StoreTrouble(Why.TROUBLE, f"{type(error).__name__}: {error}") from error
    except (ValueError, msgspec.MsgspecError) as error:  # what is stored cannot be decoded
        raise StoreTrouble(Why.TROUBLE, f"{type(error).__name__}: {error}") from error
    except OSError as error:  # a VFS of the simulation raises it through SQLite
        raise StoreTrouble(refusal_of(error).why, str(error)) from error
