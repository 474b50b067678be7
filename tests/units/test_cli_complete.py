"""Shell completion: the scripts, commands and options, and destinations while a relay answers at once."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from tests.units.relay_world import ScriptedRelay, fill
from tests.units.test_cli_cases import CONFIG, Script, said

from postroad.cli import complete
from postroad.cli.main import run
from postroad.outbound.steering import ControlRefused, NoRelay, QueueStats


def offered(words: str, script: Script, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what bash is offered at the end of a line."""
    monkeypatch.setenv("POSTROAD_CONFIG", str(CONFIG))
    monkeypatch.setenv("_POSTROAD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    out = io.StringIO()
    with redirect_stdout(out):
        assert run(script.house(), []) == 0
    return out.getvalue().split()


def test_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("postroad que", Script(), monkeypatch) == ["queue"]
    assert offered("postroad queue over", Script(), monkeypatch) == ["override", "overrides"]
    assert offered("postroad queue override --mess", Script(), monkeypatch) == ["--messages-per-connection"]


def test_destinations_that_the_relay_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    assert isinstance(script.steering, ScriptedRelay)
    fill(script.steering.relay)
    assert offered("postroad queue suspend e", script, monkeypatch) == ["example.com", "example.org"]
    assert offered("postroad queue resume example.o", script, monkeypatch) == ["example.org"]


class Slow(ScriptedRelay):
    async def stats(self, limit: int) -> QueueStats:
        await asyncio.Event().wait()
        raise AssertionError


def test_who_does_not_answer_at_once_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    script.steering = Slow()
    monkeypatch.setattr(complete, "ANSWER_TIMEOUT", 0.01)
    assert offered("postroad queue suspend e", script, monkeypatch) == []
    script = Script()
    script.steering.refuse = ControlRefused("no relay")
    assert offered("postroad queue suspend e", script, monkeypatch) == []


def test_a_wrong_configuration_is_no_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = Script()
    file = tmp_path / "wrong.toml"
    file.write_text("= wrong")
    monkeypatch.setattr("tests.units.test_cli_complete.CONFIG", file)
    assert offered("postroad queue suspend e", script, monkeypatch) == ["example.com"], "the relay that runs knows"
    script.steering.refuse = NoRelay("none runs")
    assert offered("postroad queue suspend e", script, monkeypatch) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    text = "\n".join(said(["completion", shell], Script().house()))
    assert "_POSTROAD_COMPLETE" in text
    assert "postroad" in text


def test_bash_takes_its_script() -> None:
    text = "\n".join(said(["completion", "bash"], Script().house()))
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{text}\ncomplete -p postroad"],
        capture_output=True, text=True, timeout=30, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "_postroad_completion postroad" in done.stdout


def test_other_shells_are_not_known() -> None:
    assert said(["completion", "tcsh"], Script().house())[-1] == "exit 2"
