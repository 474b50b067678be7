"""The control socket whole: a real Unix socket between the client's and the relay's side of ``Steering``."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.units.control_world import relay
from tests.units.steering_world import (
    HEALTH,
    MESSAGES,
    STATS,
    ScriptedSteering,
    message,
    message_id,
    recipient,
)

from postroad.core.facts import AnyFact, Delivered, Trouble
from postroad.core.ids import MessageId
from postroad.core.reply import OK
from postroad.http import control_server
from postroad.http.control_client import RemoteSteering
from postroad.http.control_wire import CLIENTS_MAX, LINE_MAX
from postroad.net.local import bind_private
from postroad.outbound.steering import Change, ControlRefused, Health, NoRelay
from postroad.spool.face import Selection

TIMEOUT = 20.0


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, TIMEOUT))


async def until(condition: Any) -> None:
    """Let others run until it holds; the test's time-out is the bound."""
    while not condition():
        await asyncio.sleep(0)


def test_every_question_comes_back_as_it_was_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            page = await made.client.list_messages(Selection(state="due"), after=None, limit=2)
            assert page.messages == MESSAGES[:2]
            assert page.after == message_id(2)
            last = await made.client.list_messages(Selection(state="due"), after=page.after, limit=2)
            assert (last.messages, last.after) == (MESSAGES[2:], None)
            assert await made.client.show(message_id(2)) == MESSAGES[1]
            assert await made.client.stats(10) == STATS
            assert await made.client.health() == HEALTH
            changed = await made.client.change(Change.HOLD, Selection(domain="example.org"), dry_run=True)
            assert changed == made.steering.changed
            assert made.steering.asked[-1] == (Change.HOLD, Selection(domain="example.org"), True)
            assert made.steering.asked[0] == ("list", Selection(state="due"), None, 2)
            assert await made.client.change(Change.DELETE, Selection()) == made.steering.changed
            assert made.steering.asked[-1] == (Change.DELETE, Selection(), False)

    run(test())


def test_a_message_with_very_many_recipients_comes_through(tmp_path: Path) -> None:
    async def test() -> None:
        row = message(1, *(recipient(number, f"user{number}@example.org") for number in range(5_000)))
        async with relay(tmp_path, ScriptedSteering([row])) as made:
            assert await made.client.show(message_id(1)) == row

    run(test())


def test_a_line_may_be_long(tmp_path: Path) -> None:
    """Ten thousand ids in a request, all reasons of a hundred recipients in an answer: far past asyncio's 64 KiB."""

    async def test() -> None:
        row = message(1, *(recipient(number, f"user{number}@example.org", reason="r" * 500) for number in range(140)))
        async with relay(tmp_path, ScriptedSteering([row])) as made:
            ids = tuple(message_id(number) for number in range(10_000))
            await made.client.change(Change.HOLD, Selection(ids=ids))
            assert made.steering.asked == [(Change.HOLD, Selection(ids=ids), False)]
            assert await made.client.show(message_id(1)) == row

    run(test())


def test_a_change_without_a_condition_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            (line,) = await made.converse(b'{"version":1,"verb":"change","change":"delete","selection":{}}\n')
            assert line.startswith(b'{"error":"Nothing is selected.')
            assert made.steering.asked == []

    run(test())


def test_facts_are_told_until_the_story_ends(tmp_path: Path) -> None:
    async def test() -> None:
        steering = ScriptedSteering()
        steering.facts = [
            Delivered(
                at=1.5,
                message=message_id(1),
                number=number,
                recipient="b@example.org",
                sender="",
                destination="d",
                host="h",
                reply=OK,
                delay=0.25,
            )
            for number in range(3)
        ]
        async with relay(tmp_path, steering) as made:
            assert [fact async for fact in made.client.watch(message_id(1))] == steering.facts

    run(test())


