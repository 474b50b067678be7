"""What this machine calls itself.

Owns: finding that out in short time. Does not own: what the relay is called (config: ``hostname``). Imports next to
nothing: ``postroad sendmail`` starts fast.
"""

from __future__ import annotations

import socket
from typing import Final

NAME_TIMEOUT: Final = 2.0
"""Seconds to find out the machine's full name, which may ask the DNS."""


def machine_name() -> str:
    """Return what this machine calls itself: its full name if that can be found out in short time."""
    name = socket.gethostname()
    if "." in name:
        return name
    import threading

    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(socket.getfqdn(name)), daemon=True)
    asking.start()
    asking.join(NAME_TIMEOUT)
    return found[0] if found and "." in found[0] and not found[0].startswith("localhost.") else name
