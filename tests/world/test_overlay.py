"""Exim and OpenSMTPD run from their overlays, answer on this machine's loopback, and leave nothing behind."""

from __future__ import annotations

import os
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.world.overlay import OverlayRoot, open_directory, overlay_root
from tests.world.waiting import is_listening, until

EXIM = """
primary_hostname = exim.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts =
log_file_path = {directory}/exim-%slog
queue_only
acl_smtp_rcpt = accept
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  file = {directory}/delivered
  user = Debian-exim
"""
OPENSMTPD = """
listen on 127.0.0.1 port {port} hostname opensmtpd.test
action "onward" relay host smtp://127.0.0.1:{closed}
match from any for any action "onward"
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with open_directory() as path:
        yield path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start_exim(root: OverlayRoot, port: int, directory: Path) -> subprocess.Popen[bytes]:
    root.write("/etc/exim4/exim4.conf", EXIM.format(port=port, directory=directory))
    return root.start("exim4", "-bdf", log=directory / "exim.log")


def start_opensmtpd(root: OverlayRoot, port: int, directory: Path) -> subprocess.Popen[bytes]:
    root.write("/etc/smtpd.conf", OPENSMTPD.format(port=port, closed=free_port()))
    return root.start("smtpd", "-d", log=directory / "smtpd.log")


@pytest.mark.parametrize(
    ("name", "start", "extension"),
    [("exim", start_exim, "pipelining"), ("opensmtpd", start_opensmtpd, "enhancedstatuscodes")],
)
def test_the_server_answers_from_its_overlay(
    name: str,
    start: Callable[[OverlayRoot, int, Path], subprocess.Popen[bytes]],
    extension: str,
    directory: Path,
) -> None:
    port, ours = free_port(), Path("/etc/passwd").read_bytes()
    with overlay_root(name) as root:
        process = start(root, port, directory)
        until(lambda: is_listening(port) or process.poll() is not None, what=f"{name} on port {port}")
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            code, text = client.ehlo("test.example")
            assert code == 250
            assert text.startswith(f"{name}.test".encode())
            assert client.has_extn(extension)
            assert client.mail("a@example.org")[0] == 250
            assert client.rcpt("b@example.org")[0] == 250
            assert client.data(b"Subject: through the overlay\r\n\r\nHello\r\n")[0] == 250
        inside = {path.name for path in (root.path / "proc").iterdir() if path.name.isdecimal()}
        assert len(inside) < 20, "it sees its own processes, not the machine's"
    assert process.wait(10) is not None
    assert not is_listening(port)
    assert Path("/etc/passwd").read_bytes() == ours


def test_exim_keeps_its_queue_and_log_where_the_test_can_read_them(directory: Path) -> None:
    port = free_port()
    with overlay_root("exim") as root:
        process = start_exim(root, port, directory)
        until(lambda: is_listening(port))
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.sendmail("a@example.org", ["b@example.org"], b"Subject: kept\r\n\r\nHello\r\n")
        assert "b@example.org" in root.run("exim4", "-bp")
        assert list((root.path / "var/spool/exim4/input").iterdir())
        root.run("exim4", "-qff")
        assert "Subject: kept" in (directory / "delivered").read_text()
        assert "=> b" in (directory / "exim-mainlog").read_text()
        root.stop(process)
        assert not is_listening(port)


def test_what_is_written_inside_stays_inside() -> None:
    with overlay_root("exim") as root:
        root.write("/etc/postroad-was-here", "inside", mode=0o600, owner="Debian-exim")
        assert root.run("cat", "/etc/postroad-was-here") == "inside"
        assert not Path("/etc/postroad-was-here").exists()
        with pytest.raises(subprocess.CalledProcessError):
            root.run("false")
        mounts = Path("/proc/self/mountinfo").read_text()
        assert "postroad-overlay" not in mounts
        inside = root.path
    assert not os.path.lexists(inside)


def test_a_test_that_dies_leaves_no_process(tmp_path: Path) -> None:
    """The overlay ends with the pipe that holds it, so a killed test run takes its servers with it."""
    code = f"""
import os, sys
from tests.world.overlay import overlay_root
with overlay_root("exim") as root:
    process = root.start("sh", "-c", "exec tail -f {tmp_path}/marker")
    print(root.path, flush=True)
    sys.stdin.read()
"""
    (tmp_path / "marker").touch()
    root, environment = Path(__file__).resolve().parents[2], {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        inside = Path(process.stdout.readline().strip())
        assert inside.exists()
        process.kill()
    until(lambda: not os.path.lexists(inside), what="the end of the overlay")
