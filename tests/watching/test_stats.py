from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from muniment import AuditLog, LogClosed
from muniment.stores import open_store
from muniment.testing import FaultyStore
from tests.scripted import until
from tests.watching.traffic import known_traffic


async def test_stats_tell_what_became_of_every_event(log: AuditLog, store: FaultyStore) -> None:
    """After known traffic the counts are those of the traffic."""
    await known_traffic(log, store)
    stats = await log.stats()
    assert stats["recorded"] == {
        "stored": 9,
        "already": 2,
        "batches": 4,
        "spooled": 3,
        "drained": 3,
        "refused": 1,
        "dropped": 0,
        "conflicts": 1,
    }
    assert stats["store"]["events"] == 12


async def test_stats_tell_of_the_commits(log: AuditLog, store: FaultyStore) -> None:
    """How many events a commit had, and how long it took, lately and ever."""
    await known_traffic(log, store)
    stats = await log.stats()
    assert stats["last_commit"]["events"] == 1
    assert stats["batch_events"]["count"] == stats["commit_seconds"]["count"] == 4
    assert (stats["batch_events"]["mean"], stats["batch_events"]["max"]) == (11 / 4, 8)
    assert 0 < stats["last_commit"]["seconds"] <= stats["commit_seconds"]["max"]


async def test_stats_tell_what_waits_in_memory(log: AuditLog, store: FaultyStore) -> None:
    """Events that are queued or being committed are counted, with the size of their bodies."""
    store.hang()
    for n in range(5):
        log.emit("tick", tenant_id="acme", details={"n": n, "text": "x" * 1_000})
    queue = (await log.stats())["queue"]
    assert (queue["waiting"], queue["spooling"]) == (5, False)
    assert 5_000 < queue["waiting_bytes"] < 10_000


async def test_stats_tell_what_waits_in_the_spool(log: AuditLog, store: FaultyStore) -> None:
    """How many events, how large, and for how long the oldest has been there."""
    assert (await log.stats())["spool"]["oldest_seconds"] is None
    store.fail()
    await log.record("tick", tenant_id="acme")
    stats = await log.stats()
    assert stats["queue"]["spooling"]
    assert stats["spool"]["pending"] == 1
    assert stats["spool"]["pending_bytes"] > 0
    assert stats["spool"]["oldest_seconds"] >= 0


async def test_stats_are_ready_for_json(log: AuditLog, store: FaultyStore) -> None:
    """They can be sent to where somebody looks at them."""
    await known_traffic(log, store)
    stats = await log.stats()
    assert json.loads(json.dumps(stats)) == stats


class _Mute(FaultyStore):
    """Never says how it is."""

    async def stats(self) -> Mapping[str, Any]:
        await asyncio.Event().wait()
        return {}


async def test_a_store_that_does_not_answer_hides_no_other_figures(
    log_url: str, tmp_path: Path
) -> None:
    """What the log knows itself is told within the deadline; and that the store said nothing."""
    store = _Mute(open_store(log_url))
    async with AuditLog(store, spool_dir=tmp_path / "spool", deadline=0.05) as log:
        stats = await log.stats()
    assert stats["store"] == {"unavailable": "no answer within 0.05 s"}
    assert stats["queue"]["waiting"] == 0


async def test_what_is_taken_out_of_quarantine_counts_no_more(
    log: AuditLog, store: FaultyStore
) -> None:
    """Who has mended the cause and removed the file sees that all is well again."""
    await known_traffic(log, store)
    now = log.snapshot()
    assert now is not None
    assert now.quarantined == 1
    for file in (now.spool_directory / "quarantine").iterdir():
        file.unlink()
    await until(lambda: log.health().state == "ok")


async def test_a_log_that_is_not_open_has_no_stats(log_url: str) -> None:
    """There is nothing to tell."""
    log = AuditLog.open(log_url)
    with pytest.raises(LogClosed):
        await log.stats()
    assert log.snapshot() is None
