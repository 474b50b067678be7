"""What a person may see and steer of a whole relay: every worker's queue as one, destinations, facts, configuration.

Owns: ``RelaySteering``, the face that the control API and the command line work with, and the values that cross it
besides those of steering.py. Does not own: doing it (fleet.py over the workers, http in the front, the house), how it
travels (http/api*.py), how it looks (cli).

The field names of the values are what the API and ``--json`` show: never rename one, only add. Times are seconds since
the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from postroad.access.user import UserRow
from postroad.core.facts import AnyFact
from postroad.outbound.steering import Counter, Steering


class Suspension(msgspec.Struct, frozen=True, kw_only=True):
    """A destination to which nothing is sent for a while, by a person's word. Records table ``suspensions``."""

    destination: str
    """By name: policy/destination_name.py."""
    since: float
    until: float | None
    """None: until it is resumed."""
    who: str
    why: str = ""


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a destination that hold instead of the configuration's. Records table ``overrides``.

    None: as configured.
    """

    destination: str
    connections: int | None = None
    messages_per_connection: int | None = None
    rate: str | None = None
    """As settings write it, e.g. ``600/min``; ``none``: no bound."""
    since: float
    until: float | None
    who: str
    why: str = ""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who changed what. Records table ``audit``: kept for a year."""

    at: float
    who: str
    what: str
    """The verb: flush, hold, release, delete, bounce, suspend, resume, override, restore, user-add, user-change,
    user-remove, reload."""
    about: str
    """The selection, the name of the destination, or of the user."""
    result: str
    """What came of it, in a few words: ``12 recipients of 3 messages``, ``until ...``, ``refused: ...``."""


class ProcessRow(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the relay."""

    process: str
    """supervisor, nursery, worker, ledger or front."""
    slot: int
    pid: int
    started_at: float
    restarts: int
    is_ready: bool


class RelayHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the relay as a whole is well."""

    version: str
    at: float
    started_at: float
    is_well: bool
    """True if every worker answers and takes mail, and nothing is in trouble."""
    troubles: tuple[str, ...]
    """What is not well, a sentence each."""
    listeners: tuple[str, ...]
    processes: tuple[ProcessRow, ...]
    messages: int
    recipients: int
    workers_answering: int = 0
    """Of how many workers the two numbers are."""


class ConfigRow(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the configuration in force, as ``postroad config show`` prints it. Never a secret."""

    key: str
    value: str
    source: str


class ReloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did."""

    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


class WorkerCounter(msgspec.Struct, frozen=True, kw_only=True):
    """One counter or gauge of one process."""

    worker: str
    counter: Counter


class RelaySteering(Steering, Protocol):
    """What one known person may do with the whole relay. All raise ControlRefused.

    Steering's calls mean the queues of all workers.
    """

    def trace(self, wanted: str, *, follow: bool = False, limit: int = 100) -> AsyncGenerator[AnyFact, None]:
        """Yield the stored facts about a message (by id) or an address, in the order of time, of all processes.

        ``wanted``: an id, an address (of a sender or a recipient), or "" for everything (only with ``follow``: then
        nothing stored). ``follow``: go on with what happens, without end. ``limit``: of an address, how many messages
        and refusals, the newest. What is left out is said in a last fact (Incomplete).
        """

    async def suspend(self, destination: str, *, until: float | None, why: str = "") -> Suspension:
        """Send nothing there until then. Over an older suspension of the same name."""

    async def resume(self, destination: str) -> bool:
        """End a suspension; False if there was none of that name."""

    async def suspensions(self) -> tuple[Suspension, ...]: ...

    async def override(
        self,
        destination: str,
        *,
        connections: int | None,
        messages_per_connection: int | None,
        rate: str | None,
        until: float | None,
        why: str = "",
    ) -> Override:
        """Have other limits hold for a destination. Over an older override of the same name."""

    async def restore(self, destination: str) -> bool:
        """End an override; False if there was none of that name."""

    async def overrides(self) -> tuple[Override, ...]: ...

    async def add_user(
        self, name: str, credential: str, *, scopes: tuple[str, ...] = (), send_as: tuple[str, ...] = ()
    ) -> UserRow:
        """Add a built-in user. ``credential``: what is kept of its password, as access/credentials.py writes it."""

    async def change_user(
        self,
        name: str,
        *,
        credential: str | None = None,
        scopes: tuple[str, ...] | None = None,
        send_as: tuple[str, ...] | None = None,
    ) -> UserRow:
        """Change of a user what is not None. Raises NotThere."""

    async def remove_user(self, name: str) -> bool:
        """Remove a user; False if there was none of that name."""

    async def users(self, *, after: str, limit: int) -> tuple[tuple[UserRow, ...], str]:
        """Return up to ``limit`` users by name, and what to give as ``after`` for more ("": no more)."""

    async def audit(self, *, after: str, limit: int) -> tuple[tuple[AuditRow, ...], str]:
        """Return up to ``limit`` rows, the newest first, and what to give as ``after`` for more ("": no more)."""

    async def counters(self) -> tuple[WorkerCounter, ...]: ...

    async def relay_health(self) -> RelayHealth: ...

    async def configuration(self) -> tuple[ConfigRow, ...]: ...

    async def reload(self) -> ReloadResult:
        """Read the configuration again and take it over in every process, or in none. Refuses with what is wrong."""
