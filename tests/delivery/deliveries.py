"""Numbered events, on their way into a store that can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from muniment import AuditLog, Event
from muniment.canonical import decode
from muniment.receipts import Receipt
from muniment.recorder import Recorder
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.testing import FaultyStore
from tests.scripted import LONG, until


def recorder_of(log: AuditLog) -> Recorder:
    """The recorder that works behind an open log."""
    assert log._background is not None
    return log._background.recorder


class Opened(Protocol):
    """Opens a log over a store that can be made to fail."""

    async def __call__(self, **options: Any) -> tuple[AuditLog, FaultyStore]:
        """The log, which is closed at the end of the test, and its store."""


@asynccontextmanager
async def opening(url: str, spool: Path) -> AsyncIterator[Opened]:
    """Within the block logs are opened; at its end they close over a store that works again."""
    async with AsyncExitStack() as logs:

        async def open_log(**options: Any) -> tuple[AuditLog, FaultyStore]:
            store = FaultyStore(store_at(url))
            log = AuditLog(store, **{"spool_dir": spool, "deadline": LONG, **options})
            await logs.enter_async_context(log)
            logs.callback(store.heal)
            return log, store

        yield open_log


def store_at(url: str) -> Store:
    """A store that makes its schema as it opens."""
    return open_store(url, migrate=True)


async def drained(log: AuditLog) -> None:
    """Wait until the store has all that was recorded."""
    await log.flush()
    recorder = recorder_of(log)
    assert recorder is not None
    await until(lambda: not recorder.is_spooling and not recorder.waiting)


async def stored_in(log: AuditLog) -> list[Event]:
    """Every event in the store, in the order of recording, once no transaction holds any up.

    The log's own do, those of its index for one; a search sees all that is committed.
    """
    async with asyncio.timeout(LONG):
        while True:
            committed, events = await _count(log), await _in_order(log)
            if len(events) >= committed:
                return events
            await asyncio.sleep(0.002)


async def _count(log: AuditLog) -> int:
    page = await log.search(limit=500)
    count = len(page.events)
    while page.next_cursor:
        page = await log.search(limit=500, cursor=page.next_cursor)
        count += len(page.events)
    return count


async def _in_order(log: AuditLog) -> list[Event]:
    events: list[Event] = []
    after = None
    while found := await log.store.read(after, 1_000):
        events += [decode((event.stored.body or "").encode()) for event in found]
        after = found[-1].position
    return events


def numbers_of(events: Iterable[Event], task: int | None = None) -> list[int]:
    """The numbers that the events (of one task) carry."""
    return [
        event.details["n"]
        for event in events
        if "n" in event.details and task in (None, event.details.get("task"))
    ]


def numbered_events(count: int, **details: Any) -> list[Event]:
    """Events numbered from 0."""
    return [
        Event(action="delivery.test", tenant_id="acme", details={"n": n, **details})
        for n in range(count)
    ]


async def record_number(log: AuditLog, n: int, **fields: Any) -> Receipt:
    """Record an event with a number."""
    return await log.record("delivery.test", tenant_id="acme", details={"n": n}, **fields)


def emit_numbers(log: AuditLog, numbers: Iterable[int], **fields: Any) -> None:
    """Emit an event with each number."""
    for n in numbers:
        log.emit("delivery.test", **{"tenant_id": "acme", "details": {"n": n}, **fields})


async def counts_of(log: AuditLog) -> Mapping[str, int]:
    """What has become of the events so far."""
    counts: Mapping[str, int] = (await log.stats())["recorded"]
    return counts
