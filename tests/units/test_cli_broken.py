"""A broken configuration file does not take the steering of a healthy relay away."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.units.relay_world import ScriptedRelay
from tests.units.steering_world import SetClock
from tests.units.test_cli_cases import WRONG

from postroad.cli.broken import WARNING, read_data_dir
from postroad.cli.house import House
from postroad.cli.main import run
from postroad.config.model import Settings
from postroad.outbound.steering import NoRelay

BROKEN = 'data_dir = "mail"\nhostname = "relay.example.org"\nnonsense = 7\n'
SYNTAX = "data_dir = 'mail'\n[limits\ndata_dir = 'other'\n"


class Asked:
    """A relay, with what it was found by."""

    def __init__(self, *, runs: bool = True) -> None:
        self.relay = ScriptedRelay()
        self.data_dirs: list[Path] = []
        if not runs:
            self.relay.refuse = NoRelay("No relay runs here.")

    def ask(self, settings: Settings) -> Any:
        self.data_dirs.append(settings.data_dir)
        return self.relay

    @asynccontextmanager
    async def open(self, settings: Settings) -> Any:
        raise AssertionError("data is not opened by a broken file")
        yield

    def run(self, *words: str) -> int:
        unused: Any = None
        return run(
            House(
                clock=SetClock(),
                serve=unused,
                open_queue=self.open,
                salvage=unused,
                ask_relay=self.ask,
                resolve=unused,
            ),
            words,
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "postroad.toml"
    file.write_text(BROKEN)
    return file


STEERING = (
    "queue list",
    "queue stats",
    "queue flush --all -y",
    "queue suspended",
    "queue audit",
    "mailq",
    "trace b@example.net",
)


@pytest.mark.parametrize("command", STEERING)
@pytest.mark.parametrize("text", [BROKEN, SYNTAX])
def test_the_relay_that_runs_is_steered(
    file: Path, command: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text)
    asked = Asked()
    asyncio.set_event_loop_policy(None)
    asked.run(*command.split(), "--config", str(file))
    assert asked.data_dirs == [file.parent / "mail"]
    assert capsys.readouterr().err.startswith(WARNING + "\n")


@pytest.mark.parametrize("command", [*STEERING, "reload"])
def test_without_a_relay_the_error_stands(file: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert Asked(runs=False).run(*command.split(), "--config", str(file)) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"{file}:3: nonsense")
    assert said.out == ""


def test_a_reload_is_judged_by_the_relay(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    asked.relay.relay.reload_answer = WRONG
    assert asked.run("reload", "--config", str(file)) == 1
    assert capsys.readouterr().err == f"postroad: {WRONG.text}\n"


def test_the_default_is_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "postroad.toml"
    file.write_text("[limits\n")
    assert read_data_dir(file) == tmp_path / "postroad-data"
    (tmp_path / "more.toml").write_text('data_dir = "/somewhere"')
    file.write_text('include = ["more.toml"]\nnonsense = 7\n')
    assert read_data_dir(file) == Path("/somewhere")
    assert read_data_dir(tmp_path / "missing.toml") is None
