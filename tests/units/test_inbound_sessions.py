"""Sessions over streams in memory: who may send what to whom, what is kept, and how a session ends."""

from __future__ import annotations

import asyncio

import pytest
from tests.units.inbound_world import STRANGER, TRUSTED, World

from postroad.core import facts
from postroad.spool.face import SpoolFile, Why

PLAIN = b"Subject: a\r\n\r\nText\r\n"


def run(work):
    async def bounded():
        async with asyncio.timeout(20):
            await work()

    asyncio.run(bounded())


@pytest.mark.parametrize(
    ("role", "client", "to", "answer"),
    [
        ("mx", STRANGER, "bob@example.org", "250 2.6.0"),
        ("mx", STRANGER, "bob@example.com", "550 5.7.1"),
        ("mx", STRANGER, "bob%example.com@example.org", "550 5.7.1"),
        ("mx", TRUSTED, "bob@example.com", "250 2.6.0"),
        ("submission", STRANGER, "bob@example.org", "530 5.7.0"),
        ("submission", TRUSTED, "bob@example.com", "250 2.6.0"),
        ("lmtp", STRANGER, "bob@example.org", "250 2.6.0"),
        ("lmtp", TRUSTED, "bob@example.com", "550 5.1.2"),
    ],
)
def test_who_may_send_where(role, client, to, answer):
    async def work():
        world = World(f'role = "{role}"')
        talker = await world.connect(client)
        said = await talker.hand_in(PLAIN, to, hello="LHLO c.example" if role == "lmtp" else "EHLO c.example")
        assert said.startswith(answer)
        assert len(world.spool.kept) == (answer[0] == "2")
        assert bool(world.outlet.of(facts.Refused)) == (answer[0] == "5")

    run(work)


def test_what_is_kept_begins_with_our_trace_field():
    async def work():
        world = World()
        talker = await world.connect()
        answer = await talker.hand_in(PLAIN, "bob@example.org")
        (kept,) = world.spool.kept
        head = b"Received: from c.example (unknown [192.0.2.1])\r\n\tby relay.example.org (Postroad) with ESMTP\r\n"
        assert kept.content.startswith(head)
        assert kept.content.endswith(PLAIN)
        (fact,) = world.outlet.of(facts.Received)
        assert (fact.message, fact.size, fact.rule) == (kept.id, len(PLAIN), "relay.domains")
        assert answer.startswith("250 2.6.0 Queued as ")

    run(work)


def test_a_submission_is_mended_and_what_comes_for_others_is_not():
    async def work():
        for role, mended in (("submission", True), ("mx", False)):
            world = World(f'role = "{role}"')
            await (await world.connect(TRUSTED)).hand_in(b"Bcc: x@y.example\r\n" + PLAIN, "bob@example.org")
            content = world.spool.kept[0].content
            assert (b"\r\nMessage-ID: " in content, b"Bcc" in content) == (mended, not mended)

    run(work)


@pytest.mark.parametrize(("hops", "answer"), [(10, "250"), (11, "554 5.4.6")])
def test_a_loop_is_seen_by_its_hops(hops, answer):
    async def work():
        world = World(limits="received_hops = 10")
        talker = await world.connect()
        assert (await talker.hand_in(b"Received: x\r\n" * hops + PLAIN, "bob@example.org")).startswith(answer)
        assert len(world.spool.kept) == (answer == "250")

    run(work)


def test_a_message_may_not_be_larger_than_announced_and_the_session_goes_on():
    async def work():
        world = World(limits='message_size = "64KiB"')
        talker = await world.connect()
        assert "SIZE 65536" in await talker.say("EHLO c.example")
        assert (await talker.say("MAIL FROM:<a@b.example> SIZE=65537")).startswith("552 5.3.4")
        assert (await talker.hand_in(b"x" * 70_000 + b"\r\n", "bob@example.org")).startswith("552 5.3.4")
        assert (await talker.hand_in(PLAIN, "bob@example.org")).startswith("250")
        assert len(world.spool.kept) == 1
        assert all(body.discarded for body in world.spool.bodies)

    run(work)


def test_a_submission_whose_header_has_no_end_is_refused():
    async def work():
        world = World('role = "submission"')
        talker = await world.connect(TRUSTED)
        endless = b"X-A: b\r\n" * 40_000
        assert (await talker.hand_in(endless, "bob@example.org")).startswith("552 5.3.4 The header")
        assert world.spool.kept == []
        assert [body.discarded for body in world.spool.bodies] == [True]

    run(work)


def test_large_content_goes_to_a_file():
    async def work():
        world = World()
        talker = await world.connect()
        content = PLAIN + (b"y" * 78 + b"\r\n") * 4_000
        assert (await talker.hand_in(content, "bob@example.org")).startswith("250")
        assert isinstance(world.spool.kept[0].content, SpoolFile)
        assert world.spool.bodies[0].octets.endswith(content)

    run(work)


def test_recipients_past_the_limit_are_for_another_transaction():
    async def work():
        world = World(limits="recipients = 100\nerrors = 20")
        talker = await world.connect()
        await talker.say("EHLO c.example")
        await talker.say("MAIL FROM:<a@b.example>")
        for number in range(100):
            assert (await talker.say(f"RCPT TO:<u{number}@example.org>")).startswith("250")
        assert (await talker.say("RCPT TO:<more@example.org>")).startswith("452 4.5.3")
        await talker.say("DATA")
        assert (await talker.say("Subject: a\r\n\r\nb\r\n.")).startswith("250")
        assert len(world.spool.kept[0].envelope.recipients) == 100

    run(work)


