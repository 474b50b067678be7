"""Errors of the SMTP engines: two families, kept apart on purpose.

``PeerError``: the other side broke the protocol. A server sends ``reply`` and closes; a client
closes and takes ``reply`` as what became of the attempt. ``DriverError``: our own code broke the
engine's contract; it is a bug and must reach the crash log. The engines raise nothing else.
"""

from __future__ import annotations

from postroad.core.reply import Reply


class PeerError(Exception):
    """The peer cannot be followed any more."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class DriverError(Exception):
    """We called the engine in a way that its contract does not allow."""
