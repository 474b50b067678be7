"""Who may send to whom: permission to relay as arithmetic, with the rule that decided.

Owns: the decision at MAIL and at RCPT, its reply and the name of its rule. Does not own: how we know
that a client is in [relay] networks or has shown credentials (access), which domains are ours (config; the
house passes a predicate). Closed unless told: every way to Allowed stands in this file.

A local-part is never taken apart: user%foreign@ours and "user@foreign"@ours are mailboxes of ours. Since hosts
behind us may think otherwise, strangers may not use them at all (Postfix calls it allow_untrusted_routing).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from postroad.core import reply
from postroad.core.address import Mailbox
from postroad.core.reply import Reply

ROUTING_DENIED: Final = reply.RELAY_DENIED.with_text("Relaying denied: no routing within a local-part")


class Role(StrEnum):
    """What a listener is for."""

    MX = "mx"
    SUBMISSION = "submission"
    LMTP = "lmtp"


class Allowed(msgspec.Struct, frozen=True, gc=False):
    """It may. ``rule`` goes into the fact."""

    rule: str


class Denied(msgspec.Struct, frozen=True, gc=False):
    """It may not. The client is told ``reply``, the fact has ``rule``."""

    reply: Reply
    rule: str


Permission = Allowed | Denied

# The same few answers for every recipient: made once.
_BY_NETWORK: Final = Allowed("relay.networks")
_BY_CREDENTIALS: Final = Allowed("auth")
_BY_DOMAIN: Final = Allowed("relay.domains")
_BY_ANYBODY: Final = Allowed("listener.role")
_NEEDS_CREDENTIALS: Final = Denied(reply.AUTH_REQUIRED, "listener.role")
_NOT_OURS: Final = Denied(reply.RELAY_DENIED, "relay.domains")
_NOT_DELIVERED_HERE: Final = Denied(reply.NOT_HERE, "relay.domains")
_ROUTED: Final = Denied(ROUTING_DENIED, "relay.routing")


def may_send(role: Role, *, is_trusted: bool, is_authenticated: bool = False) -> Permission:
    """Decide at MAIL. Only submission turns strangers away here: 530 (RFC 4954 section 6).

    Args:
        is_trusted: the client's address is in [relay] networks.
        is_authenticated: it has shown credentials that may relay.
    """
    if is_authenticated:
        return _BY_CREDENTIALS
    if is_trusted:
        return _BY_NETWORK
    return _NEEDS_CREDENTIALS if role is Role.SUBMISSION else _BY_ANYBODY


def may_reach(
    role: Role,
    recipient: Mailbox,
    *,
    is_ours: Callable[[str], bool],
    is_trusted: bool,
    is_authenticated: bool = False,
) -> Permission:
    """Decide at RCPT whether this client may send to this recipient.

    Our own host name and address literals are ours only where [relay] domains says so.

    Args:
        is_ours: tells of a domain (A-labels in lower case, or a literal) whether it is in [relay] domains.
    """
    # A bare Postmaster is always ours (RFC 5321 section 4.1.1.3).
    if role is Role.LMTP:
        ours = not recipient.domain or is_ours(recipient.ascii_domain)
        return _BY_DOMAIN if ours else _NOT_DELIVERED_HERE
    if is_authenticated:
        return _BY_CREDENTIALS
    if is_trusted:
        return _BY_NETWORK
    if role is Role.SUBMISSION:
        return _NEEDS_CREDENTIALS
    if recipient.domain and not is_ours(recipient.ascii_domain):
        return _NOT_OURS
    return _ROUTED if has_routing(recipient.local_part) else _BY_DOMAIN


def has_routing(local_part: str) -> bool:
    """True if some host could read another address in the local-part: ``a%b``, ``b!a``, ``"a@b"``, ``"@b:a"``."""
    return "%" in local_part or "@" in local_part or "!" in local_part
