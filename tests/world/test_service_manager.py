"""The relay below a service manager: what it tells, sockets handed over, the sandbox of the unit, an unprivileged user.

systemd itself does not run here. Its tools do: systemd-analyze reads the unit, systemd-socket-activate hands over
sockets as systemd does; what it would hear is heard on a socket of the test's.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from smtplib import SMTP

import pytest
import trustme
from tests.world.harness import SOURCES, Relay, answers, free_port, group, name_of, running, wait_until
from tests.world.test_start import has_decided

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "systemd" / "postroad.service"
EXPOSURE_MAX = 2.0
"""Of systemd-analyze security; 0 is nothing left to take away, 10 is everything allowed, 9.2 a unit that says
nothing."""
USER = "postroad-test"
DISCARD = '[[route]]\nto = "*"\nvia = "discard:"\n'
NOT_LEAST = ("setpriv", "--bounding-set=-all,+net_bind_service", "--inh-caps=-all", "--no-new-privs", "--")
"""What is left of root below the unit: its files, and ports below 1024."""


def test_the_sandbox_of_the_unit(capsys: pytest.CaptureFixture[str]) -> None:
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    found = re.search(r"Overall exposure level for postroad.service: ([0-9.]+)", said)
    assert found, said
    with capsys.disabled():
        print(f"\nsystemd-analyze security: exposure {found[1]}")
    assert float(found[1]) <= EXPOSURE_MAX


@contextmanager
def notified(path: Path):
    """A socket like the service manager's; gives what has been heard, as a list that grows."""
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)

        def listen() -> list[str]:
            try:
                while True:
                    heard.append(manager.recv(4096).decode())
            except BlockingIOError:
                return heard

        yield listen


