"""One message into one Maildir: tmp, write, sync, rename into new, sync new.

Owns: the path of a template, the name of the file, the two fields on top, line ends. Does not own: which recipients
go where (local.py), what an error means (trouble.py by way of local.py).

The name is made of message id and recipient number, so a delivery that is repeated after a crash finds that it
is there: in new, or in cur with flags behind a colon. All functions here block and raise OSError.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import Final

from postroad.core.address import Mailbox, Path
from postroad.core.faces import Disk, DiskFile
from postroad.core.ids import MessageId, format_id

DETAIL_SEPARATOR: Final = "+"
"""What parts the detail from the user in a local-part: Postfix's recipient_delimiter, as most have it."""
COMPONENT_MAX: Final = 200
"""Octets that one placeholder may fill in: file systems take 255 in a name, and the template may add some. An address
has 254, and three times as many where every octet is escaped."""
_PLACEHOLDER: Final = re.compile(r"\{(user|domain|address|detail)\}")
_UNSAFE: Final = re.compile(r"[^\w.+=@~-]|^\.")


def escape(text: str) -> str:
    """Return the text as it may stand in a path: one component at most, never hidden, never ``.``, ``..`` or empty.

    Different texts stay different: a percent sign is escaped, too, and what is too long ends in a hash of it all.
    """
    escaped = _UNSAFE.sub(lambda found: "".join(f"%{octet:02X}" for octet in found[0].encode()), text) or "%"
    octets = escaped.encode()
    if len(octets) <= COMPONENT_MAX:
        return escaped
    # "%%" cannot come of escaping, so no address can be made to look like another's cut.
    end = "%%" + hashlib.sha256(octets).hexdigest()[:32]
    return octets[: COMPONENT_MAX - len(end)].decode("utf-8", "ignore") + end


def maildir_path(template: str, mailbox: Mailbox, hostname: str) -> str:
    """Return the directory of a recipient. Case does not count, in the local-part neither: one person, one Maildir."""
    local_part = mailbox.local_part.lower()
    user, _, detail = local_part.partition(DETAIL_SEPARATOR)
    domain = mailbox.ascii_domain or hostname
    values = {"user": user, "detail": detail, "domain": domain, "address": f"{local_part}@{domain}"}
    return _PLACEHOLDER.sub(lambda found: escape(values[found[1]]), template)


def file_name(message: MessageId, number: int, received_at: float, hostname: str) -> str:
    """Return the unique name of one delivery, the same at each try."""
    return f"{int(received_at)}.{format_id(message)}R{number}.{escape(hostname)}"


def fields(sender: Path, mailbox: Mailbox) -> bytes:
    """Return what stands on top: Return-Path (RFC 5321 section 4.4) and Delivered-To."""
    return f"Return-Path: <{sender or ''}>\nDelivered-To: {mailbox}\n".encode()


class LineEnds:
    """Turns CRLF into LF in content that comes in pieces, cut anywhere. A bare CR or LF stays as it is."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def turn(self, piece: bytes) -> bytes:
        """Return the piece turned; a CR at its end waits for what follows."""
        piece = self._held + piece
        self._held = b""
        if piece.endswith(b"\r"):
            piece, self._held = piece[:-1], b"\r"
        return piece.replace(b"\r\n", b"\n")

    def end(self) -> bytes:
        """Return what still waits."""
        return self._held


class MaildirFile:
    """One delivery on its way into a Maildir."""

    __slots__ = ("_directory", "_disk", "_file", "_name")

    def __init__(self, disk: Disk, directory: str, name: str) -> None:
        self._disk = disk
        self._directory = directory
        self._name = name
        self._file: DiskFile | None = None

    def begin(self, top: bytes, *, look_in_cur: bool = True) -> bool:
        """Make the file in tmp and write ``top``; False if the message is there already.

        ``look_in_cur``: a delivery before this one may have been read since. Costs a listing.
        """
        disk, directory = self._disk, self._directory
        for each in ("tmp", "new", "cur"):
            disk.make_directories(f"{directory}/{each}")
        if disk.exists(f"{directory}/new/{self._name}"):
            disk.sync_directory(f"{directory}/new")
            return False
        if look_in_cur and self._is_in_cur():
            disk.sync_directory(f"{directory}/cur")  # whoever moved it there did not, and nor had we, perhaps, in new
            return False
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(self._tmp)  # of a try that broke off
        self._file = disk.create(self._tmp)
        self._file.write(top)
        return True

    def write(self, octets: bytes) -> None:
        """Append."""
        assert self._file is not None
        self._file.write(octets)

    def finish(self) -> None:
        """Make it durable, and visible."""
        assert self._file is not None
        self._file.sync()
        self._file.close()
        self._file = None
        self._disk.rename(self._tmp, f"{self._directory}/new/{self._name}")
        self._disk.sync_directory(f"{self._directory}/new")

    def give_up(self) -> None:
        """Take away what is in tmp. Never raises."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None
        with contextlib.suppress(OSError):
            self._disk.unlink(self._tmp)

    def store_whole(self, top: bytes, content: bytes, *, look_in_cur: bool = True) -> None:
        """Do all of it at once."""
        if self.begin(top, look_in_cur=look_in_cur):
            self.write(content.replace(b"\r\n", b"\n"))
            self.finish()

    @property
    def _tmp(self) -> str:
        return "/".join((self._directory, "tmp", self._name))

    def _is_in_cur(self) -> bool:
        flagged = f"{self._name}:"
        return any(name == self._name or name.startswith(flagged) for name in self._disk.list(f"{self._directory}/cur"))
