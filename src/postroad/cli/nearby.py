"""Where the relay of this machine takes mail, found without loading the whole configuration.

Owns: reading of postroad.toml what ``sendmail`` needs (hostname, origin, listeners) as far as that goes. Does not own:
which file it is (config/find.py), whether the file is right: ``postroad check`` says so, a wrong key is passed by here.

Mail goes only to whom root or we ourselves have put there. A user who may not read the file gets ports 587 and 25 of
this machine, on which only root can have somebody listen; the sandbox is asked for its owner; a postroad.toml of
somebody else's in the current directory is passed by.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any, Final, NamedTuple

from postroad.cli.machine import machine_name
from postroad.config.errors import SettingsError
from postroad.config.find import LOCAL_FILE, SYSTEM_FILE, find_file

FILES_MAX: Final = 100
"""Included files that are looked at."""
SANDBOX_PORT: Final = 2525
WELL_KNOWN_PORTS: Final = (587, 25)
_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a listener on all addresses is reached
_NO_GREETING: Final = ("lmtp",)


class Place(NamedTuple):
    """A listener: ``host`` and ``port``, or a Unix socket's ``path``."""

    host: str
    port: int
    path: str = ""
    tls: bool = False
    """From the first octet."""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Nearby(NamedTuple):
    """What is known of the relay of this machine."""

    hostname: str
    origin: str
    """What bare addresses get: ``[names] origin``, else the hostname."""
    places: tuple[Place, ...]
    """To be tried in this order."""


class UnknownRelay(Exception):
    """Where the relay is cannot be found out. The text is a sentence."""


def find_nearby(named: Path | None, environment: Mapping[str, str], system_file: Path = SYSTEM_FILE) -> Nearby:
    """Return where to submit. Raises UnknownRelay."""
    directory = Path.cwd()
    if named is None and "POSTROAD_CONFIG" not in environment and _is_strange(directory / LOCAL_FILE):
        directory = Path("/nonexistent")
    try:
        file = find_file(named, environment=environment, directory=directory, system_file=system_file)
        if file is None:
            name = machine_name()
            is_ours = _listener_uid(SANDBOX_PORT) in (0, os.geteuid())
            return Nearby(name, name, (Place("127.0.0.1", SANDBOX_PORT),) if is_ours else ())
        return _read(file)
    except PermissionError:
        return _well_known()
    except SettingsError as error:
        if isinstance(error.__cause__, PermissionError):
            return _well_known()
        raise UnknownRelay(f"{error}") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnknownRelay(f"The configuration cannot be read: {error}") from error


def _is_strange(file: Path) -> bool:
    """True if the file belongs to neither us nor root: whoever wrote it would get our mail."""
    try:
        return file.stat().st_uid not in (0, os.geteuid())
    except OSError:
        return False


def _listener_uid(port: int) -> int | None:
    """Return the user id of who listens on a port of 127.0.0.1; None where nobody does. See proc(5), /proc/net/tcp."""
    wanted = f"0100007F:{port:04X}"
    try:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return None
    rows = (line.split() for line in lines)
    return next((int(row[7]) for row in rows if row[1] == wanted and row[3] == "0A"), None)


def _well_known() -> Nearby:
    name = machine_name()
    return Nearby(name, name, tuple(Place("127.0.0.1", port) for port in WELL_KNOWN_PORTS))


def _read(file: Path) -> Nearby:
    tables = list(file_tables(file))
    hostname = next((text for table in tables if (text := _text(table.get("hostname")))), "") or machine_name()
    names = (table.get("names") for table in tables)
    origin = next((text for each in names if isinstance(each, dict) and (text := _text(each.get("origin")))), "")
    listeners = [each for table in tables for each in _list(table.get("listener")) if isinstance(each, dict)]
    suitable = [each for each in listeners if _takes_ours(each)]
    suitable.sort(key=lambda each: (each.get("role") != "submission", _text(each.get("address")).startswith("unix:")))
    places = [place for each in suitable if (place := _place(each)) is not None]
    if not places:
        raise UnknownRelay(f"{file} has no listener on which this machine can hand in mail.")
    return Nearby(hostname, origin or hostname, tuple(places))


def file_tables(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the tree of the file, then of those that it includes."""
    waiting, seen = [file], set[Path]()
    while waiting and len(seen) < FILES_MAX:
        each = waiting.pop(0)
        if each in seen:
            continue
        seen.add(each)
        tree = tomllib.loads(each.read_bytes().decode("utf-8-sig"))
        yield tree
        patterns = [str(each.parent / text) for text in map(_text, _list(tree.get("include"))) if text]
        waiting += [Path(found) for pattern in patterns for found in sorted(glob(pattern, recursive=True))]


def _takes_ours(listener: dict[str, Any]) -> bool:
    return _text(listener.get("role")) not in _NO_GREETING and not _list(listener.get("proxy_protocol_from"))


def _place(listener: dict[str, Any]) -> Place | None:
    address = _text(listener.get("address"))
    tls = listener.get("tls") == "implicit"
    if address.startswith("unix:"):
        return Place("", 0, address.removeprefix("unix:"), tls)
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536 or host == "fd":
        return None
    return Place(_HERE.get(host, host), int(port), "", tls)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
