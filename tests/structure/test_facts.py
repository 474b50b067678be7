"""A kind of fact that is added to core/facts.py is visible everywhere, or a test says where it is not."""

from __future__ import annotations

from tests.structure.source import ROOT

from postroad.core import facts
from postroad.observe.kinds import KINDS
from postroad.observe.reference import reference
from postroad.observe.telling import _WORDS


def test_every_kind_of_fact_has_its_line_in_the_table() -> None:
    assert set(KINDS) == set(facts.KINDS), "observe/kinds.py: level, stored or not, what is counted"


def test_every_kind_of_fact_has_words_for_people() -> None:
    assert set(_WORDS) == set(facts.KINDS), "observe/telling.py: what `postroad trace` says"


def test_the_page_is_what_the_definitions_say() -> None:
    page = ROOT / "docs" / "reference" / "facts.md"
    assert page.read_text(encoding="utf-8") == reference(), (
        "python -m postroad.observe.reference > docs/reference/facts.md"
    )
