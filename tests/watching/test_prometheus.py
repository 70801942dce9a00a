from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from muniment import AuditLog
from muniment.integrations.prometheus import LogCollector
from muniment.testing import FaultyStore
from tests.scripted import until
from tests.watching.traffic import drained, known_traffic


@pytest.fixture
def registry(log: AuditLog) -> CollectorRegistry:
    """A registry of its own, with the log in it."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(LogCollector(log))
    return registry


def _scraped(registry: CollectorRegistry) -> dict[str, Any]:
    """What Prometheus reads: the value of every sample, under its name and labels."""
    text = generate_latest(registry).decode()
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sample.labels.items()): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_are_true(
    log: AuditLog, store: FaultyStore, registry: CollectorRegistry
) -> None:
    """After known traffic every metric but the times has the value that it must have."""
    await known_traffic(log, store)
    scraped = _scraped(registry)
    apart = ("_commit_seconds", "_sequencing_", "_integrated", "_published", "_anchors_")
    told = {
        name: value for name, value in scraped.items() if not any(part in name for part in apart)
    }
    assert told == {
        "muniment_healthy": 0,
        "muniment_queue_events": 0,
        "muniment_queue_bytes": 0,
        "muniment_spool_events": 0,
        "muniment_spool_bytes": 0,
        "muniment_spool_oldest_age_seconds": 0,
        "muniment_spool_damaged_records": 0,
        "muniment_quarantined_events": 1,
        "muniment_events_total place=stored": 9,
        "muniment_events_total place=already": 2,
        "muniment_events_total place=spooled": 3,
        "muniment_events_total place=refused": 1,
        "muniment_events_dropped_total": 0,
        "muniment_conflicts_total": 1,
        "muniment_spool_drained_events_total": 3,
        "muniment_batch_events_count": 4,
        "muniment_batch_events_sum": 11,
        **{
            f"muniment_batch_events_bucket le={bound}": 3 if bound in {"1.0", "2.0", "5.0"} else 4
            for bound in _bounds(scraped, "muniment_batch_events")
        },
    }
    assert scraped["muniment_commit_seconds_count"] == 4
    assert scraped["muniment_commit_seconds_bucket le=+Inf"] == 4
    assert scraped["muniment_commit_seconds_sum"] > 0


def _bounds(scraped: dict[str, Any], histogram: str) -> list[str]:
    start = f"{histogram}_bucket le="
    bounds = [name.removeprefix(start) for name in scraped if name.startswith(start)]
    assert len(bounds) > 10
    return bounds


async def test_every_metric_says_what_it_is(registry: CollectorRegistry) -> None:
    """Each has its help, and the type that its name promises."""
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert [family.name for family in families if not family.documentation] == []
    assert {family.name: family.type for family in families} == {
        "muniment_healthy": "gauge",
        "muniment_sequencing_lag_seconds": "gauge",
        "muniment_anchors_failing": "gauge",
        "muniment_events_integrated": "counter",
        "muniment_checkpoints_published": "counter",
        "muniment_queue_events": "gauge",
        "muniment_queue_bytes": "gauge",
        "muniment_spool_events": "gauge",
        "muniment_spool_bytes": "gauge",
        "muniment_spool_oldest_age_seconds": "gauge",
        "muniment_spool_damaged_records": "gauge",
        "muniment_quarantined_events": "gauge",
        "muniment_events": "counter",
        "muniment_events_dropped": "counter",
        "muniment_conflicts": "counter",
        "muniment_spool_drained_events": "counter",
        "muniment_batch_events": "histogram",
        "muniment_commit_seconds": "histogram",
    }


async def test_metrics_are_scraped_while_the_store_hangs(
    log: AuditLog, store: FaultyStore, registry: CollectorRegistry
) -> None:
    """A scrape in another thread waits for nothing; it sees what waits, and what was dropped."""
    assert _scraped(registry)["muniment_healthy"] == 1
    store.hang()
    for _ in range(13):
        log.emit("tick", tenant_id="acme")
    scraped = await asyncio.to_thread(_scraped, registry)
    assert scraped["muniment_queue_events"] == 10
    assert scraped["muniment_queue_bytes"] > 1_000
    assert scraped["muniment_events_dropped_total"] == 3
    assert scraped["muniment_healthy"] == 0


async def test_the_spool_is_seen_as_it_grows_and_as_it_empties(
    log: AuditLog, store: FaultyStore, registry: CollectorRegistry
) -> None:
    """Its events, its bytes, and that the log is not well."""
    store.fail()
    await log.record("tick", tenant_id="acme")
    scraped = _scraped(registry)
    assert (scraped["muniment_spool_events"], scraped["muniment_healthy"]) == (1, 0)
    assert scraped["muniment_spool_bytes"] > 0
    store.heal()
    await drained(log)
    scraped = _scraped(registry)
    assert (scraped["muniment_spool_events"], scraped["muniment_healthy"]) == (0, 1)


async def test_a_log_that_is_not_open_is_not_healthy(log_url: str, tmp_path: Path) -> None:
    """A log may be registered before it is open, and scraped after it is closed."""
    log = AuditLog.open(log_url, spool_dir=tmp_path / "spool")
    registry = CollectorRegistry(auto_describe=True)
    registry.register(LogCollector(log))
    assert _scraped(registry) == {"muniment_healthy": 0}
    async with log:
        assert _scraped(registry)["muniment_healthy"] == 1
    assert _scraped(registry) == {"muniment_healthy": 0}


async def test_metrics_of_sequencing_are_true(log: AuditLog, registry: CollectorRegistry) -> None:
    """Every event is counted once it has its leaf, and then nothing lags."""
    await log.record("login", tenant_id="acme")
    await until(lambda: _scraped(registry)["muniment_events_integrated_total"] == 1)
    scraped = _scraped(registry)
    assert scraped["muniment_checkpoints_published_total"] == 0  # there is no key
    assert scraped["muniment_anchors_failing"] == 0
    await until(lambda: _scraped(registry)["muniment_sequencing_lag_seconds"] == 0)
