"""The ledger: answers what workers ask, and frees what a dead one held.

Owns: connections of workers, who is expected, when it may begin to grant, what follows when one ends. Does not own: the
books (leases.py, rates.py, marks.py), the file of records (a face), the socket, which the supervisor binds and keeps.

After its own start it knows nothing of what workers hold. It answers nothing until all of them have announced that, or
SETTLE_MAX has passed; of one that has not by then it supposes, until ABSENT_MAX, that it holds all of its share, and
what the ledger before had lent of the others'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from socket import socket
from typing import Final, cast

from postroad.core.faces import Clock, Outlet, Rate, Records, RecordsTrouble
from postroad.core.facts import Trouble
from postroad.core.units import SECOND
from postroad.ledger import wire
from postroad.ledger.leases import Leases
from postroad.ledger.marks import LocalMarks
from postroad.ledger.peer import Peer
from postroad.ledger.rates import Rates

SETTLE_MAX: Final = 1 * SECOND
"""Seconds after the start for which workers are waited for. They reconnect within 50 ms of the end of a ledger."""
ABSENT_MAX: Final = 10 * SECOND
"""Seconds after the start until which a worker that never came may still live: the supervisor ends one that hangs."""
RETURN_MAX: Final = 2 * SECOND
"""Seconds for which what is held by a worker that said it comes back, or that we dropped, is kept for it."""
HELLO_MAX: Final = 5 * SECOND
"""Seconds that a connection may be silent before it says who it is."""
SILENCE_MAX: Final = 30 * SECOND
"""Seconds without a word, though they come every second, after which a worker is dropped. Long: while it lives, its
connections to next hops are open, and the supervisor ends a worker that hangs before that."""
SWEEP_EVERY: Final = 0.25 * SECOND
PEERS_MAX: Final = 600
"""Connections at once: 256 workers, each with an old and a new one, and the front."""
WAITING_MAX: Final = 100_000
"""Questions that wait until the ledger may answer. A worker asks as many as it has connections."""
WRITES_MAX: Final = 200
"""Writes of records under way."""
BACKLOG: Final = 128


class LedgerServer:
    """One ledger. ``start`` it on a bound socket; ``close`` leaves that socket as it was."""

    def __init__(self, records: Records, *, clock: Clock, outlet: Outlet, time: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock
        self._outlet = outlet
        self._time = time
        self._leases = Leases(self._tell)
        self._rates = Rates(self._tell)
        self._marks = LocalMarks(time)
        self._peers: dict[Peer, None] = {}  # a set in the order of their coming: that is how they are told
        self._by_slot: dict[int, Peer] = {}
        self._incarnations: dict[int, str] = {}  # slot -> of the process that last announced itself
        self._returning: dict[int, float] = {}  # slot -> until when its leases are kept
        self._workers = 0  # not known before somebody says it
        self._settled = False
        self._unsure: dict[Peer, None] = {}  # were told what is lent of theirs by those that we have heard
        self._unanswered: list[tuple[Peer, wire.Question]] = []
        self._writes: set[asyncio.Task[None]] = set()
        self._listening: socket | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, bound: socket) -> None:
        """Listen on a bound Unix socket; also if it listens already and connections wait there."""
        self._started_at = self._time()
        self._listening = bound.dup()
        self._listening.setblocking(False)
        self._listening.listen(BACKLOG)
        self._tasks = [asyncio.create_task(self._accept(self._listening)), asyncio.create_task(self._sweep())]

    async def close(self) -> None:
        """End all connections, after the writes under way; workers go on as when the ledger dies."""
        await _cancel(self._tasks)
        if self._listening is not None:
            self._listening.close()
        if self._writes:
            await asyncio.wait(self._writes)
        for peer in tuple(self._peers):
            peer.wire.close()
        self._peers.clear()

    # --- connections ---

    async def _accept(self, listening: socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
                accepted.setblocking(False)
                peer = Peer(self._time(), self._on_questions, self._on_lost)
                self._peers[peer] = None
                await loop.connect_accepted_socket(lambda peer=peer: peer.wire, accepted)  # type: ignore[misc]
                if len(self._peers) > PEERS_MAX:
                    peer.wire.fail(f"more than {PEERS_MAX} connections")
            except OSError as error:  # no descriptor, or the client was gone already
                self._tell_trouble(f"accept: {error}")
                await asyncio.sleep(SWEEP_EVERY)

    def _on_lost(self, peer: Peer, why: str) -> None:
        self._peers.pop(peer, None)
        self._unsure.pop(peer, None)
        if why:
            self._tell_trouble(f"worker {peer.slot}: {why}")
        if self._by_slot.get(peer.slot) is not peer:
            return  # another has taken its place
        del self._by_slot[peer.slot]
        if peer.returns or why:
            self._returning[peer.slot] = self._time() + RETURN_MAX
            self._settle(self._time())
        else:
            self._leases.drop(peer.slot, self._time())

    def _on_leaving(self, peer: Peer) -> None:
        """End it from here: the worker reads until then what it must know, and nothing is granted on it any more."""
        peer.returns = True
        peer.wire.close()
        self._on_lost(peer, "")

    async def _sweep(self) -> None:
        """Look regularly after what nobody says."""
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            now = self._time()
            for peer in tuple(self._peers):
                if now - peer.heard_at > (SILENCE_MAX if peer.said_hello else HELLO_MAX):
                    peer.wire.fail("silent for too long")
            for slot in [slot for slot, until in self._returning.items() if until <= now and slot not in self._by_slot]:
                del self._returning[slot]
                self._leases.drop(slot, now)
            self._settle(now)

    # --- the beginning ---

    def _settle(self, now: float) -> None:
        """Begin to answer if that is time, and see who is still absent."""
        self._look_who_is_here(now)
        if self._settled and not self._leases.absent:
            unsure, self._unsure = self._unsure, {}
            for peer in unsure:
                peer.wire.say(wire.Settled())

    def _look_who_is_here(self, now: float) -> None:
        if self._settled and not self._leases.absent and not self._returning:
            self._leases.forget_owed()
            return
        here = {slot for slot, peer in self._by_slot.items() if peer.announced} | self._incarnations.keys()
        absent = frozenset(range(self._workers)) - here
        if now - self._started_at > ABSENT_MAX:
            absent = frozenset()
        if not self._settled and (not self._workers or (absent and now - self._started_at <= SETTLE_MAX)):
            return
        if not absent:  # all have said what they hold, also who has gone and comes back; who never came is dead
            self._leases.forget_owed()
        self._leases.absent = self._rates.absent = absent | self._returning.keys()
        if not self._settled:
            self._settled = True
            for slot, peer in self._by_slot.items():
                if peer.announced:
                    self._end_announcement(slot, peer)
            unanswered, self._unanswered = self._unanswered, []
            for peer, question in unanswered:
                if peer in self._peers:
                    self._answer(peer, question, now)

    def _end_announcement(self, slot: int, peer: Peer) -> None:
        """Tell what is lent; that this is all only when nobody is absent who may hold more of it (``_settle``)."""
        self._leases.tell_lent(slot)
        self._unsure[peer] = None

    def _on_hello(self, peer: Peer, hello: wire.Hello) -> None:
        peer.said_hello = True
        peer.hello(hello)
        if hello.slot >= 0:
            other = self._by_slot.get(hello.slot)
            if other is not None and other.since > hello.since:
                peer.wire.fail("a later connection of the same worker is there")
                return
            if not self._workers or hello.workers != self._workers:
                self._workers = self._leases.workers = self._rates.workers = max(1, hello.workers)
            self._by_slot[hello.slot] = peer
            if other is not None:
                other.wire.close()
                self._peers.pop(other, None)
                self._unsure.pop(other, None)
        peer.wire.say(wire.Welcome())

    def _on_announced(self, peer: Peer, now: float) -> None:
        peer.announced = True
        if self._by_slot.get(peer.slot) is not peer:
            return  # the front, which holds nothing
        self._returning.pop(peer.slot, None)
        self._leases.absent -= {peer.slot}  # first: what is lent of its shares is counted again, and it is told
        self._rates.absent -= {peer.slot}
        self._leases.replace(peer.slot, peer.take_holds(), now)
        owed, is_known = peer.take_owed(), self._incarnations.get(peer.slot) == peer.incarnation
        if not is_known:  # else it says what we have lent, and no more what one before us had: that is forgotten below
            self._leases.owe(peer.slot, owed)
            # Before what it says itself: it is told what others have used before it.
            for charged in self._rates.charged(peer.slot):
                peer.wire.say(charged)
        for used in peer.take_used():
            self._rates.announced(peer.slot, used.key, used.seconds, used.entries, now, anew=is_known)
        self._incarnations[peer.slot] = peer.incarnation
        if self._settled:
            self._end_announcement(peer.slot, peer)
        self._settle(now)

    # --- questions ---

    def _on_questions(self, peer: Peer, questions: list[wire.Question]) -> None:
        now = peer.heard_at = self._time()
        for question in questions:
            if not peer.said_hello and not isinstance(question, wire.Hello):
                peer.wire.fail("it did not say who it is")
                return
            self._answer(peer, question, now)

    def _answer(self, peer: Peer, question: wire.Question, now: float) -> None:
        kind = type(question)
        if kind is wire.Take or kind is wire.Tokens:
            if self._settled:
                self._grant(peer, cast(wire.Take | wire.Tokens, question), now)
            elif len(self._unanswered) < WAITING_MAX:
                self._unanswered.append((peer, question))
            else:
                peer.wire.fail("too many questions wait")
        elif isinstance(question, wire.Give):
            self._leases.give(peer.slot, question.key, now)
        elif isinstance(question, wire.Unused):
            self._rates.give(peer.slot, question.key, question.number, question.tokens)
        elif isinstance(question, wire.Ping):
            peer.wire.say(wire.Pong())
        elif isinstance(question, wire.Hello):
            self._on_hello(peer, question)
        elif isinstance(question, wire.Announced):
            self._on_announced(peer, now)
        elif isinstance(question, wire.Leaving):
            self._on_leaving(peer)
        elif isinstance(question, wire.Hold | wire.Used | wire.Owed):
            self._on_held(peer, question, now)
        elif isinstance(question, wire.Put | wire.Delete):
            self._write(peer, question)
        else:
            self._mark(peer, cast(wire.Count | wire.Mark | wire.Marked | wire.Claim, question))

    def _grant(self, peer: Peer, question: wire.Take | wire.Tokens, now: float) -> None:
        if isinstance(question, wire.Take):
            yes = peer.slot >= 0 and self._leases.take(peer.slot, question.key, question.most, now)
            peer.wire.say(wire.Taken(question.id, yes))
        else:
            rate = Rate(question.count, question.seconds)
            granted = self._rates.take(peer.slot, question.key, rate, question.least, question.best, now)
            peer.wire.say(wire.Granted(question.id, *granted))

    def _on_held(self, peer: Peer, held: wire.Hold | wire.Used | wire.Owed, now: float) -> None:
        if not peer.announced:
            peer.announces(held)
        elif isinstance(held, wire.Hold):
            self._leases.hold(peer.slot, held.key, held.most, held.count)
        elif isinstance(held, wire.Used):
            self._rates.announced(peer.slot, held.key, held.seconds, held.entries, now, anew=False)

    def _mark(self, peer: Peer, question: wire.Count | wire.Mark | wire.Marked | wire.Claim) -> None:
        marks = self._marks
        match question:
            case wire.Count(id, key, seconds, add):
                value: float = marks.count_now(key, seconds, add)
            case wire.Mark(id, key, seconds):
                value = marks.mark_now(key, seconds)
            case wire.Marked(id, key):
                value = marks.marked_now(key)
            case wire.Claim(id, key, seconds):
                value = marks.claim_now(key, seconds)
        peer.wire.say(wire.Done(id, float(value)))

    # --- records ---

    def _write(self, peer: Peer, question: wire.Put | wire.Delete) -> None:
        if len(self._writes) >= WRITES_MAX:
            peer.wire.say(wire.Failed(question.id, f"{WRITES_MAX} writes are under way already"))
            return
        task = asyncio.create_task(self._write_record(peer, question))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write_record(self, peer: Peer, question: wire.Put | wire.Delete) -> None:
        value = 1
        try:
            if isinstance(question, wire.Put):
                await self._records.put(question.table, question.row)
            else:
                value = await self._records.delete(question.table, question.key)
        except RecordsTrouble as trouble:
            peer.wire.say(wire.Failed(question.id, str(trouble)))
            return
        except Exception as error:  # noqa: BLE001 - boundary: a fault of ours in records must not end the limits
            self._tell_trouble(repr(error))
            peer.wire.say(wire.Failed(question.id, repr(error)))
            return
        peer.wire.say(wire.Done(question.id, float(value)))
        for other in self._peers:
            other.wire.say(wire.Changed(question.table))

    # --- telling ---

    def _tell(self, slot: int, answer: wire.Answer) -> None:
        peer = self._by_slot.get(slot)
        if peer is not None:
            peer.wire.say(answer)

    def _tell_trouble(self, why: str) -> None:
        self._outlet.emit(Trouble(at=self._clock.now(), what="ledger", why=why))


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
