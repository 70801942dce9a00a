from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muniment import AuditLog, Conflict, Event
from muniment.testing import FaultyStore
from tests.watching.traffic import EVENT, drained

_OTHER: dict[str, Any] = {"tenant_id": "acme", "event_id": EVENT.event_id}


async def _recorded(log: AuditLog) -> dict[str, int]:
    counts: dict[str, int] = (await log.stats())["recorded"]
    return counts


def _quarantined(directory: Path) -> list[Any]:
    files = sorted((directory / "quarantine").glob("*.json"))
    return [msgspec.json.decode(file.read_bytes()) for file in files]


async def test_a_conflict_that_its_caller_hears_of_is_counted(
    log: AuditLog, spool_directory: Path
) -> None:
    """One event or many, raised or logged: each conflict counts once, and nothing is kept."""
    await log.record(EVENT)
    with pytest.raises(Conflict):
        await log.record("other", **_OTHER)
    await log.record("other", **_OTHER, on_error="log")
    with pytest.raises(Conflict):
        await log.record_many([Event(action="other", **_OTHER), Event(action="a third", **_OTHER)])
    assert (await _recorded(log))["conflicts"] == 4
    assert _quarantined(spool_directory) == []


async def test_the_same_event_again_is_no_conflict(log: AuditLog, store: FaultyStore) -> None:
    """Recorded, emitted, or through the spool: what a source repeats is what is stored."""
    await log.record(EVENT)
    await log.record(EVENT)
    log.emit(EVENT)
    await log.flush()
    store.fail()
    await log.record(EVENT)
    store.heal()
    await drained(log)
    counts = await _recorded(log)
    assert (counts["conflicts"], counts["refused"]) == (0, 0)


async def test_a_conflict_that_was_emitted_goes_to_the_quarantine(
    log: AuditLog, spool_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits to be told: the event is logged, counted, and kept where people can read it."""
    await log.record(EVENT)
    log.emit("other", **_OTHER)
    await log.flush()
    await drained(log)
    (kept,) = _quarantined(spool_directory)
    assert kept["body"]["action"] == "other"
    assert "differs in action" in kept["reason"]
    assert "is in quarantine" in caplog.text
    assert (await _recorded(log))["conflicts"] == 1
    assert log.health().state == "degraded"


async def test_a_conflict_that_was_acknowledged_from_the_spool_is_not_lost(
    log: AuditLog, store: FaultyStore, spool_directory: Path
) -> None:
    """Whoever was told "spool" finds the event: in quarantine, if another one has its id."""
    await log.record(EVENT)
    store.fail()
    receipt = await log.record("other", **_OTHER)
    await log.record("neighbour", tenant_id="acme")
    store.heal()
    await drained(log)
    assert receipt.durable_in == "spool"
    assert [kept["body"]["action"] for kept in _quarantined(spool_directory)] == ["other"]
    counts = await _recorded(log)
    assert (counts["conflicts"], counts["drained"]) == (1, 2)
    assert {event.action for event in (await log.search()).events} == {"first", "neighbour"}


async def test_a_conflict_that_can_be_kept_nowhere_is_a_counted_loss(
    log: AuditLog, spool_directory: Path
) -> None:
    """Where there is no quarantine to be had, the loss is at least recorded."""
    in_the_way = spool_directory / "quarantine"
    await asyncio.to_thread(spool_directory.mkdir)
    await asyncio.to_thread(in_the_way.write_text, "a file")
    await log.record(EVENT)
    log.emit("other", **_OTHER)
    await log.flush()
    await drained(log)
    (loss,) = (await log.search(action="audit.loss")).events
    assert loss.tenant_id == "acme"
    assert "can't be put in quarantine" in loss.details["reasons"][0]
    assert (await _recorded(log))["dropped"] == 1
