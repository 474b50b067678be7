"""Transfer: all that one shard holds moves to another of the same process, under the same ids, with its states.

Owns: the order of the steps, each repeated safely after a crash: content files get a second name in the target, both
synced; one transaction of the target puts a parcel of messages with the note that they have arrived; one of the source
removes them; the target forgets the note. Only then, so that what the target delivered meanwhile is never put again.
Does not own: SQL (store_transfer.py), opening and removing a shard (service/shards.py). docs/durability.md says what a
crash leaves at each step.

A parcel is claimed in the source while it moves, so steering there leaves it alone; what somebody else has claimed is
left for later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from postroad.core import facts
from postroad.core.ids import MessageId
from postroad.core.units import MIB
from postroad.spool.batch import Batch
from postroad.spool.content import open_checked, take_files, take_spare_files
from postroad.spool.face import ContentDamaged, Delivery, SpoolRefused, Why
from postroad.spool.ground import whole
from postroad.spool.recovery import BODIES
from postroad.spool.rows import Head, HeadRow, WaitingRow, body_name, hash_of
from postroad.spool.slices import Found
from postroad.spool.steer import Steer
from postroad.spool.store_transfer import Arrived, Arriving, CopiedRow, Leaving
from postroad.spool.store_write import WriteStore

PAUSE_MAX: Final = 0.1
"""Seconds between two parcels at most. In between as long again is left to others as the parcel took."""
CLAIMED_WAIT: Final = 0.2
"""Seconds until what somebody else had claimed is looked at again."""
FREE_INSIDE: Final = 8 * MIB
"""Octets that can be written into the target's database without its growing: then it takes parcels on a full disk."""
_BEGIN: Final = -(2**63)
_KINDS: Final = {"settled": 2, "arrived": 1, "dropped": 1, "damaged": 1}
"""Tables copied at the end, and how many columns their key has."""


class Item(msgspec.Struct, frozen=True):
    """A claimed message on its way."""

    head: Head
    deliveries: list[Delivery]
    arriving: Arriving

    @property
    def id(self) -> MessageId:
        return self.head.id


class Parcel(msgspec.Struct, frozen=True):
    """What moves at once."""

    items: list[Item]
    after: int
    """The id up to which the source was looked at."""
    is_last: bool
    is_some_left: bool
    """True if something was passed over, since it is claimed or was changing."""


