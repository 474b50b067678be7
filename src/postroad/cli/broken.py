"""Which relay a person means whose configuration file is broken: steering needs ``data_dir`` of it, nothing more.

Owns: settings for steering, with what is wrong beside them; reading ``data_dir`` of a file that does not load. Does not
own: loading (config/load.py), who answers there (house.py). Only a relay that runs is steered by such a file: without
one, the error stands.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from postroad.cli.configuration import load_configuration
from postroad.cli.machine import machine_name
from postroad.cli.nearby import file_tables
from postroad.config.errors import SettingsError
from postroad.config.find import SYSTEM_FILE, find_file

if TYPE_CHECKING:
    from postroad.config.model import Settings

WARNING: Final = "postroad: The configuration file is broken, and the relay goes on with what it has: postroad check"
_DATA_DIR: Final = re.compile(r"""^\s*data_dir\s*=\s*(?:"([^"\\\n]+)"|'([^'\n]+)')""", re.MULTILINE)
_TABLE: Final = re.compile(r"^\s*\[", re.MULTILINE)


def settings_to_steer(file: Path | None) -> tuple[Settings, SettingsError | None]:
    """Return settings whose ``data_dir`` and ``hostname`` hold, and what is wrong with the others; None: nothing is.

    Raises:
        SettingsError: there is no file to be read.
    """
    try:
        return load_configuration(file).settings, None
    except SettingsError as error:
        found = find_file(file, environment=os.environ, directory=Path.cwd(), system_file=SYSTEM_FILE)
        data_dir = read_data_dir(found) if found is not None else None
        if data_dir is None:
            raise
        from postroad.config.model import Settings

        return Settings(hostname=machine_name(), data_dir=data_dir), error


def read_data_dir(file: Path) -> Path | None:
    """Return ``data_dir`` as the file says it, or its default; None if the file cannot be read."""
    from postroad.config.load import LOCAL_DATA, SYSTEM_DATA

    try:
        text = file.read_bytes().decode("utf-8-sig", "replace")
    except OSError:
        return None
    try:
        said: list[str] = [tree["data_dir"] for tree in file_tables(file) if isinstance(tree.get("data_dir"), str)]
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        before_tables = _TABLE.split(text, maxsplit=1)[0]
        said = [match[1] or match[2] for match in _DATA_DIR.finditer(before_tables)]
    if said:
        return file.parent / said[0]
    return Path(SYSTEM_DATA) if file.is_relative_to("/etc") else file.parent / LOCAL_DATA
