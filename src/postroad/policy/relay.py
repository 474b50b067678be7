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
from postroad.core.address import Mailbox, Path
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
_LACKS_SCOPE: Final = Denied(
    reply.RELAY_DENIED.with_text('Relaying denied: this user lacks the scope "relay"'), "auth.scope"
)
_NOT_ITS_ADDRESS: Final = Denied(reply.NOT_YOUR_ADDRESS, "auth.send_as")
_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_ROUTED: Final = Denied(ROUTING_DENIED, "relay.routing")


SendAs = tuple[str, str]
"""A local-part (``folded``, "" for all) and a domain in A-labels and lower case."""


class Credentials(msgspec.Struct, frozen=True, gc=False):
    """What a client has shown by AUTH."""

    may_relay: bool
    """Whether they count for sending to domains that are not ours."""
    send_as: tuple[SendAs, ...] = ()
    """Addresses and domains that it may send as; empty: any."""


def may_send(role: Role, sender: Path = None, *, is_trusted: bool, shown: Credentials | None = None) -> Permission:
    """Decide at MAIL. Only submission turns strangers away here: 530 (RFC 4954 section 6).

    Args:
        is_trusted: the client's address is in [relay] networks.
        shown: its credentials; None: it has shown none.
    """
    if shown is not None:
        return _BY_CREDENTIALS if may_send_as(shown.send_as, sender) else _NOT_ITS_ADDRESS
    if is_trusted:
        return _BY_NETWORK
    return _NEEDS_CREDENTIALS if role is Role.SUBMISSION else _BY_ANYBODY


def may_send_as(send_as: tuple[SendAs, ...], sender: Path) -> bool:
    """True if a user may send as that address. Everybody may send as nobody (``<>``): reports have to."""
    if not send_as or sender is None:
        return True
    domain = sender.ascii_domain
    return (folded(sender.local_part), domain) in send_as or ("", domain) in send_as


def folded(local_part: str) -> str:
    """Return a local-part in the form in which ours are compared: ASCII in lower case, all else as it is."""
    return local_part.translate(_LOWER)


def may_reach(
    role: Role,
    recipient: Mailbox,
    *,
    is_ours: Callable[[str], bool],
    is_trusted: bool,
    shown: Credentials | None = None,
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
    if shown is not None and shown.may_relay:
        return _BY_CREDENTIALS
    if is_trusted:
        return _BY_NETWORK
    if role is Role.SUBMISSION and shown is None:
        return _NEEDS_CREDENTIALS
    if recipient.domain and not is_ours(recipient.ascii_domain):
        return _NOT_OURS if shown is None else _LACKS_SCOPE
    return _ROUTED if has_routing(recipient.local_part) else _BY_DOMAIN


def has_routing(local_part: str) -> bool:
    """True if some host could read another address in the local-part: ``a%b``, ``b!a``, ``"a@b"``, ``"@b:a"``."""
    return "%" in local_part or "@" in local_part or "!" in local_part
