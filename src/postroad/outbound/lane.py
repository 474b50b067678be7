"""A lane: one connection's worth of work for a destination, one job after the other.

Owns: the attempt of a job: kept connection or a new one, hosts in order, what goes to the next host. Does not own:
opening (connection.py), talking (session.py), outcomes (trouble.py by way of settle.py), how many lanes there are
(destination.py).
"""

from __future__ import annotations

import asyncio
from typing import Final

from postroad.core import facts
from postroad.core.outcome import AttemptError, Scope, Stage
from postroad.core.reply import TURN_PASSED, Reply
from postroad.outbound.attempt import Attempt, in_order
from postroad.outbound.connection import open_connection
from postroad.outbound.content import ContentSource
from postroad.outbound.destination import IDLE_KEEP, Destination
from postroad.outbound.dialogue import Dialogue
from postroad.outbound.hops import Hop, ToHops
from postroad.outbound.house import OutboundHouse
from postroad.outbound.job import Job
from postroad.outbound.local import deliver_locally
from postroad.outbound.scheduler import Scheduler
from postroad.outbound.session import NextHopSession
from postroad.outbound.settle import Settler
from postroad.spool.face import ContentDamaged, ContentReader

HOSTS_MAX: Final = 5
"""Hosts tried in one attempt. RFC 5321 section 5.1 wants at least two where there are as many."""
UNREADABLE_PAUSE: Final = 5.0
"""Seconds until a job is looked at again whose content could not be read."""
BROKEN_PAUSE: Final = 60.0
"""Seconds until a job is looked at again whose attempt met an error of ours."""


class _TooLateError(Exception):
    """The next hop kept us waiting until the job's token was too old; nothing of the job was sent."""


