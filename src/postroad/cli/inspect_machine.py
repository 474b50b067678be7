"""Inspects what the machine gives the relay: data_dir, disk, sockets, files, privileges, names.

Owns: the findings about the world outside of the settings. Does not own: certificates (inspect_tls.py), the sense of
the settings (inspect_policy.py). Nothing here changes anything that lasts, and what waits has a time-out.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from postroad.cli.findings import Finding, error, note, warning
from postroad.cli.output import shown_size
from postroad.config.addresses import FdAddress, TcpAddress, UnixAddress
from postroad.core.faces import NameNotFound, NameTrouble
from postroad.net.errors import ListenError
from postroad.net.name_servers import NameServers
from postroad.net.sockets import open_listening

if TYPE_CHECKING:
    from postroad.cli.house import House
    from postroad.config.model import Settings
    from postroad.outbound.steering import Health

DNS_TIMEOUT: Final = 3.0
"""Seconds for one server."""
FILES_SPARE: Final = 1000
"""Open files beside those of incoming connections: deliveries, bodies, databases."""


def inspect_data_dir(settings: Settings) -> Iterator[Finding]:
    """Can the relay keep its data, and can nobody else?"""
    path = settings.data_dir
    me = user_name(os.geteuid())
    try:
        found = path.stat()
    except FileNotFoundError:
        yield from _inspect_parent(path, me)
        return
    except OSError as trouble:
        yield error("data_dir", f"{path} cannot be looked at: {trouble.strerror}.", f"Let {me} enter its parents.")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield error("data_dir", f"{path} is not a directory.", "Move it away, or set data_dir to another place.")
        return
    owner, mode = user_name(found.st_uid), stat.S_IMODE(found.st_mode)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        yield error(
            "data_dir",
            f"{path} cannot be read and written by {me}: it belongs to {owner}, mode {mode:04o}.",
            f"Run as {owner}, or: chown -R {me} {path}",
        )
    elif found.st_uid not in (os.geteuid(), 0) or (found.st_uid == 0 and os.geteuid() != 0):
        yield warning(
            "data_dir", f"{path} belongs to {owner}, and you are {me}.", f"Run the relay and this command as {owner}."
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        others = "write" if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else "read"
        yield warning("data_dir", f"Others may {others} in {path}, where the mail is.", f"chmod 700 {path}")


def _inspect_parent(path: Path, me: str) -> Iterator[Finding]:
    parent = next((parent for parent in path.parents if parent.exists()), Path("/"))
    if os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
        yield note("data_dir", f"{path} is not there yet: the relay makes it at its first start.")
    else:
        yield error("data_dir", f"{path} is not there, and {me} cannot make it in {parent}.", f"Make it for {me}.")


def inspect_disk(settings: Settings) -> Iterator[Finding]:
    """Is there room for mail?"""
    place = next((path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists()), Path("/"))
    try:
        found = os.statvfs(place)
    except OSError as trouble:
        yield error("disk", f"The disk of {place} cannot be asked: {trouble.strerror}.")
        return
    free, least = found.f_bavail * found.f_frsize, settings.spool.min_free
    text = f"{shown_size(free)} are free for {settings.data_dir}, [spool] min_free is {shown_size(least)}"
    if free < least:
        yield error("disk", f"{text}: clients would get 452.", "Free some space, or lower min_free.")
    elif free < 2 * least:
        yield warning("disk", f"{text}: not much is left.", "Free some space.")


def inspect_listeners(settings: Settings, health: Health | None) -> Iterator[Finding]:
    """Can each listener be opened, or is it open already, and ours?"""
    ours = health.listeners if health else ()
    for listener in settings.listener:
        address = listener.address
        if str(address) in ours:
            yield note("listener", f"The relay that runs listens on {address}.")
        elif isinstance(address, FdAddress):
            yield note("listener", f"{address} is handed over by whoever starts the relay.")
        elif isinstance(address, TcpAddress) and address.port == 0:
            yield note("listener", f"{address}: the kernel chooses a port at each start.")
        else:
            yield from _try_to_listen(address)
    if settings.http.address is not None and health is None:
        yield from _try_to_listen(settings.http.address)


def _try_to_listen(address: TcpAddress | UnixAddress) -> Iterator[Finding]:
    try:
        open_listening(address, backlog=0).close()
    except ListenError as trouble:
        text, _, remedy = str(trouble).partition("; ")
        yield error(
            "listener", f"{text[:1].upper()}{text[1:]}.", f"{remedy[:1].upper()}{remedy[1:]}." if remedy else ""
        )
        return
    if isinstance(address, UnixAddress):
        os.unlink(address.path)


def inspect_process(settings: Settings) -> Iterator[Finding]:
    """Who shall the relay be, and how many files may it open?"""
    yield from _inspect_user(settings)
    wanted, needed = settings.process.file_limit, settings.limits.connections + FILES_SPARE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted < needed:
        yield warning(
            "process",
            f"[process] file_limit is {wanted}, and {needed} may be needed for [limits] connections.",
            f"Set file_limit = {needed}, or lower connections.",
        )
    if os.geteuid() != 0 and hard != resource.RLIM_INFINITY and hard < min(wanted, needed):
        yield warning(
            "process",
            f"At most {hard} files may be open, {needed} may be needed for [limits] connections.",
            f"ulimit -n {needed} before the start, or LimitNOFILE={needed} in the systemd unit.",
        )


def _inspect_user(settings: Settings) -> Iterator[Finding]:
    user, group = settings.process.user, settings.process.group
    if not user:
        if os.geteuid() == 0:
            yield warning(
                "process",
                "You are root, and [process] user is not set: what breaks into the relay would be root, too.",
                'Make a user of its own (useradd --system postroad), and set user = "postroad" in [process].',
            )
        return
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        yield error(
            "process", f"There is no user {user} ([process] user).", f"useradd --system --no-create-home {user}"
        )
        return
    if os.geteuid() not in (0, uid):
        yield error(
            "process", f"Only root can become {user} ([process] user).", f"Start the relay as root, or as {user}."
        )
    if group:
        try:
            grp.getgrnam(group)
        except KeyError:
            yield error("process", f"There is no group {group} ([process] group).", f"groupadd --system {group}")


async def inspect_names(settings: Settings, house: House, *, is_sandbox: bool) -> list[Finding]:
    """Is our name one, and do the DNS servers answer? All are asked at once, each for DNS_TIMEOUT."""
    hostname = settings.hostname
    if "." not in hostname:
        text = f'The host name "{hostname}" has no dot, so it says nothing to other mail servers.'
        remedy = 'Set hostname = "relay.example.org", with your own name.'
        return [note("hostname", text, remedy) if is_sandbox else error("hostname", text, remedy)]
    servers = NameServers(settings.dns.servers, time=asyncio.get_running_loop().time).current()
    found = await asyncio.gather(*(_ask(house, server, hostname) for server in servers))
    return list(dict.fromkeys(finding for finding in found if finding is not None))


async def _ask(house: House, server: TcpAddress, hostname: str) -> Finding | None:
    try:
        async with asyncio.timeout(DNS_TIMEOUT):
            addresses = await house.resolve(server, hostname, DNS_TIMEOUT)
    except NameNotFound:
        addresses = ()
    except (NameTrouble, TimeoutError) as trouble:
        why = str(trouble) or f"no answer in {DNS_TIMEOUT:g} s"
        return error(
            "dns",
            f"The DNS server {server} gives no answer: {why}.",
            "Check [dns] servers, /etc/resolv.conf and the firewall.",
        )
    if addresses:
        return None
    return warning(
        "hostname",
        f"{hostname} has no address in the DNS; other mail servers may refuse us for that.",
        "Publish an A or AAAA record, or set hostname to a name that has one.",
    )


def user_name(uid: int) -> str:
    """Return the name of a user, or the number as chown takes it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
