"""Law: the locator finds exactly the keys that tomllib finds, each on a line where it stands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from postroad.config.errors import KeyPath
from postroad.config.locate import locate

# Words that look like TOML where they are none: in strings, comments and quoted keys.
KEYS = ["a", "b-1", "c_d", "1", '"a.b"', "'='", '"[x]"', '"\\u0041"', "'#'", '""', "x . y", 'a."b c"', "true"]
SCALARS = [
    *("1", "-0x1F", "1.5e3", "inf", "true", "1979-05-27 07:32:00", "07:32:00", '""', "''", '"a # b"', "'c = [1]'"),
    *('"\\"]"', '"\\\\"', "'\\'", '"""\n[x]\nk = 1\n"""', "'''\n# \"\"\" \n'''", '"""a""b\\""""', '"""""x"""""'),
    *("''''x'''''", '"""\\\n   folded"""', '"""a\\\\"""', "'''a''b'''", '"""\\"""\n[x]\n"""'),
]
BLANKS = ["", " ", "\t", "\n", " # ] } = \" ' \n", "\n\n", " # [x]\n  "]

blank = st.sampled_from(BLANKS)
line_blank = st.sampled_from(["", " ", "\t"])
key = st.sampled_from(KEYS)


def is_valid(value: str) -> bool:
    try:
        tomllib.loads(f"k = {value}")
    except tomllib.TOMLDecodeError:
        return False
    return True


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    elements = st.tuples(blank, inner, blank).map("".join)
    pairs = st.tuples(key, line_blank, inner).map(lambda pair: f" {pair[0]}{pair[1]}= {pair[2]} ")
    return st.one_of(
        st.lists(elements, max_size=3).map(lambda parts: f"[{','.join(parts)}]"),
        st.lists(elements, min_size=1, max_size=2).map(lambda parts: f"[{','.join(parts)},]"),
        st.lists(pairs, max_size=3).map(lambda parts: f"{{{','.join(parts)}}}"),
    )


values = st.recursive(st.sampled_from(SCALARS), containers, max_leaves=6).filter(is_valid)
pair_lines = st.builds(lambda name, gap, value: f"{name}{gap}={gap}{value}", key, line_blank, values)
forms = st.sampled_from(["[{}]", "[[{}]]", "[ {} ]", "[[ {} ]]"])
headers = st.builds(lambda form, name: form.format(name), forms, key)
lines = st.one_of(
    pair_lines,
    headers,
    st.builds(lambda inner, outer: f"[{outer}.{inner}]", key, key),
    st.builds(lambda inner, outer: f"[[{outer}.{inner}]]", key, key),
    st.sampled_from(["", "# [[x]] y = 1", "  "]),
)


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from paths(child, (*path, key))


def valid(candidates: list[str], end: str) -> str:
    """Return as many of the lines as can stand one after the other in one file."""
    kept: list[str] = []
    for line in candidates:
        try:
            tomllib.loads("\n".join([*kept, line]))
        except tomllib.TOMLDecodeError:
            continue
        kept.append(line)
    return "\n".join(kept).replace("\n", end)


@given(st.lists(lines, max_size=10), st.sampled_from(["\n", "\r\n"]))
def test_the_locator_finds_what_tomllib_finds(candidates: list[str], end: str) -> None:
    text = valid(candidates, end)
    found = locate(text)
    assert set(found) == set(paths(tomllib.loads(text)))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


@given(st.lists(st.tuples(st.sampled_from(BLANKS), values), max_size=6))
def test_each_key_is_on_its_line(entries: list[tuple[str, str]]) -> None:
    """With names that occur once, the line that is found is the one that has the name."""
    text = "".join(f"{gap}\nmarker_{index} = {value}" for index, (gap, value) in enumerate(entries))
    lines_of_text = text.split("\n")
    found = {path[0]: line for path, line in locate(text).items() if len(path) == 1}
    assert len(found) == len(entries)
    for name, line in found.items():
        assert lines_of_text[line - 1].startswith(f"{name} = ")