class Lane:
    """Works for one destination until there is nothing to do or no room for it.

    It begins with a lease for one connection, which ``Destination.lane_ended`` gives back, and with every job it has
    that job's token: it never waits for leave.
    """

    def __init__(self, house: OutboundHouse, scheduler: Scheduler, settler: Settler, destination: Destination) -> None:
        self._house = house
        self._scheduler = scheduler
        self._settler = settler
        self._destination = destination
        self._session: NextHopSession | None = None
        self._hop: Hop | None = None
        self._keep = IDLE_KEEP

    async def run(self) -> None:
        """Work. Never raises for what a next hop does."""
        destination = self._destination
        try:
            while (job := destination.take() or await self._wait()) is not None:
                try:
                    await self._work(job)
                finally:
                    destination.done()
                if not destination.has_room_for_me():
                    return
        finally:
            try:
                await self._part()
            finally:
                destination.lane_ended()

    async def _wait(self) -> Job | None:
        session = self._session
        if session is None or not session.is_usable:
            return None
        keep, self._keep = self._keep, IDLE_KEEP
        return await self._destination.wait_for_job(keep)

    async def _work(self, job: Job) -> None:
        """Attempt one job; whatever happens, its deliveries are settled or given back."""
        try:
            if isinstance(self._destination.target, ToHops):
                await self._send(job, self._destination.target)
            else:
                rulings = await deliver_locally(self._house, self._settler, job, self._destination.target)
                self._scheduler.settle(job, rulings)
        except _TooLateError:
            self._keep = self._destination.token_keep
            self._scheduler.give_back([job], self._house.clock.now())
        except ContentDamaged:
            self._scheduler.lost(job)  # the spool has set it aside and said so
        except (
            OSError
        ):  # the content cannot be read now, and the spool says why: what goes wrong with hosts ends elsewhere
            self._scheduler.give_back([job], self._house.clock.now() + UNREADABLE_PAUSE)
        except Exception as error:  # noqa: BLE001 - boundary: an error of ours; the job stays in the queue, nothing is lost
            self._house.outlet.emit(
                facts.Trouble(at=self._house.clock.now(), what="attempt", why=f"{type(error).__name__}: {error}")
            )
            asyncio.get_running_loop().call_exception_handler({"message": "an attempt broke", "exception": error})
            self._drop_session()
            self._scheduler.give_back([job], self._house.clock.now() + BROKEN_PAUSE)

    # --- one attempt at the hosts of a destination ---

    async def _send(self, job: Job, target: ToHops) -> None:
        content, begun_at = job.message.content, self._house.time()
        reader = None if content is not None else await self._house.spool.open(job.id)
        attempt = Attempt(job, _source(content, reader), begun_at)
        try:
            if not await self._send_over_kept(attempt):
                await self._send_over_new(attempt, target)
        except asyncio.CancelledError:  # we stop; what a host has taken must not be sent again at the next start
            if attempt.has_delivered:
                self._scheduler.settle(job, self._settler.of_answers(job, self._destination.key, attempt))
            raise
        finally:
            if reader is not None:
                reader.close()
        self._scheduler.learned(self._destination, attempt)
        self._scheduler.settle(job, self._settler.of_attempt(job, self._destination.key, attempt))

    async def _send_over_kept(self, attempt: Attempt) -> bool:
        """Send over the kept connection; False if there is none.

        Also False if it turned out to be stale, closed by the other side while it was idle, before it
        took anything: then a new one is opened at once.
        """
        session, hop = self._session, self._hop
        if session is None or hop is None:
            return False
        if not session.is_usable or session.messages >= self._destination.limits.messages_per_connection:
            await self._part()
            return False
        self._check_turn(session, hop, attempt)
        await self._deliver(session, hop, attempt)
        if attempt.was_stale:
            attempt.error = None
            return False
        return True

    async def _send_over_new(self, attempt: Attempt, target: ToHops) -> None:
        """Try the hosts in order. What a host refused for now, before the content, the next may take."""
        for hop in in_order(target.hops, self._house.dice)[:HOSTS_MAX]:
            started = self._house.time()
            dialogue = Dialogue(self._house.time)
            try:
                session = await self._open(hop, dialogue)
            except AttemptError as error:
                attempt.error = error
                attempt.host = hop.host
                self._emit_attempted(attempt, hop, "", "", error.stage, error.reply, started, dialogue.take())
                if error.scope not in (Scope.STREAM, Scope.HOST):
                    return
                continue
            self._check_turn(session, hop, attempt, dialogue)
            await self._deliver(session, hop, attempt)
            if not attempt.wants_next_host:
                return

    async def _open(self, hop: Hop, dialogue: Dialogue) -> NextHopSession:
        await self._part()
        self._session = await open_connection(self._house, hop, self._destination.key, dialogue)
        self._hop = hop
        return self._session

    def _check_turn(
        self, session: NextHopSession, hop: Hop, attempt: Attempt, dialogue: Dialogue | None = None
    ) -> None:
        """See that the job's token is still good for its MAIL. ``dialogue``: of a connection that is new.

        Raises:
            _TooLateError: the job needs another; not once a host has answered for somebody.
        """
        if attempt.answers or not self._destination.is_too_late(attempt.begun_at):
            return
        said = dialogue.take() if dialogue is not None else ()
        self._emit_attempted(
            attempt, hop, session.address, session.tls, Stage.MAIL, TURN_PASSED, attempt.begun_at, said
        )
        if dialogue is not None:  # one has answered, whatever hosts before it did
            attempt.error = None
            self._scheduler.learned(self._destination, attempt)
        raise _TooLateError

    async def _deliver(self, session: NextHopSession, hop: Hop, attempt: Attempt) -> None:
        """Hand the message over for the recipients that still need it, and note what came of it."""
        started = self._house.time()
        numbers = attempt.remaining
        result = await session.deliver(attempt.job.message.envelope, numbers, attempt.content)
        attempt.note(result, hop.host)
        error = result.error
        if error is not None:
            stage, reply = error.stage, error.reply
        else:
            stage, reply = result.results[-1].stage, result.results[-1].reply
        self._emit_attempted(
            attempt, hop, session.address, session.tls, stage, reply, started, result.dialogue, len(numbers)
        )
        if not session.is_usable:
            self._drop_session()

    def _emit_attempted(
        self,
        attempt: Attempt,
        hop: Hop,
        address: str,
        tls: str,
        stage: Stage,
        reply: Reply | None,
        started: float,
        dialogue: tuple[facts.Said, ...],
        recipients: int = 0,
    ) -> None:
        self._house.outlet.emit(
            facts.Attempted(
                at=self._house.clock.now(),
                message=attempt.job.id,
                destination=self._destination.key,
                host=hop.host,
                address=address,
                tls=tls,
                recipients=recipients or len(attempt.remaining),
                stage=stage,
                reply=reply,
                seconds=self._house.time() - started,
                dialogue=dialogue,
                route=attempt.job.route,
            )
        )

    # --- the end of a connection ---

    async def _part(self) -> None:
        """Say QUIT and close, if there is a connection."""
        session, self._session, self._hop = self._session, None, None
        if session is not None:
            await session.quit()

    def _drop_session(self) -> None:
        """Close without a word: the connection cannot be used any more."""
        session, self._session, self._hop = self._session, None, None
        if session is not None:
            session.abort()


def _source(content: bytes | None, reader: ContentReader | None) -> ContentSource:
    if content is not None:
        return ContentSource(content)
    assert reader is not None
    return ContentSource(reader)
