"""What readers by TCP cannot take from root: turns, streams, memory; and what their queries may name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from tests.units.api_world import Api, served
from tests.units.test_http_bounds import tcp
from tests.units.test_http_door import run, until
from tests.units.test_trace import received

from postroad.core.ids import format_id
from postroad.http import answers, serve, turns
from postroad.outbound import rows
from postroad.outbound.relay import ConfigRow
from postroad.spool.face import Selection


def request(api: Api, target: str, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:{api.port}\r\n\r\n".encode()


def test_who_follows_by_tcp_takes_no_turn_of_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FIRST_TIMEOUT", 0.01)

    async def test() -> None:
        async with served(tmp_path, count=1) as api:
            open_ = []
            for _ in range(turns.TCP_STREAMS_MAX):
                reader, writer = await tcp(api)
                writer.write(request(api, "/v1/watch"))
                await reader.readuntil(b"\r\n\r\n")
                open_.append(writer)
            assert (await api.tcp("GET", "/v1/watch"))[0] == 503
            reader, writer = await asyncio.open_unix_connection(str(api.path))
            writer.write(request(api, "/v1/watch"))
            assert b" 200 " in await reader.readline()
            assert (await api.tcp("GET", "/v1/trace?wanted=a@y.example"))[0] == 200  # what is stored has an end
            for one in (*open_, writer):
                one.close()

    run(test())


def test_the_head_of_a_stream_is_answered_and_nothing_is_begun(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            for target in ("/v1/watch", "/v1/trace?follow=true"):
                assert await api.tcp("HEAD", target) == (200, "")
            assert all(not control._recent._watchers for control in api.front.spools.controls if control._recent)

    run(test())


def test_who_does_not_read_keeps_a_turn_of_tcp_until_his_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(turns, "TURN_TIMEOUT", 0.05)
    monkeypatch.setattr(turns, "TCP_ASKED_MAX", 1)
    monkeypatch.setattr(rows, "PAGE_RECIPIENTS_MAX", 1_000_000)

    async def test() -> None:
        async with served(tmp_path) as api:
            for number in range(400):
                await api.front.spools.put(*(f"u{number}-{one}@y.example" for one in range(100)))
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1000)
            writer.write(request(api, "/v1/queue?limit=500"))  # some 8 MB: more than the kernel holds
            await reader.readline()
            status, said = await api.tcp("GET", "/v1/processes")
            assert (status, said["error"]) == (503, "Too much is asked at once. Try again soon.")
            assert (await api.unix("GET", "/v1/processes"))[0] == 200
            await until(lambda: not api.server._states[1].connections)
            assert (await api.tcp("GET", "/v1/processes"))[0] == 200
            writer.transport.abort()

    run(test())


def test_stories_by_tcp_have_turns_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_TIMEOUT", 0.05)
    monkeypatch.setattr(answers, "FIRST_TIMEOUT", 0.01)

    async def test() -> None:
        async with served(tmp_path) as api:
            begun, go_on = [], asyncio.Event()

            async def slow(wanted: object, **how: object):  # type: ignore[no-untyped-def]
                begun.append(wanted)
                await go_on.wait()
                return
                yield

            object.__setattr__(api.front.house, "stories", slow)
            target = "/v1/trace?wanted=a@y.example"
            waiting = [asyncio.ensure_future(api.tcp("GET", target)) for _ in range(turns.TCP_STORIES_MAX)]
            await until(lambda: len(begun) == turns.TCP_STORIES_MAX)
            assert (await api.tcp("GET", target))[0] == 503
            assert (await api.tcp("GET", "/v1/queue"))[0] == 200
            mine = asyncio.ensure_future(api.unix("GET", target))
            await until(lambda: len(begun) == turns.TCP_STORIES_MAX + 1)
            go_on.set()
            assert [status for status, _ in await asyncio.gather(*waiting, mine)] == [200] * 3

    run(test())


def test_one_address_cannot_take_all_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "PEER_CONNECTIONS_MAX", 3)
    monkeypatch.setattr(serve, "TCP_CONNECTIONS_MAX", 5)
    monkeypatch.setattr(serve, "TCP_HEAD_TIMEOUT", 600.0)

    async def test() -> None:
        async with served(tmp_path) as api:
            half = []
            for _ in range(9):
                _, writer = await tcp(api)
                writer.write(b"GET /healthz HTTP/1.1\r\n")
                half.append(writer)
            assert (await api.tcp("GET", "/healthz"))[0] == 200  # the oldest that asks nothing made room
            await until(lambda: len(api.server._states[1].connections) <= 3)
            for writer in half:
                writer.close()

    run(test())


def test_a_page_ends_before_it_has_too_many_recipients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PAGE_RECIPIENTS_MAX", 10)

    async def test() -> None:
        async with served(tmp_path) as api:
            sizes = (4, 4, 4, 25, 1, 9, 1)
            ids = [await api.front.spools.put(*(f"u{one}@y.example" for one in range(size))) for size in sizes]
            listed, pages, after = [], [], None
            while True:
                page = await api.client.list_messages(Selection(), after=after, limit=100)
                listed += [row.id for row in page.messages]
                pages.append(sum(len(row.recipients) for row in page.messages))
                if (after := page.after) is None:
                    break
            assert listed == [format_id(one) for one in sorted(ids)]
            assert all(size <= 10 or size == 25 for size in pages)

    run(test())


@pytest.mark.parametrize(
    ("target", "there_is"),
    [
        ("/v1/queue?domian=x", "There is: id, to, sender, domain, state, after, limit."),
        ("/v1/queue/stats?limit=5&domain=x", "There is: limit."),
        ("/v1/health?x", "There is none here."),
        ("/v1/watch?ids=x", "There is: id, everything."),
        ("/v1/trace?want=x", "There is: wanted, follow, limit."),
        ("/v1/suspensions?x=", "There is none here."),
    ],
)
def test_a_misspelt_condition_is_refused(tmp_path: Path, target: str, there_is: str) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            status, said = await api.unix("GET", target.replace("?x", "?x=1") if target.endswith("?x") else target)
            assert (status, said["error"].endswith(there_is)) == (400, True), said

    run(test())


def test_to_end_what_is_not_there_is_404(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            for kind in ("suspensions", "overrides"):
                status, said = await api.unix("DELETE", f"/v1/{kind}/y.example")
                assert (status, said["error"]) == (404, f'There is no {kind[:-1]} of "y.example".')

    run(test())


def test_what_strangers_write_comes_as_escapes(tmp_path: Path) -> None:
    foul = "a\x9b2Jb\u202ec\u2066d\x7fe\U000e0001\u00e9"

    async def said(api: Api, target: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(api.path))
        writer.write(f"GET {target} HTTP/1.0\r\nhost: x\r\n\r\n".encode())
        body = (await reader.read(-1)).partition(b"\r\n\r\n")[2].decode()
        writer.close()
        assert body.strip().isprintable()
        assert "\u00e9" in body
        return body

    async def test() -> None:
        async with served(tmp_path) as api:
            message = await api.front.spools.put()
            api.front.stored = [msgspec.structs.replace(received(message), hello=foul)]
            assert json.loads(await said(api, f"/v1/trace?wanted={format_id(message)}"))["hello"] == foul
            rows = (ConfigRow(key="hostname", value=foul, source="x"),)
            object.__setattr__(api.front.house, "configuration", lambda: rows)
            assert json.loads(await said(api, "/v1/configuration"))[0]["value"] == foul
            assert "\\u009b2J" in await said(api, "/v1/trace?wanted=%C2%9B2J%C3%A9")

    run(test())
