"""Who the processes are: root only where it is needed, somebody else for all that touches mail.

Owns: finding [process] user and group, acting as them for a moment (so that files belong to them, and no path in their
hands is followed with root's rights), becoming them for good, the limit of open files. Does not own: when
(supervisor.py, nursery.py).
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from postroad.service.failures import StartFailed

_SET_NAME: Final = 15
_SET_NO_NEW_PRIVS: Final = 38
_CAP_AMBIENT: Final = 47
_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
"""Of prctl(2) and capset(2)."""


class Identity(msgspec.Struct, frozen=True):
    """A user with everything that it is a member of."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def identity_of(user: str, group: str) -> Identity | None:
    """Return who to become; None: stay who we are.

    Raises:
        StartFailed: there is no such user or group, or we may not become it.
    """
    if not user:
        return None
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        text = f"There is no user {user} ([process] user). Make it: useradd --system --no-create-home {user}"
        raise StartFailed(text) from None
    gid = found.pw_gid
    if group:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            raise StartFailed(
                f"There is no group {group} ([process] group). Make it: groupadd --system {group}"
            ) from None
    if os.geteuid() not in (0, found.pw_uid):
        text = (
            f"Only root can become {user} ([process] user). Start Postroad as root or as {user}, or leave user out to "
            "run as who you are."
        )
        raise StartFailed(text)
    groups = tuple(sorted({gid, *os.getgrouplist(user, found.pw_gid)}))
    return Identity(user, found.pw_uid, gid, groups)


@contextmanager
def acting_as(identity: Identity | None) -> Iterator[None]:
    """Have the user's rights, and no more, until the block ends. For one thread; nothing where we are that user."""
    if identity is None or os.geteuid() == identity.uid:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups(identity.groups)
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def become(identity: Identity | None) -> None:
    """Be the user from now on, without a way back."""
    if identity is None or os.getuid() == os.geteuid() == identity.uid:
        return
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        raise StartFailed(f"The rights of root could not be given up for those of {identity.name}.")


def give_up_capabilities() -> None:
    """Have no capability (capabilities(7)), and never get one: not by what a program is marked with, nor as root would.

    For processes that have all the sockets they will ever need. Raises OSError where the kernel refuses.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing):
        error = ctypes.get_errno()
        raise OSError(error, f"capabilities cannot be given up: {os.strerror(error)}")


def name_process(name: str) -> None:
    """Give this process a name that ps, top and pgrep show (at most 15 characters)."""
    import ctypes

    ctypes.CDLL(None).prctl(_SET_NAME, ctypes.c_char_p(name[:15].encode()), 0, 0, 0)


def set_file_limit(wanted: int) -> int:
    """Raise the limit of open files to ``wanted``, as far as we may. Returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted
    if hard != resource.RLIM_INFINITY and wanted > hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            target = hard
        else:
            return wanted
    if soft == resource.RLIM_INFINITY or soft >= target:
        return wanted if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return target
