"""What a log does, as Prometheus metrics. Needs `pip install 'muniment[prometheus]'`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as _Measured
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from muniment.log import AuditLog
from muniment.metrics import Histogram
from muniment.watching import Sequencing, Snapshot

EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of what `RequestMetrics.exposition` gives."""
_REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_PLACES: Final = ("stored", "already", "spooled", "refused")


class LogCollector(Collector):
    """Collects the metrics of a log: `REGISTRY.register(LogCollector(log))`.

    One log a registry. Metrics are made when they are scraped, in the scraping thread, and never
    wait for the store. While the log is not open, there is `muniment_healthy` alone.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        yield GaugeMetricFamily(
            "muniment_healthy",
            "Whether the log's health is ok",
            value=self._log.health().state == "ok",
        )
        snapshot = self._log.snapshot()
        if snapshot is not None:
            yield from chain(_gauges(snapshot), _counters(snapshot), _histograms(snapshot))
            if snapshot.sequencing is not None:
                yield from _of_sequencing(snapshot.sequencing)


class RequestMetrics:
    """How many requests the HTTP service answered, and how long each took."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = _Measured(
            "muniment_http_request_seconds",
            "How long a request took, to the end of its answer, by route and class of status",
            ["method", "route", "status"],
            buckets=_REQUEST_SECONDS,
            registry=self._registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is its route's template, or there would be no end of labels."""
        self._seconds.labels(method, route, f"{status // 100}xx").observe(seconds)

    def exposition(self, log: AuditLog) -> bytes:
        """The metrics of the requests and of a log, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(LogCollector(log))
        return generate_latest(registry) + generate_latest(self._registry)


def _gauges(now: Snapshot) -> Iterable[Metric]:
    for name, text, value in (
        ("queue_events", "Events queued in memory or being committed", now.waiting),
        ("queue_bytes", "Bytes of their bodies, about", now.waiting_bytes),
        ("spool_events", "Events that wait in the spool", now.pending),
        ("spool_bytes", "Bytes that wait in the spool", now.pending_bytes),
        (
            "spool_oldest_age_seconds",
            "For how long the oldest event has waited in the spool; 0 if none waits",
            now.oldest_seconds or 0,
        ),
        ("spool_damaged_records", "Records of the spool that were damaged or removed", now.damaged),
        ("quarantined_events", "Events that lie in quarantine", now.quarantined),
    ):
        yield GaugeMetricFamily(f"muniment_{name}", text, value=value)


def _counters(now: Snapshot) -> Iterable[Metric]:
    placed = CounterMetricFamily(
        "muniment_events",
        "Events by where they went: stored, already in the store, spooled, refused",
        labels=["place"],
    )
    for place in _PLACES:
        placed.add_metric([place], now.counts[place])
    yield placed
    for name, text, figure in (
        ("events_dropped", "Events that were lost", "dropped"),
        ("conflicts", "Events that differ from the one stored under their id", "conflicts"),
        ("spool_drained_events", "Events that came from the spool into the store", "drained"),
    ):
        yield CounterMetricFamily(f"muniment_{name}", text, value=now.counts[figure])


def _of_sequencing(now: Sequencing) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "muniment_sequencing_lag_seconds",
        "The age of the oldest event without a leaf; 0 if all have theirs",
        value=now.lag_seconds,
    )
    yield GaugeMetricFamily(
        "muniment_anchors_failing", "Anchors that checkpoints do not reach", len(now.unanchored)
    )
    for name, text, value in (
        ("events_integrated", "Events that this log gave their leaves", now.integrated),
        ("checkpoints_published", "Checkpoints that this log published", now.published),
    ):
        yield CounterMetricFamily(f"muniment_{name}", text, value=value)


def _histograms(now: Snapshot) -> Iterable[Metric]:
    yield _histogram("muniment_batch_events", "Events in a commit", now.batch_events)
    yield _histogram("muniment_commit_seconds", "How long a commit took", now.commit_seconds)


def _histogram(name: str, text: str, observed: Histogram) -> Metric:
    bounds = (*map(floatToGoString, observed.bounds), "+Inf")
    buckets = list(zip(bounds, observed.cumulative(), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=observed.sum)
