"""``make bench``: builds what is needed, plays the scenarios, prints a table of each, leaves JSON and a picture.

Owns: the command line, the disk under the queues, where results go (bench/results). Does not own: rounds, figures.
Everything is on loopback, bounded in number and time; at the end nothing runs and nothing is mounted any more.

usage: python -m bench [--scenario NAME,NAME|all] [--rounds N] [--only RELAY] [--messages N] [--name NAME]
       python -m bench --plot FILE.json    the picture of a result, on stdout
       python -m bench --list              the scenarios
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import report
from bench.machine import disk
from bench.programs import HERE, CannotError, build
from bench.relays import Postfix, Postroad
from bench.rounds import rounds
from bench.scenarios import SCENARIOS, Scenario

RESULTS = HERE / "results"
DISK_SIZE = "8G"
DISK_SIZE_DEFERRED = "20G"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenario", default="", help="names with commas; all; default: those marked in --list")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="contestants whose name contains this")
    parser.add_argument("--messages", type=int, help="instead of the scenario's number")
    parser.add_argument("--pipeline", action="store_true", help="the generator sends MAIL, RCPT, DATA in one write")
    parser.add_argument("--count", type=int, help="messages in the queue for million-*")
    parser.add_argument(
        "--dir", type=Path, help="where the disk is made (root), or the queues are (default: a new one)"
    )
    parser.add_argument("--name", default="", help="of the files in bench/results; default: the time")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--build", action="store_true", help="only compile the generator and the sink")
    return parser.parse_args()


def chosen(given: argparse.Namespace) -> list[Scenario]:
    """The scenarios that are asked for, with what is asked for instead of their numbers."""
    names = [one.name for one in SCENARIOS.values() if given.scenario == "all" or one.by_default]
    if given.scenario not in ("", "all"):
        names = given.scenario.split(",")
    if unknown := set(names) - set(SCENARIOS):
        raise CannotError(f"no scenario {', '.join(unknown)}; they are {', '.join(SCENARIOS)}")
    found = [SCENARIOS[name] for name in names]
    if given.messages:
        found = [replace(one, messages=given.messages) for one in found]
    if given.pipeline:
        found = [replace(one, options={**one.options, "pipeline": 1}) for one in found]
    if given.count:
        found = [replace(one, deferred=given.count) if one.deferred else one for one in found]
    return found


def conditions(place: Path) -> dict[str, Any]:
    """What the figures hang on besides the relays."""
    kind = version("findmnt", "-n", "-o", "FSTYPE", "--target", str(place))
    return {
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postfix": version("postconf", "-d", "-h", "mail_version"),
        "postroad": version("git", "-C", str(HERE), "rev-parse", "--short", "HEAD"),
        "disk": f"{kind}{' on a loop device' if os.geteuid() == 0 else ''}",
    }


def version(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def say(line: str) -> None:
    print(line, flush=True)


def say_configurations(place: Path, sink_port: int = 2500) -> None:
    """The configurations of both, as they differ from the defaults."""
    home = place / "shown"
    say("Postroad, all that is not a default (facts, log and trace are on):")
    say(indented(Postroad(home, [sink_port]).config))
    if os.geteuid() == 0:
        try:
            say("Postfix, all that is not a default:")
            say(indented(Postfix(home, [sink_port]).config))
        except CannotError as error:
            say(f"  {error}")


def indented(words: str) -> str:
    return "\n".join(f"  {line}" for line in words.strip().splitlines())


def run(given: argparse.Namespace) -> int:
    build()
    scenarios = chosen(given)
    name = given.name or time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    RESULTS.mkdir(exist_ok=True)
    results: dict[str, Any] = {"scenarios": {}}
    with tempfile.TemporaryDirectory(prefix="postroad-bench-", dir=given.dir) as directory:
        Path(directory).chmod(0o755)
        with disk(
            Path(directory), DISK_SIZE_DEFERRED if any(one.deferred for one in scenarios) else DISK_SIZE
        ) as place:
            results["conditions"] = conditions(place)
            say(json.dumps(results["conditions"]))
            say_configurations(place)
            for scenario in scenarios:
                say(f"\n{scenario.name}")
                played = list(rounds(scenario, given.rounds, place, only=given.only, say=say))
                medians = report.summary(played)
                say(report.table(scenario.name, scenario.says, given.rounds, medians))
                results["scenarios"][scenario.name] = {"says": scenario.says, "medians": medians, "rounds": played}
                (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / f"{name}.svg").write_text(picture(results))
    say(f"\nbench/results/{name}.json and .svg")
    medians = [one for scenario in results["scenarios"].values() for one in scenario["medians"].values()]
    return int(any(one["lost"] or one["doubled"] for one in medians))


def picture(results: dict[str, Any]) -> str:
    return report.plot({name: one["medians"] for name, one in results["scenarios"].items()})


def main() -> int:
    given = arguments()
    if given.list:
        for one in SCENARIOS.values():
            say(f"{one.name:24} {'' if one.by_default else '(not by default) '}{one.says}")
        return 0
    if given.plot:
        print(picture(json.loads(given.plot.read_text())), end="")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended, what is mounted unmounted
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    try:
        if given.build:
            build()
            return 0
        return run(given)
    except CannotError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
