"""Which file is the configuration: named, in the environment, here, or the system's.

Owns: the search. Does not own: reading the file (load.py). Stands apart so that ``postroad sendmail`` finds
the file without loading the model (load.py). Part of the command line contract: change them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from postroad.config.errors import Place, SettingError, SettingsError

ENVIRONMENT_KEY: Final = "POSTROAD_CONFIG"
LOCAL_FILE: Final = "postroad.toml"
SYSTEM_FILE: Final = Path("/etc/postroad/postroad.toml")


def find_file(path: Path | None, *, environment: Mapping[str, str], directory: Path, system_file: Path) -> Path | None:
    """Return the absolute path of the configuration file, or None when there is none and none was named.

    Raises:
        SettingsError: one was named and is not there, or we may not look.
    """
    if path is not None:
        return _named_file(directory / path, "The command line names it")
    if named := environment.get(ENVIRONMENT_KEY):
        return _named_file(directory / named, f"${ENVIRONMENT_KEY} names it")
    for candidate in (directory / LOCAL_FILE, system_file):
        if exists(candidate):
            return candidate.absolute()
    return None


def _named_file(file: Path, why: str) -> Path:
    if not exists(file):
        raise SettingsError([SettingError(f"There is no such file. {why}.", place=Place(file.absolute()))])
    return file.absolute()


def exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:
        raise SettingsError([unreadable(file, error)]) from error


def unreadable(file: Path, error: OSError) -> SettingError:
    return SettingError(f"It cannot be read: {error.strerror}.", place=Place(file.absolute()))
