"""The contract of spool.face.Spool, steering: listings, bulk changes and counts. The way in and out: test_spool.py."""

from __future__ import annotations

import pytest
from tests.contracts.spools import (
    DONE,
    EVERY,
    FAILED,
    KINDS,
    kept,
    later,
    named,
    player,
    ruled,
)

from postroad.core.envelope import Notify
from postroad.spool.face import Ruling, Selection
from postroad.testing.fake_clock import NOON as NOW


@pytest.fixture(params=KINDS)
def play(request, tmp_path):
    return player(request.param, tmp_path)


def test_held_mail_waits_for_a_person(play):
    async def script(spool):
        for _ in range(2):
            await kept(spool, "b@y.example", "c@z.example")
        would = await spool.hold(EVERY, dry_run=True)
        assert (would.recipients, would.messages) == (4, 2)
        only = Selection(domain="y.example")
        assert await spool.hold(only, dry_run=True) == await spool.hold(only)
        assert (spool.stats().held, list(spool.due_domains(NOW, 9))) == (2, ["z.example"])
        assert list(await spool.claim("y.example", NOW, 9)) == []
        assert (await spool.hold(only)).recipients == 0
        assert (await spool.flush(only, NOW)).recipients == 0
        done = await spool.release(EVERY, NOW + 5)
        assert (done.recipients, done.messages, done.in_flight) == (2, 2, 0)
        assert (spool.stats().held, list(spool.due_domains(NOW, 9))) == (0, ["z.example"])
        assert len(await spool.claim("y.example", NOW + 5, 9)) == 2

    play(script)


def test_who_changes_many_hears_of_each_that_was_changed(play):
    async def script(spool):
        messages = [await kept(spool, "b@y.example", "c@z.example") for _ in range(3)]
        heard = []
        await spool.hold(EVERY, dry_run=True, told=heard.extend)
        assert heard == []
        await spool.claim("z.example", NOW, 1)
        for change in (
            lambda: spool.hold(EVERY, told=heard.extend),
            lambda: spool.release(EVERY, NOW, told=heard.extend),
            lambda: spool.bounce(EVERY, FAILED, told=heard.extend),
            lambda: spool.drop(EVERY, "by hand", told=heard.extend),
        ):
            heard.clear()
            await change()
            assert sorted(named(heard)) == [(messages[0], [0]), (messages[1], [0, 1]), (messages[2], [0, 1])]
        assert heard[1].envelope.recipients[1].mailbox.domain == "z.example"

    play(script)


def test_flushed_mail_is_due_now(play):
    async def script(spool):
        message = await kept(spool)
        await spool.claim("y.example", NOW, 9)
        assert (await spool.flush(EVERY, NOW)).in_flight == 1
        await ruled(spool, message, later(300))
        assert (await spool.flush(EVERY, NOW + 1, dry_run=True)).recipients == 1
        assert spool.next_due_at() == NOW + 300
        assert (await spool.flush(Selection(state="deferred"), NOW + 1)).recipients == 1
        assert spool.next_due_at() == NOW + 1

    play(script)


def test_dropped_mail_is_gone_save_what_is_in_flight(play):
    async def script(spool):
        both = await kept(spool, "b@y.example", "c@z.example")
        await kept(spool)
        await spool.claim("z.example", NOW, 9)
        would = await spool.drop(EVERY, "by hand", dry_run=True)
        assert (would.recipients, would.messages, would.in_flight) == (2, 2, 1)
        assert spool.stats().recipients == 3
        assert await spool.drop(EVERY, "by hand") == would
        assert (spool.stats().messages, spool.stats().recipients) == (1, 1)
        assert named((await spool.list(EVERY, after=None, limit=9)).messages) == [(both, [1])]
        assert list(spool.due_domains(NOW, 9)) == []

    play(script)


