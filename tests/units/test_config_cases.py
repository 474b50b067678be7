"""Configurations in tests/cases/config: the exact messages of wrong ones, the effective values of right ones.

Each folder has postroad.toml (and what it includes), `expected`, `why`, and `hostname` where the machine is called
something else than relay.example.org. The folder itself is written "./". To see what the code says now in every
`expected`: python -m tests.units.test_config_cases, then look at the difference before you commit it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from postroad.config.errors import SettingError, SettingsError
from postroad.config.explain import rows
from postroad.config.load import load
from postroad.config.toml import written

CASES = Path(__file__).parents[1] / "cases" / "config"
FOLDERS = sorted(path for path in CASES.iterdir() if path.is_dir())


def said(folder: Path) -> str:
    """What the loader says of a folder: problems, or what differs from the defaults and where that stands."""
    hostname = folder / "hostname"
    try:
        loaded = load(
            folder / "postroad.toml",
            environment={},
            hostname=hostname.read_text().strip() if hostname.exists() else "relay.example.org",
            directory=folder,
        )
    except SettingsError as error:
        text = str(error)
    else:
        text = "\n".join(f"{row.key} = {written(row.value)}  # {row.source}" for row in rows(loaded) if row.places)
    return text.replace(f"{folder}/", "./") + "\n"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_is_said(folder: Path) -> None:
    assert said(folder) == (folder / "expected").read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_problems_are_sentences_with_a_place(folder: Path) -> None:
    problems: tuple[SettingError, ...] = ()
    try:
        load(folder / "postroad.toml", environment={}, hostname="relay.example.org", directory=folder)
    except SettingsError as error:
        problems = error.problems
    assert [str(problem) for problem in problems if problem.text[-1] not in ".?" or problem.line is None] == []
    assert len(set(map(str, problems))) == len(problems)


def test_there_are_cases_of_both_kinds() -> None:
    right = [folder for folder in FOLDERS if "# " in (folder / "expected").read_text()]
    assert len(right) >= 4
    assert len(FOLDERS) - len(right) >= 20


if __name__ == "__main__":
    for folder in FOLDERS:
        (folder / "expected").write_text(said(folder))
