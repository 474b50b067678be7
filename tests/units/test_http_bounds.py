"""What a client of the control API cannot do: linger, flood, stop reading, send what is no request and be told of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.units.api_world import Api, served
from tests.units.test_http_door import at, run, until

from postroad.core.facts import Trouble
from postroad.http import door, gate, serve
from postroad.http.peer import Door, Peer
from postroad.outbound import rows


async def tcp(api: Api) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", api.port)


def test_who_sends_his_request_drop_by_drop_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "TCP_HEAD_TIMEOUT", 0.2)

    async def is_cut_off(api: Api, first: bytes) -> bool:
        """Send an octet every now and then until the relay breaks the connection off."""
        reader, writer = await tcp(api)
        writer.write(first)
        if first.endswith(b"\r\n\r\n"):
            await at(reader, b"ok\n")
        gone = asyncio.create_task(reader.read(1))
        while not gone.done():
            writer.write(b"x")
            await asyncio.wait({gone}, timeout=0.01)
        writer.close()
        return isinstance(gone.exception(), ConnectionError) or gone.result() == b""

    async def test() -> None:
        async with served(tmp_path) as api:
            request = f"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:{api.port}\r\n\r\n".encode()
            for first in (b"", b"GET / HTTP/1.1\r\n", request):
                assert await is_cut_off(api, first)

    run(test())


def test_a_head_too_long_and_a_body_too_large_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            status, said = await api.tcp("GET", "/v1/queue", padding="x" * 70_000)
            assert (status, said["error"]) == (431, "The head of a request has at most 16384 octets here.")
            reader, writer = await tcp(api)
            writer.write(b"GET / HTTP/1.1\r\n" + b"x-padding: x\r\n" * 1_000_000)
            assert b" 400 " in await reader.readline()
            writer.transport.abort()
            reader, writer = await asyncio.open_unix_connection(str(api.path))
            octets = gate.BODY_MAX + 1
            writer.write(b"POST /v1/queue/hold HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % octets)
            writer.write(b"x" * octets)
            assert b" 413 " in await reader.readline()
            assert b"A request has at most 1048576 octets." in await at(reader, b"}")
            writer.close()
            chunk = b"%x\r\n" % 65_536 + b"x" * 65_536 + b"\r\n"
            reader, writer = await asyncio.open_unix_connection(str(api.path))
            writer.write(b"POST /v1/queue/hold HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunk * 17)
            assert b" 413 " in await reader.readline()
            writer.close()

    run(test())


def test_a_body_that_does_not_come_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_TIMEOUT", 0.05)

    async def test() -> None:
        async with served(tmp_path) as api:
            reader, writer = await asyncio.open_unix_connection(str(api.path))
            writer.write(b'POST /v1/queue/hold HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"sel')
            assert b" 408 " in await reader.readline()
            writer.close()

    run(test())


def test_there_is_a_limit_of_connections_of_each_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "TCP_CONNECTIONS_MAX", 5)

    async def test() -> None:
        async with served(tmp_path) as api:
            open_ = [await tcp(api) for _ in range(5)]
            reader, writer = await tcp(api)
            assert b"Too many connections are open" in await reader.read(-1)
            writer.close()
            assert (await api.unix("GET", "/healthz"))[0] == 200
            for _, other in open_:
                other.close()
            for _ in range(200):
                status, _ = await api.tcp("GET", "/healthz")
                if status == 200:
                    break
            assert status == 200

    run(test())


def test_who_stops_reading_is_cut_off_and_blocks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "WRITE_TIMEOUT", 0.1)
    monkeypatch.setattr(rows, "PAGE_RECIPIENTS_MAX", 10_000)

    async def test() -> None:
        async with served(tmp_path) as api:
            for number in range(100):
                await api.front.spools.put(*(f"u{number}-{one}@y.example" for one in range(100)))
            _, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1000)
            request = f"GET /v1/queue?limit=100 HTTP/1.1\r\nhost: 127.0.0.1:{api.port}\r\n\r\n"
            writer.write(request.encode() * 20)  # 2 MB of answer each: more than the kernel holds for anybody
            assert (await api.unix("GET", "/v1/queue/stats"))[0] == 200
            await until(lambda: not api.server._states[1].connections)
            assert (await api.unix("GET", "/healthz"))[0] == 200
            writer.transport.abort()

    run(test())


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"EHLO x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_and_tells_nobody(
    tmp_path: Path, request_: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            reader, writer = await tcp(api)
            writer.write(request_)
            said = await reader.read(-1)
            assert said.startswith(b"HTTP/1.1 400 ")
            assert b'{"error":"That is not a request: ' in said
            writer.close()
            assert api.front.outlet.facts == []

    run(test())
    assert capfd.readouterr().err == ""


def test_a_fault_of_ours_is_told_and_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            api.front.refuse = KeyError("oops")
            status, said = await api.unix("POST", "/v1/reload")
            assert (status, said["error"]) == (500, "The relay broke while it did that: KeyError('oops').")
            (trouble,) = api.front.outlet.of(Trouble)
            assert (trouble.what, trouble.why) == ("http", "KeyError('oops')")
            ((row,), _) = await api.client.audit(after="", limit=9)
            assert (row.what, row.result) == ("reload", "broke off: KeyError('oops')")

    run(test())


def test_answers_are_not_kept_and_name_no_software(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            reader, writer = await tcp(api)
            writer.write(f"GET /v1/queue HTTP/1.1\r\nhost: 127.0.0.1:{api.port}\r\n\r\n".encode())
            head = (await at(reader, b"\r\n\r\n")).lower()
            writer.close()
            assert b"cache-control: no-store" in head
            assert b"x-content-type-options: nosniff" in head
            assert b"server:" not in head
            assert b"access-control" not in head

    run(test())


def test_a_door_is_told_apart_by_its_socket() -> None:
    there = Peer(
        "", None, Door(is_unix=False, connections_max=1, head_max=1, head_timeout=1), "192.0.2.9", lambda: None
    )
    assert there.door.refuses(there, "GET", "/", [(b"host", b"192.0.2.9:8025")]) is None
    refusal = there.door.refuses(there, "GET", "/", [(b"host", b"192.0.2.10")])
    assert refusal is not None
    assert refusal.status == 421
