"""docs/reference/openapi.json is what the relay says of itself, and what the routes answer is what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from pydantic import TypeAdapter
from tests.structure.source import ROOT
from tests.units.api_world import served
from tests.units.test_access_credentials import RFC_7677
from tests.units.test_http_door import run
from tests.units.test_trace import attempted, received

from postroad.core.ids import MessageId
from postroad.http import api_destinations, api_queue, api_relay, api_users
from postroad.http.app import make_app
from postroad.http.fact_rows import fact_line
from postroad.http.models import FactModel, model_of
from postroad.outbound.relay import RelaySteering
from postroad.outbound.steering import Change
from postroad.spool.face import Selection
from postroad.testing.fake_clock import NOON as NOW

DOCUMENT = ROOT / "docs" / "reference" / "openapi.json"


def document() -> dict[str, Any]:
    return make_app(lambda who: cast(RelaySteering, None)).openapi()


def test_the_document_is_up_to_date() -> None:
    text = json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
    assert DOCUMENT.read_text(encoding="utf-8") == text, "run: .venv/bin/python tools/write_openapi.py"


def test_every_answer_of_json_has_its_model() -> None:
    for path, methods in document()["paths"].items():
        for method, said in methods.items():
            content = said["responses"]["200"].get("content", {})
            assert path in ("/healthz", "/metrics") or any(one.get("schema") for one in content.values()), (
                path,
                method,
            )
            assert said["description"]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/queue",
        "/v1/queue/stats",
        "/v1/destinations",
        "/v1/queue/{id}",
        "/v1/queue/{id}/drops",
        "/v1/suspensions",
        "/v1/overrides",
        "/v1/users",
        "/v1/health",
        "/v1/queue-health",
        "/v1/processes",
        "/v1/configuration",
        "/v1/audit",
        "/v1/counters",
        "/v1/counters/sums",
    ],
)
def test_answers_are_as_the_document_says(tmp_path: Path, target: str) -> None:
    routers = (api_queue.router, api_destinations.router, api_users.router, api_relay.router)
    routes = {route.path: route for router in routers for route in router.routes if "GET" in route.methods}  # type: ignore[attr-defined]

    async def test() -> None:
        async with served(tmp_path, who="alice") as api:
            message = await api.front.spools.put("b@y.example", "c@y.example")
            await api.client.change(Change.DELETE, Selection(to="b@y.example"))
            await api.client.suspend("y.example", until=None)
            await api.client.override("y.example", connections=1, messages_per_connection=None, rate=None, until=None)
            await api.client.add_user("alice", RFC_7677)
            ((row,), _) = await _messages(api)
            status, said = await api.unix("GET", target.replace("{id}", row.id))
            assert (status, bool(said)) == (200, True)
            adapter = TypeAdapter(cast(Any, routes[target]).response_model)
            checked = adapter.validate_python(said)
            assert adapter.dump_python(checked, mode="json") == said
            assert message

    async def _messages(api: Any) -> Any:
        page = await api.client.list_messages(Selection(), after=None, limit=5)
        return page.messages, page.after

    run(test())


def test_facts_are_as_the_document_says() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(FactModel)
    for fact in (received(MessageId(2**62)), attempted(MessageId(1), NOW)):
        row = msgspec.json.decode(fact_line(fact))
        said = adapter.dump_python(adapter.validate_python(row), mode="json")
        assert {name: said[name] for name in row} == row


def test_a_model_of_a_request_refuses_what_it_does_not_know() -> None:
    from postroad.http.control_wire import Meant

    assert model_of(Meant, is_request=True).model_config["extra"] == "forbid"


def test_a_model_shows_no_credential() -> None:
    made = model_of(api_users.AddUserBody, is_request=True)(name="alice", credential=RFC_7677)
    assert "alice" in repr(made)
    assert "W22Z" not in repr(made)
