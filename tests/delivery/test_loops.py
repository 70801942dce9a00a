"""Tasks that are cancelled, and loops that end, under a running log."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from muniment import AuditLog, Event
from muniment.errors import InvalidEvent, LogClosed
from muniment.testing import FaultyStore
from tests.delivery.deliveries import (
    Opened,
    drained,
    emit_numbers,
    numbered_events,
    numbers_of,
    record_number,
    recorder_of,
    store_at,
    stored_in,
)
from tests.scripted import LONG, tailed, until


async def test_a_cancelled_caller_takes_nobody_with_it(opened: Opened) -> None:
    """Others of its batch are stored, the cancelled one's event at most once; the log goes on."""
    log, store = await opened()
    store.hang()
    tasks = [asyncio.create_task(record_number(log, n)) for n in range(6)]
    await until(lambda: recorder_of(log).waiting == 6)
    tasks[2].cancel()
    await asyncio.wait({tasks[2]})
    store.heal()
    receipts = [await task for task in tasks if task is not tasks[2]]
    receipts.append(await record_number(log, 6))
    await drained(log)

    assert tasks[2].cancelled()
    counted = Counter(numbers_of(await stored_in(log)))
    assert {n: counted[n] for n in (0, 1, 3, 4, 5, 6)} == dict.fromkeys((0, 1, 3, 4, 5, 6), 1)
    assert counted[2] <= 1
    assert {receipt.durable_in for receipt in receipts} == {"store"}


async def test_concurrent_callers_share_commits(opened: Opened) -> None:
    """A hundred tasks that record at once need a few appends, not a hundred."""
    log, store = await opened()
    await asyncio.gather(*(record_number(log, n) for n in range(100)))

    assert sum(store.appended) == 100
    assert len(store.appended) <= 10


async def test_the_order_of_one_task_is_the_order_of_tail(opened: Opened) -> None:
    """What a task records one after the other is followed one after the other."""
    log, _ = await opened()
    first = await record_number(log, 0)

    async def other() -> None:
        for _ in range(20):
            await log.record("other.test", tenant_id="globex")

    others = [asyncio.create_task(other()) for _ in range(4)]
    for n in range(1, 30):
        await record_number(log, n)
    await asyncio.gather(*others)

    found = await tailed(log, 29, after=first.event_id, action="delivery.test")
    assert numbers_of(found) == list(range(1, 30))


def test_a_loop_that_ends_under_a_running_log_leaves_its_events_in_the_spool(
    store_url: str, tmp_path: Path
) -> None:
    """Who forgets to close a log loses nothing: what is queued waits for the next one.

    The log takes nothing more, and says so.
    """

    async def emit_and_forget() -> AuditLog:
        store = FaultyStore(store_at(store_url))
        log = await AuditLog(store, spool_dir=tmp_path / "spool", deadline=LONG)
        store.hang()
        emit_numbers(log, range(10))
        await asyncio.sleep(0)  # the first batch is on its way
        emit_numbers(log, range(10, 20))
        await store.close()
        return log

    async def find() -> list[int]:
        async with AuditLog(store_at(store_url), spool_dir=tmp_path / "spool") as log:
            await drained(log)
            return numbers_of(await stored_in(log))

    log = asyncio.run(emit_and_forget())
    with pytest.raises(LogClosed):
        emit_numbers(log, [20])
    assert asyncio.run(find()) == list(range(20))


async def test_record_from_another_loop_is_refused(opened_on_sqlite: Opened) -> None:
    """A log belongs to its loop: elsewhere `record` says so, instead of waiting for ever."""
    log, _ = await opened_on_sqlite()

    with pytest.raises(LogClosed, match="another event loop"):
        await asyncio.to_thread(asyncio.run, record_number(log, 1))


async def test_what_is_invalid_is_refused_before_anything_is_stored(
    opened_on_sqlite: Opened,
) -> None:
    """Of a list with one bad event in it none is recorded."""
    log, _ = await opened_on_sqlite(tenant_id="acme")
    stranger = Event(action="delivery.test", tenant_id="globex")

    with pytest.raises(InvalidEvent, match="tenant_id"):
        await log.record_many([*numbered_events(3), stranger])
    await log.flush()
    assert await stored_in(log) == []
