"""The command: runs seeds, replays one with its timeline, makes a failing one shorter, hunts mutants.

Owns: arguments, what is printed. Does not own: the simulation. It starts itself anew with PYTHONHASHSEED=0, since the
order of sets of text is a part of the world's order.

    python -m postroad.testing.sim run 1-1000 [--jobs N] [--letters N] [--sum FILE] [--minutes M]
    python -m postroad.testing.sim replay 17 | --plan FILE
    python -m postroad.testing.sim shrink 17 [--plan FILE] [--to FILE]
    python -m postroad.testing.sim mutants [--from N] [--seeds N] [--jobs N] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from postroad.testing.sim.judge_more import judge
from postroad.testing.sim.run import Options, python, run_seeds
from postroad.testing.sim.shrink import shrink
from postroad.testing.sim.story import Plan
from postroad.testing.sim.teller import LETTERS, tell
from postroad.testing.sim.world import play


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(options: argparse.Namespace) -> int:
    """Play many seeds; 1 if one breaks a law."""
    first, _, last = options.seeds.partition("-")
    how = Options(
        letters=options.letters,
        jobs=options.jobs,
        sum=Path(options.sum) if options.sum else None,
        minutes=options.minutes,
        says_trace=options.trace,
        stops=options.stop,
    )
    try:
        total = run_seeds(int(first), int(last or first), how, say)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for line in total.lines(places=not options.brief):
        say(line)
    return 1 if total.broken else 0


def plan_of(options: argparse.Namespace) -> Plan:
    if options.plan:
        return msgspec.json.decode(Path(options.plan).read_bytes(), type=Plan)
    return tell(int(options.seed), letters=options.letters)


def replay(options: argparse.Namespace) -> int:
    """Play one story and print its timeline."""
    played = play(plan_of(options), collects=False)
    verdict = judge(played)
    lines = [*played.book.lines, *((at, f"  fact: {_brief(fact)}") for at, fact in played.facts)] + [
        (at, f"  disk: {why}") for at, why in played.troubles
    ]
    wanted = options.about
    for at, text in sorted(lines, key=lambda line: line[0]):
        if not wanted or wanted in text or "CRASH" in text or "starts" in text:
            say(f"{at:12.6f}  {text}")
    for law in verdict.broken:
        say(f"BROKEN  {law}")
    say(f"trace {played.trace}")
    return 1 if verdict.broken else 0


def _brief(fact: object) -> str:
    octets = msgspec.json.encode(fact)
    return octets.decode()[:300]


def shorten(options: argparse.Namespace) -> int:
    """Find a shorter story that breaks the same law."""
    plan = plan_of(options)
    laws = {text.partition(":")[0] for text in judge(play(plan)).broken}
    if not laws:
        say("this story breaks no law")
        return 2
    law = options.law or sorted(laws, key=lambda one: one != "LOST")[0]
    say(f"it breaks: {', '.join(sorted(laws))}; what is kept is {law!r}")

    def breaks(candidate: Plan) -> bool:
        return any(text.startswith(law) for text in judge(play(candidate)).broken)

    plan = shrink(plan, breaks, tries=options.tries, tell=say)
    Path(options.to).write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    say(f"again: {python()} -m postroad.testing.sim replay --plan {options.to}")
    return 0


def hunt(options: argparse.Namespace) -> int:
    from postroad.testing.sim.mutants import Hunt, hunt_all

    how = Hunt(seeds=options.seeds, letters=options.letters, first=options.first, jobs=options.jobs)
    return hunt_all(options.names, how, say=say)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m postroad.testing.sim", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run", help="play many seeds")
    one.add_argument("seeds", help="FIRST-LAST")
    one.add_argument("--letters", type=int, default=LETTERS)
    one.add_argument("--jobs", type=int, default=1, help="processes that play")
    one.add_argument("--sum", default="", help="file of the sum; seeds that are in it are not played again")
    one.add_argument("--minutes", type=float, default=1e9)
    one.add_argument("--trace", action="store_true", help="print a hash of all that happened")
    one.add_argument("--stop", action="store_true", help="stop at the first seed that breaks a law")
    one.add_argument("--brief", action="store_true", help="without the table of places")
    one.set_defaults(work=run)
    for name, work, text in (
        ("replay", replay, "play one and print its timeline"),
        ("shrink", shorten, "find a shorter story"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("seed", nargs="?", default="1")
        one.add_argument("--letters", type=int, default=LETTERS)
        one.add_argument("--plan", default="", help="a story in a file instead of a seed")
        one.add_argument("--about", default="", help="only lines that have this in them, and crashes")
        one.add_argument("--law", default="")
        one.add_argument("--tries", type=int, default=400)
        one.add_argument("--to", default="sim-plan.json")
        one.set_defaults(work=work)
    one = commands.add_parser("mutants", help="put bugs in, and see that they are found")
    one.add_argument("names", nargs="*")
    one.add_argument("--from", dest="first", metavar="N", type=int, default=1, help="first seed; default 1")
    one.add_argument("--seeds", metavar="N", type=int, default=300, help="how many at most; default 300")
    one.add_argument("--jobs", metavar="N", type=int, default=1, help="processes that play; default 1")
    one.add_argument("--letters", type=int, default=LETTERS)
    one.set_defaults(work=hunt)
    options = parser.parse_args(arguments)
    return int(options.work(options))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "postroad.testing.sim", *sys.argv[1:]])  # noqa: S606
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without taking worlds apart: what their dead processes left would complain
