from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from muniment import AuditLog
from muniment.integrations.prometheus import LogCollector

_REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()


async def test_the_reference_has_every_figure(log: AuditLog) -> None:
    """Whoever reads `stats()` can look up what it says."""
    now = log.snapshot()
    assert now is not None
    figures = [
        part if part in {"batch_events", "commit_seconds"} else f"{part}.{name}"
        for part, names in now.figures().items()
        for name in names
    ]
    assert [figure for figure in figures if f"`{figure}`" not in _REFERENCE] == []


async def test_the_reference_has_every_metric(log: AuditLog) -> None:
    """Whoever writes an alert finds the metric's name, as it must be written."""
    registry = CollectorRegistry()
    registry.register(LogCollector(log))
    names = [
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    ]
    assert len(names) > 10
    assert [name for name in names if f"`{name}" not in _REFERENCE] == []
