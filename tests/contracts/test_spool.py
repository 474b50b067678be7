"""The contract of spool.face.Spool, in and out: the shard on the real disk, with two connections and with one, and
the fake. Steering: test_spool_steer.py."""

from __future__ import annotations

import pytest
from tests.contracts.spools import (
    DONE,
    EVERY,
    FAILED,
    KINDS,
    LARGE,
    LAST,
    content_of,
    failed,
    kept,
    later,
    made,
    named,
    player,
    ruled,
)
from tests.contracts.streams import run

from postroad.core import outcome, reply
from postroad.core.envelope import Notify
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.spool.face import NewMessage, Ruling, Selection, SpoolRefused, Why
from postroad.spool.shard import DROPS_KEPT
from postroad.testing.fake_clock import NOON as NOW
from postroad.testing.fake_clock import FakeClock
from postroad.testing.memory_spool import MemorySpool


@pytest.fixture(params=KINDS)
def play(request, tmp_path):
    return player(request.param, tmp_path)


def test_what_is_put_is_claimed_once_and_gone_when_recorded(play):
    async def script(spool):
        new = made(spool, "b@y.example", "c@y.example", "d@z.example")
        await spool.put(new)
        assert sorted(spool.due_domains(NOW, 10)) == ["y.example", "z.example"]
        assert len(spool.due_domains(NOW, 1)) == 1
        (claimed,) = await spool.claim("y.example", NOW, 10)
        assert named([claimed]) == [(new.id, [0, 1])]
        assert (claimed.envelope, claimed.received_at, claimed.size) == (new.envelope, NOW, len(new.content))
        assert list(await spool.claim("y.example", NOW, 10)) == []
        assert list(spool.due_domains(NOW, 10)) == ["z.example"]
        assert await content_of(spool, new.id) == new.content
        await ruled(spool, new.id, DONE, Ruling(1, DONE.outcome, None))
        assert (spool.stats().messages, spool.stats().recipients) == (1, 1)
        assert named([await spool.show(new.id)]) == [(new.id, [2])]
        await spool.claim("z.example", NOW, 10)
        await ruled(spool, new.id, Ruling(2, DONE.outcome, None))
        assert await spool.show(new.id) is None
        assert spool.next_due_at() is None
        with pytest.raises(KeyError):
            await spool.open(new.id)

    play(script)


def test_what_nobody_claimed_is_not_recorded(play):
    async def script(spool):
        message = await kept(spool)
        await ruled(spool, message, DONE)
        assert (await spool.show(message)).deliveries[0].state is DeliveryState.DUE
        await ruled(spool, LAST, DONE)
        spool.unclaim(LAST, [0])

    play(script)


def test_an_id_that_is_there_is_refused_and_left_alone(play):
    async def script(spool):
        new = made(spool)
        await spool.put(new)
        with pytest.raises(SpoolRefused):
            await spool.put(NewMessage(new.id, new.envelope, b"other", NOW))
        assert await content_of(spool, new.id) == new.content
        assert spool.stats().messages == 1

    play(script)


def test_ids_grow(play):
    async def script(spool):
        ids = [spool.new_id() for _ in range(100)]
        assert ids == sorted(set(ids))

    play(script)


def test_claims_are_by_priority_then_due(play):
    async def script(spool):
        low = await kept(spool, priority=-3, at=NOW - 50)
        young = await kept(spool, at=NOW - 10)
        old = await kept(spool, at=NOW - 20)
        high = await kept(spool, priority=4, at=NOW)
        await kept(spool, at=NOW + 1)
        assert [one.id for one in await spool.claim("y.example", NOW, 3)] == [high, old, young]
        assert [one.id for one in await spool.claim("y.example", NOW, 3)] == [low]
        assert list(spool.due_domains(NOW, 9)) == []
        assert spool.next_due_at() == NOW + 1

    play(script)


def test_the_longest_due_domain_is_first(play):
    async def script(spool):
        for seconds, domain in ((5, "c"), (9, "a"), (7, "b"), (-1, "d")):
            await kept(spool, f"x@{domain}.example", at=NOW - seconds)
        assert list(spool.due_domains(NOW, 10)) == ["a.example", "b.example", "c.example"]
        assert list(spool.due_domains(NOW, 2)) == ["a.example", "b.example"]

    play(script)


def test_a_deferred_delivery_waits_for_its_time(play):
    async def script(spool):
        message = await kept(spool)
        await spool.claim("y.example", NOW, 10)
        ruling = later(300)
        await ruled(spool, message, ruling)
        assert list(spool.due_domains(NOW + 299, 10)) == []
        assert spool.next_due_at() == NOW + 300
        assert list(await spool.claim("y.example", NOW + 299, 10)) == []
        assert list(spool.due_domains(NOW + 300, 10)) == ["y.example"]
        (claimed,) = await spool.claim("y.example", NOW + 300, 10)
        row = claimed.deliveries[0]
        assert (row.attempts, row.last, row.due_at, row.warned) == (1, ruling.outcome, NOW + 300, False)

    play(script)


