"""Delivery under faults: real stores that fail, hang and come back, and not one event less or more.

The tests keep the ids of what was acknowledged, and hold the store against them.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from muniment import Actor, AuditLog, Event
from muniment.errors import EventRefused, LogClosed, NotDurable
from muniment.stores.base import Sealed
from tests.delivery.deliveries import (
    Opened,
    counts_of,
    drained,
    emit_numbers,
    numbered_events,
    numbers_of,
    record_number,
    recorder_of,
    stored_in,
)
from tests.scripted import LONG, until


async def _losses(log: AuditLog, count: int) -> list[Event]:
    """The `audit.loss` events, once there are as many: they are recorded behind all else."""
    async with asyncio.timeout(LONG):
        while True:
            found = [event for event in await stored_in(log) if event.action == "audit.loss"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.002)


def _read(path: str) -> str:
    return Path(path).read_text()


def _is_poison(event: Sealed) -> bool:
    return b'"n":13,' in event.body or b'"n":13}' in event.body


# --- poison


async def test_a_poison_event_is_refused_alone(opened: Opened, tmp_path: Path) -> None:
    """One event that the store won't have is quarantined; its neighbours are stored, in order."""
    log, store = await opened(on_error="log")
    store.refuse(_is_poison)

    receipts = await log.record_many(numbered_events(40))

    assert [r.durable_in for r in receipts] == ["store"] * 13 + ["lost"] + ["store"] * 26
    assert numbers_of(await stored_in(log)) == [n for n in range(40) if n != 13]
    stats = await log.stats()
    assert (stats["recorded"]["refused"], stats["spool"]["quarantined"]) == (1, 1)
    assert stats["recorded"]["dropped"] == 0
    assert len(list((tmp_path / "spool" / "quarantine").iterdir())) == 1


async def test_a_refused_event_tells_its_caller_where_it_is(opened_on_sqlite: Opened) -> None:
    """The error names the file, which holds the event."""
    log, store = await opened_on_sqlite()
    store.refuse(_is_poison)

    with pytest.raises(EventRefused) as refused:
        await record_number(log, 13)

    assert '"n": 13' in _read(str(refused.value).rpartition("in quarantine: ")[2])


async def test_a_poison_event_in_the_spool_does_not_hold_it_up(opened: Opened) -> None:
    """Draining isolates it, quarantines it, and goes on with its neighbours."""
    log, store = await opened()
    store.fail()
    emit_numbers(log, range(40))
    await log.flush()
    store.heal()
    store.refuse(_is_poison)
    await drained(log)

    assert numbers_of(await stored_in(log)) == [n for n in range(40) if n != 13]
    stats = await log.stats()
    assert (stats["recorded"]["refused"], stats["spool"]["quarantined"]) == (1, 1)
    assert stats["spool"]["pending"] == 0


# --- overflow and losses


async def test_a_queue_that_overflows_goes_to_the_spool(opened: Opened) -> None:
    """More events than the queue holds are neither lost nor doubled, and their order holds."""
    log, store = await opened(max_queue=50)
    store.hang()
    for start in range(0, 500, 25):
        emit_numbers(log, range(start, start + 25))
        await until(lambda: not recorder_of(log)._intake._is_spilling)
    assert (await counts_of(log))["dropped"] == 0
    store.heal()
    await drained(log)

    assert numbers_of(await stored_in(log)) == list(range(500))


async def test_a_log_that_may_drop_counts_and_records_what_it_dropped(
    opened_on_sqlite: Opened,
) -> None:
    """What overflow drops becomes one `audit.loss` event a tenant: how many, and of which time."""
    log, _ = await opened_on_sqlite(max_queue=10, overflow="drop")
    emit_numbers(log, range(10))
    dropped: dict[str, list[datetime]] = {"acme": [], "globex": []}
    for tenant, count in (("acme", 3), ("globex", 4)):
        events = [Event(action="delivery.test", tenant_id=tenant) for _ in range(count)]
        for event in events:
            log.emit(event)
            dropped[tenant].append(event.occurred_at)
    await drained(log)
    assert (await counts_of(log))["dropped"] == 7

    losses = {event.tenant_id: event for event in await _losses(log, len(dropped))}
    assert numbers_of(await stored_in(log)) == list(range(10))
    assert losses.keys() == dropped.keys()
    for tenant, moments in dropped.items():
        details = losses[tenant].details
        assert details["count"] == len(moments)
        assert details["reasons"] == ["the queue was full"]
        for name, moment in (("first", moments[0]), ("last", moments[-1])):
            told = datetime.fromisoformat(details[f"{name}_occurred_at"])
            assert abs((told - moment).total_seconds()) < 0.001


async def test_a_batch_that_callers_wait_for_leaves_emit_its_queue(
    opened_on_sqlite: Opened,
) -> None:
    """Who waits for a long list fills no queue: emitted events beside it are not dropped."""
    log, _ = await opened_on_sqlite(max_queue=10, overflow="drop")
    recording = asyncio.create_task(log.record_many(numbered_events(100, task=1)))
    await until(lambda: recorder_of(log).waiting >= 100)
    emit_numbers(log, range(10))
    await recording
    await drained(log)

    assert (await counts_of(log))["dropped"] == 0


