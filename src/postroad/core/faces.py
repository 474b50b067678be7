"""The faces by which the world reaches the code: time, chance, names, disk, threads, and what is shared.

Owns: the Protocols, and the values and errors that cross them. Does not own: any
implementation. The real ones are on floor 3 and in the house, the fakes in
postroad.testing; both pass tests/contracts/. A simulation plugs in others.

Code below the house never asks for the wall clock, a random number, a name, a file of
the spool or a thread in any other way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, MutableSequence, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec

from postroad.core.facts import AnyFact

if TYPE_CHECKING:
    import asyncio  # for the name of Future alone: this floor runs without an event loop

T = TypeVar("T")


class Clock(Protocol):
    """Wall-clock time. Durations are measured by the event loop's ``time()``, never by this."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC. May jump, also backwards."""


class Dice(Protocol):
    """Chance, and unguessable tokens."""

    def random(self) -> float:
        """Return a number from 0.0 to below 1.0."""

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Put ``items`` in a random order, in place."""

    def token(self, octets: int) -> bytes:
        """Return that many octets nobody can guess."""


# --- names -------------------------------------------------------------------------------------------


class NameTrouble(Exception):
    """No answer now: time-out, SERVFAIL, no server reached. Try again later; says nothing of the name."""


class NameNotFound(Exception):
    """The name does not exist (NXDOMAIN). Not the same as a name without such records: that is an empty answer."""


class MxHost(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One MX record. RFC 7505 section 3: a null MX has the host ``.``, given here as an empty string."""

    preference: int
    host: str


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far an answer can be trusted, and for how long."""

    seconds: float
    """Time to live, seconds, as bounded by the cache."""
    secure: bool = False
    """Validated by DNSSEC, as far as the resolver may be trusted."""


class Resolver(Protocol):
    """DNS. Names are A-labels in lower case, without a final dot. Empty answers are empty tuples.

    All raise NameTrouble and NameNotFound.
    """

    async def mx(self, domain: str) -> tuple[Sequence[MxHost], Answer]:
        """Return the MX records in no particular order; CNAMEs followed (RFC 5321 section 5.1)."""

    async def addresses(self, host: str) -> tuple[Sequence[str], Answer]:
        """Return IPv6 and IPv4 addresses as text, in the order the server gave within each family, IPv6 first."""

    async def names(self, address: str) -> tuple[Sequence[str], Answer]:
        """Return the names of an IP address (PTR)."""

    async def texts(self, name: str) -> tuple[Sequence[bytes], Answer]:
        """Return TXT records, the strings of each joined."""


# --- the disk ----------------------------------------------------------------------------------------


class DiskFile(Protocol):
    """An open file. Blocking: call within ``Threads.run_blocking`` when the content may be large."""

    def write(self, octets: bytes | memoryview) -> None:
        """Append all of ``octets``. Raises OSError (ENOSPC, EIO...): then the file's content is unknown."""

    def read_at(self, offset: int, octets_max: int) -> bytes:
        """Return 1 to ``octets_max`` octets from ``offset``, or b"" at or past the end."""

    def size(self) -> int:
        """Return the length in octets."""

    def sync(self) -> None:
        """Return when the content is durable (fdatasync).

        After an OSError the file must be given up, never synced again: the kernel may have dropped its pages.
        """

    def close(self) -> None:
        """Close it. Never raises twice."""


class Disk(Protocol):
    """Files beside the database: bodies, Maildirs, directory entries. Blocking; raises OSError.

    The content of a file is durable after its ``sync``; its *name* only after
    ``sync_directory`` of the directory that holds it.
    """

    def create(self, path: str, mode: int = 0o600) -> DiskFile:
        """Make a new file; FileExistsError if there is one."""

    def open(self, path: str) -> DiskFile:
        """Open an existing file for reading."""

    def write_again(self, path: str) -> None:
        """Write what an existing file holds over itself, and return when it is durable.

        After a failed sync, maybe of another process, the kernel may hold octets that can be read, that the medium
        lacks, and that no later sync writes, since their pages are taken for clean. Nobody else may write meanwhile.
        """

    def rename(self, old: str, new: str) -> None:
        """Atomically replace ``new`` by ``old``."""

    def link(self, old: str, new: str) -> None:
        """Give the file a second name; FileExistsError if ``new`` exists."""

    def unlink(self, path: str) -> None:
        """Take away a name. FileNotFoundError if there is none."""

    def remove_directory(self, path: str) -> None:
        """Take away an empty directory. FileNotFoundError if there is none, OSError (ENOTEMPTY) if it is not empty."""

    def exists(self, path: str) -> bool:
        """True if the path names a file or directory."""

    def list(self, path: str) -> Sequence[str]:
        """Return the names in a directory, in no particular order."""

    def make_directories(self, path: str, mode: int = 0o700) -> None:
        """Make the directory and its missing parents, each made durable in its parent.

        Also where it is there already: whoever made it may have died before it was durable.
        """

    def sync_directory(self, path: str) -> None:
        """Return when the names in the directory are durable."""

    def free(self, path: str) -> int:
        """Return how many octets an unprivileged process can still write on that file system."""


