"""What a process is seen by follows its settings: destinations are counted by the names of the configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.units.facts_world import sample

from postroad.config.load import load_text
from postroad.core import facts
from postroad.service.seeing import Seeing


def test_destinations_are_counted_by_the_names_of_the_configuration_in_force(tmp_path: Path) -> None:
    async def test() -> None:
        top = f'hostname = "a.example"\ndata_dir = "{tmp_path}"\n[[route]]\nto = "*"\n'
        one, two = (load_text(f'{top}via = "smtp://{host}:25"').settings for host in ("a.example", "b.example"))
        seeing = Seeing(one, "0")
        for settings in (one, two):
            if settings is two:
                seeing.switch(two)
            named = ("smtp:a.example:25", "smtp:b.example:25")
            seeing.counters.take([sample(facts.Deferred, destination=name) for name in named])
        rows = [row for row in seeing.counters.rows() if row.name == "deferrals_total"]
        assert {dict(row.labels)["destination"]: row.value for row in rows} == {
            "smtp:a.example:25": 1,
            "smtp:b.example:25": 1,
            "other": 2,
        }
        await seeing.close()

    asyncio.run(test())
