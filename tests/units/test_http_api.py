"""The control API whole: every call of RelaySteering through a real socket, streams, floods, a worker that hangs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.units.api_world import CONFIGURATION, Api, served
from tests.units.test_http_door import run, until
from tests.units.test_trace import attempted, received

from postroad.core.facts import Trouble
from postroad.core.ids import format_id
from postroad.http import answers, turns
from postroad.http.api_client import ApiSteering
from postroad.http.api_machines import Lately
from postroad.http.control_client import RemoteSteering
from postroad.http.fact_rows import fact_line, parse_fact
from postroad.net.local import bind_private
from postroad.outbound import fleet
from postroad.outbound.relay import RelaySteering
from postroad.outbound.steering import Change, ControlRefused, NoRelay, NotThere
from postroad.spool.face import Selection
from postroad.testing.fake_clock import NOON as NOW


def test_every_call_has_its_request() -> None:
    """The client has every method of the face with the same parameters; the contract and the tests below call them."""
    for name, method in inspect.getmembers(RelaySteering, inspect.isfunction):
        if not name.startswith("_"):
            mine = inspect.signature(getattr(ApiSteering, name))
            assert list(mine.parameters) == list(inspect.signature(method).parameters), name


def test_what_is_said_of_destinations_comes_through(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, who="alice") as api:
            client, direct = api.client, api.front.steering("alice")
            names = [
                "y.example",
                "*",
                "mx:*.z.example",
                "maildir:/var/mail/{address}",
                "lmtp+unix:///run/x?y#z%2F",
                "smtp:ä:25",
            ]
            for name in names:
                row = await client.suspend(name, until=NOW + 60, why="they asked, ünd")
                assert (row.destination, row.why, row.until) == (name, "they asked, ünd", NOW + 60)
                made = await client.override(
                    name, connections=3, messages_per_connection=None, rate="20/s", until=None, why=""
                )
                assert (made.destination, made.connections, made.rate) == (name, 3, "20/s")
            assert await client.suspensions() == await direct.suspensions()
            assert await client.overrides() == await direct.overrides()
            assert {row.destination for row in await client.suspensions()} == set(names)
            for name in names:
                assert (await client.resume(name), await client.resume(name)) == (True, False)
                assert (await client.restore(name), await client.restore(name)) == (True, False)
            with pytest.raises(ControlRefused, match="is an address") as refused:
                await client.suspend("a@y.example", until=None)
            assert refused.value.status == 2

    run(test())


def test_what_is_told_of_the_relay_comes_through(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, who="alice") as api:
            client, direct = api.client, api.front.steering("alice")
            assert await client.relay_health() == await direct.relay_health()
            assert await client.configuration() == CONFIGURATION
            assert await client.counters() == await direct.counters()
            result = await client.reload()
            assert (result.changed, result.needs_restart) == (("limits.recipients",), ("workers",))
            assert await client.audit(after="", limit=5) == await direct.audit(after="", limit=5)
            api.front.refuse = ControlRefused("postroad.toml:3: no.")
            with pytest.raises(ControlRefused, match=r"^postroad\.toml:3: no\.$") as refused:
                await client.reload()
            assert (type(refused.value), refused.value.status) == (ControlRefused, 1)

    run(test())


def test_a_story_comes_through_with_its_ids(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            message = await api.front.spools.put()
            api.front.stored = [received(message), attempted(message, NOW + 1)]
            assert [fact async for fact in api.client.trace(format_id(message))] == api.front.stored
            _, text = await api.unix("GET", f"/v1/trace?wanted={format_id(message)}")
            assert f'"message":"{format_id(message)}"' in text
            for fact in api.front.stored:
                assert parse_fact(msgspec.json.decode(fact_line(fact))) == fact
            with pytest.raises(NotThere):
                _ = [fact async for fact in api.client.trace(format_id(message + 1))]
            assert (await api.unix("GET", "/v1/trace?wanted=abc"))[0] == 400
            assert (await api.unix("GET", "/v1/watch?id=abc"))[0] == 400

    run(test())


def watchers(api: Api) -> int:
    return sum(len(control._recent._watchers) for control in api.front.spools.controls if control._recent)


def test_a_stream_ends_when_its_client_goes(tmp_path: Path) -> None:
    trouble = Trouble(at=NOW, what="disk", why="full")

    async def test() -> None:
        async with served(tmp_path, count=1) as api:
            async with aclosing(api.client.watch(None, everything=True)) as facts:
                waiting = asyncio.ensure_future(facts.__anext__())
                await until(lambda: watchers(api) == 1)
                api.front.spools.outlet.emit(trouble)
                assert await waiting == trouble
            await until(lambda: watchers(api) == 0)

    run(test())


def test_a_silent_stream_says_that_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ALIVE_INTERVAL", 0.01)
    monkeypatch.setattr(answers, "FIRST_TIMEOUT", 0.01)

    async def test() -> None:
        async with served(tmp_path) as api:
            reader, writer = await asyncio.open_unix_connection(str(api.path))
            writer.write(b"GET /v1/watch HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"application/x-ndjson" in head
            for _ in range(3):
                assert await reader.readuntil(b"1\r\n\n\r\n")
            writer.close()
            await until(lambda: watchers(api) == 0)

    run(test())


def test_there_is_a_limit_of_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "STREAMS_MAX", 2)
    monkeypatch.setattr(answers, "FIRST_TIMEOUT", 0.01)

    async def test() -> None:
        async with served(tmp_path, count=1) as api:
            open_ = []
            for _ in range(2):
                reader, writer = await asyncio.open_unix_connection(str(api.path))
                writer.write(b"GET /v1/watch HTTP/1.1\r\nhost: x\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                open_.append(writer)
            assert (await api.unix("GET", "/v1/watch"))[0] == 503
            for writer in open_:
                writer.close()
            await until(lambda: watchers(api) == 0)
            assert (await api.unix("GET", "/v1/trace?wanted=a@y.example"))[0] == 200

    run(test())


def test_fifty_listings_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            ids = [format_id(await api.front.spools.put()) for _ in range(40)]
            pages = await asyncio.gather(
                *(api.client.list_messages(Selection(), after=None, limit=100) for _ in range(50))
            )
            assert all([row.id for row in page.messages] == ids for page in pages)

    run(test())


@asynccontextmanager
async def hung(path: Path) -> AsyncIterator[RemoteSteering]:
    """A worker's socket that takes connections, and on which nobody ever says a word."""
    bound = bind_private(path)
    bound.listen(16)
    try:
        yield RemoteSteering(path)
    finally:
        bound.close()


