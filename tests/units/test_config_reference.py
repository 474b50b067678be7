"""The reference page is what the model says, every line says something, and the sample says what holds without it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from postroad.config.kinds import Table
from postroad.config.load import load_text
from postroad.config.model import Settings
from postroad.config.reference import LATER_TEXT, reference, sample
from postroad.config.review import fields_of, kind_of, mark, shape_of
from postroad.config.routes import Retry, RetryChange

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def lines_of(model: type[Table], name: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every line of the model, by its full name."""
    for key, field in fields_of(model).items():
        shape = shape_of(field)
        yield f"{name}{key}", field
        if shape is not None:
            yield from lines_of(shape[1], f"{name}{key}.")


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: postroad config docs > docs/reference/settings.md"


@pytest.mark.parametrize("name", dict(lines_of(Settings)))
def test_every_line_says_what_it_means(name: str) -> None:
    field = dict(lines_of(Settings))[name]
    shape = shape_of(field)
    meaning = field.description or (shape and shape[1].__doc__)
    assert meaning
    assert meaning.rstrip().endswith(".")


def test_every_number_has_a_unit() -> None:
    numbers = {name: field for name, field in lines_of(Settings) if field.annotation in (int, float)}
    assert len(numbers) > 20
    assert [name for name, field in numbers.items() if not (mark(field, "unit") or kind_of(field))] == []


def test_the_page_has_every_key_and_marks_what_is_not_built() -> None:
    text = reference()
    for header in ("[[listener]]", "[tls]", "[[tls.certificate]]", "[next_hop.NAME]", "[relay.after_pop]", "[cluster]"):
        assert f"## `{header}`\n" in text
    assert (
        f"| `proxy_protocol_from` | list of network | `[]` | PROXY accepted, and required, from these. *{LATER_TEXT}* |"
        in text
    )
    assert re.search(r"## `\[\[filter\]\]`\n\n[^\n]*\n\n\*Not in this version\.\*\n", text)
    assert "| `workers` | processes from 1 to 64 | the usable cores, by affinity and cgroup quota |" in text
    assert "*Not in this version: auto, dane.*" in text


def test_the_sample_says_what_holds_without_it() -> None:
    assert load_text(sample()).settings == load_text("").settings


def test_the_examples_of_the_sample_are_right_too() -> None:
    """A key right behind a "#" is an example: taken as it stands, all of them together load."""
    loaded = load_text(re.sub(r"(?m)^#(?! |$)", "", sample()))
    settings = loaded.settings
    assert (len(settings.route), len(settings.destination), len(settings.tls.certificate)) == (1, 1, 1)
    assert list(settings.next_hop) == ["provider-a"]


def test_the_sample_leaves_out_what_is_not_built() -> None:
    assert "after_pop" not in sample()
    assert "xclient" not in sample()
    assert "rewrite" not in sample()


def test_a_change_of_retry_has_the_bounds_of_retry() -> None:
    whole, change = fields_of(Retry), fields_of(RetryChange)
    assert whole.keys() == change.keys()
    for key, field in whole.items():
        assert (mark(field, "least"), mark(field, "most")) == (mark(change[key], "least"), mark(change[key], "most"))
