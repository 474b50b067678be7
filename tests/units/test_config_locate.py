"""Where keys stand, in the forms of TOML that could lead astray."""

from __future__ import annotations

import pytest

from postroad.config.locate import locate

TEXT = '''\
# a = 1
a = 1
"quoted # key" = 2
text = """
b = 3
[c]
"""
literal = \'\'\'
[[d]]\'\'\'
list = [
  "x",  # , "y"
  { in = 1, line = [
    2 ] },
  [],
]
dotted.key . deep = true

[table]
a = 1979-05-27 07:32:00
[table.inner."x.y"]
a = { }
[[array]]
a = '#'
[array.inner]
b = 1
[[array]]
  [[array.nested]]
  c = 1
  [[array.nested]]
  c = 2
'''


def test_the_lines() -> None:
    assert locate(TEXT) == {
        ("a",): 2,
        ("quoted # key",): 3,
        ("text",): 4,
        ("literal",): 8,
        ("list",): 10,
        ("list", 0): 11,
        ("list", 1): 12,
        ("list", 1, "in"): 12,
        ("list", 1, "line"): 12,
        ("list", 1, "line", 0): 13,
        ("list", 2): 14,
        ("dotted",): 16,
        ("dotted", "key"): 16,
        ("dotted", "key", "deep"): 16,
        ("table",): 18,
        ("table", "a"): 19,
        ("table", "inner"): 20,
        ("table", "inner", "x.y"): 20,
        ("table", "inner", "x.y", "a"): 21,
        ("array",): 22,
        ("array", 0): 22,
        ("array", 0, "a"): 23,
        ("array", 0, "inner"): 24,
        ("array", 0, "inner", "b"): 25,
        ("array", 1): 26,
        ("array", 1, "nested"): 27,
        ("array", 1, "nested", 0): 27,
        ("array", 1, "nested", 0, "c"): 28,
        ("array", 1, "nested", 1): 29,
        ("array", 1, "nested", 1, "c"): 30,
    }


def test_line_ends_of_another_system() -> None:
    assert locate(TEXT.replace("\n", "\r\n")) == locate(TEXT)


def test_no_text() -> None:
    assert locate("") == {}
    assert locate("# nothing") == {}
    assert locate("a = 1") == {("a",): 1}


NO_TOML = ["a = }", "a = 1\n= 2", "a = [,", "a = [1 }", "a = { b", 'a = "', "[", "a", "a =", "[a"]


@pytest.mark.parametrize("text", NO_TOML)
def test_it_ends_at_what_is_no_toml(text: str) -> None:
    """tomllib refuses these first; should it not, there are fewer lines, and no loop without end."""
    assert set(locate(text)) <= {("a",), ("a", 0), ("a", 1), ("a", "b")}


def test_many_lines_are_read_once() -> None:
    """Lines are counted as the scanner moves on, not from the start for each key."""
    found = locate("".join(f"[[route]]\nto = 'd{number}.example'\n" for number in range(5000)))
    assert found[("route", 4999, "to")] == 10_000