def test_a_pause_leaves_a_domain_out_until_then(play):
    async def script(spool):
        await kept(spool)
        await kept(spool, "c@z.example", at=NOW + 50)
        spool.pause("y.example", NOW + 30)
        assert list(spool.due_domains(NOW + 29, 10)) == []
        assert spool.next_due_at() == NOW + 30
        assert list(spool.due_domains(NOW + 30, 10)) == ["y.example"]
        spool.pause("y.example", NOW + 90)
        assert spool.next_due_at() == NOW + 50
        spool.pause("y.example", NOW - 1)
        assert list(spool.due_domains(NOW, 10)) == ["y.example"]

    play(script)


@pytest.mark.parametrize("how", ["flush", "release"])
def test_flush_and_release_end_a_pause(play, how):
    async def script(spool):
        await kept(spool)
        await kept(spool, "c@y.example")
        await spool.hold(Selection(to="c@y.example"))
        spool.pause("y.example", NOW + 600)
        assert list(spool.due_domains(NOW, 10)) == []
        assert (await getattr(spool, how)(EVERY, NOW)).recipients == 1
        assert list(spool.due_domains(NOW, 10)) == ["y.example"]

    play(script)


def test_what_is_given_back_is_as_it_was(play):
    async def script(spool):
        message = await kept(spool, "b@y.example", "c@y.example")
        before = await spool.show(message)
        await spool.claim("y.example", NOW, 10)
        spool.unclaim(message, [1])
        assert list(spool.due_domains(NOW, 10)) == ["y.example"]
        assert named(await spool.claim("y.example", NOW, 10)) == [(message, [1])]
        spool.unclaim(message, [0, 1])
        assert (await spool.claim("y.example", NOW, 10))[0].deliveries == before.deliveries

    play(script)


@pytest.mark.parametrize("takes", [True, False])
def test_a_listener_is_offered_what_was_kept(play, takes):
    async def script(spool):
        offered = []

        def listener(message):
            offered.append(message)
            return takes

        spool.on_kept(listener)
        new = made(spool, "b@y.example", "c@z.example")
        await spool.put(new)
        assert named(offered) == [(new.id, [0, 1])]
        assert offered[0].content == new.content
        assert list(spool.due_domains(NOW, 10)) == ([] if takes else ["y.example", "z.example"])
        assert len(await spool.claim("y.example", NOW, 10)) == (0 if takes else 1)
        await spool.claim("z.example", NOW, 10)
        await ruled(spool, new.id, DONE, Ruling(1, DONE.outcome, None))
        assert spool.stats().messages == 0

    play(script)


def test_a_listener_that_breaks_does_not_unsay_what_was_kept(play):
    async def script(spool):
        def listener(message):
            raise ZeroDivisionError

        spool.on_kept(listener)
        message = await kept(spool)
        assert named(await spool.claim("y.example", NOW, 10)) == [(message, [0])]

    play(script)


def test_a_large_content_goes_through_a_writer(play):
    async def script(spool):
        offered = []
        spool.on_kept(lambda message: bool(offered.append(message)))
        new = made(spool)
        writer = spool.begin_body(new.id)
        for start in range(0, len(LARGE), 65_536):
            await writer.write(LARGE[start : start + 65_536])
        file = await writer.finish()
        assert file.size == len(LARGE)
        await spool.put(NewMessage(new.id, new.envelope, file, NOW))
        assert (offered[0].content, offered[0].size) == (None, len(LARGE))
        assert spool.stats().octets == len(LARGE)
        assert await content_of(spool, new.id) == LARGE
        await spool.claim("y.example", NOW, 10)
        await ruled(spool, new.id, DONE)
        assert spool.stats().octets == 0

    play(script)


def test_a_large_content_is_discarded_at_any_time(play):
    async def script(spool):
        await spool.begin_body(spool.new_id()).discard()
        writer = spool.begin_body(spool.new_id())
        await writer.write(LARGE)
        await writer.discard()
        assert spool.stats().octets == 0

    play(script)


