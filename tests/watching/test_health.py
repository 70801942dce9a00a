from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muniment import AuditLog, Health
from muniment.metrics import Histogram
from muniment.stores import open_store
from muniment.testing import FaultyStore
from muniment.watching import Snapshot, health_of
from tests.scripted import until
from tests.servers.postgres import PostgresServer
from tests.watching.traffic import drained

_WELL = Snapshot(
    waiting=7,
    waiting_bytes=7_000,
    is_spooling=False,
    counts={},
    batch_events=Histogram(()),
    commit_seconds=Histogram(()),
    store_error=None,
    spool_directory=Path("/spool"),
    pending=0,
    pending_bytes=0,
    oldest_seconds=None,
    damaged=0,
    quarantined=0,
    drop_seconds=None,
    unnoted_losses=False,
    sequencing=None,
)


def _health(**figures: Any) -> Health:
    now = msgspec.structs.replace(_WELL, **figures)
    return health_of(now, spool_age=300, drop_age=300, lag_age=60)


# --- from figures


def test_a_log_at_work_is_well() -> None:
    """Events in the queue are no problem, nor are drops of long ago."""
    assert _health() == Health("ok")
    assert _health(drop_seconds=301) == Health("ok")


@pytest.mark.parametrize(
    ("figures", "problem"),
    [
        ({"is_spooling": True}, "events go to the spool; waiting there: 0"),
        (
            {"is_spooling": True, "pending": 1_200, "oldest_seconds": 299.0},
            "events go to the spool; waiting there: 1,200",
        ),
        ({"store_error": "it is away"}, "the store fails: it is away"),
        ({"quarantined": 2}, "events in quarantine, /spool/quarantine: 2"),
        ({"damaged": 3}, "records of the spool that were damaged or removed: 3"),
    ],
)
def test_what_loses_nothing_degrades(figures: dict[str, Any], problem: str) -> None:
    """Each trouble is told in words."""
    assert _health(**figures) == Health("degraded", (problem,))


def test_an_event_stuck_in_the_spool_is_a_failure() -> None:
    """A backlog that does not go away in time needs somebody now."""
    health = _health(is_spooling=True, pending=1, oldest_seconds=301.0)
    assert health.state == "failing"
    assert health.problems[0] == "an event has waited in the spool for 301 s"


def test_a_recent_drop_is_a_failure() -> None:
    """A loss is seen by whoever looks within the time that a drop counts."""
    health = _health(drop_seconds=299.0)
    assert health.state == "failing"
    assert health.problems == (
        "events are lost, the last one 299 s ago; audit.loss events say of whom and why",
    )


def test_a_loss_of_which_nothing_is_recorded_is_a_failure_for_as_long() -> None:
    """It does not pass with time: the process alone knows of it."""
    health = _health(drop_seconds=9_999.0, unnoted_losses=True)
    assert health == Health("failing", ("events are lost, and no audit.loss event says so yet",))


# --- of a log


async def test_a_log_is_well_while_it_records(log: AuditLog) -> None:
    """Nothing is wrong with a log that does what it should."""
    await log.record("login", tenant_id="acme")
    assert log.health() == Health("ok")


async def test_health_is_bad_while_events_go_to_the_spool(
    log: AuditLog, store: FaultyStore
) -> None:
    """It turns bad with the first event in the spool, and good when the last one is drained."""
    store.fail()
    await log.record("login", tenant_id="acme")
    health = log.health()
    assert health.state == "degraded"
    assert health.problems == (
        "events go to the spool; waiting there: 1",
        "the store fails: the store was told to fail",
    )
    assert log.health(spool_age=-1).state == "failing"
    store.heal()
    await drained(log)
    assert log.health() == Health("ok")


async def test_health_is_bad_after_a_drop(log: AuditLog, store: FaultyStore) -> None:
    """A drop makes it fail, until it is so long ago as the caller thinks enough."""
    store.hang()
    for _ in range(11):
        log.emit("tick", tenant_id="acme")
    assert log.health().problems == ("events are lost, and no audit.loss event says so yet",)
    store.heal()
    await drained(log)
    await until(lambda: "audit.loss events say" in "".join(log.health().problems))
    assert log.health().state == "failing"
    assert log.health(drop_age=0) == Health("ok")


async def test_health_is_bad_while_something_is_in_quarantine(
    log: AuditLog, store: FaultyStore, spool_directory: Path
) -> None:
    """Somebody must look at it."""
    store.refuse(lambda _: True)
    await log.record("login", tenant_id="acme", on_error="log")
    assert log.health() == Health(
        "degraded", (f"events in quarantine, {spool_directory / 'quarantine'}: 1",)
    )


async def test_an_outage_of_a_real_server_is_seen_and_so_is_its_end(
    private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """A server that stops under a log that records, and starts again."""
    store = open_store(private_postgres.url(), migrate=True)
    async with AuditLog(store, spool_dir=tmp_path / "spool") as log:
        await log.record("before", tenant_id="acme")
        assert log.health() == Health("ok")
        await asyncio.to_thread(private_postgres.stop_immediately)
        receipt = await log.record("meanwhile", tenant_id="acme")
        assert receipt.durable_in == "spool"
        assert log.health().state == "degraded"
        await asyncio.to_thread(private_postgres.start)
        await until(lambda: log.health().state == "ok")
        assert (await log.stats())["recorded"]["drained"] == 1


async def test_an_outage_is_seen_while_nothing_is_recorded(
    private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """A server that is away when the log opens is known before the first event is due."""
    store = open_store(private_postgres.url())
    await store.upgrade()
    await asyncio.to_thread(private_postgres.stop_immediately)
    async with AuditLog(store, spool_dir=tmp_path / "spool") as log:
        health = log.health()
        assert health.state == "degraded"
        assert health.problems[0].startswith("the store fails: ")
        await asyncio.to_thread(private_postgres.start)
        await until(lambda: log.health().state == "ok")


async def test_a_log_that_is_not_open_fails(log_url: str) -> None:
    """Health can be asked at any time: before a log is open, and after."""
    log = AuditLog.open(log_url)
    closed = Health("failing", ("the log is not open in this process",))
    assert log.health() == closed
    async with log:
        assert log.health() == Health("ok")
    assert log.health() == closed


async def test_health_is_told_to_any_thread(log: AuditLog) -> None:
    """A health check may run elsewhere than the log."""
    assert await asyncio.to_thread(log.health) == Health("ok")


async def test_a_log_of_another_process_is_not_open(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a forked child the log is not open: asking there raises nothing, and says so."""
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: -1)
        assert log.health() == Health("failing", ("the log is not open in this process",))
