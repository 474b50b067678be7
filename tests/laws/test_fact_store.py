"""Whatever facts come, in whatever batches, over reopenings, days and several writers: a story is exactly the facts of
its message in the order of time, and an address leads to exactly the messages that name it."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.units.facts_world import AT, attempted, message_id, sample

from postroad.core import facts
from postroad.core.facts import AnyFact
from postroad.core.units import DAY, GIB
from postroad.observe.packing import Row, address_hash, address_key, unpack
from postroad.observe.segment import index_of, offsets_of
from postroad.observe.segments import FactStore
from postroad.observe.stories import read_story
from postroad.testing.fake_clock import FakeClock
from postroad.testing.inline_threads import InlineThreads

MESSAGES = st.integers(0, 4)
WRITERS = st.integers(0, 2)
ADDRESSES = (
    "a@one.example",
    "A@one.example",
    "b@two.example",
    '"odd | local"@one.example',
    "postmaster@two.example",
    "",
)
STEPS = st.one_of(
    st.tuples(st.just("received"), WRITERS, MESSAGES, st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES[:-1])),
    st.tuples(st.just("attempted"), WRITERS, MESSAGES),
    st.tuples(st.just("delivered"), WRITERS, MESSAGES, st.sampled_from(ADDRESSES[:-1])),
    st.tuples(st.just("refused"), WRITERS, st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES[:-1])),
    st.tuples(st.just("stopped"), WRITERS),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 1.0, 3600.0, DAY])),
    st.tuples(st.just("hand on"), WRITERS),
    st.tuples(st.just("write"), WRITERS),
    st.tuples(st.just("reopen"), WRITERS),
)


class Told:
    """Writers, and what they were told."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.clock = FakeClock(AT)
        self.threads = InlineThreads()
        self.stores = [self._open(number) for number in range(3)]
        self.pending: list[list[AnyFact]] = [[], [], []]
        self.taken: list[tuple[float, int, int, AnyFact]] = []

    def _open(self, number: int) -> FactStore:
        return FactStore(
            self.directory, str(number), threads=self.threads, clock=self.clock, keep=1000 * DAY, disk_max=GIB
        )

    async def do(self, verb: str, *rest: Any) -> None:
        if verb == "wait":
            self.clock.advance(rest[0])
            return
        number, *more = rest
        if verb in ("hand on", "write", "reopen"):
            self.stores[number].take(self.pending[number])
            self.pending[number] = []
            if verb == "write":
                await self.stores[number].flush()
            if verb == "reopen":
                await self.stores[number].close()
                self.stores[number] = self._open(number)
            return
        fact = self._fact(verb, *more)
        self.pending[number].append(fact)
        self.taken.append((fact.at, number, len(self.taken), fact))

    def _fact(self, verb: str, *more: Any) -> AnyFact:
        at = self.clock.now()
        match verb, *more:
            case "received", int(message), sender, recipient:
                return sample(
                    facts.Received, at=at, message=message_id(message), sender=sender, recipients=(recipient, "z@z")
                )
            case "attempted", int(message):
                return attempted(message_id(message), at)
            case "delivered", int(message), recipient:
                return sample(facts.Delivered, at=at, message=message_id(message), recipient=recipient, sender="")
            case "refused", sender, recipient:
                return sample(facts.Refused, at=at, sender=sender, recipient=recipient, message=None)
        return facts.Stopped(at=at, why="")

    async def close(self) -> None:
        for number, store in enumerate(self.stores):
            store.take(self.pending[number])
            await store.close()

    def expected(self, wanted: set[int], refusals: set[int]) -> list[AnyFact]:
        return [
            fact
            for *_, place, fact in sorted(self.taken, key=lambda one: one[:3])
            if getattr(fact, "message", None) in wanted or place in refusals
        ]


def by_message(fact: AnyFact) -> tuple[float, int]:
    return fact.at, getattr(fact, "message", None) or 0


def names(fact: AnyFact) -> set[str]:
    """The addresses by which a fact is found."""
    match fact:
        case facts.Received(sender=sender, recipients=recipients):
            found = {sender, *recipients}
        case facts.Delivered(sender=sender, recipient=recipient) | facts.Refused(sender=sender, recipient=recipient):
            found = {sender or "", recipient or ""}
        case _:
            found = set()
    return {address_key(one) for one in found if one}


@settings(deadline=None, max_examples=60)
@given(st.lists(STEPS, max_size=40))
def test_a_story_is_exactly_the_facts_of_its_message(steps: list[Any]) -> None:
    async def work(directory: str) -> None:
        told = Told(directory)
        for step in steps:
            await told.do(*step)
        await told.close()
        for number in range(5):
            message = message_id(number)
            read = [fact async for fact in read_story(directory, message, told.threads)]
            assert read == told.expected({message}, set())
        for address in ADDRESSES[:-1]:
            hit = [(place, fact) for *_, place, fact in told.taken if address_key(address) in names(fact)]
            messages = {fact.message for _, fact in hit if isinstance(fact, facts.Received | facts.Delivered)}
            refusals = {place for place, fact in hit if isinstance(fact, facts.Refused)}
            read = [fact async for fact in read_story(directory, address, told.threads)]
            assert [fact.at for fact in read] == sorted(fact.at for fact in read)
            # Of one time and writer, the facts of a message stand together.
            assert sorted(read, key=by_message) == sorted(told.expected(messages, refusals), key=by_message)

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(work(directory))


@given(st.binary(max_size=200))
def test_what_stands_in_a_row_breaks_no_reader(octets: bytes) -> None:
    known, unknown = unpack(octets)
    assert isinstance(known, list)
    assert unknown >= 0


def test_an_address_has_one_hash_however_it_is_written() -> None:
    """Stored: it may never change."""
    assert address_hash("bob@EXAMPLE.org") == address_hash("bob@example.org") == bytes.fromhex("0149f40bf1ba7c1e")
    assert address_hash("Postmaster@example.org") == address_hash("postmaster@example.org")
    assert address_hash('"bob"@example.org') == address_hash("bob@example.org")
    assert address_hash("Bob@example.org") != address_hash("bob@example.org")
    assert address_hash("bob@bücher.example") == address_hash("bob@xn--bcher-kva.example")


@given(st.lists(st.lists(st.binary(min_size=8, max_size=8).map(lambda text: bytes(octet & 1 for octet in text)))))
def test_the_index_of_addresses_finds_what_was_put_in(rows: list[list[bytes]]) -> None:
    """Hashes of zeros and ones: they lie across the borders of entries all the time."""
    entries = index_of([Row(None, 0.0, b"", set(hashes)) for hashes in rows])
    for wanted in {one for hashes in rows for one in hashes} | {bytes(8)}:
        assert offsets_of(entries, wanted) == [place for place, hashes in enumerate(rows) if wanted in hashes]
