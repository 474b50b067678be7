"""How the supervisor's facts get out: the ledger writes them with its own; where there is none, a line on standard
error. The front counts them.

Owns: that choice. The supervisor has no thread to write in, and a reader of the log that stands still must not stop it.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import msgspec

from postroad.core.facts import AnyFact
from postroad.observe.log import Format, Level, LogLines
from postroad.service.leash import Tell
from postroad.service.plan import Plan

if TYPE_CHECKING:
    from postroad.service.kennel import Kennel

STANDARD_ERROR: Final = 2


class Voice:
    """The supervisor's facts."""

    def __init__(self, plan: Plan, kennel: Kennel) -> None:
        self._kennel = kennel
        self._lines = LogLines(cast(Format, plan.log_format), Level[plan.log_level.upper()])

    def tell(self, fact: AnyFact) -> None:
        """Have one fact written, and counted and shown to those who follow by the front."""
        message = Tell(fact=msgspec.msgpack.encode(fact))
        self._kennel.send("front", message)
        if self._kennel.is_serving("ledger"):
            self._kennel.send("ledger", message)
        elif (line := self._lines.line(fact)) is not None:
            _, writable, _ = select.select([], [STANDARD_ERROR], [], 0)
            with suppress(OSError):
                if writable:
                    os.write(STANDARD_ERROR, line + b"\n")
