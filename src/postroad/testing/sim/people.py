"""People who steer the relay by way of its front: what they ask, what they hear, and that all is released in the end.

Owns: doing the steps of a story at their times, an order in the book for each, giving up where no answer comes, the
last rounds: everything held is released, every suspension and override without an end is taken back, again and again
until nothing is held. Does not own: the front (front.py), the story (teller_people.py), what must follow (judge.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from postroad.core.ids import MessageId, parse_id
from postroad.outbound.front import FrontSteering
from postroad.outbound.steering import Change, ControlRefused
from postroad.spool.face import Changed, Selection
from postroad.testing.sim.book import Order
from postroad.testing.sim.kernel import START
from postroad.testing.sim.machine import Machine
from postroad.testing.sim.story import Step

PATIENCE: Final = 150.0
"""Seconds that a person waits for an answer: longer than the front does for a reload."""
AGAIN_AFTER: Final = 20.0
"""Seconds between two last rounds."""
CHANGES: Final = ("hold", "release", "flush", "delete", "bounce")
Ask = Callable[[FrontSteering], Awaitable[Any]]


class People:
    """All of them."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._book = machine.book
        self._kernel = machine.kernel
        self._left = len(machine.plan.steps)
        self._under_way: set[int] = set()
        """Orders that nobody has answered yet."""
        self.is_done = not self._left

    def begin(self) -> None:
        """Have each step done at its time, and then the last rounds."""
        loop = self._kernel.outside.loop
        for step in self._machine.plan.steps:
            self._kernel.at(START + step.at, self._start, step)
        if not self.is_done:
            plan = self._machine.plan
            last = max([step.at for step in plan.steps] + [at for at, _ in plan.resizes])
            self._kernel.at(START + last + 10.0, lambda: loop.create_task(self._last_rounds(), name="last rounds"))

    def _start(self, step: Step) -> None:
        self._kernel.outside.loop.create_task(self._do(step), name=step.verb)

    # --- the steps of the story ---

    async def _do(self, step: Step) -> None:
        what = self._named(step)
        if what:
            until = 0.0 if not step.until else self._kernel.now + step.until
            order = self._order(step.verb, step.of, what)
            order.until, order.connections, order.terms = until, step.connections, step.terms
            await self._ask(order, partial(self._done_by, order, step))
        self._left -= 1

    def _named(self, step: Step) -> str:
        """Return what the person names; empty: there is nothing of it yet, so he asks nothing."""
        if step.of not in ("id", "to"):
            return step.what or step.verb
        sent = [one for one in self._book.sent.values() if one.token == step.what and one.name]
        if not sent:
            return ""
        return sent[-1].name if step.of == "id" else sent[-1].recipients[0]

    async def _done_by(self, order: Order, step: Step, steering: FrontSteering) -> Changed | None:
        now, until = self._machine.clock.now(), None
        if step.until:
            until = now + step.until
        match step.verb:
            case "suspend":
                await steering.suspend(step.what, until=until)
            case "resume":
                await steering.resume(step.what)
            case "override":
                await steering.override(
                    step.what, connections=step.connections, messages_per_connection=None, rate=None, until=until
                )
            case "restore":
                await steering.restore(step.what)
            case "reload":
                front, terms = self._machine.front, step.terms
                assert front is not None
                assert terms is not None
                front.wanted[order.who] = terms, step.fails
                await steering.reload()
            case _:
                return await steering.change(Change(step.verb), selection_of(order))
        return None

    # --- the end ---

    async def _last_rounds(self) -> None:
        while not await self._round():
            await asyncio.sleep(AGAIN_AFTER)
        self.is_done = True

    async def _round(self) -> bool:
        """Release and take back everything; True if no step is under way and nothing is held by now."""
        is_last = not self._left and not self._under_way  # else what is asked may be done after what follows
        plan = self._machine.plan
        for table, verb in (("suspend", "resume"), ("override", "restore")):
            for name in sorted({one.what for one in plan.steps if one.verb == table}):
                order = self._order(verb, "", name)
                await self._ask(order, partial(_take_back, verb, name))
                is_last = is_last and order.is_done
        order = self._order("release", "all", "*")
        await self._ask(order, lambda steering: steering.change(Change.RELEASE, selection_of(order)))
        return is_last and order.is_done and not self._is_any_held()

    def _is_any_held(self) -> bool:
        machine = self._machine
        workers = list(machine.workers.values())
        if len(workers) != machine.count or machine.is_off or machine.is_stopping:
            return True
        return any(
            one.shard is None or one.shard.agenda.held or any(not task.done() for task in one.adoptions.tasks)
            for one in workers
        )

    # --- asking ---

    def _order(self, verb: str, of: str, what: str) -> Order:
        number = len(self._book.orders) + 1
        order = Order(number, self._kernel.now, verb, of, what, f"person{number}")
        self._book.orders.append(order)
        self._book.note(f"{order.who} asks: {verb} {of} {what}".rstrip())
        return order

    async def _ask(self, order: Order, ask: Ask) -> None:
        """Have the front do it; the order says what came of it. A front that dies says nothing."""
        front, loop = self._machine.front, self._kernel.outside.loop
        if front is None:
            order.refused = "nobody listens"
            return
        over: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        def died() -> None:
            self._under_way.discard(order.number)
            loop.call_soon(end)

        async def work() -> None:
            try:
                changed = await ask(front.steering(order.who))
            except ControlRefused as refused:
                order.refused = refused.text
            else:
                if isinstance(changed, Changed):
                    order.recipients, order.messages = changed.recipients, changed.messages
                    order.in_flight, order.unreached = changed.in_flight, changed.unreached
            self._under_way.discard(order.number)
            order.told_at = self._kernel.now
            heard = order.refused or f"{order.recipients} of {order.messages}, {order.in_flight} in flight"
            heard += f", shards {order.unreached} not reached" if order.unreached else ""
            self._book.note(f"{order.who} hears: {heard}")
            loop.call_soon(end)

        self._under_way.add(order.number)
        front.process.on_death.append(died)
        self._kernel.enter(front.process, lambda: front.process.loop.create_task(work(), name=order.verb))
        self._book.on_order(order.number)
        timer = loop.call_later(PATIENCE, end)
        await over
        timer.cancel()


async def _take_back(verb: str, name: str, steering: FrontSteering) -> None:
    await (steering.resume(name) if verb == "resume" else steering.restore(name))


def selection_of(order: Order) -> Selection:
    """Return what a person means."""
    match order.of:
        case "id":
            return Selection(ids=(MessageId(parse_id(order.what)),))
        case "to":
            return Selection(to=order.what)
        case "domain":
            return Selection(domain=order.what)
        case _:
            return Selection()