def test_a_report_takes_the_place_of_what_it_tells(play):
    async def script(spool):
        message = await failed(spool)
        assert list(spool.due_reports(10)) == [message]
        assert (spool.stats().reports, spool.next_due_at()) == (1, None)
        claimed = await spool.claim_report(message)
        assert (claimed.deliveries[0].last, claimed.deliveries[0].state) == (FAILED, DeliveryState.REPORT_FAILED)
        assert list(spool.due_reports(10)) == []
        assert await spool.claim_report(message) is None
        report = made(spool, "a@x.example", sender="")
        await spool.put(report, replaces=[(message, [Ruling(0, FAILED, None)])])
        assert (spool.stats().messages, spool.stats().reports) == (1, 0)
        assert await spool.show(message) is None
        assert await spool.show(report.id) is not None

    play(script)


def test_whoever_puts_is_told_once_that_it_is_kept_and_never_of_what_is_refused(play):
    async def script(spool):
        told = []
        new = made(spool)
        await spool.put(new, told=lambda: told.append(spool.stats().messages))
        assert told == [1]
        with pytest.raises(SpoolRefused):
            await spool.put(new, told=lambda: told.append("again"))
        await spool.flush_records()
        assert told == [1]

    play(script)


def test_a_report_that_is_refused_leaves_what_it_tells_claimed(play):
    async def script(spool):
        message = await failed(spool)
        await spool.claim_report(message)
        report = made(spool, "a@x.example", sender="")
        await spool.put(report)
        with pytest.raises(SpoolRefused):
            await spool.put(report, replaces=[(message, [Ruling(0, FAILED, None)])])
        assert list(spool.due_reports(10)) == []
        spool.unclaim(message, [0])
        assert list(spool.due_reports(10)) == [message]
        assert await spool.claim_report(message) is not None

    play(script)


def test_a_report_waits_for_the_other_deliveries(play):
    async def script(spool):
        message = await kept(spool, "b@y.example", "c@y.example")
        await spool.claim("y.example", NOW, 10)
        await ruled(spool, message, Ruling(0, FAILED, DeliveryState.REPORT_FAILED))
        assert list(spool.due_reports(10)) == []
        await ruled(spool, message, later(300, 1))
        assert list(spool.due_reports(10)) == [message]
        assert named([await spool.claim_report(message)]) == [(message, [0])]

    play(script)


def test_old_mail_is_claimed_in_steps_and_marked_warned_once(play):
    async def script(spool):
        first = await kept(spool, "b@y.example", "c@z.example")
        second, third = await kept(spool), await kept(spool)
        await kept(spool, sender="")  # must not be warned of: counts as warned
        await kept(spool, notify=int(Notify.FAILURE))
        found, after = await spool.aged(MessageId(0), third, 1, unwarned=True)
        assert (named(found), after) == ([(first, [0, 1])], first)
        found, after = await spool.aged(after, third, 10, unwarned=True)
        assert (named(found), after) == ([(second, [0])], None)
        told = outcome.Deferred(reply.LOCAL_TROUBLE, NOW)
        await ruled(spool, first, *(Ruling(number, told, DeliveryState.DUE, 0.0, True) for number in (0, 1)))
        assert spool.next_due_at() == NOW
        spool.unclaim(second, [0])
        found, _ = await spool.aged(MessageId(0), LAST, 10, unwarned=True)
        assert named(found) == [(second, [0]), (third, [0])]
        found, _ = await spool.aged(MessageId(0), second, 10, unwarned=False)
        rows = [(row.warned, row.attempts, row.last, row.due_at) for row in found[0].deliveries]
        assert rows == [(True, 0, None, NOW)] * 2

    play(script)


def test_a_full_spool_refuses_and_says_so(play):
    async def script(spool):
        assert spool.refusing() is Why.FULL
        with pytest.raises(SpoolRefused) as refused:
            await kept(spool)
        assert refused.value.why is Why.FULL
        with pytest.raises(SpoolRefused):
            await spool.begin_body(spool.new_id()).write(LARGE)
        assert (spool.stats().messages, spool.stats().accepting) == (0, False)
        assert spool.stats().trouble

    play(script, full=True)


def test_a_closed_spool_takes_and_gives_nothing(play):
    async def script(spool):
        await kept(spool)
        await spool.prune(NOW)
        await spool.close()
        assert spool.refusing() is Why.CLOSED
        with pytest.raises(SpoolRefused):
            await kept(spool)
        assert (list(spool.due_domains(NOW, 9)), spool.next_due_at(), list(spool.due_reports(9))) == ([], None, [])

    play(script)


def test_the_fake_tells_what_was_dropped_until_it_is_pruned():
    async def script():
        spool = MemorySpool(FakeClock())
        message = await kept(spool)
        await spool.drop(EVERY, "by hand")
        await spool.prune(NOW + DROPS_KEPT)
        assert [(drop.message, drop.rule, drop.at) for drop in spool.drops] == [(message, "by hand", NOW)]
        await spool.prune(NOW + DROPS_KEPT + 1)
        assert spool.drops == []

    run("uvloop", script())
