"""``RelaySteering`` of the relay that runs, over its control API.

Owns: how each call is a request, and its answer a value. Does not own: the connection (http_ask.py), the other side
(api_*.py), what to do where no relay runs (service/offline.py). The relay knows who asks from the socket.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec

from postroad.access.user import UserRow
from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId, format_id
from postroad.http.control_wire import format_meant, parse_message_id
from postroad.http.fact_rows import parse_fact
from postroad.http.http_ask import Ask, refusal
from postroad.outbound.relay import (
    AuditRow,
    ConfigRow,
    Override,
    RelayHealth,
    ReloadResult,
    Suspension,
    WorkerCounter,
)
from postroad.outbound.steering import (
    Change,
    Counter,
    DropRow,
    Health,
    MessagePage,
    MessageRow,
    NotThere,
    QueueStats,
    Unanswered,
)
from postroad.spool.face import Changed, Selection

T = TypeVar("T")


class _MessagePage(msgspec.Struct):
    messages: tuple[MessageRow, ...]
    after: str


class _AuditPage(msgspec.Struct):
    rows: tuple[AuditRow, ...]
    after: str


class _UserPage(msgspec.Struct):
    rows: tuple[UserRow, ...]
    after: str


class _Ended(msgspec.Struct):
    ended: bool


class ApiSteering:
    """``RelaySteering`` by the control socket at ``path``. Where no relay runs, every call raises NoRelay."""

    def __init__(self, path: Path) -> None:
        self._ask = Ask(path)

    # --- the queues ---

    async def list_messages(self, selection: Selection, *, after: MessageId | None, limit: int) -> MessagePage:
        query = [("id", format_id(message)) for message in selection.ids]
        query += [(name, getattr(selection, name)) for name in ("to", "sender", "domain", "state")]
        query += [("after", "" if after is None else format_id(after)), ("limit", str(limit))]
        page = await self._get("/v1/queue", _MessagePage, query)
        return MessagePage(page.messages, parse_message_id(page.after) if page.after else None)

    async def show(self, message: MessageId) -> MessageRow:
        return await self._get(f"/v1/queue/{format_id(message)}", MessageRow)

    async def stats(self, limit: int) -> QueueStats:
        return await self._get("/v1/queue/stats", QueueStats, [("limit", str(limit))])

    async def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        body = {"selection": format_meant(selection), "dry_run": dry_run}
        return await self._send("POST", f"/v1/queue/{change.value}", Changed, body)

    def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        wanted = "" if message is None else format_id(message)
        return self._facts("/v1/watch", [("id", wanted), ("everything", _shown(everything))])

    async def health(self) -> Health:
        return await self._get("/v1/queue-health", Health)

    async def own_counters(self) -> tuple[Counter, ...]:
        return await self._get("/v1/counters/sums", tuple[Counter, ...])

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        return await self._get(f"/v1/queue/{format_id(message)}/drops", tuple[DropRow, ...])

    # --- stories ---

    def trace(self, wanted: str, *, follow: bool = False, limit: int = 100) -> AsyncGenerator[AnyFact, None]:
        return self._facts("/v1/trace", [("wanted", wanted), ("follow", _shown(follow)), ("limit", str(limit))])

    # --- destinations ---

    async def suspend(self, destination: str, *, until: float | None, why: str = "") -> Suspension:
        return await self._send("PUT", _named("suspensions", destination), Suspension, {"until": until, "why": why})

    async def resume(self, destination: str) -> bool:
        return await self._ended("suspensions", destination)

    async def suspensions(self) -> tuple[Suspension, ...]:
        return await self._get("/v1/suspensions", tuple[Suspension, ...])

    async def override(
        self,
        destination: str,
        *,
        connections: int | None,
        messages_per_connection: int | None,
        rate: str | None,
        until: float | None,
        why: str = "",
    ) -> Override:
        body = {
            "connections": connections,
            "messages_per_connection": messages_per_connection,
            "rate": rate,
            "until": until,
            "why": why,
        }
        return await self._send("PUT", _named("overrides", destination), Override, body)

    async def restore(self, destination: str) -> bool:
        return await self._ended("overrides", destination)

    async def overrides(self) -> tuple[Override, ...]:
        return await self._get("/v1/overrides", tuple[Override, ...])

    # --- users ---

    async def add_user(
        self, name: str, credential: str, *, scopes: tuple[str, ...] = (), send_as: tuple[str, ...] = ()
    ) -> UserRow:
        body = {"name": name, "credential": credential, "scopes": scopes, "send_as": send_as}
        return await self._send("POST", "/v1/users", UserRow, body)

    async def change_user(
        self,
        name: str,
        *,
        credential: str | None = None,
        scopes: tuple[str, ...] | None = None,
        send_as: tuple[str, ...] | None = None,
    ) -> UserRow:
        body = {"credential": credential, "scopes": scopes, "send_as": send_as}
        return await self._send("PUT", _named("users", name), UserRow, body)

    async def remove_user(self, name: str) -> bool:
        return await self._ended("users", name)

    async def users(self, *, after: str, limit: int) -> tuple[tuple[UserRow, ...], str]:
        page = await self._get("/v1/users", _UserPage, [("after", after), ("limit", str(limit))])
        return page.rows, page.after

    # --- the relay ---

    async def audit(self, *, after: str, limit: int) -> tuple[tuple[AuditRow, ...], str]:
        page = await self._get("/v1/audit", _AuditPage, [("after", after), ("limit", str(limit))])
        return page.rows, page.after

    async def counters(self) -> tuple[WorkerCounter, ...]:
        return await self._get("/v1/counters", tuple[WorkerCounter, ...])

    async def relay_health(self) -> RelayHealth:
        return await self._get("/v1/health", RelayHealth)

    async def configuration(self) -> tuple[ConfigRow, ...]:
        return await self._get("/v1/configuration", tuple[ConfigRow, ...])

    async def reload(self) -> ReloadResult:
        return await self._send("POST", "/v1/reload", ReloadResult)

    # --- asking ---

    async def _get(self, path: str, kind: type[T], query: list[tuple[str, str]] | None = None) -> T:
        return _parsed(await self._ask.ask("GET", _target(path, query or [])), kind)

    async def _send(self, method: str, path: str, kind: type[T], body: Any = None) -> T:
        return _parsed(await self._ask.ask(method, path, body), kind)

    async def _ended(self, kind: str, name: str) -> bool:
        try:
            return (await self._send("DELETE", _named(kind, name), _Ended)).ended
        except NotThere:
            return False

    async def _facts(self, path: str, query: list[tuple[str, str]]) -> AsyncGenerator[AnyFact, None]:
        lines = cast(AsyncGenerator[bytes, None], self._ask.lines(_target(path, query)))
        async with aclosing(lines):
            async for line in lines:
                row = _parsed(line, dict[str, Any])
                if "error" in row and "kind" not in row:
                    raise refusal(int(row.get("status", 500)), line)
                try:
                    fact = parse_fact(row)
                except ValueError as error:
                    raise _not_understood(error) from error
                yield fact


def _target(path: str, query: list[tuple[str, str]]) -> str:
    said = urlencode([(name, value) for name, value in query if value])
    return f"{path}?{said}" if said else path


def _named(kind: str, name: str) -> str:
    return f"/v1/{kind}/{quote(name, safe='')}"


def _shown(value: bool) -> str:
    return "true" if value else ""


def _parsed(octets: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(octets, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_understood(error) from error


def _not_understood(error: Exception) -> Unanswered:
    return Unanswered(f"The relay's answer cannot be understood: {error}.")