@pytest.mark.parametrize(("why", "answer"), [(Why.FULL, "452 4.3.1"), (Why.TROUBLE, "451 4.3.0"), (Why.CLOSED, "421")])
def test_what_the_spool_refuses_is_for_later(why, answer):
    async def work():
        world = World()
        world.spool.why = why
        talker = await world.connect()
        assert (await talker.hand_in(PLAIN, "bob@example.org")).startswith(answer)
        assert world.outlet.of(facts.Received) == []

    run(work)


def test_lmtp_answers_for_each_recipient():
    async def work():
        world = World('role = "lmtp"')
        talker = await world.connect()
        first = await talker.hand_in(PLAIN, "a@example.org", "b@example.org", hello="LHLO c.example")
        assert first.startswith("250")
        assert await talker.hear() == first

    run(work)


def test_too_many_errors_end_the_session():
    async def work():
        world = World(limits="errors = 3")
        talker = await world.connect()
        answers = [await talker.say("WHAT") for _ in range(3)]
        assert [answer[:3] for answer in answers] == ["500", "500", "500"]
        assert (await talker.hear()).startswith("421 4.7.0")
        assert await talker.hear() == ""
        await world.ended()

    run(work)


def test_a_session_that_the_engine_has_closed_does_not_spin():
    async def work():
        world = World()
        talker = await world.connect()
        answer = await talker.hand_in(b"Subject: a\n\r\n", "bob@example.org")
        assert answer.startswith("521")
        await world.ended()
        assert world.spool.kept == []

    run(work)


def test_connections_of_one_address_are_limited_but_not_those_of_trusted_clients():
    async def work():
        world = World(limits="connections_per_ip = 1")
        first = await world.connect()
        assert (await world.connect()).greeting.startswith("421 4.7.0")
        await first.say("QUIT")
        assert await first.hear() == ""
        assert (await world.connect()).greeting.startswith("220")
        assert [(await world.connect(TRUSTED)).greeting[:3] for _ in range(2)] == ["220", "220"]

    run(work)


def test_connections_are_limited_also_those_of_trusted_clients():
    async def work():
        world = World(limits="connections = 2")
        first = await world.connect()
        await world.connect(TRUSTED)
        assert [(await world.connect(one)).greeting[:9] for one in (STRANGER, TRUSTED)] == ["421 4.7.0"] * 2
        await first.say("QUIT")
        assert await first.hear() == ""
        assert (await world.connect()).greeting.startswith("220")

    run(work)


def test_who_lets_us_wait_is_sent_away():
    async def work():
        world = World(idle_timeout=0.01)
        world.server.start()
        talker = await world.connect()
        assert (await talker.hear()).startswith("421 4.4.2")
        assert await talker.hear() == ""
        await world.ended()
        await world.server.drain(0)

    run(work)


def test_an_octet_now_and_then_is_no_progress():
    async def work():
        world = World(idle_timeout=0.5)
        world.server.start()
        talker = await world.connect()
        heard = b""
        for _ in range(100):
            await talker.stream.write(b"X")
            try:
                heard = await talker.stream.read(timeout=0.1)
                break
            except TimeoutError:
                continue
        assert heard.startswith(b"421 4.4.2")
        await world.server.drain(1)

    run(work)


def test_ten_refusals_spread_over_kept_messages_end_nothing():
    async def work():
        world = World(errors=3)
        talker = await world.connect(TRUSTED)
        await talker.say("EHLO c.example")
        for _ in range(4):
            for line in ("JUNK", "JUNK", "MAIL FROM:<a@b.example>", "RCPT TO:<bob@example.org>", "DATA"):
                await talker.say(line)
            assert (await talker.say("Subject: a\r\n\r\nb\r\n.")).startswith("250")

    run(work)


def test_a_bare_postmaster_is_in_our_first_domain():
    async def work():
        world = World()
        stranger = await world.connect()
        await stranger.say("EHLO c.example")
        await stranger.say("MAIL FROM:<a@b.example>")
        assert (await stranger.say("RCPT TO:<postmaster>")).startswith("250")
        await stranger.say("DATA")
        await stranger.say("Subject: a\r\n\r\nb\r\n.")
        assert str(world.spool.kept[0].envelope.recipients[0].mailbox) == "postmaster@example.org"

    run(work)


def test_a_drain_lets_a_transaction_finish_and_ends_idle_sessions_at_once():
    async def work():
        world = World()
        idle, busy = await world.connect(), await world.connect(TRUSTED)
        await busy.say("EHLO c.example")
        await busy.say("MAIL FROM:<a@b.example>")
        assert (await busy.say("RCPT TO:<bob@example.org>")).startswith("250")
        await busy.say("DATA")
        draining = asyncio.ensure_future(world.server.drain(10))
        assert (await idle.hear()).startswith("421 4.3.2")
        assert (await world.connect()).greeting.startswith("421 4.3.2")
        assert (await busy.say("Subject: a\r\n\r\nb\r\n.")).startswith("250")
        assert (await busy.hear()).startswith("421 4.3.2")
        await draining
        assert len(world.spool.kept) == 1
        assert world.server.connections == 0

    run(work)


def test_a_drain_cuts_off_what_takes_too_long():
    async def work():
        world = World()
        talker = await world.connect()
        await talker.say("EHLO c.example")
        await talker.say("MAIL FROM:<a@b.example>")
        await talker.say("RCPT TO:<bob@example.org>")
        await talker.say("DATA")
        await world.server.drain(0.01)
        await world.ended()
        assert world.server.connections == 0

    run(work)
