"""Following what happens in several processes at once.

Owns: one stream of the facts of all parts, going on when a part is back that was away, and its end. Does not own:
what a part tells (story.py), how it travels (http/control_client.py).

Each part has a task and all share one short queue: who does not listen is told by the part that he fell behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final, Protocol

import msgspec

from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId, format_id
from postroad.outbound.steering import ControlRefused, NotThere, Unanswered

AGAIN_AFTER: Final = 0.5
"""Seconds between two times that a part is asked. One that breaks off later than that is asked again at once: the
question waits in its socket for the next worker of its slot, and hardly anything of that one is missed."""
WAITING_MAX: Final = 256
"""Facts that wait for who watches, here; each part keeps some more (story.py)."""


class Watched(Protocol):
    """What can be watched: a queue, or this very process (story.py)."""

    def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        """As Steering.watch."""


class _Ended(msgspec.Struct, frozen=True):
    """A part has no more to tell."""

    refused: ControlRefused | None = None


async def watch_all(
    parts: Mapping[str, Watched], message: MessageId | None, *, everything: bool
) -> AsyncGenerator[AnyFact, None]:
    """Yield what all parts tell, until each has ended its story; a part that is away is asked again.

    Raises:
        NotThere: no part knows the message.
        Unanswered: no part answers at all.
    """
    heard: asyncio.Queue[AnyFact | _Ended] = asyncio.Queue(WAITING_MAX)
    tasks = [asyncio.create_task(_listen(part, message, everything, heard)) for part in parts.values()]
    left, told = len(tasks), False
    refusals: list[ControlRefused] = []
    try:
        while left:
            item = await heard.get()
            if not isinstance(item, _Ended):
                told = True
                yield item
                continue
            left -= 1
            if item.refused is not None:
                refusals.append(item.refused)
                if not isinstance(item.refused, NotThere | Unanswered):
                    raise item.refused
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not told:
        for refused in sorted(refusals, key=lambda one: isinstance(one, NotThere)):  # silence hides what is there
            raise refused
        if not parts and message is not None:
            raise NotThere(f"{format_id(message)} is not in the queue.")


async def _listen(
    part: Watched, message: MessageId | None, everything: bool, heard: asyncio.Queue[AnyFact | _Ended]
) -> None:
    """Tell ``heard`` what the part tells. One that was never reached ends; one that broke off is asked again."""
    was_reached, loop = False, asyncio.get_running_loop()
    while True:
        again_at = loop.time() + AGAIN_AFTER
        try:
            async with aclosing(part.watch(message, everything=everything)) as facts:
                async for fact in facts:
                    was_reached = True
                    await heard.put(fact)
            await heard.put(_Ended())
            return
        except Unanswered as refused:
            if not was_reached and message is not None:
                await heard.put(_Ended(refused))
                return
            await asyncio.sleep(max(0.0, again_at - loop.time()))
        except ControlRefused as refused:
            await heard.put(_Ended(None if was_reached and isinstance(refused, NotThere) else refused))
            return
        except Exception as error:  # noqa: BLE001 - boundary: a fault of ours ends the watching, never hangs it
            await heard.put(_Ended(ControlRefused(f"Watching broke: {error!r}.")))
            return
