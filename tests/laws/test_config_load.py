"""Law: whatever TOML says, loading gives settings or sentences with a place, and never anything else."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.config.errors import SettingError, SettingsError
from postroad.config.explain import show
from postroad.config.load import load_text
from postroad.config.model import Settings
from postroad.config.review import NAMED, TABLE, fields_of, shape_of

FILE = Path("/x/postroad.toml")

# Real keys and real words, each as likely in the wrong place as in the right one.
TABLES = {key: shape for key, field in fields_of(Settings).items() if (shape := shape_of(field))}
TOP = [key for key in fields_of(Settings) if key != "include"]
KEYS = sorted({key for _, model in TABLES.values() for key in fields_of(model)})
WRONG_HEADS = ["[listener]", "[[limits]]", "[relay.after_pop]", '[next_hop."b c"]', "[x.y.z]", "[next_hop]"]
TEXTS = [
    *("", "*", "mx", "a", "off", "starttls", "lmtp", "submission", "refuse", "normalize", "required", "never", "1.2"),
    *(
        "0.0.0.0:25",
        "[::]:25",
        "unix:x",
        "unix:",
        "fd:3",
        "127.0.0.1",
        "::1",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "::ffff:0:0/96",
    ),
    *("example.org", "*.example.org", "a@example.org", "*@*", "<>", "@", "bücher.example", "xn--", "a..b", "[1.2.3.4]"),
    *("5m", "0s", "999999d", "10MiB", "1PiB", "600/min", "0/s", "smtp://a", "smtp://a:b@c", "lmtp://[::1]:24"),
    *("maildir:m/{user}", "maildir:{x}", "maildir:{", "lmtp+unix:s", "discard:", "reject:no", "reject:", "share"),
    *("\\u0000", "\\u001b[2J", "a\\nb", "\u2028", "é" * 60, "x" * 1500),
]
texts = st.sampled_from(TEXTS).map('"{}"'.format)
others = st.sampled_from(["true", "false", "0", "-1", "1", "25", "1e400", "nan", "2020-01-01"])


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    tables = st.dictionaries(st.sampled_from(["first", "share", "expire", "a"]), inner, max_size=2)
    return st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        tables.map(lambda found: "{ " + ", ".join(f"{key} = {value}" for key, value in found.items()) + " }"),
    )


values = st.recursive(st.one_of(texts, texts, texts, others), containers, max_leaves=3)
pairs = st.builds("{} = {}".format, st.sampled_from([*KEYS, *TOP, "hostnam", '"a b"', "a.b"]), values)


def head_of(key: str) -> str:
    form, _ = TABLES[key]
    return {TABLE: f"[{key}]", NAMED: f"[{key}.a]"}.get(form, f"[[{key}]]")


def section_of(key: str) -> st.SearchStrategy[str]:
    """One table with keys that it has, so that the law is not only about what is refused at once."""
    known = st.dictionaries(st.sampled_from(sorted(fields_of(TABLES[key][1])) or ["x"]), values, max_size=4)
    return known.map(lambda found: "\n".join([head_of(key), *(f"{name} = {value}" for name, value in found.items())]))


wild_heads = st.sampled_from([*map(head_of, TABLES), *WRONG_HEADS])
wild = st.builds(lambda head, lines: "\n".join([head, *lines]), wild_heads, st.lists(pairs, max_size=4))
tame = st.sampled_from(["listener", "relay", "next_hop", "route", "destination", "retry", "dns"]).flatmap(section_of)
tops = st.lists(st.builds("{} = {}".format, st.sampled_from(TOP), values), max_size=3).map("\n".join)


def trouble(problem: SettingError, lines: int) -> list[str]:
    """What is wrong with a message about what is wrong."""
    rules = {
        "names the file": problem.file == FILE,
        "names a line of it": problem.line is None or 1 <= problem.line <= lines,
        "is a sentence": problem.text.endswith((".", "?")),
        "can be printed": str(problem).isprintable(),
        "is short": len(str(problem)) < 1000,
    }
    return [f"{rule}: {problem}" for rule, kept in rules.items() if not kept]


@settings(max_examples=400)
@given(tops, st.lists(wild | tame | tame, max_size=5))
def test_settings_or_sentences(top: str, sections: list[str]) -> None:
    text = "\n".join([top, *sections])
    problems: tuple[SettingError, ...] = ()
    try:
        loaded = load_text(text, file=FILE)
    except SettingsError as error:
        problems = error.problems
        assert problems
    else:
        assert load_text(show(loaded), file=FILE).settings == loaded.settings
    lines = text.count("\n") + 1
    assert [line for problem in problems for line in trouble(problem, lines)] == []