def test_a_worker_that_hangs_is_named_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "QUICK_TIMEOUT", 0.2)
    monkeypatch.setattr(fleet, "STATS_TIMEOUT", 0.2)

    async def test() -> None:
        async with served(tmp_path) as api, hung(tmp_path / "worker-1.sock") as worker:
            message = await api.front.spools.put()
            api.front.parts = {"0": api.front.spools.controls[0].on_behalf_of("alice"), "1": worker}
            async with served(tmp_path / "again", front=api.front) as other:
                status, said = await other.tcp("GET", "/healthz")
                assert (status, said) == (503, "not well\n")
                stats = await other.client.stats(5)
                assert (stats.messages, stats.accepting) == (1, True), "what is asked of those that answer"
                assert "worker 1 does not answer; its mail is not counted" in stats.trouble
                assert (await other.client.show(message)).id == format_id(message)
                _, text = await other.unix("GET", "/metrics")
                assert "postroad_well 0.0" in text
                assert 'worker="0"' in text

    run(test())


def test_what_many_ask_is_made_once() -> None:
    made: list[int] = []

    async def make() -> int:
        await asyncio.sleep(0)
        made.append(1)
        return len(made)

    async def test() -> None:
        lately = Lately(make)
        assert await asyncio.gather(*(lately.get() for _ in range(30))) == [1] * 30
        lately._until = 0.0
        assert await lately.get() == 2

    run(test())


def test_where_no_relay_runs(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(NoRelay):
            await ApiSteering(tmp_path / "control.sock").stats(1)
        with pytest.raises(NoRelay):
            async with aclosing(ApiSteering(tmp_path / "control.sock").watch(None)) as facts:
                await facts.__anext__()

    run(test())


def test_ten_thousand_ids_may_be_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            message = await api.front.spools.put()
            ids = tuple(type(message)(message + number) for number in range(10_000))
            page = await api.client.list_messages(Selection(ids=ids), after=None, limit=5)
            assert [row.id for row in page.messages] == [format_id(message)]
            changed = await api.client.change(Change.HOLD, Selection(ids=ids))
            assert changed.messages == 1

    run(test())


def test_what_is_nowhere_is_said_in_json(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            for method, target, wanted in (("GET", "/v2", 404), ("DELETE", "/v1/queue", 405), ("GET", "/docs", 404)):
                status, said = await api.unix(method, target)
                assert (status, said["status"]) == (wanted, wanted)
                assert "/openapi.json" in said["error"]
            status, said = await api.unix("POST", "/v1/queue/hold", {"selection": {"form": "x"}})
            assert (status, said["error"]) == (
                400,
                "That is not a request: selection.form: Extra inputs are not permitted.",
            )
            status, said = await api.unix("POST", "/v1/queue/hold", {"selection": {}})
            assert (status, said["error"][:20]) == (400, "Nothing is selected.")
            assert (await api.unix("GET", "/v1/queue?limit=501"))[0] == 400

    run(test())
