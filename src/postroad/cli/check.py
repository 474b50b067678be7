"""``postroad check``: whether the relay would start and serve well, and if not, what to do.

Owns: the order of the inspections, how findings are printed, the exit status (1 if one is an error). Does not own: the
inspections (inspect_*.py) and what is wrong with a file (config).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import typer

from postroad.cli.configuration import ConfigFile, load_configuration
from postroad.cli.house import House, house_of
from postroad.cli.output import coloured, counted, with_progress, write_json, write_line
from postroad.cli.selection import Json

if TYPE_CHECKING:
    from postroad.cli.findings import Finding
    from postroad.config.load import Loaded
    from postroad.config.model import Settings
    from postroad.outbound.steering import Health

HEALTH_TIMEOUT = 3.0
"""Seconds in which a relay that runs says that it does."""


def check(context: typer.Context, as_json: Json = False, config: ConfigFile = None) -> None:
    """Say what is wrong with the configuration and the machine, and what to do about it."""
    from postroad.cli.findings import Level, error
    from postroad.config.errors import SettingsError

    try:
        loaded = load_configuration(config)
    except SettingsError as found:
        findings = [error("configuration", str(problem)) for problem in found.problems]
    else:
        findings = asyncio.run(_inspect(house_of(context), loaded))
    findings.sort(key=lambda finding: list(Level).index(finding.level))
    if as_json:
        for finding in findings:
            write_json(finding)
    else:
        _write(findings)
    raise typer.Exit(1 if any(finding.level is Level.ERROR for finding in findings) else 0)


async def _inspect(house: House, loaded: Loaded) -> list[Finding]:
    from postroad.cli.findings import note
    from postroad.cli.inspect_machine import (
        inspect_data_dir,
        inspect_disk,
        inspect_listeners,
        inspect_names,
        inspect_process,
    )
    from postroad.cli.inspect_policy import inspect_relay, inspect_routes
    from postroad.cli.inspect_tls import inspect_certificates

    settings = loaded.settings
    findings = [note("configuration", _files_text(loaded))]
    names = with_progress("Asking the DNS", inspect_names(settings, house, is_sandbox=loaded.is_sandbox))
    health = await _ask_health(house, settings)
    findings += [*inspect_data_dir(settings), *inspect_disk(settings), *inspect_listeners(settings, health)]
    findings += [*inspect_certificates(settings, house.clock.now()), *inspect_process(settings)]
    findings += [*inspect_relay(settings), *inspect_routes(settings)]
    return findings + await names


def _files_text(loaded: Loaded) -> str:
    if loaded.is_sandbox:
        return "There is no configuration file: these are the settings of the sandbox."
    return f"Read {', '.join(map(str, loaded.files))}."


async def _ask_health(house: House, settings: Settings) -> Health | None:
    """Return how the relay does that runs with this data_dir; None if none does, or it does not answer."""
    from postroad.outbound.steering import ControlRefused

    try:
        async with asyncio.timeout(HEALTH_TIMEOUT):
            return await house.ask_relay(settings).health()
    except (ControlRefused, TimeoutError):
        return None


_STYLES = {"error": "bold red", "warning": "yellow", "note": ""}


def _write(findings: list[Finding]) -> None:
    for finding in findings:
        coloured(f"{finding.level.value + ':':9}{finding.text}", _STYLES[finding.level.value])
        if finding.remedy:
            coloured(f"{'':9}{finding.remedy}", "")
    counts = Counter(finding.level.value for finding in findings)
    errors, warnings = counted(counts["error"], "error"), counted(counts["warning"], "warning")
    write_line(f"{errors}, {warnings}.")
