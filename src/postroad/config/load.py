"""From files to settings: find the file, follow `include`, say everything that is wrong at once.

Owns: the search for the file, the defaults that depend on it, the sandbox, joining
files, and turning each finding into a SettingError with file, line and key. Does not
own: what is right (model.py and its parsers). The only file of this package that
reads files; the environment and the host name are arguments.
Search order and sandbox are part of the command line contract: change them together.
"""

from __future__ import annotations

import glob
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from postroad.config.addresses import parse_host_name
from postroad.config.errors import KeyPath, Place, SettingError, SettingsError
from postroad.config.find import SYSTEM_FILE, exists, find_file, unreadable
from postroad.config.kinds import FROM_TOML, Finding
from postroad.config.locate import locate
from postroad.config.model import Settings
from postroad.config.review import review
from postroad.config.tree import Node, build, join, label, nearest, plain, prune, take_out
from postroad.config.wording import sentence

SYSTEM_DATA: Final = "/var/lib/postroad"
LOCAL_DATA: Final = "postroad-data"

SANDBOX: Final = f"""
[[listener]]
name = "sandbox"
address = "127.0.0.1:2525"
role = "submission"
tls = "starttls"

[relay]
networks = ["127.0.0.0/8", "::1/128"]

[http]
address = "127.0.0.1:8025"

[[route]]
to = "*"
via = "maildir:./{LOCAL_DATA}/mail/{{address}}"
"""
"""What runs where there is no configuration file: it takes mail from this machine and keeps it here."""

