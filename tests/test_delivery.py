"""Delivery under faults: real stores that fail, hang and come back, and not one event less or more.

The tests keep the ids of what was acknowledged, and hold the store against them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from muniment import Actor, AuditLog, Event
from muniment.canonical import decode
from muniment.errors import EventRefused, InvalidEvent, LogClosed, NotDurable
from muniment.receipts import Receipt
from muniment.recorder import Recorder
from muniment.stores import open_store
from muniment.stores.base import Sealed, Store
from muniment.testing import FaultyStore
from tests.scripted import LONG, until
from tests.servers.postgres import PostgresServer


def _recorder(log: AuditLog) -> Recorder:
    assert log._background is not None
    return log._background.recorder


class Opened(Protocol):
    """Opens a log over a store that can be made to fail."""

    async def __call__(self, **options: Any) -> tuple[AuditLog, FaultyStore]:
        """The log, which is closed at the end of the test, and its store."""


@pytest.fixture
async def opened(store_url: str, tmp_path: Path) -> AsyncIterator[Opened]:
    """Opens logs over the same store, one of each kind, and the same spool."""
    async with _opening(store_url, tmp_path / "spool") as opened:
        yield opened


@pytest.fixture
async def opened_on_sqlite(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Opened]:
    """The same for what happens before a store comes into it: SQLite is quickly made."""
    async with _opening(sqlite_url, tmp_path / "spool") as opened:
        yield opened


@asynccontextmanager
async def _opening(url: str, spool: Path) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as logs:

        async def open_log(**options: Any) -> tuple[AuditLog, FaultyStore]:
            store = FaultyStore(_store(url))
            log = AuditLog(store, **{"spool_dir": spool, "deadline": LONG, **options})
            await logs.enter_async_context(log)
            logs.callback(store.heal)
            return log, store

        yield open_log


def _store(url: str) -> Store:
    return open_store(url, migrate=True)


async def _drained(log: AuditLog) -> None:
    """Wait until the store has all that was recorded."""
    await log.flush()
    recorder = _recorder(log)
    assert recorder is not None
    await until(lambda: not recorder.is_spooling and not recorder.waiting)


async def _stored(log: AuditLog) -> list[Event]:
    """Every event in the store, in the order of recording."""
    events: list[Event] = []
    after = None
    while found := await log.store.read(after, 1_000):
        events += [decode((event.stored.body or "").encode()) for event in found]
        after = found[-1].position
    return events


async def _losses(log: AuditLog, count: int) -> list[Event]:
    """The `audit.loss` events, once there are as many: they are recorded behind all else."""
    async with asyncio.timeout(LONG):
        while True:
            found = [event for event in await _stored(log) if event.action == "audit.loss"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.002)


async def _ids(log: AuditLog) -> list[str]:
    return [event.event_id for event in await _stored(log)]


def _numbers(events: Iterable[Event], task: int | None = None) -> list[int]:
    """The numbers that the events (of one task) carry."""
    return [
        event.details["n"]
        for event in events
        if "n" in event.details and task in (None, event.details.get("task"))
    ]


def _numbered(count: int, **details: Any) -> list[Event]:
    return [
        Event(action="delivery.test", tenant_id="acme", details={"n": n, **details})
        for n in range(count)
    ]


async def _record(log: AuditLog, n: int, **fields: Any) -> Receipt:
    return await log.record("delivery.test", tenant_id="acme", details={"n": n}, **fields)


def _emit(log: AuditLog, numbers: Iterable[int], **fields: Any) -> None:
    for n in numbers:
        log.emit("delivery.test", **{"tenant_id": "acme", "details": {"n": n}, **fields})


async def _counts(log: AuditLog) -> Mapping[str, int]:
    counts: Mapping[str, int] = (await log.stats())["recorded"]
    return counts


def _read(path: str) -> str:
    return Path(path).read_text()


def _is_poison(event: Sealed) -> bool:
    return b'"n":13,' in event.body or b'"n":13}' in event.body


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
    await until(lambda: _recorder(log).counts["spooled"] > 0)
    store.heal()
    back.set()
    receipts = [receipt for done in await asyncio.gather(*tasks) for receipt in done]
    await _drained(log)

    assert {receipt.durable_in for receipt in receipts} == {"store", "spool"}
    events = await _stored(log)
    assert Counter(event.event_id for event in events) == Counter(r.event_id for r in receipts)
    for task in range(8):
        assert _numbers(events, task) == list(range(60))


async def test_a_store_that_hangs_lets_callers_go_with_the_spool(opened: Opened) -> None:
    """Once a store is late, `record` returns with the event in the spool, and so do the next."""
    log, store = await opened(deadline=0.05)
    store.hang()
    receipts = [await _record(log, n) for n in range(3)]
    assert [receipt.durable_in for receipt in receipts] == ["spool"] * 3

    store.heal()
    await _drained(log)
    assert await _ids(log) == [receipt.event_id for receipt in receipts]


async def test_what_was_stored_although_the_store_failed_is_not_doubled(opened: Opened) -> None:
    """A commit whose answer got lost is tried again through the spool, and stored once."""
    log, store = await opened()
    store.fail_but_store(times=3)
    receipts = [await _record(log, n) for n in range(5)]
    await _drained(log)

    assert "spool" in {receipt.durable_in for receipt in receipts}
    assert await _ids(log) == [receipt.event_id for receipt in receipts]


async def test_a_store_that_raises_anything_at_all_costs_nothing(opened: Opened) -> None:
    """An error that no store should raise is a failing store like any other."""
    log, store = await opened()
    unexpected: Any = ZeroDivisionError("nobody expects it")
    store.fail(unexpected)
    receipt = await _record(log, 1)
    assert receipt.durable_in == "spool"

    store.heal()
    await _drained(log)
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
    await _drained(log)

    assert await _ids(log) == [event.event_id]


async def test_the_spool_drains_in_order_and_ahead_of_what_is_new(opened: Opened) -> None:
    """What is recorded while the spool drains goes behind it."""
    log, store = await opened()
    store.fail()
    for n in range(30):
        await _record(log, n)
    store.heal()
    for n in range(30, 60):
        await _record(log, n)
    await _drained(log)

    assert _numbers(await _stored(log)) == list(range(60))


# --- poison


async def test_a_poison_event_is_refused_alone(opened: Opened, tmp_path: Path) -> None:
    """One event that the store won't have is quarantined; its neighbours are stored, in order."""
    log, store = await opened(on_error="log")
    store.refuse(_is_poison)

    receipts = await log.record_many(_numbered(40))

    assert [r.durable_in for r in receipts] == ["store"] * 13 + ["lost"] + ["store"] * 26
    assert _numbers(await _stored(log)) == [n for n in range(40) if n != 13]
    stats = await log.stats()
    assert (stats["recorded"]["refused"], stats["spool"]["quarantined"]) == (1, 1)
    assert stats["recorded"]["dropped"] == 0
    assert len(list((tmp_path / "spool" / "quarantine").iterdir())) == 1


