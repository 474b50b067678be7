"""Who comes into the control API by which door, and what no client can do: forge who he is, linger, change by TCP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.units.api_world import served
from tests.units.test_access_credentials import RFC_7677

from postroad.http import gate, peer

BODY = {"selection": {"domain": "y.example"}, "dry_run": False}


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def at(connection: asyncio.StreamReader, text: bytes) -> Coroutine[Any, Any, bytes]:
    return connection.readuntil(text)


# --- by the Unix socket ----------------------------------------------------------------------------------


def test_by_the_unix_socket_its_user_is_known_by_the_kernel(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            await api.front.spools.put()
            status, changed = await api.unix("POST", "/v1/queue/hold", BODY)
            assert (status, changed["recipients"]) == (200, 1)
            _, audit = await api.unix("GET", "/v1/audit")
            assert [row["who"] for row in audit["rows"]] == [peer.user_name(os.geteuid())]

    run(test())


def test_another_user_is_refused_and_a_member_of_the_group_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "peer_uid", lambda transport: 54321)
    monkeypatch.setattr(peer, "peer_groups", lambda transport: frozenset({54322, 54323}))

    async def refused(path: Path, **how: Any) -> tuple[int, Any]:
        async with served(path, **how) as api:
            return await api.unix("GET", "/v1/queue")

    async def test() -> None:
        for number, gid in enumerate((None, 0, 54321)):
            (tmp_path / str(number)).mkdir()
            status, said = await refused(tmp_path / str(number), admitted_gid=gid)
            assert status == 403
            assert said["error"].startswith("uid 54321 may not steer this relay")
        status, _ = await refused(tmp_path, admitted_gid=54323)
        assert status == 200

    run(test())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_kernel_tells_user_and_groups(tmp_path: Path) -> None:
    """A child that has become another user connects; what it may do depends on its groups alone."""
    for path in (tmp_path, *list(tmp_path.parents)[:-2]):
        path.chmod(path.stat().st_mode | 0o011)

    def ask_as(uid: int, groups: list[int]) -> bytes:
        code = f"""