def test_a_refusal_is_a_sentence_with_its_status(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            made.steering.refuse = ControlRefused("Not today.", 2)
            with pytest.raises(ControlRefused, match=r"^Not today\.$") as refused:
                await made.client.health()
            assert refused.value.status == 2

    run(test())


def test_a_fault_of_ours_is_told_and_ends_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            made.steering.refuse = KeyError("oops")
            with pytest.raises(ControlRefused, match="broke while it did that: KeyError"):
                await made.client.health()
            (fact,) = made.outlet.facts
            assert isinstance(fact, Trouble)
            assert (fact.what, fact.why) == ("control", "KeyError('oops')")
            made.steering.refuse = None
            assert await made.client.health() == HEALTH

    run(test())


def test_requests_follow_one_another_on_a_connection(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            health = b'{"version":1,"verb":"health"}\n'
            said = await made.converse(health, b"nonsense\n", health)
            assert [line[:8] for line in said] == [b'{"done":', b'{"error"', b'{"done":']

    run(test())


def test_what_is_too_long_ends_the_conversation(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            reader, writer = await asyncio.open_unix_connection(str(made.path))
            writer.write(b"x" * (3 * LINE_MAX))
            with suppress(ConnectionResetError):  # octets that nobody has read
                assert await reader.read() == b""
            writer.close()
            assert await made.client.health() == HEALTH

    run(test())


def test_who_asks_is_known_by_the_kernel(tmp_path: Path) -> None:
    async def test() -> None:
        import pwd

        async with relay(tmp_path) as made:
            await made.client.health()
            assert made.control.who == [pwd.getpwuid(os.geteuid()).pw_name]

    run(test())


def test_others_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            monkeypatch.setattr(control_server, "peer_uid", lambda transport: os.geteuid() + 4242)
            with pytest.raises(ControlRefused, match=f"uid {os.geteuid() + 4242} may not steer this relay: only root"):
                await made.client.health()
            assert made.control.who == []

    run(test())


def test_a_very_long_path_does(tmp_path: Path) -> None:
    async def test() -> None:
        deep = tmp_path / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)
        async with relay(deep) as made:
            assert await made.client.health() == HEALTH

    run(test())


def test_there_is_no_relay(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(NoRelay, match="Start one: postroad serve"):
            await RemoteSteering(tmp_path / "control.sock").health()
        bind_private(tmp_path / "control.sock").close()
        with pytest.raises(NoRelay):
            await RemoteSteering(tmp_path / "control.sock").health()
        with pytest.raises(NoRelay):
            await RemoteSteering(tmp_path / "missing" / "control.sock").health()

    run(test())


class Stuck(ScriptedSteering):
    """Never answers, and tells when it was given up."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def health(self) -> Health:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return HEALTH


def test_a_client_that_goes_takes_its_request_with_it(tmp_path: Path) -> None:
    async def test() -> None:
        steering = Stuck()
        async with relay(tmp_path, steering) as made:
            asked = asyncio.create_task(made.client.health())
            await steering.begun.wait()
            asked.cancel()
            await steering.cancelled.wait()
            assert await made.client.stats(1)

    run(test())


def test_a_relay_that_stops_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        steering = Stuck()
        async with relay(tmp_path, steering) as made:
            asked = asyncio.create_task(made.client.health())
            await steering.begun.wait()
            await made.server.close()
            with pytest.raises(ControlRefused, match="before it had answered"):
                await asked
            assert steering.cancelled.is_set()

    run(test())


def test_long_work_is_not_taken_for_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "ALIVE_INTERVAL", 0.01)

    async def test() -> None:
        steering = Stuck()
        async with relay(tmp_path, steering) as made:
            reader, writer = await asyncio.open_unix_connection(str(made.path))
            writer.write(b'{"version":1,"verb":"health"}\n')
            assert [await reader.readline() for _ in range(3)] == [b"{}\n"] * 3
            writer.close()
            await steering.cancelled.wait()

    run(test())


def test_silence_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from postroad.http import control_client

    monkeypatch.setattr(control_client, "ANSWER_TIMEOUT", 0.01)

    async def test() -> None:
        async with relay(tmp_path, Stuck()) as made:
            with pytest.raises(ControlRefused, match="has not answered"):
                await made.client.health()

    run(test())


def test_a_client_that_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "IDLE_TIMEOUT", 0.01)

    async def test() -> None:
        async with relay(tmp_path) as made:
            reader, writer = await asyncio.open_unix_connection(str(made.path))
            assert await reader.read() == b""
            writer.close()

    run(test())


class Endless(ScriptedSteering):
    """Tells facts as fast as they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0
        self.ended = asyncio.Event()

    async def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        try:
            while True:
                self.told += 1
                yield Trouble(at=1.0, what="control", why="w" * 1000)
        finally:
            self.ended.set()


def test_a_slow_client_blocks_nobody_and_holds_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "WRITE_TIMEOUT", 0.1)
    monkeypatch.setattr(control_server, "CLOSE_TIMEOUT", 0.1)

    async def test() -> None:
        steering = Endless()
        with socket.socket(socket.AF_UNIX) as slow:  # still open when the server closes: that must not wait for it
            async with relay(tmp_path, steering) as made:
                slow.setblocking(False)
                await asyncio.get_running_loop().sock_connect(slow, str(made.path))
                slow.send(b'{"version":1,"verb":"watch"}\n')
                await until(lambda: steering.told > 10)
                assert await made.client.health() == HEALTH
                await steering.ended.wait()  # WRITE_TIMEOUT
                assert steering.told < 2_000  # octets in the socket's buffer and ours, not in our memory

    run(test())


def test_one_who_stops_watching_is_noticed(tmp_path: Path) -> None:
    async def test() -> None:
        steering = Endless()
        async with relay(tmp_path, steering) as made:
            async with aclosing(made.client.watch(None)) as facts:
                async for _ in facts:
                    break
            await steering.ended.wait()

    run(test())


def test_there_is_a_limit_of_clients(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            open_ = [await asyncio.open_unix_connection(str(made.path)) for _ in range(CLIENTS_MAX)]
            await until(lambda: len(made.server._clients) == CLIENTS_MAX)
            with pytest.raises(ControlRefused, match="Try again soon"):
                await made.client.health()
            for _, writer in open_:
                writer.close()
            await until(lambda: not made.server._clients)
            assert await made.client.health() == HEALTH

    run(test())


def test_it_works_on_the_loop_of_production(tmp_path: Path) -> None:
    import uvloop

    async def test() -> None:
        async with relay(tmp_path) as made:
            assert await made.client.stats(10) == STATS
            assert len(made.control.who) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test(), TIMEOUT))
