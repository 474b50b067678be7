"""From a loaded configuration to a plan and octets, and back; and a process that does nothing else, for a reload.

Owns: making a ``Plan`` of settings, ``Loaded`` as octets (pickled: it goes from the supervisor to its own children and
nowhere else), ``python -m postroad.service.reading`` that reads the files again so that the supervisor need not import
what it takes. Does not own: what is right (config), which keys need a restart (plan.py).
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from postroad import __version__
from postroad.service.plan import Plan

if TYPE_CHECKING:
    from postroad.config.load import Loaded
    from postroad.config.model import Settings


class ReadAgain(msgspec.Struct, frozen=True):
    """What a reader writes: a plan and the pickled configuration, or what is wrong."""

    plan: Plan | None
    loaded: bytes
    problem: str = ""


def plan_of(loaded: Loaded) -> Plan:
    """Return what the supervisor needs of a configuration."""
    from postroad.config.explain import rows
    from postroad.config.toml import written

    settings = loaded.settings
    process, http = settings.process, settings.http
    return Plan(
        config_file=str(loaded.files[0]) if loaded.files else "",
        data_dir=str(settings.data_dir.absolute()),
        workers=settings.workers,
        user=process.user,
        group=process.group,
        file_limit=process.file_limit,
        listeners=tuple(str(listener.address) for listener in settings.listener),
        http_address="" if http.address is None else str(http.address),
        drain=process.drain,
        log_format=settings.log.format,
        log_level=settings.log.level,
        version=__version__,
        secrets=_secrets(settings),
        keys={row.key: written(row.value) for row in rows(loaded)},
    )


def _secrets(settings: Settings) -> dict[str, tuple[str, ...]]:
    pairs = [str(path) for one in settings.tls.certificate for path in (one.certificate, one.private_key)]
    token = () if settings.http.token_file is None else (str(settings.http.token_file),)
    return {"worker": tuple(dict.fromkeys(pairs)), "front": token}


def pack(loaded: Loaded) -> bytes:
    """Return a configuration as octets for our own children."""
    return pickle.dumps(loaded)


def unpack(octets: bytes) -> Loaded:
    """Return the configuration that ``pack`` made.

    Only for octets of the supervisor's, by a descriptor it handed on.
    """
    loaded: Loaded = pickle.loads(octets)  # noqa: S301 - see above: nobody else can have written them
    return loaded


def read_again(config_file: str) -> ReadAgain:
    """Return the configuration as the files say it now."""
    from postroad.cli.configuration import load_configuration
    from postroad.config.errors import SettingsError

    try:
        if config_file and not os.path.getsize(config_file):  # caught while it is being written: not all defaults
            return ReadAgain(None, b"", f"{config_file} is empty. Nothing was changed.")
        loaded = load_configuration(Path(config_file) if config_file else None)
    except (SettingsError, OSError) as error:
        return ReadAgain(None, b"", str(error))
    return ReadAgain(plan_of(loaded), pack(loaded))


def main() -> None:
    """Write what is read to the descriptor in the first argument; the second names the file, if there is one."""
    answer = msgspec.msgpack.encode(read_again(sys.argv[2] if len(sys.argv) > 2 else ""))
    view = memoryview(answer)
    descriptor = int(sys.argv[1])
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()
