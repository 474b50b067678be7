"""The Limits face of a worker: asks the ledger, and decides by its share while that is away.

Owns: when to ask and when not, blocks of tokens, remembered refusals. Does not own: the connection (link.py), the book
of what is held (held.py), records and marks (remote_records.py, remote_marks.py).

While the ledger is away, what is held is held, and new things are taken of our share (docs/adr/0004). A process that
never heard the ledger does not know what others hold of its share: it takes nothing outbound for STRANGER_WAIT. Nor
does one that has left a silent ledger, until that has ended the connection or LEFT_MAX (link.py) has passed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from postroad.core.faces import Clock, Outlet, Rate
from postroad.core.facts import Trouble
from postroad.core.units import SECOND
from postroad.ledger import wire
from postroad.ledger.blocks import Block, best_of
from postroad.ledger.held import Held
from postroad.ledger.link import Link
from postroad.ledger.rates import HELD_MAX
from postroad.ledger.remote_marks import RemoteMarks
from postroad.ledger.remote_records import RecordsReader, RemoteRecords

INBOUND: Final = "in:"
"""Keys of clients, who wait for our greeting; all others wait in the queue and can wait longer."""
ANSWER_MAX: Final = 1 * SECOND
"""Seconds that a client of ours waits for an answer, or for the ledger to be back."""
OUTBOUND_MAX: Final = 2 * SECOND
"""Seconds that a delivery waits for an answer: longer than a ledger that has just started takes to begin."""
STRANGER_WAIT: Final = 10 * SECOND
"""Seconds after which a process that never heard the ledger takes its share all the same: mail must flow. Longer than a
ledger that lives is likely to be silent: it knows what others hold of that share."""
ASK_AGAIN: Final = 1 * SECOND
"""Seconds for which a refused connection is refused without asking, unless the ledger says that one was freed."""
TOKENS_AGAIN: Final = 0.25 * SECOND
"""Seconds to wait for tokens where it is not known how long."""
REFUSALS_MAX: Final = 10_000
"""Refusals remembered; past it the oldest is asked about again."""


class LedgerClient:
    """Limits over all workers. ``slot`` -1: a process that holds nothing. ``start`` it on the loop."""

    def __init__(
        self,
        path: Path,
        *,
        slot: int,
        workers: int,
        reader: RecordsReader,
        clock: Clock,
        outlet: Outlet,
        time: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._outlet = outlet
        self._time = time
        self._held = Held(slot, workers)
        self._link = Link(path, slot, workers, time, self)
        self.records = RemoteRecords(self._link, reader)
        self.marks = RemoteMarks(self._link, time)
        self._is_missed = False  # and a fact has said so
        self._wanted: list[Callable[[str], None]] = []
        self._refused: OrderedDict[str, tuple[float, int]] = OrderedDict()  # until, of how many at most
        self._short: OrderedDict[str, tuple[float, int, Rate]] = OrderedDict()  # until, tokens, rate
        self._blocks: dict[str, Block] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}  # blocks under way

    def start(self) -> None:
        """Begin to connect; until then, and before the ledger is there, it is as if it were away."""
        self._link.start()

    async def close(self) -> None:
        """Give everything back and end the connection."""
        await self._link.close()

    @property
    def is_there(self) -> bool:
        """True if the ledger answers."""
        return self._link.is_there

    def on_wanted(self, listener: Callable[[str], None]) -> None:
        self._wanted.append(listener)

    def on_records_changed(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the name of a table after any process has changed a row of it.

        After the ledger was away, once for every table that this process has used: nobody knows what was missed.
        """
        self.records.on_changed(listener)

    # --- connections ---

    async def take_connection(self, key: str, most: int) -> bool:
        for _ in range(2):
            if self._link.is_there:
                if self._is_refused(key, most):
                    return False
                answer = await self._link.ask(lambda number: wire.Take(number, key, most), patience_of(key))
                if isinstance(answer, wire.Taken):
                    return answer.yes  # counted where it came in
                if self._link.is_there:
                    break  # it is there and does not answer
            if not await self._may_ask_again(key):
                break
        return self._take_of_share(key, most)

    def give_connection(self, key: str) -> None:
        self._held.give(key)
        self._link.say(wire.Give(key))

    def _take_of_share(self, key: str, most: int) -> bool:
        if not self._may_decide(key) or not self._held.has_share(key, most):
            return False
        self._held.take(key, most)
        self._link.say(wire.Hold(key, most, 1))
        return True

    def _is_refused(self, key: str, most: int) -> bool:
        """True if the ledger has refused that just now, and has not said that one was freed since."""
        refusal = self._refused.get(key)
        if refusal is None:
            return False
        if refusal[0] > self._time() and most <= refusal[1]:
            return True
        del self._refused[key]
        return False

    async def _may_ask_again(self, key: str) -> bool:
        """Wait as long as the client of such a key may be kept waiting. True if the ledger is there then."""
        return key.startswith(INBOUND) and await self._link.wait_there(ANSWER_MAX - self._link.away_for)

    def _may_decide(self, key: str) -> bool:
        """True if we may go by our share."""
        if self._link.is_there:
            return key.startswith(INBOUND)  # it is slow: somebody waits for our greeting
        if key.startswith(INBOUND):
            return True
        if self._link.was_there:
            return not self._link.is_leaving
        return self._link.away_for >= STRANGER_WAIT

    # --- tokens ---

    async def take_tokens(self, key: str, rate: Rate, tokens: int = 1) -> float:
        best = best_of(rate, tokens)
        for _ in range(2):
            while self._link.is_there or key in self._blocks:
                if self._take_of_block(key, rate, tokens):
                    return 0.0
                if wait := self._is_short(key, rate, tokens):
                    return wait
                if best > tokens and (asking := self._asking.get(key)) is not None:
                    await asyncio.shield(asking)
                    continue
                if not self._link.is_there:
                    break
                answer = await self._ask_tokens(key, rate, tokens, best)
                if isinstance(answer, wire.Granted):
                    return answer.wait
                if self._link.is_there:
                    return self._tokens_of_share(key, rate, tokens)
            if not await self._may_ask_again(key):
                break
        return self._tokens_of_share(key, rate, tokens)

    async def _ask_tokens(self, key: str, rate: Rate, tokens: int, best: int) -> wire.Answer | None:
        if best == tokens:
            return await self._link.ask(
                lambda number: wire.Tokens(number, key, rate.count, rate.seconds, tokens, best), patience_of(key)
            )
        asking = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._link.ask(
                lambda number: wire.Tokens(number, key, rate.count, rate.seconds, tokens, best), patience_of(key)
            )
        finally:
            del self._asking[key]
            asking.set_result(None)

    def _tokens_of_share(self, key: str, rate: Rate, tokens: int) -> float:
        if not self._may_decide(key):
            return TOKENS_AGAIN
        wait = self._held.take_tokens(key, rate, tokens, self._time())
        if not wait and self._link.is_there:
            number = int((self._time() + HELD_MAX) // (rate.seconds / 20))
            self._link.say(wire.Used(key, rate.seconds, [(number, tokens)]))
        return wait

    def _take_of_block(self, key: str, rate: Rate, tokens: int) -> bool:
        block = self._blocks.get(key)
        return block is not None and block.rate == rate and block.take(tokens)

    def _is_short(self, key: str, rate: Rate, tokens: int) -> float:
        """Return how long to wait, if the ledger has refused as much just now; 0.0 if it has not."""
        short = self._short.get(key)
        if short is None:
            return 0.0
        until, refused, its_rate = short
        left = until - self._time()
        if left <= 0 or its_rate != rate:
            del self._short[key]
            return 0.0
        return left if tokens >= refused else 0.0

    def _return_block(self, key: str, block: Block) -> None:
        """Give back what is left of a block."""
        if self._blocks.get(key) is block:
            del self._blocks[key]
        block.timer.cancel()
        if unused := block.end():
            self._held.refund(key, block.own_number, unused)
            self._link.say(wire.Unused(key, block.number, unused))

    # --- what the link tells ---

    def on_welcome(self) -> None:
        self._refused.clear()
        self._short.clear()
        for value in self._held.announcement():
            self._link.say(value)
        self.marks.announce()
        if self._is_missed:
            self._is_missed = False
            self._outlet.emit(Trouble(at=self._clock.now(), what="ledger", why="the ledger answers", over=True))
        self.records.all_may_have_changed()

    def on_away(self, why: str) -> None:
        self._is_missed = True
        self._outlet.emit(Trouble(at=self._clock.now(), what="ledger", why=why or "the ledger is away"))

    def on_answer(self, question: wire.Question, answer: wire.Answer, *, is_wanted: bool) -> None:
        if isinstance(question, wire.Take) and isinstance(answer, wire.Taken):
            self._on_taken(question, answer, is_wanted=is_wanted)
        elif isinstance(question, wire.Tokens) and isinstance(answer, wire.Granted):
            self._on_granted(question, answer, is_wanted=is_wanted)

    def on_told(self, answer: wire.Answer) -> None:
        match answer:
            case wire.Freed(key):
                self._refused.pop(key, None)
            case wire.Wanted(key):
                for listener in self._wanted:
                    listener(key)
            case wire.Lent(key, count):
                self._held.lent(key, count)
            case wire.LentTokens(key, seconds, tokens):
                self._held.charge(key, seconds, tokens, self._time())
            case wire.Charged(key, seconds, entries):
                self._held.charged(key, seconds, entries, self._time())
            case wire.Settled():
                self._held.settled()
            case wire.Changed(table):
                self.records.changed(table)

    def _on_taken(self, question: wire.Take, answer: wire.Taken, *, is_wanted: bool) -> None:
        if not answer.yes:
            self._refused[question.key] = (self._time() + ASK_AGAIN, question.most)
            if len(self._refused) > REFUSALS_MAX:
                self._refused.popitem(last=False)
        elif is_wanted:
            self._held.take(question.key, question.most)
        else:
            self._link.say(wire.Give(question.key))

    def _on_granted(self, question: wire.Tokens, answer: wire.Granted, *, is_wanted: bool) -> None:
        now = self._time()
        key, rate = question.key, Rate(question.count, question.seconds)
        if not answer.tokens:
            self._short[key] = (now + answer.wait, question.least, rate)
            if len(self._short) > REFUSALS_MAX:
                self._short.popitem(last=False)
            return
        own_number = self._held.charge(key, rate.seconds, answer.own, now) if answer.own else 0
        left = answer.tokens - question.least if is_wanted else answer.tokens
        if not left:
            return
        if (before := self._blocks.get(key)) is not None:
            self._return_block(key, before)
        loop = asyncio.get_running_loop()
        block = self._blocks[key] = Block(rate, left, answer.own, answer.number, own_number)
        block.timer = loop.call_later(HELD_MAX, self._return_block, key, block)


def patience_of(key: str) -> float:
    """Return how many seconds the answer to a question about such a key is waited for."""
    return ANSWER_MAX if key.startswith(INBOUND) else OUTBOUND_MAX