async def test_when_store_and_spool_fail_the_caller_is_told(opened: Opened, tmp_path: Path) -> None:
    """`NotDurable` says what both said, and the loss is recorded once something can be."""
    (tmp_path / "spool").write_text("in the way")
    log, store = await opened()
    store.fail()

    with pytest.raises(NotDurable, match=r"the store fails: .*; and the spool: .*Not a directory"):
        await record_number(log, 1)
    lost = await record_number(log, 2, on_error="log")
    assert lost.durable_in == "lost"

    store.heal()
    kept = await record_number(log, 3)
    await drained(log)
    assert (kept.durable_in, numbers_of(await stored_in(log))) == ("store", [3])
    (loss,) = await _losses(log, 1)
    assert loss.details["count"] == 2
    # Tenants may read it: no host and no path is in it.
    assert loss.details["reasons"] == ["neither the store nor the spool could take it in time"]


async def test_a_loss_is_in_the_spool_when_a_log_closes_over_a_failing_store(
    opened: Opened,
) -> None:
    """Not even the count of what was dropped is lost with the process."""
    log, store = await opened(max_queue=1, overflow="drop")
    store.fail()
    emit_numbers(log, range(4))
    await log.close()

    following, _ = await opened()
    await drained(following)
    events = await stored_in(following)
    assert numbers_of(events) == [0]
    assert [e.details["count"] for e in events if e.action == "audit.loss"] == [3]


async def test_an_event_of_no_possible_tenant_is_lost_alone(opened_on_sqlite: Opened) -> None:
    """Where nobody may be broken, the loss of one stands under `system`, and recording goes on."""
    log, _ = await opened_on_sqlite(on_error="log")
    lost = await log.record("delivery.test", tenant_id="a\0b")
    kept = await record_number(log, 1)
    await drained(log)

    assert (lost.durable_in, kept.durable_in) == ("lost", "store")
    (loss,) = await _losses(log, 1)
    assert (loss.tenant_id, loss.details["count"]) == ("system", 1)


# --- emit, flush, close


async def test_emit_works_from_other_threads(opened_on_sqlite: Opened) -> None:
    """Threads emit at the same time: nothing is lost, and each one's order holds."""
    log, _ = await opened_on_sqlite()

    def emit(thread: int) -> None:
        for n in range(200):
            emit_numbers(log, [n], details={"n": n, "task": thread})

    threads = [threading.Thread(target=emit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    await drained(log)

    events = await stored_in(log)
    assert len(events) == 800
    for thread_number in range(4):
        assert numbers_of(events, thread_number) == list(range(200))


async def test_an_emit_from_another_thread_wakes_an_idle_log(opened_on_sqlite: Opened) -> None:
    """Nobody needs to touch the loop for a thread's event to be stored."""
    log, _ = await opened_on_sqlite()
    await asyncio.to_thread(emit_numbers, log, [1])
    await until(lambda: recorder_of(log).counts["stored"] == 1)

    assert numbers_of(await stored_in(log)) == [1]


async def test_emit_takes_a_snapshot(opened_on_sqlite: Opened) -> None:
    """What the caller changes after `emit` changes nothing that is recorded."""
    log, _ = await opened_on_sqlite()
    details: dict[str, Any] = {"n": 1, "nested": {"list": [1, 2]}}
    log.emit("delivery.test", tenant_id="acme", actor=Actor.user("u1"), details=details)
    details["n"] = 2
    details["nested"]["list"].append(3)
    await log.flush()

    (event,) = await stored_in(log)
    assert event.details == {"n": 1, "nested": {"list": [1, 2]}}


async def test_after_flush_everything_emitted_is_durable(opened: Opened) -> None:
    """It is in the store, or in the spool if the store fails."""
    log, store = await opened()
    emit_numbers(log, range(100))
    await log.flush()
    assert numbers_of(await stored_in(log)) == list(range(100))

    store.fail()
    emit_numbers(log, range(50))
    await log.flush()
    assert (await log.stats())["spool"]["pending"] == 50


async def test_flush_does_not_wait_for_what_comes_later(opened_on_sqlite: Opened) -> None:
    """It returns although others never stop emitting."""
    log, _ = await opened_on_sqlite()

    async def emit_for_ever() -> None:
        while True:
            emit_numbers(log, [0])
            await asyncio.sleep(0)

    emitting = asyncio.create_task(emit_for_ever())
    async with asyncio.timeout(LONG):
        await log.flush()
    emitting.cancel()
    await asyncio.wait({emitting})


async def test_closing_leaves_in_the_spool_what_the_store_does_not_take(opened: Opened) -> None:
    """A log that is closed in an outage loses nothing: the next one drains it, in order, once."""
    log, store = await opened(deadline=0.2)
    store.hang()
    emit_numbers(log, range(20))
    await log.close()

    following, _ = await opened()
    await drained(following)
    assert numbers_of(await stored_in(following)) == list(range(20))


async def test_closing_drains_what_the_store_takes(opened: Opened, tmp_path: Path) -> None:
    """A log that is closed when the store is back leaves nothing behind."""
    log, store = await opened()
    store.fail()
    emit_numbers(log, range(20))
    await log.flush()
    store.heal()
    await log.close()

    assert list((tmp_path / "spool").iterdir()) == []
    following, _ = await opened()
    assert numbers_of(await stored_in(following)) == list(range(20))


async def test_a_closed_log_takes_nothing(opened_on_sqlite: Opened) -> None:
    """Nothing is queued that nobody would ever place."""
    log, _ = await opened_on_sqlite()
    await log.close()

    with pytest.raises(LogClosed):
        await record_number(log, 1)
    with pytest.raises(LogClosed):
        emit_numbers(log, [1])
