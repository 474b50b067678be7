"""``postroad serve``: from a loaded configuration to the supervisor, by becoming it.

Owns: what the command line's process hands to the supervisor that takes its place (same process number, so that a
service manager keeps what it started). Does not own: the supervisor (supervisor.py), reading (config).

The supervisor is a fresh interpreter, because it is to be small: this process has imported what reading a configuration
and a command line takes. -P: nothing is imported from the directory where we were started, which others may write.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

import msgspec

from postroad.service.plan import in_memory
from postroad.service.reading import pack, plan_of

if TYPE_CHECKING:
    from postroad.config.load import Loaded


def serve(loaded: Loaded) -> NoReturn:
    """Become the supervisor of a relay with this configuration."""
    handed = [
        in_memory("postroad plan", msgspec.msgpack.encode(plan_of(loaded))),
        in_memory("postroad configuration", pack(loaded)),
    ]
    for descriptor in handed:
        os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "postroad.service.supervisor", *map(str, handed)])  # noqa: S606
