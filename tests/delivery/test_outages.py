"""A store that fails, hangs and crashes costs no event and doubles none."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from muniment import AuditLog, Event
from muniment.receipts import Receipt
from tests.delivery.deliveries import (
    Opened,
    counts_of,
    drained,
    numbers_of,
    record_number,
    recorder_of,
    store_at,
    stored_in,
)
from tests.scripted import until
from tests.servers.postgres import PostgresServer


async def _ids(log: AuditLog) -> list[str]:
    return [event.event_id for event in await stored_in(log)]


# --- a store that fails


async def test_a_store_that_goes_away_costs_no_event_and_doubles_none(opened: Opened) -> None:
    """Of eight tasks that record on while the store fails and comes back, all events are there.

    Each is there once, the tasks' own order holds, and nobody noticed anything but the receipts.
    """
    log, store = await opened()
    away, back = asyncio.Event(), asyncio.Event()

    async def record(task: int) -> list[Receipt]:
        receipts = []
        for n in range(60):
            if n == 20:
                away.set()
            if n == 40:
                await back.wait()
            details = {"n": n, "task": task}
            receipts.append(await log.record("delivery.test", tenant_id="acme", details=details))
        return receipts

    tasks = [asyncio.create_task(record(task)) for task in range(8)]
    await away.wait()
    store.fail()
    await until(lambda: recorder_of(log).counts["spooled"] > 0)
    store.heal()
    back.set()
    receipts = [receipt for done in await asyncio.gather(*tasks) for receipt in done]
    await drained(log)

    assert {receipt.durable_in for receipt in receipts} == {"store", "spool"}
    events = await stored_in(log)
    assert Counter(event.event_id for event in events) == Counter(r.event_id for r in receipts)
    for task in range(8):
        assert numbers_of(events, task) == list(range(60))


async def test_a_store_that_hangs_lets_callers_go_with_the_spool(opened: Opened) -> None:
    """Once a store is late, `record` returns with the event in the spool, and so do the next."""
    log, store = await opened(deadline=0.05)
    store.hang()
    receipts = [await record_number(log, n) for n in range(3)]
    assert [receipt.durable_in for receipt in receipts] == ["spool"] * 3

    store.heal()
    await drained(log)
    assert await _ids(log) == [receipt.event_id for receipt in receipts]


async def test_what_was_stored_although_the_store_failed_is_not_doubled(opened: Opened) -> None:
    """A commit whose answer got lost is tried again through the spool, and stored once."""
    log, store = await opened()
    store.fail_but_store(times=3)
    receipts = [await record_number(log, n) for n in range(5)]
    await drained(log)

    assert "spool" in {receipt.durable_in for receipt in receipts}
    assert await _ids(log) == [receipt.event_id for receipt in receipts]


async def test_a_store_that_raises_anything_at_all_costs_nothing(opened: Opened) -> None:
    """An error that no store should raise is a failing store like any other."""
    log, store = await opened()
    unexpected: Any = ZeroDivisionError("nobody expects it")
    store.fail(unexpected)
    receipt = await record_number(log, 1)
    assert receipt.durable_in == "spool"

    store.heal()
    await drained(log)
    assert await _ids(log) == [receipt.event_id]


async def test_the_same_event_recorded_again_in_an_outage_is_stored_once(opened: Opened) -> None:
    """Idempotency holds through the spool: the same event_id is the same event."""
    log, store = await opened()
    event = Event(action="delivery.test", tenant_id="acme")
    await log.record(event)
    store.fail()
    await log.record(event)
    await log.record(event)
    store.heal()
    await drained(log)

    assert await _ids(log) == [event.event_id]


async def test_the_spool_drains_in_order_and_ahead_of_what_is_new(opened: Opened) -> None:
    """What is recorded while the spool drains goes behind it."""
    log, store = await opened()
    store.fail()
    for n in range(30):
        await record_number(log, n)
    store.heal()
    for n in range(30, 60):
        await record_number(log, n)
    await drained(log)

    assert numbers_of(await stored_in(log)) == list(range(60))


# --- a server that crashes


@asynccontextmanager
async def _load(log: AuditLog, acknowledged: list[str]) -> AsyncIterator[None]:
    """Within the block eight tasks record without a pause."""
    stop = asyncio.Event()

    async def record() -> None:
        while not stop.is_set():
            acknowledged.append((await record_number(log, 0)).event_id)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(record())
        try:
            yield
        finally:
            stop.set()


async def test_a_postgres_that_crashes_under_load_loses_and_doubles_nothing(
    private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Through two crashes of a real server every acknowledged event is kept, once each."""
    acknowledged: list[str] = []
    store = store_at(private_postgres.url())
    async with AuditLog(store, spool_dir=tmp_path / "spool") as log:
        async with _load(log, acknowledged):
            for _ in range(2):
                count = len(acknowledged)
                await until(lambda: len(acknowledged) > count + 200)  # noqa: B023
                await asyncio.to_thread(private_postgres.stop_immediately)
                recorder = recorder_of(log)
                assert recorder is not None
                await until(lambda: recorder.is_spooling)  # noqa: B023
                await asyncio.to_thread(private_postgres.start)
        await drained(log)

        assert Counter(await _ids(log)) == Counter(acknowledged)
        assert (await counts_of(log))["spooled"] > 0


def test_a_log_in_a_task_closes_well_when_the_loop_cancels_all_tasks(
    sqlite_url: str, tmp_path: Path
) -> None:
    """`asyncio.run` cancels the log's own tasks too: what was emitted is kept, nothing raises."""
    held: list[asyncio.Task[None]] = []

    async def hold(is_open: asyncio.Event) -> None:
        async with AuditLog.open(sqlite_url, spool_dir=tmp_path / "spool") as log:
            log.emit("login", tenant_id="acme")
            is_open.set()
            await asyncio.Event().wait()

    async def main() -> None:
        is_open = asyncio.Event()
        held.append(asyncio.create_task(hold(is_open)))
        await is_open.wait()

    async def found() -> int:
        async with AuditLog.open(sqlite_url, spool_dir=tmp_path / "spool"):
            pass  # drains the spool
        async with AuditLog.open(sqlite_url, spool_dir=tmp_path / "spool") as log:
            return len((await log.search(tenant_id="acme")).events)

    asyncio.run(main())
    assert held[0].cancelled()
    assert asyncio.run(found()) == 1