_TOML_LINE: Final = re.compile(r" \(at line (\d+), column (\d+)\)")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where they come from.

    ``sources`` has the places of each key that a file sets, by its path; a key that is not in it has
    its default. ``files`` are those read, the main one first; none: the sandbox.
    """

    settings: Settings
    files: tuple[Path, ...]
    sources: Mapping[KeyPath, tuple[Place, ...]]

    @property
    def is_sandbox(self) -> bool:
        return not self.files


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str],
    hostname: str,
    directory: Path,
    system_file: Path = SYSTEM_FILE,
    cores: int = 1,
) -> Loaded:
    """Find the configuration and return its settings.

    The file is ``path`` (from the command line), else ``$POSTROAD_CONFIG``, else postroad.toml in ``directory``
    (where we were started), else ``system_file``, else none: the sandbox. ``hostname`` is what
    this machine calls itself, ``cores`` how many it lets us use.

    Raises:
        SettingsError: something is wrong; it holds everything that is.
    """
    file = find_file(path, environment=environment, directory=directory, system_file=system_file)
    if file is None:
        return _sandbox(hostname, directory.absolute(), cores)
    return _Loader(hostname, cores).load(file)


def load_text(text: str, *, hostname: str = "relay.example.org", file: Path = Path("/postroad.toml")) -> Loaded:
    """Return the settings that ``text`` would give if it stood in ``file``. `include` is read from disk.

    Raises:
        SettingsError: as of load.
    """
    return _Loader(hostname).load(file, text)


def _sandbox(hostname: str, directory: Path, cores: int) -> Loaded:
    """Return the built-in settings. They work on every machine, whatever its name."""
    root = _without_places(build(tomllib.loads(SANDBOX), directory, {}))
    try:
        parse_host_name(hostname)
    except ValueError:
        hostname = "localhost"
    root.value |= {"hostname": Node(hostname), "data_dir": Node(str(directory / LOCAL_DATA)), "workers": Node(cores)}
    return _Loader(hostname).check(root, directory)


def _without_places(node: Node) -> Node:
    node.places = ()
    children = node.value.values() if isinstance(node.value, dict) else node.value
    for child in children if isinstance(node.value, (dict, list)) else ():
        _without_places(child)
    return node


class _Loader:
    """Loads one configuration; collects what is wrong on the way."""

    def __init__(self, hostname: str, cores: int = 1) -> None:
        self._hostname = hostname
        self._cores = cores
        self._problems: list[SettingError] = []
        self._files: list[Path] = []

    def load(self, file: Path, text: str | None = None) -> Loaded:
        root = self._read(file, text)
        if root is None:
            raise SettingsError(self._problems)
        self._include(root, file, (file.resolve(),))
        root.value.setdefault("hostname", Node(self._hostname))
        data_dir = SYSTEM_DATA if file.is_relative_to("/etc") else str(file.parent / LOCAL_DATA)
        root.value.setdefault("data_dir", Node(data_dir))
        root.value.setdefault("workers", Node(self._cores))
        return self.check(root, file.parent)

    def check(self, root: Node, base: Path) -> Loaded:
        """Return the settings that the tree holds, or raise everything that is wrong with it."""
        reviewed = review(root, base)
        self._problems += [problem for _, problem in reviewed]
        prune(root)
        settings = self._validate(root, {path for path, _ in reviewed})
        if self._problems or settings is None:
            raise SettingsError(sorted(self._problems, key=self._order))
        return Loaded(settings, tuple(self._files), dict(_sources(root, ())))

    def _read(self, file: Path, text: str | None) -> Node | None:
        self._files.append(file)
        try:
            text = _decoded(file.read_bytes()) if text is None else text
            return build(tomllib.loads(text), file, locate(text))
        except OSError as error:
            self._problems.append(unreadable(file, error))
        except tomllib.TOMLDecodeError as error:
            self._problems.append(_syntax_error(file, str(error)))
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._problems.append(SettingError("This line is not UTF-8.", place=Place(file, line)))
        return None

    def _include(self, root: Node, file: Path, above: tuple[Path, ...]) -> None:
        """Join what the tree of ``file`` includes to it. ``above``: the files on the way here."""
        include = root.value.get("include")
        if include is None or not isinstance(include.value, list):
            return  # a wrong type is the model's to report
        for wanted in list(include.value):
            if not isinstance(wanted.value, str):
                continue
            for included in self._matching(wanted, file):
                known = included.resolve()
                if known in above or known in {read.resolve() for read in self._files}:
                    text = f"{included} includes itself." if known in above else f"{included} is included twice."
                    self._problems.append(SettingError(text, key="include", place=wanted.place))
                elif (tree := self._read(included, None)) is not None:
                    self._include(tree, included, (*above, known))
                    join(root, tree, (), self._problems)

    def _matching(self, wanted: Node, file: Path) -> list[Path]:
        pattern = str(file.parent / wanted.value)
        if glob.has_magic(wanted.value):
            return [Path(found) for found in sorted(glob.glob(pattern, recursive=True))]
        if exists(Path(pattern)):
            return [Path(pattern)]
        self._problems.append(SettingError(f"There is no file {pattern}.", key="include", place=wanted.place))
        return []

    def _validate(self, root: Node, faulty: set[KeyPath]) -> Settings | None:
        """Validate until nothing new is found: what is wrong is taken out, so that the rest is looked at too."""
        while True:
            try:
                return Settings.model_validate(plain(root), context=FROM_TOML)
            except ValidationError as error:
                findings = list(_findings(error))
            for finding in findings:
                if not _follows(finding, root, faulty):
                    self._report(finding.at, root, finding.text)
            for finding in findings:
                if (found := take_out(root, finding.at)) == ():
                    return None
                faulty.add(found)
            prune(root)

    def _report(self, path: KeyPath, root: Node, text: str) -> None:
        found, node = nearest(root, path)
        place = node.place or (Place(self._files[0]) if self._files else None)
        self._problems.append(SettingError(text, key=label(path, node if found == path else None), place=place))

    def _order(self, problem: SettingError) -> tuple[int, int]:
        if problem.file not in self._files:
            return (-1, 0)
        return (self._files.index(problem.file), problem.line or 0)


def _findings(error: ValidationError) -> Iterator[Finding]:
    """Yield what is wrong, with paths from the top."""
    for details in error.errors():
        loc = details["loc"]
        findings: tuple[Finding, ...] = details.get("ctx", {}).get("findings", ())
        for finding in findings:
            whole = (loc,) if finding.whole else ()
            yield Finding((*loc, *finding.at), finding.text, depends=(*finding.depends, *whole))
        if details["type"] == "missing":
            yield Finding(loc[:-1], sentence(details), depends=(loc[:-1],))
        elif not findings:
            yield Finding(loc, sentence(details))


def _follows(finding: Finding, root: Node, faulty: set[KeyPath]) -> bool:
    """True if it may only be so because of what was found, and taken out, before."""
    for path in finding.depends:
        found, node = nearest(root, path)
        if found == path and node.faulty:
            return True
        if found != path and any(gone[: len(path)] == path for gone in faulty):
            return True
    return False


def _sources(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, tuple[Place, ...]]]:
    """Yield the places of each value that files set; a list of scalars is one value."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from _sources(child, (*path, key))
    elif isinstance(node.value, list) and any(isinstance(child.value, dict) for child in node.value):
        for index, child in enumerate(node.value):
            yield from _sources(child, (*path, index))
    elif node.places:
        yield path, node.places


def _decoded(octets: bytes) -> str:
    return octets.decode("utf-8-sig")


def _syntax_error(file: Path, text: str) -> SettingError:
    found = _TOML_LINE.search(text)
    line = int(found[1]) if found else None
    said = _TOML_LINE.sub("", text)
    column = f" (column {found[2]})" if found else ""
    return SettingError(f"This is not TOML: {said[0].lower()}{said[1:]}{column}.", place=Place(file, line))