import os, socket
os.setgroups({groups}); os.setgid({uid}); os.setuid({uid})
s = socket.socket(socket.AF_UNIX); s.connect({str(tmp_path / "control.sock")!r})
s.sendall(b"GET /v1/processes HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
print(s.makefile("rb").readline().decode(), end="")
"""
        import subprocess
        import sys

        return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout

    async def test() -> None:
        async with served(tmp_path, admitted_gid=54399):
            (tmp_path / "control.sock").chmod(0o666)
            loop = asyncio.get_running_loop()
            assert b" 403 " in await loop.run_in_executor(None, ask_as, 54321, [54322])
            assert b" 200 " in await loop.run_in_executor(None, ask_as, 54321, [54322, 54399])
            assert b" 200 " in await loop.run_in_executor(None, ask_as, 54399, [])

    run(test())


# --- by TCP ------------------------------------------------------------------------------------------------

CHANGES = [
    ("POST", "/v1/queue/delete", {"selection": {"everything": True}}),
    ("PUT", "/v1/suspensions/y.example", {}),
    ("DELETE", "/v1/suspensions/y.example", None),
    ("PUT", "/v1/overrides/y.example", {"connections": 1}),
    ("DELETE", "/v1/overrides/y.example", None),
    ("POST", "/v1/reload", None),
    ("OPTIONS", "/v1/queue", None),
    ("PATCH", "/v1/queue", None),
]


@pytest.mark.parametrize(("method", "target", "body"), CHANGES)
def test_by_tcp_nothing_is_changed(tmp_path: Path, method: str, target: str, body: Any) -> None:
    forged = {
        "postroad_peer": "root",
        "postroad.peer": "root",
        "x_forwarded_for": "127.0.0.1",
        "x_forwarded_user": "root",
        "x_http_method_override": "GET",
        "forwarded": "for=unix:",
        "authorization": "Bearer token",
    }

    async def test() -> None:
        async with served(tmp_path, token=b"token") as api:
            await api.front.spools.put()
            status, said = await api.tcp(method, target, body, **forged)
            assert status == 403
            assert said["error"].startswith("By TCP everything but users may be read, and nothing changed.")
            assert (await api.front.spools.steering.stats(1)).recipients == 1
            assert (api.front.reloads, await api.client.suspensions(), await api.client.overrides()) == ([], (), ())
            assert await api.client.audit(after="", limit=9) == ((), "")

    run(test())


@pytest.mark.parametrize("target", ["/v1/users", "/v1/users?limit=1", "/v1/users/alice", "/v1/%75sers"])
def test_by_tcp_nobody_sees_who_is_a_user(tmp_path: Path, target: str) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            await api.client.add_user("alice", RFC_7677)
            for method in ("GET", "HEAD"):
                status, said = await api.tcp(method, target)
                assert status == 403
                assert "alice" not in str(said)

    run(test())


def test_by_tcp_everything_else_may_be_read(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            await api.front.spools.put()
            for target in ("/v1/queue", "/v1/health", "/healthz", "/metrics", "/openapi.json", "/v1/configuration"):
                status, said = await api.tcp("GET", target)
                assert status == 200
                assert said
                status, said = await api.tcp("HEAD", target)
                assert (status, said) == (200, "")

    run(test())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("127.0.0.1", 200),
        ("127.0.0.2:{port}", 200),
        ("[::1]:{port}", 200),
        ("localhost:{port}", 200),
        ("LocalHost", 200),
        ("relay.example.org:{port}", 200),
        ("mail.example.net", 200),
        ("evil.example:{port}", 421),
        ("localhost.evil.example", 421),
        ("evil.example@localhost", 421),
        ("192.0.2.1", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_by_tcp_a_request_is_for_this_relay_or_for_nobody(tmp_path: Path, host: str, status: int) -> None:
    async def test() -> None:
        async with served(tmp_path, hostname="Relay.example.org", address="mail.example.net") as api:
            host_said = host.format(port=api.port)
            answered, said = await api.tcp("GET", "/healthz", host=host_said or "?")
            assert answered == status
            assert status == 200 or "is not a name of this relay" in said["error"]

    run(test())


def test_pages_of_other_sites_may_not_ask(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            mine = f"http://127.0.0.1:{api.port}"
            assert (await api.tcp("GET", "/v1/queue", origin=mine))[0] == 200
            for origin in ("http://evil.example", "null", f"https://127.0.0.1:{api.port}", "http://127.0.0.1:1"):
                status, said = await api.tcp("GET", "/v1/queue", origin=origin)
                assert (status, said["error"]) == (403, "Pages of other sites may not ask.")

    run(test())


def test_a_browser_that_asks_for_another_site_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as api:
            for said, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
                assert (await api.tcp("GET", "/v1/queue", sec_fetch_site=said))[0] == status
                assert (await api.unix("GET", "/v1/queue", sec_fetch_site=said))[0] == 200

    run(test())


@pytest.mark.parametrize("bind", ["0.0.0.0", "127.0.0.1"])
def test_where_a_token_is_named_or_others_can_reach_it_it_is_needed(tmp_path: Path, bind: str) -> None:
    async def test() -> None:
        async with served(tmp_path, token=b"s3cret-token", bind=bind) as api:
            assert (await api.tcp("GET", "/healthz"))[0] == 200
            for given in ("", "Bearer", "Bearer ", "Bearer s3cret", "Basic s3cret-token", "Bearer s3cret-tokeN"):
                status, said = await api.tcp("GET", "/v1/queue", authorization=given)
                assert (status, said["error"][:24]) == (401, "A token is needed here: ")
                assert "s3cret" not in said["error"]
            for given in ("Bearer s3cret-token", "bearer  s3cret-token"):
                assert (await api.tcp("GET", "/v1/queue", authorization=given))[0] == 200
            assert (await api.tcp("GET", "/openapi.json"))[0] == 401

    run(test())


def test_without_a_token_nobody_has_the_right_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, bind="0.0.0.0") as api:
            for given in ("", "Bearer ", "Bearer x"):
                assert (await api.tcp("GET", "/metrics", authorization=given))[0] == 401

    run(test())


def test_a_request_that_came_by_no_door_is_a_fault() -> None:
    async def test() -> None:
        sent: list[Any] = []
        told: list[Exception] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError("it got in")

        await gate.Gate(app, told.append)({"type": "http", peer.SCOPE_KEY: "root"}, send, send)  # type: ignore[arg-type]
        assert (sent[0]["status"], len(told)) == (500, 1)

    run(test())