async def test_a_refused_event_tells_its_caller_where_it_is(opened_on_sqlite: Opened) -> None:
    """The error names the file, which holds the event."""
    log, store = await opened_on_sqlite()
    store.refuse(_is_poison)

    with pytest.raises(EventRefused) as refused:
        await _record(log, 13)

    assert '"n": 13' in _read(str(refused.value).rpartition("in quarantine: ")[2])


async def test_a_poison_event_in_the_spool_does_not_hold_it_up(opened: Opened) -> None:
    """Draining isolates it, quarantines it, and goes on with its neighbours."""
    log, store = await opened()
    store.fail()
    _emit(log, range(40))
    await log.flush()
    store.heal()
    store.refuse(_is_poison)
    await _drained(log)

    assert _numbers(await _stored(log)) == [n for n in range(40) if n != 13]
    stats = await log.stats()
    assert (stats["recorded"]["refused"], stats["spool"]["quarantined"]) == (1, 1)
    assert stats["spool"]["pending"] == 0


# --- overflow and losses


async def test_a_queue_that_overflows_goes_to_the_spool(opened: Opened) -> None:
    """More events than the queue holds are neither lost nor doubled, and their order holds."""
    log, store = await opened(max_queue=50)
    store.hang()
    for start in range(0, 500, 25):
        _emit(log, range(start, start + 25))
        await until(lambda: not _recorder(log)._intake._is_spilling)
    assert (await _counts(log))["dropped"] == 0
    store.heal()
    await _drained(log)

    assert _numbers(await _stored(log)) == list(range(500))