class Holder:
    """Claims, and lets all of it wait but what is in hand."""

    def __init__(self, spool, *in_hand):
        self.spool = spool
        self.in_hand = set(in_hand)
        self.claimed = []
        spool.on_wanted_back(self.want_back)

    async def claim(self, *domains):
        for domain in domains:
            self.claimed += await self.spool.claim(domain, NOW, 99)

    def want_back(self, wanted, take):
        assert all(wanted.values()), "nothing is asked of messages that nobody claimed"
        found = []
        for message in self.claimed:
            meant = [one for one in message.deliveries if one.number in wanted.get(message.id, ())]
            if not meant or message.id in self.in_hand:
                continue
            found += meant
            if take:  # as a job goes back: with all of its deliveries
                self.spool.unclaim(message.id, [one.number for one in message.deliveries])
        return found


CHANGES = {
    "hold": lambda spool, meant, **how: spool.hold(meant, **how),
    "drop": lambda spool, meant, **how: spool.drop(meant, "by hand", **how),
    "bounce": lambda spool, meant, **how: spool.bounce(meant, FAILED, **how),
}


@pytest.mark.parametrize("selection", [EVERY, Selection(to="*@y.example")])
@pytest.mark.parametrize("change", CHANGES)
def test_what_only_waits_in_memory_is_asked_back_and_changed(play, change, selection):
    async def script(spool):
        in_hand, *_ = [await kept(spool, "b@y.example", "c@y.example") for _ in range(5)]
        holder = Holder(spool, in_hand)
        await holder.claim("y.example")
        would = await CHANGES[change](spool, selection, dry_run=True)
        assert (would.recipients, would.messages, would.in_flight) == (8, 4, 2)
        assert list(spool.due_domains(NOW, 9)) == []
        heard = []
        assert await CHANGES[change](spool, selection, told=heard.extend) == would
        assert len(heard) == 4
        assert list(await spool.claim("y.example", NOW, 99)) == []
        assert spool.stats().recipients == {"hold": 10, "drop": 2, "bounce": 10}[change]
        await ruled(spool, in_hand, DONE, Ruling(1, DONE.outcome, None))
        assert spool.stats().recipients == {"hold": 8, "drop": 0, "bounce": 8}[change]
        if change == "hold":
            assert (await spool.release(EVERY, NOW)).recipients == 8
            assert sum(len(one.deliveries) for one in await spool.claim("y.example", NOW, 99)) == 8

    play(script)


def test_what_goes_back_with_others_and_is_not_meant_is_due_again(play):
    async def script(spool):
        message = await kept(spool, "b@y.example", "c@y.example")
        holder = Holder(spool)
        await holder.claim("y.example")
        done = await spool.hold(Selection(to="b@y.example"))
        assert (done.recipients, done.messages, done.in_flight) == (1, 1, 0)
        assert list(spool.due_domains(NOW, 9)) == ["y.example"]
        assert named(await spool.claim("y.example", NOW, 9)) == [(message, [1])]

    play(script)


def test_a_flush_asks_nothing_back_and_counts_what_waits(play):
    async def script(spool):
        for _ in range(3):
            await kept(spool, "b@y.example", "c@z.example")
        holder = Holder(spool, (await spool.list(EVERY, after=None, limit=1)).messages[0].id)
        await holder.claim("y.example")
        for dry_run in (True, False):
            flushed = await spool.flush(EVERY, NOW, dry_run=dry_run)
            assert (flushed.recipients, flushed.messages, flushed.in_flight) == (5, 3, 1)
            assert list(await spool.claim("y.example", NOW, 9)) == []

    play(script)


def test_bounced_mail_is_reported_where_a_report_is_wanted(play):
    async def script(spool):
        wanted = await kept(spool)
        await kept(spool, sender="")
        await kept(spool, notify=int(Notify.NEVER))
        would = await spool.bounce(EVERY, FAILED, dry_run=True)
        assert spool.stats().reports == 0
        assert await spool.bounce(EVERY, FAILED) == would
        assert (would.recipients, would.messages, would.in_flight) == (3, 3, 0)
        assert (spool.stats().messages, spool.stats().reports) == (1, 1)
        assert list(spool.due_reports(9)) == [wanted]
        assert (await spool.claim_report(wanted)).deliveries[0].last == FAILED

    play(script)


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(to="y.example"), [0, 1]),
        (Selection(to="*.example"), [0, 1, 2]),
        (Selection(to="b@y.example"), [0]),
        (Selection(sender="<>"), [1]),
        (Selection(sender="x.example"), [0, 2]),
        (Selection(state="held"), [2]),
        (Selection(state="deferred"), []),
        (Selection(domain="z.example", sender="<>"), []),
    ],
)
def test_a_selection_names_what_is_meant(play, selection, wanted):
    async def script(spool):
        ids = [await kept(spool), await kept(spool, "c@y.example", sender=""), await kept(spool, "d@z.example")]
        await spool.hold(Selection(ids=(ids[2],)))
        page = await spool.list(selection, after=None, limit=9)
        assert [one.id for one in page.messages] == [ids[place] for place in wanted]

    play(script)


