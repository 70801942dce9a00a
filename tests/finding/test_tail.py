"""The live tail: what is recorded, in the order of recording."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from muniment import AuditLog, Event, searching
from muniment.errors import EventNotFound
from tests.scripted import tailed


async def _take(log: AuditLog, count: int, **given: Any) -> list[str]:
    return [event.action for event in await tailed(log, count, **given)]


async def test_tail_follows_other_writers(log_url: str) -> None:
    """A tail that is running sees what another log records, in its order."""
    async with AuditLog.open(log_url) as log, AuditLog.open(log_url) as other:
        await other.record("before")
        first = asyncio.create_task(_take(log, 3))
        second = asyncio.create_task(_take(log, 1, action="b"))
        async with asyncio.timeout(60):
            while not first.done():
                # Recorded again and again: a tail begins with what comes after it has started.
                await other.record_many([Event(action=a) for a in ("a", "b", "c")])
                await asyncio.sleep(0.05)
        seen = await first
        assert "before" not in seen
        assert "".join(seen) in "abcabc"
        await other.record("b")
        assert await second == ["b"]


async def test_tail_goes_on_behind_an_event(log_url: str) -> None:
    """`after` begins behind an event, in order of recording and not of time."""
    async with AuditLog.open(log_url) as log:
        receipts = [await log.record(f"a{n}", tenant_id="acme") for n in range(4)]
        assert await _take(log, 2, after=receipts[1].event_id) == ["a2", "a3"]


async def test_tail_from_an_unknown_event(log_url: str) -> None:
    """A place that isn't there is an error, not a tail of nothing."""
    async with AuditLog.open(log_url) as log:
        with pytest.raises(EventNotFound):
            _ = [e async for e in log.tail(after="0190b3a0-0000-7000-8000-000000000000")]


async def test_tail_waits_for_a_slow_transaction(postgres_log_url: str) -> None:
    """What commits late but began early is neither skipped nor overtaken."""
    connection = await asyncpg.connect(postgres_log_url)
    async with AuditLog.open(postgres_log_url) as log:
        start = await log.record("start")
        transaction = connection.transaction()
        await transaction.start()
        await log.record_in(connection, "slow")
        await log.record("fast")
        meanwhile = [e.action async for e in log.tail(after=start.event_id, follow=False)]
        await transaction.commit()
        await connection.close()
        in_the_end = await _take(log, 2, after=start.event_id)
    assert (meanwhile, in_the_end) == ([], ["slow", "fast"])


async def test_one_tasks_events_come_as_it_recorded_them(log_url: str) -> None:
    """Each task's events stand in the order in which it recorded them, whoever else records."""
    async with AuditLog.open(log_url) as log:
        start = await log.record("start")

        async def record(task: int) -> None:
            for n in range(20):
                await log.record(f"t{task}", details={"n": n})

        await asyncio.gather(*(record(task) for task in range(8)))
        seen: dict[str, list[int]] = {}
        for event in await tailed(log, 8 * 20, after=start.event_id):
            seen.setdefault(event.action, []).append(event.details["n"])
    assert seen == {f"t{task}": list(range(20)) for task in range(8)}


async def test_a_tail_holds_few_large_events(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly it is read, the memory never holds a thousand of them."""
    monkeypatch.setattr(searching, "_HELD_BYTES", 10_000)
    async with AuditLog.open(sqlite_url, sequence=False) as log:
        first = await log.record("first")
        await log.record_many([Event(action="a", details={"x": "y" * 1000}) for _ in range(200)])
        read, held = log.store.read, []

        async def reading(after: str | None, limit: int, tenant_id: str | None = None) -> Any:
            held.append(found := await read(after, limit, tenant_id))
            return found

        monkeypatch.setattr(log.store, "read", reading)
        assert len([e async for e in log.tail(after=first.event_id, follow=False)]) == 200
    assert max(len(found) for found in held[1:]) < 10