async def test_a_log_that_may_drop_counts_and_records_what_it_dropped(
    opened_on_sqlite: Opened,
) -> None:
    """What overflow drops becomes one `audit.loss` event a tenant: how many, and of which time."""
    log, _ = await opened_on_sqlite(max_queue=10, overflow="drop")
    _emit(log, range(10))
    dropped: dict[str, list[datetime]] = {"acme": [], "globex": []}
    for tenant, count in (("acme", 3), ("globex", 4)):
        events = [Event(action="delivery.test", tenant_id=tenant) for _ in range(count)]
        for event in events:
            log.emit(event)
            dropped[tenant].append(event.occurred_at)
    await _drained(log)
    assert (await _counts(log))["dropped"] == 7

    losses = {event.tenant_id: event for event in await _losses(log, len(dropped))}
    assert _numbers(await _stored(log)) == list(range(10))
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
    recording = asyncio.create_task(log.record_many(_numbered(100, task=1)))
    await until(lambda: _recorder(log).waiting >= 100)
    _emit(log, range(10))
    await recording
    await _drained(log)

    assert (await _counts(log))["dropped"] == 0


async def test_when_store_and_spool_fail_the_caller_is_told(opened: Opened, tmp_path: Path) -> None:
    """`NotDurable` says what both said, and the loss is recorded once something can be."""
    (tmp_path / "spool").write_text("in the way")
    log, store = await opened()
    store.fail()

    with pytest.raises(NotDurable, match=r"the store fails: .*; and the spool: .*Not a directory"):
        await _record(log, 1)
    lost = await _record(log, 2, on_error="log")
    assert lost.durable_in == "lost"

    store.heal()
    kept = await _record(log, 3)
    await _drained(log)
    assert (kept.durable_in, _numbers(await _stored(log))) == ("store", [3])
    assert [loss.details["count"] for loss in await _losses(log, 1)] == [2]


async def test_a_loss_is_in_the_spool_when_a_log_closes_over_a_failing_store(
    opened: Opened,
) -> None:
    """Not even the count of what was dropped is lost with the process."""
    log, store = await opened(max_queue=1, overflow="drop")
    store.fail()
    _emit(log, range(4))
    await log.close()

    following, _ = await opened()
    await _drained(following)
    events = await _stored(following)
    assert _numbers(events) == [0]
    assert [e.details["count"] for e in events if e.action == "audit.loss"] == [3]


async def test_an_event_of_no_possible_tenant_is_lost_alone(opened_on_sqlite: Opened) -> None:
    """Where nobody may be broken, the loss of one stands under `system`, and recording goes on."""
    log, _ = await opened_on_sqlite(on_error="log")
    lost = await log.record("delivery.test", tenant_id="a\0b")
    kept = await _record(log, 1)
    await _drained(log)

    assert (lost.durable_in, kept.durable_in) == ("lost", "store")
    (loss,) = await _losses(log, 1)
    assert (loss.tenant_id, loss.details["count"]) == ("system", 1)


# --- emit, flush, close


