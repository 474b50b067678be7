"""Passwords as people type them: asked for twice, kept only as what is made of them; files of users."""

from __future__ import annotations

import asyncio
import getpass
import io
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.units.test_access_credentials import ARGON, DOVECOT, RFC_7677
from tests.units.test_cli_cases import CONFIG, Script, said

from postroad.access.book import TABLE, known_user
from postroad.access.credentials import Credential, matches, parse_credential, scheme_of
from postroad.cli.user_file import parse_user_file
from postroad.cli.user_password import Scheme, new_credential
from postroad.outbound.steering import ControlRefused

PASSWORD = "correct horse"


class Terminal(io.StringIO):
    """Standard input of somebody who sits there."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROAD_CONFIG", str(CONFIG))


def types(monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[str]:
    """Have somebody type passwords; return what is asked of him."""
    asked: list[str] = []
    left = list(lines)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        if not left:
            raise EOFError
        return left.pop(0)

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", answer)
    return asked


def kept(script: Script, name: str) -> Credential:
    """What the relay has of a user's password."""
    row = asyncio.run(script._relay.users._records.get(TABLE, name))
    assert row is not None
    return known_user(row).credential


def test_it_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = types(monkeypatch, PASSWORD, PASSWORD)
    script = Script()
    lines = said(["user", "add", "bob"], script.house())
    assert lines == ["Added bob (SCRAM-SHA-256): scopes relay; sends as anybody."]
    assert len(asked) == 2
    assert matches(kept(script, "bob"), PASSWORD)


@pytest.mark.parametrize(
    ("typed", "why"),
    [((PASSWORD, "correct horsf"), "not the same"), ((PASSWORD,), "No password"), (("short", "short"), "at least 8")],
)
def test_what_was_not_typed_well_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, typed: Iterable[str], why: str
) -> None:
    types(monkeypatch, *typed)
    script = Script()
    lines = said(["user", "add", "bob"], script.house())
    assert why in lines[0]
    assert lines[-1] == "exit 1"
    assert "horse" not in "".join(lines)
    assert script.steering.asked == []


@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nsecond line\n"])
def test_standard_input_is_one_line(monkeypatch: pytest.MonkeyPatch, scheme: Scheme, end: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f" {PASSWORD} {end}"))
    made = parse_credential(new_credential(scheme, from_stdin=True))
    assert matches(made, f" {PASSWORD} ")
    assert scheme_of(made) == {"scram": "SCRAM-SHA-256", "argon2id": "argon2id"}[scheme]


def test_two_of_one_password_are_not_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    made = set()
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", io.StringIO(PASSWORD))
        made.add(new_credential(Scheme.SCRAM, from_stdin=True))
    assert len(made) == 2


@pytest.mark.parametrize("octets", [b"", b"short", b"\xff\xfe correct horse", b"x" * 2000, b"tab\tand bell\a"])
def test_what_can_be_no_password_is_refused(monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets), encoding="utf-8"))
    with pytest.raises(ControlRefused) as refused:
        new_credential(Scheme.SCRAM, from_stdin=True)
    assert "horse" not in refused.value.text
    assert "bell" not in refused.value.text


def test_a_new_password_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    script.set("there are users")
    types(monkeypatch, PASSWORD, PASSWORD)
    assert said(["user", "password", "alice", "--scheme", "argon2id"], script.house())[-1].startswith("New password")
    made = kept(script, "alice")
    assert (scheme_of(made), matches(made, PASSWORD), matches(made, "pencil")) == ("argon2id", True, False)


def test_lines_of_a_file() -> None:
    text = f"# a comment\r\n\r\nalice:{DOVECOT}:1000:1000::/:\r\nbob:{ARGON}\ncarol:{RFC_7677}\n  \ndave\n:{ARGON}\n"
    lines = list(parse_user_file(text))
    assert [(line.number, line.name, bool(line.wrong)) for line in lines] == [
        (3, "alice", False),
        (4, "bob", False),
        (5, "carol", False),
        (7, "", True),
        (8, "", True),
    ]
    assert [line.credential for line in lines[:3]] == [RFC_7677, ARGON, RFC_7677]
    assert "W22Z" not in repr(lines)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "users").write_bytes(b"alice:\xff\n")
    lines = said(["user", "import", str(tmp_path / "users")], Script().house())
    assert lines[-1] == "exit 1"
    assert "is not UTF-8" in lines[0]


def test_what_was_imported_logs_in() -> None:
    script = Script()
    said(["user", "import", "tests/cases/cli/users.htpasswd"], script.house())
    assert matches(kept(script, "carol"), "pencil")
    assert matches(kept(script, "dave"), "password")
