"""A disk that fills up: 452, nothing lost of what got its 250, and mail is taken again by itself once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from smtplib import SMTP

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, running
from tests.world.waiting import until

SIZE = "24M"
SMALL = b"Subject: in the database\r\n\r\n" + (b"x" * 68 + b"\r\n") * 100
LARGE = b"Subject: in the database, and much of it\r\n\r\n" + (b"x" * 68 + b"\r\n") * 1000
FILE = b"Subject: in a file of its own\r\n\r\n" + (b"x" * 68 + b"\r\n") * 4000
PATIENCE = 90.0
CONFIG = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[retry]
first = "1s"
longest = "2s"
[spool]
min_free = "{min_free}"
"""


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mount a disk of SIZE, gone at the end."""
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("content", [SMALL, LARGE, FILE], ids=["small", "large", "file"])
def test_below_the_floor_mail_is_refused_for_now(tmp_path: Path, content: bytes) -> None:
    fill_and_free(tmp_path, content, min_free="10MiB", filler=(13 << 20) if content is SMALL else 0)


@pytest.mark.parametrize("content", [SMALL, LARGE, FILE], ids=["small", "large", "file"])
def test_a_disk_that_somebody_else_fills_to_the_last_octet(tmp_path: Path, content: bytes) -> None:
    fill_and_free(tmp_path, content, min_free="0B", filler=64 << 20)


def fill_and_free(home: Path, content: bytes, *, min_free: str, filler: int) -> None:
    """Send until 452, with the next hop down; give the room back; send again."""
    with small_disk(home / "data"), CountingSink() as sink:
        relay = Relay(home, config=CONFIG.format(port=sink.port, min_free=min_free))
        sink.down()
        with running(relay):
            taken = [number for number in range(20) if sent(relay.port, number, content) == 250]
            assert len(taken) == 20
            ballast = home / "data" / "ballast"
            fill(ballast, filler)
            refusals: list[bytes] = []
            until(
                lambda: is_refused(relay.port, content, taken, refusals),
                PATIENCE,
                what="452 from the relay",
            )
            assert refusals[0].startswith((b"4.3.1", b"4.3.0")), refusals
            ballast.unlink()
            sink.up()
            until(lambda: sent(relay.port, 50000, content) == 250, PATIENCE, what="the relay takes mail again")
            taken.append(50000)
            until(lambda: set(taken) <= arrived(sink), PATIENCE, what="the arrival of all that got its 250")
            until(lambda: relay.queue_length() == 0, PATIENCE, what="an empty queue")
            assert relay.stop() == 0
        assert arrived(sink) == set(taken), "what was refused has arrived"
        assert all(message.content.endswith(content) for message in sink.arrived), "cut off"


def is_refused(port: int, content: bytes, taken: list[int], refusals: list[bytes]) -> bool:
    """Send one more; True once the answer is 452."""
    number = max(taken) + 1
    code, text = dialogue(port, number, content)
    if code == 250:
        taken.append(number)
        return False
    assert code == 452, (code, text)
    refusals.append(text)
    return True


def sent(port: int, number: int, content: bytes) -> int:
    return dialogue(port, number, content)[0]


def dialogue(port: int, number: int, content: bytes) -> tuple[int, bytes]:
    """Send one message; return the reply that decided, wherever in the transaction it came."""
    with SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("client.example")
        code, text = client.mail("a@client.example")
        if code == 250:
            code, text = client.rcpt("b@next.example")
        if code == 250:
            code, text = client.data(f"X-Number: {number}\r\n".encode() + content)
        return code, text


def arrived(sink: CountingSink) -> set[int]:
    return {int(message.field(b"X-Number")) for message in list(sink.arrived)}


def fill(path: Path, size: int) -> None:
    """Write until the disk has no more room, or ``size`` octets."""
    block = bytes(4096)
    with path.open("wb", buffering=0) as file:
        try:
            for _ in range(0, size, len(block)):
                file.write(block)
        except OSError:
            return
