"""The values of the files as one tree in which every value knows where it stands.

Owns: building the tree of one file, joining those of several, finding and taking
out a value, naming a key as its writer did. Does not own: what a key means
(config/review.py) or reading files (config/load.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from postroad.config.errors import KeyPath, Place, SettingError

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(slots=True, eq=False)
class Node:
    """One value: a table (dict), an array (list) or a scalar. ``places`` is empty for what we set ourselves.

    A list or table that was joined has a place for each part. ``gone``: refused, to be pruned; ``faulty``: a
    table or list from which something was taken out, perhaps what is now missing.
    """

    value: Any  # dict[str, Node], list[Node] or a scalar of TOML
    places: tuple[Place, ...] = ()
    gone: bool = False
    faulty: bool = False

    @property
    def place(self) -> Place | None:
        return self.places[0] if self.places else None


def build(value: Any, file: Path, lines: Mapping[KeyPath, int], path: KeyPath = ()) -> Node:
    """Return the tree of one parsed file."""
    places = (Place(file, lines.get(path)),)
    if isinstance(value, dict):
        return Node({key: build(child, file, lines, (*path, key)) for key, child in value.items()}, places)
    if isinstance(value, list):
        return Node([build(child, file, lines, (*path, index)) for index, child in enumerate(value)], places)
    return Node(value, places)


def join(first: Node, second: Node, path: KeyPath, problems: list[SettingError]) -> None:
    """Add ``second`` to ``first``: tables by key, lists one after the other. A scalar has only one place."""
    if isinstance(first.value, dict) and isinstance(second.value, dict):
        first.places += second.places
        for key, child in second.value.items():
            if key in first.value:
                join(first.value[key], child, (*path, key), problems)
            else:
                first.value[key] = child
    elif isinstance(first.value, list) and isinstance(second.value, list):
        first.places += second.places
        first.value += second.value
    else:
        text = f"It is set in {first.place} too. Set it once."
        problems.append(SettingError(text, key=label(path, second), place=second.place))


def plain(node: Node) -> Any:
    """Return the value without its places; arrays become tuples."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return tuple(plain(child) for child in node.value)
    return node.value


def nearest(root: Node, path: KeyPath) -> tuple[KeyPath, Node]:
    """Return the value at ``path``, or the innermost one around it, and its path."""
    node = root
    for depth, key in enumerate(path):
        match node.value:
            case dict() as table if key in table:
                node = table[key]
            case list() as array if isinstance(key, int) and key < len(array):
                node = array[key]
            case _:
                return path[:depth], node
    return path, node


def take_out(root: Node, path: KeyPath) -> KeyPath:
    """Mark what stands at ``path``, or around it, as gone and all above it as faulty; return its path."""
    found, node = nearest(root, path)
    node.gone = True
    for depth in range(len(found)):
        nearest(root, found[:depth])[1].faulty = True
    return found


def prune(node: Node) -> None:
    """Take out what is ``gone``."""
    if isinstance(node.value, dict):
        node.value = {key: child for key, child in node.value.items() if not child.gone}
        children: Iterable[Node] = node.value.values()
    elif isinstance(node.value, list):
        node.value = children = [child for child in node.value if not child.gone]
    else:
        return
    for child in children:
        prune(child)


def label(path: KeyPath, node: Node | None = None) -> str:
    """Return how a file writes the key: "hostname", "[limits] errors", "[[listener]] address", "[[route]] retry.first".

    ``node`` is what stands there; it tells a table from a key.
    """
    if any(isinstance(key, int) for key in path[:-1]):  # within one of several, where tables are written inline
        return _key_label(path if isinstance(path[-1], str) else path[:-1])
    if path and isinstance(path[-1], int):
        of_tables = node is not None and isinstance(node.value, dict)
        return f"[[{_dotted(path)}]]" if of_tables else label(path[:-1])
    if node is not None and isinstance(node.value, dict):
        return f"[{_dotted(path)}]"
    if node is not None and isinstance(node.value, list) and any(isinstance(child.value, dict) for child in node.value):
        return f"[[{_dotted(path)}]]"
    return _key_label(path)


def _key_label(path: KeyPath) -> str:
    last_index = max((place for place, key in enumerate(path) if isinstance(key, int)), default=None)
    if last_index is not None:
        return f"[[{_dotted(path[:last_index])}]] {_dotted(path[last_index:])}".rstrip()
    if len(path) == 1:
        return _dotted(path)
    return f"[{_dotted(path[:-1])}] {_dotted(path[-1:])}"


def _dotted(path: KeyPath) -> str:
    return ".".join(key if _BARE_KEY.fullmatch(key) else f'"{key}"' for key in path if isinstance(key, str))
