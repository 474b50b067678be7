"""What the disk holds at the end, read without the product: rows by plain SQL, files by name.

Owns: a view of the tables and files by which the judge finds what ended by a rule, what still waits, what lies in
Maildirs. Does not own: the schema (spool/schema.sql; keep in step with its columns).
"""

from __future__ import annotations

import apsw
import msgspec

from postroad.testing.fault_vfs import FaultVfs
from postroad.testing.memory_disk import MemoryDisk
from postroad.testing.sim import mail
from postroad.testing.sim.judge_ids import shard_of_path


class Drop(msgspec.Struct, frozen=True):
    """A row of table dropped."""

    message: int
    recipient: str
    rule: str
    at: float
    shard: int = 0


class Stored(msgspec.Struct, frozen=True):
    """A file in a Maildir."""

    address: str
    name: str
    seen: mail.Seen


class Image(msgspec.Struct):
    """What there is."""

    drops: list[Drop] = []
    waiting: list[tuple[int, int, str, int]] = []
    """(message, number, domain, state)"""
    messages: int = 0
    total: int = 0
    damaged: list[str] = []
    stored: list[Stored] = []
    bodies: list[str] = []
    trouble: list[str] = []


def read_image(disk: MemoryDisk) -> Image:
    """Read everything below /data."""
    image = Image()
    vfs = FaultVfs(f"sim-image-{id(disk):x}", disk)
    try:
        for path, octets in disk.contents():
            if path.endswith("/spool.db"):
                _read_database(path, f"sim-image-{id(disk):x}", image)
                if ".damaged-" in path:
                    image.damaged.append(path)
            elif "/bodies/" in path:
                image.bodies.append(path)
            elif "/new/" in path or "/cur/" in path:
                _read_maildir(path, octets, image)
    finally:
        vfs.unregister()
    return image


def _read_database(path: str, vfs: str, image: Image) -> None:
    try:
        connection = apsw.Connection(path, vfs=vfs)
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        if (check := connection.execute("PRAGMA integrity_check").fetchone()) != ("ok",):
            image.trouble.append(f"{path}: {check}")
        rows = connection.execute("SELECT message_id, recipient, rule, at FROM dropped")
        image.drops += [msgspec.structs.replace(Drop(*row), shard=shard_of_path(path)) for row in rows]
        image.waiting += list(connection.execute("SELECT message_id, number, domain, state FROM delivery"))
        image.messages += int(connection.execute("SELECT count(*) FROM message").get)
        image.total += int(connection.execute("SELECT messages FROM total").get)
        for message, why in connection.execute("SELECT message_id, why FROM damaged"):
            image.damaged.append(f"{message}: {why}")
        connection.close()
    except apsw.Error as error:
        image.trouble.append(f"{path}: {type(error).__name__}: {error}")


def _read_maildir(path: str, octets: bytes, image: Image) -> None:
    top, _, rest = octets.partition(b"\nDelivered-To: ")
    if not top.startswith(b"Return-Path: "):
        image.trouble.append(f"{path} does not begin with Return-Path")
    address, _, content = rest.partition(b"\n")
    seen = mail.see(content.replace(b"\n", b"\r\n"))
    image.stored.append(Stored(address.decode().lower(), path.rsplit("/", 1)[1], seen))