def test_a_listing_comes_in_pages_and_shows_what_is_claimed(play):
    async def script(spool):
        ids = [await kept(spool, "b@y.example", "c@z.example") for _ in range(5)]
        await spool.claim("y.example", NOW, 1)
        seen, after, pages = [], None, 0
        while after is not None or not pages:
            page = await spool.list(EVERY, after=after, limit=2)
            assert len(page.messages) <= 2
            seen, after, pages = [*seen, *page.messages], page.after, pages + 1
        assert named(seen) == [(message, [0, 1]) for message in ids]

    play(script)


def test_a_selection_that_cannot_be_is_an_error(play):
    async def script(spool):
        with pytest.raises(ValueError, match="not a state"):
            await spool.list(Selection(state="lost"), after=None, limit=9)

    play(script)


def test_stats_count_what_is_there(play):
    async def script(spool):
        assert (spool.stats().oldest_at, spool.stats().accepting, spool.stats().trouble) == (None, True, "")
        await kept(spool, "b@y.example", "c@z.example", at=NOW - 9, content=b"12345")
        await kept(spool, content=b"123")
        await spool.hold(Selection(domain="z.example"))
        stats = spool.stats()
        assert (stats.messages, stats.recipients, stats.held, stats.reports, stats.octets) == (2, 3, 1, 0, 8)
        assert stats.oldest_at == NOW - 9
        first, second = spool.domain_stats(9)
        assert (first.domain, first.due, first.held, first.reports, first.next_due_at) == (
            "y.example",
            2,
            0,
            0,
            NOW - 9,
        )
        assert (second.domain, second.due, second.held, second.next_due_at) == ("z.example", 0, 1, None)
        assert [one.domain for one in spool.domain_stats(1)] == ["y.example"]
        await spool.claim("y.example", NOW, 9)
        assert (spool.domain_stats(1)[0].due, spool.domain_stats(1)[0].next_due_at) == (2, None)

    play(script)


def test_what_was_dropped_leaves_rows(play):
    async def script(spool):
        message = await kept(spool, "b@y.example", "c@z.example", "d@z.example")
        await kept(spool)
        await spool.claim("y.example", NOW, 1)
        await ruled(spool, message, later(300))
        assert list(await spool.drops_of(message)) == []
        await spool.drop(Selection(ids=(message,), domain="z.example"), "queue delete by alice")
        await spool.drop(Selection(ids=(message,)), "quarantine.expiry")
        drops = await spool.drops_of(message)
        assert [(one.number, one.recipient, one.rule, one.at) for one in drops] == [
            (1, "c@z.example", "queue delete by alice", NOW),
            (2, "d@z.example", "queue delete by alice", NOW),
            (0, "b@y.example", "quarantine.expiry", NOW),
        ]
        assert [bool(one.reply) for one in drops] == [False, False, True]
        assert {one.message for one in drops} == {message}

    play(script)


def test_the_oldest_mail_of_each_domain(play):
    async def script(spool):
        first = await kept(spool, "b@y.example", "c@z.example", "d@y.example")
        second = await kept(spool, "e@z.example", "f@w.example")
        found = await spool.oldest(["y.example", "z.example", "w.example", "", "none.example"])
        assert {domain: named([one]) for domain, one in found.items()} == {
            "y.example": [(first, [0, 2])],
            "z.example": [(first, [1])],
            "w.example": [(second, [1])],
        }
        assert await spool.oldest([]) == {}

    play(script)