def test_what_the_service_manager_hears(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with notified(path) as heard:
        relay = Relay(tmp_path, config=DISCARD, env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"})
        with running(relay):
            wait_until(lambda: any(f"MAINPID={relay.pid}" in one for one in heard()), "READY")
            assert heard()[0].startswith("READY=1")
            wait_until(lambda: heard().count("WATCHDOG=1") >= 3, "signs of life")
            os.kill(relay.pid, signal.SIGHUP)
            wait_until(lambda: any(one.startswith("RELOADING=1\nMONOTONIC_USEC=") for one in heard()), "RELOADING")
            wait_until(lambda: sum(one.startswith("READY=1") for one in heard()) == 2, "READY again")
            assert relay.stop() == 0
        assert heard()[-1].startswith("STOPPING=1")


def test_a_socket_that_is_handed_over(tmp_path: Path) -> None:
    port = free_port()
    relay = Relay(tmp_path, config=f'[[listener]]\naddress = "fd:3"\nrole = "mx"\n{DISCARD}', port=port)
    with relay.log_file.open("ab") as log:
        relay.process = subprocess.Popen(
            [
                "systemd-socket-activate", f"--listen=127.0.0.1:{port}", f"--setenv=PYTHONPATH={SOURCES}",
                sys.executable, "-m", "postroad", "serve", "--config", str(relay.config_file),
            ],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: answers(port), "the socket")
        with SMTP("127.0.0.1", port, timeout=60) as client:  # the first connection starts the relay, and waits for it
            assert client.sendmail("a@b.example", ["c@d.example"], "Subject: x\r\n\r\nhi\r\n") == {}
        wait_until(lambda: f"listeners=127.0.0.1:{port}" in relay.log, "the fact of the start")
        assert relay.stop() == 0
    finally:
        if relay.process.poll() is None:
            relay.kill()


def test_what_was_not_handed_over_is_said(tmp_path: Path) -> None:
    relay = Relay(tmp_path, config=f'[[listener]]\naddress = "fd:77"\nrole = "mx"\n{DISCARD}')
    relay.start(wait=False)
    wait_until(lambda: relay.process is not None and relay.process.poll() is not None, "the end")
    assert relay.log == (
        "Fd:77 was not handed over: bad file descriptor. Start Postroad by its systemd .socket unit, or change the "
        "listener's address.\n"
    )


# --- who the processes are ---


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def listening(pid: int) -> set[int]:
    """The ports of the listening TCP sockets that a process has open."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            found.add(int(fields[1].rpartition(":")[2], 16))
    return found


@pytest.fixture
def user():
    subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True)
    try:
        yield pwd.getpwnam(USER)
    finally:
        subprocess.run(["userdel", USER], check=True)


@pytest.fixture
def open_path():
    """A directory that any user can enter; pytest's are for their owner alone."""
    with tempfile.TemporaryDirectory(prefix="postroad-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


def test_an_unprivileged_user_with_port_25(open_path: Path, user, capsys: pytest.CaptureFixture[str]) -> None:
    """All but the supervisor are that user, without a capability; what only root may read is handed on in memory."""
    tmp_path = open_path
    pair = trustme.CA().issue_cert("relay.test.example")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    http = free_port()
    config = f"""
[process]
user = "{USER}"
[[listener]]
name = "in"
address = "127.0.0.25:25"
role = "mx"
[tls]
[[tls.certificate]]
certificate = "certificate.pem"
private_key = "key.pem"
[http]
address = "127.0.0.1:{http}"
{DISCARD}"""
    relay = Relay(tmp_path, config=config, port=25)
    relay.start(wait=False)
    try:
        wait_until(lambda: has_decided(relay), "the start, or its end")
        assert "kind=started" in relay.log, relay.log
        with SMTP("127.0.0.25", 25, timeout=60) as client:
            assert client.starttls()[0] == 220
            assert client.sendmail("a@b.example", ["c@d.example"], "Subject: x\r\n\r\nhi\r\n") == {}
        rows = {}
        for pid in group(relay.pid):
            own = status(pid)
            rows[name_of(pid)] = (own["Uid"].split()[0], own["CapEff"], own["NoNewPrivs"], sorted(listening(pid)))
        with capsys.disabled():
            print()
            for name, (uid, capabilities, no_new, ports) in sorted(rows.items()):
                who = pwd.getpwuid(int(uid)).pw_name
                print(f"{name:12} {who:14} capabilities {capabilities} no-new-privs {no_new} listens on {ports}")
        others = {name: row for name, row in rows.items() if name != "postroad"}
        assert set(others) == {"pr-nursery", "pr-ledger", "pr-front", "pr-worker-0", "pr-worker-1"}
        assert {row[:3] for row in others.values()} == {(str(user.pw_uid), "0" * 16, "1")}
        assert {name: row[3] for name, row in others.items() if row[3]} == {
            "pr-worker-0": [25],
            "pr-worker-1": [25],
            "pr-front": [http],
        }
        for pid in group(relay.pid):
            if pid != relay.pid:
                reads = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "cat"]
                assert subprocess.run([*reads, str(tmp_path / "key.pem")], capture_output=True, check=False).returncode
        assert (relay.data_dir / "shard-0" / "spool.db").stat().st_uid == user.pw_uid
        assert "privileges" not in relay.log
        assert relay.stop() == 0
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()


def test_port_25_by_a_capability_alone(tmp_path: Path) -> None:
    """As the unit starts it: nothing of root's rights but one, and of that nothing is left where mail is read."""
    relay = Relay(tmp_path, config=f'[[listener]]\naddress = "127.0.0.26:25"\nrole = "mx"\n{DISCARD}', port=25)
    relay.start(wait=False, prefix=NOT_LEAST)
    try:
        wait_until(lambda: has_decided(relay), "the start, or its end")
        assert "kind=started" in relay.log, relay.log
        with SMTP("127.0.0.26", 25, timeout=60) as client:
            assert client.noop()[0] == 250
        assert relay.stop() == 0
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()


def test_no_rights_no_port(tmp_path: Path) -> None:
    relay = Relay(tmp_path, config=f'[[listener]]\naddress = "127.0.0.26:25"\nrole = "mx"\n{DISCARD}', port=25)
    relay.start(wait=False, prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"))
    wait_until(lambda: relay.process is not None and relay.process.poll() is not None, "the end")
    assert relay.log.startswith("Cannot listen on 127.0.0.26:25: permission denied; ports below 1024 are for root")
