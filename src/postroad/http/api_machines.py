"""Routes for machines that watch the relay: /healthz for a balancer, /metrics for Prometheus.

Owns: their answers, which are made at most once a second whoever asks, so that no flood of them reaches a worker. Does
not own: what is counted (observe), whether the relay is well (outbound/front.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar, cast

import msgspec
from fastapi import APIRouter, Request, Response
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from postroad.outbound.relay import RelayHealth, RelaySteering, WorkerCounter
from postroad.outbound.steering import ControlRefused, Counter, QueueStats

PREFIX: Final = "postroad_"
BUCKET: Final = "_bucket"
"""What observe/counters.py calls the rows of a histogram, with ``le``."""
KEPT_FOR: Final = 1.0
"""Seconds for which an answer is good for others who ask."""

T = TypeVar("T")
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_Numbers = list[tuple[str, Counter]]
router = APIRouter(tags=["machines"])


class Seen(msgspec.Struct, frozen=True):
    """What the relay said when it was last asked; None: it did not."""

    health: RelayHealth | None
    counters: tuple[WorkerCounter, ...]
    stats: QueueStats | None


class Lately(Generic[T]):
    """An answer that is made at most once in KEPT_FOR seconds, for all who ask meanwhile."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None
        self._until = 0.0

    async def get(self) -> T:
        time = asyncio.get_running_loop().time
        if self._making is None or (self._making.done() and time() >= self._until):
            self._making = asyncio.create_task(self._made())
        return await asyncio.shield(self._making)

    async def _made(self) -> T:
        made = await self._make()
        self._until = asyncio.get_running_loop().time() + KEPT_FOR
        return made


class Machines:
    """What is answered to machines."""

    def __init__(self, relay: RelaySteering) -> None:
        self._relay = relay
        self.is_well = Lately(self._look)
        self.metrics = Lately(self._count)

    async def _look(self) -> bool:
        try:
            return (await self._relay.relay_health()).is_well
        except ControlRefused:
            return False

    async def _count(self) -> bytes:
        health, counters, stats = await asyncio.gather(
            self._relay.relay_health(), self._relay.counters(), self._relay.stats(1), return_exceptions=True
        )
        for said in (health, counters, stats):
            if isinstance(said, BaseException) and not isinstance(said, ControlRefused):
                raise said
        return exposition(
            Seen(
                health if isinstance(health, RelayHealth) else None,
                counters if isinstance(counters, tuple) else (),
                stats if isinstance(stats, QueueStats) else None,
            )
        )


@router.get("/healthz", response_class=Response, responses={200: {}, 503: {"description": "Something is not well."}})
async def healthz(request: Request) -> Response:
    """Say ``ok``, or 503: some worker does not answer, takes no mail or is in trouble. /v1/health has the sentences."""
    is_well = await cast(Machines, request.app.state.machines).is_well.get()
    return Response("ok\n" if is_well else "not well\n", 200 if is_well else 503, media_type="text/plain")


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Show the counters of all workers and the queue in Prometheus' text format."""
    octets = await cast(Machines, request.app.state.machines).metrics.get()
    return Response(octets, media_type=CONTENT_TYPE_LATEST)


class _Collected(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Family]:
        yield from self._families


def exposition(seen: Seen) -> bytes:
    """Return the text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected([*_counter_families(seen.counters), *_gauges(seen)]))
    return generate_latest(registry)


def _counter_families(rows: Iterable[WorkerCounter]) -> Iterator[Family]:
    """Yield the counters of all workers, those of one name together, the worker as their first label."""
    by_name: dict[str, _Numbers] = {}
    for row in rows:
        by_name.setdefault(row.counter.name, []).append((row.worker, row.counter))
    histograms = {name.removesuffix(BUCKET) for name, of in by_name.items() if _is_bucket(name, of)}
    for base in sorted(histograms):
        parts = [by_name.pop(base + part, []) for part in (BUCKET, "_sum", "_count")]
        yield _histogram(base, parts[0], parts[1])
    for name, counters in sorted(by_name.items()):
        labels = list(dict.fromkeys(label for _, counter in counters for label, _ in counter.labels))
        kind = GaugeMetricFamily if counters[0][1].is_gauge else CounterMetricFamily
        family = kind(PREFIX + name, name.replace("_", " "), labels=["worker", *labels])
        for worker, counter in counters:
            values = dict(counter.labels)
            family.add_metric([worker, *(values.get(label, "") for label in labels)], counter.value)
        yield family


def _is_bucket(name: str, counters: _Numbers) -> bool:
    return name.endswith(BUCKET) and all("le" in dict(counter.labels) for _, counter in counters)


def _histogram(name: str, buckets: _Numbers, sums: _Numbers) -> HistogramMetricFamily:
    """Return the histogram of all workers; each worker's rows of ``_bucket`` come in the order of their bounds."""
    family = HistogramMetricFamily(PREFIX + name, name.replace("_", " "), labels=["worker"])
    summed = {worker: counter.value for worker, counter in sums}
    for worker in dict.fromkeys(worker for worker, _ in buckets):
        own = [(dict(counter.labels)["le"], counter.value) for of, counter in buckets if of == worker]
        family.add_metric([worker], own, summed.get(worker, 0.0))
    return family


def _gauges(seen: Seen) -> Iterator[Family]:
    """Yield what is known of the queue and the processes. What could not be asked is left out, and is not 0."""
    well = GaugeMetricFamily(PREFIX + "well", "1 if every worker answers, takes mail and is in no trouble")
    well.add_metric([], float(seen.health is not None and seen.health.is_well))
    yield well
    if seen.stats is not None:
        numbers = {
            "queue_messages": (seen.stats.messages, "messages that wait"),
            "queue_recipients": (seen.stats.recipients, "recipients that wait"),
            "queue_held": (seen.stats.held, "recipients that are held"),
            "queue_reports": (seen.stats.reports, "recipients for whom a report is due"),
            "queue_octets": (seen.stats.octets, "octets of content that wait"),
            "queue_oldest_timestamp_seconds": (seen.stats.oldest_at, "when the oldest message came in"),
            "accepting": (float(seen.stats.accepting), "1 if every worker takes mail"),
        }
        for name, (value, meaning) in numbers.items():
            if value is not None:
                gauge = GaugeMetricFamily(PREFIX + name, meaning)
                gauge.add_metric([], value)
                yield gauge
    if seen.health is not None:
        answering = GaugeMetricFamily(PREFIX + "workers_answering", "workers of which the numbers of the queue are")
        answering.add_metric([], seen.health.workers_answering)
        yield answering
        ready = GaugeMetricFamily(PREFIX + "process_ready", "1 if the process serves", labels=["process", "slot"])
        restarts = CounterMetricFamily(
            PREFIX + "process_restarts", "how often it was started again", labels=["process", "slot"]
        )
        for row in seen.health.processes:
            ready.add_metric([row.process, str(row.slot)], float(row.is_ready))
            restarts.add_metric([row.process, str(row.slot)], row.restarts)
        yield from (ready, restarts)
