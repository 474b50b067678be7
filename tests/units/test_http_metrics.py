"""/metrics: histograms are histograms, what the front counts is there, one sees of how many workers the queue is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.contracts.steerings import Spools
from tests.units.api_world import Front, served
from tests.units.facts_world import story
from tests.units.steering_world import ScriptedSteering
from tests.units.test_fleet import away
from tests.units.test_http_door import run

from postroad.core.facts import ProcessEnded
from postroad.http.api_machines import Seen, exposition
from postroad.observe.counters import Counters
from postroad.outbound.relay import WorkerCounter
from postroad.testing.fake_clock import NOON as NOW


def counted(worker: str, times: int) -> list[WorkerCounter]:
    counters = Counters()
    for _ in range(times):
        counters.take(story(1))
    return [WorkerCounter(worker=worker, counter=row) for row in counters.rows()]


def test_a_histogram_is_one_and_of_each_worker() -> None:
    text = exposition(Seen(None, (*counted("0", 1), *counted("1", 3)), None)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    found = families["postroad_put_seconds"]
    assert found.type == "histogram"
    numbers = {(one.name, one.labels["worker"], one.labels.get("le")): one.value for one in found.samples}
    assert numbers["postroad_put_seconds_bucket", "0", "+Inf"] == 1
    assert numbers["postroad_put_seconds_bucket", "1", "+Inf"] == 3
    assert numbers["postroad_put_seconds_bucket", "1", "0.005"] == 0
    assert numbers["postroad_put_seconds_count", "1", None] == 3
    assert abs(numbers["postroad_put_seconds_sum", "1", None] - 0.03) < 1e-9
    assert "bucket_total" not in text
    assert families["postroad_messages_received"].type == "counter"


def test_what_the_front_counts_is_shown_and_a_worker_that_is_away_is_seen(tmp_path: Path) -> None:
    async def test() -> None:
        front = Front(Spools(1))
        counters = Counters()
        counters.take([ProcessEnded(at=NOW, process="worker", slot=1, pid=7, why="signal 9")])
        front.house = replace(front.house, own=counters.rows)
        front.parts = {"0": front.spools.controls[0].on_behalf_of("alice"), "1": away(), "2": ScriptedSteering()}
        async with served(tmp_path, front=front) as api:
            _, text = await api.unix("GET", "/metrics")
            assert 'postroad_processes_ended_total{process="worker",worker="front"} 1.0' in text
            assert "postroad_workers_answering 2.0" in text
            _, sums = await api.unix("GET", "/v1/counters/sums")
            assert {"processes_ended_total", "messages_received_total"} <= {row["name"] for row in sums}
        await front.spools.close()

    run(test())