class Moving(Steer):
    """The part of a shard that gives messages to another, or gets them."""

    async def _set_aside(self, message: MessageId, why: str) -> None:
        raise AssertionError("the shard sets aside")

    # --- the source's side ---

    async def pack(self, after: int) -> Parcel:
        """Claim the next messages, with their contents checked. What is damaged is set aside.

        Raises:
            SpoolRefused: the store cannot be read now.
            OSError: a content file cannot be read now.
        """
        watch = self.agenda.watch()
        try:
            leaving: Leaving = await self.reads(lambda store: store.transfer.slice(after))
            items: list[Item] = []
            is_some_left = False
            arriving = _arriving(leaving)
            for head, deliveries in await self._whole(leaving):
                if not await self._is_content_well(head, leaving.contents.get(head.id)):
                    continue
                if all(self.agenda.may_give(delivery, watch) for delivery in deliveries):
                    self.agenda.claim(head.id, head.envelope, head.size, head.in_file, deliveries)
                    items.append(Item(head, deliveries, arriving[head.id]))
                else:
                    is_some_left = True
            for row in leaving.heads:
                is_some_left = is_some_left or row.id in watch.touched
            last = leaving.heads[-1].id if leaving.heads else after
            return Parcel(items, last, leaving.is_last, is_some_left)
        finally:
            self.agenda.unwatch(watch)

    async def _whole(self, leaving: Leaving) -> list[Found]:
        """Return messages that are what was written; a message without any delivery is not."""
        found = await self._check_rows(leaving.rows, leaving.heads)
        waiting = {row.message for row in leaving.rows}
        for head in leaving.heads:
            if head.id not in waiting and await self._is_alone(head.id):
                await self._set_aside(MessageId(head.id), "the message has no recipient left, and is there")
        return found

    async def _is_alone(self, message: int) -> bool:
        """True if the message is there and has no delivery, looked at once more: it may have ended since."""
        rows, heads = await self.reads(lambda store: store.message(message))
        return bool(heads) and not rows

    async def _is_content_well(self, head: Head, octets: bytes | None) -> bool:
        why = "the content is not what was written"
        if head.in_file:
            try:
                arguments = (self._disk, self._body_path(head.id), head.size, head.content_hash)
                (await self._threads.run_blocking(open_checked, *arguments)).close()
            except ContentDamaged as damage:
                why = str(damage)
            else:
                return True
        elif octets is not None and len(octets) == head.size and hash_of(octets) == head.content_hash:
            return True
        if head.id not in self.agenda.claims:
            await self._set_aside(head.id, why)
        return False

    async def hand_over(self, items: Sequence[Item]) -> None:
        """Remove messages that have arrived elsewhere, durably. Raises SpoolRefused: they stay claimed."""
        now = self._clock.now()

        def apply(store: WriteStore, batch: Batch) -> None:
            store.transfer.leave([item.id for item in items], batch)
            # Its database was set aside as damaged meanwhile: a salvage must not bring back what has arrived.
            gone = [item for item in items if (claim := self.agenda.claims.get(item.id)) is not None and claim.stale]
            store.transfer.settle([(item.id, one.number) for item in gone for one in item.deliveries], now)

        def learn() -> None:
            for item in items:
                if (claim := self.agenda.claims.get(item.id)) is None:
                    continue
                for delivery in item.deliveries:
                    self.agenda.freed(claim, delivery)
                    if not claim.stale:
                        self.agenda.changed(delivery.domain, delivery.priority, int(delivery.state), None)

        await self.writer.work(apply, learn)

    def take_back(self, items: Iterable[Item]) -> None:
        """Give up the claims of what did not arrive."""
        for item in items:
            if (claim := self.agenda.claims.get(item.id)) is None:
                continue
            for delivery in item.deliveries:
                if delivery.number in claim.open:
                    self.agenda.unclaim(claim, delivery)

    async def refuse_items(self, items: Iterable[Item], why: str) -> None:
        """Set aside what can never arrive."""
        for item in items:
            self.take_back([item])
            await self._set_aside(item.id, why)

    async def make_sure_of_the_end(self) -> None:
        """Set aside deliveries and contents of which the message is missing; then nothing is left.

        Raises:
            SpoolRefused: something is, since it could not be set aside now.
        """
        seen: list[int] = []
        while (strays := await self.reads(lambda store: store.transfer.strays())) and strays != seen:
            for message in strays:
                await self._set_aside(MessageId(message), "the message of a delivery or content is missing")
            seen = strays
        if not await self.reads(lambda store: store.transfer.is_empty()):
            raise SpoolRefused(Why.TROUBLE, "what is damaged could not be set aside")

    # --- the target's side ---

    async def unpack(self, items: Sequence[Item], source: Moving, forget: Sequence[int]) -> list[int]:
        """Put messages as they stood, durably. Returns ids that another message has here: those were not put.

        Raises:
            SpoolRefused: not put, as far as we know; when the store works again a repetition finds out.
            OSError: a content file could not be linked or copied.
        """
        ids = [item.id for item in items]
        known: set[int] = await self.reads(lambda store: store.transfer.arrived(ids))
        new = [item for item in items if item.id not in known]
        if files := [body_name(item.id) for item in new if item.head.in_file]:
            await self._threads.run_blocking(take_files, self._disk, source.bodies, self.bodies, files)
        arrived: list[Arrived] = []
        self.agenda.arriving.update(ids)
        try:
            await self.writer.work(
                lambda store, batch: arrived.append(
                    store.transfer.arrive([item.arriving for item in new], source.number, forget)
                ),
                lambda: self._learn_arrived(arrived[-1], new, source.number),
            )
        finally:
            self.agenda.arriving.difference_update(ids)
        return arrived[-1].strangers

    def _learn_arrived(self, arrived: Arrived, items: Sequence[Item], from_shard: int) -> None:
        agenda, now = self.agenda, self._clock.now()
        for item in items:
            numbers = arrived.messages.get(item.id)
            agenda.arriving.discard(item.id)
            if numbers is None:
                continue
            if item.id in arrived.new:
                self._messages += 1
                self._octets += item.head.size
            self._outlet.emit(
                facts.Transferred(
                    at=now,
                    message=item.id,
                    from_shard=from_shard,
                    to_shard=self.number,
                    recipients=len(item.deliveries),
                )
            )
            for delivery in item.deliveries:
                if delivery.number in numbers:
                    agenda.added(delivery)
                    agenda.waits(delivery.domain, delivery.state, delivery.due_at, item.id)
            agenda.touch(item.id)
            if self._oldest is None or item.head.received_at < self._oldest:
                self._oldest = item.head.received_at

    async def copy_rest(self, source: Moving) -> None:
        """Copy the rows that belong to no message in the queue, once; the source keeps them to its end."""
        token: bytes = await source.reads(lambda store: store.transfer.token())
        for kind, width in _KINDS.items():
            at = await self.reads(lambda store, kind=kind: store.transfer.up_to(token, kind))
            after = (at, 0)[:width]
            while rows := await source.reads(lambda store, kind=kind, after=after: store.transfer.copy(kind, after)):
                await self._copy_rows(kind, rows, token, source)
                after = rows[-1][1 : 1 + width] if not rows[-1][0] else rows[-1][:1]

    async def _copy_rows(self, kind: str, rows: Sequence[CopiedRow], token: bytes, source: Moving) -> None:
        if kind == "damaged":
            names = sorted({body_name(row[1]) for row in rows})
            await self._threads.run_blocking(take_spare_files, self._disk, source.bodies, self.bodies, names)
        await self.writer.work(lambda store, batch: store.transfer.copied(kind, rows, token, source.number))

    async def forget_arrived(self, number: int) -> None:
        """Forget which messages came from a shard that holds none any more."""
        await self.writer.work(lambda store, batch: store.transfer.forget_shard(number))

    async def forget_copied(self, number: int) -> None:
        """Forget how far a shard was copied: its directory is gone. Raises SpoolRefused."""
        await self.writer.work(lambda store, batch: store.transfer.forget_copied(number))

    async def has_room(self) -> bool:
        """True if it takes parcels: as it takes mail, or, on a full disk, as far as the file need not grow."""
        why = self.refusing()
        if why is Why.FULL:
            free: int = await self.reads(lambda store: store.transfer.free_octets())
            return free >= FREE_INSIDE
        return why is None

    # --- both ---

    @property
    def bodies(self) -> str:
        """Where the content files are."""
        return f"{self._directory}/{BODIES}"

    async def reads(self, work: Any) -> Any:
        """Read in a thread. Raises SpoolRefused where the store cannot be read now."""
        read = await self._read(work)
        if read is None:
            raise SpoolRefused(Why.TROUBLE, "the store cannot be read now")
        return read


