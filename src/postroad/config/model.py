"""Every setting of the relay, in the order of the file.

Owns: the top of the tree and what must hold between its tables. Does not own: the
lines of each table (listeners.py, relay.py, routes.py, content.py), reading files
(load.py). To add a setting, add a line to its table, nowhere else: the reference
page, `postroad config show` and the sample file come from these lines.

A key of the contract that is not built yet carries `later=LATER` and is refused by
name (config/review.py). To build it, delete the mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self, cast

from pydantic import ValidationInfo, field_validator, model_validator

from postroad.config.addresses import TcpAddress
from postroad.config.content import Check, Facts, Filter, Http, Log
from postroad.config.errors import KeyPath
from postroad.config.kinds import (
    LATER,
    FilePath,
    Finding,
    HostName,
    Table,
    raise_findings,
    setting,
)
from postroad.config.listeners import Limits, Listener, Names, Process, Spool, Tls
from postroad.config.relay import Auth, Operation, Relay
from postroad.config.routes import Destination, Dns, Dsn, NextHop, Retry, RetryChange, Rewrite, Route
from postroad.config.units import format_duration
from postroad.config.via import Lmtp, NextHopName, Smtp, Via, check_next_hop_name

DEFAULT_DESTINATION: Final = Destination.model_validate({"domain": "*"})
"""The limits of a destination that no [[destination]] matches."""

_LOCAL_LISTENER: Final = Listener(name="local", address=TcpAddress("127.0.0.1", 2525))


class Settings(Table):
    """The configuration of one relay."""

    hostname: HostName = setting(
        "localhost",
        "Our name: in greetings, trace fields and reports.",
        varies="what the machine calls itself",
        example='"relay.example.org"',
    )
    data_dir: FilePath = setting(
        Path("/var/lib/postroad"),
        "Where everything is kept.",
        varies="/var/lib/postroad for a file in /etc, else postroad-data beside the file",
        example='"/var/lib/postroad"',
    )
    workers: int = setting(
        1,
        "Processes that carry mail, each with a part of the queue.",
        unit="processes",
        least=1,
        most=64,
        varies="the usable cores, by affinity and cgroup quota",
        example="2",
    )
    include: tuple[str, ...] = setting(
        (), "More files to read, globs allowed; lists are joined.", example='["conf.d/*.toml"]'
    )
    process: Process = setting(Process(), "")
    names: Names = setting(Names(), "")
    listener: tuple[Listener, ...] = setting((_LOCAL_LISTENER,), "")
    tls: Tls = setting(Tls(), "")
    limits: Limits = setting(Limits(), "")
    spool: Spool = setting(Spool(), "")
    relay: Relay = setting(Relay(), "")
    auth: tuple[Auth, ...] = setting((), "")
    operations: Mapping[str, Operation] = setting({}, "", later=LATER)
    next_hop: Mapping[str, NextHop] = setting({}, "")
    route: tuple[Route, ...] = setting((), "")
    dns: Dns = setting(Dns(), "")
    retry: Retry = setting(Retry(), "")
    dsn: Dsn = setting(Dsn(), "")
    destination: tuple[Destination, ...] = setting((), "")
    rewrite: Rewrite = setting(Rewrite(), "", later=LATER)
    check: tuple[Check, ...] = setting((), "", later=LATER)
    filter: tuple[Filter, ...] = setting((), "", later=LATER)
    log: Log = setting(Log(), "")
    facts: Facts = setting(Facts(), "")
    http: Http = setting(Http(), "")
    tenant: tuple[Table, ...] = setting((), "Customers of a sending service.", later=LATER)
    domain: tuple[Table, ...] = setting((), "Sending domains.", later=LATER)
    tracking: Table = setting(Table(), "Opens and clicks.", later=LATER)
    webhook: tuple[Table, ...] = setting((), "Events sent to others.", later=LATER)
    suppression: Table = setting(Table(), "Addresses that get no more mail.", later=LATER)
    cluster: Table = setting(Table(), "Several machines.", later=LATER)
    warmup: Table = setting(Table(), "New sending addresses.", later=LATER)

    @field_validator("next_hop", mode="after")
    @classmethod
    def _name_next_hops(cls, hops: Mapping[str, NextHop]) -> Mapping[str, NextHop]:
        """See that routes can name them, and have each address know its name."""
        named = {}
        found = []
        for name, hop in hops.items():
            try:
                check_next_hop_name(name)
            except ValueError as error:
                found.append(Finding((name,), str(error)))
            address = type(hop.address)(hop.address.host, hop.address.port, name)
            named[name] = hop.model_copy(update={"address": address})
        raise_findings(found)
        return named

    @field_validator("route", mode="after")
    @classmethod
    def _look_up_next_hops(cls, routes: tuple[Route, ...], info: ValidationInfo) -> tuple[Route, ...]:
        """Replace the names of next hops by what they say."""
        if "next_hop" not in info.data:
            return routes  # something is wrong with them, so that these settings will not be
        hops: Mapping[str, NextHop] = info.data["next_hop"]
        found: list[Finding] = []
        looked_up = []
        for index, route in enumerate(routes):
            via: list[Via] = []
            for place, value in enumerate(cast(tuple[Via | NextHopName, ...], route.via)):
                if not isinstance(value, NextHopName):
                    via.append(value)
                elif value.name in hops:
                    via.append(hops[value.name].address)
                else:
                    text = f"There is no [next_hop.{value.name}]. {_known_hops(hops)}"
                    found.append(Finding((index, "via", place), text, depends=(("next_hop", value.name),)))
            looked_up.append(route.model_copy(update={"via": tuple(via)}))
        raise_findings(found)
        return tuple(looked_up)

    @model_validator(mode="after")
    def _see_together(self) -> Self:
        raise_findings([*_see_hostname(self), *_see_listeners(self), *_see_retries(self), *_see_destinations(self)])
        return self


def _known_hops(hops: Mapping[str, NextHop]) -> str:
    if not hops:
        return 'Write a table of that name, or an address such as "smtp://mail.example.org:25".'
    return f"The next hops are: {', '.join(hops)}."


def _see_hostname(settings: Settings) -> Iterator[Finding]:
    if "." not in settings.hostname and any(listener.role == "mx" for listener in settings.listener):
        text = (
            f'"{settings.hostname}" has no dot, so it says nothing to other mail servers. Write the full name, '
            'such as hostname = "relay.example.org".'
        )
        yield Finding(("hostname",), text, depends=(("hostname",),))


def _see_listeners(settings: Settings) -> Iterator[Finding]:
    labels: set[str] = set()
    addresses: set[object] = set()
    if not settings.listener:
        yield Finding(
            ("listener",),
            "The list is empty, so no mail could come in. Leave it out for the default.",
            depends=(("listener",),),
        )
    for index, listener in enumerate(settings.listener):
        at = ("listener", index)
        if listener.label in labels:
            text = f'There is a listener "{listener.label}" already. Give this one a name of its own.'
            yield Finding((*at, "name" if listener.name else "address"), text)
        elif listener.address in addresses:
            yield Finding((*at, "address"), f'Another listener has "{listener.address}" already.')
        labels.add(listener.label)
        if not (isinstance(listener.address, TcpAddress) and listener.address.port == 0):
            addresses.add(listener.address)
        if listener.role == "lmtp" and not settings.relay.domains:
            text = (
                'Role "lmtp" takes mail for [relay] domains only, and there are none. Write domains = ["example.org"].'
            )
            yield Finding((*at, "role"), text, depends=(("relay",),))


def _see_retries(settings: Settings) -> Iterator[Finding]:
    for index, route in enumerate(settings.route):
        yield from _see_change(settings.retry, route.retry, ("route", index, "retry"))
    for index, destination in enumerate(settings.destination):
        yield from _see_change(settings.retry, destination.retry, ("destination", index, "retry"))


def _see_change(retry: Retry, change: RetryChange | None, at: KeyPath) -> Iterator[Finding]:
    changed = retry.changed(change)
    if changed.longest < changed.first:
        longest, first = format_duration(changed.longest), format_duration(changed.first)
        text = f'Together with [retry], longest is "{longest}" and less than first, which is "{first}". Set both here.'
        yield Finding(at, text)


def _see_destinations(settings: Settings) -> Iterator[Finding]:
    hosts = set(settings.next_hop) | {hop.address.host for hop in settings.next_hop.values()}
    hosts |= {value.host for route in settings.route for value in route.via if isinstance(value, (Smtp, Lmtp))}
    for index, destination in enumerate(settings.destination):
        pattern = destination.next_hop
        if pattern is not None and not any(pattern.matches("", host.lower()) for host in hosts):
            text = f'"{pattern}" is neither the name nor the host of a next hop of these settings.'
            yield Finding(("destination", index, "next_hop"), text, depends=(("next_hop",), ("route",)))
