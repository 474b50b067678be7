"""Bugs put in on purpose, and how many seeds it takes until the judge sees each.

Owns: applying a mutant to a copy of the source and running seeds on it in a process of its own. The bugs stand in
mutant_list.py, and as patches in tests/sim/mutants (anybody may add some, best without having read the simulation).
One that is not found is a defect of the simulation. Does not own: the working copy, which is never changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from postroad.testing.sim.book import ITSELF
from postroad.testing.sim.mutant_list import HARMLESS, MUTANTS, Mutant

SOURCE: Final = Path(__file__).resolve().parents[3]
PATCHES: Final = SOURCE.parent / "tests" / "sim" / "mutants"
_BROKE: Final = re.compile(r"^seed (\d+) broke: (.*)$", re.MULTILINE)


class Hunt(msgspec.Struct, frozen=True, kw_only=True):
    """How to look."""

    seeds: int
    """At most so many."""
    letters: int
    first: int = 1
    """Seed to begin with."""
    jobs: int = 1
    """Processes that play."""

    @property
    def range(self) -> str:
        """The seeds, as ``run`` takes them."""
        return f"{self.first}-{self.first + self.seeds - 1}"

    @property
    def arguments(self) -> list[str]:
        """What a process that looks is told."""
        return ["run", self.range, "--stop", "--brief", "--letters", str(self.letters), "--jobs", str(self.jobs)]


class Found(msgspec.Struct, frozen=True):
    """What came of one mutant."""

    name: str
    seed: int
    """The first one found that breaks a law; with one process the first there is. 0: it was not found."""
    law: str
    seconds: float
    trouble: str = ""


def apply(mutant: Mutant, source: Path) -> str:
    """Change the copy; return what is wrong with the mutant, empty if it applies."""
    for path, old, new in mutant.edits:
        file = source / "postroad" / path
        text = file.read_text()
        if text.count(old) != 1:
            return f"{path} has what is to be replaced {text.count(old)} times"
        file.write_text(text.replace(old, new))
    return ""


def patch(file: Path, source: Path) -> str:
    """Apply a patch (made with a/src/postroad/... paths) to the copy."""
    command = ["patch", "--quiet", "--batch", "-p2", "-d", str(source)]
    done = subprocess.run(command, input=file.read_bytes(), capture_output=True, check=False)  # noqa: S603
    return "" if done.returncode == 0 else done.stdout.decode().strip()[:200] or "the patch does not apply"


def hunt(name: str, change: Callable[[Path], str], how: Hunt) -> Found:
    """Look for one bug."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="postroad-mutant-") as directory:
        copy = Path(directory) / "src"
        shutil.copytree(SOURCE / "postroad", copy / "postroad", ignore=shutil.ignore_patterns("__pycache__"))
        if trouble := change(copy):
            return Found(name, 0, "", 0.0, trouble)
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "postroad.testing.sim", *how.arguments]
        done = subprocess.run(  # noqa: S603
            command, env=environment, cwd=directory, capture_output=True, text=True, check=False
        )
    return what_came(name, done.stdout, done.stderr, done.returncode, time.monotonic() - began)


def what_came(name: str, said: str, complained: str, status: int, seconds: float) -> Found:
    """Read what a run said. One that the simulation itself cannot play shows nothing of the judge: it is not found."""
    broken = [(int(seed), law) for seed, law in _BROKE.findall(said)]
    for seed, law in broken:
        if ITSELF not in law:
            return Found(name, seed, law[:150], seconds)
    if broken:
        lines = said.partition(ITSELF)[2].strip().splitlines()  # of a traceback the last tells most
        return Found(name, 0, "", seconds, f"{ITSELF}: {lines[-1].strip(': ')[:200]}")
    if status != 0:
        lines = complained.strip().splitlines() or ["it ended without a word"]
        return Found(name, 0, "", seconds, lines[-1][:200])
    return Found(name, 0, "", seconds)


def all_mutants() -> dict[str, Callable[[Path], str]]:
    """Return how to make each, by name: those of the list, and the patches."""
    found: dict[str, Callable[[Path], str]] = {}
    for mutant in MUTANTS:
        found[mutant.name] = lambda source, one=mutant: apply(one, source)  # type: ignore[misc]
    for file in sorted(PATCHES.glob("*.patch")):
        found[file.stem] = lambda source, one=file: patch(one, source)  # type: ignore[misc]
    return found


def hunt_all(names: Iterable[str], how: Hunt, *, say: Callable[[str], None]) -> int:
    """Look for all, or for the named ones, but for those that can do no harm; 1 if one was not found."""
    missing = 0
    known = all_mutants()
    for name in list(names) or list(known):
        if name in HARMLESS:
            say(f"{name:36} DOES NO HARM: {HARMLESS[name]}")
            continue
        found = hunt(name, known[name], how)
        if found.trouble:
            say(f"{name:36} CANNOT RUN: {found.trouble}")
        elif found.seed:
            say(f"{name:36} found with seed {found.seed:>5} in {found.seconds:5.0f} s: {found.law}")
        else:
            say(f"{name:36} NOT FOUND in seeds {how.range}, {found.seconds:.0f} s")
        missing += not found.seed
    return 1 if missing else 0
