"""Opens one connection to one hop: addresses, connect, greeting, EHLO, and TLS as its policy says.

Owns: the order of those steps, the second try in clear after a failed opportunistic handshake. Does not own: the
conversation (session.py), which hop comes next (lane.py), what a failure means (trouble.py): every failure leaves as
AttemptError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from postroad.core import facts
from postroad.core.faces import NameNotFound, NameTrouble
from postroad.core.outcome import AttemptError, Scope, Stage
from postroad.core.reply import Reply
from postroad.core.units import MINUTE
from postroad.net.errors import TlsFailed
from postroad.net.stream import Stream
from postroad.outbound.dialogue import Dialogue
from postroad.outbound.hops import Hop
from postroad.outbound.house import OutboundHouse
from postroad.outbound.session import NextHopSession, open_session

CONNECT_TIMEOUT: Final = 1 * MINUTE
"""Seconds for all addresses of one host. RFC 5321 section 4.5.3.2 gives none; Postfix has 30 s an address."""

_NO_TLS_OFFERED: Final = Reply(454, (7, 10), "The next hop offers no TLS, and the route requires it")


async def open_connection(house: OutboundHouse, hop: Hop, key: str, dialogue: Dialogue) -> NextHopSession:
    """Return a session with ``hop``, ready for MAIL. ``dialogue``: what is said is noted there.

    Raises:
        AttemptError: no connection, a refusing greeting, or no TLS where it is required.
    """
    dialogue.restart()
    session = await _open_plain(house, hop, dialogue)
    if hop.tls == "off" or hop.is_unix:
        return session
    if not session.extensions.starttls:
        if hop.tls == "opportunistic":
            return session
        await session.quit()
        raise AttemptError(Scope.HOST, _NO_TLS_OFFERED, Stage.TLS)
    try:
        await session.start_tls(house.tls_context(hop.tls), hop.host)
    except (TlsFailed, AttemptError) as error:
        session.abort()
        if hop.tls != "opportunistic":
            raise AttemptError(Scope.HOST, None, Stage.TLS, f"TLS with {hop}: {error}") from error
        house.outlet.emit(
            facts.PlainAfterTlsFailure(at=house.clock.now(), destination=key, host=hop.host, why=str(error))
        )
        # RFC 3207 section 4.1 leaves it to us; without TLS it is as safe as before it was offered, and it arrives.
        return await _open_plain(house, hop, dialogue)
    return session


async def _open_plain(house: OutboundHouse, hop: Hop, dialogue: Dialogue) -> NextHopSession:
    stream = await _connect(house, hop)
    name = hop.hello_name or house.hostname
    return await open_session(stream, hello_name=name, protocol=hop.protocol, host=hop.host, dialogue=dialogue)


async def _connect(house: OutboundHouse, hop: Hop) -> Stream:
    try:
        if hop.is_unix:
            return await house.connect_unix(hop.host, CONNECT_TIMEOUT)
        addresses = await _addresses(house, hop)
        source = hop.source_ip or None
        return await house.connect(addresses, hop.port, timeout=CONNECT_TIMEOUT, source_ip=source)
    except (TimeoutError, OSError) as error:
        raise AttemptError(Scope.HOST, None, Stage.CONNECT, str(error) or "timed out") from error


async def _addresses(house: OutboundHouse, hop: Hop) -> Sequence[str]:
    if hop.addresses:
        return hop.addresses
    if hop.host.replace(".", "").isdigit() or ":" in hop.host:
        return [hop.host]
    try:
        addresses, _ = await house.resolver.addresses(hop.host)
    except NameNotFound:
        raise AttemptError(
            Scope.HOST, None, Stage.DNS, f"the name {hop.host} does not exist: check the route or next_hop"
        ) from None
    except NameTrouble as error:
        raise AttemptError(Scope.HOST, None, Stage.DNS, f"looking up {hop.host}: {error}") from error
    if not addresses:
        raise AttemptError(Scope.HOST, None, Stage.DNS, f"{hop.host} has no address")
    return addresses
