"""Two orders: of recording, which a tail follows, and of event_ids, which a search does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muniment import AuditLog, Event

_ROOT = Path(__file__).parent.parent.parent
_PROCESSES = 3
_TASKS = 4
_EVENTS = 40
_TOTAL = _PROCESSES * _TASKS * _EVENTS


@pytest.fixture
async def busy(log_url: str) -> AsyncIterator[tuple[AuditLog, str]]:
    """A log in which three processes of four tasks each record behind an event, and its id."""
    arguments = ("-m", "tests.finding.ordering_process", log_url)
    async with AuditLog.open(log_url) as log:
        start = await log.record("start")
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, *arguments, f"p{n}", str(_TASKS), str(_EVENTS), cwd=_ROOT
            )
            for n in range(_PROCESSES)
        ]
        yield log, start.event_id
        assert [await process.wait() for process in processes] == [0] * _PROCESSES


async def test_a_tail_shows_each_tasks_events_as_it_recorded_them(
    busy: tuple[AuditLog, str],
) -> None:
    """Whoever else records, in whatever order the events occurred; none is missed or doubled."""
    log, start = busy
    seen: dict[str, list[int]] = {}
    async with asyncio.timeout(90):
        count = 0
        async for event in log.tail(after=start):
            seen.setdefault(event.action, []).append(event.details["n"])
            count += 1
            if count == _TOTAL:
                break
    assert seen == {
        f"p{n}.{k}": list(range(_EVENTS)) for n in range(_PROCESSES) for k in range(_TASKS)
    }


async def test_a_search_goes_by_event_id(busy: tuple[AuditLog, str]) -> None:
    """Page by page, the newest or the oldest first: in order of event_id, which is that of time."""
    log, start = busy
    count = 0
    async with asyncio.timeout(90):
        async for _ in log.tail(after=start):
            count += 1
            if count == _TOTAL:
                break
    pages: list[Event] = []
    cursor = None
    while True:
        page = await log.search(tenant_id="acme", limit=37, order="oldest", cursor=cursor)
        pages += page.events
        cursor = page.next_cursor
        if cursor is None:
            break
    newest = (await log.search(tenant_id="acme", limit=_TOTAL)).events
    assert [e.event_id for e in pages] == sorted(e.event_id for e in newest)
    assert [e.event_id for e in pages] == [e.event_id for e in newest][::-1]
    assert [e.occurred_at for e in pages] == sorted(e.occurred_at for e in pages)
