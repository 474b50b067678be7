"""The scenarios of ``make bench``: what is sent, to how many destinations, and what is odd about the next hop.

Owns: names, numbers, which of them run by default. Does not own: how they are run (rounds.py), what stands in the
table (report.py). A name is part of the results that people compare: change what it means, change the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 1 << 20


@dataclass(frozen=True)
class Scenario:
    """One load. ``options`` go to bench/load.c as they are."""

    name: str
    says: str
    messages: int
    options: dict[str, int] = field(default_factory=dict)
    domains: int = 1
    recipients: int = 1
    warm_up: int = 300
    idle: int = 0
    """Connections that say nothing but EHLO meanwhile. They are opened before the load, and not in its figures."""
    idle_tls: bool = False
    is_alone: bool = False
    """Before the load, single messages through the idle relay are timed."""
    is_down: bool = False
    """Nothing listens at the next hop until all is accepted; the relay rate is that of the drain."""
    slow_delay: int = 0
    """Milliseconds after which the last of the destinations answers a final dot."""
    tls: bool = False
    flows: tuple[str, ...] = ("1s", "0")
    """Postfix's in_flow_delay; the better counts. None: without Postfix (10,000 processes, or no such queue)."""
    deferred: int = 0
    """Messages that are in Postroad's queue before."""
    is_dead: bool = False
    """They are all due, behind one domain where nothing listens."""
    timeout: int = 180
    by_default: bool = True


SCENARIOS = {
    one.name: one
    for one in [
        Scenario(
            "connection-per-message",
            "5 KiB, one recipient, a connection for each message, 50 in parallel",
            messages=4000,
            is_alone=True,
        ),
        Scenario(
            "kept-connections",
            "5 KiB, 100 messages over each connection, 50 in parallel",
            messages=4000,
            options={"each": 100},
        ),
        Scenario(
            "100KiB",
            "100 KiB, 100 messages over each connection, 50 in parallel",
            messages=2000,
            options={"each": 100, "size": 100 * 1024},
        ),
        Scenario(
            "ten-recipients",
            "5 KiB, each message to 10 recipients at 10 destinations; copies are counted at the next hops",
            messages=600,
            recipients=10,
            domains=10,
            warm_up=50,
        ),
        Scenario(
            "sink-down-then-drained",
            "5 KiB, accepted while the next hop is down; out/s is the drain's, from the first copy to the last",
            messages=3000,
            is_down=True,
            warm_up=0,
            flows=("1s",),
        ),
        Scenario(
            "slow-destination",
            "5 KiB to 10 destinations, one of which takes 500 ms for each; out/s is that of the nine others",
            messages=2000,
            domains=10,
            slow_delay=500,
            flows=("1s",),
        ),
        Scenario(
            "idle-1000",
            "as connection-per-message, while 1,000 connections are open that say nothing",
            messages=3000,
            idle=1000,
            flows=("1s",),
        ),
        Scenario(
            "tls",
            "as connection-per-message, by TLS on both sides, ECDSA P-256, no session resumed",
            messages=2000,
            options={"tls": 1},
            tls=True,
            flows=("1s",),
        ),
        Scenario(
            "idle-10000",
            "as idle-1000 with 9,900: with the 50 at work it stays under the default limit of 10,000",
            messages=3000,
            idle=9900,
            flows=(),
            by_default=False,
        ),
        Scenario(
            "idle-10000-tls",
            "as idle-10000, the idle connections by TLS",
            messages=3000,
            idle=9900,
            idle_tls=True,
            tls=True,
            flows=(),
            by_default=False,
        ),
        Scenario(
            "50MiB",
            "49 MiB, 20 at once",
            messages=40,
            options={"size": 49 * MIB, "connections": 20},
            warm_up=20,
            flows=("1s",),
            by_default=False,
        ),
        Scenario(
            "million-deferred",
            "as connection-per-message, with 1,000,000 messages in the queue that are due a day later (COUNT=)",
            messages=4000,
            deferred=1_000_000,
            flows=(),
            by_default=False,
        ),
        Scenario(
            "million-due",
            "as connection-per-message, with 1,000,000 messages due at once behind one dead domain (COUNT=)",
            messages=4000,
            deferred=1_000_000,
            is_dead=True,
            flows=(),
            by_default=False,
        ),
    ]
}