class Threads(Protocol):
    """Where blocking work runs."""

    def run_blocking(self, work: Callable[..., T], *arguments: object, lane: str = "") -> asyncio.Future[T]:
        """Run ``work`` away from the event loop and return a future of its result.

        Work of one named lane runs in order, one at a time, on a thread of its own; work
        without a lane runs in a small pool. Cancelling the future does not stop the work.
        """


# --- what holds for the whole relay ----------------------------------------------------------------------


class Rate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """So many in a span of time."""

    count: float
    seconds: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


class Limits(Protocol):
    """Limits that hold over all workers. Keys are bounded by their makers, e.g. ``in:192.0.2.1``, ``to:mx.example``."""

    async def take_connection(self, key: str, most: int) -> bool:
        """Count one more connection under ``key``, or return False if there are ``most`` already."""

    def give_connection(self, key: str) -> None:
        """Give one back. Every taken connection is given back exactly once."""

    async def take_tokens(self, key: str, rate: Rate, tokens: int = 1) -> float:
        """Take tokens now and return 0.0, or take none and return how many seconds to wait before asking again."""

    def on_wanted(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with a key whose connections somebody else waits for while we hold more than our share.

        On the loop, perhaps again and again. Whoever holds idle connections under the key gives them back soon; who
        needs them all the same gives one back when its work in hand is done.
        """


class RecordRow(msgspec.Struct, frozen=True, array_like=True):
    """One row of a shared small table."""

    key: str
    value: bytes
    expires_at: float | None
    """Seconds since the epoch, UTC; None: never."""

    def __repr__(self) -> str:
        """Without the value: it may be what is kept of a password."""
        return f"RecordRow({self.key!r}, {len(self.value)} octets)"


class RecordsTrouble(Exception):
    """The file cannot be read or written now, or nobody is there to write it.

    A write was not done, but an I/O error, or an answer that never came, may let it show later.
    """


class Records(Protocol):
    """Small shared tables by name: users, bans, suspensions, overrides, caches. Durable when a call returns.

    All raise RecordsTrouble.
    """

    async def get(self, table: str, key: str) -> RecordRow | None:
        """Return the row, or None if there is none or it has expired."""

    async def put(self, table: str, row: RecordRow) -> None:
        """Write the row, over an older one of the same key."""

    async def delete(self, table: str, key: str) -> bool:
        """Take the row away; False if there was none."""

    def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        """Yield unexpired rows in the order of their keys, in slices, without blocking writers."""


class Marks(Protocol):
    """What is remembered for a while, by key, and holds over all workers: failed logins, bans, grants, first takers.

    Durations are seconds from now, so that no jump of the wall clock matters. In memory, and bounded: past the bound
    the mark longest unused is forgotten. What must outlive the relay stands in Records.
    """

    async def count(self, key: str, seconds: float, add: int = 1) -> int:
        """Add so many events and return how many there were in the last ``seconds``, these included.

        An event may count for a twentieth of ``seconds`` longer. With ``add`` 0: only look.
        """

    async def mark(self, key: str, seconds: float) -> None:
        """Mark ``key`` for so long from now, instead of how long it was marked for; 0 takes the mark away."""

    async def marked(self, key: str) -> float:
        """Return for how many more seconds ``key`` is marked or claimed; 0.0: it is not."""

    async def claim(self, key: str, seconds: float) -> bool:
        """Mark ``key`` and return True for the first who asks; False, changing nothing, as long as it is marked."""


class Outlet(Protocol):
    """Where facts go. Never blocks and never raises: what happened must not depend on who looks."""

    def emit(self, fact: AnyFact) -> None:
        """Take one fact. It is written with others, soon."""


CONTRACTS: Final = (Clock, Dice, Resolver, Disk, Threads, Limits, Records, Marks, Outlet)
"""Each has a contract test of the same name in tests/contracts/; tests/structure checks it."""