async def test_emit_works_from_other_threads(opened_on_sqlite: Opened) -> None:
    """Threads emit at the same time: nothing is lost, and each one's order holds."""
    log, _ = await opened_on_sqlite()

    def emit(thread: int) -> None:
        for n in range(200):
            _emit(log, [n], details={"n": n, "task": thread})

    threads = [threading.Thread(target=emit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    await _drained(log)

    events = await _stored(log)
    assert len(events) == 800
    for thread_number in range(4):
        assert _numbers(events, thread_number) == list(range(200))


async def test_an_emit_from_another_thread_wakes_an_idle_log(opened_on_sqlite: Opened) -> None:
    """Nobody needs to touch the loop for a thread's event to be stored."""
    log, _ = await opened_on_sqlite()
    await asyncio.to_thread(_emit, log, [1])
    await until(lambda: _recorder(log).counts["stored"] == 1)

    assert _numbers(await _stored(log)) == [1]


async def test_emit_takes_a_snapshot(opened_on_sqlite: Opened) -> None:
    """What the caller changes after `emit` changes nothing that is recorded."""
    log, _ = await opened_on_sqlite()
    details: dict[str, Any] = {"n": 1, "nested": {"list": [1, 2]}}
    log.emit("delivery.test", tenant_id="acme", actor=Actor.user("u1"), details=details)
    details["n"] = 2
    details["nested"]["list"].append(3)
    await log.flush()

    (event,) = await _stored(log)
    assert event.details == {"n": 1, "nested": {"list": [1, 2]}}


async def test_after_flush_everything_emitted_is_durable(opened: Opened) -> None:
    """It is in the store, or in the spool if the store fails."""
    log, store = await opened()
    _emit(log, range(100))
    await log.flush()
    assert _numbers(await _stored(log)) == list(range(100))

    store.fail()
    _emit(log, range(50))
    await log.flush()
    assert (await log.stats())["spool"]["pending"] == 50


async def test_flush_does_not_wait_for_what_comes_later(opened_on_sqlite: Opened) -> None:
    """It returns although others never stop emitting."""
    log, _ = await opened_on_sqlite()

    async def emit_for_ever() -> None:
        while True:
            _emit(log, [0])
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
    _emit(log, range(20))
    await log.close()

    following, _ = await opened()
    await _drained(following)
    assert _numbers(await _stored(following)) == list(range(20))


async def test_closing_drains_what_the_store_takes(opened: Opened, tmp_path: Path) -> None:
    """A log that is closed when the store is back leaves nothing behind."""
    log, store = await opened()
    store.fail()
    _emit(log, range(20))
    await log.flush()
    store.heal()
    await log.close()

    assert list((tmp_path / "spool").iterdir()) == []
    following, _ = await opened()
    assert _numbers(await _stored(following)) == list(range(20))


async def test_a_closed_log_takes_nothing(opened_on_sqlite: Opened) -> None:
    """Nothing is queued that nobody would ever place."""
    log, _ = await opened_on_sqlite()
    await log.close()

    with pytest.raises(LogClosed):
        await _record(log, 1)
    with pytest.raises(LogClosed):
        _emit(log, [1])


# --- tasks and loops


async def test_a_cancelled_caller_takes_nobody_with_it(opened: Opened) -> None:
    """Others of its batch are stored, the cancelled one's event at most once; the log goes on."""
    log, store = await opened()
    store.hang()
    tasks = [asyncio.create_task(_record(log, n)) for n in range(6)]
    await until(lambda: _recorder(log).waiting == 6)
    tasks[2].cancel()
    await asyncio.wait({tasks[2]})
    store.heal()
    receipts = [await task for task in tasks if task is not tasks[2]]
    receipts.append(await _record(log, 6))
    await _drained(log)

    assert tasks[2].cancelled()
    counted = Counter(_numbers(await _stored(log)))
    assert {n: counted[n] for n in (0, 1, 3, 4, 5, 6)} == dict.fromkeys((0, 1, 3, 4, 5, 6), 1)
    assert counted[2] <= 1
    assert {receipt.durable_in for receipt in receipts} == {"store"}


async def test_concurrent_callers_share_commits(opened: Opened) -> None:
    """A hundred tasks that record at once need a few appends, not a hundred."""
    log, store = await opened()
    await asyncio.gather(*(_record(log, n) for n in range(100)))

    assert sum(store.appended) == 100
    assert len(store.appended) <= 10


async def test_the_order_of_one_task_is_the_order_of_tail(opened: Opened) -> None:
    """What a task records one after the other is followed one after the other."""
    log, _ = await opened()
    first = await _record(log, 0)

    async def other() -> None:
        for _ in range(20):
            await log.record("other.test", tenant_id="globex")

    others = [asyncio.create_task(other()) for _ in range(4)]
    for n in range(1, 30):
        await _record(log, n)
    await asyncio.gather(*others)

    tailed = log.tail(after=first.event_id, follow=False, action="delivery.test")
    assert _numbers([event async for event in tailed]) == list(range(1, 30))


def test_a_loop_that_ends_under_a_running_log_leaves_its_events_in_the_spool(
    store_url: str, tmp_path: Path
) -> None:
    """Who forgets to close a log loses nothing: what is queued waits for the next one.

    The log takes nothing more, and says so.
    """

    async def emit_and_forget() -> AuditLog:
        store = FaultyStore(_store(store_url))
        log = await AuditLog(store, spool_dir=tmp_path / "spool", deadline=LONG)
        store.hang()
        _emit(log, range(10))
        await asyncio.sleep(0)  # the first batch is on its way
        _emit(log, range(10, 20))
        await store.close()
        return log

    async def find() -> list[int]:
        async with AuditLog(_store(store_url), spool_dir=tmp_path / "spool") as log:
            await _drained(log)
            return _numbers(await _stored(log))

    log = asyncio.run(emit_and_forget())
    with pytest.raises(LogClosed):
        _emit(log, [20])
    assert asyncio.run(find()) == list(range(20))


async def test_record_from_another_loop_is_refused(opened_on_sqlite: Opened) -> None:
    """A log belongs to its loop: elsewhere `record` says so, instead of waiting for ever."""
    log, _ = await opened_on_sqlite()

    with pytest.raises(LogClosed, match="another event loop"):
        await asyncio.to_thread(asyncio.run, _record(log, 1))


async def test_what_is_invalid_is_refused_before_anything_is_stored(
    opened_on_sqlite: Opened,
) -> None:
    """Of a list with one bad event in it none is recorded."""
    log, _ = await opened_on_sqlite(tenant_id="acme")
    stranger = Event(action="delivery.test", tenant_id="globex")

    with pytest.raises(InvalidEvent, match="tenant_id"):
        await log.record_many([*_numbered(3), stranger])
    await log.flush()
    assert await _stored(log) == []


# --- a server that crashes


@asynccontextmanager
async def _load(log: AuditLog, acknowledged: list[str]) -> AsyncIterator[None]:
    """Within the block eight tasks record without a pause."""
    stop = asyncio.Event()

    async def record() -> None:
        while not stop.is_set():
            acknowledged.append((await _record(log, 0)).event_id)

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
    store = _store(private_postgres.url())
    async with AuditLog(store, spool_dir=tmp_path / "spool") as log:
        async with _load(log, acknowledged):
            for _ in range(2):
                count = len(acknowledged)
                await until(lambda: len(acknowledged) > count + 200)  # noqa: B023
                await asyncio.to_thread(private_postgres.stop_immediately)
                recorder = _recorder(log)
                assert recorder is not None
                await until(lambda: recorder.is_spooling)  # noqa: B023
                await asyncio.to_thread(private_postgres.start)
        await _drained(log)

        assert Counter(await _ids(log)) == Counter(acknowledged)
        assert (await _counts(log))["spooled"] > 0


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
