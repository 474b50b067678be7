"""The supervisor's sockets, its directory, its secrets, the service manager, the places of its children."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from postroad.config.addresses import FdAddress
from postroad.config.load import load_text
from postroad.net.errors import ListenError
from postroad.service.children import RESTART_FIRST, RESTART_LONGEST, SILENCE_MAX, WELL_AFTER, Child
from postroad.service.data_dir import is_alive, lock_data_dir, make_data_dir
from postroad.service.failures import StartFailed
from postroad.service.leash import Leash
from postroad.service.notify import Notifier
from postroad.service.open_sockets import Sockets, handed_over
from postroad.service.plan import Plan, read_memory
from postroad.service.privileges import identity_of
from postroad.service.reading import plan_of
from postroad.service.secrets import SecretFiles


def plan(tmp_path: Path, *listeners: str, workers: int = 3, http: str = "") -> Plan:
    made = plan_of(load_text("workers = 1"))
    (tmp_path / "run").mkdir(exist_ok=True)
    return msgspec.structs.replace(
        made, data_dir=str(tmp_path), listeners=listeners, workers=workers, http_address=http
    )


# --- sockets ---


def test_each_worker_has_a_socket_of_its_own_and_what_waits_in_one_is_not_lost(tmp_path: Path) -> None:
    sockets = Sockets(plan(tmp_path, "127.0.0.1:0", http="127.0.0.1:0"), None)
    try:
        sockets.open()
        mine = [dict(sockets.of("worker", slot)) for slot in range(3)]
        assert len({one["listener:0"].getsockname() for one in mine}) == 1
        assert len({one["listener:0"].fileno() for one in mine}) == 3
        assert len({one["steering"].getsockname() for one in mine}) == 3
        assert [name for name, _ in sockets.of("ledger", 0)] == ["ledger"]
        assert [name for name, _ in sockets.of("front", 0)] == ["control", "http"]
        assert sockets.names == (f"127.0.0.1:{mine[0]['listener:0'].getsockname()[1]}",)
        clients = [socket.create_connection(mine[0]["listener:0"].getsockname()) for _ in range(20)]
        taken = 0
        for one in mine:
            while True:
                try:
                    one["listener:0"].accept()[0].close()
                except BlockingIOError:
                    break
                taken += 1
        assert taken == 20
        for client in clients:
            client.close()
    finally:
        sockets.close()
    assert list((tmp_path / "run").iterdir()) == []
    assert not (tmp_path / "control.sock").exists()


def test_a_second_relay_does_not_take_half_of_the_mail(tmp_path: Path) -> None:
    first = Sockets(plan(tmp_path, "127.0.0.1:0"), None)
    first.open()
    (tmp_path / "other").mkdir()
    second = Sockets(plan(tmp_path / "other", first.names[0]), None)
    try:
        with pytest.raises(ListenError, match="another program listens there"):
            second.open()
    finally:
        second.close()
        first.close()


def test_a_unix_socket_is_shared_and_unlinked_only_by_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mail.sock"
    sockets = Sockets(plan(tmp_path, f"unix:{path}"), None)
    sockets.open()
    (first, second) = (dict(sockets.of("worker", slot))["listener:0"] for slot in (0, 1))
    assert first is second
    path.unlink()
    successor = socket.socket(socket.AF_UNIX)
    successor.bind(str(path))
    sockets.close()
    assert path.exists()
    successor.close()


def test_a_socket_that_is_handed_over() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as made,
        closing(handed_over(FdAddress(made.fileno()))) as ours,
    ):
        assert ours.getsockname() == made.getsockname()
        assert not ours.getblocking()
    with closing(socket.socket()) as deaf, pytest.raises(ListenError, match="does not listen"):
        handed_over(FdAddress(deaf.fileno()))
    with open("/dev/null") as file, pytest.raises(ListenError, match="is not a socket"):
        handed_over(FdAddress(file.fileno()))
    with pytest.raises(ListenError, match="was not handed over"):
        handed_over(FdAddress(249))


# --- the directory ---


def test_the_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "b"
    make_data_dir(data_dir, None, for_group=False)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "run").stat().st_mode) == 0o700
    make_data_dir(data_dir, None, for_group=False)  # again: nothing to do


def test_one_relay_at_a_time(tmp_path: Path) -> None:
    lock = lock_data_dir(tmp_path, None)
    with pytest.raises(StartFailed, match=f"relay.lock is held by process {os.getpid()}"):
        lock_data_dir(tmp_path, None)
    os.close(lock)
    os.close(lock_data_dir(tmp_path, None))


def test_a_start_waits_for_what_a_killed_relay_left(tmp_path: Path) -> None:
    lock = lock_data_dir(tmp_path, None)
    os.pwrite(lock, b"4194304\n", 0)  # above pid_max: its supervisor is dead, one of the others holds the lock still
    held = os.dup(lock)
    os.close(lock)
    if os.fork() == 0:
        os.execv("/bin/sh", ["sh", "-c", f"exec sleep 0.3 {held}<&-"])
    os.close(held)
    os.close(lock_data_dir(tmp_path, None))
    os.wait()


def test_who_is_alive() -> None:
    assert is_alive(str(os.getpid()))
    assert not is_alive("4194304")
    assert not is_alive("unknown")


def test_users_that_are_none() -> None:
    assert identity_of("", "") is None
    with pytest.raises(StartFailed, match="useradd"):
        identity_of("no-such-user-here", "")
    with pytest.raises(StartFailed, match="groupadd"):
        identity_of("root", "no-such-group-here")


# --- secrets ---


def test_secrets_are_handed_on_in_memory_and_again_when_they_change(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("first")
    secrets = SecretFiles({"worker": [str(key)], "front": []}, is_needed=True)
    secrets.read()
    assert read_memory(secrets.held[str(key)]) == b"first"
    assert (list(secrets.of("worker")), secrets.of("front"), secrets.of("ledger")) == ([str(key)], {}, {})
    assert secrets.read_changed() == {}
    (tmp_path / "new").write_text("second")
    (tmp_path / "new").rename(key)
    changed = secrets.read_changed()
    assert read_memory(changed[str(key)]) == b"second"
    key.unlink()
    assert secrets.read_changed() == {}, "what cannot be read stays as it was"
    assert read_memory(secrets.held[str(key)]) == b"second"
    with pytest.raises(StartFailed, match="cannot be read: no such file"):
        secrets.with_paths({"worker": [str(key)]})
    secrets.close()


def test_a_secret_must_be_a_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    secrets = SecretFiles({"worker": [str(tmp_path / "pipe")]}, is_needed=True)
    with pytest.raises(StartFailed, match="is not a file"):
        secrets.read()


def test_nothing_is_read_where_nothing_is_given_up(tmp_path: Path) -> None:
    secrets = SecretFiles({"worker": [str(tmp_path / "not-there")]}, is_needed=False)
    secrets.read()
    assert secrets.held == {}


# --- the service manager ---


@pytest.mark.parametrize("name", ["socket", "@postroad-test-{pid}"])
def test_the_service_manager_hears_us(tmp_path: Path, name: str) -> None:
    name = name.format(pid=os.getpid())
    path = name if name.startswith("@") else str(tmp_path / name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path[1:] if path.startswith("@") else path)
        told = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())})
        assert told.watchdog_every == 5.0
        told.ready("Taking mail")
        told.reloading()
        told.alive()
        told.stopping()
        heard = [manager.recv(1000).decode() for _ in range(4)]
    assert heard[0] == f"READY=1\nSTATUS=Taking mail\nMAINPID={os.getpid()}"
    assert heard[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard[2] == "WATCHDOG=1"
    assert heard[3].startswith("STOPPING=1\n")


def test_no_service_manager_no_word() -> None:
    told = Notifier({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"})
    assert told.watchdog_every == 0.0
    told.ready("to nobody")
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("to nobody")


# --- the places of children ---


def live_and_die(child: Child, born: float, died: float) -> float:
    """Return how long after its death it is started again."""
    child.begun(leash=object.__new__(Leash), now=born, wall=0.0)
    child.forked = born
    child.ended(died)
    child.restarts += 1
    assert child.again_at is not None
    return child.again_at - died


def test_the_first_death_costs_no_time_and_soon_ones_ever_more() -> None:
    child = Child("worker", 1)
    waits = [live_and_die(child, 10.0 * n, 10.0 * n + 1.0) for n in range(10)]
    assert waits[0] == 0.0
    assert waits[1] == pytest.approx(2 * RESTART_FIRST)
    assert waits == sorted(waits)
    assert waits[-1] == RESTART_LONGEST
    assert live_and_die(child, 1000.0, 1000.0 + WELL_AFTER + 1.0) == 0.0, "it was well for a while"


def test_silence_is_death() -> None:
    child = Child("worker")
    child.begun(object.__new__(Leash), 100.0, 0.0)
    assert not child.is_silent(100.0 + SILENCE_MAX)
    assert child.is_silent(100.1 + SILENCE_MAX)
