"""What all commands have in common: exit statuses, quick starts, which configuration is read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.units.test_cli_cases import Script, said

from postroad import __version__
from postroad.cli import machine
from postroad.cli.machine import machine_name

HEAVY = {"rich", "cryptography", "dns", "apsw", "uvloop", "idna", "smtplib", "postroad.config.model"}
"""What a command imports when it needs it. (typer brings pydantic along.)"""


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POSTROAD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def imported_by(code: str) -> set[str]:
    """Return the modules that are there after ``code`` has run in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_version_imports_nothing_heavy() -> None:
    code = (
        "sys.argv = ['postroad', 'version']\ntry:\n  from postroad.__main__ import main; main()\nexcept SystemExit: 0"
    )
    imported = imported_by(code)
    assert "postroad.cli.queue" in imported
    assert imported & HEAVY == set()


def test_version() -> None:
    (line,) = said(["version"], Script().house())
    assert line == f"Postroad {__version__} (Python {'.'.join(map(str, sys.version_info[:3]))})"


def test_serve_gets_the_settings_and_gives_the_exit_status(tmp_path: Path) -> None:
    (tmp_path / "postroad.toml").write_text('hostname = "relay.example.org"\n')
    script = Script()
    assert said(["serve"], script.house()) == []
    assert [loaded.settings.hostname for loaded in script.served] == ["relay.example.org"]


def test_the_sandbox_says_what_to_try(tmp_path: Path) -> None:
    script = Script()
    text = "\n".join(said(["serve"], script.house()))
    assert script.served[0].is_sandbox
    for word in ("127.0.0.1:2525", f"{tmp_path}/postroad-data/mail", "postroad send --to someone@example.org"):
        assert word in text


def test_a_wrong_configuration_is_told_whole_and_nothing_is_done(tmp_path: Path) -> None:
    (tmp_path / "postroad.toml").write_text("one = 1\ntwo = 2\n")
    for command in (["serve"], ["config", "show"], ["send", "--to", "b@example.org"]):  # a queue that runs is steered
        script = Script()
        first, second, status = said(command, script.house())
        assert first.startswith(f"! {tmp_path}/postroad.toml:1: ")
        assert second.startswith(f"! {tmp_path}/postroad.toml:2: ")
        assert status == "exit 1"
        assert (script.served, script.steering.asked) == ([], [])


def test_a_fault_of_ours_is_not_hidden() -> None:
    script = Script()
    script.steering.refuse = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        said(["queue", "stats"], script.house())


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 2), (["fly"], 2), (["queue"], 2)])
def test_exit_statuses_of_the_top(arguments: list[str], status: int) -> None:
    lines = said(arguments, Script().house())
    assert ("exit 2" in lines) == (status == 2)


def test_the_reference_of_settings_is_printed() -> None:
    lines = said(["config", "docs"], Script().house())
    assert lines[0] == "# Settings"
    assert any("`data_dir`" in line for line in lines)


def test_the_full_name_is_asked_for_where_the_short_one_has_no_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    for short, full, name in (
        ("relay.example.org", "unasked", "relay.example.org"),
        ("relay", "relay.example.org", "relay.example.org"),
        ("relay", "localhost.localdomain", "relay"),
        ("relay", "relay", "relay"),
    ):
        monkeypatch.setattr(socket, "gethostname", lambda short=short: short)
        monkeypatch.setattr(socket, "getfqdn", lambda _, full=full: full)
        assert machine_name() == name


def test_a_dns_that_hangs_does_not_hang_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    forever = threading.Event()
    monkeypatch.setattr(machine, "NAME_TIMEOUT", 0.01)
    monkeypatch.setattr(socket, "gethostname", lambda: "relay")
    monkeypatch.setattr(socket, "getfqdn", lambda _: forever.wait(20))
    started = time.monotonic()
    assert machine_name() == "relay"
    assert time.monotonic() - started < 10
    forever.set()
