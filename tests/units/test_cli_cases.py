"""What each command prints: tests/cases/cli, a transcript a command, plain and --json.

A line ``$ postroad ...`` is run against a scripted relay; what follows is what it must print, standard error with
``! `` before each line, and ``exit N`` where the status is not 0. ``python -m tests.units.test_cli_cases`` writes
what is printed now: look at the difference before you commit it.
"""

from __future__ import annotations

import asyncio
import io
import shlex
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from tests.units.relay_world import ScriptedRelay, fill
from tests.units.steering_world import STATS, ScriptedSteering, SetClock
from tests.units.test_access_credentials import ARGON as ARGON_HASH
from tests.units.test_access_credentials import RFC_7677 as SCRAM_KEYS

from postroad.cli.house import House
from postroad.cli.main import run
from postroad.config.load import Loaded
from postroad.config.model import Settings
from postroad.outbound.relay import ReloadResult
from postroad.outbound.steering import ControlRefused, NoRelay, Steering
from postroad.spool.face import Changed
from postroad.spool.salvage import Salvaged
from postroad.testing.memory_relay import MemoryRelay

CASES = Path(__file__).parent.parent / "cases" / "cli"
FILES = sorted(CASES.glob("*.txt"))
CONFIG = CASES / "postroad.toml"
CHANGED = ReloadResult(changed=("[[route]] 1 via", "[limits] errors"), needs_restart=("workers",))
WRONG = ControlRefused(
    "/etc/postroad.toml:7: [limits] erors: There is no such key. Did you mean errors?\n"
    '/etc/postroad.toml:9: [[route]] 1 via: "smtp:" is not a next hop.'
)


class Script:
    """The house of a run, as a line of the transcript sets it: ``% nothing waits``."""

    def __init__(self) -> None:
        self.steering: ScriptedSteering = ScriptedRelay()
        self.served: list[Loaded] = []
        self.stdin = ""

    def set(self, comment: str) -> None:
        settings: dict[str, Callable[[], None]] = {
            "nothing waits": lambda: setattr(self.steering, "messages", ()),
            "150 recipients match": lambda: setattr(self.steering, "changed", Changed(150, 120, 0)),
            "2 are at work": lambda: setattr(self.steering, "changed", Changed(1, 1, 2)),
            "shards are being moved": lambda: setattr(self.steering, "changed", Changed(3, 2, 0, (3, 5))),
            "a shard is being moved, and nothing else matches": lambda: setattr(
                self.steering, "changed", Changed(0, 0, 0, (3,))
            ),
            "nothing matches": lambda: setattr(self.steering, "changed", Changed(0, 0, 0)),
            "no mail is taken": lambda: setattr(self.steering, "stats_answer", _full(self.steering)),
            "a day has passed": lambda: fill(self._relay),
            "the configuration was changed": lambda: setattr(self._relay, "reload_answer", CHANGED),
            "the configuration is wrong": lambda: setattr(self._relay, "reload_answer", WRONG),
            "there are users": lambda: asyncio.run(_add_users(self._relay)),
            "there are many users": lambda: asyncio.run(_add_users(self._relay, 3)),
            "standard input holds a password": lambda: setattr(self, "stdin", "correct horse\n"),
            "standard input holds a short one": lambda: setattr(self, "stdin", "short\n"),
            "no relay runs": lambda: setattr(self.steering, "refuse", NoRelay("No relay runs here.")),
        }
        settings[comment]()

    @property
    def _relay(self) -> MemoryRelay:
        assert isinstance(self.steering, ScriptedRelay)
        return self.steering.relay

    def house(self) -> House:
        return House(
            clock=SetClock(),
            serve=self._serve,
            open_queue=self._open_queue,
            salvage=lambda _settings, _damaged: Salvaged(1203, 2, 1),
            ask_relay=lambda _: self.steering,
            resolve=_resolve,
        )

    def _serve(self, loaded: Loaded) -> int:
        self.served.append(loaded)
        return 0

    @asynccontextmanager
    async def _open_queue(self, settings: Settings) -> AsyncIterator[Steering]:
        yield self.steering


async def _add_users(relay: MemoryRelay, more: int = 0) -> None:
    await relay.users.add("alice", SCRAM_KEYS, (), ())
    await relay.users.add("shop@example.org", ARGON_HASH, ("relay", "bulk"), ("example.org", "shop@example.net"))
    for number in range(more):
        await relay.users.add(f"user-{number}", SCRAM_KEYS, (), ())


async def _resolve(*_: object) -> tuple[str, ...]:
    return ("192.0.2.1",)


def _full(steering: ScriptedSteering) -> object:
    import msgspec

    return msgspec.structs.replace(STATS, accepting=False, trouble="less than min_free is free", destinations=())


def play(transcript: str) -> str:
    """Run the commands of a transcript and return the transcript as it comes out."""
    lines: list[str] = []
    script = Script()
    for line in transcript.splitlines():
        if line.startswith("% "):
            lines.append(line)
            script.set(line.removeprefix("% "))
        elif line.startswith("$ postroad"):
            sys.stdin = io.StringIO(script.stdin)
            lines += [line, *said(shlex.split(line)[2:], script.house()), ""]
            script = Script()
    return "\n".join(lines)


def said(arguments: list[str], house: House) -> list[str]:
    """Return what one command prints, as a transcript shows it."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(house, arguments)
    lines = [*(f"! {line}" for line in err.getvalue().splitlines()), *out.getvalue().splitlines()]
    lines = [line.replace(str(CONFIG), "postroad.toml").replace(str(CASES), "/etc") for line in lines]
    return [*lines, *([f"exit {status}"] if status else [])]


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROAD_CONFIG", str(CONFIG))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_prints_what_it_printed(path: Path) -> None:
    assert play(path.read_text()) == path.read_text()


def test_every_command_has_its_cases() -> None:
    """Those that do something to this machine or the network have tests of their own."""
    import typer

    from postroad.cli.main import app

    command = typer.main.get_command(app)
    names = {name for name in command.commands if name not in ("queue", "config", "user")}  # type: ignore[attr-defined]
    for group in ("queue", "config", "user"):
        names |= {f"{group}-{name}" for name in command.commands[group].commands}  # type: ignore[attr-defined]
    assert names - {path.stem for path in FILES} == {"serve", "check", "send", "completion", "config-docs"}


if __name__ == "__main__":
    import os

    os.environ |= {"POSTROAD_CONFIG": str(CONFIG), "COLUMNS": "100", "TERM": "dumb", "TZ": "UTC"}
    time.tzset()
    sys.stdin = io.StringIO()
    for file in FILES:
        file.write_text(play(file.read_text()))