def _arriving(leaving: Leaving) -> dict[int, Arriving]:
    """Return the rows as they are to stand in the target, by message."""
    rows: dict[int, list[tuple[Any, ...]]] = {head.id: [] for head in leaving.heads}
    for row in leaving.rows:
        rows[row.message].append(_delivery_columns(row))
    return {
        head.id: Arriving(_message_columns(head), rows[head.id], leaving.contents.get(head.id))
        for head in leaving.heads
    }


def _message_columns(row: HeadRow) -> tuple[int, float, int, int, bytes, bytes, bytes]:
    hashes = bytes.fromhex(row.content_hash), bytes.fromhex(row.head_hash)
    return (row.id, row.received_at, row.size, row.in_file, *hashes, bytes.fromhex(row.envelope))


def _delivery_columns(row: WaitingRow) -> tuple[Any, ...]:
    domain, last = bytes.fromhex(row.domain).decode("utf-8", "replace"), bytes.fromhex(row.last) or None
    state = (row.priority, row.state, row.attempts, row.due_at, row.warned, last)
    return (row.message, row.number, domain, *state)


# --- the whole ---


class Transfer:
    """Moves all of ``source`` to ``target``. ``run`` may be called again after it failed or was cancelled."""

    def __init__(self, source: Moving, target: Moving) -> None:
        self.moved = 0
        """Messages removed from the source so far."""
        self._source = source
        self._target = target
        self._forget: list[int] = []

    async def run(self) -> None:
        """Move everything; on return the source holds no message, durably. Cancelled, it ends the parcel in hand.

        Raises:
            SpoolRefused, OSError: a disk is in trouble, or full. What is moved is moved.
        """
        after = _BEGIN
        is_some_left = False
        loop = asyncio.get_running_loop()
        while True:
            if not await self._target.has_room():
                raise SpoolRefused(self._target.refusing() or Why.FULL, "the shard it goes to takes nothing now")
            began = loop.time()
            parcel: Parcel = await whole(self._parcel(after))
            is_some_left = is_some_left or parcel.is_some_left
            after = parcel.after
            if parcel.is_last:
                if not is_some_left:
                    break
                after, is_some_left = _BEGIN, False
                await asyncio.sleep(CLAIMED_WAIT)
            await asyncio.sleep(min(PAUSE_MAX, loop.time() - began))
        await whole(self._rest())

    async def _parcel(self, after: int) -> Parcel:
        source, target = self._source, self._target
        parcel = await source.pack(after)
        if not parcel.items:
            return parcel
        left = parcel.items
        try:
            strangers = set(await target.unpack(parcel.items, source, self._forget))
            self._forget = []
            left = [item for item in parcel.items if item.id not in strangers]
            await source.hand_over(left)
        except BaseException:
            source.take_back(parcel.items)
            raise
        self.moved += len(left)
        self._forget = [item.id for item in left]
        if strangers:
            refused = [item for item in parcel.items if item.id in strangers]
            await source.refuse_items(refused, "another message has its id in the shard it was to go to")
        return parcel

    async def _rest(self) -> None:
        source, target = self._source, self._target
        await source.make_sure_of_the_end()
        await target.copy_rest(source)
        await target.forget_arrived(source.number)
        self._forget = []
