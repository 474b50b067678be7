"""Listeners' connections become sessions; sessions are bounded, timed and ended in good order.

Owns: the set of sessions, the limits on their number, the sweep that times them out, the
drain. Does not own: sockets (net/listen.py), counting over workers (places.py, Limits), what
is said in a session (session.py).

One sweep a second looks at all sessions instead of a timer per read: 10,000 idle
connections cost a millisecond a second and no timer churn.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from postroad.core import facts, reply
from postroad.core.ids import SessionId
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.inbound.house import InboundHouse, ListenerProfile
from postroad.inbound.places import Places, Seat
from postroad.inbound.session import TLS_TIMEOUT, Session
from postroad.inbound.transaction import Transactions
from postroad.net.stream import Stream, StreamBroken, TlsFailed
from postroad.policy.relay import Role
from postroad.smtp.server import Protocol, ServerConnection

SWEEP_EVERY: Final = 1.0
"""Seconds between two looks for clients that let us wait."""
CROWDED: Final = 0.75
"""Share of our part of ``connections`` above which idle clients get IDLE_WHEN_CROWDED only (a stress mode)."""
IDLE_WHEN_CROWDED: Final = 10.0
"""Seconds."""
IDLE_WHEN_DRAINING: Final = 5.0
"""Seconds: one client that says nothing must not hold up every restart for as long as a drain may take."""
PUT_PATIENCE: Final = 600.0
"""Seconds that an answer of ours may take. RFC 5321 section 4.5.3.2.6 has clients wait 10 minutes for the final
reply: after that the connection is cut without one, and the put goes on (it is never cancelled)."""


class ServerLimits(msgspec.Struct, frozen=True):
    """Bounds on sessions, from [limits]."""

    connections: int
    """In all workers together."""
    connections_per_ip: int
    errors: int
    idle_timeout: float
    workers: int = 1


class Terms(msgspec.Struct, frozen=True):
    """What a connection is served by, from its begin to its end, whatever a reload changes meanwhile."""

    house: InboundHouse
    limits: ServerLimits
    tls: Callable[[], ssl.SSLContext] | None
    """Gives the context of a handshake; None where no listener has TLS."""


class InboundServer:
    """All sessions of this worker."""

    def __init__(self, house: InboundHouse, limits: ServerLimits, *, tls: Callable[[], ssl.SSLContext] | None) -> None:
        self._terms = Terms(house, limits, tls)
        self._loop = asyncio.get_running_loop()
        self._places = Places(house.limits)
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._draining = False
        self._shaking = 0  # handshakes before a session
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def house(self) -> InboundHouse:
        """What new connections are served by."""
        return self._terms.house

    @property
    def limits(self) -> ServerLimits:
        return self._terms.limits

    def switch(self, house: InboundHouse, limits: ServerLimits, *, tls: Callable[[], ssl.SSLContext] | None) -> None:
        """Serve new connections by these terms. Those that are open keep theirs; idle times hold for all."""
        self._terms = Terms(house, limits, tls)

    @property
    def connections(self) -> int:
        """Sessions that are open now, and those whose handshake comes first."""
        return len(self._sessions) + self._shaking

    def start(self) -> None:
        """Begin to look for clients that let us wait."""
        self._sweeper = self._loop.call_later(SWEEP_EVERY, self._sweep)

    async def serve(self, profile: ListenerProfile, stream: Stream) -> None:
        """Serve one connection to its end; never raises (a task of its own runs this)."""
        terms = self._terms
        house = terms.house
        session_id = SessionId(house.session_ids.next_id(house.clock.now()))
        address = stream.peer
        seat = Seat(house.limits, f"in:{house.client_key(address)}")
        if not house.is_trusted(address) and not await seat.take(terms.limits.connections_per_ip):
            await self._turn_away(profile, stream, session_id, "limits.connections_per_ip")
            return
        try:
            if self._draining:
                await self._turn_away(profile, stream, session_id, "draining", reply.SHUTTING_DOWN)
            elif not await self._places.take(self.limits.connections):
                await self._turn_away(profile, stream, session_id, "limits.connections")
            else:
                try:
                    if await self._shake_hands(profile, stream, session_id, terms):
                        await self._serve(profile, stream, session_id, terms, seat)
                finally:
                    self._places.give()
        finally:
            seat.give()

    async def _serve(
        self, profile: ListenerProfile, stream: Stream, session_id: SessionId, terms: Terms, seat: Seat
    ) -> None:
        house, address = terms.house, stream.peer
        answerer = Transactions(
            house, profile, session_id, address, binding=lambda: stream.channel_binding, on_login=seat.give
        )
        if stream.tls:
            answerer.secured(stream.tls)
        tls = terms.tls if profile.tls == "starttls" else None
        engine = ServerConnection(
            offer=answerer.offer(),
            protocol=Protocol.LMTP if profile.role is Role.LMTP else Protocol.SMTP,
            bare_newline=profile.bare_newline,
            is_secure=bool(stream.tls),
        )
        session = Session(
            stream,
            engine,
            answerer,
            offer=answerer.offer,
            tls=tls,
            errors_max=terms.limits.errors,
            time=house.time,
        )
        task = asyncio.current_task(self._loop)  # without it, the loop is a system call away
        assert task is not None
        self._sessions[session] = task
        session.draining = self._draining
        house.outlet.emit(
            facts.Connected(at=house.clock.now(), session=session_id, listener=profile.name, client=address)
        )
        why, ours = "", False
        try:
            await session.serve(
                Reply(220, None, f"{house.hostname} {'LMTP' if profile.role is Role.LMTP else 'ESMTP'}")
            )
        except (StreamBroken, TlsFailed) as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - boundary: our bug; the client gets 421, its unfinished message is not ours
            why, ours = f"{type(error).__name__}: {error}", True
            stream.write_last(reply.SESSION_TROUBLE.to_wire())
            self._loop.call_exception_handler({"message": "a session broke", "exception": error})
        finally:
            del self._sessions[session]
            stream.close()
        if why:
            self._emit_broke(profile, stream, session_id, why, ours=ours)

    async def _shake_hands(self, profile: ListenerProfile, stream: Stream, session: SessionId, terms: Terms) -> bool:
        """Begin TLS where the listener has it from the first octet; False if that failed."""
        if profile.tls != "implicit":
            return True
        assert terms.tls is not None
        self._shaking += 1
        try:
            await stream.start_tls(terms.tls(), server_side=True, timeout=TLS_TIMEOUT, implicit=True)
        except (StreamBroken, TlsFailed) as error:
            self._emit_broke(profile, stream, session, str(error))
            return False
        finally:
            self._shaking -= 1
        return True

    def _emit_broke(
        self, profile: ListenerProfile, stream: Stream, session: SessionId, why: str, *, ours: bool = False
    ) -> None:
        self.house.outlet.emit(
            facts.SessionBroke(
                at=self.house.clock.now(),
                session=session,
                listener=profile.name,
                client=stream.peer,
                why=why,
                ours=ours,
            )
        )

    async def _turn_away(
        self,
        profile: ListenerProfile,
        stream: Stream,
        session: SessionId,
        rule: str,
        answer: Reply = reply.TOO_MANY_CONNECTIONS,
    ) -> None:
        # Not ``write_last``: who opens thousands of connections must not have them linger.
        with suppress(StreamBroken):
            await stream.write(answer.to_wire())
        stream.close()
        self.house.outlet.emit(
            facts.Refused(
                at=self.house.clock.now(),
                session=session,
                listener=profile.name,
                client=stream.peer,
                stage=Stage.CONNECT,
                reply=answer,
                rule=rule,
            )
        )

    # --- time ---

    def _sweep(self) -> None:
        loop = self._loop
        self._sweeper = loop.call_later(SWEEP_EVERY, self._sweep)  # first: whatever breaks below, it goes on
        now = loop.time()
        crowded = len(self._sessions) > self.limits.connections / self.limits.workers * CROWDED
        idle_max = min(self.limits.idle_timeout, IDLE_WHEN_CROWDED) if crowded else self.limits.idle_timeout
        if self._draining:
            idle_max = min(idle_max, IDLE_WHEN_DRAINING)
        for session in list(self._sessions):
            if session.waiting_since:
                if now - session.waiting_since > idle_max or now - session.progress_at > 2 * idle_max:
                    session.time_out()
            elif now - session.busy_since > PUT_PATIENCE:
                session.abort()

    # --- the end ---

    async def drain(self, patience: float) -> None:
        """End all sessions within ``patience`` seconds: at once with 421, or after the content that is coming in.

        A message that is still coming in by then is cut off with 421: the client sends it again.
        """
        self._draining = True
        for session in list(self._sessions):
            session.drain()
        tasks = set(self._sessions.values())
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        for session in list(self._sessions):
            session.cut()
        if remaining := set(self._sessions.values()):
            await asyncio.wait(remaining, timeout=5.0)
        self._places.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
