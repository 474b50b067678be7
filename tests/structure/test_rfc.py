"""docs/rfc.toml and the citations in the code tell the same.

The form is "RFC 5321 section 4.5.3.1", or the number alone where a document is named in passing. What the code cites
with a section it follows, so the list may not say "no"; what the list claims, the code must cite.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from tests.structure.source import ROOT, SOURCE, shown

LIST = ROOT / "docs" / "rfc.toml"
STATUSES = {"yes", "partial", "no"}
SUFFIXES = {".py", ".sql", ".toml"}

NAMED = re.compile(r"\bRFC (\d{3,5})\b")
CITED = re.compile(r"\bRFC (\d{3,5}) section ((?:[A-Z]\.)?[0-9A-Z]+(?:\.[0-9]+)*)")
MISSPELT = re.compile(
    r"\bRFC-?\d{3,5}\b"  # RFC5321
    r"|\bRFC \d{3,5},? (?:§|[Ss]ec\.|[Ss]ect\.|Section\b|sections\b|\d)"  # RFC 5321 §4, RFC 5321 4.5
    r"|\bRFC \d{3,5}(?:,|'s) section\b"
    r"|\brfc \d{3,5}\b"
    r"|§"
)


def flat(text: str) -> str:
    """Lines joined, comment signs taken off, so that a citation may be broken over two lines."""
    return re.sub(r"\s*\n\s*(?:#:?|--)?\s*", " ", text)


def listed() -> dict[str, dict[str, str]]:
    return tomllib.loads(LIST.read_text(encoding="utf-8"))


def sources() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*") if path.suffix in SUFFIXES)


def citations(pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """RFC number -> the files that the pattern finds it in."""
    found = defaultdict(list)
    for path in sources():
        for match in pattern.finditer(flat(path.read_text(encoding="utf-8"))):
            found[match[1]].append(shown(path))
    return found


@pytest.mark.parametrize("path", sources(), ids=shown)
def test_citations_have_the_one_form(path: Path) -> None:
    wrong = [match[0] for match in MISSPELT.finditer(flat(path.read_text(encoding="utf-8")))]
    assert wrong == [], 'write "RFC 5321 section 4.5.3.1"'


def test_every_rfc_in_the_code_is_listed() -> None:
    missing = {number: files[0] for number, files in citations(NAMED).items() if number not in listed()}
    assert missing == {}, "add them to docs/rfc.toml with title, status (yes, partial, no) and, but for yes, a reason"


def test_what_the_list_claims_the_code_cites() -> None:
    cited = citations(CITED)
    uncited = [number for number, entry in listed().items() if entry["status"] != "no" and number not in cited]
    assert uncited == [], (
        'cite it where it is implemented, as "RFC NNNN section x.y", or set status = "no" with a reason'
    )


def test_what_the_code_follows_the_list_does_not_deny() -> None:
    denied = {
        number: files[0] for number, files in citations(CITED).items() if listed().get(number, {}).get("status") == "no"
    }
    assert denied == {}, (
        'the code cites a section of it: set status = "yes" or "partial" in docs/rfc.toml, mend the reason'
    )


def test_the_list_is_well_formed() -> None:
    for number, entry in listed().items():
        assert number.isdecimal(), f"[{number}] is not an RFC's number"
        assert entry.keys() <= {"title", "status", "reason"}, f"[{number}] has other keys"
        assert entry.get("title"), f"[{number}] has no title"
        assert entry.get("status") in STATUSES, f"[{number}]: status is one of {sorted(STATUSES)}"
        assert entry["status"] == "yes" or entry.get("reason"), f"[{number}]: {entry['status']} needs a reason"


@pytest.mark.parametrize(
    "text",
    ["RFC5321", "RFC 5321, section 4", "RFC 5321 Section 4", "RFC 5321 4.5", "RFC 5321 §4", "rfc 5321", "RFC-5321"],
)
def test_another_form_is_seen(text: str) -> None:
    assert MISSPELT.search(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("RFC 5321 section 4.5.3.1.", "5321"),
        ("(RFC 2920\n    # section 3.1)", "2920"),
        ("RFC 3848\nsection 2", "3848"),
        ("-- RFC 6533\n-- section 4", "6533"),
        ("RFC 5321 section A.1", "5321"),
    ],
)
def test_the_one_form_is_read(text: str, number: str) -> None:
    assert not MISSPELT.search(flat(text))
    match = CITED.search(flat(text))
    assert match
    assert match[1] == number


def test_addr_types_and_media_types_are_no_citations() -> None:
    assert not MISSPELT.search("rfc822;user@example.org in text/rfc822-headers, dialogs/rfc5321-4.1.4-x.smtp")
